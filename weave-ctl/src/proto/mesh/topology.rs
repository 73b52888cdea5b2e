//! What the records of all peers amount to: who is reached, how packets travel, whose names collide.
//!
//! Computed from the records as a whole, a while after they changed, and less often while they go on changing ([`super::pace`]):
//! with many peers many change at once.
//! A peer that no path of links reaches is dropped after a grace period ([`GRACE`]); what it owns in the ring stays.
//! Bounds: as many peers as [`super::store`] holds; one computation in [`settle_time`].

use std::{collections::BTreeMap, time::Duration};

use super::{
    entry::PeerRecord,
    pace::{self, Pace},
    routes::{self, Graph, Hop, NextHops, Rivals},
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

/// Time in which one that was just heard of should be reached: it is heard of before those who are linked to it tell so.
fn patience(peers: usize) -> Duration {
    pace::longest(peers) * 2
}

/// See the head of this file.
#[derive(Debug)]
pub struct Topology {
    me: PeerName,
    /// Time from a peer's last path to its being forgotten: [`GRACE`], or less in tests.
    grace: Duration,
    hops: NextHops,
    /// Stores that this one and those which paths of links lead to are linked to, one a name, in order of name.
    alive: Vec<(PeerName, PeerUid)>,
    /// Where there are several of one name: all of them.
    rivals: Rivals,
    lost: BTreeMap<PeerName, Lost>,
    due: Option<Instant>,
    pace: Pace,
    /// When the next of those lost counts as such, or is forgotten.
    lost_due: Option<Instant>,
}

/// A peer that is known but not reached.
#[derive(Clone, Copy, Debug)]
struct Lost {
    since: Instant,
    /// It is one that was reached, or not within [`patience`].
    counts: bool,
}

/// What a computation changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Forgotten: put aside in the store.
    pub gone: Vec<PeerName>,
    /// Reached again: held in the store again.
    pub back: Vec<PeerName>,
    /// Count as lost from now on.
    pub lost: Vec<PeerName>,
}

impl Topology {
    /// Of a peer that knows of no other; `grace` is the time from a peer's last path to its being forgotten.
    #[must_use]
    pub fn new(grace: Duration) -> Self {
        Self {
            me: PeerName::default(),
            grace,
            hops: NextHops::default(),
            alive: Vec::new(),
            rivals: Rivals::default(),
            lost: BTreeMap::new(),
            due: None,
            pace: Pace::default(),
            lost_due: None,
        }
    }

    /// Records changed: compute soon.
    pub fn changed(&mut self, peers: usize, now: Instant) {
        self.due.get_or_insert((now + settle_time(peers)).max(self.pace.next(peers)));
    }

    /// When to compute.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due.into_iter().chain(self.lost_due).min()
    }

    /// True when [`Self::compute`] has something to do.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        self.poll_timeout().is_some_and(|at| at <= now)
    }

    /// Records changed since the last computation.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.due.is_some()
    }

    /// Computes everything from what is held.
    pub fn compute(&mut self, me: &PeerRecord, store: &mut Store, now: Instant) -> Changes {
        if self.due.take().is_some() {
            self.pace.step(store.owners(), now);
        }
        let mut changes = Changes { back: self.find_back(me, store), ..Changes::default() };
        changes.back.retain(|peer| store.restore(*peer));
        let graph = Graph::new(me, store.records());
        self.me = me.name;
        let (mut alive, rivals) = routes::alive(me.uid, &graph);
        alive.shrink_to_fit();
        let before = std::mem::replace(&mut self.alive, alive);
        self.rivals = rivals;
        self.lost.retain(|peer, _| find(&self.alive, *peer).is_none() && store.holds(*peer));
        for peer in store.names().filter(|p| find(&self.alive, *p).is_none()) {
            self.lost.entry(peer).or_insert(Lost { since: now, counts: false });
        }
        self.hops = routes::next_hops(&graph);
        self.hops.hops.shrink_to_fit();
        self.hops.last.shrink_to_fit();
        self.find_lost(&before, patience(store.owners()), now, &mut changes);
        for peer in &changes.gone {
            self.lost.remove(peer);
            store.forget(*peer, now);
        }
        changes
    }

    /// Who counts as lost from now on, and who is lost long enough to be forgotten.
    fn find_lost(&mut self, before: &[(PeerName, PeerUid)], patience: Duration, now: Instant, changes: &mut Changes) {
        self.lost_due = None;
        let grace = self.grace;
        for (peer, lost) in &mut self.lost {
            if !lost.counts && (find(before, *peer).is_some() || now.since(lost.since) >= patience) {
                lost.counts = true;
                changes.lost.push(*peer);
            }
            let next = lost.since + if lost.counts { grace } else { patience };
            if lost.counts && next <= now {
                changes.gone.push(*peer);
            } else {
                self.lost_due = self.lost_due.into_iter().chain([next]).min();
            }
        }
    }

    /// Who was put aside and is reached again.
    fn find_back(&self, me: &PeerRecord, store: &Store) -> Vec<PeerName> {
        let mut aside = store.records_aside().peekable();
        if aside.peek().is_none() {
            return Vec::new();
        }
        let mut back = routes::reached(&Graph::new(me, store.records().chain(aside)));
        back.retain(|peer| store.record(*peer).is_none());
        back
    }

    /// True while a path of links reaches `peer`.
    #[must_use]
    pub fn reached(&self, peer: PeerName) -> bool {
        peer != self.me && find(&self.alive, peer).is_some()
    }

    /// True while a peer is known but, when that was computed last, not reached any more, or not soon enough.
    #[must_use]
    pub fn is_lost(&self, peer: PeerName) -> bool {
        self.lost.get(&peer).is_some_and(|lost| lost.counts)
    }

    /// All of whom [`Self::is_lost`] is true, in order of name.
    pub fn lost(&self) -> impl Iterator<Item = PeerName> {
        self.lost.iter().filter(|(_, lost)| lost.counts).map(|(peer, _)| *peer)
    }

    /// The first hop towards `peer` over established links.
    #[must_use]
    pub fn hop(&self, peer: PeerName) -> Option<Hop> {
        find(&self.hops.hops, peer)
    }

    /// The first hop towards a peer that no established links lead to: over links that were told of last.
    #[must_use]
    pub fn last_hop(&self, peer: PeerName) -> Option<Hop> {
        find(&self.hops.last, peer)
    }

    /// True while a reached peer tells of a link to this store.
    #[must_use]
    pub fn alive(&self, peer: PeerName, uid: PeerUid) -> bool {
        find(&self.alive, peer) == Some(uid) || self.rivals.get(&peer).is_some_and(|all| all.contains_key(&uid))
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
}

/// What is said of `peer` in a list in order of name.
fn find<T: Copy>(list: &[(PeerName, T)], peer: PeerName) -> Option<T> {
    list.binary_search_by_key(&peer, |(name, _)| *name).ok().map(|at| list[at].1)
}

#[cfg(test)]
mod tests;
