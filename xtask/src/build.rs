//! `cargo xtask build`: weave-ctl with the eBPF programs embedded.
//!
//! The programs themselves are compiled by `weave-ctl/build.rs`, so that a plain `cargo build` is the same build.

use anyhow::Result;

use crate::{setup, sh};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Optimised, as it is installed
    #[arg(long)]
    release: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    weave_ctl(args.release)?;
    let profile = if args.release { "release" } else { "debug" };
    println!("built target/{profile}/weave-ctl");
    Ok(())
}

/// Builds the binary; other verbs start from here.
pub(crate) fn weave_ctl(release: bool) -> Result<()> {
    setup::require()?;
    let mut build = sh::cargo();
    build.args(["build", "--package", "weave-ctl"]);
    if release {
        build.arg("--release");
    }
    sh::run(&mut build)
}
