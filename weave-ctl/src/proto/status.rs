//! The answer to `status`: one set of types, which the core fills, the shell completes, and the API sends as they are.
//!
//! The core answers a [`Snapshot`]: what it holds, taken without a search in the graph of sessions and without a copy of
//! the peers' records. [`Snapshot::complete`] runs beside the driver; it adds what follows from the records, and what only
//! the shell knows ([`HostStatus`]).
//! In JSON names, networks and addresses are strings as people write them. Within a version of the API fields are only
//! added: what a former controller does not tell has a default.

mod host;
mod names;
mod peers;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

pub use self::{
    host::{CounterStatus, Dataplane, DropStatus, HostStatus, MapStatus, ProgramStatus},
    names::{DnsStatus, NameStatus, ResolverStatus},
    peers::{
        BroadcastRoute, Connection, ConnectionState, PathStatus, PeerLink, PeerRef, PeerStatus, StandbyPath,
        UnicastRoute,
    },
};
use super::{
    name::{PeerName, PeerUid},
    topology,
    wire::{
        VERSIONS,
        entry::{Entry, PeerRecord, ReportedSession},
    },
};

/// Everything that `status` shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Status {
    /// Version of the controller.
    pub version: String,
    /// This peer's name.
    #[cfg_attr(test, schemars(with = "String"))]
    pub name: PeerName,
    /// This peer's nickname.
    pub nickname: String,
    /// Made with the store: the same name with another uid is another peer.
    #[cfg_attr(test, schemars(with = "String"))]
    pub uid: PeerUid,
    /// Launches of this store.
    pub incarnation: u64,
    /// Versions of the peer protocol.
    pub protocol: ProtocolVersions,
    /// Control port; packets travel on the next one.
    pub port: u16,
    /// Peers must know a password. Sessions are encrypted in any case, containers' packets never.
    pub password: bool,
    /// Peers must have a key, in place of a password.
    #[serde(default)]
    pub key: bool,
    /// Peers learnt from others are dialled.
    pub discovery: bool,
    /// MTU in bytes that containers get now.
    pub container_mtu: u32,
    /// `HOST[:PORT]` each, in the order given.
    pub targets: Vec<String>,
    /// Sessions and attempts.
    pub connections: Vec<Connection>,
    /// Every peer known, this one first.
    pub peers: Vec<PeerStatus>,
    /// Address management.
    pub ipam: IpamStatus,
    /// What owners have on this host.
    pub containers: Vec<ContainerStatus>,
    /// Paths that take less than some running containers may send by the MTU of their interfaces, the narrowest first. What
    /// is larger is refused with an ICMP message that says the size, or sent in pieces where the sender allows it.
    #[serde(default)]
    pub narrow_paths: Vec<NarrowPath>,
    /// How many such paths there are that `narrow_paths` does not name.
    #[serde(default)]
    pub more_narrow_paths: usize,
    /// What the kernel holds.
    pub dataplane: Dataplane,
    /// Most sessions to other peers; 0 from a controller that does not tell it.
    #[serde(default)]
    pub conn_limit: u32,
    /// The next hop of packets for each peer; without this peer and those that no path is known to reach.
    #[serde(default)]
    pub unicast_routes: Vec<UnicastRoute>,
    /// The peers to which broadcasts are passed on.
    #[serde(default)]
    pub broadcast_routes: Vec<BroadcastRoute>,
    /// What is gossiped.
    #[serde(default)]
    pub channels: Vec<ChannelStatus>,
    /// Messages and requests of peers that were not carried out, the latest first.
    #[serde(default)]
    pub refused: Vec<RefusedStatus>,
    /// How many peers there are with such that `refused` does not name.
    #[serde(default)]
    pub more_refused: usize,
    /// Names of containers; `None` from a controller that does not know of them.
    #[serde(default)]
    pub dns: Option<DnsStatus>,
    /// Troubles that need the operator, a sentence each.
    pub warnings: Vec<String>,
}

/// A status as the core takes it: cheap for the driver, and not whole yet.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Without what follows from the records, and without what the shell knows.
    pub(crate) status: Status,
    /// Nicknames of all peers known, and of owners of addresses that are gone.
    pub(crate) names: Names,
    /// This peer's record, as its next version will have it.
    pub me: PeerRecord,
    /// The records of the other peers, in order of name: those of `status.peers` after the first.
    pub records: Vec<Arc<Entry>>,
}

impl Snapshot {
    /// How address management stands, in a few words.
    #[must_use]
    pub fn ipam_state(&self) -> &str {
        &self.status.ipam.state
    }

    /// What is gossiped, by channel.
    #[must_use]
    pub fn channels(&self) -> &[ChannelStatus] {
        &self.status.channels
    }

    /// The whole status. Searches the graph of sessions: it is to be called beside the driver.
    #[must_use]
    pub fn complete(self, host: HostStatus) -> Status {
        let Self { mut status, names, me, records } = self;
        let others: Vec<&PeerRecord> = records.iter().filter_map(|entry| entry.record()).collect();
        for (peer, record) in status.peers.iter_mut().zip([&me].into_iter().chain(others.iter().copied())) {
            peer.links = links(record, &names);
        }
        status.unicast_routes = status.peers.iter().filter_map(PeerStatus::route).collect();
        let route = |(source, via): (PeerName, Vec<PeerName>)| BroadcastRoute {
            source: names.of(source),
            via: via.into_iter().map(|peer| names.of(peer)).collect(),
        };
        status.broadcast_routes = topology::broadcasts(&me, &others).into_iter().map(route).collect();
        (status.version, status.dataplane) = (host.version, host.dataplane);
        if let Some(dns) = &mut status.dns {
            dns.resolver = host.resolver;
        }
        status.warnings.extend(host.warnings);
        status
    }
}

fn links(record: &PeerRecord, names: &Names) -> Vec<PeerLink> {
    let paths: BTreeSet<PeerName> = record.paths.iter().copied().collect();
    let link = |session: &ReportedSession| PeerLink {
        id: names.of(session.peer),
        address: session.address.clone(),
        outbound: session.outbound,
        established: paths.contains(&session.peer),
    };
    record.sessions.iter().map(link).collect()
}

/// Nicknames, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(pub(crate) BTreeMap<PeerName, String>);

impl Names {
    pub(crate) fn of(&self, name: PeerName) -> PeerRef {
        PeerRef { name, nickname: self.0.get(&name).cloned().unwrap_or_default() }
    }
}

/// A path that takes less than some running containers may send, by the MTU of their interfaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NarrowPath {
    /// The peer that it leads to.
    pub peer: PeerRef,
    /// Largest packet in bytes of a container that fits.
    pub mtu: u32,
    /// Containers with a larger MTU, the largest first.
    pub containers: Vec<SizedContainer>,
    /// How many there are that `containers` does not name.
    pub more_containers: usize,
}

/// A container and the MTU of its interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SizedContainer {
    /// Its owner key.
    pub owner: String,
    /// MTU in bytes.
    pub mtu: u32,
}

/// Versions of the peer protocol that a controller speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ProtocolVersions {
    /// Oldest.
    pub min: u16,
    /// Newest.
    pub max: u16,
}

impl ProtocolVersions {
    /// Those of this program.
    pub(crate) const OURS: Self = Self { min: VERSIONS.0, max: VERSIONS.1 };
}

/// One gossip channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ChannelStatus {
    /// Its name, as on the wire.
    pub name: String,
    /// True when this version knows what is in it; others are carried along.
    pub known: bool,
    /// Entries held.
    pub entries: usize,
    /// Entries that could not be used: they are kept apart and change nothing.
    pub errors: u64,
    /// The last of those; empty when there was none.
    pub last_error: String,
}

/// Messages and requests of one peer that were not carried out: they changed nothing. Peers repeat their requests while they
/// need what they ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RefusedStatus {
    /// The peer that sent them, or passed them on; this peer for its own requests.
    #[serde(flatten)]
    pub id: PeerRef,
    /// Such as no peer sends that keeps to the rules.
    pub malformed: u64,
    /// Beyond the number that is looked at of one peer.
    pub over_bound: u64,
    /// For a peer to which no session leads.
    pub no_next_hop: u64,
    /// That made as many hops as they may, or were given up without a response.
    pub expired: u64,
    /// Why the last was not carried out.
    pub last: String,
    /// Time in seconds since then.
    pub last_s: u64,
}

/// Address management.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct IpamStatus {
    /// `ready`, or what is waited for.
    pub state: String,
    /// True when this peer can give addresses.
    pub ready: bool,
    /// The range.
    #[cfg_attr(test, schemars(with = "String"))]
    pub range: Ipv4Net,
    /// Addresses in the range.
    pub size: u64,
    /// Subnet of containers that name none.
    #[cfg_attr(test, schemars(with = "String"))]
    pub default_subnet: Ipv4Net,
    /// Shares of the range, this peer's first; empty until there is a ring.
    pub owners: Vec<OwnerStatus>,
}

/// One peer's share of the range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OwnerStatus {
    /// The peer.
    #[serde(flatten)]
    pub id: PeerRef,
    /// Addresses in its ranges.
    pub addresses: u64,
    /// Addresses given to containers; known for this peer only.
    pub active: Option<u64>,
    /// It is not known to be alive: no peer in reach has a session to it, and its kernel does not answer.
    pub unreachable: bool,
    /// Its ranges, a CIDR each.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub ranges: Vec<Ipv4Net>,
}

/// Addresses that an owner has on this host, and the interface with them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ContainerStatus {
    /// The owner key: of a plain namespace its name or number; the id of a reservation without owner.
    pub owner: String,
    /// Where it stands.
    pub state: ContainerState,
    /// Time in seconds for which it has been so.
    pub age_s: u64,
    /// Path of the network namespace that its interface is or was in; empty for the host and for what is reserved.
    pub netns: String,
    /// MAC of its interface; empty before it has one.
    pub mac: String,
    /// `IP/LENGTH` each, the primary first.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub addrs: Vec<Ipv4Net>,
    /// Name of the interface's other end, on the host; empty before it has one.
    pub host_if: String,
    /// MTU in bytes; zero before it has an interface.
    pub mtu: u32,
}

/// Where a container stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ContainerState {
    /// Addresses are held; there was no interface yet, or it was taken away alone.
    Reserved,
    /// Its interface is being made, changed or removed.
    Changing,
    /// Its interface is there.
    Attached,
    /// Its interface is gone, and its addresses are kept for some seconds.
    Vanished,
    /// Its interface is gone since a reboot, and its addresses are kept until others need them.
    Absent,
}

impl fmt::Display for ContainerState {
    /// As in JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

#[cfg(test)]
mod tests;
