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
    let mut schedule = Schedule::default();
    for (n, millis) in [(1, 30), (2, 10), (3, 20)] {
        schedule.insert((Class::Watched, at(millis)), name(n));
    }
    assert_eq!(schedule.ready(), Some(at(10)));
    assert_eq!(schedule.pop(at(9)), None);
    let order: Vec<_> = std::iter::from_fn(|| schedule.pop(at(25))).collect();
    assert_eq!(order, [(Class::Watched, name(2)), (Class::Watched, name(3))]);
    schedule.remove((Class::Watched, at(30)), name(1));
    assert_eq!(schedule.ready(), None);
}

#[test]
fn a_class_grants_a_burst_and_then_its_rate() {
    for (class, (cost, burst)) in Class::ALL.into_iter().zip(RATES) {
        let mut schedule = Schedule::default();
        (0..2000).for_each(|n| schedule.insert((class, at(0)), name(n)));
        let (mut now, mut turns) = (at(1000), 0);
        let end = now + cost * 100;
        while now <= end {
            while schedule.pop(now).is_some() {
                schedule.charge(class, 0, now);
                turns += 1;
            }
            let next = schedule.ready().unwrap();
            assert!(next > now, "a class that granted all it may is ready later, {next:?} at {now:?}");
            now = next;
        }
        assert_eq!(turns, burst + 100, "{class:?}");
    }
}

#[test]
fn a_dear_turn_is_paid_by_the_next() {
    let mut schedule = Schedule::default();
    (0..3).for_each(|n| schedule.insert((Class::Idle, at(0)), name(n)));
    assert_eq!(schedule.pop(at(0)), Some((Class::Idle, name(0))));
    schedule.charge(Class::Idle, 16, at(0));
    assert_eq!(schedule.ready(), Some(at(8000)));
    assert_eq!(schedule.pop(at(7999)), None);
    assert_eq!(schedule.pop(at(8000)), Some((Class::Idle, name(1))));
}

#[test]
fn a_crowded_class_does_not_keep_another_waiting() {
    let mut schedule = Schedule::default();
    (0..100).for_each(|n| schedule.insert((Class::Idle, at(0)), name(n)));
    assert_eq!(schedule.pop(at(0)), Some((Class::Idle, name(0))));
    schedule.charge(Class::Idle, 100, at(0));
    schedule.insert((Class::Fresh, at(1)), name(200));
    schedule.insert((Class::Watched, at(1)), name(201));
    assert_eq!(schedule.pop(at(1)), Some((Class::Watched, name(201))));
    assert_eq!(schedule.pop(at(1)), Some((Class::Fresh, name(200))));
    assert_eq!(schedule.pop(at(1)), None);
}
