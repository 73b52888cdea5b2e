//! The peers that have a tunnel, the entry that the kernel gets for each, and when it was used: pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
    ops::Bound,
};

use weave_common::{
    addr::PeerKey,
    config::Config,
    tunnel::{PATH_DIRECT, PATH_FIXED, PATH_RELAYED, Tunnel},
    vxlan,
    wire::{OuterHeader, Push, inner_ethernet},
};

use crate::proto::{
    io::{Activity, Egress, PathKind, TunnelTo},
    name::PeerName,
};

/// Looks without packets after which a tunnel is no longer among the active ones.
const QUIET_LOOKS: u32 = 30;

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

/// When packets last left by a tunnel and came from its peer, as its entry says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Times {
    sent_ns: u64,
    big_ns: u64,
    heard_ns: u64,
    elsewhere_ns: u64,
    /// Looks since one of them changed.
    quiet_for: u32,
}

/// When each tunnel was used, as far as it was told. No more of them than tunnels.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    times: BTreeMap<PeerName, Times>,
    active: BTreeSet<PeerName>,
}

impl Traffic {
    /// What happened between this host and `peer`, whose entry is `tunnel`, since this was last asked of it. `None`: nothing.
    pub(super) fn news(&mut self, peer: PeerName, tunnel: &Tunnel) -> Option<Activity> {
        let Times { sent_ns, big_ns, heard_ns, elsewhere_ns, quiet_for } = self.times.entry(peer).or_default();
        let activity = Activity {
            peer,
            sent: tunnel.sent_ns > *sent_ns,
            big: tunnel.big_ns > *big_ns,
            heard: tunnel.heard_ns > *heard_ns,
            elsewhere: tunnel.elsewhere_ns > *elsewhere_ns,
        };
        (*sent_ns, *big_ns) = (tunnel.sent_ns, tunnel.big_ns);
        (*heard_ns, *elsewhere_ns) = (tunnel.heard_ns, tunnel.elsewhere_ns);
        if activity.sent || activity.heard || activity.elsewhere {
            *quiet_for = 0;
            self.active.insert(peer);
            return Some(activity);
        }
        *quiet_for += 1;
        if *quiet_for >= QUIET_LOOKS {
            self.active.remove(&peer);
        }
        None
    }

    /// At most `max` peers with packets in their last [`QUIET_LOOKS`] looks.
    pub(super) fn active(&self, max: usize) -> Vec<PeerName> {
        self.active.iter().copied().take(max).collect()
    }

    /// There is no tunnel to `peer` any more.
    pub(super) fn forget(&mut self, peer: PeerName) {
        self.times.remove(&peer);
        self.active.remove(&peer);
    }
}

/// The kernel's entry for a tunnel; `config` must name this host. The times are those of a tunnel never used.
pub(super) fn entry(peer: PeerName, to: &TunnelTo, config: &Config) -> Tunnel {
    let TunnelTo { remote, via, kind, fixed, egress, path_mtu } = *to;
    let outer = OuterHeader::prepare(egress.source, *remote.ip(), remote.port(), config.vni);
    Tunnel {
        push: Push {
            outer: if fixed { outer.leaving_from(config.data_port) } else { outer },
            ethernet: inner_ethernet(peer.bytes(), config.me),
            pad: [0; 2],
        },
        ifindex: egress.ifindex,
        next_hop: egress.next_hop.octets(),
        inner_mtu: path_mtu.saturating_sub(vxlan::OVERHEAD),
        kind: match kind {
            PathKind::Direct => PATH_DIRECT,
            PathKind::Fixed => PATH_FIXED,
            PathKind::Relayed => PATH_RELAYED,
        },
        via: PeerKey::new(via.bytes()),
        pad: [0; 4],
        sent_ns: 0,
        big_ns: 0,
        heard_ns: 0,
        elsewhere_ns: 0,
    }
}

/// The tunnel to `peer` that the kernel has. The route's MTU is not in its entry: it is at least the path's.
pub(super) fn read_back(peer: PeerName, tunnel: &Tunnel) -> TunnelTo {
    let OuterHeader { ipv4, udp, vxlan: _ } = &tunnel.push.outer;
    let source = Ipv4Addr::new(ipv4[12], ipv4[13], ipv4[14], ipv4[15]);
    let remote = Ipv4Addr::new(ipv4[16], ipv4[17], ipv4[18], ipv4[19]);
    let via = PeerName::from_bytes(tunnel.via.name);
    let fixed = tunnel.push.outer.source_port() != 0;
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
