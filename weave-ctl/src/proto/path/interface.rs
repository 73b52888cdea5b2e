//! What goes into [`super::Paths`] and comes out of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use crate::proto::{
    io::{Egress, PathKind},
    key::SecretKey,
    name::PeerName,
};

/// What the paths of a peer are made from.
#[derive(Clone, Debug)]
pub struct PathsConfig {
    /// This peer.
    pub me: PeerName,
    /// Signs the answers to challenges.
    pub key: SecretKey,
    /// UDP port of the data plane.
    pub data_port: u16,
    /// The paths that a former run of the controller left in the kernel.
    pub inherited: BTreeMap<PeerName, ActivePath>,
    /// Addresses that packets of peers were accepted from then.
    pub senders: Vec<(Ipv4Addr, PeerName)>,
}

/// What a peer's record says of its data port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advertised {
    /// Its addresses, without those that this host has itself.
    pub addrs: Vec<SocketAddrV4>,
    /// Largest outer IP packet in bytes that its devices take; zero when unknown.
    pub mtu: u32,
}

/// The path that packets for a peer take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ActivePath {
    /// Outer destination.
    pub remote: SocketAddrV4,
    /// The peer that receives there: the peer itself, or a relay.
    pub via: PeerName,
    /// All packets leave from this host's data port.
    pub fixed: bool,
    /// How the host sends to `remote`.
    pub egress: Egress,
    /// Largest outer IP packet in bytes.
    pub size: u32,
}

impl ActivePath {
    /// The kind of path to `peer` that this is.
    #[must_use]
    pub fn kind(&self, peer: PeerName) -> PathKind {
        match self.fixed {
            _ if self.via != peer => PathKind::Relayed,
            true => PathKind::Fixed,
            false => PathKind::Direct,
        }
    }
}

/// A direct path that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direct {
    /// The address that answers.
    pub remote: SocketAddrV4,
    /// From data port to data port.
    pub fixed: bool,
    /// Round-trip time of the last probe without padding.
    pub rtt: Option<Duration>,
    /// Confirmed size in bytes of the outer IP packet, once there is one.
    pub size: Option<u32>,
}

/// Something that others must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathEvent {
    /// Packets for the peer take this path from now on.
    Selected {
        /// The peer.
        peer: PeerName,
        /// The path.
        path: ActivePath,
        /// Why, when it leads elsewhere than before; else empty.
        why: String,
    },
    /// Packets from these addresses are the peer's, from no others.
    Senders(PeerName, BTreeSet<Ipv4Addr>),
    /// The direct path to a peer, with a session or without, begins to answer or does not any more: it is reported, and other
    /// peers may be relayed to by it.
    Neighbour(PeerName),
    /// The route to this address is asked for, and every change of it.
    Watch(Ipv4Addr),
    /// It is of no interest any more.
    Unwatch(Ipv4Addr),
    /// Smallest and largest MTU in bytes of the devices that packets for peers leave by; `None` without peers.
    DeviceMtus(Option<(u32, u32)>),
}
