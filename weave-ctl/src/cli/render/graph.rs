//! `report --graph`: the topology in DOT, as Graphviz draws it.
//!
//! A node a peer, also one that others only speak of; an edge a pair of peers with a link. Nodes and edges are in the
//! order of names, so that two pictures can be compared line by line.

use std::collections::{BTreeMap, BTreeSet};

use super::table::clean;
use crate::api::types::Status;

const HEAD: &str = "\
graph weave {
    // Node: double border for this peer, dotted for one of which only links are known.
    // Edge: solid for an established link, dashed for a pending one, dotted for one of which only one end tells.
";

/// What each end of a link tells of it: nothing, or whether it is established. The lower name's end first.
type Ends = [Option<bool>; 2];

pub(super) fn graph(status: &Status) -> String {
    let mut nicknames = BTreeMap::new();
    let mut links: BTreeMap<_, Ends> = BTreeMap::new();
    let known: BTreeSet<_> = status.peers.iter().map(|p| p.id.name).collect();
    for p in &status.peers {
        let from = p.id.name;
        nicknames.insert(from, p.id.nickname.as_str());
        for link in p.links.iter().filter(|link| link.id.name != from) {
            let to = link.id.name;
            if !known.contains(&to) {
                nicknames.insert(to, &link.id.nickname);
            }
            let end = &mut links.entry((from.min(to), from.max(to))).or_default()[usize::from(to < from)];
            // Two connections of one pair are one link: the better counts.
            *end = Some(end.unwrap_or(false) || link.established);
        }
    }
    let mut text = HEAD.to_owned();
    for (name, nickname) in nicknames {
        let style = match known.contains(&name) {
            true if name == status.name => ", peripheries=2",
            true => "",
            false => ", style=dotted",
        };
        text += &format!("    \"{name}\" [label=\"{name}{}\"{style}];\n", second_line(nickname));
    }
    for ((one, other), ends) in links {
        text += &format!("    \"{one}\" -- \"{other}\" [style={}];\n", style(ends));
    }
    text + "}\n"
}

fn style(ends: Ends) -> &'static str {
    match ends {
        [Some(true), Some(true)] => "solid",
        [Some(_), Some(_)] => "dashed",
        _ => "dotted",
    }
}

/// The second line of a label. In labels Graphviz gives a meaning to backslashes and, as in HTML, to ampersands.
fn second_line(nickname: &str) -> String {
    let text = clean(nickname).replace('&', "&amp;").replace('\\', "\\\\").replace('"', "\\\"");
    if text.is_empty() { text } else { format!("\\n{text}") }
}

#[cfg(test)]
mod tests;
