//! `cargo xtask test`: every layer of tests that exists, timed and counted.
//!
//! One cargo invocation builds all test binaries and the controller. Then each suite runs as a process: all of its tests
//! that need no root. What needs root is marked `#[ignore = "needs root"]`; each such test runs afterwards as a process of
//! its own, many at a time, since they mostly wait. A test that changes something of the whole machine is named
//! `alone_...` and runs when all others have ended.
//!
//! Does not: retry, or let a skipped test pass for one that ran: the table shows both, and without root the verb fails
//! unless told so.

mod table;

use std::{path::PathBuf, time::Instant};

use anyhow::{Result, bail};
use table::{Row, Table};

use crate::{
    setup, sh,
    suite::{artifacts, durations::Durations, job::Job, process::Counts, workers::Workers},
};

/// Tests that need root and run at the same time, unless told: they mostly wait, for timers and for each other.
const JOBS: u8 = 7;
/// Suites that run at the same time, of tests that need no root: most use all processors themselves.
const SUITES: usize = 2;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave out what needs root, and do not fail for it
    #[arg(long)]
    unprivileged: bool,
    /// Time for seeds of the World beyond the fixed ones, in seconds; the tests' own default otherwise
    #[arg(long, env = "WEAVE_SIM_SECONDS")]
    sim_seconds: Option<u32>,
    /// Only suites, and single tests that need root, whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// Tests that need root and run at the same time
    #[arg(long, default_value_t = JOBS, value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,
}

/// Layers by number, as DESIGN names them; a test binary belongs to one by its name.
const LAYERS: [(&str, &str, &[&str]); 5] = [
    ("L1", "World", &["world", "sim", "model_based"]),
    ("L2", "models", &["models"]),
    ("L3", "packets", &["packets"]),
    ("L4", "Lab", &["lab"]),
    ("L5", "command line", &["cli", "snapshot"]),
];

pub(crate) fn run(args: &Args) -> Result<()> {
    setup::require()?;
    let is_privileged = sh::is_root() && !args.unprivileged;
    let binaries = artifacts::build()?;
    let mut run = Run::new()?;
    let wanted = |name: &str| args.only.as_ref().is_none_or(|only| name.contains(only.as_str()));

    let (mut ordinary, mut privileged) = (Vec::new(), Vec::new());
    for binary in &binaries {
        ordinary.extend(Job::ordinary(binary)?.into_iter().filter(|job| wanted(&job.name())));
        if is_privileged {
            privileged.extend(Job::privileged(binary)?.into_iter().filter(|job| wanted(&job.name())));
        }
    }
    if let Some(seconds) = args.sim_seconds {
        ordinary.iter_mut().for_each(|job| job.env.push(("WEAVE_SIM_SECONDS", seconds.to_string().into())));
    }
    run.jobs(ordinary, SUITES, "")?;
    if is_privileged {
        run.table.forget_ignored();
        run.jobs(privileged, usize::from(args.jobs), ", as root")?;
    }
    verdict(&run.table, is_privileged, args.unprivileged)
}

/// What is filled while jobs run.
struct Run {
    workers: Workers,
    table: Table,
    durations: Durations,
    /// Where durations are kept from run to run.
    file: PathBuf,
}

impl Run {
    fn new() -> Result<Self> {
        let file = sh::target("test-seconds");
        Ok(Self { workers: Workers::new()?, table: Table::default(), durations: Durations::read(&file), file })
    }

    /// Runs jobs, the longest first; `suffix` ends the names of their rows.
    fn jobs(&mut self, mut jobs: Vec<Job<'_>>, at_once: usize, suffix: &str) -> Result<()> {
        let (start, count) = (Instant::now(), jobs.len());
        self.durations.sort(&mut jobs, Job::name);
        for (job, ended) in self.workers.run(jobs, at_once) {
            self.durations.note(job.name(), ended.counts.seconds);
            self.table.add(row(&job, suffix), ended.counts);
        }
        println!("{count} processes{suffix}, up to {at_once} at once: {:.0} s", start.elapsed().as_secs_f64());
        self.durations.write(&self.file)
    }
}

/// Prints the table; the line with the totals stands alone, for programs that read it.
fn verdict(table: &Table, privileged: bool, unprivileged: bool) -> Result<()> {
    let total: Counts = table.total();
    println!("{}", table.render());
    if total.ignored > 0 && !privileged {
        println!("{} tests need root (L3 and L4 above all) and were skipped", total.ignored);
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    if total.failed > 0 {
        bail!("{} tests failed", total.failed);
    }
    if total.passed == 0 {
        bail!("no test ran");
    }
    if !privileged && !unprivileged && total.ignored > 0 {
        bail!("not root: L3 and L4 did not run; run as root, or give --unprivileged to leave them out");
    }
    Ok(())
}

/// The row of a job's suite.
fn row(job: &Job<'_>, suffix: &str) -> Row {
    let Job { binary, suite, .. } = job;
    let found = LAYERS.iter().find(|(_, _, starts)| {
        binary.is_suite && starts.iter().any(|start| suite == start || suite.starts_with(&format!("{start}_")))
    });
    let (layer, title) = found.map_or(("L0", ""), |(layer, title, _)| (*layer, *title));
    let name = if title.is_empty() { suite.clone() } else { format!("{title}: {suite}") };
    Row { layer: layer.to_owned(), name: format!("{name}{suffix}") }
}

#[cfg(test)]
mod tests;
