//! Graphs of fixed topologies, and of whatever other hosts may call themselves.

use proptest::prelude::*;

use super::{super::tests::example, graph};
use crate::api::types::{PathStatus, PeerLink, PeerRef, PeerStatus, Status};

fn id(n: u8, nickname: &str) -> PeerRef {
    let name = format!("00:00:00:00:00:{n:02x}").parse().expect("a name");
    PeerRef { name, nickname: nickname.to_owned() }
}

fn peer(n: u8, nickname: &str, links: &[(u8, bool)]) -> PeerStatus {
    let links = links.iter().map(|(to, established)| PeerLink {
        id: id(*to, ""),
        address: "192.0.2.1:6783".to_owned(),
        outbound: true,
        established: *established,
    });
    let (uid, path) = (example().uid, PathStatus::Here);
    PeerStatus { id: id(n, nickname), uid, links: links.collect(), path, standby: None }
}

fn mesh(peers: Vec<PeerStatus>) -> Status {
    Status { name: id(2, "").name, peers, ..example() }
}

/// A mesh with a link of each kind.
fn peers() -> Vec<PeerStatus> {
    vec![
        // This peer comes first in a status, whatever its name is.
        peer(2, "two", &[(1, true), (3, true), (4, false)]),
        peer(1, "one", &[(2, true), (1, true)]),
        // Two connections while one of them is about to be closed.
        peer(3, "three", &[(2, false), (4, false), (4, true), (9, true)]),
        peer(4, "", &[(3, true)]),
    ]
}

const EXPECTED: &str = r#"graph weave {
    // Node: double border for this peer, dotted for one of which only links are known.
    // Edge: solid for an established link, dashed for a pending one, dotted for one of which only one end tells.
    "00:00:00:00:00:01" [label="00:00:00:00:00:01\none"];
    "00:00:00:00:00:02" [label="00:00:00:00:00:02\ntwo", peripheries=2];
    "00:00:00:00:00:03" [label="00:00:00:00:00:03\nthree"];
    "00:00:00:00:00:04" [label="00:00:00:00:00:04"];
    "00:00:00:00:00:09" [label="00:00:00:00:00:09", style=dotted];
    "00:00:00:00:00:01" -- "00:00:00:00:00:02" [style=solid];
    "00:00:00:00:00:02" -- "00:00:00:00:00:03" [style=dashed];
    "00:00:00:00:00:02" -- "00:00:00:00:00:04" [style=dotted];
    "00:00:00:00:00:03" -- "00:00:00:00:00:04" [style=solid];
    "00:00:00:00:00:03" -- "00:00:00:00:00:09" [style=dotted];
}
"#;

#[test]
fn one_edge_a_link_as_both_ends_tell_of_it() {
    assert_eq!(graph(&mesh(peers())), EXPECTED);
}

#[test]
fn the_order_of_peers_and_links_does_not_show() {
    let mut turned = peers();
    turned.reverse();
    turned.iter_mut().for_each(|p| p.links.reverse());
    assert_eq!(graph(&mesh(turned)), EXPECTED);
}

/// What stands between the first quotation marks after `start`, as Graphviz shows it, and what follows them.
fn shown<'a>(line: &'a str, start: &str) -> (String, &'a str) {
    let text = line.split_once(start).and_then(|(_, rest)| rest.strip_prefix('"')).expect("a quoted string");
    let mut shown = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (shown.replace("&amp;", "&"), &text[at + 1..]),
            '\\' => match chars.next().expect("something after a backslash").1 {
                'n' => shown.push('\n'),
                c @ ('\\' | '"') => shown.push(c),
                other => panic!("\\{other} has another meaning"),
            },
            c => shown.push(c),
        }
    }
    panic!("no end of {text:?}")
}

#[test]
fn a_nickname_stays_a_nickname() {
    for (nickname, expected) in [
        ("\"]; \"x\" -- \"y\" [label=\"", "\"]; \"x\" -- \"y\" [label=\""),
        ("back\\", "back\\"),
        ("\\\"", "\\\""),
        ("\\N \\G \\l", "\\N \\G \\l"),
        ("<b>&lt;&#10;", "<b>&lt;&#10;"),
        ("two\nlines\r\0", "two?lines??"),
        ("\u{202e}turned\u{2028}", "?turned?"),
        ("h\u{f6}st", "h\u{f6}st"),
    ] {
        let text = graph(&mesh(vec![peer(2, nickname, &[])]));
        let (label, rest) = shown(text.lines().nth(3).expect("a node"), "label=");
        assert_eq!((label.as_str(), rest), (format!("{}\n{expected}", id(2, "").name).as_str(), ", peripheries=2];"));
        assert_eq!(text.lines().count(), 5, "{text}");
    }
}

proptest! {
    #[test]
    fn no_nickname_changes_the_graph(nickname in "\\PC*|[\\\\\"&;\\n]*|.*") {
        let text = graph(&mesh(vec![peer(2, "x", &[(1, true)]), peer(1, &nickname, &[(2, true)])]));
        prop_assert_eq!(text.lines().count(), 7);
        let (label, rest) = shown(text.lines().nth(3).unwrap(), "label=");
        prop_assert_eq!(label.split_once('\n').map_or("", |(_, second)| second), super::clean(&nickname));
        prop_assert_eq!(rest, "];");
    }
}
