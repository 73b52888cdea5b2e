//! `cargo xtask load`: the programs on a device, for those who work on them.
//!
//! Loads and attaches them as a controller would, pinned under a folder of their own, and shows with bpftool what the
//! kernel holds. `--unload` takes everything under that folder away again.
//!
//! Does not: fill the maps; without a controller the programs pass what they see.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::{build, setup, sh};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The device that packets from peers come in by
    #[arg(long, required_unless_present = "unload")]
    dev: Option<String>,
    /// Where maps and links are pinned, on a BPF file system
    #[arg(long, default_value = "/sys/fs/bpf/weave-load")]
    bpf_dir: PathBuf,
    /// Detach and remove what an earlier load left
    #[arg(long)]
    unload: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    setup::require()?;
    if !sh::is_root() {
        bail!("loading programs needs root");
    }
    build::programs(&["load"])?;
    let mut load = sh::command(sh::target("debug/load"));
    load.arg(&args.bpf_dir);
    match &args.dev {
        Some(device) if !args.unload => {
            sh::run(load.arg(device))?;
            show(device, &args.bpf_dir)
        }
        _ => sh::run(&mut load),
    }
}

/// What the kernel holds now. A bpftool older than TCX does not see its links; the pins show them.
fn show(device: &str, bpf_dir: &Path) -> Result<()> {
    let bpftool = sh::which("bpftool").context("`bpftool` is missing: run `cargo xtask setup`")?;
    for what in ["prog", "map"] {
        let all = sh::output(sh::command(&bpftool).args([what, "show"]))?;
        println!("{}", ours(&all));
    }
    sh::run(sh::command(&bpftool).args(["net", "show", "dev", device]))?;
    sh::run(sh::command("find").arg(bpf_dir).args(["-type", "f"]))
}

/// The paragraphs that name something of ours: a line that starts with an id, and the indented ones after it.
fn ours(shown: &str) -> String {
    let mut lines = Vec::new();
    let mut is_ours = false;
    for line in shown.lines() {
        if !line.starts_with(char::is_whitespace) {
            is_ours = line.contains("name weave_");
        }
        if is_ours {
            lines.push(line);
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests;
