//! What the kernels' maps do to a packet: a walk from host to host, deciding at each as the kernel programs do.
//!
//! At the sender: the source must be a local endpoint; a local destination is delivered; else longest-prefix route, tunnel of
//! that peer, size. At each receiver: the outer source must be a peer's; a local destination is delivered; a packet that names
//! another receiver goes on by the tunnel of that one, one that names this host by route, but never back to where it came
//! from. No controller is asked.
//! Bounds: [`TTL`] hops.
//!
//! Does not: lose packets by chance; it tells what the maps and the cuts do to them.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddrV4},
};

use ipnet::Ipv4Net;
use weave_common::vxlan;
use weave_ctl::proto::{
    datapath::Maps,
    io::{RouteTo, TunnelTo},
    name::PeerName,
};

use super::{
    HostId, World,
    kernel::Kernel,
    net::{DATA_PORT, FLOW_PORT, Passed, Stop},
};

/// Hops that a packet may take.
pub const TTL: u32 = 64;
/// Inner IP packet in bytes that every path takes.
pub const SMALL: u32 = 200;

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrived.
    Delivered {
        /// Where.
        host: HostId,
        /// Hosts that it was sent to on its way; zero for a container on the same host.
        hops: u32,
    },
    /// It did not.
    Lost {
        /// The host that dropped it or sent it to nowhere.
        at: HostId,
        /// Why.
        why: Why,
    },
}

/// Why a packet did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Sent from an address that no local container has.
    SourceAddress,
    /// The destination is in no range.
    NoRoute,
    /// The destination is in a range of this host, and no container has it.
    NoEndpoint,
    /// Its owner cannot be sent to.
    NoTunnel,
    /// Larger than what the tunnel takes, says its entry: the sender is told.
    TooBig,
    /// Came from an address that is no peer's.
    UnknownSender,
    /// Would go back to where it came from.
    Backwards,
    /// Went on for [`TTL`] hops.
    Ttl,
    /// The receiver has no power, or no programs.
    NoPrograms,
    /// The underlay did not carry it.
    Underlay(Stop),
}

impl Fate {
    /// True when it arrived.
    #[must_use]
    pub fn is_delivered(self) -> bool {
        matches!(self, Self::Delivered { .. })
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delivered { host, hops } => write!(f, "delivered at h{host} after {hops} hops"),
            Self::Lost { at, why: Why::Underlay(why) } => write!(f, "lost from h{at}: {why}"),
            Self::Lost { at, why } => write!(f, "dropped at h{at}: {why:?}"),
        }
    }
}

/// A step of a packet on its way.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// It leaves a host by the tunnel to that peer.
    Left {
        /// The host.
        at: HostId,
        /// The peer.
        peer: PeerName,
        /// The peer that receives it next.
        via: PeerName,
        /// The UDP port that it leaves from.
        port: u16,
        /// Where it is sent to.
        remote: SocketAddrV4,
    },
    /// It arrives at a host, as a peer's, from this address.
    Came(HostId, Ipv4Addr),
}

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whither {
    /// To a container.
    Container(Ipv4Addr),
    /// To any container of that peer: a packet whose range is routed to it.
    Peer(PeerName),
}

impl World {
    /// Sends a packet of `size` bytes, inner IP header included, from the container `src` on host `from` to the
    /// container `dst`.
    #[must_use]
    pub fn forward(&self, from: HostId, src: Ipv4Addr, dst: Ipv4Addr, size: u32) -> Fate {
        self.forward_seen(from, src, dst, size, |_| {})
    }

    /// As [`Self::forward`]; `seen` is told of each step.
    pub(super) fn forward_seen(
        &self,
        from: HostId,
        src: Ipv4Addr,
        dst: Ipv4Addr,
        size: u32,
        seen: impl FnMut(Step),
    ) -> Fate {
        let Some(kernel) = self.programs(from) else { return Fate::Lost { at: from, why: Why::NoPrograms } };
        if !kernel.maps.endpoints.contains_key(&src) {
            return Fate::Lost { at: from, why: Why::SourceAddress };
        }
        if kernel.maps.endpoints.contains_key(&dst) {
            return Fate::Delivered { host: from, hops: 0 };
        }
        self.carry(from, Whither::Container(dst), size, seen)
    }

    /// What would become of a packet from `from` to whatever container of host `to`.
    #[must_use]
    pub fn reach(&self, from: HostId, to: HostId, size: u32) -> Fate {
        self.reach_seen(from, to, size, |_| {})
    }

    /// As [`Self::reach`]; `seen` is told of each step.
    pub(super) fn reach_seen(&self, from: HostId, to: HostId, size: u32, seen: impl FnMut(Step)) -> Fate {
        let Some(host) = self.hosts.get(&to) else { return Fate::Lost { at: from, why: Why::NoRoute } };
        self.carry(from, Whither::Peer(host.name), size, seen)
    }

    /// The way of a packet and what became of it, for messages.
    #[must_use]
    pub fn explain(&self, from: HostId, to: HostId, size: u32) -> String {
        let Some(host) = self.hosts.get(&to) else { return format!("there is no h{to}") };
        let mut way = String::new();
        let fate = self.carry(from, Whither::Peer(host.name), size, |step| {
            if let Step::Left { at, via, remote, .. } = step {
                way += &format!("h{at} -> {remote} via {via}, ");
            }
        });
        format!("h{from} to h{to}, {size} bytes: {way}{fate}")
    }

    fn programs(&self, host: HostId) -> Option<&Kernel> {
        self.hosts.get(&host).map(|h| &h.kernel).filter(|k| k.on && k.loaded)
    }

    /// From `from` on, once it is settled that the destination is on another host.
    fn carry(&self, from: HostId, to: Whither, size: u32, mut seen: impl FnMut(Step)) -> Fate {
        let mut at = from;
        let mut came_from = None;
        // The receiver's name in the inner Ethernet header, once the sender has put it there.
        let mut named = None;
        for hops in 1..=TTL {
            let lost = |why| Fate::Lost { at, why };
            let Some(kernel) = self.programs(at) else { return lost(Why::NoPrograms) };
            let here = self.hosts.get(&at).map(|host| host.name);
            let peer = match named.filter(|name| Some(*name) != here).map_or_else(|| next(&kernel.maps, to), Ok) {
                Ok(peer) => peer,
                Err(why) => return lost(why),
            };
            named = Some(peer);
            let Some(tunnel) = kernel.maps.tunnels.get(&peer) else { return lost(Why::NoTunnel) };
            let back = came_from
                .is_some_and(|ip| ip == *tunnel.remote.ip() || kernel.maps.senders.get(&ip) == Some(&tunnel.via));
            if back {
                return lost(Why::Backwards);
            }
            let outer = size + vxlan::OVERHEAD;
            if outer > tunnel.path_mtu {
                return lost(Why::TooBig);
            }
            let port = if tunnel.fixed { DATA_PORT } else { FLOW_PORT };
            let TunnelTo { via, remote, .. } = *tunnel;
            seen(Step::Left { at, peer, via, port, remote });
            let passed = self.net.packet((at, port), tunnel.remote, outer, self.now);
            let Passed { host: receiver, source, .. } = match passed {
                Ok(passed) if passed.port == DATA_PORT => passed,
                Ok(_) => return lost(Why::Underlay(Stop::NoPort)),
                Err(why) => return lost(Why::Underlay(why)),
            };
            at = receiver;
            let lost = |why| Fate::Lost { at, why };
            let Some(kernel) = self.programs(at) else { return lost(Why::NoPrograms) };
            if !kernel.maps.senders.contains_key(source.ip()) {
                return lost(Why::UnknownSender);
            }
            seen(Step::Came(at, *source.ip()));
            let arrived = match to {
                Whither::Container(addr) => kernel.maps.endpoints.contains_key(&addr),
                Whither::Peer(name) => self.by_name.get(&name) == Some(&at),
            };
            if arrived {
                return Fate::Delivered { host: at, hops };
            }
            came_from = Some(*source.ip());
        }
        Fate::Lost { at, why: Why::Ttl }
    }
}

/// The peer whose tunnel a packet leaves by.
fn next(maps: &Maps, to: Whither) -> Result<PeerName, Why> {
    let addr = match to {
        Whither::Peer(name) => return Ok(name),
        Whither::Container(addr) => addr,
    };
    match longest(maps, addr) {
        Some(RouteTo::Peer(peer)) => Ok(peer),
        Some(RouteTo::Local) => Err(Why::NoEndpoint),
        // Only to what its own host forwards.
        Some(RouteTo::Host(_)) | None => Err(Why::NoRoute),
    }
}

/// Longest-prefix match.
fn longest(maps: &Maps, addr: Ipv4Addr) -> Option<RouteTo> {
    let nets = (0..=32).rev().map(|len| Ipv4Net::new_assert(addr, len).trunc());
    nets.into_iter().find_map(|net| maps.routes.get(&net).copied())
}

#[cfg(test)]
mod tests;
