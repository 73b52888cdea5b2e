//! `cargo xtask bench`: the dataplane beside the bare underlay and the kernel's own overlay, and the controller's figures.
//!
//! Sets up, builds the controller as it is installed, then becomes the bench itself (`tests/src/bin/bench.rs`), which
//! removes what it made at the end, on failure and on Ctrl-C. Judges nothing.

use std::{
    os::unix::process::CommandExt as _,
    path::{PathBuf, absolute},
};

use anyhow::{Context as _, Result, ensure};

use crate::{build, setup, sh};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rounds; figures are medians over them
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Seconds of each TCP stream; other traffic takes half of it
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    seconds: u16,
    /// One round of one second: to see that everything can be measured, not for the figures
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,
    /// Another build of weave-ctl, measured in the same rounds and compared with in each column
    #[arg(long, value_name = "BINARY")]
    against: Option<PathBuf>,
    /// Writes every figure to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measures this part alone; may be given again
    #[arg(long, value_name = "PART", value_parser = ["dataplane", "programs", "names", "controller"])]
    only: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    ensure!(sh::is_root(), "the bench makes network namespaces and loads eBPF programs: run it as root");
    setup::run(&setup::Args::default())?;
    setup::servers()?;
    build::weave_ctl(true)?;
    build::programs(&["bench"])?;
    let (rounds, seconds) = if args.quick { (1, 1) } else { (args.rounds, args.seconds) };
    let mut bench = sh::command(sh::target("debug/bench"));
    bench.arg("--binary").arg(sh::target("release/weave-ctl"));
    bench.args(["--rounds", &rounds.to_string(), "--seconds", &seconds.to_string()]);
    if let Some(binary) = &args.against {
        ensure!(binary.is_file(), "there is no program {}: name a weave-ctl that was built before", binary.display());
        bench.arg("--against").arg(absolute(binary).context("find the program to compare with")?);
    }
    if let Some(file) = &args.json {
        bench.arg("--json").arg(absolute(file).context("find the file for JSON")?);
    }
    for part in &args.only {
        bench.args(["--only", part]);
    }
    // Becoming the bench, rather than waiting for it, leaves one process to hear Ctrl-C.
    Err(bench.exec()).context("cannot start the bench")
}
