//! The unit is one that systemd takes, and what an operator wrote stays.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::{PROGRAM, SETTINGS, UNIT, below, place, unit};
use crate::sh;

/// A folder that goes with its test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("weave-xtask-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

#[test]
fn the_unit_starts_the_program_below_the_prefix() {
    let start = |prefix: &str| {
        let unit = unit(Path::new(prefix)).unwrap();
        let lines: Vec<String> = unit.lines().filter(|l| l.starts_with("ExecStart=")).map(str::to_owned).collect();
        assert!(prefix == "/usr/local" || !unit.contains(PROGRAM), "{unit}");
        lines
    };
    let arguments = "launch --foreground $WEAVE_OPTIONS -- $PEERS";
    assert_eq!(start("/usr/local"), [format!("ExecStart=/usr/local/bin/weave-ctl {arguments}")]);
    assert_eq!(start("/opt/weave-1.0"), [format!("ExecStart=/opt/weave-1.0/bin/weave-ctl {arguments}")]);
    for strange in ["/opt/two words", "/opt/100%", "/opt/$HOME", "/opt/line\nExecStart=/bin/other"] {
        assert!(unit(Path::new(strange)).is_err(), "{strange}");
    }
}

#[test]
fn the_unit_reads_the_settings_that_are_installed() {
    let unit = unit(Path::new("/usr/local")).unwrap();
    let read: Vec<&str> = unit.lines().filter_map(|l| l.strip_prefix("EnvironmentFile=-")).collect();
    assert_eq!(read, SETTINGS, "in this order: the last wins");
}

#[test]
fn settings_are_installed_once_and_for_root_alone() {
    let root = Folder::new("settings");
    let file = below(&root.0, Path::new(SETTINGS[0]));
    assert_eq!(place("first", &root.0).unwrap(), Path::new(SETTINGS[0]));
    let example = fs::read_to_string(&file).unwrap();
    assert!(example.lines().all(|line| line.is_empty() || line.starts_with('#')), "an example that sets something");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    fs::write(&file, "PEERS=host1").unwrap();
    assert_eq!(place("second", &root.0).unwrap(), Path::new(SETTINGS[0]));
    assert_eq!(fs::read_to_string(&file).unwrap(), "PEERS=host1");
    assert_eq!(fs::read_to_string(below(&root.0, Path::new(UNIT))).unwrap(), "second");
}

#[test]
fn settings_go_where_the_host_keeps_them() {
    let root = Folder::new("folders");
    fs::create_dir_all(root.0.join("etc/sysconfig")).unwrap();
    assert_eq!(place("unit", &root.0).unwrap(), Path::new(SETTINGS[1]));
    assert!(!root.0.join("etc/default").exists());
    // Both are there: named is the one that wins.
    fs::create_dir_all(root.0.join("etc/default")).unwrap();
    fs::write(root.0.join("etc/default/weave"), "PEERS=host1").unwrap();
    assert_eq!(place("unit", &root.0).unwrap(), Path::new(SETTINGS[1]));
}

#[test]
fn systemd_takes_the_unit() {
    let analyze = sh::which("systemd-analyze").expect("systemd-analyze: `cargo xtask setup` installs it");
    let prefix = Folder::new("verify");
    // Looked at by systemd-analyze: whether what the unit starts is there and may be run.
    let program = prefix.0.join("bin/weave-ctl");
    fs::create_dir_all(prefix.0.join("bin")).unwrap();
    fs::write(&program, "").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let file = prefix.0.join("weave-ctl.service");
    let verify = |text: &str| {
        fs::write(&file, text).unwrap();
        let mut command = sh::command(&analyze);
        // What is wrong with other units of this host is not looked at.
        let out = command.args(["verify", "--man=no", "--recursive-errors=no"]).arg(&file).output().unwrap();
        (out.status.success(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let good = unit(&prefix.0).unwrap();
    let (passed, said) = verify(&good);
    assert!(passed && !said.contains("weave-ctl.service"), "{said}");
    // It is read at all.
    let (_, said) = verify(&good.replace("RestrictRealtime=yes", "RestrictRealtime=perhaps"));
    assert!(said.contains("weave-ctl.service") && said.contains("perhaps"), "{said}");
}
