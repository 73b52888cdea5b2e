//! Addresses outside the range: which peer's containers have them, by the entries that peers publish.
//!
//! Does not: decide which peer gets one ([`super::grants`]).
//! Bounds: [`super::super::allocator::CLAIMS_MAX`] addresses of this peer, as many entries of another as membership holds,
//! [`REMEMBERED_MAX`] of peers that are gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;

use super::KeeperEvent;
use crate::proto::name::PeerName;

/// Most addresses that are remembered of peers that are gone.
const REMEMBERED_MAX: usize = 65_536;

/// See the head of this file.
#[derive(Debug)]
pub struct Claims {
    range: Ipv4Net,
    peers: BTreeMap<PeerName, BTreeSet<Ipv4Addr>>,
    /// What peers had when last heard of that are gone, or were not heard of in this run.
    remembered: BTreeMap<Ipv4Addr, PeerName>,
    /// Entries of this peer.
    published: BTreeSet<Ipv4Addr>,
}

impl Claims {
    pub(super) fn new(range: Ipv4Net) -> Self {
        Self { range, peers: BTreeMap::new(), remembered: BTreeMap::new(), published: BTreeSet::new() }
    }

    /// All claims of other peers; of two of one address the one that counts is last.
    pub fn iter(&self) -> impl Iterator<Item = (Ipv4Addr, PeerName)> + '_ {
        let remembered = self.remembered.iter().map(|(addr, peer)| (*addr, *peer));
        let current = self.peers.iter().flat_map(|(of, addrs)| addrs.iter().map(move |addr| (*addr, *of)));
        remembered.chain(current).filter(|(addr, _)| !self.range.contains(addr))
    }

    /// The other peer whose container has `addr`.
    #[must_use]
    pub fn of(&self, addr: Ipv4Addr) -> Option<PeerName> {
        let peers = self.peers.iter().rev().filter(|_| !self.range.contains(&addr));
        let current = peers.filter(|(_, addrs)| addrs.contains(&addr)).map(|(peer, _)| *peer).next();
        current.or_else(|| self.remembered.get(&addr).copied())
    }

    /// Addresses that the kernel's routes of an earlier run lead to peers.
    pub fn remember(&mut self, claims: impl Iterator<Item = (Ipv4Addr, PeerName)>) {
        self.remembered = claims.filter(|(addr, _)| !self.range.contains(addr)).take(REMEMBERED_MAX).collect();
    }

    /// A container of a peer has an address, or has it no more. True when that is new.
    pub fn received(&mut self, of: PeerName, addr: Ipv4Addr, held: bool) -> bool {
        if held {
            return self.peers.entry(of).or_default().insert(addr);
        }
        let Some(addrs) = self.peers.get_mut(&of) else { return false };
        let gone = addrs.remove(&addr);
        if addrs.is_empty() {
            self.peers.remove(&of);
        }
        gone
    }

    /// True when a peer's entries say that it has `addr`.
    pub(super) fn has(&self, peer: PeerName, addr: Ipv4Addr) -> bool {
        self.peers.get(&peer).is_some_and(|addrs| addrs.contains(&addr))
    }

    /// A peer is gone for good, and its containers with it. True when it had something.
    pub(super) fn released(&mut self, peer: PeerName) -> bool {
        let before = self.remembered.len();
        self.remembered.retain(|_, of| *of != peer);
        self.peers.remove(&peer).is_some() || before != self.remembered.len()
    }

    /// All entries of a peer are here: what is remembered of it besides is not so any more. True when that changed
    /// something.
    pub fn received_all(&mut self, peer: PeerName) -> bool {
        let before = self.remembered.len();
        self.remembered.retain(|_, of| *of != peer);
        before != self.remembered.len()
    }

    /// A peer is forgotten; its containers may live, so what they have is still theirs.
    pub(super) fn peer_gone(&mut self, peer: PeerName) {
        let room = REMEMBERED_MAX.saturating_sub(self.remembered.len());
        let addrs = self.peers.remove(&peer).unwrap_or_default();
        self.remembered.extend(addrs.into_iter().take(room).map(|addr| (addr, peer)));
    }

    /// What changed since it was published last.
    pub(super) fn publish(&mut self, own: impl Iterator<Item = Ipv4Addr>) -> Vec<KeeperEvent> {
        let own: BTreeSet<Ipv4Addr> = own.collect();
        let changed = own.symmetric_difference(&self.published);
        let events = changed.map(|addr| KeeperEvent::Claim(*addr, own.contains(addr))).collect();
        self.published = own;
        events
    }
}

#[cfg(test)]
mod tests;
