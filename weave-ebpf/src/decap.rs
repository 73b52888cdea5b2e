//! From the underlay: to the container that holds the inner destination, on to the next peer, or, for a probe, to `probe`.
//!
//! What is not for this host's data port, nor an answer to a probe, passes untouched, whatever it is.
//!
//! A packet may come without an Ethernet header: from a device that has none, and, since kernels copy a packet for
//! generic XDP without noting the header's length, from any device with such a program. One that is ours gets a header.

use weave_common::{
    config::Config,
    drop::DropReason,
    vxlan::{self, HEADER_LEN},
    wire::{IPV4_LEN, UDP_LEN},
};

use crate::parse::{Outer, Port};

/// What a packet to or from a data port is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A frame of the overlay.
    Data,
    /// A probe.
    Probe,
    /// None of our business.
    Foreign,
}

/// Tells what carries this VXLAN header.
///
/// # Errors
/// On the data port alone: [`DropReason::Malformed`] when the header names no network, [`DropReason::WrongVni`] when it
/// names another.
#[inline(always)]
pub const fn classify(header: &[u8; HEADER_LEN], port: Port, config: &Config) -> Result<Class, DropReason> {
    match (vxlan::vni(header), port) {
        (Some(vxlan::PROBE_VNI), _) => Ok(Class::Probe),
        (_, Port::Answer) => Ok(Class::Foreign),
        (Some(vni), Port::Data) if vni == config.vni => Ok(Class::Data),
        (None, Port::Data) => Err(DropReason::Malformed),
        (Some(_), Port::Data) => Err(DropReason::WrongVni),
    }
}

/// True when the outer IP length agrees with the `available` bytes from the outer IP header to the frame's end, and
/// leaves room for a VXLAN header. Not looked at for super-packets, whose length may have wrapped.
#[must_use]
#[inline(always)]
pub const fn length_agrees(outer: &Outer, available: u32, gso: bool) -> bool {
    gso || (outer.total_len >= (IPV4_LEN + UDP_LEN + HEADER_LEN) as u32 && outer.total_len <= available)
}

#[cfg(target_arch = "bpf")]
mod live {
    use weave_common::{
        config::Config,
        counters::Counter,
        drop::DropReason,
        endpoint::EndpointKey,
        tunnel::SenderKey,
        vxlan::{self, HEADER_LEN},
        wire::{ETH_LEN, ETHERTYPE_IPV4, IPPROTO_UDP, IPV4_LEN, PUSH_LEN},
    };

    use super::{Class, classify, length_agrees};
    use crate::{
        Outcome, maps,
        packet::Packet,
        parse::{self, ENCAPSULATED_MIN, INNER_AT, IP_AT, Ipv4, Names, OUTER_UDP_LEN, Outer, Port, VXLAN_AT},
        probe,
        relay::{self, Origin},
    };

    /// Decides what becomes of a frame that arrived on an underlay device.
    ///
    /// # Errors
    /// Why it is dropped; only packets to this host's data port are, and answers to probes.
    #[inline(always)]
    pub fn from_underlay(packet: &Packet) -> Result<Outcome, DropReason> {
        let Some(config) = maps::config() else { return Ok(Outcome::NotOurs) };
        if packet.vlan_id().is_some_and(|id| id != 0) || !packet.is_for_host() {
            return Ok(Outcome::NotOurs);
        }
        let bare = packet.is_bare_ipv4();
        let header = if bare { bare_header(packet) } else { framed_header(packet) };
        let Some(outer) = header.and_then(|header| parse::outer(&header, config)) else {
            return Ok(Outcome::NotOurs);
        };
        if !maps::is_local(outer.destination) {
            return Ok(Outcome::NotOurs);
        }
        if bare {
            packet.put_ethernet()?;
        }
        let gso = packet.gso_size() != 0;
        if !length_agrees(&outer, packet.frame_len() - IP_AT as u32, gso) || !packet.pull(INNER_AT as u32) {
            return match outer.port {
                Port::Data => Err(DropReason::Malformed),
                Port::Answer => Ok(Outcome::NotOurs),
            };
        }
        let header = packet.read::<HEADER_LEN>(VXLAN_AT).ok_or(DropReason::Malformed)?;
        match classify(&header, outer.port, config)? {
            Class::Probe => probe::from_underlay(packet, &outer, config, bare),
            Class::Data => to_container(packet, &outer, config, gso),
            Class::Foreign => Ok(Outcome::NotOurs),
        }
    }

    /// What a frame begins with.
    #[inline(always)]
    fn framed_header(packet: &Packet) -> Option<[u8; OUTER_UDP_LEN]> {
        if packet.pull(OUTER_UDP_LEN as u32) { packet.read(0) } else { None }
    }

    /// What a packet without Ethernet header would begin with if it had one.
    #[inline(always)]
    fn bare_header(packet: &Packet) -> Option<[u8; OUTER_UDP_LEN]> {
        const BARE_LEN: usize = OUTER_UDP_LEN - ETH_LEN;
        if !packet.pull(BARE_LEN as u32) {
            return None;
        }
        let bare = packet.read::<BARE_LEN>(0)?;
        let mut header = [0; OUTER_UDP_LEN];
        [header[ETH_LEN - 2], header[ETH_LEN - 1]] = ETHERTYPE_IPV4.to_be_bytes();
        header[ETH_LEN..].copy_from_slice(&bare);
        Some(header)
    }

    /// Takes the outer headers off and hands the frame to its container, or sends the packet on when that is elsewhere.
    #[inline(always)]
    fn to_container(packet: &Packet, outer: &Outer, config: &Config, gso: bool) -> Result<Outcome, DropReason> {
        let sender = maps::sender(SenderKey::new(outer.source)).ok_or(DropReason::UnknownSender)?;
        if !packet.pull(ENCAPSULATED_MIN as u32) {
            return Err(DropReason::Malformed);
        }
        let (names, ip) = inner(packet, INNER_AT, gso)?;
        not_service(&ip, config)?;
        maps::note_heard(names.origin, outer.source, Some(sender.peer));
        let Some(endpoint) = maps::endpoint(EndpointKey::new(ip.destination)) else {
            return relay::to_next(packet, outer, sender.peer, config, (&names, &ip));
        };
        if gso && ip.protocol == IPPROTO_UDP {
            // The VXLAN socket device's program delivers it. Taking the outer headers off here leaves marks of the tunnel on
            // the packet that no helper removes, and with them a plain socket gets nothing of it.
            return Ok(Outcome::PassedUp { counter: Counter::ToSocket, bytes: packet.frame_len() - PUSH_LEN as u32 });
        }
        packet.pop()?;
        let bytes = packet.frame_len();
        packet.deliver(endpoint, ip.source)?;
        Ok(Outcome::Redirected { counter: Counter::Decap, bytes })
    }

    /// Decides what becomes of a frame that the VXLAN socket device took off the data port: outer fragments put together,
    /// UDP super-packets, packets by a device without the underlay's program. Delivers, or sends on, one hop further.
    ///
    /// # Errors
    /// Why it is dropped: nothing goes on from here to the host's stack.
    #[inline(always)]
    pub fn from_socket(packet: &Packet) -> Result<Outcome, DropReason> {
        let config = maps::config().ok_or(DropReason::NotConfigured)?;
        let tunnel = packet.tunnel().ok_or(DropReason::NotOnUnderlay)?;
        if tunnel.vni == vxlan::PROBE_VNI {
            return probe::from_socket(packet, &tunnel, config);
        }
        if tunnel.vni != config.vni {
            return Err(DropReason::WrongVni);
        }
        let sender = maps::sender(SenderKey::new(tunnel.remote)).ok_or(DropReason::UnknownSender)?;
        if !packet.pull((ETH_LEN + IPV4_LEN) as u32) {
            return Err(DropReason::Malformed);
        }
        let (names, ip) = inner(packet, 0, packet.gso_size() != 0)?;
        not_service(&ip, config)?;
        maps::note_heard(names.origin, tunnel.remote, Some(sender.peer));
        let Some(endpoint) = maps::endpoint(EndpointKey::new(ip.destination)) else {
            let origin = Origin { source: tunnel.remote, ttl: tunnel.ttl, peer: sender.peer };
            return relay::by_socket(packet, config, &origin, (&names, &ip));
        };
        let bytes = packet.frame_len();
        packet.deliver(endpoint, ip.source)?;
        Ok(Outcome::Redirected { counter: Counter::Decap, bytes })
    }

    /// The service address means another endpoint on each host: no peer sends from it, or to it.
    #[inline(always)]
    fn not_service(ip: &Ipv4, config: &Config) -> Result<(), DropReason> {
        let is_service =
            config.service != [0; 4] && (ip.source.0 == config.service || ip.destination.0 == config.service);
        if is_service { Err(DropReason::ServiceFromUnderlay) } else { Ok(()) }
    }

    /// The names and the IPv4 header of the inner frame that starts at `offset`.
    #[inline(always)]
    fn inner(packet: &Packet, offset: usize, gso: bool) -> Result<(Names, Ipv4), DropReason> {
        let at = offset + ETH_LEN;
        let headers = packet.read::<{ ETH_LEN + IPV4_LEN }>(offset).ok_or(DropReason::Malformed)?;
        Ok((parse::names(&headers), parse::inner(&headers, packet.frame_len() - at as u32, gso)?))
    }

    const _: () = assert!(PUSH_LEN == INNER_AT);
}

#[cfg(target_arch = "bpf")]
pub use live::{from_socket, from_underlay};

#[cfg(test)]
mod tests;
