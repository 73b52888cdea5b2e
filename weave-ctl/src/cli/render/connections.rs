//! `status connections`: a line a link or attempt, those that work first.

use std::{collections::BTreeMap, net::SocketAddr};

use super::{
    arrow,
    paths::{self, measured},
    peer,
    table::{clean, table},
};
use crate::api::types::{Connection, ConnectionState, PathStatus, Status};

pub(super) fn connections(status: &Status) -> String {
    let paths: BTreeMap<_, &PathStatus> = status.peers.iter().map(|p| (p.id.name, &p.path)).collect();
    let path_of = |c: &Connection| c.peer.as_ref().and_then(|p| paths.get(&p.name).copied());
    let mut all: Vec<&Connection> = status.connections.iter().collect();
    all.sort_by_cached_key(|c| place(c));

    let heads = table(all.iter().map(|c| vec![arrow(c.outbound), c.address.clone(), c.state.to_string()]));
    // What follows the state has columns only where there is a peer; a reason may be of any length.
    let with_peer = all.iter().filter(|c| c.peer.is_some());
    let peers = table(with_peer.map(|c| columns(c, path_of(c), secret(status))));
    let width = heads.lines().map(|line| line.chars().count()).max().unwrap_or(0) + 2;
    let mut peers = peers.lines();
    let mut text = String::new();
    for (head, c) in heads.lines().zip(all) {
        let rest = match c.peer {
            Some(_) => peers.next().unwrap_or_default().to_owned(),
            None => clean(&note(c, None)),
        };
        text += format!("{head:width$}{rest}").trim_end();
        text.push('\n');
    }
    text
}

/// By state, then by address in the order of numbers; host names follow.
fn place(c: &Connection) -> (ConnectionState, bool, Option<SocketAddr>, String) {
    let with_port = c.address.parse().ok();
    let address = with_port.or_else(|| Some(SocketAddr::new(c.address.parse().ok()?, 0)));
    (c.state, address.is_none(), address, c.address.clone())
}

/// What sessions need.
fn secret(status: &Status) -> &'static str {
    match (status.key, status.password) {
        (true, _) => "key",
        (false, true) => "password",
        (false, false) => "no-password",
    }
}

/// What the session needed; how packets travel; the peer; what was measured; why.
fn columns(c: &Connection, path: Option<&PathStatus>, secret: &str) -> Vec<String> {
    let way = match path {
        Some(PathStatus::Direct { fixed, .. }) => paths::direct(*fixed),
        Some(PathStatus::Relayed { .. }) => "relayed",
        Some(PathStatus::Unconfirmed { .. }) => "unconfirmed",
        Some(PathStatus::Here) | None if c.data.is_some() => "direct",
        Some(PathStatus::Here) | None => "no-data",
    };
    vec![
        secret.to_owned(),
        way.to_owned(),
        c.peer.as_ref().map(peer).unwrap_or_default(),
        measured(c.mtu, c.rtt_us),
        note(c, path),
    ]
}

/// Why it is not established or packets do not go direct, and when it is tried again.
fn note(c: &Connection, path: Option<&PathStatus>) -> String {
    let info = match path {
        Some(PathStatus::Relayed { via, why, .. }) => {
            paths::because(&format!("via {}", peer(via)), either(&c.info, why))
        }
        Some(PathStatus::Unconfirmed { why, .. }) => either(&c.info, why).to_owned(),
        _ => c.info.clone(),
    };
    let next = c.retry_in_ms.map(|ms| format!("next attempt in {}.{}s", ms / 1000, ms % 1000 / 100));
    let parts: Vec<String> = Some(info).filter(|i| !i.is_empty()).into_iter().chain(next).collect();
    parts.join(", ")
}

fn either<'a>(first: &'a str, second: &'a str) -> &'a str {
    if first.is_empty() { second } else { first }
}

#[cfg(test)]
mod tests;
