//! `cargo xtask soak`: runs chosen tests that need root many times, and reports how often each passed and what it measured.
//!
//! For what a run or two cannot show: rare failures, and figures. A test that measures prints lines
//! `measured: NAME VALUE UNIT`; their median, lowest and highest are reported over all runs. `cargo xtask test` runs the
//! same tests once, with bounds wide enough for a busy machine.
//!
//! Bounds: a test never runs beside itself, since its Lab has one name; as many at a time as `--jobs`, by default one, so
//! that nothing disturbs what is measured.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};

use crate::{
    setup, sh,
    suite::{artifacts, job::Job, process::Ended, workers::Workers},
};

/// Start of a line that tells a figure.
const MEASURED: &str = "measured: ";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only tests whose name contains this; the name begins with that of the binary
    #[arg(long)]
    only: Option<String>,
    /// How often each test runs
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    times: u32,
    /// Tests that run at the same time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    ensure!(
        sh::is_root(),
        "the tests that are repeated make network namespaces and load eBPF programs: run it as root"
    );
    setup::require()?;
    let binaries = artifacts::build()?;
    let mut chosen = Vec::new();
    for binary in &binaries {
        let wanted = |job: &Job<'_>| args.only.as_ref().is_none_or(|only| job.name().contains(only.as_str()));
        chosen.extend(Job::privileged(binary)?.into_iter().filter(wanted));
    }
    let only = args.only.as_deref().unwrap_or_default();
    ensure!(!chosen.is_empty(), "no test that needs root has {only:?} in its name");
    let rounds: Vec<Job<'_>> = (0..args.times).flat_map(|_| chosen.iter().cloned()).collect();
    let mut report = Report::default();
    for (job, ended) in Workers::new()?.run(rounds, usize::from(args.jobs)) {
        report
            .add(&job.name(), &ended)
            .with_context(|| format!("{} tells a figure that cannot be read", job.name()))?;
    }
    println!("{report}");
    if report.failed > 0 {
        bail!("{} of {} runs failed", report.failed, report.failed + report.passed);
    }
    Ok(())
}

/// What all runs came to.
#[derive(Default)]
struct Report {
    passed: usize,
    failed: usize,
    /// By test: seconds of the runs that passed, and how many failed.
    tests: BTreeMap<String, (Vec<f64>, usize)>,
    /// By what is measured and its unit: all values, of runs that failed too.
    figures: BTreeMap<(String, String), Vec<f64>>,
}

impl Report {
    fn add(&mut self, name: &str, ended: &Ended) -> Result<()> {
        let (seconds, failed) = self.tests.entry(name.to_owned()).or_default();
        if ended.is_good() {
            self.passed += 1;
            seconds.push(ended.counts.seconds);
        } else {
            self.failed += 1;
            *failed += 1;
        }
        for line in ended.output.lines() {
            if let Some((what, value, unit)) = figure(line)? {
                self.figures.entry((what, unit)).or_default().push(value);
            }
        }
        Ok(())
    }
}

/// The figure that a line tells: what, how much, and in what unit; nothing of other lines.
fn figure(line: &str) -> Result<Option<(String, f64, String)>> {
    // The harness writes "test NAME ... " first, on the same line as what the test prints first.
    let Some((_, told)) = line.split_once(MEASURED) else { return Ok(None) };
    let (rest, unit) = told.trim_end().rsplit_once(' ').with_context(|| format!("no unit in {line:?}"))?;
    let (what, value) = rest.rsplit_once(' ').with_context(|| format!("no value in {line:?}"))?;
    let value = value.parse().ok().filter(|value: &f64| value.is_finite());
    let value = value.with_context(|| format!("no number in {line:?}"))?;
    Ok(Some((what.to_owned(), value, unit.to_owned())))
}

/// Median, lowest and highest; of nothing there is none.
fn spread(values: &[f64]) -> Option<[f64; 3]> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (lowest, highest) = (*sorted.first()?, *sorted.last()?);
    let middle = sorted.len() / 2;
    let median = if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
    Some([median, lowest, highest])
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |values: &[f64]| match spread(values) {
            Some(three) => three.map(|value| format!("{value:.3}")),
            None => [const { String::new() }; 3],
        };
        let mut tests = table(["test", "passed", "failed", "median s", "lowest s", "highest s"]);
        for (name, (seconds, failed)) in &self.tests {
            let counts = [name.clone(), seconds.len().to_string(), failed.to_string()];
            tests.add_row(counts.into_iter().chain(shown(seconds)));
        }
        writeln!(f, "{}", aligned(tests, 1))?;
        if !self.figures.is_empty() {
            let mut figures = table(["measured", "unit", "values", "median", "lowest", "highest"]);
            for ((what, unit), values) in &self.figures {
                let named = [what.clone(), unit.clone(), values.len().to_string()];
                figures.add_row(named.into_iter().chain(shown(values)));
            }
            writeln!(f, "{}", aligned(figures, 2))?;
        }
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

fn table(header: [&str; 6]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(header);
    table
}

/// Numbers stand right, from this column on.
fn aligned(mut table: Table, numbers: usize) -> Table {
    table.column_iter_mut().skip(numbers).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

#[cfg(test)]
mod tests;
