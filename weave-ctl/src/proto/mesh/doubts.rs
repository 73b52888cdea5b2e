//! Relays whose word may be old.
//!
//! A neighbour that told of a path of its own may relay where a straight path fell silent. But its own may have fallen
//! silent as well, and where the link to it was cut meanwhile neither learns that of the other: both would send to each
//! other until the cut is noticed. So a neighbour relays only once something was heard from it after the path was found
//! to be down. It is asked for its record, and answers at once.
//!
//! Bounds: a point in time, and a place in one set, for each peer whose path is down.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    entry::PEERS,
    links::Mesh,
    wire::{Key, Message},
};
use crate::proto::{io::LinkId, name::PeerName, time::Instant};

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    /// When the paths that are down were found to be so.
    fell: BTreeMap<PeerName, Instant>,
    /// Neighbours that were asked, with those to whom they may relay then.
    asked: BTreeMap<PeerName, BTreeSet<PeerName>>,
}

impl Doubts {
    /// The path to `peer` is found to be down.
    pub(super) fn fell(&mut self, peer: PeerName, now: Instant) {
        self.fell.insert(peer, now);
    }

    /// It works, or is of no interest any more.
    pub(super) fn over(&mut self, peer: PeerName) {
        self.fell.remove(&peer);
    }

    /// There is no link to `neighbour` any more that it could answer on.
    pub(super) fn unlinked(&mut self, neighbour: PeerName) {
        self.asked.remove(&neighbour);
    }
}

impl Mesh {
    /// When something was heard last from a neighbour, and on which link.
    fn last_word(&self, neighbour: PeerName) -> Option<(Instant, LinkId)> {
        let links = self.links.iter().filter(|(_, link)| link.up.as_ref().is_some_and(|up| up.peer == neighbour));
        links.map(|(id, link)| (link.heard, *id)).max()
    }

    /// True while nothing was heard from this relay since the path to `peer` was found to be down.
    pub(super) fn is_doubted(&self, relay: PeerName, peer: PeerName) -> bool {
        let Some(fell) = self.doubts.fell.get(&peer) else { return false };
        self.last_word(relay).is_some_and(|(heard, _)| heard <= *fell)
    }

    /// Asks the neighbour that would relay to `peer` for a sign of life, if its word may be old.
    pub(super) fn ask_relay(&mut self, peer: PeerName) {
        // Of most peers the path works: their hops need not be looked up.
        if !self.doubts.fell.contains_key(&peer) {
            return;
        }
        let relay = self.topology.hop(peer).map(|hop| hop.via).filter(|relay| self.is_doubted(*relay, peer));
        let Some(relay) = relay else { return };
        let waiting = self.doubts.asked.entry(relay).or_default();
        let first = waiting.is_empty();
        waiting.insert(peer);
        if let Some((_, link)) = self.last_word(relay).filter(|_| first) {
            self.send(link, &Message::Want(vec![Key { owner: relay, channel: PEERS.into() }]));
        }
    }

    /// Something was heard from `neighbour`.
    pub(super) fn relay_spoke(&mut self, neighbour: PeerName, now: Instant) {
        let waiting = self.doubts.asked.remove(&neighbour).unwrap_or_default();
        // What it told may have changed who reaches whom: then all that is decided anew once that is computed.
        if !self.topology.is_changed() {
            for peer in waiting {
                self.refresh_way(peer, now);
            }
        }
    }
}

#[cfg(test)]
mod tests;
