//! Peers as the kernel sees them: how to reach one, and who may send to us.

use bytemuck::{Pod, Zeroable};

use crate::{
    addr::{Ip4, PeerKey},
    bucket::Bucket,
    wire::Push,
};

/// [`Tunnel::kind`]: directly, the source port by flow.
pub const PATH_DIRECT: u32 = 1;
/// [`Tunnel::kind`]: directly, from data port to data port.
pub const PATH_FIXED: u32 = 2;
/// [`Tunnel::kind`]: by way of another peer.
pub const PATH_RELAYED: u32 = 3;

/// How packets leave for a peer. Key: [`PeerKey`].
///
/// The programs write the four times, in place, at intervals of [`TIME_STEP_NS`]; the controller copies what it finds when
/// it changes the rest, so at most one such step is lost. A program that wrote while the entry was replaced may mark
/// another tunnel instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Tunnel {
    /// All headers, ready but for lengths, checksum and, unless it is set, the source port. The origin is this peer.
    pub push: Push,
    /// Underlay device the packet leaves by.
    pub ifindex: u32,
    /// Neighbour on that device: the gateway, or the peer itself when it is on the link.
    pub next_hop: [u8; 4],
    /// Largest inner IP packet, in bytes, that fits the path to this peer.
    pub inner_mtu: u32,
    /// [`PATH_DIRECT`], [`PATH_FIXED`] or [`PATH_RELAYED`]; says under which counter packets are counted.
    pub kind: u32,
    /// The peer that receives the outer packet: this one, or one that relays.
    pub via: PeerKey,
    /// Always zero.
    pub pad: [u8; 4],
    /// When a data packet last left by this entry, in nanoseconds of the coarse monotonic clock; zero when none ever did.
    pub sent_ns: u64,
    /// When one last left whose outer IP packet has more than [`BIG`] bytes (a super-packet: its segments), likewise.
    pub big_ns: u64,
    /// When a packet whose origin is this peer, data or probe, last arrived from where packets for it go first ([`Self::via`] or
    /// the address in [`Self::push`]), likewise.
    pub heard_ns: u64,
    /// When one last arrived from elsewhere, likewise: the peer does not send by the path that is in use here.
    pub elsewhere_ns: u64,
}

/// The programs write each time of a [`Tunnel`] at most this often, in nanoseconds, so that CPUs do not fight over the entry.
pub const TIME_STEP_NS: u64 = 50_000_000;
/// Bytes of an outer IP packet that every path should take (RFC 8899 section 5.1.2: BASE_PLPMTU).
pub const BIG: u32 = 1200;

/// Who sends from an underlay address. Key: [`SenderKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Sender {
    /// The peer whose data address this is.
    pub peer: PeerKey,
    /// Answers that its probes still get ([`crate::bucket::ECHO`]). Written by the programs.
    pub echo: Bucket,
}

impl Sender {
    /// An address of `peer`.
    #[must_use]
    pub const fn new(peer: PeerKey) -> Self {
        Self { peer, echo: Bucket { tokens: 0, pad: 0, filled_ns: 0 } }
    }
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

const _: () = assert!(size_of::<Tunnel>() == 112);
const _: () = assert!(size_of::<Sender>() == 24);
