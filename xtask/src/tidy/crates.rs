//! Rule `crates`: dependencies between the crates of the workspace, and the lints that each has to take over.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Finding, Source};

/// A crate, and what it may depend on of [`WATCHED`]; all others are free.
const ARROWS: [(&str, &[&str]); 5] = [
    ("weave-common", &[]),
    ("weave-ebpf", &["weave-common", "aya-ebpf"]),
    ("weave-ctl", &["weave-common"]),
    ("weave-tests", &["weave-common", "weave-ctl", "weave-ebpf"]),
    ("xtask", &[]),
];
const WATCHED: [&str; 6] = ["weave-common", "weave-ebpf", "weave-ctl", "weave-tests", "xtask", "aya-ebpf"];
/// The one dependency of the crate that both sides of the kernel boundary share.
const COMMON: &str = "bytemuck";

/// `[lints] workspace = true`.
pub(super) fn manifest(source: &Source) -> Vec<Finding> {
    let mut lines = source.text.lines().map(str::trim).filter(|line| !line.is_empty());
    let is_workspace = source.path == "Cargo.toml";
    let has_lints = lines.any(|line| line == "[lints]") && lines.next() == Some("workspace = true");
    if is_workspace || has_lints {
        Vec::new()
    } else {
        vec![finding(&source.path, "has no `[lints] workspace = true`")]
    }
}

/// `metadata` is what `cargo metadata --no-deps` prints.
pub(super) fn graph(metadata: &str) -> Result<Vec<Finding>> {
    let metadata: Value = serde_json::from_str(metadata).context("cargo metadata printed no JSON")?;
    let packages = metadata["packages"].as_array().context("cargo metadata printed no packages")?;
    let mut findings = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, may)) = ARROWS.iter().find(|(room, _)| *room == name) else {
            findings.push(finding(name, "is not a room: add it to xtask/src/tidy/crates.rs with its arrows"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let on = dependency["name"].as_str().unwrap_or_default();
            let is_alien = name == "weave-common" && on != COMMON && dependency["kind"].is_null();
            if is_alien || (WATCHED.contains(&on) && !may.contains(&on)) {
                findings.push(finding(name, &format!("must not depend on `{on}`")));
            }
        }
    }
    Ok(findings)
}

fn finding(place: &str, message: &str) -> Finding {
    Finding { rule: "crates", place: place.to_owned(), item: String::new(), message: message.to_owned() }
}
