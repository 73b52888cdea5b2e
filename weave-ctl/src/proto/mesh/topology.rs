//! What the records of all peers amount to: who is reached, how packets travel, whose names collide.
//!
//! Computed from the records as a whole, a while after they changed: with many peers many change at once.
//! A peer that no path of links reaches is dropped after [`GRACE`]; what it owns in the ring stays.
//! Bounds: as many peers as [`super::store`] holds; one computation in [`settle_time`].

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    entry::PeerRecord,
    routes::{self, Hop},
    store::Store,
};
use crate::proto::{
    name::{PeerName, PeerUid},
    time::Instant,
};

/// Time from a peer's last path to its being forgotten.
pub const GRACE: Duration = Duration::from_secs(60);

/// Time from a change to the computation that it is part of.
#[must_use]
pub fn settle_time(peers: usize) -> Duration {
    Duration::from_millis(50 + peers as u64 / 2)
}

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Topology {
    reached: BTreeSet<PeerName>,
    hops: BTreeMap<PeerName, Hop>,
    /// Stores that those which paths of links lead to are linked to, one a name.
    alive: BTreeMap<PeerName, PeerUid>,
    /// Where there are several of one name: all of them, each with an address that it was seen at.
    rivals: BTreeMap<PeerName, BTreeMap<PeerUid, String>>,
    lost: BTreeMap<PeerName, Instant>,
    due: Option<Instant>,
}

/// What a computation changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Forgotten: put aside in the store.
    pub gone: Vec<PeerName>,
    /// Reached again: held in the store again.
    pub back: Vec<PeerName>,
    /// Lost a moment ago.
    pub lost: Vec<PeerName>,
}

impl Topology {
    /// Records changed: compute soon.
    pub fn changed(&mut self, peers: usize, now: Instant) {
        self.due.get_or_insert(now + settle_time(peers));
    }

    /// When to compute.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let grace = self.lost.values().min().map(|since| *since + GRACE);
        self.due.into_iter().chain(grace).min()
    }

    /// True when [`Self::compute`] has something to do.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        self.poll_timeout().is_some_and(|at| at <= now)
    }

    /// Computes everything from what is held.
    pub fn compute(&mut self, me: &PeerRecord, store: &mut Store, now: Instant) -> Changes {
        self.due = None;
        let mut changes = Changes::default();
        let record = |peer| store.record(peer).or_else(|| store.record_aside(peer));
        self.reached = routes::reached(me, &record);
        changes.back = self.reached.iter().copied().filter(|p| store.record(*p).is_none()).collect();
        changes.back.retain(|peer| store.restore(*peer));
        self.find_alive(me, store);
        self.lost.retain(|peer, _| !self.reached.contains(peer) && store.record(*peer).is_some());
        let known: Vec<PeerName> = store.iter().map(|e| e.key.owner).filter(|p| *p != me.name).collect();
        for peer in known.into_iter().filter(|p| !self.reached.contains(p)) {
            self.lost.entry(peer).or_insert_with(|| {
                changes.lost.push(peer);
                now
            });
        }
        self.hops = routes::next_hops(me, &|peer| store.record(peer), &self.lost.keys().copied().collect());
        let gone = self.lost.iter().filter(|(_, since)| now.since(**since) >= GRACE);
        changes.gone = gone.map(|(peer, _)| *peer).collect();
        for peer in &changes.gone {
            self.lost.remove(peer);
            store.forget(*peer, now);
        }
        changes
    }

    /// True while a path of links reaches `peer`.
    #[must_use]
    pub fn reached(&self, peer: PeerName) -> bool {
        self.reached.contains(&peer)
    }

    /// True while a peer is known but, when that was computed last, not reached.
    #[must_use]
    pub fn is_lost(&self, peer: PeerName) -> bool {
        self.lost.contains_key(&peer)
    }

    /// The first hop towards `peer` over established links.
    #[must_use]
    pub fn hop(&self, peer: PeerName) -> Option<Hop> {
        self.hops.get(&peer).copied()
    }

    /// True while a reached peer tells of a link to this store.
    #[must_use]
    pub fn alive(&self, peer: PeerName, uid: PeerUid) -> bool {
        self.alive.get(&peer) == Some(&uid) || self.rivals.get(&peer).is_some_and(|all| all.contains_key(&uid))
    }

    /// An address at which a store of that name, but not `uid`, is linked by a peer that is reached.
    #[must_use]
    pub fn rival(&self, peer: PeerName, uid: PeerUid) -> Option<&str> {
        let stores = self.rivals.get(&peer)?;
        stores.iter().find(|(other, _)| **other != uid).map(|(_, address)| address.as_str())
    }

    /// Names under which several stores are alive, with their addresses.
    pub fn collisions(&self) -> impl Iterator<Item = (PeerName, Vec<&str>)> {
        self.rivals.iter().map(|(name, stores)| (*name, stores.values().map(String::as_str).collect()))
    }

    fn find_alive(&mut self, me: &PeerRecord, store: &Store) {
        // Seen by others or not: this peer lives.
        self.alive = BTreeMap::from([(me.name, me.uid)]);
        self.rivals.clear();
        let record = |peer| store.record(peer);
        let told = routes::told(me, &record);
        for link in &told {
            let first = *self.alive.entry(link.peer).or_insert(link.uid);
            if first != link.uid {
                let stores = self.rivals.entry(link.peer).or_default();
                stores.entry(first).or_default();
                stores.entry(link.uid).or_default();
            }
        }
        for link in &told {
            let Some(address) = self.rivals.get_mut(&link.peer).and_then(|all| all.get_mut(&link.uid)) else {
                continue;
            };
            // An address that the store itself listens on says more than the port it dialled from.
            if link.outbound || address.is_empty() {
                address.clone_from(&link.address);
            }
        }
    }
}

#[cfg(test)]
mod tests;
