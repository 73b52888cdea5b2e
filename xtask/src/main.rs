//! The project's own commands: `cargo xtask VERB`.
//!
//! A verb is a file: its flags are an `Args` struct, its work is `run(args)`. A new verb is a module, a variant of
//! [`Verb`] and an arm of the match in [`main`].
//!
//! Does not: depend on any other crate of the workspace, so that it builds before the BPF toolchain is there.

mod bench;
mod build;
mod check;
mod demo;
mod install;
mod kernels;
mod load;
mod setup;
mod sh;
mod sim;
mod soak;
mod suite;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Build, check, test and show weave-ctl")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Show the main job: three hosts, six containers, one overlay
    Demo(demo::Args),
    /// Make the BPF toolchain and the tools that tests and the demo run ready
    Setup(setup::Args),
    /// Build weave-ctl with the eBPF programs inside
    Build(build::Args),
    /// Install weave-ctl, also under the name weave
    Install(install::Args),
    /// Judge the sources: fmt, clippy, doc, tidy
    Check(check::Args),
    /// Run every layer of tests and count them
    Test(test::Args),
    /// Run chosen tests that need root many times: how often they pass, and what they measure
    Soak(soak::Args),
    /// Simulate networks in trouble, from seeds, or thousands of nodes
    Sim(sim::Args),
    /// Measure the dataplane beside the bare underlay and the kernel's own overlay, and the controller
    Bench(bench::Args),
    /// Load and try the programs on other kernels, in virtual machines
    Kernels(kernels::Args),
    /// Load, attach and pin the programs on a device, and show them
    Load(load::Args),
    /// Check the rules about the sources that no compiler knows
    Tidy(tidy::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Demo(args) => demo::run(&args),
        Verb::Setup(args) => setup::run(&args),
        Verb::Build(args) => build::run(&args),
        Verb::Install(args) => install::run(&args),
        Verb::Check(args) => check::run(&args),
        Verb::Test(args) => test::run(&args),
        Verb::Soak(args) => soak::run(&args),
        Verb::Sim(args) => sim::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Kernels(args) => kernels::run(&args),
        Verb::Load(args) => load::run(&args),
        Verb::Tidy(args) => tidy::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
