//! How long a changed record waits to be told.

use super::*;

const PEERS: usize = 1000;

fn paused(pace: &Pace, since: Instant) -> u32 {
    let pause = pace.next(PEERS).since(since);
    u32::try_from(pause.as_nanos() / settle_time(PEERS).as_nanos()).unwrap_or(u32::MAX)
}

#[test]
fn a_record_that_goes_on_changing_is_told_less_and_less_often_up_to_a_bound() {
    let mut now = Instant::default();
    let mut pace = Pace::new(now);
    let mut pauses = Vec::new();
    for _ in 0..5 {
        now = pace.next(PEERS);
        pace.step(PEERS, now);
        pauses.push(paused(&pace, now));
    }
    assert_eq!(pauses, [2, 4, 4, 4, 4]);
    assert_eq!(pace.next(PEERS).since(now), longest(PEERS));
}

#[test]
fn one_that_rested_is_told_at_once() {
    let mut pace = Pace::new(Instant::default());
    let now = pace.next(PEERS);
    pace.step(PEERS, now);
    let later = now + settle_time(PEERS) * 4;
    assert!(pace.next(PEERS) <= later);
    pace.step(PEERS, later);
    assert_eq!(paused(&pace, later), 1);
}

#[test]
fn alone_nothing_waits() {
    let now = Instant::default();
    let mut pace = Pace::new(now);
    pace.step(1, now);
    assert_eq!(pace.next(1), now);
}
