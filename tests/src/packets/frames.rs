//! The network of the tables, and frames on it.
//!
//! The kernel runs the programs as if on the loopback device: index 1, MAC all zero.

use std::net::Ipv4Addr;

use weave_common::{
    addr::{Ip4, Mac, PeerKey},
    checksum,
    config::{Config, DNS_ANSWERED, SCHEMA},
    endpoint::{ENDPOINT_SERVICE, Endpoint},
    probe::{Fields, ProbeKeys},
    tunnel::{PATH_DIRECT, PATH_FIXED, Tunnel},
    vxlan,
    wire::{ETHERTYPE_ARP, ETHERTYPE_IPV4, IPPROTO_UDP, OuterHeader, Push, inner_ethernet},
};

/// UDP port of the data plane.
pub(super) const DATA_PORT: u16 = 6784;
/// This peer's name.
pub(super) const ME: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Settings.
pub(super) const CONFIG: Config = Config {
    schema: SCHEMA,
    vni: vxlan::VNI,
    data_port: DATA_PORT,
    pad: 0,
    socket_ifindex: SOCKET_IF,
    me: ME,
    pad2: [0; 2],
    service: SERVICE.0,
    dns_ttl: 1,
    dns: DNS_ANSWERED,
};
/// Keys of cookies: of this run, and of the one before.
pub(super) const KEYS: ProbeKeys = ProbeKeys { current: [7, 8], former: [9, 10] };

/// The device that programs believe to run on.
pub(super) const OWN_IF: u32 = 1;
/// Host end of another container.
pub(super) const OTHER_IF: u32 = 99;
/// The VXLAN socket device.
pub(super) const SOCKET_IF: u32 = 98;
/// First address of the container on [`OWN_IF`].
pub(super) const OWN: Ip4 = Ip4([10, 32, 0, 1]);
/// Second address of the same container.
pub(super) const OWN_SECOND: Ip4 = Ip4([10, 32, 0, 9]);
/// Host end of the service endpoint.
const SERVICE_IF: u32 = 97;
/// The service address.
pub(super) const SERVICE: Ip4 = Ip4([10, 32, 255, 254]);
/// The container on [`OTHER_IF`].
pub(super) const NEIGHBOUR: Ip4 = Ip4([10, 32, 0, 2]);
/// In this host's range, held by nobody.
pub(super) const VACANT: Ip4 = Ip4([10, 32, 0, 77]);
/// On a peer.
pub(super) const REMOTE: Ip4 = Ip4([10, 40, 0, 5]);
/// On a peer that nobody knows how to reach.
pub(super) const LOST: Ip4 = Ip4([10, 41, 0, 5]);
/// On a peer to which this host relays.
pub(super) const FAR: Ip4 = Ip4([10, 42, 0, 5]);
/// In no range.
pub(super) const NOWHERE: Ip4 = Ip4([172, 16, 0, 1]);

pub(super) const LOCAL_NET: (Ip4, u32) = (Ip4([10, 32, 0, 0]), 16);
pub(super) const PEER_NET: (Ip4, u32) = (Ip4([10, 40, 0, 0]), 16);
pub(super) const LOST_NET: (Ip4, u32) = (Ip4([10, 41, 0, 0]), 16);
pub(super) const FAR_NET: (Ip4, u32) = (Ip4([10, 42, 0, 0]), 16);
pub(super) const PEER: PeerKey = PeerKey::new([2, 0, 0, 0, 0, 7]);
pub(super) const LOST_PEER: PeerKey = PeerKey::new([2, 0, 0, 0, 0, 8]);
pub(super) const FAR_PEER: PeerKey = PeerKey::new([2, 0, 0, 0, 0, 9]);

/// This host's only underlay address.
pub(super) const HERE_UNDERLAY: Ip4 = Ip4([127, 0, 0, 1]);
pub(super) const PEER_UNDERLAY: Ip4 = Ip4([127, 0, 0, 2]);
pub(super) const STRANGER_UNDERLAY: Ip4 = Ip4([127, 0, 0, 3]);
pub(super) const FAR_UNDERLAY: Ip4 = Ip4([127, 0, 0, 4]);
/// Data port of that peer.
pub(super) const FAR_PORT: u16 = 7001;
/// Largest inner packet to the peer.
pub(super) const INNER_MTU: usize = 1450;
/// What encapsulation adds.
pub(super) const OVERHEAD: usize = vxlan::OVERHEAD as usize;

/// The kernel takes no frame shorter than this, and none that says IPv4 without room for its header.
pub(super) const SHORTEST: usize = 15;
pub(super) const SHORTEST_IPV4: usize = 34;
/// An IP packet close to the longest that the kernel takes, which is bounded by a page.
pub(super) const LONG: usize = 3000;

/// MAC that a container puts as its own; never looked at.
pub(super) const ANY_MAC: [u8; 6] = [2, 9, 9, 9, 9, 9];
/// MAC of the loopback device.
pub(super) const HOST_MAC: [u8; 6] = [0; 6];

/// Where questions for names are answered.
pub(super) fn service() -> Endpoint {
    Endpoint { flags: ENDPOINT_SERVICE, ..Endpoint::new(SERVICE_IF, Mac::of_container(SERVICE.0)) }
}

pub(super) fn endpoints() -> [(Ip4, Endpoint); 4] {
    let own = Endpoint::new(OWN_IF, Mac::of_container(OWN.0));
    let neighbour = Endpoint::new(OTHER_IF, Mac::of_container(NEIGHBOUR.0));
    [(OWN, own), (OWN_SECOND, own), (NEIGHBOUR, neighbour), (SERVICE, service())]
}

/// The headers prepared for packets to the peer.
pub(super) fn push() -> Push {
    let outer = OuterHeader::prepare(HERE_UNDERLAY.into(), PEER_UNDERLAY.into(), DATA_PORT, vxlan::VNI);
    Push { outer, ethernet: inner_ethernet(PEER.name, ME), pad: [0; 2] }
}

pub(super) fn tunnel() -> Tunnel {
    Tunnel {
        push: push(),
        ifindex: OWN_IF,
        next_hop: PEER_UNDERLAY.0,
        inner_mtu: INNER_MTU as u32,
        kind: PATH_DIRECT,
        via: PEER,
        pad: [0; 4],
        sent_ns: 0,
        big_ns: 0,
        heard_ns: 0,
        elsewhere_ns: 0,
    }
}

/// To the far peer, which has another data port.
pub(super) fn far_tunnel() -> Tunnel {
    let outer = OuterHeader::prepare(HERE_UNDERLAY.into(), FAR_UNDERLAY.into(), FAR_PORT, vxlan::VNI);
    Tunnel {
        push: Push { outer, ethernet: inner_ethernet(FAR_PEER.name, ME), pad: [0; 2] },
        next_hop: FAR_UNDERLAY.0,
        via: FAR_PEER,
        ..tunnel()
    }
}

/// `tunnel` for packets that all leave from the data port.
pub(super) fn of_one_port(tunnel: Tunnel) -> Tunnel {
    let push = Push { outer: tunnel.push.outer.leaving_from(DATA_PORT), ..tunnel.push };
    Tunnel { push, kind: PATH_FIXED, ..tunnel }
}

/// Name of the peer whose containers have this address; this one's for an address of nobody.
fn owner(addr: Ip4) -> [u8; 6] {
    let peers = [(PEER_NET, PEER), (LOST_NET, LOST_PEER), (FAR_NET, FAR_PEER)];
    peers.into_iter().find(|((net, _), _)| net.0[..2] == addr.0[..2]).map_or(ME, |(_, peer)| peer.name)
}

pub(super) fn ethernet(to: [u8; 6], from: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from[..], &ethertype.to_be_bytes()[..], payload].concat()
}

/// An IPv4 packet of `len` bytes with protocol `protocol` and a payload that differs from byte to byte.
pub(super) fn ipv4(source: Ip4, destination: Ip4, protocol: u8, len: usize) -> Vec<u8> {
    let mut header = [0_u8; 20];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&u16::try_from(len).unwrap_or(0).to_be_bytes());
    header[8] = 64;
    header[9] = protocol;
    header[12..16].copy_from_slice(&source.0);
    header[16..20].copy_from_slice(&destination.0);
    let sum = checksum::ipv4_header(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut packet = header.to_vec();
    packet.extend((0..len.saturating_sub(20)).map(|n| n as u8));
    packet
}

/// A frame of `ip_len` + 14 bytes as a container sends it.
pub(super) fn from_container(source: Ip4, destination: Ip4, ip_len: usize) -> Vec<u8> {
    let to = Mac::of_container(destination.0).0;
    ethernet(to, ANY_MAC, ETHERTYPE_IPV4, &ipv4(source, destination, IPPROTO_UDP, ip_len))
}

/// An ARP frame.
pub(super) fn arp(operation: u16, sender: Ip4, target: Ip4) -> Vec<u8> {
    let mut message = vec![0, 1, 8, 0, 6, 4];
    message.extend(operation.to_be_bytes());
    message.extend(ANY_MAC);
    message.extend(sender.0);
    message.extend([0; 6]);
    message.extend(target.0);
    ethernet([0xff; 6], ANY_MAC, ETHERTYPE_ARP, &message)
}

/// The answer to `arp(1, sender, target)`.
pub(super) fn arp_reply(sender: Ip4, target: Ip4) -> Vec<u8> {
    let mac = Mac::of_container(target.0).0;
    let mut message = vec![0, 1, 8, 0, 6, 4, 0, 2];
    message.extend(mac);
    message.extend(target.0);
    message.extend(ANY_MAC);
    message.extend(sender.0);
    ethernet(ANY_MAC, mac, ETHERTYPE_ARP, &message)
}

/// What a peer sends, in parts that a test may spoil before it is put together.
#[derive(Clone)]
pub(super) struct Underlay {
    pub(super) source: Ip4,
    pub(super) source_port: u16,
    pub(super) port: u16,
    pub(super) tos: u8,
    pub(super) ttl: u8,
    pub(super) vxlan: [u8; vxlan::HEADER_LEN],
    pub(super) inner: Vec<u8>,
    pub(super) checksum: u16,
}

impl Underlay {
    /// A frame for `destination` from the peer's [`REMOTE`] container.
    pub(super) fn data(destination: Ip4) -> Self {
        Self::data_of(destination, 60)
    }

    /// The same with an inner packet of `len` bytes.
    pub(super) fn data_of(destination: Ip4, len: usize) -> Self {
        let packet = ipv4(REMOTE, destination, IPPROTO_UDP, len);
        let inner = [&inner_ethernet(owner(destination), PEER.name)[..], &packet].concat();
        Self { inner, vxlan: vxlan::header(vxlan::VNI), ..Self::probe(&REQUEST) }
    }

    /// The same for another receiver than the owner of its destination.
    pub(super) fn named(mut self, receiver: [u8; 6]) -> Self {
        self.inner[..6].copy_from_slice(&receiver);
        self
    }

    /// The peer's probe.
    pub(super) fn probe(probe: &Fields) -> Self {
        Self {
            source: PEER_UNDERLAY,
            source_port: 50_000,
            port: DATA_PORT,
            tos: 0,
            ttl: 64,
            vxlan: vxlan::header(vxlan::PROBE_VNI),
            inner: probe_bytes(probe),
            checksum: 0,
        }
    }

    /// The same, padded to an IP packet of `len` bytes.
    pub(super) fn probe_of(probe: &Fields, len: usize) -> Self {
        let mut packet = Self::probe(probe);
        packet.inner.extend((packet.inner.len() + 36..len).map(|n| n as u8));
        packet
    }

    /// The same from somebody unknown.
    pub(super) fn of_stranger(self) -> Self {
        Self { source: STRANGER_UNDERLAY, ..self }
    }

    /// An answer to a probe that left from a port of its own: from data port to that port.
    pub(super) fn answer(probe: &Fields) -> Self {
        Self { source_port: DATA_PORT, port: 50_000, ..Self::probe(probe) }
    }

    /// The frame on the wire.
    pub(super) fn frame(&self) -> Vec<u8> {
        let udp_len = 8 + self.vxlan.len() + self.inner.len();
        let mut packet = ipv4(self.source, HERE_UNDERLAY, IPPROTO_UDP, 20 + udp_len);
        packet.truncate(20);
        packet[1] = self.tos;
        packet[6] = 0x40;
        packet[8] = self.ttl;
        packet[10..12].copy_from_slice(&[0, 0]);
        let sum = packet.first_chunk().map_or(0, checksum::ipv4_header);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend(self.source_port.to_be_bytes());
        packet.extend(self.port.to_be_bytes());
        packet.extend(u16::try_from(udp_len).unwrap_or(0).to_be_bytes());
        packet.extend(self.checksum.to_be_bytes());
        packet.extend(self.vxlan);
        packet.extend(&self.inner);
        ethernet(HOST_MAC, ANY_MAC, ETHERTYPE_IPV4, &packet)
    }
}

/// A request of the peer for this host.
pub(super) const REQUEST: Fields = Fields {
    receiver: ME,
    origin: PEER.name,
    flags: 0,
    hops: 2,
    request_hops: 0,
    path: 0x0304,
    size: 0,
    cookie: 0x1112_1314_1516_1718,
    clock: 0x2122_2324_2526_2728,
};

/// The bytes of a probe, as the layout says: written here once more, apart from the code under test.
pub(super) fn probe_bytes(probe: &Fields) -> Vec<u8> {
    let Fields { receiver, origin, flags, hops, request_hops, path, size, cookie, clock } = probe;
    let (path, size, cookie, clock) =
        (path.to_be_bytes(), size.to_be_bytes(), cookie.to_be_bytes(), clock.to_be_bytes());
    let kind = [0x88, 0xb5, 1, *flags, *hops, *request_hops];
    [&receiver[..], origin, &kind, &path, &size, &cookie, &clock].concat()
}

/// The UDP checksum of an IPv4 frame without options, computed whole.
pub(super) fn udp_checksum(frame: &[u8]) -> u16 {
    let (addresses, udp) = (&frame[26..34], &frame[34..]);
    let mut bytes = addresses.to_vec();
    bytes.extend([0, IPPROTO_UDP]);
    bytes.extend(u16::try_from(udp.len()).unwrap_or(0).to_be_bytes());
    bytes.extend(&udp[..6]);
    bytes.extend([0, 0]);
    bytes.extend(&udp[8..]);
    if bytes.len() % 2 == 1 {
        bytes.push(0);
    }
    let sum: u32 = bytes.chunks_exact(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    !checksum::fold(sum)
}

/// The address as the rest of the world writes it.
pub(super) fn dotted(addr: Ip4) -> Ipv4Addr {
    addr.into()
}
