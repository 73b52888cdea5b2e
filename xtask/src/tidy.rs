//! `cargo xtask tidy`: the rules about the sources that no compiler knows.
//!
//! A rule is a file: a function from what it looks at to [`Finding`]s, free of effects, so that the tests can feed it
//! bad input. [`exceptions`] names what may break a rule and why; one that excuses nothing is itself a finding.
//!
//! Does not: change files, or judge style (rustfmt and clippy do).

mod arrows;
mod crates;
mod cycles;
mod exceptions;
mod functions;
mod names;
mod readme;
mod size;
mod text;
mod tokens;

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use exceptions::{EXCEPTIONS, Exception};
use tokens::Code;

use crate::sh;

/// Rules by name; the README may name one as the guard of an invariant: `tidy: NAME`.
const RULES: [&str; 12] = [
    "arrows",
    "ascii",
    "crates",
    "cycles",
    "examples",
    "functions",
    "head",
    "names",
    "numbers",
    "place",
    "readme",
    "size",
];
/// Folders without sources.
const SKIPPED: [&str; 3] = ["target", ".git", "regressions"];
/// Kinds of files that are read.
const KINDS: [&str; 4] = ["rs", "md", "toml", "sh"];

#[derive(clap::Args)]
pub(crate) struct Args {}

/// A file of the checkout.
struct Source {
    /// Relative to the checkout's root.
    path: String,
    text: String,
}

impl Source {
    fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|kind| kind == "rs")
    }

    /// Holds tests only.
    fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/") || self.path.starts_with("tests/")
    }
}

/// A rule broken.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    rule: &'static str,
    /// `file` or `file:line`.
    place: String,
    /// What an exception names: a function, a path; may be empty.
    item: String,
    message: String,
}

pub(crate) fn run(_: &Args) -> Result<()> {
    let sources = sources(&sh::root())?;
    let metadata = sh::output(sh::cargo().args(["metadata", "--no-deps", "--format-version", "1", "--offline"]))?;
    let findings = excuse(all(&sources, &metadata)?, &EXCEPTIONS);
    for Finding { rule, place, message, .. } in &findings {
        eprintln!("{place}: {message} [{rule}]");
    }
    if !findings.is_empty() {
        bail!("tidy: {} findings", findings.len());
    }
    println!("tidy: {} files, nothing found", sources.len());
    println!("tidy: {} lines of proto outside ipam, election, endpoints and datapath", size::lines(&sources));
    Ok(())
}

/// Every rule over every file.
fn all(sources: &[Source], metadata: &str) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut tests = Vec::new();
    let mut modules = Vec::new();
    for source in sources {
        findings.extend(text::check(source));
        if source.path.ends_with("Cargo.toml") {
            findings.extend(crates::manifest(source));
        }
        if !source.is_rust() {
            continue;
        }
        let code = Code::parse(&source.text).with_context(|| format!("{} is not Rust", source.path))?;
        findings.extend(functions::check(source, &code));
        findings.extend(arrows::check(source, &code));
        modules.extend(cycles::module(source, &code));
        findings.extend(names::check(source, &code));
        if source.is_test() {
            tests.extend(code.functions.iter().map(|function| function.name.clone()));
        }
    }
    findings.extend(cycles::check(&modules));
    findings.extend(crates::graph(metadata)?);
    let readme = sources.iter().find(|source| source.path == "README.md").context("there is no README.md")?;
    findings.extend(readme::check(readme, &tests));
    Ok(findings)
}

/// Takes the excused findings out; adds one for each exception that excuses nothing.
fn excuse(findings: Vec<Finding>, exceptions: &[Exception]) -> Vec<Finding> {
    let excused = |finding: &Finding, exception: &Exception| {
        let file = finding.place.split(':').next().unwrap_or_default();
        finding.rule == exception.rule && file == exception.file && finding.item == exception.item
    };
    let stale = exceptions.iter().filter(|exception| !findings.iter().any(|finding| excused(finding, exception)));
    let mut left: Vec<Finding> = stale
        .map(|Exception { rule, file, item, .. }| Finding {
            rule,
            place: (*file).to_owned(),
            item: (*item).to_owned(),
            message: format!("the exception for `{item}` excuses nothing: remove it from xtask/src/tidy/exceptions.rs"),
        })
        .collect();
    left.extend(findings.into_iter().filter(|finding| !exceptions.iter().any(|exception| excused(finding, exception))));
    left
}

fn sources(root: &Path) -> Result<Vec<Source>> {
    let mut folders = vec![root.to_path_buf()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if !SKIPPED.contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|kind| KINDS.iter().any(|read| kind == *read)) {
                let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
                let path = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
                sources.push(Source { path, text });
            }
        }
    }
    sources.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(sources)
}

#[cfg(test)]
mod tests;
