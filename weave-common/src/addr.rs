//! Addresses as they lie in packets and maps.

use core::net::Ipv4Addr;

use bytemuck::{Pod, Zeroable};

/// First two bytes of every container's MAC: locally administered, unicast.
const CONTAINER_MAC_PREFIX: [u8; 2] = [0x0a, 0x77];

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The MAC of the container that holds the overlay address `addr`.
    ///
    /// Derived, so that every host can answer ARP for every container without being told its MAC.
    #[must_use]
    #[inline(always)]
    pub const fn of_container(addr: [u8; 4]) -> Self {
        let [p0, p1] = CONTAINER_MAC_PREFIX;
        Self([p0, p1, addr[0], addr[1], addr[2], addr[3]])
    }
}

impl core::fmt::Display for Mac {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// An IPv4 address in network byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct Ip4(pub [u8; 4]);

impl From<Ipv4Addr> for Ip4 {
    fn from(addr: Ipv4Addr) -> Self {
        Self(addr.octets())
    }
}

impl From<Ip4> for Ipv4Addr {
    fn from(addr: Ip4) -> Self {
        Self::from(addr.0)
    }
}

/// A peer's 48-bit name, padded to the width of a map key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct PeerKey {
    /// The name, most significant byte first.
    pub name: [u8; 6],
    /// Always zero.
    pub pad: [u8; 2],
}

impl PeerKey {
    /// The key of the peer called `name`.
    #[must_use]
    pub const fn new(name: [u8; 6]) -> Self {
        Self { name, pad: [0; 2] }
    }
}

const _: () = assert!(size_of::<PeerKey>() == 8);
