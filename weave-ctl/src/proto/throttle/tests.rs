//! How long a change waits to be taken in, and how much others may ask for.

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

/// A burst is granted at once, and then as much as the rate allows, however it is asked for.
const MOST: u32 = 64;
const RATE: u32 = 20;

#[test]
fn what_is_gained_in_part_is_kept() {
    let start = Instant::from_start(Duration::from_secs(1));
    for step in [1, 7, 49, 51, 1000] {
        let mut budget = Budget::full(MOST, RATE, start);
        let mut granted = 0;
        let mut now = start;
        while now < start + Duration::from_secs(20) {
            // Asked for as much as there is, each time.
            while budget.take(now) {
                granted += 1;
            }
            now = now + Duration::from_millis(step);
        }
        let most = MOST + 20 * RATE;
        assert!((most - RATE..=most).contains(&granted), "{granted} at a pause of {step} ms");
    }
}
