//! The headers that encapsulation puts before a container's packet: filled by `encap`, written by `packet`.

use weave_common::wire::{ETH_LEN, OUTER_LEN, OuterHeader};

/// What is put between the frame's Ethernet header and its IP packet.
pub const PUSH_LEN: usize = OUTER_LEN + ETH_LEN;

/// The headers of an encapsulated packet, completed. Padded to words; [`PUSH_LEN`] bytes count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(4))]
pub struct Push {
    /// Outer IPv4, UDP, VXLAN.
    pub outer: OuterHeader,
    /// Inner Ethernet.
    pub ethernet: [u8; ETH_LEN],
    pad: [u8; 2],
}

impl Push {
    /// Both headers, complete.
    #[must_use]
    #[inline(always)]
    pub const fn new(outer: OuterHeader, ethernet: [u8; ETH_LEN]) -> Self {
        Self { outer, ethernet, pad: [0; 2] }
    }
}
