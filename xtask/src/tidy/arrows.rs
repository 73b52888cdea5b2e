//! Rule `arrows`: which room may name which, and what the pure core may not name at all.
//!
//! A room is a folder or file of `weave-ctl/src`; its arrows are [`ROOMS`], some of them to a part of a room only. Rooms
//! inside `proto` meet only in `proto::node`. Arrows between crates are dependencies: see `crates`.

use super::{
    Finding, Source,
    tokens::{Code, Path},
};

/// A room, and the rooms, parts of rooms and workspace crates which it may name beside itself. `api` sends what the core
/// says in a status as it is: of `proto` it may name that vocabulary, and nothing that decides.
const ROOMS: [(&str, &[&str]); 7] = [
    ("main", &["cli", "api", "config", "shell"]),
    ("lib", &[]),
    ("cli", &["api", "config"]),
    ("api", &["proto::status"]),
    ("config", &["proto", "weave_common"]),
    ("shell", &["api", "config", "proto", "weave_common"]),
    ("proto", &["weave_common"]),
];
/// Crates of the workspace, as paths begin with them.
const CRATES: [&str; 4] = ["weave_common", "weave_ebpf", "weave_tests", "xtask"];
/// Rooms inside `proto`.
const INNER: [&str; 8] = ["datapath", "dns", "election", "ipam", "membership", "path", "session", "topology"];
/// What `proto` may not name: a path that begins so.
const EFFECTS: [&str; 18] = [
    "std::time::Instant",
    "std::time::SystemTime",
    "std::env",
    "std::fs",
    "std::io",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::os",
    "std::process",
    "std::thread",
    "std::collections::HashMap",
    "std::collections::HashSet",
    "std::collections::hash_map",
    "std::collections::hash_set",
    "rand::rng",
    "rand::random",
    "tokio",
];
/// Words that are effects wherever they come from.
const WORDS: [&str; 11] = [
    "HashMap",
    "HashSet",
    "OsRng",
    "SysRng",
    "SystemTime",
    "ThreadRng",
    "UdpSocket",
    "TcpStream",
    "async",
    "await",
    "getrandom",
];
const MACROS: [&str; 4] = ["println", "eprintln", "print", "eprint"];

pub(super) fn check(source: &Source, code: &Code) -> Vec<Finding> {
    let Some(below) = source.path.strip_prefix("weave-ctl/src/") else { return Vec::new() };
    let module = module(below);
    let Some((room, may)) = ROOMS.iter().find(|(room, _)| *room == module[0]) else {
        let message = format!("`{}` is not a room: add it to xtask/src/tidy/arrows.rs with its arrows", module[0]);
        return vec![Finding { rule: "arrows", place: source.path.clone(), item: String::new(), message }];
    };
    let mut findings = Vec::new();
    for path in &code.paths {
        let full = absolute(&module, path);
        let mut report = |message: String| {
            let (place, item) = (format!("{}:{}", source.path, path.line), full.join("::"));
            findings.push(Finding { rule: "arrows", place, item, message });
        };
        let written = full.strip_prefix(&["crate".to_owned()]).unwrap_or(&full).join("::");
        if let Some(named) = named_room(&full)
            && named != *room
            && !may.iter().any(|part| begins_with(&written, part))
            && *room != "lib"
        {
            report(format!("`{room}` must not name `{named}` (it may: {})", may.join(", ")));
        }
        if *room == "proto" {
            if !source.is_test()
                && let Some(effect) = effect(&full, path.is_macro)
            {
                report(format!("`proto` is pure: `{effect}` does not belong there"));
            }
            if let (Some(from), Some(to)) = (inner(&module), inner(full.get(1..).unwrap_or_default()))
                && full[0] == "crate"
                && from != to
            {
                report(format!("`proto::{from}` must not name `proto::{to}`: they meet in `proto::node`"));
            }
        }
    }
    findings
}

/// `proto/path/mod.rs` is `[proto, path]`.
pub(super) fn module(below: &str) -> Vec<String> {
    let stem = below.strip_suffix(".rs").unwrap_or(below);
    stem.strip_suffix("/mod").unwrap_or(stem).split('/').map(str::to_owned).collect()
}

/// The path from `crate` on, if it is one of this crate; as written otherwise.
pub(super) fn absolute(module: &[String], path: &Path) -> Vec<String> {
    let first = path.segments[0].as_str();
    let ups = path.segments.iter().take_while(|segment| *segment == "super").count();
    let below: &[String] = match (first, ups) {
        ("crate" | "weave_ctl", _) => return [&["crate".to_owned()], &path.segments[1..]].concat(),
        ("super", _) => &module[..module.len().saturating_sub(ups.saturating_sub(path.depth))],
        ("self", _) => module,
        _ => return path.segments.clone(),
    };
    let rest = &path.segments[ups.max(1)..];
    [&["crate".to_owned()], below, rest].concat()
}

/// The room or crate that a full path names.
fn named_room(full: &[String]) -> Option<&str> {
    if full[0] == "crate" {
        let room = full.get(1)?.as_str();
        return ROOMS.iter().map(|(name, _)| *name).find(|name| *name == room);
    }
    CRATES.into_iter().find(|name| *name == full[0])
}

fn inner(module: &[String]) -> Option<&str> {
    let [proto, room, ..] = module else { return None };
    INNER.into_iter().find(|name| proto == "proto" && name == room)
}

fn effect(full: &[String], is_macro: bool) -> Option<String> {
    let written = full.join("::");
    let begins = |effect: &&str| match full.last().map(String::as_str) {
        Some("*") => effect.starts_with(written.trim_end_matches('*')) || begins_with(&written, effect),
        _ => begins_with(&written, effect),
    };
    let named = EFFECTS.iter().find(|effect| begins(effect)).map(|effect| (*effect).to_owned());
    let word = || full.iter().find(|segment| WORDS.contains(&segment.as_str())).cloned();
    let printed = || MACROS.iter().find(|name| is_macro && full.len() == 1 && full[0] == **name);
    named.or_else(word).or_else(|| printed().map(|name| format!("{name}!")))
}

/// By whole segments.
fn begins_with(path: &str, start: &str) -> bool {
    path.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}
