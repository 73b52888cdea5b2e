//! `cargo xtask demo`: the main job, from nothing to containers that talk.
//!
//! Sets up and builds, then becomes the demo itself (`tests/src/bin/demo.rs`), which makes three hosts as network
//! namespaces and removes them at the end, on failure and on Ctrl-C.

use std::os::unix::process::CommandExt as _;

use anyhow::{Context as _, Result, ensure};

use crate::{build, setup, sh};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave the hosts standing, and say how to enter them
    #[arg(long)]
    keep: bool,
    /// Remove what an earlier run with --keep left standing
    #[arg(long, conflicts_with = "keep")]
    clean: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    ensure!(sh::is_root(), "the demo makes network namespaces and loads eBPF programs: run it as root");
    setup::run(&setup::Args::default())?;
    build::programs(&["weave-ctl", "demo"])?;
    let built = sh::target("debug");
    let mut demo = sh::command(built.join("demo"));
    demo.arg("--binary").arg(built.join("weave-ctl"));
    for (flag, given) in [("--keep", args.keep), ("--clean", args.clean)] {
        if given {
            demo.arg(flag);
        }
    }
    // Becoming the demo, rather than waiting for it, leaves one process to hear Ctrl-C.
    Err(demo.exec()).context("cannot start the demo")
}
