//! Debian's kernel packages: which is the newest of a family, and its files.
//!
//! Kept in `target/kernels/VERSION`; a package is fetched once. A folder counts only with its mark, which is written
//! last, so that an interrupted unpacking is done again.

use std::{
    cmp::Ordering,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::sh;

/// An unpacked kernel.
pub(super) struct Kernel {
    /// As `uname -r` prints it: `6.1.0-56-cloud-amd64`.
    pub(super) version: String,
    /// Holds `boot/` and `lib/modules/`.
    pub(super) folder: PathBuf,
}

impl Kernel {
    pub(super) fn image(&self) -> PathBuf {
        self.folder.join("boot").join(format!("vmlinuz-{}", self.version))
    }
}

/// Fetches and unpacks the newest kernel of a family.
pub(super) fn newest(family: &str) -> Result<Kernel> {
    for tool in ["apt-cache", "apt-get", "dpkg", "depmod", "modprobe"] {
        sh::which(tool).with_context(|| format!("`{tool}` is missing: kernels come from Debian's packages"))?;
    }
    let pattern = format!("^linux-image-{}[.].*-cloud-amd64$", family.replace('.', "[.]"));
    let found = sh::output(sh::command("apt-cache").args(["search", "--names-only", &pattern]))?;
    let package = pick(&found, family)
        .with_context(|| format!("apt knows no cloud kernel of the family {family}: run `apt-get update` as root"))?;
    let version = package.trim_start_matches("linux-image-").to_owned();
    let folder = sh::target("kernels").join(&version);
    let mark = folder.join("complete");
    if !mark.is_file() {
        fetch(&package, &folder, &version)?;
        fs::write(&mark, "").with_context(|| format!("cannot write {}", mark.display()))?;
    }
    Ok(Kernel { version, folder })
}

fn fetch(package: &str, folder: &Path, version: &str) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    sh::run(sh::command("apt-get").args(["download", "--quiet", package]).current_dir(folder))
        .context("the kernel cannot be fetched: run `apt-get update` as root and try again")?;
    let files = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let deb = files.flatten().map(|entry| entry.path()).find(|path| path.extension().is_some_and(|kind| kind == "deb"));
    let deb = deb.context("apt-get download left no package")?;
    sh::run(sh::command("dpkg").arg("-x").args([&deb, folder]))?;
    fs::remove_file(&deb).with_context(|| format!("cannot remove {}", deb.display()))?;
    // Newer packages keep modules where /lib is a link to.
    if !folder.join("lib").exists() && folder.join("usr/lib").exists() {
        std::os::unix::fs::symlink("usr/lib", folder.join("lib")).context("cannot link lib")?;
    }
    let depmod = sh::which("depmod").context("`depmod` is missing")?;
    sh::run(sh::command(depmod).arg("-b").arg(folder).arg(version))
}

/// The newest package of a family in what `apt-cache search` prints.
pub(super) fn pick(found: &str, family: &str) -> Option<String> {
    let start = format!("linux-image-{family}.");
    let names = found.lines().filter_map(|line| line.split_whitespace().next());
    let candidates = names.filter(|name| name.starts_with(&start) && name.ends_with("-cloud-amd64"));
    candidates.max_by(|one, other| compare(one, other)).map(str::to_owned)
}

/// By numbers, as they come.
fn compare(one: &str, other: &str) -> Ordering {
    let numbers = |name: &str| -> Vec<u64> {
        name.split(|char: char| !char.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
    };
    numbers(one).cmp(&numbers(other))
}

/// The files of these modules and of all they need, in the order in which they have to be loaded.
pub(super) fn modules(kernel: &Kernel, names: &[&str]) -> Result<Vec<PathBuf>> {
    let modprobe = sh::which("modprobe").context("`modprobe` is missing")?;
    let mut files = Vec::new();
    for name in names {
        let mut command = sh::command(&modprobe);
        command.arg("-d").arg(&kernel.folder).args(["-S", &kernel.version, "--show-depends", name]);
        for file in needed(&sh::output(&mut command)?)? {
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    Ok(files)
}

/// `insmod FILE [options]` and `builtin NAME`.
pub(super) fn needed(shown: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for line in shown.lines() {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["insmod", file, ..] => files.push(file.into()),
            ["builtin", ..] | [] => {}
            _ => bail!("modprobe printed `{line}`, which is not understood"),
        }
    }
    Ok(files)
}
