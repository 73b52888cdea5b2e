//! A burst is granted at once, and then as much as the rate allows, however it is asked for.

use super::*;

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
