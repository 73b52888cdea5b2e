//! One process to run: the tests of a suite that need no root, or one test that does.
//!
//! A suite is a test binary, or a module of one under `tests/` of its crate: `relay::tcp` of the binary `lab` is the test
//! `tcp` of the suite `lab_relay`. Several suites in one binary are linked once.
//!
//! Bounds: a suite may take [`SUITE_LIMIT`], a single test [`TEST_LIMIT`].

use std::{collections::BTreeMap, ffi::OsString, process::Command, time::Duration};

use anyhow::Result;

use super::artifacts::Binary;
use crate::sh;

/// After this long a suite is ended and counts as failed.
const SUITE_LIMIT: Duration = Duration::from_secs(900);
/// After this long a single test is ended and counts as failed. The longest takes a third of it on a busy machine.
const TEST_LIMIT: Duration = Duration::from_secs(300);
/// Start of the names of tests that change something of the whole machine: nothing else may run beside them.
const ALONE: &str = "alone_";

/// See the module doc.
#[derive(Clone, Debug)]
pub(crate) struct Job<'a> {
    pub(crate) binary: &'a Binary,
    pub(crate) suite: String,
    /// The test that needs root, by its name in the binary; `None` runs those of the suite that need none.
    pub(crate) test: Option<String>,
    /// Names of the suite's tests, where the binary has other suites too.
    chosen: Vec<String>,
    /// Environment beside the one of this process.
    pub(crate) env: Vec<(&'static str, OsString)>,
}

impl<'a> Job<'a> {
    /// All tests of a binary that need no root, as one suite of this name.
    pub(crate) fn of(binary: &'a Binary, suite: &str) -> Self {
        Self { binary, suite: suite.to_owned(), test: None, chosen: Vec::new(), env: Vec::new() }
    }

    /// The tests of each suite that need no root; a suite that has none is among them.
    pub(crate) fn ordinary(binary: &'a Binary) -> Result<Vec<Self>> {
        let mut suites: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for test in list(binary, false)? {
            suites.entry(split(binary, &test).0).or_default().push(test);
        }
        let is_whole = suites.len() <= 1;
        let job = |(suite, tests): (String, _)| {
            let chosen = if is_whole { Vec::new() } else { tests };
            Self { chosen, ..Self::of(binary, &suite) }
        };
        Ok(suites.into_iter().map(job).collect())
    }

    /// Each test of a binary that needs root.
    pub(crate) fn privileged(binary: &'a Binary) -> Result<Vec<Self>> {
        let job = |test: String| {
            let suite = split(binary, &test).0;
            Self { test: Some(test), ..Self::of(binary, &suite) }
        };
        Ok(list(binary, true)?.into_iter().map(job).collect())
    }

    /// What it is called in progress lines and in the file of durations.
    pub(crate) fn name(&self) -> String {
        let Self { binary, suite, test, .. } = self;
        test.as_ref().map_or_else(|| suite.clone(), |test| format!("{suite} {}", split(binary, test).1))
    }

    /// True for a test that must not run beside another.
    pub(crate) fn is_alone(&self) -> bool {
        self.test.as_ref().is_some_and(|test| test.rsplit("::").next().is_some_and(|name| name.starts_with(ALONE)))
    }

    pub(crate) fn limit(&self) -> Duration {
        if self.test.is_some() { TEST_LIMIT } else { SUITE_LIMIT }
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = base(self.binary);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(test) = &self.test {
            command.args(["--exact", test, "--ignored", "--nocapture"]);
        } else if !self.chosen.is_empty() {
            command.arg("--exact").args(&self.chosen);
        }
        command
    }
}

/// The binary with the environment in which cargo would run it.
fn base(binary: &Binary) -> Command {
    let mut command = sh::command(&binary.executable);
    command.current_dir(&binary.folder).env("CARGO_MANIFEST_DIR", &binary.folder).env("INSTA_UPDATE", "no");
    command.env("CARGO_BIN_EXE_weave-ctl", sh::target("debug/weave-ctl"));
    command
}

/// Names of the binary's tests: all, or those that need root.
fn list(binary: &Binary, ignored: bool) -> Result<Vec<String>> {
    let mut list = base(binary);
    list.args(["--list", "--format", "terse"]).args(ignored.then_some("--ignored"));
    Ok(listed(&sh::output(&mut list)?))
}

/// Suite and name of a test. The modules of unit tests are no suites.
fn split<'t>(binary: &Binary, test: &'t str) -> (String, &'t str) {
    match test.split_once("::") {
        Some((module, name)) if binary.is_suite => (format!("{}_{module}", binary.name), name),
        _ => (binary.name.clone(), test),
    }
}

/// Names in what a test binary prints for `--list --format terse`: `NAME: test`, one a line.
pub(super) fn listed(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}
