//! What core and shell exchange about data paths: how the host sends to an address, and the kinds of paths.

use std::net::Ipv4Addr;

/// How this host sends to an underlay address now, by its routing table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Egress {
    /// Device that packets leave by.
    pub ifindex: u32,
    /// Neighbour on that device: the gateway, or the address itself when it is on the link.
    pub next_hop: Ipv4Addr,
    /// Source address of the packets.
    pub source: Ipv4Addr,
    /// The smaller MTU of device and route, in bytes of the IP packet.
    pub mtu: u32,
}

/// How packets for a peer travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathKind {
    /// To the peer's data port, each flow from a source port of its own.
    Direct,
    /// To the peer's data port or its NAT mapping, all flows from this host's data port.
    Fixed,
    /// To another peer, which relays.
    Relayed,
}
