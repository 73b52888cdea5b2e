//! From a container: to another on this host, encapsulated to the peer that owns the destination, or out of the network
//! through this host.
//!
//! The host itself is a container whose interface is in this namespace. Where it is the gateway, it may also forward to
//! local containers what comes from outside the network, and to nothing else.

use weave_common::{
    checksum,
    counters::Counter,
    tunnel::{PATH_FIXED, PATH_RELAYED},
    wire::{IPV4_LEN, PUSH_LEN, Push},
};

/// First of the UDP source ports used, which are the dynamic ones (RFC 6335).
const PORT_FIRST: u16 = 49152;
/// The low bits of the flow's hash that make the port.
const PORT_MASK: u32 = 0x3fff;

/// Completes `prepared` for an IP packet of `ip_len` bytes of the flow with `flow_hash`.
///
/// The source port is the prepared one, if there is any, else made from the flow's hash. Lengths of a super-packet can
/// exceed 16 bits by the headers' length; they are cut off, and set right for each segment by the stack or the device.
#[must_use]
#[inline(always)]
pub fn headers(prepared: &Push, ip_len: u32, flow_hash: u32) -> Push {
    let mut push = *prepared;
    let outer = &mut push.outer;
    let total = (ip_len + (PUSH_LEN as u32)) as u16;
    let udp = total.wrapping_sub(IPV4_LEN as u16);
    let of_flow = PORT_FIRST + ((flow_hash ^ (flow_hash >> 16)) & PORT_MASK) as u16;
    let port = match outer.source_port() {
        0 => of_flow,
        prepared => prepared,
    };
    let sum = u16::from_be_bytes([outer.ipv4[10], outer.ipv4[11]]);
    [outer.ipv4[2], outer.ipv4[3]] = total.to_be_bytes();
    [outer.ipv4[10], outer.ipv4[11]] = checksum::update(sum, 0, total).to_be_bytes();
    [outer.udp[0], outer.udp[1]] = port.to_be_bytes();
    [outer.udp[4], outer.udp[5]] = udp.to_be_bytes();
    push
}

/// The counter of packets that leave by a tunnel of this kind.
#[must_use]
#[inline(always)]
pub const fn counter(kind: u32) -> Counter {
    match kind {
        PATH_FIXED => Counter::EncapFixed,
        PATH_RELAYED => Counter::EncapRelayed,
        _ => Counter::Encap,
    }
}

#[cfg(target_arch = "bpf")]
mod live {
    use weave_common::{
        config::Config,
        counters::Counter,
        drop::DropReason,
        endpoint::{ENDPOINT_SERVICE, Endpoint, EndpointKey},
        wire::{ETH_LEN, ETHERTYPE_ARP, ETHERTYPE_IPV4, IPV4_LEN},
    };

    use super::{counter, headers};
    use crate::{
        Outcome, arp, dns, maps,
        packet::Packet,
        parse::{self, IP_AT, Ipv4, TransportLen},
        source::{self, Source},
        too_big,
    };

    /// Decides what becomes of a frame that a container sent.
    ///
    /// # Errors
    /// Why it is dropped.
    #[inline(always)]
    pub fn from_container(packet: &Packet) -> Result<Outcome, DropReason> {
        let config = maps::config().ok_or(DropReason::NotConfigured)?;
        // The kernel takes the mark off between namespaces alone. One that the host put on must not be read as our own.
        if packet.mark() != 0 {
            packet.clear_mark();
        }
        if packet.vlan_id().is_some() {
            return Err(DropReason::NotIpv4);
        }
        let header = packet.read::<ETH_LEN>(0).ok_or(DropReason::Malformed)?;
        let ethernet = parse::ethernet(&header);
        match ethernet.ethertype {
            ETHERTYPE_ARP => return arp::answer(packet),
            ETHERTYPE_IPV4 => {}
            _ => return Err(DropReason::NotIpv4),
        }
        if !packet.pull((ETH_LEN + IPV4_LEN) as u32) {
            return Err(DropReason::Malformed);
        }
        let header = packet.read::<IPV4_LEN>(IP_AT).ok_or(DropReason::Malformed)?;
        let ip = parse::ipv4(&header, packet.frame_len() - ETH_LEN as u32, packet.gso_size() != 0)?;
        let source = source::check(ip.source, packet.ifindex())?;
        if ethernet.group || parse::is_group(ip.destination) {
            return Err(DropReason::Multicast);
        }
        let endpoint = maps::endpoint(EndpointKey::new(ip.destination));
        // From outside the host forwards to containers alone. Nobody checked who sends from there, so an answer to a question
        // might go to whoever an attacker names.
        if source == Source::Outside
            && endpoint.is_none_or(|endpoint| endpoint.ifindex == packet.ifindex() || endpoint.has(ENDPOINT_SERVICE))
        {
            return Err(DropReason::SourceAddress);
        }
        if let Some(service) = endpoint.filter(|endpoint| endpoint.has(ENDPOINT_SERVICE)) {
            return dns::to_service(packet, &ip, service, config);
        }
        if let Some(endpoint) = endpoint {
            let bytes = packet.frame_len();
            packet.deliver(endpoint, ip.source)?;
            return Ok(Outcome::Redirected { counter: Counter::Local, bytes });
        }
        if source == Source::Service {
            return Err(DropReason::ServicePort);
        }
        to_peer(packet, &ip, config)
    }

    /// Hands the frame to the host, which forwards it out of the network.
    #[inline(always)]
    fn to_outside(packet: &Packet, ip: &Ipv4, host: &Endpoint) -> Result<Outcome, DropReason> {
        if host.ifindex == packet.ifindex() || !parse::is_routable(ip.destination) {
            return Err(DropReason::NoRoute);
        }
        let bytes = packet.frame_len();
        packet.deliver(host, ip.source)?;
        Ok(Outcome::Redirected { counter: Counter::Outside, bytes })
    }

    /// Encapsulates and sends to the owner of the destination, or hands to the host what is for outside the network.
    #[inline(always)]
    fn to_peer(packet: &Packet, ip: &Ipv4, config: &Config) -> Result<Outcome, DropReason> {
        let route = maps::route(ip.destination).ok_or(DropReason::NoRoute)?;
        if let Some(host) = maps::gateway_by(route) {
            return to_outside(packet, ip, host);
        }
        let (_, way) = maps::owner_by(route)?;
        let tunnel = way.tunnel();
        let largest = largest(packet, IP_AT as u32, ip, packet.frame_len() - ETH_LEN as u32)?;
        if largest > tunnel.inner_mtu {
            return too_big::handle(packet, ip, &way, config);
        }
        let bytes = packet.frame_len();
        let push = headers(&tunnel.push, bytes - ETH_LEN as u32, packet.flow_hash());
        packet.push(&push)?;
        way.note_sent(largest);
        packet.redirect_neigh(tunnel.ifindex, u32::from_ne_bytes(tunnel.next_hop))?;
        Ok(Outcome::Redirected { counter: counter(tunnel.kind), bytes })
    }

    /// Length of the largest IP packet that a super-packet will be cut into, whose header is at `at`; `len` for an ordinary
    /// packet of that length.
    #[inline(always)]
    pub(crate) fn largest(packet: &Packet, at: u32, ip: &Ipv4, len: u32) -> Result<u32, DropReason> {
        let gso_size = packet.gso_size();
        if gso_size == 0 {
            return Ok(len);
        }
        let transport = match parse::transport_len(ip) {
            TransportLen::Known(len) => len,
            TransportLen::At(offset) => parse::tcp_header_len(packet.byte(at + offset).ok_or(DropReason::Malformed)?),
        };
        Ok(ip.header_len + transport + gso_size)
    }
}

#[cfg(target_arch = "bpf")]
pub use live::from_container;
#[cfg(target_arch = "bpf")]
pub(crate) use live::largest;

#[cfg(test)]
mod tests;
