//! What a caller may ask of the core, and what it answers.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    time::Duration,
};

use ipnet::Ipv4Net;
use weave_common::addr::Mac;

use super::{
    name::PeerName,
    params::{Launch, LaunchParams},
    reservation::{NetnsId, Place},
    target::Target,
    wire::entry::PeerRecord,
};

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Add targets, or replace them all.
    Connect {
        /// The targets.
        targets: Vec<Target>,
        /// Drop all other targets.
        replace: bool,
    },
    /// Remove targets. Sessions that are up stay.
    Forget(Vec<Target>),
    /// Hold addresses for an owner; one from the default subnet when none is named. Without an owner each request holds
    /// others, under a new id.
    Reserve(Option<String>, Vec<AddrRequest>),
    /// Name the owner of what was reserved under an id.
    Bind {
        /// As answered to `Reserve`.
        id: String,
        /// The owner.
        owner: String,
    },
    /// Give a container an interface with the addresses that are held for it and those named; one from the default subnet
    /// when there are none.
    Attach(Container, Vec<AddrRequest>),
    /// Take addresses of a container away; all of them, and the interface, when none is named.
    Detach {
        /// The container.
        holder: Holder,
        /// Those of its addresses that are taken away.
        addrs: Vec<Ipv4Addr>,
        /// Take the interface away alone: its addresses stay reserved.
        keep: bool,
    },
    /// Give addresses up that are held for an owner, or under an id, without an interface; all when none is named.
    Release(String, Vec<Ipv4Addr>),
    /// Give up what is held for containers that are absent since a reboot.
    ReleaseAbsent,
    /// All reservations, with their interfaces.
    Containers,
    /// Everything the core knows.
    Status,
    /// Stop the controller.
    Stop {
        /// Remove the dataplane too.
        teardown: bool,
    },
    /// Take over from a peer that is gone for good. Answered after some seconds, in which is asked whether it is alive.
    RemovePeer {
        /// Its name, or its nickname.
        peer: String,
        /// Even when its kernel answers, or most owners of addresses are out of reach.
        force: bool,
    },
    /// See to it that there is a ring, and tell how far that is.
    Consense,
    /// Leave the network and forget everything.
    Reset {
        /// Even when nobody takes over this peer's ranges.
        force: bool,
    },
}

/// A container, resolved by the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// The owner key of its addresses, unless its namespace has an interface under another.
    pub owner: String,
    /// An engine chose the key: it is this one, or the request is refused.
    pub chosen: bool,
    /// Where its interface shall be.
    pub place: Place,
}

/// An owner of addresses, as a caller names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its owner key.
    pub owner: String,
    /// The namespace that the caller means, when no owner has the key.
    pub netns: Option<NetnsId>,
}

/// One address argument of `attach`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddrRequest {
    /// `IP` or `IP/LEN`, optionally after `ip:`. Without a length the default subnet's is taken.
    Fixed(Ipv4Addr, Option<u8>),
    /// `net:CIDR`: any address of that subnet.
    Subnet(Ipv4Net),
    /// `net:default`.
    Default,
}

/// An answer.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Done; nothing to say.
    Done,
    /// `Reserve`, `Bind` and `Attach`: what the container has now.
    Container(ContainerStatus),
    /// `Detach` and `Release`: the addresses that are no more its; none when it had none of them.
    Released(Vec<Ipv4Net>),
    /// `ReleaseAbsent`: the addresses that are free again, by owner.
    ReleasedAbsent(Vec<(String, Vec<Ipv4Net>)>),
    /// `Containers`.
    Containers(Vec<ContainerStatus>),
    /// `Connect` and `Forget`: the targets as they were before.
    Targets(Vec<Target>),
    /// `Status`.
    Status(Box<Status>),
    /// `Consense`: whether there is a ring, and what is waited for.
    Consense(bool, String),
    /// `RemovePeer`.
    Removed {
        /// From whom was taken over.
        peer: PeerName,
        /// How many addresses.
        addresses: u64,
        /// By whom.
        heir: PeerName,
    },
}

/// Why a request was refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// Everything the core knows, for `status`, `ps` and `report`.
#[derive(Clone, Debug)]
pub struct Status {
    /// What the operator asked for at this launch.
    pub launch: Launch,
    /// What the network was launched with.
    pub params: LaunchParams,
    /// Nicknames of all peers known, and of owners of addresses that are gone.
    pub nicknames: BTreeMap<PeerName, String>,
    /// MTU in bytes that containers get now.
    pub container_mtu: u32,
    /// Targets, in the order given.
    pub targets: Vec<Target>,
    /// Sessions and attempts.
    pub connections: Vec<Connection>,
    /// Every peer known, this one first.
    pub peers: Vec<PeerStatus>,
    /// Address management.
    pub ipam: IpamStatus,
    /// Reservations, with their interfaces.
    pub containers: Vec<ContainerStatus>,
    /// Paths that take less than some containers of this host may send, the narrowest first.
    pub narrow_paths: Vec<NarrowPath>,
    /// How many more there are.
    pub more_narrow_paths: usize,
    /// What is gossiped, by channel.
    pub channels: Vec<ChannelStatus>,
    /// Troubles that need the operator: collisions, ring conflicts, failed map writes.
    pub warnings: Vec<String>,
}

/// A path that takes less than some running containers may send, by the MTU of their interfaces: a container that sends
/// more is told by ICMP, and what may be cut is sent in pieces, slower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NarrowPath {
    /// The peer that it leads to.
    pub peer: PeerName,
    /// Largest packet in bytes of a container that fits.
    pub mtu: u32,
    /// Containers with a larger MTU, each with it.
    pub containers: Vec<(String, u32)>,
    /// How many there are that are not shown.
    pub more: usize,
}

/// A session, or an attempt at one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// We dialled.
    pub outbound: bool,
    /// The other end: an address, or the target as written while it is not resolved.
    pub address: String,
    /// Its state.
    pub state: ConnectionState,
    /// The peer, once known.
    pub peer: Option<PeerName>,
    /// The peer's data address.
    pub data: Option<SocketAddr>,
    /// Why it is not established, or empty.
    pub info: String,
    /// Time until the next attempt.
    pub retry_in: Option<Duration>,
    /// MTU in bytes of containers' packets to this peer.
    pub mtu: Option<u32>,
    /// Round-trip time of the last probe of the direct path.
    pub rtt: Option<Duration>,
}

/// State of a session as operators know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConnectionState {
    /// TCP or handshake under way.
    Connecting,
    /// The session is up, the direct path does not answer.
    Pending,
    /// The session is up and the direct path answers.
    Established,
    /// The last attempt failed, another follows.
    Retrying,
    /// Given up: ourselves, or a name collision.
    Failed,
}

/// A peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// What it says of itself.
    pub record: PeerRecord,
    /// How containers' packets reach it.
    pub path: PathStatus,
    /// The path that is next in line, while it answers.
    pub standby: Option<StandbyPath>,
}

/// A path that answers and carries no packets yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandbyPath {
    /// Address of the peer or of the relay.
    pub remote: SocketAddrV4,
    /// From data port to data port.
    pub fixed: bool,
    /// The relay.
    pub via: Option<PeerName>,
}

/// How containers' packets for a peer travel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathStatus {
    /// They do not: it is this peer.
    Here,
    /// Direct to its data port, which answers.
    Direct {
        /// Its data port.
        remote: SocketAddrV4,
        /// From data port to data port: for NAT and stateful filters.
        fixed: bool,
        /// Round-trip time of the last probe.
        rtt: Option<Duration>,
        /// Largest packet in bytes of a container that fits, once measured.
        mtu: Option<u32>,
    },
    /// Through a peer that relays.
    Relayed {
        /// The next hop.
        via: PeerName,
        /// Why not direct.
        why: String,
        /// Largest packet in bytes of a container that fits, as far as known.
        mtu: Option<u32>,
    },
    /// No path answers.
    Unconfirmed {
        /// Where they are sent all the same: the last known path.
        remote: Option<SocketAddrV4>,
        /// Why.
        why: String,
    },
}

/// One gossip channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelStatus {
    /// Its name, as on the wire.
    pub name: String,
    /// True when this version knows what is in it; others are carried along.
    pub known: bool,
    /// Entries held.
    pub entries: usize,
    /// Entries that could not be used: they are kept apart and change nothing.
    pub errors: u64,
    /// The last of those, for the operator; empty when there was none.
    pub last_error: String,
}

/// Address management.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpamStatus {
    /// `ready`, or what is waited for.
    pub state: String,
    /// True when this peer has a ring.
    pub ready: bool,
    /// Shares, this peer first.
    pub owners: Vec<OwnerStatus>,
}

/// One owner's share of the range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerStatus {
    /// The owner.
    pub peer: PeerName,
    /// Addresses in its ranges.
    pub addresses: u64,
    /// Addresses given to containers; known for this peer only.
    pub active: Option<u64>,
    /// It is not known to be alive: no peer in reach has a session to it, and its kernel does not answer.
    pub unreachable: bool,
    /// Its ranges, as CIDR pieces.
    pub ranges: Vec<Ipv4Net>,
}

/// A reservation on this host, and the interface that has its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerStatus {
    /// Its owner key; the id that `Reserve` answered while no owner is named.
    pub owner: String,
    /// Where its interface is, or was; `None` before it has one.
    pub place: Option<Place>,
    /// MAC of its interface; `None` before it has one.
    pub mac: Option<Mac>,
    /// Addresses with the length of their subnet.
    pub addrs: Vec<Ipv4Net>,
    /// Name of the veth's host end; empty before it has an interface.
    pub host_if: String,
    /// MTU in bytes; zero before it has an interface.
    pub mtu: u32,
    /// Where it stands.
    pub state: ContainerState,
    /// Time for which it has stood there.
    pub age: Duration,
}

/// Where a container stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerState {
    /// Addresses are held; there was no interface yet, or it was taken away alone.
    Reserved,
    /// Its interface is being made, changed or removed.
    Changing,
    /// Its interface is there.
    Attached,
    /// Its interface is gone, and its addresses are kept for a while.
    Vanished,
    /// Its interface is gone since a reboot, and its addresses are kept until another needs them.
    Absent,
}
