//! One process to run: a test binary as a whole, or one test of it that needs root.
//!
//! Bounds: a whole binary may take [`BINARY_LIMIT`], a single test [`TEST_LIMIT`].

use std::{ffi::OsString, process::Command, time::Duration};

use anyhow::Result;

use super::artifacts::Binary;
use crate::sh;

/// After this long a binary is ended and counts as failed.
const BINARY_LIMIT: Duration = Duration::from_secs(900);
/// After this long a single test is ended and counts as failed. The longest takes a third of it on a busy machine.
const TEST_LIMIT: Duration = Duration::from_secs(300);
/// Start of the names of tests that change something of the whole machine: nothing else may run beside them.
const ALONE: &str = "alone_";

/// See the module doc.
#[derive(Clone, Debug)]
pub(crate) struct Job<'a> {
    pub(crate) binary: &'a Binary,
    /// The test; `None` runs all tests of the binary that need no root.
    pub(crate) test: Option<String>,
    /// Environment beside the one of this process.
    pub(crate) env: Vec<(&'static str, OsString)>,
}

impl<'a> Job<'a> {
    /// All tests of a binary that need no root.
    pub(crate) fn ordinary(binary: &'a Binary) -> Self {
        Self { binary, test: None, env: Vec::new() }
    }

    /// Each test of a binary that needs root.
    pub(crate) fn privileged(binary: &'a Binary) -> Result<Vec<Self>> {
        let mut list = base(binary);
        let text = sh::output(list.args(["--list", "--ignored", "--format", "terse"]))?;
        let job = |test| Self { binary, test: Some(test), env: Vec::new() };
        Ok(listed(&text).into_iter().map(job).collect())
    }

    /// What it is called in progress lines and in the file of durations.
    pub(crate) fn name(&self) -> String {
        let binary = &self.binary.name;
        self.test.as_ref().map_or_else(|| binary.clone(), |test| format!("{binary} {test}"))
    }

    /// True for a test that must not run beside another.
    pub(crate) fn is_alone(&self) -> bool {
        self.test.as_ref().is_some_and(|test| test.rsplit("::").next().is_some_and(|name| name.starts_with(ALONE)))
    }

    pub(crate) fn limit(&self) -> Duration {
        if self.test.is_some() { TEST_LIMIT } else { BINARY_LIMIT }
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = base(self.binary);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(test) = &self.test {
            command.args(["--exact", test, "--ignored", "--nocapture"]);
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

/// Names in what a test binary prints for `--list --format terse`: `NAME: test`, one a line.
pub(super) fn listed(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}
