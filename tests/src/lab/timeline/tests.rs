//! Gaps and losses of streams that are written down by hand.

use std::time::{Duration, Instant};

use super::{Arrival, Timeline};

const MS: Duration = Duration::from_millis(1);

/// Arrivals as (number, milliseconds after the start), of so many sent.
fn timeline(start: Instant, sent: u64, arrivals: &[(u64, u32)]) -> Timeline {
    let arrivals = arrivals.iter().map(|(number, at)| Arrival { number: *number, at: start + MS * *at }).collect();
    Timeline { sent, arrivals }
}

#[test]
fn gap_is_the_longest_inside_the_window() {
    let start = Instant::now();
    let line = timeline(start, 5, &[(0, 0), (1, 500), (2, 510), (3, 610), (4, 620)]);
    let gap = |since: u32, until: u32| line.longest_gap(start + MS * since, start + MS * until);
    assert_eq!(gap(0, 620), MS * 500);
    assert_eq!(gap(505, 620), MS * 100, "the first gap is over before the window");
    assert_eq!(gap(550, 620), MS * 100, "a gap counts from its beginning");
    assert_eq!(gap(0, 2000), MS * 1380, "nothing ends the last gap but the window");
}

#[test]
fn gap_of_nothing_is_the_whole_window() {
    let start = Instant::now();
    assert_eq!(timeline(start, 5, &[]).longest_gap(start, start + MS * 70), MS * 70);
    assert_eq!(timeline(start, 5, &[(0, 60)]).longest_gap(start, start + MS * 70), MS * 60);
}

#[test]
fn missing_and_doubled_numbers_are_counted() {
    let line = timeline(Instant::now(), 6, &[(0, 0), (2, 1), (2, 2), (4, 3)]);
    assert_eq!(line.missing(0..6), [1, 3, 5]);
    assert_eq!(line.missing(2..3), [0; 0]);
    let flow = line.flow();
    assert_eq!((flow.sent, flow.received, flow.duplicates), (6, 3, 1));
}
