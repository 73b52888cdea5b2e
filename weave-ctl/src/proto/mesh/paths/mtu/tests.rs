//! The search alone: which sizes it asks for, when, and what it makes of the answers.

use proptest::prelude::*;

use super::*;

const RTT: Duration = Duration::from_millis(10);
const EVERY: Option<Duration> = Some(Duration::from_secs(10));

fn at(millis: u64) -> Instant {
    Instant::from_start(Duration::from_millis(millis))
}

/// Lets a run end on a path that takes `limit` and answers everything else; returns what was asked.
fn run(mtu: &mut PathMtu, limit: u32, now: &mut Instant) -> Vec<u32> {
    let mut asked = Vec::new();
    while let Some(due) = mtu.due(EVERY).filter(|due| *due <= *now + Duration::from_secs(2)) {
        *now = (*now).max(due);
        let sent = *now;
        let Some(ask) = mtu.ask(EVERY, RTT, sent) else { continue };
        asked.push(ask.size);
        *now = *now + RTT;
        if ask.control {
            mtu.small_passed(sent);
        }
        if ask.size <= limit {
            mtu.passed(ask.size, *now);
        }
    }
    asked
}

#[test]
fn the_bound_first_then_what_every_host_takes_then_halves() {
    let (mut mtu, mut now) = (PathMtu::new(1500, at(0)), at(0));
    let asked = run(&mut mtu, 1400, &mut now);
    assert_eq!(asked[..6], [1500, 1500, 1500, 576, 1038, 1269]);
    assert_eq!(mtu.measured(), 1400);
    assert!(!mtu.unsettled());
}

#[test]
fn all_tries_but_the_first_come_with_a_control() {
    let mut mtu = PathMtu::new(1500, at(0));
    let controls: Vec<_> = (0..5).map(|n| mtu.ask(None, RTT, at(n * 100)).unwrap().control).collect();
    // Nothing is ever answered, so nothing is decided.
    assert_eq!(controls, [false, true, true, true, true]);
    assert_eq!(mtu.ask(None, RTT, at(450)), None, "not before the wait is over");
    (1..4).for_each(|n| mtu.small_passed(at(n * 100)));
    let next = mtu.ask(None, RTT, at(500)).unwrap();
    assert_eq!(next, Ask { size: COMMON, control: false });
}

/// How many tries of a size are lost before it is given up, when `answered` of three small ones are.
fn tries(answered: u64) -> u64 {
    let mut mtu = PathMtu::new(1500, at(0));
    let mut sent = 0;
    while mtu.ask(None, RTT, at(sent * 100)).unwrap().size == 1500 {
        if sent > 0 && sent % 3 < answered {
            mtu.small_passed(at(sent * 100));
        }
        sent += 1;
    }
    sent
}

#[test]
fn a_path_that_loses_much_is_tried_longer_before_a_size_counts_as_too_big() {
    assert_eq!((tries(3), tries(2), tries(1)), (3, 5, 10));
}

#[test]
fn attempts_upwards_become_rarer_until_something_changes() {
    let (mut mtu, mut now) = (PathMtu::new(1500, at(0)), at(0));
    let mut pauses = Vec::new();
    for limit in [1400, 1400, 1400, 1400, 1400, 1400, 1450, 1450] {
        now = mtu.raised.map_or(now, |raised| now.max(raised + mtu.raise_after));
        run(&mut mtu, limit, &mut now);
        pauses.push(mtu.raise_after.as_secs());
    }
    assert_eq!(pauses, [4, 8, 16, 32, 60, 60, 4, 8]);
}

#[test]
fn a_run_without_any_answer_ends() {
    let mut mtu = PathMtu::new(1500, at(0));
    let mut asked = 0;
    let mut now = at(0);
    while let Some(due) = mtu.due(EVERY).filter(|due| *due < at(40_000)) {
        now = now.max(due);
        asked += u32::from(mtu.ask(EVERY, RTT, now).is_some());
    }
    assert_eq!(asked, PROBES_MAX);
    assert_eq!((mtu.measured(), mtu.unsettled()), (0, false));
    assert_eq!(mtu.due(None), None, "an idle path is left alone");
    assert_eq!(mtu.due(EVERY), Some(now + AGAIN_AFTER));
}

#[test]
fn a_late_answer_to_a_size_given_up_is_followed() {
    let (mut mtu, mut now) = (PathMtu::new(1500, at(0)), at(0));
    run(&mut mtu, 1400, &mut now);
    mtu.passed(1500, now);
    assert_eq!(run(&mut mtu, 1500, &mut now), [1500]);
    assert_eq!(mtu.measured(), 1500);
}

#[test]
fn a_late_answer_within_a_run_widens_it_again() {
    let mut mtu = PathMtu::new(1500, at(0));
    for n in 0..3 {
        assert_eq!(mtu.ask(None, RTT, at(n * 100)).unwrap().size, 1500);
        mtu.small_passed(at(n * 100));
    }
    assert_eq!(mtu.ask(None, RTT, at(300)).unwrap().size, COMMON);
    mtu.passed(1500, at(310));
    assert_eq!((mtu.measured(), mtu.unsettled()), (1500, false));
}

#[test]
fn another_path_starts_anew_and_the_same_one_is_verified() {
    let (mut mtu, mut now) = (PathMtu::new(1500, at(0)), at(0));
    run(&mut mtu, 1400, &mut now);
    mtu.doubt(now);
    assert_eq!(mtu.measured(), 1400);
    assert_eq!(run(&mut mtu, 1400, &mut now), [1400]);
    mtu.forget(now);
    assert_eq!(mtu.measured(), 0);
    assert_eq!(run(&mut mtu, 1500, &mut now), [1500]);
}

proptest! {
    #[test]
    fn exact_for_any_bound_and_limit(bound in SMALLEST..=LARGEST, limit in SMALLEST..=LARGEST, later in SMALLEST..=LARGEST) {
        let (mut mtu, mut now) = (PathMtu::new(bound, at(0)), at(0));
        let asked = run(&mut mtu, limit, &mut now);
        prop_assert_eq!(mtu.measured(), limit.min(bound));
        prop_assert!(asked.len() as u32 <= 16 * TRIES);
        prop_assert!(asked.iter().all(|size| (SMALLEST..=bound).contains(size)));
        // And again when the bound changes: at once, without waiting for the next check.
        mtu.set_bound(later, now);
        prop_assert!(mtu.measured() <= later);
        run(&mut mtu, limit, &mut now);
        prop_assert_eq!(mtu.measured(), limit.min(later));
    }
}
