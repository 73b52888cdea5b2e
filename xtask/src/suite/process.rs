//! Runs one job to its end or to its limit, and finds out how it ended and what it left behind.
//!
//! The output of a job goes to a file, whole. A job counts by the closing lines of its output; one that ends without one
//! (killed, aborted, out of time) counts as one failed test. Processes that a job started, and that outlive it, are found
//! by a variable of their environment: they are ended, and the job counts as failed.
//!
//! Bounds: a job has the limit that it names; what it started has [`PATIENCE`] to be gone after it.

use std::{
    fs::{self, File},
    ops::AddAssign,
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

/// How often a running process is looked at.
const POLL: Duration = Duration::from_millis(20);
/// How long processes of a job may outlive it: the kernel takes a moment for those that were killed.
const PATIENCE: Duration = Duration::from_secs(2);
/// The variable by which processes of a job are found.
const MARK: &str = "WEAVE_TEST_RUN";

/// Counts of tests, and the seconds that they took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
    pub(crate) seconds: f64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.seconds += other.seconds;
    }
}

/// How a process ended.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) counts: Counts,
    /// All that it printed, and why it counts as failed where it did not say so itself.
    pub(crate) output: String,
}

impl Ended {
    /// A job that could not be run.
    pub(crate) fn not_run(error: &anyhow::Error) -> Self {
        Self { counts: Counts { failed: 1, ..Counts::default() }, output: format!("{error:#}\n") }
    }

    pub(crate) fn is_good(&self) -> bool {
        self.counts.failed == 0
    }

    /// Counts as failed, for this reason too.
    pub(super) fn fail(&mut self, why: &str) {
        self.counts.failed = self.counts.failed.max(1);
        self.output += &format!("xtask: {why}\n");
    }
}

/// Runs to the end or to the limit; `log` gets the output.
pub(crate) fn run(command: &mut Command, limit: Duration, log: &Path) -> Result<Ended> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mark = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let errors = file.try_clone().context("cannot share a file")?;
    let start = Instant::now();
    let mut child = command
        .env(MARK, &mark)
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(errors)
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
    let in_time = wait(&mut child, start + limit)?;
    let seconds = start.elapsed().as_secs_f64();
    let left = end_marked(&format!("{MARK}={mark}"))?;
    let bytes = fs::read(log).with_context(|| format!("cannot read {}", log.display()))?;
    let output = String::from_utf8_lossy(&bytes).into_owned();
    let said = counted(&output);
    let mut ended = Ended { counts: Counts { seconds, ..said.unwrap_or_default() }, output };
    match in_time {
        None => ended.fail(&format!("out of time after {} s: ended", limit.as_secs())),
        Some(true) if said.is_some() => {}
        Some(_) if said.is_some_and(|said| said.failed > 0) => {}
        Some(_) => ended.fail("the test binary ended without saying how"),
    }
    if in_time.is_some() && !left.is_empty() {
        ended.fail(&format!("processes of it that still ran were ended: {}", left.join(", ")));
    }
    Ok(ended)
}

/// True for success; nothing when its time was over.
fn wait(child: &mut Child, deadline: Instant) -> Result<Option<bool>> {
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for a test binary")? {
            return Ok(Some(status.success()));
        }
        if Instant::now() >= deadline {
            child.kill().and_then(|()| child.wait()).context("cannot stop a test binary")?;
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}

/// Sums up the closing lines; nothing when there is none.
pub(super) fn counted(output: &str) -> Option<Counts> {
    output.lines().filter_map(closing).fold(None, |sum: Option<Counts>, counts| {
        let mut sum = sum.unwrap_or_default();
        sum += counts;
        Some(sum)
    })
}

/// `test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; ...`
pub(super) fn closing(line: &str) -> Option<Counts> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let number = |what: &str| counts.split("; ").find_map(|part| part.strip_suffix(what)?.trim().parse::<u64>().ok());
    Some(Counts { passed: number("passed")?, failed: number("failed")?, ignored: number("ignored")?, seconds: 0.0 })
}

/// Waits until no process has this in its environment, ends those that have it still; their numbers and command lines.
fn end_marked(mark: &str) -> Result<Vec<String>> {
    let end = Instant::now() + PATIENCE;
    loop {
        let left = marked(mark)?;
        if left.is_empty() || Instant::now() >= end {
            for (pid, _) in &left {
                // One that ended meanwhile is what was wanted.
                Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status().ok();
            }
            return Ok(left.into_iter().map(|(pid, line)| format!("{pid} ({line})")).collect());
        }
        thread::sleep(POLL);
    }
}

/// Processes with this in their environment, as far as this user may look.
fn marked(mark: &str) -> Result<Vec<(u32, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot list processes")? {
        let Some(pid) = entry.ok().and_then(|entry| entry.file_name().to_str()?.parse().ok()) else { continue };
        // Gone, or somebody else's.
        let Ok(environ) = fs::read(format!("/proc/{pid}/environ")) else { continue };
        if environ.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes()) {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            found.push((pid, String::from_utf8_lossy(&line).replace('\0', " ").trim().to_owned()));
        }
    }
    Ok(found)
}
