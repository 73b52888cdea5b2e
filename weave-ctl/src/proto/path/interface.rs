//! What goes into [`super::Paths`] and comes out of it.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use crate::proto::{io::TunnelTo, name::PeerName};

/// A direct path that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Direct {
    pub(crate) remote: SocketAddrV4,
    /// From data port to data port.
    pub(crate) fixed: bool,
    /// Round-trip time of the last probe without padding.
    pub(crate) rtt: Option<Duration>,
    /// Confirmed size in bytes of the outer IP packet, once there is one.
    pub(crate) size: Option<u32>,
}

/// All candidate paths to a peer, the active and the standby one among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RouteStatus {
    pub(crate) active: Option<PathLine>,
    pub(crate) standby: Option<PathLine>,
    pub(crate) candidates: Vec<PathLine>,
}

/// One candidate path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PathLine {
    /// Outer destination; `None` for a relay to which no direct path answers.
    pub(crate) remote: Option<SocketAddrV4>,
    /// The relay; `None` for a direct path.
    pub(crate) via: Option<PeerName>,
    /// From data port to data port.
    pub(crate) fixed: bool,
    /// The host has a route there; to a relay: a direct path to it answers.
    pub(crate) routed: bool,
    pub(crate) answers: bool,
    /// Time since it does not answer any more.
    pub(crate) silent: Option<Duration>,
}

/// Something that others must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PathEvent {
    /// Packets for the peer take this path from now on.
    Selected {
        peer: PeerName,
        path: TunnelTo,
        /// Why, when it leads elsewhere than before; else empty.
        why: String,
    },
    /// Packets from these addresses are the peer's, from no others.
    Senders(PeerName, BTreeSet<Ipv4Addr>),
    /// The direct path to a peer, with a session or without, begins to answer or does not any more: it is reported, and
    /// other peers may be relayed to by it.
    Neighbour(PeerName),
    /// The route to this address is asked for, and every change of it.
    Watch(Ipv4Addr),
    /// It is of no interest any more.
    Unwatch(Ipv4Addr),
    /// Smallest and largest MTU in bytes of the devices that packets for peers leave by; `None` without peers.
    DeviceMtus(Option<(u32, u32)>),
}
