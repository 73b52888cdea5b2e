//! What core and shell exchange about data paths: where the host sends an address, probes and their answers, and what
//! containers' traffic shows.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::proto::{name::PeerName, time::Instant};

/// Length in bytes of the proof that a [`ContactKind::Proof`] carries: the address seen (4), an Ed25519 signature (64).
pub const PROOF_LEN: usize = 4 + 64;

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

/// A probe to be sent: a VXLAN frame of the probes' VNI (DESIGN section 5), padded to `size`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeRequest {
    /// Outer destination.
    pub to: SocketAddrV4,
    /// How the host sends there.
    pub egress: Egress,
    /// Outer source port; `None`: a new one of the dynamic range for each probe, as flows have.
    pub source_port: Option<u16>,
    /// The peer that is to answer.
    pub receiver: PeerName,
    /// The sender's index of the path, echoed.
    pub path_id: u16,
    /// What kind of probe.
    pub kind: ProbeKind,
    /// Length in bytes of the outer IP packet.
    pub size: u32,
    /// The sender's clock, echoed: tells apart the probes of one path.
    pub sent_at: Instant,
}

/// Kinds of probes that the core sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// Answered by the receiver's kernel.
    Request,
    /// The same, and shown to the receiver's controller: the sender is behind NAT or a stateful filter.
    Announce,
    /// The receiver's controller is to prove that it holds the peer's key.
    Challenge {
        /// Random; part of what is signed.
        nonce: u64,
    },
    /// The answer to a challenge.
    Proof {
        /// The challenge's.
        nonce: u64,
        /// Address that the challenge came from, and the signature.
        proof: Box<[u8; PROOF_LEN]>,
    },
}

/// The answer of a peer's kernel to a request of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeReply {
    /// The peer that answered.
    pub peer: PeerName,
    /// As in the request.
    pub path_id: u16,
    /// As in the request.
    pub sent_at: Instant,
    /// When the kernel received the answer.
    pub received_at: Instant,
    /// Length in bytes of the request's outer IP packet as it arrived there.
    pub size: u16,
    /// Relays that the request passed.
    pub hops: u8,
}

/// A probe that a program passed up to the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// Outer source.
    pub from: SocketAddrV4,
    /// The peer that the probe names as its origin: not proven.
    pub origin: PeerName,
    /// What it asks.
    pub kind: ContactKind,
}

/// See [`Contact::kind`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContactKind {
    /// A request from an address that is no peer's.
    Request,
    /// A request whose sender is behind NAT or a stateful filter, and sends from its data port.
    Announce,
    /// See [`ProbeKind::Challenge`].
    Challenge {
        /// Random.
        nonce: u64,
    },
    /// See [`ProbeKind::Proof`].
    Proof {
        /// The challenge's.
        nonce: u64,
        /// Address that the challenge came from as its receiver saw it, and the signature.
        proof: Box<[u8; PROOF_LEN]>,
    },
}

/// Packets of containers, relayed packets and probes to and from a peer since the last such input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// The peer: the owner of the inner destination, and the origin of what arrived.
    pub peer: PeerName,
    /// Packets left for it.
    pub sent: bool,
    /// Some of them with more than 1,200 bytes of outer IP packet.
    pub big: bool,
    /// Packets of that origin arrived from where packets for it go first.
    pub heard: bool,
    /// Packets of that origin arrived from elsewhere.
    pub elsewhere: bool,
}
