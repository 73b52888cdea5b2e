//! `cargo xtask setup`: makes ready what the build and the tests need, and says what it chose.
//!
//! Writes `target/bpf-toolchain/` (bpf-linker, and `env`, which `weave-ctl/build.rs` reads); beside that it asks rustup
//! or apt for what is missing. Ready means: checked, by running the linker; then nothing is touched.
//!
//! Does not: change the pinned compiler, or anything outside the checkout but by rustup and apt.

mod debian;
mod packages;
mod rustup;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use crate::sh;

/// The release of bpf-linker that both recipes install; it links with LLVM [`LLVM`].
const LINKER_VERSION: &str = "0.13.0";
/// Major number of the LLVM in the pinned compiler and in Debian's.
const LLVM: &str = "22";

#[derive(Default, clap::Args)]
pub(crate) struct Args {
    /// Where compiler sources and LLVM come from; auto tries rustup first
    #[arg(long, value_enum, default_value_t = Recipe::Auto)]
    recipe: Recipe,
    /// Leave the tools that tests and the demo run alone
    #[arg(long)]
    no_packages: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Recipe {
    #[default]
    Auto,
    Rustup,
    Debian,
}

/// What `weave-ctl/build.rs` needs to know.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Toolchain {
    /// For people: which recipe made it.
    pub(crate) recipe: String,
    /// The cargo that builds the programs.
    pub(crate) cargo: PathBuf,
    /// Its compiler.
    pub(crate) rustc: PathBuf,
    /// The standard library's sources that belong to that compiler.
    pub(crate) src: PathBuf,
    /// bpf-linker.
    pub(crate) linker: PathBuf,
}

impl Toolchain {
    /// Reads what an earlier setup wrote.
    pub(crate) fn read(file: &Path) -> Option<Self> {
        let text = fs::read_to_string(file).ok()?;
        let get = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        Some(Self {
            recipe: get("RECIPE")?.to_owned(),
            cargo: get("CARGO")?.into(),
            rustc: get("RUSTC")?.into(),
            src: get("SRC")?.into(),
            linker: get("LINKER")?.into(),
        })
    }

    fn write(&self, file: &Path) -> Result<()> {
        let Self { recipe, cargo, rustc, src, linker } = self;
        let (cargo, rustc, src, linker) = (cargo.display(), rustc.display(), src.display(), linker.display());
        let text = format!("RECIPE={recipe}\nCARGO={cargo}\nRUSTC={rustc}\nSRC={src}\nLINKER={linker}\n");
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Runs the parts; says what does not work.
    fn verify(&self) -> Result<()> {
        if !self.src.join("core/Cargo.toml").is_file() {
            bail!("{} holds no sources of the standard library", self.src.display());
        }
        sh::output(sh::plain(sh::command(&self.cargo).arg("--version")))?;
        sh::output(sh::plain(sh::command(&self.rustc).arg("--version")))?;
        let version = sh::output(sh::command(&self.linker).arg("--version"))?;
        if !version.ends_with(LINKER_VERSION) {
            bail!("{} is `{version}`, not {LINKER_VERSION}", self.linker.display());
        }
        Ok(())
    }
}

/// Where everything of the BPF toolchain is kept.
fn folder() -> PathBuf {
    sh::target("bpf-toolchain")
}

/// The toolchain that setup recorded, if it still works.
pub(crate) fn ready() -> Option<Toolchain> {
    let toolchain = Toolchain::read(&folder().join("env"))?;
    toolchain.verify().is_ok().then_some(toolchain)
}

/// The recorded toolchain, or the sentence that tells what to do.
pub(crate) fn require() -> Result<Toolchain> {
    ready().context("the BPF toolchain is not ready: run `cargo xtask setup`")
}

pub(crate) fn run(args: &Args) -> Result<()> {
    toolchain(args.recipe)?;
    rustup::components().context("`cargo xtask check` will not run")?;
    if args.no_packages { Ok(()) } else { packages::have("tests and the demo", &packages::TOOLS) }
}

/// The name servers that `cargo xtask bench` compares with, and what asks them.
pub(crate) fn servers() -> Result<()> {
    packages::have("the bench", &packages::SERVERS)
}

fn toolchain(recipe: Recipe) -> Result<()> {
    if let Some(found) = ready().filter(|found| recipe == Recipe::Auto || found.recipe == recipe.name()) {
        println!("BPF toolchain: ready (recipe {}, {})", found.recipe, found.rustc.display());
        return Ok(());
    }
    fs::create_dir_all(folder()).with_context(|| format!("cannot make {}", folder().display()))?;
    let made = match recipe {
        Recipe::Rustup => rustup::make()?,
        Recipe::Debian => debian::make()?,
        Recipe::Auto => match rustup::make() {
            Ok(made) => made,
            Err(reason) => {
                println!("BPF toolchain: the rustup recipe does not work here ({reason:#}); taking Debian's packages");
                debian::make()?
            }
        },
    };
    made.verify().context("the BPF toolchain was installed but does not run")?;
    made.write(&folder().join("env"))?;
    println!("BPF toolchain: made ready (recipe {}, {})", made.recipe, made.rustc.display());
    Ok(())
}

impl Recipe {
    fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Rustup => "rustup",
            Self::Debian => "debian",
        }
    }
}

/// Builds bpf-linker against the LLVM at `llvm`, which it will load from `llvm_lib`, with `cargo` and `rustc`.
fn install_linker(cargo: &Path, rustc: &Path, llvm: &Path, llvm_lib: &Path) -> Result<PathBuf> {
    let linker = folder().join("bin/bpf-linker");
    println!("BPF toolchain: building bpf-linker {LINKER_VERSION} (about a minute)");
    // With its folder in PATH, cargo does not advise to put it there.
    let path =
        env::join_paths(env::split_paths(&env::var_os("PATH").unwrap_or_default()).chain([folder().join("bin")]))
            .context("PATH cannot be extended by a folder of the checkout")?;
    let mut install = sh::command(cargo);
    sh::plain(&mut install)
        .args(["install", "bpf-linker", "--version", LINKER_VERSION, "--locked", "--force"])
        .args(["--no-default-features", "--features", &format!("llvm-{LLVM}")])
        .arg("--root")
        .arg(folder())
        .arg("--target-dir")
        .arg(folder().join("build"))
        .env("PATH", path)
        .env("RUSTC", rustc)
        .env("LLVM_PREFIX", llvm)
        .env("CARGO_ENCODED_RUSTFLAGS", format!("-Clink-arg=-Wl,-rpath,{}", llvm_lib.display()));
    sh::run(&mut install)?;
    fs::remove_dir_all(folder().join("build")).context("cannot remove what the build of bpf-linker left")?;
    Ok(linker)
}

#[cfg(test)]
mod tests;
