//! Counting: what test binaries print, and what they do not live to print.

use std::{path::PathBuf, process::Command, time::Duration};

use super::{
    artifacts::{self, Binary},
    row,
    runner::{Outcome, closing, counted},
    table::{Row, Table},
    verdict,
};

fn outcome(passed: u64, failed: u64, ignored: u64) -> Outcome {
    Outcome { passed, failed, ignored, seconds: 0.0 }
}

fn sh(script: &str, limit: Duration) -> Outcome {
    let mut counts = counted(Command::new("sh").args(["-c", script]), limit).unwrap();
    counts.seconds = 0.0;
    counts
}

fn binary(name: &str, is_suite: bool) -> Binary {
    Binary { name: name.to_owned(), is_suite, executable: PathBuf::new(), folder: PathBuf::new() }
}

#[test]
fn closing_lines_are_read() {
    let line = "test result: FAILED. 5 passed; 2 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s";
    assert_eq!(closing(line), Some(outcome(5, 2, 1)));
    assert_eq!(closing("test result: a test said so"), None);
    assert_eq!(closing("test a::result ... ok"), None);
}

#[test]
fn a_binary_that_dies_counts_as_a_failure() {
    let ok = "echo 'test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out'";
    let long = Duration::from_secs(20);
    assert_eq!(sh(ok, long), outcome(2, 0, 0));
    assert_eq!(sh("exit 101", long), outcome(0, 1, 0));
    assert_eq!(sh("exit 0", long), outcome(0, 1, 0), "it may have left in the middle of a test");
    assert_eq!(sh("kill -9 $$", long), outcome(0, 1, 0));
    assert_eq!(sh(&format!("{ok}; exit 1"), long), outcome(2, 1, 0));
    assert_eq!(sh("exec sleep 30", Duration::from_millis(50)), outcome(0, 1, 0));
}

#[test]
fn binaries_are_found_in_what_cargo_prints() {
    let artifact = |kind: &str, name: &str, test: bool| {
        format!(
            r#"{{"reason":"compiler-artifact","manifest_path":"/w/c/Cargo.toml","target":{{"kind":["{kind}"],"name":"{name}"}},"profile":{{"test":{test}}},"executable":"/t/{name}"}}"#
        )
    };
    let messages = [
        artifact("test", "packets", true),
        artifact("lib", "weave_ctl", true),
        artifact("bin", "weave-ctl", false),
        "not JSON".to_owned(),
        r#"{"reason":"build-finished","success":true}"#.to_owned(),
    ];
    let binaries = artifacts::parse(&messages.join("\n"));
    let names: Vec<(&str, bool)> = binaries.iter().map(|binary| (binary.name.as_str(), binary.is_suite)).collect();
    assert_eq!(names, [("weave_ctl", false), ("packets", true)]);
    assert_eq!(binaries[1].executable, PathBuf::from("/t/packets"));
    assert_eq!(binaries[1].folder, PathBuf::from("/w/c"));
}

#[test]
fn layers_follow_from_names() {
    for (name, is_suite, layer) in [
        ("weave_ctl", false, "L0"),
        ("world_two_nodes", true, "L1"),
        ("models", true, "L2"),
        ("packets", true, "L3"),
        ("lab_ping", true, "L4"),
        ("cli_help", true, "L5"),
        ("labour", true, "L0"),
        ("packets", false, "L0"),
    ] {
        assert_eq!(row(&binary(name, is_suite), "").layer, layer, "{name}");
    }
}

#[test]
fn the_verdict_is_good_only_when_all_ran_and_passed() {
    let table = |counts: Outcome| {
        let mut table = Table::default();
        table.add(Row { layer: "L0".to_owned(), name: "a".to_owned() }, counts);
        table
    };
    assert!(verdict(&table(outcome(3, 0, 0)), true, false).is_ok());
    assert!(verdict(&table(outcome(3, 1, 0)), true, false).is_err());
    assert!(verdict(&table(outcome(0, 0, 0)), true, false).is_err());
    assert!(verdict(&table(outcome(3, 0, 2)), false, false).is_err());
    assert!(verdict(&table(outcome(3, 0, 2)), false, true).is_ok());
}

#[test]
fn equal_rows_are_one() {
    let mut table = Table::default();
    let row = Row { layer: "L0".to_owned(), name: "a".to_owned() };
    table.add(row.clone(), outcome(1, 2, 3));
    table.add(row.clone(), outcome(10, 20, 30));
    assert_eq!(table.total(), outcome(11, 22, 33));
    assert_eq!(table.ignored(&row), 33);
    table.forget_ignored(&row);
    assert_eq!(table.total(), outcome(11, 22, 0));
    assert_eq!(table.render().lines().count(), 3);
}
