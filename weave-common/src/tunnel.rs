//! Peers as the kernel sees them: how to reach one, and who may send to us.

use bytemuck::{Pod, Zeroable};

use crate::{
    addr::{Ip4, PeerKey},
    wire::OuterHeader,
};

/// How to send to a peer. Key: [`PeerKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Tunnel {
    /// IPv4, UDP and VXLAN headers, ready but for lengths, checksum and, unless it is set, the source port.
    pub outer: OuterHeader,
    /// Underlay device the packet leaves by.
    pub ifindex: u32,
    /// Neighbour on that device: the gateway, or the peer itself when it is on the link.
    pub next_hop: [u8; 4],
    /// Largest inner IP packet, in bytes, that fits the path to this peer.
    pub inner_mtu: u32,
    /// Largest outer IP packet, in bytes, that the controller has found the path to take; zero when it has not.
    pub path_mtu: u32,
    /// Always zero.
    pub pad: [u8; 4],
    /// Who receives the packets: the peer itself, or one that relays them.
    pub via: PeerKey,
    /// When a packet last left by this entry, in nanoseconds of the monotonic clock, at intervals of [`USED_STEP_NS`];
    /// zero when none ever did. Written by the programs, in place; the controller copies what it finds when it changes
    /// the rest, so at most one such step is lost. A program that wrote while the entry was replaced may mark another
    /// tunnel as used instead.
    pub used_ns: u64,
}

/// The programs write [`Tunnel::used_ns`] at most this often, in nanoseconds, so that CPUs do not fight over the entry.
pub const USED_STEP_NS: u64 = 500_000_000;

/// Who sends from an underlay address. Key: [`SenderKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Sender {
    /// The peer whose data address this is.
    pub peer: PeerKey,
}

/// Key of [`crate::map::SENDERS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct SenderKey {
    /// Source address of the outer IPv4 header.
    pub addr: [u8; 4],
}

impl SenderKey {
    /// The key of the sender at `addr`.
    #[must_use]
    #[inline(always)]
    pub const fn new(addr: Ip4) -> Self {
        Self { addr: addr.0 }
    }
}

const _: () = assert!(size_of::<Tunnel>() == 72);
const _: () = assert!(size_of::<Sender>() == 8);
