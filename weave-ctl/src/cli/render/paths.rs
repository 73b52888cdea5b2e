//! How containers' packets reach peers, in words.

use super::{peer, table::table};
use crate::api::types::{Path, Peer};

/// A line a peer: its names, and the way to it.
pub(super) fn ways<'a>(peers: impl Iterator<Item = &'a Peer>) -> String {
    table(peers.map(|p| vec![peer(&p.id), p.path.as_ref().map(way).unwrap_or_default()]))
}

fn way(path: &Path) -> String {
    match path {
        Path::Here => "this peer".to_owned(),
        Path::Direct { remote, rtt_us, mtu } => words(["direct", remote.as_str(), measured(*mtu, *rtt_us).as_str()]),
        Path::Relayed { via, why, mtu } => {
            because(&words(["via", peer(via).as_str(), measured(*mtu, None).as_str()]), why)
        }
        Path::Unconfirmed { remote, why } => {
            because(&words(["unconfirmed", remote.as_deref().unwrap_or_default()]), why)
        }
    }
}

/// `what: why`.
pub(super) fn because(what: &str, why: &str) -> String {
    if why.is_empty() { what.to_owned() } else { format!("{what}: {why}") }
}

/// What probes found out, as far as they did.
pub(super) fn measured(mtu: Option<u32>, rtt_us: Option<u64>) -> String {
    let mtu = mtu.map(|mtu| format!("mtu={mtu}"));
    let rtt = rtt_us.map(|us| format!("rtt={}.{}ms", us / 1000, us % 1000 / 100));
    mtu.into_iter().chain(rtt).collect::<Vec<_>>().join(" ")
}

fn words<const N: usize>(words: [&str; N]) -> String {
    words.into_iter().filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" ")
}
