//! Rules `size`, `head`, `ascii`, `place`, `examples`: what can be said of a file without parsing it.

use super::{Finding, Source};

/// Lines in a file of Rust.
const LIMIT: usize = 500;
/// Folders of one machine, which mean nothing on another. Built from parts, so that this file does not break the rule.
const MACHINE: [&str; 3] = [concat!("/", "home/"), concat!("/", "root/"), concat!("/", "work/")];
/// An unfinished thing has to say of what kind it is.
const UNFINISHED: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];
const KINDS: [&str; 3] = ["-correctness", "-security", "-cleanup"];

pub(super) fn check(source: &Source) -> Vec<Finding> {
    let finding = |rule, line: usize, message: String| {
        let place = if line == 0 { source.path.clone() } else { format!("{}:{line}", source.path) };
        Finding { rule, place, item: String::new(), message }
    };
    let mut findings = Vec::new();
    if source.is_rust() {
        let lines = source.text.lines().count();
        if lines > LIMIT {
            findings.push(finding("size", 0, format!("{lines} lines; at most {LIMIT}")));
        }
        let head = source.text.lines().next().unwrap_or_default().strip_prefix("//!");
        if head.is_none_or(|words| words.trim().len() < 5) {
            findings.push(finding("head", 1, "starts without a `//!` head that says what it is for".to_owned()));
        }
    }
    let mut is_block = false;
    for (number, line) in (1..).zip(source.text.lines()) {
        if let Some(kind) = fence(line).filter(|_| source.is_rust()) {
            is_block = !is_block;
            if is_block && kind != "text" {
                let message = "an example in the documentation is not run: write a test, or mark the block as text";
                findings.push(finding("examples", number, message.to_owned()));
            }
        }
        if let Some(strange) = line.chars().find(|char| !char.is_ascii()) {
            findings.push(finding("ascii", number, format!("`{strange}` is not ASCII")));
        }
        if let Some(folder) = MACHINE.iter().find(|folder| line.contains(**folder)) {
            findings.push(finding("place", number, format!("`{folder}` is a folder of one machine")));
        }
        if has_date(line) {
            findings.push(finding("place", number, "a date: say what holds, not since when".to_owned()));
        }
        for word in UNFINISHED {
            let mut after = line.split(word).skip(1);
            if after.any(|rest| !KINDS.iter().any(|kind| rest.starts_with(kind))) {
                findings.push(finding("place", number, format!("`{word}` without a kind ({})", KINDS.join(", "))));
            }
        }
    }
    findings
}

/// What follows the marks that begin or end a block in a documentation comment.
fn fence(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let doc = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"))?;
    doc.trim().strip_prefix("```")
}

/// `2xxx-xx-xx`.
fn has_date(line: &str) -> bool {
    line.as_bytes().windows(10).any(|window| {
        window[0] == b'2'
            && window.iter().enumerate().all(|(at, byte)| match at {
                4 | 7 => *byte == b'-',
                _ => byte.is_ascii_digit(),
            })
    })
}
