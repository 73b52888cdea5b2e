//! Computes from all records which peers are reached, which identities are alive, and which peers may relay packets.
//!
//! Computed as a whole, a [`hold_down`] after records changed, and less often while they go on changing.
//! States of a peer: docs/protocol.md, section 4.4.
//! | timer | value | name elsewhere | meaning |
//! |---|---|---|---|
//! | [`hold_down`] | 50 ms + 0.5 ms a peer | RFC 8405 INITIAL_SPF_DELAY | from a change to the computation |
//! | [`longest`] | four hold-downs | RFC 8405 LONG_SPF_DELAY | the same while changes go on |
//! | `patience` | eight hold-downs | | a new peer's record usually arrives before its neighbours' updated ones |
//! | [`GRACE`] | 60 s | SWIM: suspicion timeout | from a peer's last session path to its being dropped |
//!
//! Bounds: as many peers as membership holds; [`routes::FIRST_HOPS_MAX`] first hops a peer; one computation a hold-down.

mod graph;
mod routes;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use self::{
    graph::Graph,
    routes::{Duplicates, FirstHops},
};
use super::{
    name::{PeerName, PeerUid},
    throttle::{Throttle, hold_down, longest},
    time::Instant,
    wire::entry::PeerRecord,
};

/// Time from a peer's last session path to its being dropped.
pub const GRACE: Duration = Duration::from_secs(60);
/// Most sources whose broadcasts are shown.
const SOURCES_SHOWN: usize = 256;

/// How long a new peer may be unreachable before it counts as lost.
fn patience(peers: usize) -> Duration {
    longest(peers) * 2
}

#[derive(Debug, Default)]
pub(crate) struct Topology {
    me: PeerName,
    /// [`GRACE`], or less in tests.
    grace: Duration,
    hops: Vec<(PeerName, FirstHops)>,
    /// The store that each reached peer, and this one, has sessions as; one a name, in order of name.
    alive: Vec<(PeerName, PeerUid)>,
    /// Where several stores use one name: all of them.
    duplicates: Duplicates,
    lost: BTreeMap<PeerName, Lost>,
    due: Option<Instant>,
    throttle: Throttle,
    /// When the next of those lost counts as such, or is dropped.
    lost_due: Option<Instant>,
}

/// A peer that is known but not reached.
#[derive(Clone, Copy, Debug)]
struct Lost {
    since: Instant,
    /// It was reached before, or has not been for [`patience`].
    counts: bool,
}

/// What a computation changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// To be dropped.
    pub(crate) gone: Vec<PeerName>,
    /// Dropped before, and reached again.
    pub(crate) back: Vec<PeerName>,
    /// Count as lost from now on.
    pub(crate) lost: Vec<PeerName>,
    /// Their [`Topology::first_hops`] are new.
    pub(crate) rerouted: Vec<PeerName>,
}

impl Topology {
    pub(crate) fn new(grace: Duration) -> Self {
        Self { grace, ..Self::default() }
    }

    /// Records changed: compute soon.
    pub(crate) fn changed(&mut self, peers: usize, now: Instant) {
        self.due.get_or_insert((now + hold_down(peers)).max(self.throttle.next(peers)));
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.due.into_iter().chain(self.lost_due).min()
    }

    /// `near`: peers whose direct paths from here answer; `retained`: records of dropped peers.
    pub(crate) fn compute(
        &mut self,
        me: &PeerRecord,
        near: &BTreeSet<PeerName>,
        others: &[&PeerRecord],
        retained: &[&PeerRecord],
        now: Instant,
    ) -> Changes {
        self.me = me.name;
        if self.due.take().is_some() {
            self.throttle.step(others.len() + 1, now);
        }
        let back = find_back(me, others, retained);
        let is_back = |record: &&PeerRecord| back.binary_search(&record.name).is_ok();
        let all = || others.iter().copied().chain(retained.iter().copied().filter(is_back));
        let graph = Graph::new(me, all());
        let (mut alive, duplicates) = routes::alive(me.uid, &graph);
        alive.shrink_to_fit();
        let before = std::mem::replace(&mut self.alive, alive);
        self.duplicates = duplicates;
        let lost = std::mem::take(&mut self.lost);
        let unreached = all().map(|record| record.name).filter(|peer| find(&self.alive, *peer).is_none());
        let entry = |peer| (peer, lost.get(&peer).copied().unwrap_or(Lost { since: now, counts: false }));
        self.lost = unreached.map(entry).collect();
        let mut hops = routes::first_hops(&graph, near);
        hops.shrink_to_fit();
        let hops_before = std::mem::replace(&mut self.hops, hops);
        let rerouted = different(&hops_before, &self.hops);
        let mut changes = Changes { back, rerouted, ..Changes::default() };
        self.find_lost(&before, patience(others.len() + 1), now, &mut changes);
        changes
    }

    /// Finds peers that count as lost from now on, and those that are lost long enough to be dropped.
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
        for peer in &changes.gone {
            self.lost.remove(peer);
        }
        // Nothing is relayed to them by whom it was before: should they come back, their first hops are new.
        let gone = &changes.gone;
        self.hops.retain(|(peer, _)| !gone.contains(peer));
    }

    /// True while a path of sessions reaches `peer`.
    pub(crate) fn reached(&self, peer: PeerName) -> bool {
        peer != self.me && find(&self.alive, peer).is_some()
    }

    /// Peers that are known but not reached any more, or were not soon enough, in order of name.
    pub(crate) fn lost(&self) -> impl Iterator<Item = PeerName> {
        self.lost.iter().filter(|(_, lost)| lost.counts).map(|(peer, _)| *peer)
    }

    /// Peers with a direct path from here by which packets for `peer` may be relayed, nearest to it first: those that lead
    /// there by relays whose controllers are reached, and the others.
    pub(crate) fn first_hops(&self, peer: PeerName) -> (&[PeerName], &[PeerName]) {
        let at = self.hops.binary_search_by_key(&peer, |(name, _)| *name);
        at.map_or((&[], &[]), |at| self.hops[at].1.split())
    }

    /// True while this peer, or a reached one, reports a session to this identity.
    pub(crate) fn alive(&self, peer: PeerName, uid: PeerUid) -> bool {
        find(&self.alive, peer) == Some(uid) || self.duplicates.get(&peer).is_some_and(|all| all.contains_key(&uid))
    }

    /// An address at which a store of that name, but not `uid`, has a session to a reached peer.
    pub(crate) fn duplicate(&self, peer: PeerName, uid: PeerUid) -> Option<&str> {
        let stores = self.duplicates.get(&peer)?;
        stores.iter().find(|(other, _)| **other != uid).map(|(_, address)| address.as_str())
    }

    /// Names under which several stores are alive, with their addresses.
    pub(crate) fn duplicates(&self) -> impl Iterator<Item = (PeerName, Vec<&str>)> {
        self.duplicates.iter().map(|(name, stores)| (*name, stores.values().map(String::as_str).collect()))
    }
}

/// Dropped peers that are reached again, in order of name.
fn find_back(me: &PeerRecord, others: &[&PeerRecord], retained: &[&PeerRecord]) -> Vec<PeerName> {
    if retained.is_empty() {
        return Vec::new();
    }
    let mut back = routes::reached(&Graph::new(me, others.iter().chain(retained).copied()));
    let dropped: BTreeSet<PeerName> = retained.iter().map(|record| record.name).collect();
    back.retain(|peer| dropped.contains(peer));
    back
}

/// The first of `peers` that sessions lead to also without those of this host.
pub(crate) fn first_spare(me: &PeerRecord, others: &[&PeerRecord], peers: &[PeerName]) -> Option<PeerName> {
    let graph = Graph::new(me, others.iter().copied());
    peers.iter().copied().find(|peer| graph.is_reached_without_its_session(*peer))
}

/// The peer to which a message for `peer` goes next: the first on a shortest path of sessions, not by way of `from`.
pub(crate) fn next_hop(
    me: &PeerRecord,
    others: &[&PeerRecord],
    peer: PeerName,
    from: Option<PeerName>,
) -> Option<PeerName> {
    Graph::new(me, others.iter().copied()).next_hop(peer, from)
}

/// The peers to which this one passes on broadcasts of each source.
pub(crate) fn broadcasts(me: &PeerRecord, others: &[&PeerRecord]) -> Vec<(PeerName, Vec<PeerName>)> {
    let sources = others.iter().map(|record| record.name).take(SOURCES_SHOWN).chain([me.name]);
    routes::broadcasts(&Graph::new(me, others.iter().copied()), &sources.collect())
}

/// The value of `peer` in a list in order of name.
fn find<T: Copy>(list: &[(PeerName, T)], peer: PeerName) -> Option<T> {
    list.binary_search_by_key(&peer, |(name, _)| *name).ok().map(|at| list[at].1)
}

/// Peers whose values differ between two lists in order of name.
fn different<T: Copy + PartialEq>(before: &[(PeerName, T)], after: &[(PeerName, T)]) -> Vec<PeerName> {
    let new = after.iter().filter(|(peer, value)| find(before, *peer) != Some(*value));
    let gone = before.iter().filter(|(peer, _)| find(after, *peer).is_none());
    new.chain(gone).map(|(peer, _)| *peer).collect()
}

#[cfg(test)]
mod tests;
