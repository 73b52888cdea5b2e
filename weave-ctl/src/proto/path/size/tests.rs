//! The search alone: which sizes it asks for, when, and what it makes of the answers.

use proptest::prelude::*;

use super::*;

const RTT: Duration = Duration::from_millis(10);
const EVERY: Option<Duration> = Some(Duration::from_secs(10));

fn at(millis: u64) -> Instant {
    Instant::from_start(Duration::from_millis(millis))
}

/// Lets a run end on a path that takes `limit` and answers everything else; returns what was asked.
fn run(mtu: &mut SizeSearch, limit: u32, now: &mut Instant) -> Vec<u32> {
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
fn search_tries_bound_then_base_then_halves() {
    let (mut mtu, mut now) = (SizeSearch::new(1500, at(0)), at(0));
    let asked = run(&mut mtu, 1400, &mut now);
    assert_eq!(asked[..6], [1500, 1500, 1500, 1200, 1350, 1425]);
    assert_eq!(mtu.confirmed(), Some(1400));
}

#[test]
fn tries_after_the_first_come_with_a_control() {
    let mut mtu = SizeSearch::new(1500, at(0));
    let controls: Vec<_> = (0..5).map(|n| mtu.ask(None, RTT, at(n * 100)).unwrap().control).collect();
    // Nothing is ever answered, so nothing is decided.
    assert_eq!(controls, [false, true, true, true, true]);
    assert_eq!(mtu.ask(None, RTT, at(450)), None, "not before the wait is over");
    (1..4).for_each(|n| mtu.small_passed(at(n * 100)));
    let next = mtu.ask(None, RTT, at(500)).unwrap();
    assert_eq!(next, Ask { size: BASE, control: false });
}

/// How many tries of a size are lost before it is given up, when `answered` of three small ones are.
fn tries(answered: u64) -> u64 {
    let mut mtu = SizeSearch::new(1500, at(0));
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
fn lossy_path_is_tried_longer_before_a_size_is_too_big() {
    assert_eq!((tries(3), tries(2), tries(1)), (3, 5, 10));
}

#[test]
fn raise_timer_doubles_until_the_size_changes() {
    let (mut mtu, mut now) = (SizeSearch::new(1500, at(0)), at(0));
    let mut pauses = Vec::new();
    for limit in [1400, 1400, 1400, 1400, 1400, 1400, 1450, 1450] {
        now = mtu.raised.map_or(now, |raised| now.max(raised + mtu.raise_after));
        run(&mut mtu, limit, &mut now);
        pauses.push(mtu.raise_after.as_secs());
    }
    assert_eq!(pauses, [4, 8, 16, 32, 60, 60, 4, 8]);
}

#[test]
fn search_without_any_answer_ends() {
    let mut mtu = SizeSearch::new(1500, at(0));
    let mut asked = 0;
    let mut now = at(0);
    while let Some(due) = mtu.due(EVERY).filter(|due| *due < at(40_000)) {
        now = now.max(due);
        asked += u32::from(mtu.ask(EVERY, RTT, now).is_some());
    }
    assert_eq!(asked, PROBES_MAX);
    assert_eq!((mtu.size(), mtu.confirmed()), (1500, None));
    assert_eq!(mtu.due(None), None, "an idle path is left alone");
    assert_eq!(mtu.due(EVERY), Some(now + AGAIN_AFTER));
}

#[test]
fn late_answer_to_a_size_given_up_is_followed() {
    let (mut mtu, mut now) = (SizeSearch::new(1500, at(0)), at(0));
    run(&mut mtu, 1400, &mut now);
    mtu.passed(1500, now);
    assert_eq!(run(&mut mtu, 1500, &mut now), [1500]);
    assert_eq!(mtu.confirmed(), Some(1500));
}

#[test]
fn late_answer_within_a_search_widens_it() {
    let mut mtu = SizeSearch::new(1500, at(0));
    for n in 0..3 {
        assert_eq!(mtu.ask(None, RTT, at(n * 100)).unwrap().size, 1500);
        mtu.small_passed(at(n * 100));
    }
    assert_eq!(mtu.ask(None, RTT, at(300)).unwrap().size, BASE);
    mtu.passed(1500, at(310));
    assert_eq!(mtu.confirmed(), Some(1500));
}

#[test]
fn path_that_answers_again_is_verified() {
    let (mut mtu, mut now) = (SizeSearch::new(1500, at(0)), at(0));
    run(&mut mtu, 1400, &mut now);
    mtu.verify(now);
    assert_eq!(mtu.size(), 1400);
    assert_eq!(run(&mut mtu, 1400, &mut now), [1400]);
}

#[test]
fn size_stays_confirmed_until_it_is_lost() {
    let (mut mtu, mut now) = (SizeSearch::new(1500, at(0)), at(0));
    run(&mut mtu, 1500, &mut now);
    assert_eq!(mtu.ask(EVERY, RTT, at(20_000)).unwrap().size, 1500);
    assert_eq!(mtu.confirmed(), Some(1500), "while it is verified");
    mtu.passed(1500, at(20_010));
    lose(&mut mtu, 40_000);
    assert_eq!((mtu.size(), mtu.confirmed()), (BASE, None));
}

/// Lets three probes of the size at hand be lost, while small ones are answered.
fn lose(mtu: &mut SizeSearch, from: u64) {
    for n in 0..3 {
        mtu.ask(EVERY, RTT, at(from + n * 100)).unwrap();
        mtu.small_passed(at(from + n * 100));
    }
    mtu.ask(EVERY, RTT, at(from + 300)).unwrap();
}

#[test]
fn lost_size_falls_back_to_base_at_once() {
    let mut mtu = SizeSearch::new(1500, at(0));
    assert_eq!(mtu.size(), 1500, "nothing is known");
    lose(&mut mtu, 0);
    assert_eq!((mtu.size(), mtu.confirmed()), (BASE, None));
    let (mut mtu, mut now) = (SizeSearch::new(1500, at(0)), at(0));
    run(&mut mtu, 1500, &mut now);
    assert_eq!(mtu.confirmed(), Some(1500));
    lose(&mut mtu, 20_000);
    assert_eq!(mtu.size(), BASE, "a confirmed size that is lost");
    let mut mtu = SizeSearch::new(BASE, at(0));
    lose(&mut mtu, 0);
    assert_eq!(mtu.size(), LEAST, "Base itself is lost");
}

proptest! {
    #[test]
    fn search_is_exact_for_any_bound_and_limit(bound in SMALLEST..=LARGEST, limit in SMALLEST..=LARGEST, later in SMALLEST..=LARGEST) {
        let (mut mtu, mut now) = (SizeSearch::new(bound, at(0)), at(0));
        let asked = run(&mut mtu, limit, &mut now);
        prop_assert_eq!(mtu.confirmed(), Some(limit.min(bound)));
        prop_assert!(asked.len() as u32 <= 16 * TRIES);
        prop_assert!(asked.iter().all(|size| (SMALLEST..=bound).contains(size)));
        // And again when the bound changes: at once, without waiting for the next check.
        mtu.set_bound(later, now);
        prop_assert!(mtu.size() <= later);
        run(&mut mtu, limit, &mut now);
        prop_assert_eq!(mtu.confirmed(), Some(limit.min(later)));
    }
}
