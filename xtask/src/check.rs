//! `cargo xtask check`: everything that judges the sources without running them. What CI asks before the tests.
//!
//! All steps run, also after one that failed, so that one run shows everything.

use anyhow::{Result, bail};

use crate::{
    build::AS_TESTS,
    setup::{self, Toolchain},
    sh, tidy,
};

/// Programs with docs of their own. Those of the controller and of the kernel have the name of their library, which has
/// all there is to tell.
const PROGRAMS: [&str; 6] = ["bench", "demo", "guest", "load", "sim", "xtask"];

#[derive(clap::Args)]
pub(crate) struct Args {}

/// A step: what it is called, and what it does.
type Step<'a> = (&'static str, Box<dyn FnOnce() -> Result<()> + 'a>);

pub(crate) fn run(_: &Args) -> Result<()> {
    let toolchain = setup::require()?;
    let steps: [Step<'_>; 5] = [
        ("tidy", Box::new(|| tidy::run(&tidy::Args {}))),
        ("fmt", Box::new(|| sh::run(sh::cargo().args(["fmt", "--all", "--check"])))),
        ("clippy", Box::new(clippy)),
        ("clippy for the kernel", Box::new(|| clippy_bpf(&toolchain))),
        ("doc", Box::new(doc)),
    ];
    let mut failed = Vec::new();
    for (name, step) in steps {
        if let Err(error) = step() {
            eprintln!("xtask: {name}: {error:#}");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("check failed: {}", failed.join(", "));
    }
    println!("check: nothing found");
    Ok(())
}

fn clippy() -> Result<()> {
    sh::run(sh::cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

/// The programs as the kernel gets them. Debian's compiler comes without clippy; then only the host's view is checked.
fn clippy_bpf(toolchain: &Toolchain) -> Result<()> {
    if toolchain.recipe == "debian" {
        println!("clippy for the kernel: skipped, the compiler from Debian's packages has no clippy");
        return Ok(());
    }
    let mut clippy = sh::command(&toolchain.cargo);
    sh::plain(&mut clippy)
        .args(["clippy", "--release", "--package", "weave-ebpf"])
        .args(["--target", "bpfel-unknown-none", "-Zbuild-std=core", "--target-dir"])
        .arg(sh::target("bpf-check"))
        .args(["--", "-D", "warnings"])
        .env("RUSTC", &toolchain.rustc)
        .env("RUSTC_BOOTSTRAP", "1");
    sh::run(&mut clippy)
}

fn doc() -> Result<()> {
    let mut doc = sh::cargo();
    doc.args(["doc", "--no-deps", "--document-private-items", "--lib"]).args(AS_TESTS);
    doc.args(PROGRAMS.iter().flat_map(|name| ["--bin", name])).env("RUSTDOCFLAGS", "-D warnings");
    sh::run(&mut doc)
}
