//! Bursts, rates, clocks.

use super::*;

const RATE: Rate = Rate { step_ns: 100, burst: 3 };

/// How many of `times` get a token.
fn granted(bucket: &mut Bucket, rate: Rate, times: impl Iterator<Item = u64>) -> usize {
    let mut granted = 0;
    for now in times {
        if let Some(left) = bucket.take(now, rate) {
            *bucket = left;
            granted += 1;
        }
    }
    granted
}

#[test]
fn new_bucket_gives_a_burst_and_then_its_rate() {
    let mut bucket = Bucket::default();
    assert_eq!(granted(&mut bucket, RATE, core::iter::repeat_n(1_000_000, 10)), 3);
    assert_eq!(granted(&mut bucket, RATE, core::iter::repeat_n(1_000_099, 10)), 0);
    assert_eq!(granted(&mut bucket, RATE, core::iter::repeat_n(1_000_100, 10)), 1);
    // Parts of a step are not lost.
    assert_eq!(granted(&mut bucket, RATE, [1_000_150, 1_000_199, 1_000_200, 1_000_300].into_iter()), 2);
    assert_eq!(granted(&mut bucket, RATE, core::iter::repeat_n(9_000_000, 10)), 3, "no more than a burst is saved");
}

#[test]
fn over_a_second_no_more_than_rate_and_burst_are_granted() {
    for (rate, each) in [(ECHO, 10_000), (CONTACT, 64), (QUESTIONS, 1000)] {
        let start = 5_000_000_000;
        let mut bucket = Bucket::default();
        let times = (0..200_000).map(|n| start + n * 5_000);
        let count = granted(&mut bucket, rate, times);
        let most = each + rate.burst as usize;
        assert!((most - 2..=most).contains(&count), "{count} of at most {most}");
    }
}

#[test]
fn clock_that_goes_back_gives_nothing_and_takes_nothing() {
    let full = Bucket { tokens: 2, pad: 0, filled_ns: 1_000 };
    assert_eq!(full.take(500, RATE), Some(Bucket { tokens: 1, ..full }));
    assert_eq!(Bucket { tokens: 0, ..full }.take(500, RATE), None);
    assert_eq!(Bucket { tokens: 0, ..full }.take(0, RATE), None);
}
