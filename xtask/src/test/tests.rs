//! Rows, and the verdict over all of them.

use std::path::PathBuf;

use super::{
    row,
    table::{Row, Table},
    verdict,
};
use crate::suite::{artifacts::Binary, job::Job, process::Counts};

fn counts(passed: u64, failed: u64, ignored: u64) -> Counts {
    Counts { passed, failed, ignored, seconds: 0.0 }
}

fn binary(is_suite: bool) -> Binary {
    Binary { name: "x".to_owned(), is_suite, executable: PathBuf::new(), folder: PathBuf::new() }
}

#[test]
fn layers_follow_from_names() {
    for (suite, is_suite, layer) in [
        ("weave_ctl", false, "L0"),
        ("world_two_nodes", true, "L1"),
        ("models", true, "L2"),
        ("packets", true, "L3"),
        ("lab_ping", true, "L4"),
        ("cli_help", true, "L5"),
        ("labour", true, "L0"),
        ("packets", false, "L0"),
    ] {
        let binary = binary(is_suite);
        assert_eq!(row(&Job::of(&binary, suite), "").layer, layer, "{suite}");
    }
}

#[test]
fn the_verdict_is_good_only_when_all_ran_and_passed() {
    let table = |counts: Counts| {
        let mut table = Table::default();
        table.add(Row { layer: "L0".to_owned(), name: "a".to_owned() }, counts);
        table
    };
    assert!(verdict(&table(counts(3, 0, 0)), true, false).is_ok());
    assert!(verdict(&table(counts(3, 1, 0)), true, false).is_err());
    assert!(verdict(&table(counts(0, 0, 0)), true, false).is_err());
    assert!(verdict(&table(counts(3, 0, 2)), false, false).is_err());
    assert!(verdict(&table(counts(3, 0, 2)), false, true).is_ok());
}

#[test]
fn equal_rows_are_one() {
    let mut table = Table::default();
    let row = Row { layer: "L0".to_owned(), name: "a".to_owned() };
    table.add(row.clone(), counts(1, 2, 3));
    table.add(row, counts(10, 20, 30));
    assert_eq!(table.total(), counts(11, 22, 33));
    table.forget_ignored();
    assert_eq!(table.total(), counts(11, 22, 0));
    assert_eq!(table.render().lines().count(), 3);
}
