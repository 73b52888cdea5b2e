//! Running jobs: what test binaries print, what they do not live to print, what they leave behind, and their order.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use super::{
    artifacts::{self, Binary},
    durations::{Durations, LONGEST},
    job::{Job, listed},
    process::{self, Counts, Ended, closing, counted},
    workers::Workers,
};

const LONG: Duration = Duration::from_secs(20);
const GOOD: &str = "echo 'test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out'";

/// A folder that is removed with all that is in it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("xtask-suite-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    /// A test binary: lists `tests`, and runs the script for each; `$2` is the test's name.
    fn binary(&self, name: &str, tests: &[&str], script: &str) -> Binary {
        let list: String = tests.iter().map(|test| format!("echo '{test}: test'\n")).collect();
        let text = format!("#!/bin/sh\nif [ \"$1\" = --list ]; then\n{list}exit 0\nfi\n{script}\n");
        let (draft, executable) = (self.0.join("draft"), self.0.join(name));
        fs::write(&draft, text).unwrap();
        // By another process: a file that is open for writing in any process, a fork of this one too, cannot be run.
        let installed = Command::new("install").arg("-m755").args([&draft, &executable]).status().unwrap();
        assert!(installed.success());
        Binary { name: name.to_owned(), is_suite: true, executable, folder: self.0.clone() }
    }

    fn workers(&self) -> Workers {
        Workers::in_folder(self.0.join("output")).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn counts(passed: u64, failed: u64, ignored: u64) -> Counts {
    Counts { passed, failed, ignored, seconds: 0.0 }
}

fn sh(script: &str, limit: Duration) -> Ended {
    let folder = Folder::new();
    let mut ended = process::run(Command::new("sh").args(["-c", script]), limit, &folder.0.join("log")).unwrap();
    ended.counts.seconds = 0.0;
    ended
}

#[test]
fn closing_lines_are_read() {
    let line = "test result: FAILED. 5 passed; 2 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s";
    assert_eq!(closing(line), Some(counts(5, 2, 1)));
    assert_eq!(closing("test result: a test said so"), None);
    assert_eq!(closing("test a::result ... ok"), None);
    assert_eq!(counted(&format!("{line}\nsome words\n{line}\n")), Some(counts(10, 4, 2)));
    assert_eq!(counted("some words\n"), None);
}

#[test]
fn binary_that_dies_counts_as_failed() {
    assert_eq!(sh(GOOD, LONG).counts, counts(1, 0, 0));
    assert_eq!(sh("exit 101", LONG).counts, counts(0, 1, 0));
    assert_eq!(sh("exit 0", LONG).counts, counts(0, 1, 0), "it may have left in the middle of a test");
    assert_eq!(sh("kill -9 $$", LONG).counts, counts(0, 1, 0));
    assert_eq!(sh(&format!("{GOOD}; exit 1"), LONG).counts, counts(1, 1, 0));
    let late = sh("echo begun; exec sleep 30", Duration::from_millis(50));
    assert_eq!(late.counts, counts(0, 1, 0));
    assert!(late.output.starts_with("begun\nxtask: out of time"), "{}", late.output);
}

#[test]
fn process_left_behind_is_told_and_ended() {
    let start = Instant::now();
    let ended = sh(&format!("setsid sleep 987 & {GOOD}"), LONG);
    assert_eq!(ended.counts, counts(1, 1, 0));
    assert!(ended.output.contains("(sleep 987)"), "{}", ended.output);
    let pid = ended.output.split(" were ended: ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    let gone = || fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty());
    while gone() {
        assert!(start.elapsed() < LONG, "process {pid} still runs");
    }
    // A process that needs a moment to end is nobody's fault.
    assert_eq!(sh(&format!("setsid sleep 0.3 & {GOOD}"), LONG).counts, counts(1, 0, 0));
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
fn tests_are_listed() {
    let text = "one: test\na::two: test\nmeasured: benchmark\n\n3 tests, 0 benchmarks\n";
    assert_eq!(listed(text), ["one", "a::two"]);
}

#[test]
fn each_test_runs_once_and_a_failure_stops_none() {
    let folder = Folder::new();
    let script = format!("echo \"$@\" >> runs; [ $2 = bad ] && exit 101; [ $2 = none ] && exit 0; {GOOD}");
    let none = "echo 'test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 4 filtered out'";
    let script = script.replace("[ $2 = none ] && exit 0", &format!("[ $2 = none ] && {none} && exit 0"));
    let binary = folder.binary("lab_x", &["good", "bad", "a::good", "none"], &script);
    let ended = folder.workers().run(Job::privileged(&binary).unwrap(), 3);
    let mut results: Vec<_> = ended.iter().map(|(job, ended)| (job.name(), ended.is_good())).collect();
    results.sort();
    let wanted = [("lab_x bad", false), ("lab_x good", true), ("lab_x none", false), ("lab_x_a good", true)];
    assert_eq!(results, wanted.map(|(name, good)| (name.to_owned(), good)));
    let mut runs: Vec<String> = fs::read_to_string(folder.0.join("runs")).unwrap().lines().map(str::to_owned).collect();
    runs.sort();
    assert_eq!(runs, ["a::good", "bad", "good", "none"].map(|t| format!("--exact {t} --ignored --nocapture")));
}

#[test]
fn modules_of_a_suite_binary_are_suites() {
    let folder = Folder::new();
    let mut binary = folder.binary("lab", &["a::one", "a::b::two", "three"], &format!("echo \"$@\" >> runs; {GOOD}"));
    let ended = folder.workers().run(Job::ordinary(&binary).unwrap(), 1);
    assert!(ended.iter().all(|(_, ended)| ended.is_good()));
    assert_eq!(ended.iter().map(|(job, _)| job.name()).collect::<Vec<_>>(), ["lab", "lab_a"]);
    assert_eq!(fs::read_to_string(folder.0.join("runs")).unwrap(), "--exact three\n--exact a::one a::b::two\n");
    let names: Vec<String> = Job::privileged(&binary).unwrap().iter().map(Job::name).collect();
    assert_eq!(names, ["lab_a one", "lab_a b::two", "lab three"]);
    // Unit tests lie in modules everywhere.
    binary.is_suite = false;
    fs::remove_file(folder.0.join("runs")).unwrap();
    folder.workers().run(Job::ordinary(&binary).unwrap(), 1);
    assert_eq!(fs::read_to_string(folder.0.join("runs")).unwrap(), "\n", "all at once, without a choice");
    assert_eq!(Job::privileged(&binary).unwrap()[0].name(), "lab a::one");
}

#[test]
fn tests_run_at_once_and_the_alone_ones_after_them() {
    let folder = Folder::new();
    // Each of the first two waits until the other has begun; the others fail when they see one that has not ended.
    let script = format!(
        "touch began-$2; case $2 in a|b) while [ ! -f began-a -o ! -f began-b ]; do sleep 0.01; done;; \
         *) for t in began-*; do o=ended-${{t#began-}}; [ $t = began-$2 -o -f $o ] || exit 1; done; sleep 0.05;; \
         esac; touch ended-$2; {GOOD}"
    );
    let binary = folder.binary("lab_x", &["alone_c", "a", "m::alone_d", "b"], &script);
    let ended = folder.workers().run(Job::privileged(&binary).unwrap(), 2);
    let failed: Vec<String> = ended.iter().filter(|(_, e)| !e.is_good()).map(|(job, _)| job.name()).collect();
    assert_eq!((ended.len(), failed), (4, Vec::<String>::new()));
}

#[test]
fn a_test_does_not_run_beside_itself() {
    let folder = Folder::new();
    let script = format!("mkdir running-$2 || exit 1; sleep 0.05; rmdir running-$2; {GOOD}");
    let binary = folder.binary("lab_x", &["a", "b"], &script);
    let chosen = Job::privileged(&binary).unwrap();
    let rounds = (0..4).flat_map(|_| chosen.iter().cloned()).collect();
    let ended = folder.workers().run(rounds, 4);
    let failed: Vec<String> = ended.iter().filter(|(_, e)| !e.is_good()).map(|(_, e)| e.output.clone()).collect();
    assert_eq!((ended.len(), failed), (8, Vec::<String>::new()));
}

#[test]
fn longest_jobs_come_first() {
    let folder = Folder::new();
    let file = folder.0.join("seconds");
    let mut jobs = ["short", "new", "long", "newer"];
    Durations::read(&file).sort(&mut jobs, |job| (*job).to_owned());
    assert_eq!(jobs, ["short", "new", "long", "newer"], "without a file the order stays");
    let mut cold = ["lab_x a", LONGEST[2], "lab_x b", LONGEST[0]];
    Durations::read(&file).sort(&mut cold, |job| (*job).to_owned());
    assert_eq!(cold, [LONGEST[0], LONGEST[2], "lab_x a", "lab_x b"], "but for the longest");
    let mut durations = Durations::default();
    for (name, seconds) in [("short", 0.5), ("long", 77.25), ("a name with spaces", 3.0)] {
        durations.note(name.to_owned(), seconds);
    }
    durations.write(&file).unwrap();
    fs::write(&file, fs::read_to_string(&file).unwrap() + "no line of ours\nNaN new\n").unwrap();
    let read = Durations::read(&file);
    assert_eq!(read, durations);
    read.sort(&mut jobs, |job| (*job).to_owned());
    assert_eq!(jobs, ["new", "newer", "long", "short"], "an unknown one may be long");
}

#[test]
fn the_longest_jobs_exist() {
    for (suite, test) in LONGEST.iter().filter_map(|name| name.split_once(' ')) {
        let file = crate::sh::root().join(format!("tests/tests/{}.rs", suite.replacen('_', "/", 1)));
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert!(text.contains(&format!("fn {test}()")), "{} has no {test}", file.display());
    }
}
