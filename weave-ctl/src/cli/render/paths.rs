//! How containers' packets reach peers, in words.

use super::{peer, table::table};
use crate::api::types::{PathStatus, PeerStatus, StandbyPath};

/// A line a peer: its names, the active path and the standby path.
pub(super) fn lines<'a>(peers: impl Iterator<Item = &'a PeerStatus>) -> String {
    table(peers.map(|p| vec![peer(&p.id), active(&p.path) + &p.standby.as_ref().map(standby).unwrap_or_default()]))
}

fn standby(path: &StandbyPath) -> String {
    match &path.via {
        Some(via) => format!("; standby via {}", peer(via)),
        None => format!("; standby {} {}", direct(path.fixed), path.remote),
    }
}

/// A direct path: each flow from a port of its own, or all from data port to data port.
pub(super) fn direct(fixed: bool) -> &'static str {
    if fixed { "direct, fixed port" } else { "direct" }
}

fn active(path: &PathStatus) -> String {
    match path {
        PathStatus::Here => "this peer".to_owned(),
        PathStatus::Direct { remote, fixed, rtt_us, mtu } => {
            words([direct(*fixed), &remote.to_string(), &measured(*mtu, *rtt_us)])
        }
        PathStatus::Relayed { via, why, mtu } => {
            because(&words(["via", peer(via).as_str(), measured(*mtu, None).as_str()]), why)
        }
        PathStatus::Unconfirmed { remote, why } => {
            because(&words(["unconfirmed", &remote.map(|at| at.to_string()).unwrap_or_default()]), why)
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
