//! Recipe 2: Debian's own compiler with its sources, and Debian's LLVM. For where rustup cannot give `rust-src`.
//!
//! The packages are a set of one version; they are installed by apt when we are root, named otherwise.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{LLVM, Toolchain, install_linker, packages};
use crate::sh;

pub(super) fn make() -> Result<Toolchain> {
    println!("BPF toolchain: taking Debian's packages");
    let llvm_dev = format!("llvm-{LLVM}-dev");
    packages::install(&["rustc-web", "cargo-web", "rust-web-src", &llvm_dev])
        .context("the BPF toolchain cannot be made ready")?;
    let (cargo, rustc) = (PathBuf::from("/usr/bin/cargo"), PathBuf::from("/usr/bin/rustc"));
    let sysroot = PathBuf::from(sh::output(sh::plain(sh::command(&rustc).args(["--print", "sysroot"])))?);
    let src = sysroot.join("lib/rustlib/src/rust/library");
    let prefix = PathBuf::from(format!("/usr/lib/llvm-{LLVM}"));
    let linker = install_linker(&cargo, &rustc, Path::new(&prefix), &prefix.join("lib"))?;
    Ok(Toolchain { recipe: "debian".to_owned(), cargo, rustc, src, linker })
}
