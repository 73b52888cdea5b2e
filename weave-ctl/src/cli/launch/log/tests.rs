//! The log of a controller in the background is bounded.

use std::{fs, io::Write, os::unix::fs::PermissionsExt};

use super::{BoundedLog, open};

#[test]
fn a_full_log_starts_anew_and_the_one_before_is_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("a.log");
    let mut log = BoundedLog::open(path.clone(), 20).expect("the log opens");
    for line in ["first line\n", "second\n", "third line\n"] {
        log.write_all(line.as_bytes()).expect("the log takes a line");
    }
    assert_eq!(fs::read_to_string(&path).expect("the log"), "third line\n");
    let old = fs::read_to_string(dir.path().join("a.log.1")).expect("the log before");
    assert_eq!(old, "first line\nsecond\n");
}

#[test]
fn what_an_earlier_run_wrote_counts() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("a.log");
    fs::write(&path, "of an earlier run\n").expect("a log");
    let mut log = BoundedLog::open(path.clone(), 20).expect("the log opens");
    log.write_all(b"new\n").expect("the log takes a line");
    assert_eq!(fs::read_to_string(&path).expect("the log"), "new\n");
}

#[test]
fn the_log_is_private_and_no_link_leads_it_elsewhere() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("a.log");
    open(&path).expect("the log opens");
    assert_eq!(fs::metadata(&path).expect("the log").permissions().mode() & 0o777, 0o600);
    let link = dir.path().join("b.log");
    std::os::unix::fs::symlink(&path, &link).expect("a link");
    assert!(open(&link).is_err());
}

#[test]
fn removed_log_is_made_again_with_its_directory() {
    let dir = tempfile::tempdir().expect("a directory");
    let (run, path) = (dir.path().join("run"), dir.path().join("run/a.log"));
    fs::create_dir(&run).expect("a directory");
    let mut log = BoundedLog::open(path.clone(), 40).expect("the log opens");
    for line in ["one\n", "two\n"] {
        fs::remove_dir_all(&run).expect("removed");
        log.write_all(line.as_bytes()).expect("the log takes a line");
        assert_eq!(fs::read_to_string(&path).expect("the log"), line);
    }
    fs::remove_dir_all(&run).expect("removed");
    fs::write(&run, "no directory").expect("something in the way");
    log.write_all(b"three\n").expect("lost, and nobody's trouble");
}
