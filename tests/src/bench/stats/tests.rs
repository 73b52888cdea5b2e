//! Medians, percentiles and spread: small lists worked out by hand.

use super::{median, percentile, spread};

#[test]
fn medians_of_even_and_odd_numbers_of_figures() {
    assert_eq!(median(&[]), None);
    assert_eq!(median(&[7.0]), Some(7.0));
    assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
    assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), Some(3.0));
}

#[test]
fn percentiles_are_figures_that_occurred() {
    let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
    assert_eq!(percentile(&hundred, 99), Some(99.0));
    assert_eq!(percentile(&hundred, 100), Some(100.0));
    assert_eq!(percentile(&hundred, 1), Some(1.0));
    assert_eq!(percentile(&[3.0, 1.0, 2.0], 95), Some(3.0));
    assert_eq!(percentile(&[], 95), None);
}

#[test]
fn spread_is_half_of_the_range_beside_the_median() {
    assert_eq!(spread(&[8.0, 10.0, 12.0]), Some(0.2));
    assert_eq!(spread(&[5.0]), Some(0.0));
    assert_eq!(spread(&[]), None);
    assert_eq!(spread(&[0.0, 0.0]), None);
}
