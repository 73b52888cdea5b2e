//! Recipe 1: the pinned compiler's own sources (`rust-src`) and its own LLVM. No LLVM of the system is needed.
//!
//! Works for any compiler that has its sources and a shared libLLVM of the right number in its sysroot; only the
//! sources are asked of rustup, and only when they are missing.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::{LLVM, Toolchain, folder, install_linker};
use crate::sh;

pub(super) fn make() -> Result<Toolchain> {
    let sysroot = sysroot()?;
    let (cargo, rustc) = (sysroot.join("bin/cargo"), sysroot.join("bin/rustc"));
    let src = sysroot.join("lib/rustlib/src/rust/library");
    let llvm = shared_llvm(&sysroot.join("lib"))?;
    if !src.join("core/Cargo.toml").is_file() {
        println!("BPF toolchain: asking rustup for rust-src");
        sh::run(sh::plain(sh::command("rustup").args(["component", "add", "rust-src"])))?;
    }
    println!("BPF toolchain: taking the rustup recipe ({})", sysroot.display());
    let prefix = folder().join("llvm");
    let link = prefix.join("lib/libLLVM.so");
    fs::create_dir_all(prefix.join("lib")).with_context(|| format!("cannot make {}", prefix.display()))?;
    if fs::symlink_metadata(&link).is_ok() {
        fs::remove_file(&link).with_context(|| format!("cannot replace {}", link.display()))?;
    }
    symlink(&llvm, &link).with_context(|| format!("cannot make {}", link.display()))?;
    let linker = install_linker(&cargo, &rustc, &prefix, &sysroot.join("lib"))?;
    Ok(Toolchain { recipe: "rustup".to_owned(), cargo, rustc, src, linker })
}

/// Adds the components that `cargo xtask check` runs, where they are missing and rustup can give them.
pub(super) fn components() -> Result<()> {
    let sysroot = sysroot()?;
    let wanted = [("clippy", "bin/cargo-clippy"), ("rustfmt", "bin/cargo-fmt")];
    let missing: Vec<&str> =
        wanted.iter().filter(|(_, file)| !sysroot.join(file).is_file()).map(|(component, _)| *component).collect();
    if missing.is_empty() || sh::which("rustup").is_none() {
        return Ok(());
    }
    println!("compiler: asking rustup for {}", missing.join(" and "));
    sh::run(sh::plain(sh::command("rustup").args(["component", "add"]).args(missing)))
}

fn sysroot() -> Result<PathBuf> {
    Ok(PathBuf::from(sh::output(sh::plain(sh::command("rustc").args(["--print", "sysroot"])))?))
}

/// The compiler's libLLVM: `libLLVM.so.22.1-rust-1.95.0-stable` and the like.
fn shared_llvm(lib: &Path) -> Result<PathBuf> {
    let wanted = format!("libLLVM.so.{LLVM}");
    let entries = fs::read_dir(lib).with_context(|| format!("cannot read {}", lib.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", lib.display()))?;
        if entry.file_name().to_string_lossy().starts_with(&wanted) {
            return Ok(entry.path());
        }
    }
    bail!("{} has no {wanted}", lib.display())
}
