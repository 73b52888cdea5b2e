//! `cargo xtask install`: the release build into a prefix, also under the predecessor's name; with `--systemd` as a
//! service that starts on boot.
//!
//! Each file is put in place by a rename, so that a running controller keeps its binary.

mod systemd;

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{build, sh};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where bin/ is
    #[arg(long, default_value = "/usr/local")]
    prefix: PathBuf,
    /// Also install the unit of systemd, and an example of its settings where there are none
    #[arg(long)]
    systemd: bool,
    /// Root of the host or image that gets the files; the files take it for /
    #[arg(long, default_value = "/")]
    root: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let prefix = std::path::absolute(&args.prefix).context("the prefix cannot be used")?;
    // Refused before anything is built or put in place.
    let unit = args.systemd.then(|| systemd::unit(&prefix)).transpose()?;
    build::weave_ctl(true)?;
    let bin = below(&args.root, &prefix).join("bin");
    fs::create_dir_all(&bin).with_context(|| format!("cannot make {}", bin.display()))?;
    let binary = bin.join("weave-ctl");
    put(&read(&sh::target("release/weave-ctl"))?, &binary, 0o755)?;
    link(Path::new("weave-ctl"), &bin.join("weave"))?;
    println!("installed {} and {}", binary.display(), bin.join("weave").display());
    unit.map_or(Ok(()), |unit| systemd::install(&unit, &args.root))
}

/// Where an absolute path is below another root.
fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

/// Puts a file with this content in place, whole or not at all.
fn put(content: &[u8], to: &Path, mode: u32) -> Result<()> {
    // Beside it, with its whole name in front: the names of two files may differ in the extension alone.
    let mut fresh = to.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    fs::write(&fresh, content).with_context(|| format!("cannot write {}", fresh.display()))?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(mode))
        .and_then(|()| fs::rename(&fresh, to))
        .with_context(|| format!("cannot put {} in place", to.display()))
}

fn link(points_to: &Path, name: &Path) -> Result<()> {
    let fresh = name.with_extension("new");
    if fs::symlink_metadata(&fresh).is_ok() {
        fs::remove_file(&fresh).with_context(|| format!("cannot remove {}", fresh.display()))?;
    }
    symlink(points_to, &fresh)
        .and_then(|()| fs::rename(&fresh, name))
        .with_context(|| format!("cannot make {}", name.display()))
}

#[cfg(test)]
mod tests;
