//! The peers that have a tunnel, the entry that the kernel gets for each, and when it was used: pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
    ops::Bound,
};

use weave_common::{addr::PeerKey, config::Config, tunnel::Tunnel, vxlan, wire::OuterHeader};

use crate::proto::{
    io::{Egress, PathKind, TunnelTo},
    name::PeerName,
};

/// The peers that have a tunnel, in the order in which they are looked at.
#[derive(Debug, Default)]
pub(super) struct Tunnels {
    peers: BTreeSet<PeerName>,
    /// The last that [`Self::next`] gave.
    last: Option<PeerName>,
}

impl Tunnels {
    /// There is a tunnel to `peer`.
    pub(super) fn insert(&mut self, peer: PeerName) {
        self.peers.insert(peer);
    }

    /// There is none any more.
    pub(super) fn remove(&mut self, peer: PeerName) {
        self.peers.remove(&peer);
    }

    /// At most `max` peers, each once, after those of the last call; after the last of all comes the first again.
    pub(super) fn next(&mut self, max: usize) -> Vec<PeerName> {
        let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let upto = self.last.map_or(Bound::Unbounded, Bound::Included);
        let rest = self.peers.range((after, Bound::Unbounded));
        // With no last one all are the rest already.
        let wrapped = self.peers.range((Bound::Unbounded, upto)).filter(|_| self.last.is_some());
        let next: Vec<_> = rest.chain(wrapped).copied().take(max).collect();
        self.last = next.last().copied();
        next
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

/// The kernel's entry for a tunnel.
pub(super) fn entry(to: &TunnelTo, config: &Config) -> Tunnel {
    let TunnelTo { remote, via, kind: _, fixed, egress, path_mtu } = *to;
    let outer = OuterHeader::prepare(egress.source, *remote.ip(), remote.port(), config.vni, 0);
    Tunnel {
        outer: if fixed { outer.leaving_from(config.probe_port) } else { outer },
        ifindex: egress.ifindex,
        next_hop: egress.next_hop.octets(),
        inner_mtu: path_mtu.saturating_sub(vxlan::OVERHEAD),
        path_mtu,
        pad: [0; 4],
        via: PeerKey::new(via.bytes()),
        used_ns: 0,
    }
}

/// The tunnel to `peer` that the kernel has. The route's MTU is not in its entry: it is at least the path's.
pub(super) fn read_back(peer: PeerName, tunnel: &Tunnel) -> TunnelTo {
    let OuterHeader { ipv4, udp, vxlan: _ } = &tunnel.outer;
    let source = Ipv4Addr::new(ipv4[12], ipv4[13], ipv4[14], ipv4[15]);
    let remote = Ipv4Addr::new(ipv4[16], ipv4[17], ipv4[18], ipv4[19]);
    let via = PeerName::from_bytes(tunnel.via.name);
    let fixed = tunnel.outer.source_port() != 0;
    let kind = match (via == peer, fixed) {
        (true, false) => PathKind::Direct,
        (true, true) => PathKind::Fixed,
        (false, _) => PathKind::Relayed,
    };
    let path_mtu = tunnel.inner_mtu + vxlan::OVERHEAD;
    TunnelTo {
        remote: SocketAddrV4::new(remote, u16::from_be_bytes([udp[2], udp[3]])),
        via,
        kind,
        fixed,
        egress: Egress { ifindex: tunnel.ifindex, next_hop: tunnel.next_hop.into(), source, mtu: path_mtu },
        path_mtu,
    }
}

#[cfg(test)]
mod tests;
