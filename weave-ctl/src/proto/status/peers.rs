//! What a status says of peers: sessions to them, what they report, and how packets reach them.

use std::{
    fmt,
    net::{SocketAddr, SocketAddrV4},
};

use serde::{Deserialize, Serialize};

use crate::proto::name::{PeerName, PeerUid};

/// A session, or an attempt at one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Connection {
    /// This peer dialled.
    pub outbound: bool,
    /// The other end: an address, or the target as written while it is not resolved.
    pub address: String,
    /// Its state.
    pub state: ConnectionState,
    /// The peer, once known.
    pub peer: Option<PeerRef>,
    /// Where its packets go: address and data port.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub data: Option<SocketAddr>,
    /// Why it is not established, or empty.
    pub info: String,
    /// Milliseconds until the next attempt.
    pub retry_in_ms: Option<u64>,
    /// MTU in bytes of containers' packets to this peer.
    pub mtu: Option<u32>,
    /// Round-trip time of the last probe of the direct path, in microseconds.
    pub rtt_us: Option<u64>,
}

/// State of a session as operators know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ConnectionState {
    /// The session is up and the direct path answers.
    Established,
    /// The session is up, the direct path does not answer.
    Pending,
    /// The last attempt failed, another follows.
    Retrying,
    /// Given up: the other end is this peer, or another peer with its name.
    Failed,
    /// TCP or handshake under way.
    Connecting,
}

impl ConnectionState {
    /// In the order in which they are counted and listed.
    pub const ALL: [Self; 5] = [Self::Established, Self::Pending, Self::Retrying, Self::Failed, Self::Connecting];
}

impl fmt::Display for ConnectionState {
    /// As in JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// A peer's two names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PeerRef {
    /// Six bytes in hexadecimal.
    #[cfg_attr(test, schemars(with = "String"))]
    pub name: PeerName,
    /// For people; empty when not known.
    pub nickname: String,
}

/// A peer and its sessions, as its record says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PeerStatus {
    /// Its names.
    #[serde(flatten)]
    pub id: PeerRef,
    /// Its uid.
    #[cfg_attr(test, schemars(with = "String"))]
    pub uid: PeerUid,
    /// Its sessions.
    pub links: Vec<PeerLink>,
    /// How containers' packets reach it.
    pub path: PathStatus,
    /// The path that is next in line, while it answers.
    #[serde(default)]
    pub standby: Option<StandbyPath>,
}

impl PeerStatus {
    /// The next hop of packets for it, as far as a path is known to reach it.
    pub(super) fn route(&self) -> Option<UnicastRoute> {
        let via = match &self.path {
            PathStatus::Direct { .. } => self.id.clone(),
            PathStatus::Relayed { via, .. } => via.clone(),
            PathStatus::Here | PathStatus::Unconfirmed { .. } => return None,
        };
        Some(UnicastRoute { dest: self.id.clone(), via })
    }
}

/// A path that answers and carries no packets yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StandbyPath {
    /// Address and data port of the peer or of the relay.
    #[cfg_attr(test, schemars(with = "String"))]
    pub remote: SocketAddrV4,
    /// From data port to data port.
    pub fixed: bool,
    /// The relay; `None` for a direct path.
    pub via: Option<PeerRef>,
}

/// How containers' packets for a peer travel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum PathStatus {
    /// They do not: it is this peer.
    Here,
    /// Direct to its data port, which answers.
    Direct {
        /// Address and data port.
        #[cfg_attr(test, schemars(with = "String"))]
        remote: SocketAddrV4,
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
        /// Where they are sent all the same: the last known path.
        #[cfg_attr(test, schemars(with = "Option<String>"))]
        remote: Option<SocketAddrV4>,
        /// Why.
        why: String,
    },
}

/// The next hop of packets for a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct UnicastRoute {
    /// The peer.
    pub dest: PeerRef,
    /// The next hop: the peer itself, or one that passes them on.
    pub via: PeerRef,
}

/// The peers to which this peer passes a peer's broadcasts on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct BroadcastRoute {
    /// The peer that sends the broadcasts.
    pub source: PeerRef,
    /// The peers that they are passed on to.
    pub via: Vec<PeerRef>,
}

/// One session of a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PeerLink {
    /// The other peer.
    #[serde(flatten)]
    pub id: PeerRef,
    /// The other peer's end.
    pub address: String,
    /// The peer that reports it dialled.
    pub outbound: bool,
    /// Control and data work.
    pub established: bool,
}
