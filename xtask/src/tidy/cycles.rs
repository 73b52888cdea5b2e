//! Rule `cycles`: the modules of a crate do not import each other in a circle, at any level of folders.
//!
//! At each level the modules beside each other are compared, each with all that is in it. A module and those inside it
//! count as one: a file may name the items of the module it belongs to. Tests may name anything.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Finding, Source, arrows, tokens::Code};

/// Folders of sources, one a crate.
const CRATES: [&str; 5] = ["weave-common/src/", "weave-ctl/src/", "weave-ebpf/src/", "tests/src/", "xtask/src/"];

/// A file, and the full paths that it names in its crate.
pub(super) struct Module {
    root: &'static str,
    path: Vec<String>,
    names: Vec<Vec<String>>,
}

/// For each module those that it names, all beside each other.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// `None` for tests, and for what is no module of a crate.
pub(super) fn module(source: &Source, code: &Code) -> Option<Module> {
    let root = CRATES.into_iter().find(|root| source.path.starts_with(root))?;
    if source.is_test() && root != "tests/src/" || source.path.ends_with("/tests.rs") {
        return None;
    }
    let mut path = arrows::module(source.path.strip_prefix(root)?);
    if matches!(path[..], [ref only] if only == "main" || only == "lib") {
        path.clear();
    }
    let full = code.paths.iter().map(|name| arrows::absolute(&path, name));
    let names = full.filter(|name| name[0] == "crate").map(|name| name[1..].to_vec()).collect();
    Some(Module { root, path, names })
}

pub(super) fn check(modules: &[Module]) -> Vec<Finding> {
    let known: BTreeSet<(&str, &[String])> = modules.iter().map(|module| (module.root, &module.path[..])).collect();
    let mut levels: BTreeMap<(&str, &[String]), Graph> = BTreeMap::new();
    for Module { root, path, names } in modules {
        for name in names {
            let prefixes = (0..=name.len()).rev().map(|len| &name[..len]);
            let Some(named) = prefixes.into_iter().find(|prefix| known.contains(&(*root, *prefix))) else { continue };
            let shared = path.iter().zip(named).take_while(|(one, other)| one == other).count();
            if let (Some(from), Some(to)) = (path.get(shared), named.get(shared)) {
                let level = levels.entry((root, &path[..shared])).or_default();
                level.entry(from.clone()).or_default().insert(to.clone());
            }
        }
    }
    let found =
        levels.iter().flat_map(|((root, level), graph)| circles(graph).into_iter().map(move |c| (root, level, c)));
    found
        .map(|(root, level, circle)| {
            let place = format!("{root}{}", level.join("/"));
            let item = circle.join(" -> ");
            Finding { rule: "cycles", place, message: format!("modules import each other: {item}"), item }
        })
        .collect()
}

/// A shortest circle for each set of modules that lead to each other.
fn circles(graph: &Graph) -> Vec<Vec<String>> {
    let mut seen: BTreeSet<&String> = BTreeSet::new();
    let mut circles = Vec::new();
    for start in graph.keys() {
        if seen.contains(start) {
            continue;
        }
        let back = |module: &&String| way(graph, module, start).is_some();
        let ahead: Vec<&String> = graph.keys().filter(|module| way(graph, start, module).is_some()).collect();
        let set: Vec<&String> = ahead.into_iter().filter(back).collect();
        if let Some(circle) = way(graph, start, start) {
            seen.extend(set);
            circles.push(circle);
        }
    }
    circles
}

/// A shortest way of at least one step.
fn way(graph: &Graph, from: &String, to: &String) -> Option<Vec<String>> {
    let mut before: BTreeMap<&String, &String> = BTreeMap::new();
    let mut queue = VecDeque::from([from]);
    while let Some(at) = queue.pop_front() {
        for next in graph.get(at).into_iter().flatten() {
            if before.contains_key(next) {
                continue;
            }
            before.insert(next, at);
            if next == to {
                let mut way = vec![next.clone()];
                let mut step = before[next];
                while step != from {
                    way.push(step.clone());
                    step = before[step];
                }
                way.push(from.clone());
                way.reverse();
                return Some(way);
            }
            queue.push_back(next);
        }
    }
    None
}
