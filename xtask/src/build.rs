//! `cargo xtask build`: weave-ctl with the eBPF programs embedded.
//!
//! The programs themselves are compiled by `weave-ctl/build.rs`, so that a plain `cargo build` is the same build.

use anyhow::Result;

use crate::{setup, sh};

/// A selection with which dependencies have the features that tests need, so that what was compiled for one verb serves
/// all: cargo joins features over the selected packages, those of dependencies for tests only where tests or examples are
/// asked for. There are no examples.
pub(crate) const AS_TESTS: [&str; 2] = ["--workspace", "--examples"];

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
    if release {
        return sh::run(sh::cargo().args(["build", "--package", "weave-ctl", "--release"]));
    }
    programs(&["weave-ctl"])
}

/// Builds programs of the workspace as the tests are built.
pub(crate) fn programs(names: &[&str]) -> Result<()> {
    let bins = names.iter().flat_map(|name| ["--bin", name]);
    sh::run(sh::cargo().arg("build").args(AS_TESTS).args(bins))
}
