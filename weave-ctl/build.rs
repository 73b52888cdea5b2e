//! Compiles the kernel programs (`weave-ebpf`) and hands the path of the object over as `WEAVE_BPF_OBJECT`.
//!
//! Uses the toolchain that `cargo xtask setup` recorded in `target/bpf-toolchain/env`, in a target folder of its own, so
//! that it never waits for a lock which the outer cargo holds. What the outer cargo was told (clippy, doc, coverage,
//! flags for the host) must not reach the inner one.
//!
//! Does not: install anything. Without the toolchain the build stops with one sentence.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

/// The target of the programs; the running kernels of x86-64 and arm64 are little-endian.
const TARGET: &str = "bpfel-unknown-none";
/// `CARGO_` variables that say where things are and how to fetch, not how to compile.
const KEPT: [&str; 8] = [
    "CARGO_HOME",
    "CARGO_HTTP_",
    "CARGO_MAKEFLAGS",
    "CARGO_NET_",
    "CARGO_REGISTR",
    "CARGO_SOURCE_",
    "CARGO_TERM_",
    "CARGO_UNSTABLE_",
];

fn main() -> ExitCode {
    match build() {
        Ok(object) => {
            println!("cargo::rustc-env=WEAVE_BPF_OBJECT={}", object.display());
            ExitCode::SUCCESS
        }
        // The error alone fails the build; the exit status decides whether cargo shows all that we and the compiler printed.
        Err(Failure::NotReady) => {
            println!("cargo::error=the BPF toolchain is not ready: run `cargo xtask setup`");
            ExitCode::SUCCESS
        }
        Err(Failure::Broken(sentence)) => {
            println!("cargo::error={sentence}");
            ExitCode::FAILURE
        }
    }
}

/// Why there is no object.
enum Failure {
    /// Nothing is wrong with the checkout.
    NotReady,
    /// What happened.
    Broken(String),
}

fn build() -> Result<PathBuf, Failure> {
    let manifest = variable("CARGO_MANIFEST_DIR")?;
    let root = manifest.parent().unwrap_or(&manifest).to_path_buf();
    let record = root.join("target/bpf-toolchain/env");
    for watched in ["weave-ebpf", "weave-common", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(watched).display());
    }
    println!("cargo::rerun-if-changed={}", record.display());
    let toolchain = Toolchain::read(&record).ok_or(Failure::NotReady)?;
    let built = compile(&root, &toolchain)?;
    let object = variable("OUT_DIR")?.join("weave-ebpf.o");
    copy_if_changed(&built, &object)
        .map_err(|error| Failure::Broken(format!("cannot copy the BPF object: {error}")))?;
    Ok(object)
}

/// What `cargo xtask setup` recorded.
struct Toolchain {
    cargo: PathBuf,
    rustc: PathBuf,
    linker: PathBuf,
}

impl Toolchain {
    /// Nothing when there is no record, or when what it names is gone.
    fn read(record: &Path) -> Option<Self> {
        let text = fs::read_to_string(record).ok()?;
        let path = |key: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            value.map(PathBuf::from).filter(|path| path.exists())
        };
        path("SRC")?;
        Some(Self { cargo: path("CARGO")?, rustc: path("RUSTC")?, linker: path("LINKER")? })
    }
}

/// Runs the inner cargo; gives the linked object.
fn compile(root: &Path, toolchain: &Toolchain) -> Result<PathBuf, Failure> {
    let folder = root.join("target/bpf");
    let flags = [
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        // Copies in line rather than calls of a function that no other loader than aya resolves.
        "-Clink-arg=--disable-expand-memcpy-in-order".to_owned(),
        format!("-Clinker={}", toolchain.linker.display()),
        format!("--remap-path-prefix={}=.", root.display()),
    ];
    let mut cargo = Command::new(&toolchain.cargo);
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let of_compiling = text.starts_with("CARGO") || text.starts_with("RUSTC") || text.starts_with("RUSTDOC");
        if (of_compiling || text == "RUSTFLAGS") && !KEPT.iter().any(|kept| text.starts_with(kept)) {
            cargo.env_remove(&name);
        }
    }
    cargo
        .current_dir(root)
        .args(["build", "--locked", "--release", "--package", "weave-ebpf", "--bin", "weave-ebpf"])
        .args(["--target", TARGET, "-Zbuild-std=core"])
        .arg("--target-dir")
        .arg(&folder)
        .env("RUSTC", &toolchain.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    let status = cargo
        .status()
        .map_err(|error| Failure::Broken(format!("cannot start {}: {error}", toolchain.cargo.display())))?;
    if !status.success() {
        return Err(Failure::Broken("the programs in weave-ebpf do not build for the kernel: see below".to_owned()));
    }
    Ok(folder.join(TARGET).join("release/weave-ebpf"))
}

/// A copy of its own for each build, so that a parallel build with other flags cannot change what this one embeds; left
/// alone when equal, so that nothing is compiled again for it.
fn copy_if_changed(from: &Path, to: &Path) -> std::io::Result<()> {
    let fresh = fs::read(from)?;
    if fs::read(to).is_ok_and(|old| old == fresh) {
        return Ok(());
    }
    fs::write(to, fresh)
}

fn variable(name: &str) -> Result<PathBuf, Failure> {
    env::var_os(name).map(PathBuf::from).ok_or_else(|| Failure::Broken(format!("cargo did not set {name}")))
}
