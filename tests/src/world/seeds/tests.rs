//! Which seeds are fixed.

use super::*;

#[test]
fn seeds_named_in_a_text_are_found() {
    let text = "found by seed 7; World, seeds 32, 36 and 400 (seed 9) | seed of nothing, 5 seeds, seed 1|";
    assert_eq!(named(text).collect::<Vec<_>>(), [7, 32, 36, 400, 9, 1]);
}

#[test]
fn fixed_seeds_hold_those_of_the_ledger() {
    let fixed = fixed();
    assert_eq!(fixed.len(), FIXED);
    let known: [u64; 6] = [319, 1895, 4629, 9449, 40701, 42406];
    assert!(known.iter().all(|seed| fixed.contains(seed)) && fixed.contains(&0), "{fixed:?}");
    // A fresh seed that failed is named in the ledger, and fixed from then on.
    let ledger: Vec<u64> = named(LEDGER).collect();
    assert!(fixed.iter().all(|seed| *seed < FRESH_MIN || ledger.contains(seed)));
}
