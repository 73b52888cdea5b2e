//! Builds everything that tests run, and finds the test binaries in what cargo says.

use std::{path::PathBuf, process::Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{build, sh};

/// A test binary.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Binary {
    /// Of the target: a crate's name for unit tests, the file's for a suite.
    pub(crate) name: String,
    /// A file under `tests/` of its crate, not a crate's unit tests.
    pub(crate) is_suite: bool,
    pub(crate) executable: PathBuf,
    /// Where cargo would run it.
    pub(crate) folder: PathBuf,
}

/// The crate whose unit tests are the largest of all binaries, and run for seconds: they are compiled without
/// optimisation, which takes a quarter of the time.
const PLAIN: &str = "weave-ctl";

/// Builds; progress and errors of the compiler go to the terminal.
pub(crate) fn build() -> Result<Vec<Binary>> {
    let others = cargo(&["build", "--workspace", "--exclude", PLAIN, "--lib", "--bins", "--tests"])?;
    build::programs(&["weave-ctl"])?;
    let level = format!("profile.dev.package.{PLAIN}.opt-level=0");
    let plain = cargo(&["test", "--no-run", "--package", PLAIN, "--lib", "--config", &level])?;
    Ok(parse(&(others + &plain)))
}

/// What cargo tells of what it built, a message a line.
fn cargo(arguments: &[&str]) -> Result<String> {
    eprintln!("+ cargo {}", arguments.join(" "));
    let mut cargo = sh::cargo();
    cargo.args(arguments).arg("--message-format=json-render-diagnostics").stdin(Stdio::null()).stderr(Stdio::inherit());
    let out = cargo.output().context("cannot start cargo")?;
    if !out.status.success() {
        bail!("the tests do not build");
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Messages are one JSON object a line; what is not an artifact with a test harness is passed over.
pub(crate) fn parse(messages: &str) -> Vec<Binary> {
    let mut binaries: Vec<Binary> =
        messages.lines().filter_map(|line| binary(&serde_json::from_str(line).ok()?)).collect();
    binaries.sort_by(|one, other| (one.is_suite, &one.name).cmp(&(other.is_suite, &other.name)));
    binaries
}

fn binary(message: &Value) -> Option<Binary> {
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let kinds = message["target"]["kind"].as_array()?;
    let manifest = PathBuf::from(message["manifest_path"].as_str()?);
    Some(Binary {
        name: message["target"]["name"].as_str()?.to_owned(),
        is_suite: kinds.iter().any(|kind| kind == "test"),
        executable: message["executable"].as_str()?.into(),
        folder: manifest.parent()?.to_path_buf(),
    })
}
