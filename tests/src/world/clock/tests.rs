//! Order of the queue.

use std::time::Duration;

use super::*;

fn at(ms: u64) -> Instant {
    Instant::from_start(Duration::from_millis(ms))
}

#[test]
fn events_come_by_time_and_then_in_the_order_given() {
    let mut queue = Queue::default();
    for (ms, event) in [(5, "e"), (1, "a"), (3, "c"), (3, "d"), (1, "b")] {
        queue.push(at(ms), event);
    }
    let taken: Vec<_> = std::iter::from_fn(|| queue.pop(at(4)).map(|(_, e)| e)).collect();
    assert_eq!(taken, ["a", "b", "c", "d"]);
    queue.push(at(2), "late");
    let rest: Vec<_> = std::iter::from_fn(|| queue.pop(at(9))).collect();
    assert_eq!(rest, [(at(2), "late"), (at(5), "e")]);
    assert_eq!(queue.slots.len(), 5, "slots are used again");
}
