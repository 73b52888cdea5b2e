//! What `status` and `report` answer.

use serde::{Deserialize, Serialize};

use super::Container;

/// Everything that `status` shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Status {
    /// Version of the controller.
    pub version: String,
    /// This peer's name.
    pub name: String,
    /// This peer's nickname.
    pub nickname: String,
    /// Made with the store: the same name with another uid is another peer.
    pub uid: String,
    /// Launches of this store.
    pub incarnation: u64,
    /// Versions of the peer protocol.
    pub protocol: Protocol,
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
    /// Links and attempts.
    pub connections: Vec<Connection>,
    /// Every peer known, this one first.
    pub peers: Vec<Peer>,
    /// Address management.
    pub ipam: Ipam,
    /// What owners have on this host.
    pub containers: Vec<Container>,
    /// Paths that take less than some running containers may send by the MTU of their interfaces, the narrowest first. What
    /// is larger is refused with an ICMP message that says the size, or sent in pieces where the sender allows it.
    #[serde(default)]
    pub narrow_paths: Vec<NarrowPath>,
    /// How many such paths there are that `narrow_paths` does not name.
    #[serde(default)]
    pub more_narrow_paths: u64,
    /// What the kernel holds.
    pub dataplane: Dataplane,
    /// Most links to other peers; 0 from a controller that does not tell it.
    #[serde(default)]
    pub conn_limit: u32,
    /// Whom packets for each peer are sent to; without this peer and those that no way is known to reach.
    #[serde(default)]
    pub unicast_routes: Vec<UnicastRoute>,
    /// Whom broadcasts are passed on to.
    #[serde(default)]
    pub broadcast_routes: Vec<BroadcastRoute>,
    /// What is gossiped.
    #[serde(default)]
    pub channels: Vec<Channel>,
    /// Troubles that need the operator, a sentence each.
    pub warnings: Vec<String>,
}

/// A path that takes less than some running containers may send.
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
    pub more_containers: u64,
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
pub struct Protocol {
    /// Oldest.
    pub min: u16,
    /// Newest.
    pub max: u16,
}

/// A link, or an attempt at one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Connection {
    /// This peer dialled.
    pub outbound: bool,
    /// The other end; the target as written while it is not resolved.
    pub address: String,
    /// `connecting`, `pending`, `established`, `retrying` or `failed`.
    pub state: String,
    /// The peer, once known.
    pub peer: Option<PeerRef>,
    /// Where its packets go: address and data port.
    pub data: Option<String>,
    /// Why it is not established, or empty.
    pub info: String,
    /// Milliseconds until the next attempt.
    pub retry_in_ms: Option<u64>,
    /// MTU in bytes of containers' packets to this peer.
    pub mtu: Option<u32>,
    /// Round-trip time of the last probe on the data port, in microseconds.
    pub rtt_us: Option<u64>,
}

/// A peer's two names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PeerRef {
    /// Six bytes in hexadecimal.
    pub name: String,
    /// For people; empty when not known.
    pub nickname: String,
}

/// A peer and its links, as it told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Peer {
    /// Its names.
    #[serde(flatten)]
    pub id: PeerRef,
    /// Its uid.
    pub uid: String,
    /// Its links.
    pub links: Vec<PeerLink>,
    /// How containers' packets reach it; `None` from a controller that does not tell it.
    #[serde(default)]
    pub path: Option<Path>,
    /// The path that is next in line, while it answers.
    #[serde(default)]
    pub standby: Option<Standby>,
}

/// A path that answers and carries no packets yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Standby {
    /// Address and data port of the peer or of the relay.
    pub remote: String,
    /// From data port to data port.
    pub fixed: bool,
    /// The relay; `None` for a direct path.
    pub via: Option<PeerRef>,
}

/// How containers' packets for a peer travel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Path {
    /// They do not: it is this peer.
    Here,
    /// Direct to its data port, which answers.
    Direct {
        /// Address and data port.
        remote: String,
        /// From data port to data port: for NAT and stateful filters.
        #[serde(default)]
        fixed: bool,
        /// Round-trip time of the last probe, in microseconds.
        rtt_us: Option<u64>,
        /// MTU in bytes of containers' packets, once measured.
        mtu: Option<u32>,
    },
    /// Through a peer that relays.
    Relayed {
        /// That peer.
        via: PeerRef,
        /// Why not direct.
        why: String,
        /// MTU in bytes of containers' packets, as far as known.
        mtu: Option<u32>,
    },
    /// No path answers.
    Unconfirmed {
        /// Where they are sent all the same.
        remote: Option<String>,
        /// Why.
        why: String,
    },
}

/// Whom packets for a peer are sent to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct UnicastRoute {
    /// The peer.
    pub dest: PeerRef,
    /// Whom they are sent to: the peer itself, or one that passes them on.
    pub via: PeerRef,
}

/// Whom this peer passes a peer's broadcasts on to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct BroadcastRoute {
    /// Whose broadcasts.
    pub source: PeerRef,
    /// To whom.
    pub via: Vec<PeerRef>,
}

/// One gossip channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Channel {
    /// Its name, as on the wire.
    pub name: String,
    /// True when this version knows what is in it; others are carried along.
    pub known: bool,
    /// Entries held.
    pub entries: u64,
    /// Entries that could not be used: they are kept apart and change nothing.
    pub errors: u64,
    /// The last of those; empty when there was none.
    pub last_error: String,
}

/// One link of a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PeerLink {
    /// The other peer.
    #[serde(flatten)]
    pub id: PeerRef,
    /// The other peer's end.
    pub address: String,
    /// The peer whose link it is dialled.
    pub outbound: bool,
    /// Control and data work.
    pub established: bool,
}

/// Address management.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Ipam {
    /// `ready`, or what is waited for.
    pub state: String,
    /// True when this peer can give addresses.
    pub ready: bool,
    /// The range.
    pub range: String,
    /// Addresses in the range.
    pub size: u64,
    /// Subnet of containers that name none.
    pub default_subnet: String,
    /// Shares of the range, this peer's first; empty until there is a ring.
    pub owners: Vec<Owner>,
}

/// One peer's share of the range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Owner {
    /// The peer.
    #[serde(flatten)]
    pub id: PeerRef,
    /// Addresses in its ranges.
    pub addresses: u64,
    /// Addresses given to containers; known for this peer only.
    pub active: Option<u64>,
    /// No path leads to it.
    pub unreachable: bool,
    /// Its ranges, a CIDR each.
    pub ranges: Vec<String>,
}

/// What the kernel holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Dataplane {
    /// Where maps, programs and links are pinned.
    pub bpf_dir: String,
    /// Programs and what they are attached to.
    pub programs: Vec<Program>,
    /// Maps.
    pub maps: Vec<Map>,
    /// Packets that went well.
    pub counters: Vec<Counter>,
    /// Packets dropped, by reason; reasons that never happened may be absent.
    pub drops: Vec<Drop>,
}

/// A program in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Program {
    /// Its name.
    pub name: String,
    /// The kernel's id, as bpftool shows it.
    pub id: u32,
    /// Devices.
    pub attached_to: Vec<String>,
}

/// A map in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Map {
    /// Its name.
    pub name: String,
    /// Entries in it.
    pub entries: u32,
    /// Entries it can hold.
    pub capacity: u32,
}

/// Packets that went well in one way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Counter {
    /// Which way.
    pub name: String,
    /// Packets; a super-packet counts once.
    pub packets: u64,
    /// Bytes of the inner frames.
    pub bytes: u64,
}

/// Packets dropped for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Drop {
    /// The reason.
    pub reason: String,
    /// How many.
    pub packets: u64,
}

/// Everything that helps to find a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Report {
    /// Version of this contract.
    pub api: u32,
    /// Process id of the controller.
    pub pid: u32,
    /// Seconds since the controller started to serve.
    pub uptime_s: u64,
    /// Release of the running kernel.
    pub kernel: String,
    /// The rest.
    pub status: Status,
}
