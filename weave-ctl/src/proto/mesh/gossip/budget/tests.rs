//! A burst is granted at once, and then as much as the rate allows, however it is asked for.

use super::*;

#[test]
fn what_is_gained_in_part_is_kept() {
    let start = Instant::from_start(Duration::from_secs(1));
    for step in [1, 7, 49, 51, 1000] {
        let mut budget = Budget::full(start);
        let mut granted = 0;
        let mut now = start;
        while now < start + Duration::from_secs(20) {
            // Asked for as much as there is, each time.
            while budget.take(now) {
                granted += 1;
            }
            now = now + Duration::from_millis(step);
        }
        let most = ANSWERS_MAX + 20 * ANSWERS_RATE;
        assert!((most - ANSWERS_RATE..=most).contains(&granted), "{granted} at a pause of {step} ms");
    }
}
