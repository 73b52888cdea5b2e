//! The command line as typed: help, refusals and exit statuses, without a controller.
//!
//! Runs the built `weave-ctl` (`$WEAVE_CTL`, or the one in this build's target directory), each time with directories of
//! its own. What a session prints is kept under `snapshots/`.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixListener, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use assert_cmd::assert::OutputAssertExt;
use tempfile::TempDir;
use weave_tests::lab::weave_ctl;

/// A user without rights.
const NOBODY: u32 = 65534;
/// Every verb.
const VERBS: [&str; 16] = [
    "launch", "connect", "forget", "consense", "status", "attach", "detach", "release", "expose", "hide", "ps",
    "rmpeer", "stop", "reset", "report", "version",
];

/// A host on which nothing runs.
struct Host {
    dir: TempDir,
}

impl Host {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a directory") }
    }

    fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    fn command_of(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).env_clear().stdin(Stdio::null()).current_dir(self.dir.path());
        for (name, dir) in [("WEAVE_RUN_DIR", "run"), ("WEAVE_STATE_DIR", "state"), ("WEAVE_BPF_DIR", "bpf")] {
            command.env(name, self.dir.path().join(dir));
        }
        command
    }

    fn command(&self, args: &[&str]) -> Command {
        self.command_of(&weave_ctl(), args)
    }

    /// What a person sees: each command, what it prints, and its exit status.
    fn session(&self, commands: &[&[&str]]) -> String {
        let mut text = String::new();
        for args in commands {
            let output = self.command(args).output().expect("the program runs");
            let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("UTF-8"));
            let status = output.status.code().expect("an exit status");
            text += &format!("$ weave-ctl {}\n{out}{err}=> {status}\n\n", args.join(" "));
        }
        text.replace(self.dir.path().to_str().expect("UTF-8"), "[DIR]").replace(env!("CARGO_PKG_VERSION"), "[VERSION]")
    }

    /// Nothing was made: not the directories either.
    fn assert_untouched(&self) {
        assert_eq!(fs::read_dir(self.dir.path()).expect("the directory").count(), 0);
    }
}

/// Every command of the session is refused with this status, and leaves the host as it was.
fn refused(name: &str, status: i32, commands: &[&[&str]]) {
    let host = Host::new();
    for args in commands {
        host.command(args).assert().code(status).stdout("");
    }
    insta::assert_snapshot!(name, host.session(commands));
    host.assert_untouched();
}

#[test]
fn help() {
    let host = Host::new();
    insta::assert_snapshot!("help", host.session(&[&["--help"]]));
    for verb in VERBS {
        insta::assert_snapshot!(format!("help_{verb}"), host.session(&[&[verb, "--help"]]));
    }
    host.assert_untouched();
}

#[test]
fn the_name_weave_works_the_same() {
    let host = Host::new();
    let bin = tempfile::tempdir().expect("a directory");
    let weave = bin.path().join("weave");
    std::os::unix::fs::symlink(weave_ctl(), &weave).expect("a link");
    let help = |program: &Path| {
        let output = host.command_of(program, &["attach", "--help"]).output().expect("the program runs");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let as_weave = help(&weave);
    assert!(as_weave.contains("Usage: weave attach"), "{as_weave}");
    assert_eq!(as_weave.replace("Usage: weave ", "Usage: weave-ctl "), help(&weave_ctl()));
}

#[test]
fn version() {
    let host = Host::new();
    insta::assert_snapshot!("version", host.session(&[&["version"], &["version", "--json"], &["--version"]]));
}

#[test]
fn unknown_words() {
    refused(
        "unknown_words",
        2,
        &[
            &["--bogus", "status"],
            &["status", "--bogus"],
            &["frobnicate"],
            &["status", "weather"],
            &["launch", "--log-level", "loud"],
            &["launch", "--ready-fd", "5"],
            &["ps", "extra"],
        ],
    );
    Host::new().command(&[]).assert().code(2);
}

#[test]
fn missing_words() {
    refused(
        "missing_words",
        2,
        &[
            &["connect"],
            &["forget"],
            &["attach"],
            &["detach"],
            &["attach", "10.32.0.5"],
            &["connect", "--json"],
            &["rmpeer"],
            &["release"],
        ],
    );
}

#[test]
fn words_that_do_not_go_together() {
    refused(
        "words_that_do_not_go_together",
        2,
        &[
            &["report", "--graph", "--json"],
            &["--json", "report", "--graph"],
            &["release", "--absent", "c1"],
            &["launch", "--password", "x", "--password-file", "y"],
            &["launch", "--password", "x", "--key-file", "y"],
            &["launch", "--password-file", "x", "--key-file", "y"],
        ],
    );
}

#[test]
fn malformed_names_and_peers() {
    refused(
        "malformed_names_and_peers",
        2,
        &[
            &["launch", "--name", "host1"],
            &["launch", "--name", "1:2:3:4:5:6:7"],
            &["launch", "--nickname", "two words"],
            &["launch", "--seed", "::1,two"],
            &["launch", "--seed", "::1,::1"],
            &["launch", "bad host"],
            &["launch", "10.0.0.256"],
            &["connect", "host:99999"],
            &["forget", "host:port"],
        ],
    );
}

#[test]
fn malformed_networks() {
    refused(
        "malformed_networks",
        2,
        &[
            &["launch", "--ipalloc-range", "10.0.0.0"],
            &["launch", "--ipalloc-range", "10.0.0.0/33"],
            &["launch", "--ipalloc-range", "10.0.0.1/24"],
            &["launch", "--ipalloc-range", "10.0.0.0/31"],
            &["launch", "--ipalloc-range", "10.0.0.0/32"],
            &["launch", "--ipalloc-range", "224.0.0.0/8"],
            &["launch", "--ipalloc-range", "10.2.0.0/30", "--seed", "::1,::2,::3,::4,::5"],
            &["launch", "--ipalloc-range", "10.2.0.0/16", "--ipalloc-default-subnet", "10.3.0.0/24"],
            &["launch", "--ipalloc-default-subnet", "10.2.0.0/31"],
        ],
    );
}

#[test]
fn malformed_settings() {
    refused(
        "malformed_settings",
        2,
        &[
            &["launch", "--port", "0"],
            &["launch", "--port", "65535"],
            &["launch", "--port", "http"],
            &["launch", "--host", "localhost"],
            &["launch", "--conn-limit", "0"],
            &["launch", "--conn-limit", "1025"],
            &["launch", "--conn-limit", "many", "--json"],
            &["launch", "--ipalloc-init", "consensus=0"],
            &["launch", "--ipalloc-init", "consensus"],
            &["launch", "--ipalloc-init", "seed=::1", "--seed", "::1"],
            &["launch", "--initial-peer-count", "0"],
            &["launch", "--initial-peer-count", "three", "--json"],
            &["launch", "--initial-peer-count", "3", "--observer"],
            &["launch", "--password-file", "/nonexistent"],
            &["launch", "--password", ""],
            &["launch", "--key-file", "/nonexistent"],
            &["launch", "--key-file", "/dev/null"],
            &["launch", "--key-file", "/dev/zero", "--json"],
        ],
    );
    let host = Host::new();
    let assert = host.command(&["launch"]).env("WEAVE_PORT", "http").assert().code(2);
    let sentence = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    assert!(sentence.starts_with("port \"http\" cannot be used"), "{sentence}");
}

#[test]
fn malformed_addresses() {
    refused(
        "malformed_addresses",
        2,
        &[
            &["attach", "10.32.0", "c1"],
            &["attach", "10.32.0.1/33", "c1"],
            &["attach", "net:10.32.0.1/24", "c1"],
            &["attach", "net:10.32.0.0/31", "c1"],
            &["attach", "10.32.0.1", "fd00::1", "c1"],
            &["detach", "10.32.0.256", "c1"],
            &["detach", "net:default", "c1"],
        ],
    );
}

#[test]
fn no_controller() {
    refused(
        "no_controller",
        2,
        &[
            &["connect", "host2"],
            &["connect", "--replace"],
            &["forget", "host2"],
            &["status"],
            &["status", "connections"],
            &["attach", "c1"],
            &["detach", "c1"],
            &["release", "c1"],
            &["release", "--absent"],
            &["expose"],
            &["hide"],
            &["ps"],
            &["report"],
            &["report", "--graph"],
            &["stop"],
            &["reset"],
            &["consense"],
            &["rmpeer", "host2"],
            &["status", "--json"],
        ],
    );
}

#[test]
fn a_controller_that_was_killed_is_no_controller() {
    let host = Host::new();
    fs::create_dir(host.run_dir()).expect("a directory");
    // Closing does not remove the file, as a kill does not.
    drop(UnixListener::bind(host.run_dir().join("weave.sock")).expect("a socket"));
    host.command(&["status"]).assert().code(2);
    insta::assert_snapshot!("killed_controller", host.session(&[&["status"]]));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let host = Host::new();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = host.command(&["version"]).stdout(writer).output().expect("the program runs");
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

#[test]
#[ignore = "needs root, to become another user"]
fn launch_needs_root() {
    let host = Host::new();
    fs::set_permissions(host.dir.path(), fs::Permissions::from_mode(0o777)).expect("permissions");
    let reachable = tempfile::tempdir().expect("a directory");
    fs::set_permissions(reachable.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
    let copy = reachable.path().join("weave-ctl");
    fs::copy(weave_ctl(), &copy).expect("a copy");
    let as_nobody = |args: &[&str]| {
        let output = host.command_of(&copy, args).uid(NOBODY).gid(NOBODY).output().expect("the program runs");
        (output.status.code(), String::from_utf8(output.stderr).expect("UTF-8"))
    };
    let lacks = "launch needs root, this process lacks CAP_NET_ADMIN, CAP_BPF, CAP_SYS_ADMIN: nothing was changed; run \
                 it as root\n";
    assert_eq!(as_nobody(&["launch"]), (Some(1), lacks.to_owned()));
    assert_eq!(as_nobody(&["launch", "--foreground"]), (Some(1), lacks.to_owned()));
    host.assert_untouched();

    fs::create_dir(host.run_dir()).expect("a directory");
    fs::set_permissions(host.run_dir(), fs::Permissions::from_mode(0o700)).expect("permissions");
    let (status, sentence) = as_nobody(&["status"]);
    assert_eq!(status, Some(2), "{sentence}");
    assert!(sentence.contains("run this command as root"), "{sentence}");
}

#[test]
#[ignore = "needs root, to get as far"]
fn launch_leaves_a_running_controller_alone() {
    let host = Host::new();
    fs::create_dir(host.run_dir()).expect("a directory");
    let _running = UnixListener::bind(host.run_dir().join("weave.sock")).expect("a socket");
    let commands: [&[&str]; 2] = [&["launch"], &["launch", "--foreground"]];
    for args in commands {
        host.command(args).assert().code(1).stdout("");
    }
    insta::assert_snapshot!("already_running", host.session(&commands));
    assert_eq!(fs::read_dir(host.run_dir()).expect("the directory").count(), 1);
}
