//! What the controller wants of each tunnel, the entry that the kernel gets for it, and when it was used: pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
    ops::Bound,
};

use weave_common::{addr::PeerKey, config::Config, tunnel::Tunnel, vxlan, wire::OuterHeader};

use super::UnderlayRoute;
use crate::proto::{io::TunnelTo, name::PeerName};

/// The tunnels that should be.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    tunnels: BTreeMap<PeerName, TunnelTo>,
    /// The last that [`Self::next`] gave.
    last: Option<PeerName>,
}

impl Wanted {
    /// Wants `to`.
    pub(super) fn put(&mut self, peer: PeerName, to: TunnelTo) {
        self.tunnels.insert(peer, to);
    }

    /// Wants no tunnel to `peer`.
    pub(super) fn remove(&mut self, peer: PeerName) {
        self.tunnels.remove(&peer);
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<(PeerName, TunnelTo)> {
        self.tunnels.iter().map(|(peer, to)| (*peer, *to)).collect()
    }

    /// At most `max` peers, each once, after those of the last call; after the last of all comes the first again.
    pub(super) fn next(&mut self, max: usize) -> Vec<PeerName> {
        let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let upto = self.last.map_or(Bound::Unbounded, Bound::Included);
        let rest = self.tunnels.range((after, Bound::Unbounded));
        // With no last one all are the rest already.
        let wrapped = self.tunnels.range((Bound::Unbounded, upto)).filter(|_| self.last.is_some());
        let next: Vec<_> = rest.chain(wrapped).map(|(peer, _)| *peer).take(max).collect();
        self.last = next.last().copied();
        next
    }

    /// Every address that is sent to.
    pub(super) fn addresses(&self) -> BTreeSet<Ipv4Addr> {
        self.tunnels.values().map(|to| *to.remote.ip()).collect()
    }
}

/// When each tunnel was used, as far as it was told. No more of them than tunnels.
#[derive(Debug, Default)]
pub(super) struct Traffic(BTreeMap<PeerName, u64>);

impl Traffic {
    /// True when the tunnel to `peer`, last used at `used_ns`, was used since this was last asked of it.
    pub(super) fn is_news(&mut self, peer: PeerName, used_ns: u64) -> bool {
        let seen = self.0.entry(peer).or_default();
        let news = used_ns > *seen;
        *seen = used_ns;
        news
    }

    /// There is no tunnel to `peer` any more.
    pub(super) fn forget(&mut self, peer: PeerName) {
        self.0.remove(&peer);
    }
}

/// The kernel's entry for a tunnel over `route`.
pub(super) fn entry(to: TunnelTo, route: UnderlayRoute, config: &Config) -> Tunnel {
    let path_mtu = if to.path_mtu == 0 { u32::MAX } else { to.path_mtu };
    let outer = OuterHeader::prepare(route.source, *to.remote.ip(), to.remote.port(), config.vni, to.short_id);
    Tunnel {
        outer: if to.translated { outer.leaving_from(config.probe_port) } else { outer },
        ifindex: route.ifindex,
        next_hop: route.next_hop.octets(),
        inner_mtu: route.mtu.min(path_mtu).saturating_sub(vxlan::OVERHEAD),
        path_mtu: to.path_mtu,
        pad: [0; 4],
        via: PeerKey::new(to.via.bytes()),
        used_ns: 0,
    }
}

/// What must have been wanted for the kernel to have this entry.
pub(super) fn wanted_by(tunnel: &Tunnel) -> TunnelTo {
    let OuterHeader { ipv4, udp, vxlan } = &tunnel.outer;
    let remote = Ipv4Addr::new(ipv4[16], ipv4[17], ipv4[18], ipv4[19]);
    let port = u16::from_be_bytes([udp[2], udp[3]]);
    TunnelTo {
        remote: SocketAddrV4::new(remote, port),
        short_id: u16::from_be_bytes([vxlan[2], vxlan[3]]),
        via: PeerName::from_bytes(tunnel.via.name),
        translated: tunnel.outer.source_port() != 0,
        path_mtu: tunnel.path_mtu,
    }
}

#[cfg(test)]
mod tests;
