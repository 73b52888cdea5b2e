//! The outer headers of an encapsulated packet, as prepared by the controller and completed by the kernel.

use core::net::Ipv4Addr;

use bytemuck::{Pod, Zeroable};

use crate::{checksum, vxlan};

/// Length of an Ethernet header.
pub const ETH_LEN: usize = 14;
/// Length of an IPv4 header without options.
pub const IPV4_LEN: usize = 20;
/// Length of a UDP header.
pub const UDP_LEN: usize = 8;
/// Length of [`OuterHeader`].
pub const OUTER_LEN: usize = IPV4_LEN + UDP_LEN + vxlan::HEADER_LEN;

/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// IP protocol number of ICMP.
pub const IPPROTO_ICMP: u8 = 1;
/// IP protocol number of TCP.
pub const IPPROTO_TCP: u8 = 6;
/// IP protocol number of UDP.
pub const IPPROTO_UDP: u8 = 17;

/// Hop limit of an encapsulated packet: the bound on relaying.
pub const OUTER_TTL: u8 = 64;

/// IPv4 (RFC 791), UDP (RFC 768) and VXLAN headers.
///
/// Total length and UDP length are zero, and so is the UDP source port, unless all packets have the same; the IPv4
/// checksum is that of the header with total length zero, so the kernel program adds the length to it (RFC 1624). The UDP
/// checksum stays zero, as RFC 7348 asks.
///
/// Aligned so that the programs copy it by words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(4))]
pub struct OuterHeader {
    /// IPv4 header, DF set.
    pub ipv4: [u8; IPV4_LEN],
    /// UDP header.
    pub udp: [u8; UDP_LEN],
    /// VXLAN header.
    pub vxlan: [u8; vxlan::HEADER_LEN],
}

impl OuterHeader {
    /// Headers from `source` to `destination`:`data_port` for network `vni`.
    #[must_use]
    pub fn prepare(source: Ipv4Addr, destination: Ipv4Addr, data_port: u16, vni: u32) -> Self {
        let mut ipv4 = [0; IPV4_LEN];
        ipv4[0] = 0x45;
        ipv4[6] = 0x40; // DF
        ipv4[8] = OUTER_TTL;
        ipv4[9] = IPPROTO_UDP;
        ipv4[12..16].copy_from_slice(&source.octets());
        ipv4[16..20].copy_from_slice(&destination.octets());
        let sum = checksum::ipv4_header(&ipv4);
        ipv4[10..12].copy_from_slice(&sum.to_be_bytes());
        let mut udp = [0; UDP_LEN];
        udp[2..4].copy_from_slice(&data_port.to_be_bytes());
        Self { ipv4, udp, vxlan: vxlan::header(vni) }
    }

    /// The same headers for packets that all leave from `port`.
    #[must_use]
    pub fn leaving_from(mut self, port: u16) -> Self {
        self.udp[0..2].copy_from_slice(&port.to_be_bytes());
        self
    }

    /// The UDP source port that all packets have; zero when each flow has its own.
    #[must_use]
    #[inline(always)]
    pub const fn source_port(&self) -> u16 {
        u16::from_be_bytes([self.udp[0], self.udp[1]])
    }

    /// The UDP port that packets go to.
    #[must_use]
    #[inline(always)]
    pub const fn destination_port(&self) -> u16 {
        u16::from_be_bytes([self.udp[2], self.udp[3]])
    }

    /// The address that packets go to.
    #[must_use]
    #[inline(always)]
    pub const fn destination(&self) -> [u8; 4] {
        [self.ipv4[16], self.ipv4[17], self.ipv4[18], self.ipv4[19]]
    }
}

/// What encapsulation puts between a frame's Ethernet header and its IP packet, prepared: the outer headers and the inner
/// Ethernet header, by which relays address. Padded to words; the first [`PUSH_LEN`] bytes count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(4))]
pub struct Push {
    /// IPv4, UDP, VXLAN.
    pub outer: OuterHeader,
    /// Name of the receiver, name of the origin, EtherType IPv4.
    pub ethernet: [u8; ETH_LEN],
    /// Always zero.
    pub pad: [u8; 2],
}

/// Bytes of [`Push`] that count.
pub const PUSH_LEN: usize = OUTER_LEN + ETH_LEN;
/// Length of a peer's name.
pub const NAME_LEN: usize = 6;

/// An inner Ethernet header: from the peer `origin` for the peer `receiver`.
#[must_use]
pub const fn inner_ethernet(receiver: [u8; NAME_LEN], origin: [u8; NAME_LEN]) -> [u8; ETH_LEN] {
    let ([r0, r1, r2, r3, r4, r5], [o0, o1, o2, o3, o4, o5]) = (receiver, origin);
    let [t0, t1] = ETHERTYPE_IPV4.to_be_bytes();
    [r0, r1, r2, r3, r4, r5, o0, o1, o2, o3, o4, o5, t0, t1]
}

const _: () = assert!(size_of::<OuterHeader>() == OUTER_LEN);
const _: () = assert!(size_of::<Push>() == PUSH_LEN + 2);
