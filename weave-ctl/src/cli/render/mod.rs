//! All that is printed: as text for people, or as JSON with the field names of the contract.
//!
//! Text keeps the shapes that users of Weave Net know; columns are as wide as their widest cell and fields are always
//! apart. Every function returns whole lines, or nothing.
//!
//! Does not: write anywhere, or ask anyone.

mod connections;
mod graph;
mod paths;
mod summary;
mod table;

use std::{collections::BTreeSet, net::Ipv4Addr};

use ipnet::Ipv4Net;
use serde::Serialize;

use self::table::table;
use super::args::StatusPart;
use crate::api::types::{
    Consensus, ContainerStatus, Done, Error, IpamStatus, NameStatus, OwnerStatus, PeerRef, PeerStatus, Released,
    ReleasedOwner, RemovedPeer, Status, Targets,
};

/// A value as indented JSON.
pub(super) fn json<T: Serialize + ?Sized>(value: &T) -> String {
    // The contract's types have string keys and no custom serialization, which is all that can fail.
    serde_json::to_string_pretty(value).map_or_else(|e| format!("{{\"error\": \"{e}\"}}\n"), |text| text + "\n")
}

/// A refusal.
pub(super) fn failure(sentence: &str, as_json: bool) -> String {
    if as_json { json(&Error { error: sentence.to_owned() }) } else { table::clean(sentence) + "\n" }
}

/// Done: people see nothing.
pub(super) fn done(done: &Done, as_json: bool) -> String {
    if as_json { json(done) } else { String::new() }
}

/// The topology in DOT.
pub(super) fn graph(status: &Status) -> String {
    graph::graph(status)
}

/// What became of targets: a line each, for those that were named or replaced.
pub(super) fn targets(targets: &Targets, as_json: bool) -> String {
    if as_json {
        return json(targets);
    }
    let outcomes = [
        (&targets.added, "added"),
        (&targets.kept, "was a target already: nothing was changed"),
        (&targets.removed, "is no target any more; a connection to it stays while it is up"),
    ];
    let lines: Vec<String> =
        outcomes.iter().flat_map(|(which, what)| which.iter().map(move |t| format!("{t} {what}"))).collect();
    if lines.is_empty() { "there were no targets: nothing was changed\n".to_owned() } else { table::lines(&lines) }
}

/// What was removed without a controller.
pub(super) fn removed(lines: &[String], as_json: bool) -> String {
    if as_json { json(&serde_json::json!({ "removed": lines })) } else { table::lines(lines) }
}

/// A peer that was taken over from.
pub(super) fn removed_peer(removed: &RemovedPeer, as_json: bool) -> String {
    if as_json {
        json(removed)
    } else {
        format!("{} IPs taken over from {} by {}\n", removed.addresses, removed.peer, removed.heir)
    }
}

/// There is a ring.
pub(super) fn consensus(consensus: &Consensus, as_json: bool) -> String {
    if as_json { json(consensus) } else { String::new() }
}

/// There is no ring yet.
pub(super) fn waiting(consensus: &Consensus, as_json: bool) -> String {
    if as_json { json(consensus) } else { table::clean(&consensus.state) + "\n" }
}

/// The version of this command.
pub(super) fn version(version: &str, as_json: bool) -> String {
    if as_json { json(&serde_json::json!({ "version": version })) } else { format!("weave-ctl {version}\n") }
}

/// A controller that became ready in the background.
pub(super) fn launched(status: &Status, pid: u32, settings: &[String], as_json: bool) -> String {
    let warnings = || settings.iter().chain(&status.warnings);
    if as_json {
        let warnings: Vec<&String> = warnings().collect();
        let names = (&status.name, &status.nickname);
        return json(&serde_json::json!({ "name": names.0, "nickname": names.1, "pid": pid, "warnings": warnings }));
    }
    let warnings = warnings().map(|w| format!("Warning: {}\n", table::clean(w)));
    std::iter::once(format!("{}({})\n", status.name, status.nickname)).chain(warnings).collect()
}

/// The addresses of a container that was attached.
pub(super) fn attached(container: &ContainerStatus, as_json: bool) -> String {
    if as_json { json(container) } else { addresses(&container.addrs) }
}

/// What an operator must know beside what was asked for.
pub(super) fn warning(text: &str, as_json: bool) -> String {
    if as_json { json(&serde_json::json!({ "warning": text })) } else { format!("Warning: {}\n", table::clean(text)) }
}

/// The addresses that were released.
pub(super) fn released(released: &Released, as_json: bool) -> String {
    if as_json { json(released) } else { addresses(&released.addrs) }
}

/// The addresses that were released, a line for each owner.
pub(super) fn released_absent(all: &[ReleasedOwner], as_json: bool) -> String {
    if as_json { json(all) } else { table(all.iter().map(|one| vec![one.owner.clone(), joined(&one.addrs)])) }
}

/// On one line, without the lengths of their subnets, ready for a script.
fn addresses(addrs: &[Ipv4Net]) -> String {
    let bare: Vec<Ipv4Addr> = addrs.iter().map(Ipv4Net::addr).collect();
    if bare.is_empty() { String::new() } else { joined(&bare) + "\n" }
}

fn joined<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// `ps`.
pub(super) fn containers(containers: &[ContainerStatus], as_json: bool) -> String {
    if as_json {
        return json(containers);
    }
    if containers.is_empty() {
        return String::new();
    }
    let head = ["OWNER", "STATE", "AGE", "MAC", "ADDRESSES"].map(str::to_owned).to_vec();
    let rows = containers.iter().map(|c| {
        let mac = if c.mac.is_empty() { "-".to_owned() } else { c.mac.clone() };
        vec![c.owner.clone(), c.state.to_string(), age(c.age_s), mac, joined(&c.addrs)]
    });
    table(std::iter::once(head).chain(rows))
}

/// `status dns`: an address a line.
pub(super) fn names(names: &[NameStatus], as_json: bool) -> String {
    if as_json {
        return json(names);
    }
    if names.is_empty() {
        return String::new();
    }
    let head = ["NAME", "ADDRESS", "OWNER", "PEER"].map(str::to_owned).to_vec();
    let row = |n: &NameStatus| vec![n.name.clone(), n.address.to_string(), n.owner.clone(), peer(&n.peer)];
    table(std::iter::once(head).chain(names.iter().map(row)))
}

/// `dns-lookup`: an address a line, each once.
pub(super) fn found(names: &[NameStatus], as_json: bool) -> String {
    let addrs: BTreeSet<Ipv4Addr> = names.iter().map(|name| name.address).collect();
    if as_json { json(&addrs) } else { addrs.iter().map(|addr| format!("{addr}\n")).collect() }
}

/// `dns-args`: the arguments of an engine, on one line.
pub(super) fn arguments(arguments: &[String], as_json: bool) -> String {
    if as_json { json(arguments) } else { arguments.join(" ") + "\n" }
}

/// In the largest unit of which there are at least two.
fn age(seconds: u64) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "min")];
    let unit = units.into_iter().find(|(size, _)| seconds >= 2 * size);
    unit.map_or_else(|| format!("{seconds} s"), |(size, unit)| format!("{} {unit}", seconds / size))
}

/// `status`, or a part of it.
pub(super) fn status(status: &Status, part: Option<StatusPart>, as_json: bool) -> String {
    match (part, as_json) {
        (None, true) => json(status),
        (None, false) => summary::summary(status),
        (Some(StatusPart::Connections), true) => json(&status.connections),
        (Some(StatusPart::Connections), false) => connections::connections(status),
        (Some(StatusPart::Peers), true) => json(&status.peers),
        (Some(StatusPart::Peers), false) => peers(&status.peers),
        (Some(StatusPart::Targets), true) => json(&status.targets),
        (Some(StatusPart::Targets), false) => table::lines(&status.targets),
        (Some(StatusPart::Ipam), true) => json(&status.ipam),
        (Some(StatusPart::Ipam), false) => ipam(&status.ipam),
        // Names are asked for apart.
        (Some(StatusPart::Dns), _) => json(&status.dns),
    }
}

/// `name(nickname)`.
fn peer(id: &PeerRef) -> String {
    if id.nickname.is_empty() { id.name.to_string() } else { format!("{}({})", id.name, id.nickname) }
}

fn arrow(outbound: bool) -> String {
    if outbound { "->".to_owned() } else { "<-".to_owned() }
}

fn peers(peers: &[PeerStatus]) -> String {
    // One table for all links, so that the columns of all peers align.
    let rows = peers.iter().flat_map(|p| &p.links).map(|link| {
        let state = if link.established { "established" } else { "pending" };
        vec![arrow(link.outbound), link.address.clone(), peer(&link.id), state.to_owned()]
    });
    let links = table(rows);
    let mut links = links.lines();
    let paths = paths::lines(peers.iter());
    let mut text = String::new();
    for (p, path) in peers.iter().zip(paths.lines()) {
        text += &format!("{path}\n");
        for line in links.by_ref().take(p.links.len()) {
            text += &format!("   {line}\n");
        }
    }
    text
}

fn ipam(ipam: &IpamStatus) -> String {
    if ipam.owners.is_empty() {
        // Nothing is divided yet: why not is all there is to say.
        return table::lines(std::slice::from_ref(&ipam.state));
    }
    let rows = ipam.owners.iter().map(|owner| {
        vec![
            peer(&owner.id),
            format!("{:>8} IPs ({} of total){}", owner.addresses, share(owner, ipam.size), notes(owner)),
        ]
    });
    table(rows)
}

/// Percent of the range with one decimal, rounded half up.
fn share(owner: &OwnerStatus, size: u64) -> String {
    let permille = (u128::from(owner.addresses) * 2000 / u128::from(size.max(1))).div_ceil(2);
    format!("{:02}.{}%", permille / 10, permille % 10)
}

fn notes(owner: &OwnerStatus) -> String {
    let active = owner.active.map(|n| format!(" ({n} active)")).unwrap_or_default();
    active + if owner.unreachable { " - unreachable!" } else { "" }
}

#[cfg(test)]
mod tests;
