//! Reading headers: pure, total, no pointers.
//!
//! Every function takes exactly the bytes it reads and answers for all values of them.

use weave_common::{
    addr::{Ip4, Mac},
    config::Config,
    drop::DropReason,
    vxlan,
    wire::{ETH_LEN, ETHERTYPE_IPV4, IPPROTO_UDP, IPV4_LEN, NAME_LEN, UDP_LEN},
};

/// Offset of the IP header in a frame.
pub const IP_AT: usize = ETH_LEN;
/// Ethernet, IPv4 without options and UDP: enough to tell whether a frame is ours.
pub const OUTER_UDP_LEN: usize = ETH_LEN + IPV4_LEN + UDP_LEN;
/// Offset of the VXLAN header in an underlay frame.
pub const VXLAN_AT: usize = OUTER_UDP_LEN;
/// Offset of the inner Ethernet header in an underlay frame.
pub const INNER_AT: usize = VXLAN_AT + vxlan::HEADER_LEN;
/// Shortest underlay frame that carries an inner IPv4 header.
pub const ENCAPSULATED_MIN: usize = INNER_AT + ETH_LEN + IPV4_LEN;

const IPPROTO_TCP: u8 = 6;
/// Offset of TCP's data-offset byte in its header.
const TCP_DATA_OFFSET_AT: u32 = 12;
/// More-fragments flag and fragment offset.
const FRAGMENT_MASK: u16 = 0x3fff;

/// An Ethernet header, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// True when the destination is a group address.
    pub group: bool,
    /// EtherType, host byte order.
    pub ethertype: u16,
}

/// Reads an Ethernet header.
#[must_use]
#[inline(always)]
pub const fn ethernet(header: &[u8; ETH_LEN]) -> Ethernet {
    Ethernet { group: header[0] & 1 != 0, ethertype: u16::from_be_bytes([header[12], header[13]]) }
}

/// The names in an inner Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    /// The peer that the frame is for.
    pub receiver: [u8; NAME_LEN],
    /// The peer that encapsulated it.
    pub origin: [u8; NAME_LEN],
}

/// Reads the names.
#[must_use]
#[inline(always)]
pub const fn names(h: &[u8; ETH_LEN + IPV4_LEN]) -> Names {
    Names { receiver: [h[0], h[1], h[2], h[3], h[4], h[5]], origin: [h[6], h[7], h[8], h[9], h[10], h[11]] }
}

/// An inner IPv4 header, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4 {
    /// Sender.
    pub source: Ip4,
    /// Receiver.
    pub destination: Ip4,
    /// Protocol number of the payload.
    pub protocol: u8,
    /// Length of the header with its options.
    pub header_len: u32,
    /// Flags and fragment offset, as in the header.
    pub fragment: u16,
}

/// Reads the inner IPv4 header of a packet with `available` bytes from that header to the frame's end.
///
/// The total length of a super-packet (`gso`) is not looked at: it is fixed up for each segment, and may have wrapped.
///
/// # Errors
/// [`DropReason::Malformed`] when a length contradicts another.
#[inline(always)]
pub const fn ipv4(header: &[u8; IPV4_LEN], available: u32, gso: bool) -> Result<Ipv4, DropReason> {
    let header_len = ((header[0] & 0x0f) as u32) * 4;
    if header[0] >> 4 != 4 || header_len < IPV4_LEN as u32 || header_len > available {
        return Err(DropReason::Malformed);
    }
    let total = u16::from_be_bytes([header[2], header[3]]) as u32;
    if !gso && (total < header_len || total > available) {
        return Err(DropReason::Malformed);
    }
    Ok(Ipv4 {
        source: Ip4([header[12], header[13], header[14], header[15]]),
        destination: Ip4([header[16], header[17], header[18], header[19]]),
        protocol: header[9],
        header_len,
        fragment: u16::from_be_bytes([header[6], header[7]]),
    })
}

/// Reads the headers of an inner frame with `available` bytes from its IP header to the end.
///
/// # Errors
/// [`DropReason::NotIpv4`], [`DropReason::Malformed`] as [`ipv4`] says, or [`DropReason::Multicast`].
#[inline(always)]
pub fn inner(headers: &[u8; ETH_LEN + IPV4_LEN], available: u32, gso: bool) -> Result<Ipv4, DropReason> {
    let (Some(ethernet_header), Some(ip)) = (headers.first_chunk(), headers.last_chunk()) else {
        return Err(DropReason::Malformed);
    };
    if ethernet(ethernet_header).ethertype != ETHERTYPE_IPV4 {
        return Err(DropReason::NotIpv4);
    }
    let ip = ipv4(ip, available, gso)?;
    if is_group(ip.destination) { Err(DropReason::Multicast) } else { Ok(ip) }
}

/// True for multicast (224/4), the reserved block above it, and limited broadcast.
#[must_use]
#[inline(always)]
pub const fn is_group(addr: Ip4) -> bool {
    addr.0[0] >= 224
}

/// False for addresses that no packet may have which a host forwards: 0/8, loopback, and groups (RFC 1812 section 5.3.7).
#[must_use]
#[inline(always)]
pub const fn is_routable(addr: Ip4) -> bool {
    !is_group(addr) && !matches!(addr.0[0], 0 | 127)
}

/// Where the length of the transport header of a super-packet stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportLen {
    /// In the high nibble of the byte at this offset in the IP packet, in words.
    At(u32),
    /// Known.
    Known(u32),
}

/// How long the transport header is that each segment of a super-packet repeats.
#[must_use]
#[inline(always)]
pub const fn transport_len(ip: &Ipv4) -> TransportLen {
    if ip.protocol == IPPROTO_TCP {
        TransportLen::At(ip.header_len + TCP_DATA_OFFSET_AT)
    } else {
        TransportLen::Known(UDP_LEN as u32)
    }
}

/// Length of the TCP header whose data-offset byte is `byte`.
#[must_use]
#[inline(always)]
pub const fn tcp_header_len(byte: u8) -> u32 {
    (byte >> 4) as u32 * 4
}

/// Which port makes a packet one to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// It came to the data port: all that comes is ours, good or bad.
    Data,
    /// It came from another's data port: the answer to a probe that left by flow, or none of our business.
    Answer,
}

/// The outer headers of an underlay frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outer {
    /// Address the packet came from.
    pub source: Ip4,
    /// Address it was sent to.
    pub destination: Ip4,
    /// Which port makes it one to look at.
    pub port: Port,
    /// Port it was sent from.
    pub source_port: u16,
    /// Bytes that IP says the packet has.
    pub total_len: u32,
    /// Hop limit.
    pub ttl: u8,
    /// UDP checksum; zero when there is none.
    pub checksum: u16,
}

/// Reads the outer headers of a frame, or `None` when it is not for the data plane: not plain IPv4 and UDP, a fragment,
/// with IP options, or neither to nor from the data port.
#[must_use]
#[inline(always)]
pub const fn outer(header: &[u8; OUTER_UDP_LEN], config: &Config) -> Option<Outer> {
    let ethertype = u16::from_be_bytes([header[12], header[13]]);
    let fragment = u16::from_be_bytes([header[20], header[21]]) & FRAGMENT_MASK;
    let plain = ethertype == ETHERTYPE_IPV4 && header[IP_AT] == 0x45 && header[23] == IPPROTO_UDP && fragment == 0;
    if !plain {
        return None;
    }
    let source_port = u16::from_be_bytes([header[34], header[35]]);
    let port = if u16::from_be_bytes([header[36], header[37]]) == config.data_port {
        Port::Data
    } else if source_port == config.data_port {
        Port::Answer
    } else {
        return None;
    };
    Some(Outer {
        port,
        source_port,
        ttl: header[22],
        source: Ip4([header[26], header[27], header[28], header[29]]),
        destination: Ip4([header[30], header[31], header[32], header[33]]),
        total_len: u16::from_be_bytes([header[16], header[17]]) as u32,
        checksum: u16::from_be_bytes([header[40], header[41]]),
    })
}

/// Length of two MACs, with which every frame begins.
pub const MACS_LEN: usize = 12;

/// The first bytes of a frame delivered to a container: destination and source MAC.
#[must_use]
#[inline(always)]
pub const fn macs(to: Mac, from: Mac) -> [u8; MACS_LEN] {
    let (t, f) = (to.0, from.0);
    [t[0], t[1], t[2], t[3], t[4], t[5], f[0], f[1], f[2], f[3], f[4], f[5]]
}

#[cfg(test)]
mod tests;
