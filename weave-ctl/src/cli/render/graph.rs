//! `report --graph`: the topology in DOT, as Graphviz draws it.
//!
//! A node a peer, also one that others only speak of; an edge a pair of peers with a link. Nodes and edges are in the
//! order of names, so that two pictures can be compared line by line.

use std::collections::BTreeMap;

use super::table::clean;
use crate::api::types::{PeerRef, Status};

const HEAD: &str = "\
graph weave {
    // Node: double border for this peer, dotted for one of which only links are known.
    // Edge: solid for an established link, dashed for a pending one, dotted for one of which only one end tells.
";

/// What each end of a link tells of it: nothing, or whether it is established. The lower name's end first.
type Ends = [Option<bool>; 2];

pub(super) fn graph(status: &Status) -> String {
    let mut nicknames: BTreeMap<&str, &str> = BTreeMap::new();
    let mut links: BTreeMap<(&str, &str), Ends> = BTreeMap::new();
    let known: BTreeMap<&str, &PeerRef> = status.peers.iter().map(|p| (p.id.name.as_str(), &p.id)).collect();
    for p in &status.peers {
        let from = p.id.name.as_str();
        nicknames.insert(from, &p.id.nickname);
        for link in p.links.iter().filter(|link| link.id.name != from) {
            let to = link.id.name.as_str();
            if !known.contains_key(to) {
                nicknames.insert(to, &link.id.nickname);
            }
            let end = &mut links.entry((from.min(to), from.max(to))).or_default()[usize::from(to < from)];
            // Two connections of one pair are one link: the better counts.
            *end = Some(end.unwrap_or(false) || link.established);
        }
    }
    let mut text = HEAD.to_owned();
    for (name, nickname) in nicknames {
        let style = match known.contains_key(name) {
            true if name == status.name => ", peripheries=2",
            true => "",
            false => ", style=dotted",
        };
        text += &format!("    {} [label={}{style}];\n", id(name), label(name, nickname));
    }
    for ((one, other), ends) in links {
        text += &format!("    {} -- {} [style={}];\n", id(one), id(other), style(ends));
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

/// A quoted string of DOT: only the quotation mark has a meaning in it, and a backslash before one.
fn id(text: &str) -> String {
    format!("\"{}\"", clean(text).replace('\\', "\\\\").replace('"', "\\\""))
}

/// Two lines, the names. In labels Graphviz gives a meaning to backslashes and, as in HTML, to ampersands.
fn label(name: &str, nickname: &str) -> String {
    let line = |text: &str| clean(text).replace('&', "&amp;").replace('\\', "\\\\").replace('"', "\\\"");
    let second = if nickname.is_empty() { String::new() } else { format!("\\n{}", line(nickname)) };
    format!("\"{}{second}\"", line(name))
}

#[cfg(test)]
mod tests;
