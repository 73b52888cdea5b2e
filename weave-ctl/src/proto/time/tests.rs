//! Points in time add up, from the first to the last.

use super::*;

#[test]
fn a_point_is_as_long_after_the_start_as_was_said() {
    for nanos in [0, 1, 1_000_000_007, u64::MAX - 1] {
        let after = Duration::from_nanos(nanos);
        assert_eq!(Instant::from_start(after).since_start(), after);
        assert_eq!(Instant::default() + after, Instant::from_start(after));
        assert_eq!(Instant::from_start(after).since(Instant::default()), after);
        assert_eq!(Instant::default().since(Instant::from_start(after)), Duration::ZERO);
    }
}

#[test]
fn what_lies_beyond_the_last_point_is_the_last_point() {
    let last = Instant::from_start(Duration::MAX);
    assert_eq!([last + Duration::from_secs(1), Instant::default() + Duration::MAX], [last, last]);
    assert!(last > Instant::from_start(Duration::from_secs(500 * 365 * 86_400)));
}

#[test]
fn no_point_takes_no_more_room_than_one() {
    assert_eq!(size_of::<Option<Instant>>(), 8);
}
