//! `cargo xtask install`: the release build into a prefix, also under the predecessor's name.
//!
//! Copies `dist/` files where the checkout has them. Each file is put in place by a rename, so that a running
//! controller keeps its binary.

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
}

pub(crate) fn run(args: &Args) -> Result<()> {
    build::weave_ctl(true)?;
    let bin = args.prefix.join("bin");
    fs::create_dir_all(&bin).with_context(|| format!("cannot make {}", bin.display()))?;
    let binary = bin.join("weave-ctl");
    replace(&sh::target("release/weave-ctl"), &binary)?;
    link(Path::new("weave-ctl"), &bin.join("weave"))?;
    println!("installed {} and {}", binary.display(), bin.join("weave").display());
    Ok(())
}

fn replace(from: &Path, to: &Path) -> Result<()> {
    let fresh = to.with_extension("new");
    fs::copy(from, &fresh).with_context(|| format!("cannot copy {} to {}", from.display(), fresh.display()))?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))
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
