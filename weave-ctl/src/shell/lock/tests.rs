//! Two holders of one directory.

use super::{LockError, parse_locks, take};

#[test]
fn a_directory_is_held_once_and_freed_on_drop() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("a/b");
    let first = take(&dir).unwrap();
    let error = take(&dir).unwrap_err();
    let me = std::process::id();
    assert!(matches!(error, LockError::Held { pid: Some(pid), .. } if pid == me), "{error:?}");
    let text = error.to_string();
    assert!(text.starts_with(&format!("another controller (pid {me}) holds ")), "{text}");
    drop(first);
    take(&dir).unwrap();
}

#[test]
fn a_file_in_the_way_is_named() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("file");
    std::fs::write(&path, "").unwrap();
    let error = take(&path).unwrap_err();
    assert!(matches!(error, LockError::Io { .. }));
    assert!(error.to_string().contains("file"), "{error}");
}

#[test]
fn made_directories_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("x");
    let _lock = take(&dir).unwrap();
    assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn holders_are_read_from_the_kernels_table() {
    let text = "1: POSIX  ADVISORY  WRITE 10 00:1a:77 0 EOF\n\
                2: FLOCK  ADVISORY  WRITE 11 00:1a:78 0 EOF\n\
                2: -> FLOCK  ADVISORY  WRITE 12 00:1a:79 0 EOF\n\
                3: FLOCK  ADVISORY  WRITE 13 00:1a:77 0 EOF\n\
                4: FLOCK  ADVISORY  WRITE -1 00:1a:80 0 EOF\n\
                5: FLOCK\n";
    assert_eq!(parse_locks(text, 77), Some(13));
    assert_eq!(parse_locks(text, 78), Some(11));
    assert_eq!(parse_locks(text, 79), None);
    assert_eq!(parse_locks(text, 80), None);
}

#[test]
#[ignore = "needs root"]
fn a_directory_of_the_bpf_filesystem_can_be_held() {
    let dir = std::path::PathBuf::from(format!("/sys/fs/bpf/shell-lock-{}", std::process::id()));
    let first = take(&dir);
    let second = take(&dir).map(drop);
    std::fs::remove_dir(&dir).unwrap();
    first.unwrap();
    assert!(matches!(second, Err(LockError::Held { .. })), "{second:?}");
}
