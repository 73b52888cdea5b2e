//! `status`: blocks of right-aligned labels.

use std::{collections::BTreeMap, fmt::Display};

use super::{paths, peer, table::clean};
use crate::api::types::{
    ChannelStatus, Connection, ConnectionState, ContainerState, CounterStatus, PathStatus, PeerStatus, RefusedStatus,
    Status,
};

/// Column in which labels end.
const LABEL: usize = 15;
/// Column in which values begin.
const INDENT: usize = LABEL + 2;
/// Connections listed in the summary.
const CONNECTIONS_SHOWN: usize = 16;
/// Time in seconds for which dropped requests are shown in the summary.
const RECENT: u64 = 60;
/// Peers listed in the summary because packets do not go straight to them.
const DETOURS_SHOWN: usize = 8;

pub(super) fn summary(status: &Status) -> String {
    let blocks = [
        row("Version", &status.version),
        router(status),
        ipam(status),
        dns(status),
        dataplane(status),
        warnings(status),
    ];
    blocks.iter().filter(|b| !b.is_empty()).cloned().collect::<Vec<_>>().join("\n")
}

fn row(label: &str, value: impl Display) -> String {
    format!("{label:>LABEL$}: {}\n", clean(&value.to_string()))
}

/// Last, where they are seen.
fn warnings(status: &Status) -> String {
    status.warnings.iter().map(|w| row("Warning", w)).collect()
}

/// Nothing where questions for names are not answered.
fn dns(status: &Status) -> String {
    let Some(dns) = status.dns.as_ref().filter(|dns| dns.enabled) else { return String::new() };
    let resolver = dns.resolver.clone().unwrap_or_default();
    let upstream = if resolver.upstream.is_empty() { "none".to_owned() } else { resolver.upstream.join(", ") };
    let listen = |listen: &[String]| if listen.is_empty() { String::new() } else { row("Listen", listen.join(", ")) };
    let ready = if dns.ready { "" } else { " (not reached by containers yet)" };
    [
        row("Service", "dns"),
        row("Domain", &dns.domain),
        row("Address", format_args!("{}{ready}", dns.address)),
        listen(&resolver.listen),
        row("Upstream", upstream),
        row("TTL", resolver.ttl_s),
        row("Entries", dns.records),
        questions(&resolver.questions),
    ]
    .concat()
}

/// Outcomes that there were; nothing before the first question.
fn questions(outcomes: &BTreeMap<String, u64>) -> String {
    let seen: Vec<String> =
        outcomes.iter().filter(|(_, n)| **n > 0).map(|(outcome, n)| format!("{n} {outcome}")).collect();
    if seen.is_empty() { String::new() } else { row("Questions", seen.join(", ")) }
}

fn router(status: &Status) -> String {
    let (min, max) = (status.protocol.min, status.protocol.max);
    let links: Vec<bool> = status.peers.iter().flat_map(|p| &p.links).map(|l| l.established).collect();
    [
        row("Service", "router"),
        row("Protocol", if min == max { format!("weave-ctl {max}") } else { format!("weave-ctl {min}..{max}") }),
        row("Name", format_args!("{}({})", status.name, status.nickname)),
        row("Encryption", encryption(status)),
        row("PeerDiscovery", if status.discovery { "enabled" } else { "disabled" }),
        row("Targets", status.targets.len()),
        row("Connections", connections(&status.connections)),
        each_connection(status),
        limit(status),
        row("Peers", peers(status.peers.len(), &links)),
        detours(&status.peers),
        status.channels.iter().filter_map(trouble).collect(),
        dropped_requests(status),
    ]
    .concat()
}

/// Nothing from a controller that does not tell it.
fn limit(status: &Status) -> String {
    let links = status.connections.iter().filter(|c| c.state <= ConnectionState::Pending).count();
    match status.conn_limit {
        0 => String::new(),
        limit if links < limit as usize => row("ConnLimit", limit),
        limit => row("ConnLimit", format_args!("{limit} (reached: further peers get no link)")),
    }
}

/// How packets travel, when not direct to every peer; and the first of the others with the reason.
fn detours(peers: &[PeerStatus]) -> String {
    let paths: Vec<(&PeerStatus, usize)> = peers.iter().filter_map(|p| Some((p, kind(&p.path)?))).collect();
    let counts = [0, 1, 2].map(|k| paths.iter().filter(|(_, kind)| *kind == k).count());
    if counts[1..] == [0, 0] {
        return String::new();
    }
    let parts = [(counts[0], "direct"), (counts[1], "relayed"), (counts[2], "unconfirmed")];
    let others = || paths.iter().filter(|(_, kind)| *kind > 0).map(|(p, _)| *p);
    let lines = paths::lines(others().take(DETOURS_SHOWN));
    row("Paths", with_parts(paths.len(), &parts)) + &some(lines.lines(), others().count(), "peers")
}

fn kind(path: &PathStatus) -> Option<usize> {
    match path {
        PathStatus::Here => None,
        PathStatus::Direct { .. } => Some(0),
        PathStatus::Relayed { .. } => Some(1),
        PathStatus::Unconfirmed { .. } => Some(2),
    }
}

/// Lines below a row, and how many more there are in a part of the status.
fn some<'a>(shown: impl Iterator<Item = &'a str>, all: usize, part: &str) -> String {
    let shown: Vec<String> = shown.map(|line| format!("{:INDENT$}{line}\n", "")).collect();
    let more = all.saturating_sub(shown.len());
    let rest = if more > 0 { format!("{:INDENT$}and {more} more: status {part}\n", "") } else { String::new() };
    shown.concat() + &rest
}

/// A gossip channel from which something could not be used.
fn trouble(channel: &ChannelStatus) -> Option<String> {
    let (name, errors) = (&channel.name, channel.errors);
    let last = &channel.last_error;
    (errors > 0).then(|| row("Channel", format_args!("{name}: {errors} entries could not be used, the last: {last}")))
}

/// Requests of peers that were dropped lately, by the peer that they came from; what is malformed is among the warnings.
fn dropped_requests(status: &Status) -> String {
    let lines = status.refused.iter().filter(|refused| refused.last_s < RECENT).filter_map(|refused| {
        let RefusedStatus { id, over_bound, no_next_hop, expired, last, last_s, .. } = refused;
        let parts = [(*over_bound, "over the limit"), (*no_next_hop, "without a next hop"), (*expired, "expired")];
        let total = parts.iter().fold(0_u64, |sum, (n, _)| sum.saturating_add(*n));
        let counts = with_parts(total, &parts);
        (total > 0).then(|| clean(&format!("of {}: {counts}, the last {last_s} s ago: {last}", peer(id))))
    });
    let mut lines: Vec<String> = lines.collect();
    if lines.is_empty() {
        return String::new();
    }
    if status.more_refused > 0 {
        lines.push(format!("and {} more peers: status --json", status.more_refused));
    }
    row("Requests", "some were dropped in the last minute; peers repeat them while they need what they ask for")
        + &some(lines.iter().map(String::as_str), lines.len(), "")
}

fn encryption(status: &Status) -> &'static str {
    if status.key {
        "sessions only, with key (containers' packets are not encrypted)"
    } else if status.password {
        "sessions only, with password (containers' packets are not encrypted)"
    } else {
        "sessions only, without password or key (containers' packets are not encrypted)"
    }
}

fn connections(all: &[Connection]) -> String {
    let count = |state| (all.iter().filter(|c| c.state == state).count(), state);
    with_parts(all.len(), &ConnectionState::ALL.map(count))
}

/// The first links with state, address, MTU and round-trip time, as `status connections` shows all of them.
fn each_connection(status: &Status) -> String {
    let table = super::connections::connections(status);
    some(table.lines().take(CONNECTIONS_SHOWN), status.connections.len(), "connections")
}

fn peers(known: usize, links: &[bool]) -> String {
    let established = links.iter().filter(|up| **up).count();
    let parts: Vec<String> = [(established, "established"), (links.len() - established, "pending")]
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, state)| format!("{n} {state}"))
        .collect();
    if parts.is_empty() { known.to_string() } else { format!("{known} (with {} connections)", parts.join(", ")) }
}

/// `total (2 of this, 1 of that)`, without what there is none of.
fn with_parts<N: Display + PartialOrd + Default>(total: N, parts: &[(N, impl Display)]) -> String {
    let parts: Vec<String> =
        parts.iter().filter(|(n, _)| *n > N::default()).map(|(n, what)| format!("{n} {what}")).collect();
    if parts.is_empty() { total.to_string() } else { format!("{total} ({})", parts.join(", ")) }
}

fn ipam(status: &Status) -> String {
    [
        row("Service", "ipam"),
        row("Status", &status.ipam.state),
        row("Range", status.ipam.range),
        row("DefaultSubnet", status.ipam.default_subnet),
    ]
    .concat()
}

fn dataplane(status: &Status) -> String {
    let dataplane = &status.dataplane;
    let drops: Vec<(u64, &str)> = dataplane.drops.iter().map(|d| (d.packets, d.reason.as_str())).collect();
    let attached = status.containers.iter().filter(|c| c.state == ContainerState::Attached).count();
    let kept = status.containers.len() - attached;
    let text = [
        row("Service", "dataplane"),
        row("Pinned", &dataplane.bpf_dir),
        row("Programs", programs(status)),
        row("Containers", with_parts(status.containers.len(), &[(kept, "not attached")])),
        row("MTU", status.container_mtu),
        narrow_paths(status),
        row("Sent", sent(&dataplane.counters)),
        row("Drops", with_parts(drops.iter().fold(0_u64, |sum, (n, _)| sum.saturating_add(*n)), &drops)),
    ];
    text.concat()
}

/// Packets of containers by the kind of path that they left by.
fn sent(counters: &[CounterStatus]) -> String {
    let packets = |name: &str| counters.iter().find(|c| c.name == name).map_or(0, |c| c.packets);
    let kinds = [("encap", "direct"), ("encap-fixed", "fixed port"), ("encap-relayed", "relayed")];
    let kinds = kinds.map(|(name, kind)| (packets(name), kind));
    with_parts(kinds.iter().fold(0_u64, |sum, (n, _)| sum.saturating_add(*n)), &kinds)
}

/// Paths that containers may send too much for, and what that means; nothing where there are none.
fn narrow_paths(status: &Status) -> String {
    if status.narrow_paths.is_empty() {
        return String::new();
    }
    let lines = status.narrow_paths.iter().map(|path| {
        let named = path.containers.iter().map(|c| format!("{} ({})", c.owner, c.mtu));
        let more = (path.more_containers > 0).then(|| format!("{} more", path.more_containers));
        let containers: Vec<String> = named.chain(more).collect();
        let containers = containers.join(", ");
        clean(&format!("to {} {} bytes; larger MTU: {containers}", peer(&path.peer), path.mtu))
    });
    let lines: Vec<String> = lines.collect();
    let count = status.narrow_paths.len() + status.more_narrow_paths;
    let meaning = "take less than containers' MTU: larger packets are refused by ICMP, or sent in pieces (slower)";
    let rest = match status.more_narrow_paths {
        0 => String::new(),
        more => format!("{:INDENT$}and {more} more\n", ""),
    };
    row("NarrowPaths", format_args!("{count} {meaning}"))
        + &some(lines.iter().map(String::as_str), lines.len(), "")
        + &rest
}

/// Each program with the number of devices it is attached to.
fn programs(status: &Status) -> String {
    let each: Vec<String> =
        status.dataplane.programs.iter().map(|p| format!("{} on {}", p.name, devices(&p.attached_to))).collect();
    if each.is_empty() { "none".to_owned() } else { each.join(", ") }
}

/// Few devices by name, many by number.
fn devices(names: &[String]) -> String {
    match names {
        [] => "no device".to_owned(),
        [one] => one.clone(),
        [one, two] => format!("{one} and {two}"),
        many => format!("{} devices", many.len()),
    }
}

#[cfg(test)]
mod tests;
