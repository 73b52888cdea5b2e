//! `cargo xtask sim`: the World by itself: many seeds, one seed with its log, or thousands of nodes.
//!
//! Builds the simulator, with the profile of the tests, then becomes it (`tests/src/bin/sim.rs`). Judges nothing but how
//! its words are put together.

use std::{
    os::unix::process::CommandExt as _,
    path::{PathBuf, absolute},
};

use anyhow::{Context as _, Result};

use crate::{build, setup, sh};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seeds to run, the last one not included; without, 300 fixed ones and then fresh ones (the first is printed, and
    /// WEAVE_SIM_SEED sets it)
    #[arg(long, value_name = "A..B")]
    seeds: Option<String>,
    /// Seconds for fresh seeds (60 unless told), or for those that are named
    #[arg(long)]
    seconds: Option<u64>,
    /// Hosts of each network, instead of a random number of them
    #[arg(long)]
    hosts: Option<u16>,
    /// Run one seed and write its log, a line an event
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "seconds"])]
    replay: Option<u64>,
    /// Log frames and probes too
    #[arg(long, requires = "replay")]
    frames: bool,
    /// Write the log to this file instead of the terminal
    #[arg(long, value_name = "FILE", requires = "replay")]
    log: Option<PathBuf>,
    /// Measure a network of this many nodes: idle, a join, a leave, a cut and its healing
    #[arg(long, value_name = "N", conflicts_with_all = ["seeds", "seconds", "hosts", "replay"])]
    scale: Option<u16>,
    /// Measure what this many entries of a hundred peers cost on the wire and in memory, and how long they take to be known
    #[arg(long, value_name = "N", conflicts_with_all = ["seeds", "seconds", "hosts", "replay", "scale"])]
    entries: Option<u32>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    setup::require()?;
    build::programs(&["sim"])?;
    let mut sim = sh::command(sh::target("debug/sim"));
    let mut option = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            sim.arg(name).arg(value);
        }
    };
    option("--seeds", args.seeds.clone());
    option("--seconds", args.seconds.map(|n| n.to_string()));
    option("--hosts", args.hosts.map(|n| n.to_string()));
    option("--replay", args.replay.map(|n| n.to_string()));
    option("--scale", args.scale.map(|n| n.to_string()));
    option("--entries", args.entries.map(|n| n.to_string()));
    if args.frames {
        sim.arg("--frames");
    }
    if let Some(file) = &args.log {
        sim.arg("--log").arg(absolute(file).context("find the file for the log")?);
    }
    // Becoming the simulator, rather than waiting for it, leaves one process to hear Ctrl-C.
    Err(sim.exec()).context("cannot start the simulator")
}
