//! Rings that neighbours send: compared by their digests, refused when they cannot be, and merged.
//!
//! What is refused, and why: [`ring::admit`]. A ring of another network is a conflict, and both go on.
//! Bounds: [`RINGS_MAX`] of a neighbour at once, and [`RINGS_RATE`] a second, are looked at; [`CONFLICTS_MAX`] conflicts.

use super::{CONFLICTS_MAX, Keeper, KeeperEvent, RINGS_MAX, RINGS_RATE};
use crate::proto::{
    ids::{SessionId, Severity},
    ipam::ring::{self, Nonsense, Part, Ring},
    name::{PeerId, PeerName},
    throttle::Budget,
    time::Instant,
};

impl Keeper {
    /// A link is up.
    pub fn link_up(&mut self, link: SessionId) {
        self.out.push_back(KeeperEvent::SendSum(link, self.sum));
    }

    /// A neighbour told the sum of its ring; zero for none.
    pub fn heard_sum(&mut self, link: SessionId, sum: u64) {
        self.met |= sum == 0 || sum == self.sum;
        match &self.ring {
            Some(ring) if sum != self.sum => self.out.push_back(KeeperEvent::Send(link, ring.whole(), true)),
            None if sum != 0 => self.out.push_back(KeeperEvent::SendSum(link, 0)),
            _ => {}
        }
    }

    /// Whether what `from` tells of its ring is looked at now: each change costs a commit, so a neighbour that tells many
    /// is heard [`RINGS_RATE`] times a second. What is missed then, the comparison finds.
    pub fn grants(&mut self, from: PeerName, now: Instant) -> bool {
        let full = || Budget::full(RINGS_MAX, RINGS_RATE, now);
        self.budgets.entry(from).or_insert_with(full).take(now)
    }

    /// A neighbour sent its ring, or what changed of it.
    pub fn heard(&mut self, link: SessionId, from: PeerName, part: &Part, whole: bool) {
        // A part says nothing of the rest; the whole comes when the digests of rings are compared.
        if self.ring.is_none() && !part.is_whole() {
            return;
        }
        let known = |peer: PeerId| self.hints.get(&peer.name).is_some_and(|(uid, _)| *uid == peer.uid);
        if let Err(nonsense) = ring::admit(part, self.ring.as_ref(), self.me, known) {
            self.out.push_back(KeeperEvent::Refused(from, format!("a ring that cannot be: {nonsense}")));
            return if matches!(nonsense, Nonsense::Stolen(..)) {
                self.defend(part)
            };
        }
        let had = self.ring.clone();
        let merged = match &mut self.ring {
            Some(ring) => ring.merge(part),
            None => Ring::adopt(self.range, part).map(|ring| {
                let tokens = ring.shares.keys().copied().collect();
                self.ring = Some(ring);
                tokens
            }),
        };
        let tokens = match merged {
            Ok(tokens) => tokens,
            Err(conflict) => return self.conflict(from, &conflict.to_string()),
        };
        self.met |= part.is_whole();
        self.conflicts.remove(&from);
        let Some(ring) = &self.ring else { return };
        if had.is_none() {
            let text = format!("adopted the ring of {} peers from {from}", ring.origin.len());
            self.out.push_back(KeeperEvent::Log(Severity::Info, text));
        }
        if let Some(newer) = ring.newer_than(part).filter(|_| whole) {
            self.out.push_back(KeeperEvent::Send(link, newer, false));
        }
        let takeovers = had.as_ref().is_none_or(|had| had.removed != ring.removed);
        if !tokens.is_empty() || takeovers {
            let was_removed = had.is_some_and(|had| had.is_removed(self.me));
            let part = ring.part(tokens);
            let by = ring.removed.get(&self.me).map(|takeover| takeover.by);
            self.changed(part, Some(link));
            if let Some(by) = by.filter(|_| !was_removed) {
                let text =
                    format!("this peer was removed from the network by `rmpeer` on {by}: others own its addresses now");
                self.out.push_back(KeeperEvent::Log(Severity::Warn, text));
            }
        }
    }

    fn defend(&mut self, part: &Part) {
        let (me, hints) = (self.me, self.hints.clone());
        let known = |peer: PeerId| hints.get(&peer.name).is_some_and(|(uid, _)| *uid == peer.uid);
        self.change(|ring| ring.defend(part, me, known));
    }

    fn conflict(&mut self, from: PeerName, what: &str) {
        let text = format!(
            "{from} is of another network: {what}; both go on apart: to join them, `reset` the peers of one of them and \
             launch these anew"
        );
        if self.conflicts.get(&from) == Some(&text) {
            return;
        }
        if self.conflicts.len() < CONFLICTS_MAX || self.conflicts.contains_key(&from) {
            self.conflicts.insert(from, text.clone());
        }
        self.out.push_back(KeeperEvent::Log(Severity::Warn, text));
    }
}
