//! Runs one test binary and counts by its own closing line.
//!
//! The output is passed on line by line. A binary that ends without a closing line (killed, aborted, out of time)
//! counts as one failed test.

use std::{
    io::{BufRead as _, BufReader, Read},
    ops::AddAssign,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{LIMIT, artifacts::Binary};
use crate::sh;

/// How often a running binary is looked at.
const POLL: Duration = Duration::from_millis(20);

/// What happened.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Outcome {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) ignored: u64,
    pub(super) seconds: f64,
}

impl AddAssign for Outcome {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.seconds += other.seconds;
    }
}

/// Which of a binary's tests.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    /// Those that anybody can run, in parallel.
    Ordinary,
    /// Those that are ignored for want of root, one at a time.
    Privileged,
}

pub(super) fn run(binary: &Binary, sim_seconds: Option<u32>, share: Share) -> Result<Outcome> {
    eprintln!("+ {} ({})", binary.executable.display(), if share == Share::Ordinary { "ordinary" } else { "as root" });
    let mut command = sh::command(&binary.executable);
    command.current_dir(&binary.folder).env("CARGO_MANIFEST_DIR", &binary.folder).env("INSTA_UPDATE", "no");
    command.env("CARGO_BIN_EXE_weave-ctl", sh::target("debug/weave-ctl"));
    if let Some(seconds) = sim_seconds {
        command.env("WEAVE_SIM_SECONDS", seconds.to_string());
    }
    if share == Share::Privileged {
        command.args(["--ignored", "--test-threads=1"]);
    }
    counted(&mut command, LIMIT)
}

/// Examples in the documentation; rustdoc builds and runs them itself.
pub(super) fn doc() -> Result<Outcome> {
    eprintln!("+ cargo test --workspace --doc");
    counted(sh::cargo().args(["test", "--workspace", "--doc"]), LIMIT)
}

/// Runs to the end or to the limit.
pub(super) fn counted(command: &mut Command, limit: Duration) -> Result<Outcome> {
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
    let output = child.stdout.take().context("a pipe was asked for")?;
    let reader = thread::spawn(move || count(output));
    let succeeded = wait(&mut child, start + limit)?;
    // A process that the test left behind may hold the pipe open for ever: then what it printed is not waited for.
    let patience = Instant::now() + POLL * 50;
    while !reader.is_finished() && Instant::now() < patience {
        thread::sleep(POLL);
    }
    let counted = if reader.is_finished() { reader.join().ok().flatten() } else { None };
    let mut outcome = counted.unwrap_or_default();
    if counted.is_none() || (!succeeded && outcome.failed == 0) {
        eprintln!("xtask: the test binary ended without saying how, or left a process that holds its output");
        outcome.failed += 1;
    }
    outcome.seconds = start.elapsed().as_secs_f64();
    Ok(outcome)
}

/// True for success; stops the child when its time is over.
fn wait(child: &mut Child, deadline: Instant) -> Result<bool> {
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for a test binary")? {
            return Ok(status.success());
        }
        if Instant::now() >= deadline {
            eprintln!("xtask: out of time after {} s: stopped", LIMIT.as_secs());
            child.kill().and_then(|()| child.wait()).context("cannot stop a test binary")?;
            return Ok(false);
        }
        thread::sleep(POLL);
    }
}

/// Shows lines and sums up the closing ones; nothing when there was none.
fn count(output: impl Read) -> Option<Outcome> {
    let mut outcome = None;
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        if let Some(closing) = closing(&line) {
            *outcome.get_or_insert_with(Outcome::default) += closing;
        } else if !line.is_empty() {
            println!("{line}");
        }
    }
    outcome
}

/// `test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; ...`
pub(super) fn closing(line: &str) -> Option<Outcome> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let number = |what: &str| counts.split("; ").find_map(|part| part.strip_suffix(what)?.trim().parse::<u64>().ok());
    Some(Outcome { passed: number("passed")?, failed: number("failed")?, ignored: number("ignored")?, seconds: 0.0 })
}
