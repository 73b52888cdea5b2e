//! `cargo xtask test`: every layer of tests that exists, timed and counted.
//!
//! One cargo invocation builds all test binaries and the controller; then each binary runs by itself. What needs root is
//! marked `#[ignore = "needs root"]` and runs afterwards, one test at a time, since such tests share the kernel.
//!
//! Bounds: a binary has [`LIMIT`] to end. Output of tests is shown as it comes.
//! Does not: retry, or let a skipped test pass for one that ran: the table shows both, and without root the verb fails
//! unless told so.

mod artifacts;
mod runner;
mod table;

use std::time::Duration;

use anyhow::{Result, bail};
use artifacts::Binary;
use runner::Outcome;
use table::{Row, Table};

use crate::{setup, sh};

/// After this long a test binary is stopped and counts as failed.
const LIMIT: Duration = Duration::from_secs(900);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave out what needs root, and do not fail for it
    #[arg(long)]
    unprivileged: bool,
    /// Virtual time budget of the World's seeds, in seconds of real time; the tests' own default otherwise
    #[arg(long, env = "WEAVE_SIM_SECONDS")]
    sim_seconds: Option<u32>,
    /// Only binaries whose name contains this
    #[arg(long)]
    only: Option<String>,
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
    let privileged = sh::is_root() && !args.unprivileged;
    let mut binaries = artifacts::build()?;
    if let Some(only) = &args.only {
        binaries.retain(|binary| binary.name.contains(only.as_str()));
    }
    let mut table = Table::default();
    for binary in &binaries {
        let outcome = runner::run(binary, args.sim_seconds, runner::Share::Ordinary)?;
        table.add(row(binary, ""), outcome);
    }
    if args.only.is_none() {
        table.add(Row { layer: "L0".to_owned(), name: "examples in the documentation".to_owned() }, runner::doc()?);
    }
    for binary in &binaries {
        if table.ignored(&row(binary, "")) == 0 {
            continue;
        }
        let outcome = if privileged {
            table.forget_ignored(&row(binary, ""));
            runner::run(binary, args.sim_seconds, runner::Share::Privileged)?
        } else {
            Outcome::default()
        };
        table.add(row(binary, ", as root"), outcome);
    }
    verdict(&table, privileged, args.unprivileged)
}

/// Prints the table; the line with the totals stands alone, for programs that read it.
fn verdict(table: &Table, privileged: bool, unprivileged: bool) -> Result<()> {
    let total = table.total();
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

/// The row of a binary.
fn row(binary: &Binary, suffix: &str) -> Row {
    let found = LAYERS.iter().find(|(_, _, starts)| {
        binary.is_suite
            && starts.iter().any(|start| binary.name == *start || binary.name.starts_with(&format!("{start}_")))
    });
    let (layer, title) = found.map_or(("L0", ""), |(layer, title, _)| (*layer, *title));
    let name = if title.is_empty() { binary.name.clone() } else { format!("{title}: {}", binary.name) };
    Row { layer: layer.to_owned(), name: format!("{name}{suffix}") }
}

#[cfg(test)]
mod tests;
