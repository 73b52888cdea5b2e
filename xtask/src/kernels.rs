//! `cargo xtask kernels`: the programs on other kernels, in virtual machines.
//!
//! For each family in [`FAMILIES`] Debian's newest cloud kernel is fetched into `target/kernels`, booted under QEMU's own
//! emulation (no KVM needed) with an initramfs of our own, and made to load every program, run the packet tables and a
//! live network of two controllers. The table shows what passed; anything else is a failure.
//!
//! Bounds: a machine has [`vm::LIMIT`] to end. All run at once, each with one emulated core and 1 GiB of memory.
//! Does not: test speed or races: the machine has one emulated core.

mod initramfs;
mod live;
mod package;
mod report;
mod vm;

use std::{
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context as _, Result, bail};
use comfy_table::{Table, presets::ASCII_MARKDOWN};
use package::Kernel;
use report::Report;

use crate::{build, setup, sh};

/// Kernel families that must work: Debian 12's own, and the one of Debian 13.
const FAMILIES: [&str; 2] = ["6.1", "6.12"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this family; may be given again
    #[arg(long)]
    family: Vec<String>,
    /// Build and boot, and leave out the live network
    #[arg(long)]
    no_live: bool,
}

/// What goes into a machine.
pub(crate) struct Payload {
    pub(crate) guest: PathBuf,
    pub(crate) weave_ctl: PathBuf,
    pub(crate) object: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    setup::require()?;
    let families = if args.family.is_empty() { FAMILIES.map(str::to_owned).to_vec() } else { args.family.clone() };
    build::programs(&["weave-ctl", "guest"])?;
    let payload = Payload {
        guest: sh::target("debug/guest"),
        weave_ctl: sh::target("debug/weave-ctl"),
        object: sh::target("bpf/bpfel-unknown-none/release/weave-ebpf"),
    };
    // One after the other: they ask apt.
    let machines: Vec<_> = families.iter().map(|family| (family, prepare(family, &payload))).collect();
    let reports: Vec<Report> = thread::scope(|scope| {
        let mut running = Vec::new();
        for (family, machine) in machines {
            running.push(scope.spawn(move || booted(family, machine, args.no_live)));
        }
        let ended = |thread: thread::ScopedJoinHandle<'_, Report>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        running.into_iter().map(ended).collect()
    });
    println!("{}", table(&reports));
    let bad: Vec<&str> = reports.iter().filter(|report| !report.is_good(!args.no_live)).map(Report::kernel).collect();
    if !bad.is_empty() {
        bail!("kernels: failed on {}", bad.join(", "));
    }
    println!("kernels: all passed");
    Ok(())
}

/// The newest kernel of a family, and its initramfs.
fn prepare(family: &str, payload: &Payload) -> Result<(Kernel, PathBuf)> {
    let kernel = package::newest(family)?;
    let image = initramfs::build(&kernel, payload).with_context(|| format!("{}: no initramfs", kernel.version))?;
    Ok((kernel, image))
}

/// What came of a machine; why there is none is a report too.
fn booted(family: &str, machine: Result<(Kernel, PathBuf)>, no_live: bool) -> Report {
    machine.and_then(|(kernel, image)| boot(&kernel, &image, no_live)).unwrap_or_else(|error| {
        eprintln!("xtask: {family}: {error:#}");
        Report::not_run(family, &error)
    })
}

fn boot(kernel: &Kernel, image: &Path, no_live: bool) -> Result<Report> {
    println!("kernels: booting {}", kernel.version);
    let report = vm::run(kernel, image, no_live)?;
    if !report.is_good(!no_live) {
        for line in report.complaints() {
            eprintln!("{}: {line}", kernel.version);
        }
        eprintln!("{}: all that the machine said is in {}", kernel.version, vm::log(kernel).display());
    }
    Ok(report)
}

fn table(reports: &[Report]) -> String {
    let mut drawing = Table::new();
    drawing.load_style(ASCII_MARKDOWN);
    drawing.set_header([
        "kernel",
        "programs loaded (verified instructions)",
        "packet tests",
        "live network",
        "seconds",
    ]);
    for report in reports {
        drawing.add_row(report.row());
    }
    drawing.to_string()
}

#[cfg(test)]
mod tests;
