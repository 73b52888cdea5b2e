//! Oldest first, never more than the rate.

use super::*;

fn name(n: u16) -> PeerName {
    let [a, b] = n.to_be_bytes();
    PeerName::from_bytes([0, 0, 0, 0, a, b])
}

fn at(millis: u64) -> Instant {
    Instant::from_start(Duration::from_millis(millis))
}

#[test]
fn the_oldest_deadline_first_and_none_before_its_time() {
    let mut lanes = Lanes::default();
    for (n, millis) in [(1, 30), (2, 10), (3, 20)] {
        lanes.insert((Lane::Watched, at(millis)), name(n));
    }
    assert_eq!(lanes.ready(), Some(at(10)));
    assert_eq!(lanes.pop(at(9)), None);
    let order: Vec<_> = std::iter::from_fn(|| lanes.pop(at(25))).collect();
    assert_eq!(order, [(Lane::Watched, name(2)), (Lane::Watched, name(3))]);
    lanes.remove((Lane::Watched, at(30)), name(1));
    assert_eq!(lanes.ready(), None);
}

#[test]
fn a_lane_grants_a_burst_and_then_its_rate() {
    for (lane, burst, cost) in [
        (Lane::Watched, WATCHED_BURST, WATCHED_COST),
        (Lane::Fresh, FRESH_BURST, FRESH_COST),
        (Lane::Idle, IDLE_BURST, IDLE_COST),
    ] {
        let mut lanes = Lanes::default();
        (0..2000).for_each(|n| lanes.insert((lane, at(0)), name(n)));
        let (mut now, mut turns) = (at(1000), 0);
        let end = now + cost * 100;
        while now <= end {
            while lanes.pop(now).is_some() {
                lanes.charge(lane, 0, now);
                turns += 1;
            }
            let next = lanes.ready().unwrap();
            assert!(next > now, "a lane that granted all it may is ready later, {next:?} at {now:?}");
            now = next;
        }
        assert_eq!(turns, burst + 100, "{lane:?}");
    }
}

#[test]
fn a_dear_turn_is_paid_by_the_next() {
    let mut lanes = Lanes::default();
    (0..3).for_each(|n| lanes.insert((Lane::Idle, at(0)), name(n)));
    assert_eq!(lanes.pop(at(0)), Some((Lane::Idle, name(0))));
    lanes.charge(Lane::Idle, 16, at(0));
    assert_eq!(lanes.ready(), Some(at(4000)));
    assert_eq!(lanes.pop(at(3999)), None);
    assert_eq!(lanes.pop(at(4000)), Some((Lane::Idle, name(1))));
}

#[test]
fn a_crowded_lane_does_not_keep_another_waiting() {
    let mut lanes = Lanes::default();
    (0..100).for_each(|n| lanes.insert((Lane::Idle, at(0)), name(n)));
    assert_eq!(lanes.pop(at(0)), Some((Lane::Idle, name(0))));
    lanes.charge(Lane::Idle, 100, at(0));
    lanes.insert((Lane::Fresh, at(1)), name(200));
    lanes.insert((Lane::Watched, at(1)), name(201));
    assert_eq!(lanes.pop(at(1)), Some((Lane::Watched, name(201))));
    assert_eq!(lanes.pop(at(1)), Some((Lane::Fresh, name(200))));
    assert_eq!(lanes.pop(at(1)), None);
}
