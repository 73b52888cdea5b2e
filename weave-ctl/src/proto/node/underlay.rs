//! This host's side of the underlay: routes to peers make paths into tunnels, and their MTUs bound what is sent.
//!
//! Three sizes follow from the routes to peers. A path carries at most the MTU of the route to that peer. Containers get
//! the smallest MTU of the routes in use, so that most packets fit every path. Peers are told the largest: a smaller one
//! would keep them from using the path by the larger device, and what is too large for another device is found by their
//! probes. While no route to a peer is known, the default route stands for all. Devices that no peer is sent to by count
//! for nothing.

use std::net::Ipv4Addr;

use weave_common::vxlan;

use super::Node;
use crate::proto::{
    command::{NarrowPath, NarrowPaths},
    io::{Egress, Underlay},
    mesh::PathTo,
    name::PeerName,
    time::Instant,
};

/// Smallest MTU in bytes that IPv4 hosts must accept (RFC 791).
const MTU_MIN: u32 = 576;
/// Most narrow paths that are named in `status`, and most containers with each.
const NARROW_SHOWN: usize = 16;
const CONTAINERS_SHOWN: usize = 8;
/// Most unreachable peers that are named in `status`.
const UNREACHABLE_SHOWN: usize = 16;

/// Largest inner IP packet in bytes within an outer one of `outer` bytes, as far as containers can be given that MTU.
fn inner(outer: u32) -> u32 {
    outer.saturating_sub(vxlan::OVERHEAD).max(MTU_MIN)
}

impl Node {
    /// The host's addresses or its default route changed.
    pub(super) fn underlay(&mut self, underlay: Underlay, now: Instant) {
        self.underlay = Some(underlay);
        self.apply_mtus(true, now);
    }

    /// The shell tells how this host sends to `addr`.
    pub(super) fn egress(&mut self, addr: Ipv4Addr, egress: Option<Egress>, now: Instant) {
        for peer in self.egresses.answered(addr, egress) {
            self.apply_path(peer, now);
        }
        self.apply_mtus(false, now);
    }

    /// Packets for `peer` leave by `path` from now on, as soon as the route there is known.
    pub(super) fn set_path(&mut self, peer: PeerName, path: PathTo, now: Instant) {
        self.egresses.set_path(peer, path);
        self.apply_path(peer, now);
        self.apply_mtus(false, now);
    }

    fn apply_path(&mut self, peer: PeerName, now: Instant) {
        // Without a route the entry in the kernel stays: the route comes back most likely as it was.
        let Some(tunnel) = self.egresses.tunnel(peer) else { return };
        if tunnel.via == peer {
            self.mesh.set_egress_mtu(peer, tunnel.egress.mtu, now);
        }
        self.datapath.set_tunnel(peer, tunnel);
    }

    /// Gives containers and peers the MTUs that follow from the routes, once the shell has told of the host; `is_new` when
    /// what it told is new to the mesh.
    fn apply_mtus(&mut self, is_new: bool, now: Instant) {
        let Some(underlay) = &self.underlay else { return };
        let default = underlay.default_mtu;
        let (smallest, largest) = self.egresses.mtus().unwrap_or((default, default));
        self.mtu = inner(smallest);
        // While some route is not known, the next answer may say less; that of no peer limits nobody.
        if self.egresses.is_complete() && self.egresses.mtus().is_some() {
            self.endpoints.limit_mtu(self.mtu);
        }
        let largest = inner(largest);
        if self.mesh.me().mtu != largest || is_new {
            self.mesh.set_underlay(underlay, largest, now);
        }
    }

    /// Paths that take less than some containers may send, for `status`.
    pub(in crate::proto) fn narrow_paths(&self) -> NarrowPaths {
        let mut containers: Vec<(String, u32)> =
            self.endpoints.status().into_iter().filter(|c| c.attached).map(|c| (c.id, c.mtu)).collect();
        containers.sort_by(|(one, a), (other, b)| (b, one).cmp(&(a, other)));
        let largest = containers.first().map_or(0, |(_, mtu)| *mtu);
        let sized =
            self.datapath.tunnels().map(|(peer, tunnel)| (tunnel.path_mtu.saturating_sub(vxlan::OVERHEAD), peer));
        let mut narrow: Vec<(u32, PeerName)> = sized.filter(|(mtu, _)| *mtu < largest).collect();
        narrow.sort();
        let path = |(mtu, peer): &(u32, PeerName)| {
            let above = containers.partition_point(|(_, own)| own > mtu);
            let shown = &containers[..above.min(CONTAINERS_SHOWN)];
            NarrowPath {
                peer: *peer,
                nickname: self.nickname(*peer),
                mtu: *mtu,
                containers: shown.to_vec(),
                more: above - shown.len(),
            }
        };
        let shown: Vec<NarrowPath> = narrow.iter().take(NARROW_SHOWN).map(path).collect();
        NarrowPaths { more: narrow.len() - shown.len(), shown }
    }

    /// Peers that cannot be sent to, for `status`.
    pub(in crate::proto) fn unreachable(&self) -> Vec<String> {
        let mut all = self.egresses.unreachable();
        let shown = all.by_ref().take(UNREACHABLE_SHOWN).map(|(peer, addr)| {
            format!("this host has no route to {addr} of peer {peer}: packets for it leave as before, if they ever did")
        });
        let mut shown: Vec<String> = shown.collect();
        match all.count() {
            0 => {}
            more => shown.push(format!("this host has no route to {more} more peers")),
        }
        shown
    }
}

#[cfg(test)]
mod tests;
