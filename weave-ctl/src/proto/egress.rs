//! Joins the path to each peer with this host's route to it, so that a tunnel is complete before it is written.
//!
//! An address is watched while a path leads to it. A path whose egress is not known yet, or to whose address no route
//! leads, makes no tunnel: what the kernel has of it stays. Knows also which MTUs the routes to peers have: containers
//! get the smallest of them, and peers are told the largest.
//! Bounds: one address a peer; an address that several peers are sent to is watched once.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::Ipv4Addr,
};

use super::{
    io::{Egress, Output, PathKind, TunnelTo},
    mesh::PathTo,
    name::PeerName,
    queue,
};

/// Paths, and the routes to where they lead. See the module.
#[derive(Debug, Default)]
pub struct Egresses {
    paths: BTreeMap<PeerName, PathTo>,
    addrs: BTreeMap<Ipv4Addr, Watched>,
    /// Routes in use by MTU.
    mtus: BTreeMap<u32, usize>,
    /// Watched addresses that were not answered yet.
    unanswered: usize,
    out: VecDeque<Output>,
}

#[derive(Debug, Default)]
struct Watched {
    peers: BTreeSet<PeerName>,
    /// `None` until it is answered.
    answer: Option<Option<Egress>>,
}

impl Egresses {
    /// Sends to `peer` by `path` from now on.
    pub fn set_path(&mut self, peer: PeerName, path: PathTo) {
        let before = self.paths.insert(peer, path).map(|before| *before.remote.ip());
        if before == Some(*path.remote.ip()) {
            return;
        }
        let Self { addrs, unanswered, out, .. } = self;
        let watched = addrs.entry(*path.remote.ip()).or_insert_with_key(|addr| {
            *unanswered += 1;
            out.push_back(Output::Watch(*addr));
            Watched::default()
        });
        watched.peers.insert(peer);
        if let Some(before) = before {
            self.leave(before, peer);
        }
    }

    /// Sends to `peer` no more.
    pub fn remove(&mut self, peer: PeerName) {
        if let Some(path) = self.paths.remove(&peer) {
            self.leave(*path.remote.ip(), peer);
        }
    }

    fn leave(&mut self, addr: Ipv4Addr, peer: PeerName) {
        let Some(watched) = self.addrs.get_mut(&addr) else { return };
        watched.peers.remove(&peer);
        if watched.peers.is_empty() {
            let answer = self.addrs.remove(&addr).and_then(|watched| watched.answer);
            self.count(answer, false);
            self.out.push_back(Output::Unwatch(addr));
        }
    }

    /// The shell tells how this host sends to `addr`. Returns the peers whose tunnels that changes.
    pub fn answered(&mut self, addr: Ipv4Addr, egress: Option<Egress>) -> Vec<PeerName> {
        let Some(watched) = self.addrs.get_mut(&addr) else { return Vec::new() };
        let before = watched.answer.replace(egress);
        if before == Some(egress) {
            return Vec::new();
        }
        let peers = watched.peers.iter().copied().collect();
        self.count(before, false);
        self.count(Some(egress), true);
        peers
    }

    fn count(&mut self, answer: Option<Option<Egress>>, more: bool) {
        let Some(answer) = answer else {
            // It is answered now, or watched no more.
            self.unanswered = self.unanswered.saturating_sub(1);
            return;
        };
        let Some(egress) = answer else { return };
        let routes = self.mtus.entry(egress.mtu).or_default();
        *routes = if more { *routes + 1 } else { routes.saturating_sub(1) };
        if *routes == 0 {
            self.mtus.remove(&egress.mtu);
        }
    }

    /// The tunnel to `peer`; `None` while its path or the route to it is not known.
    #[must_use]
    pub fn tunnel(&self, peer: PeerName) -> Option<TunnelTo> {
        let PathTo { remote, short_id: _, via, translated: fixed, path_mtu } = *self.paths.get(&peer)?;
        let egress = self.addrs.get(remote.ip())?.answer??;
        let kind = match (via == peer, fixed) {
            (true, false) => PathKind::Direct,
            (true, true) => PathKind::Fixed,
            (false, _) => PathKind::Relayed,
        };
        let path_mtu = if path_mtu == 0 { egress.mtu } else { path_mtu.min(egress.mtu) };
        Some(TunnelTo { remote, via, kind, fixed, egress, path_mtu })
    }

    /// Smallest and largest MTU in bytes of the routes to peers; `None` while none is known.
    #[must_use]
    pub fn mtus(&self) -> Option<(u32, u32)> {
        let smallest = self.mtus.first_key_value()?;
        let largest = self.mtus.last_key_value()?;
        Some((*smallest.0, *largest.0))
    }

    /// True when every watched address was answered: [`Self::mtus`] leaves no route out.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.unanswered == 0
    }

    /// Peers to whose address no route of this host leads, each with that address.
    pub fn unreachable(&self) -> impl Iterator<Item = (PeerName, Ipv4Addr)> {
        let dead = self.addrs.iter().filter(|(_, watched)| watched.answer == Some(None));
        dead.flat_map(|(addr, watched)| watched.peers.iter().map(|peer| (*peer, *addr)))
    }

    /// The next address to watch, or to watch no more.
    pub fn poll_output(&mut self) -> Option<Output> {
        queue::pop(&mut self.out)
    }
}

#[cfg(test)]
mod tests;
