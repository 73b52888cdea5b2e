//! Every figure is taken, and means what it says.

use super::*;

#[test]
fn every_row_has_a_figure_for_each_round() {
    let rows = measure(1).unwrap();
    assert!(rows.iter().all(|row| row.figures.len() == 1 && row.figures[0] > 0.0), "{rows:?}");
    assert_eq!(large().unwrap().origin.len(), usize::from(PEERS));
}
