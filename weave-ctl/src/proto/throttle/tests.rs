//! How long a change waits to be taken in.

use super::*;

const PEERS: usize = 1000;

fn paused(throttle: &Throttle, since: Instant) -> u32 {
    let pause = throttle.next(PEERS).since(since);
    u32::try_from(pause.as_nanos() / hold_down(PEERS).as_nanos()).unwrap_or(u32::MAX)
}

#[test]
fn pauses_double_up_to_the_bound_while_changes_go_on() {
    let mut now = Instant::default();
    let mut throttle = Throttle::new(now);
    let mut pauses = Vec::new();
    for _ in 0..5 {
        now = throttle.next(PEERS);
        throttle.step(PEERS, now);
        pauses.push(paused(&throttle, now));
    }
    assert_eq!(pauses, [2, 4, 4, 4, 4]);
    assert_eq!(throttle.next(PEERS).since(now), longest(PEERS));
}

#[test]
fn a_change_after_a_rest_is_taken_in_at_once() {
    let mut throttle = Throttle::new(Instant::default());
    let now = throttle.next(PEERS);
    throttle.step(PEERS, now);
    let later = now + hold_down(PEERS) * 4;
    assert!(throttle.next(PEERS) <= later);
    throttle.step(PEERS, later);
    assert_eq!(paused(&throttle, later), 1);
}

#[test]
fn a_peer_that_is_alone_does_not_wait() {
    let now = Instant::default();
    let mut throttle = Throttle::new(now);
    throttle.step(1, now);
    assert_eq!(throttle.next(1), now);
}
