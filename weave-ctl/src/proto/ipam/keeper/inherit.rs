//! Inherited positions: a range that another peer owned before comes with its grants, and nothing is granted there before
//! all of them are known here.
//!
//! ```text
//!                      the peer that gave it has answered
//! given by a peer ------------------------------------------> settled: this peer grants
//!        | that peer is removed                                 ^
//!        v                                                      | the last one
//! taken over: each peer known then says which addresses it has -+ or was removed, too
//! ```
//! Each mark is durable together with the ring that made this peer the owner, and goes together with the last grants. It has
//! the version that the range came with. The former owner answers when its ring has that version, so it grants nothing there
//! any more; and what a former owner has not found out itself yet, this peer has to find out. A peer that is asked for
//! its claims answers likewise, and from then on takes no grant of a former owner. A former owner keeps what it granted until
//! it is told that this peer has it. After a takeover at least [`HOLD_FOR`] pass, also after a launch, and a peer that is heard of
//! for the first time while a mark waits is waited for, too.
//!
//! Bounds: [`MARKS_MAX`] marks, of more the last grows; of [`MARKS_ASKED`] of them [`PEERS_ASKED`] peers are asked at once;
//! [`SEEN_MAX`] peers are remembered that are forgotten elsewhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    net::Ipv4Addr,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{Keeper, KeeperEvent, Peers, grants::position};
use crate::proto::{
    ids::Severity,
    ipam::{allocator::Allocator, ring::Share},
    name::{PeerId, PeerName},
    time::Instant,
    wire::letter::{CLAIMS_MAX, GRANTS_MAX, Grants, Positions, Reply, Want},
};

/// Most marks.
const MARKS_MAX: usize = 4096;
/// Marks that are worked on at once.
const MARKS_ASKED: usize = 8;
/// Peers that are asked at once for each.
const PEERS_ASKED: usize = 4;
/// Most peers that are remembered after they were forgotten elsewhere.
const SEEN_MAX: usize = 8192;
/// Time for which a former owner is told that its grants are here.
const TAKEN_FOR: Duration = Duration::from_secs(30);
/// Time for which peers are waited for that are not known yet.
const HOLD_FOR: Duration = Duration::from_secs(10);
/// Most names in a refusal.
const SHOWN: usize = 8;

/// Positions that were another peer's, and whose grants are not all known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inherited {
    /// Which, and the version that they came with.
    pub positions: Positions,
    /// The former owner.
    pub from: PeerId,
    /// Where it is gone for good: the peers whose claims are not known yet.
    pub peers: Option<BTreeSet<PeerId>>,
}

impl Inherited {
    fn overlaps(&self, positions: &Positions) -> bool {
        self.positions.first <= positions.last && positions.first <= self.positions.last
    }
}

fn version(positions: &Positions) -> (u64, u64) {
    (positions.generation, positions.epoch)
}

fn contains(positions: &Positions, position: Ipv4Addr) -> bool {
    positions.first <= position && position <= positions.last
}

/// What of `first` to `last` is in none of `ranges`, which are in order.
fn without(first: Ipv4Addr, last: Ipv4Addr, ranges: &[(Ipv4Addr, Ipv4Addr)]) -> Vec<(Ipv4Addr, Ipv4Addr)> {
    let (mut rest, mut next) = (Vec::new(), Some(first));
    for (start, end) in ranges.iter().filter(|(start, end)| *start <= last && first <= *end) {
        if let Some(from) = next.filter(|from| from < start) {
            rest.push((from, Ipv4Addr::from(u32::from(*start).saturating_sub(1))));
        }
        next = next.max(u32::from(*end).checked_add(1).map(Ipv4Addr::from)).filter(|_| *end < last);
    }
    rest.extend(next.filter(|from| *from <= last).map(|from| (from, last)));
    rest
}

impl Keeper {
    /// What this peer owns since the ring changed, and another owned before.
    pub(super) fn inherit(&mut self, before: &[(Ipv4Addr, Ipv4Addr)]) {
        let Some(ring) = &self.ring else { return };
        let ends = ring.shares.keys().skip(1).map(|next| Ipv4Addr::from(u32::from(*next).saturating_sub(1)));
        let ends = ends.chain([ring.range.broadcast()]);
        let mut marks = Vec::new();
        for ((first, share), last) in ring.shares.iter().zip(ends).filter(|((_, share), _)| share.owner == self.me) {
            let Share { generation, epoch, from, .. } = *share;
            for (first, last) in without(*first, last, before).into_iter().filter(|_| from != self.me) {
                // A generation begins with a takeover.
                let taken_over = ring.is_removed(from) || (generation > 0 && epoch == 0);
                marks.push((Positions { first, last, generation, epoch }, from, taken_over));
            }
        }
        for (positions, from, taken_over) in marks {
            let full = self.grants.inherited.len() >= MARKS_MAX;
            let peers = (taken_over || full).then(|| self.known_peers(from));
            match self.grants.inherited.last_mut().filter(|_| full) {
                Some(Inherited { positions: all, peers: awaited, .. }) => {
                    (all.first, all.last) = (all.first.min(positions.first), all.last.max(positions.last));
                    (all.generation, all.epoch) = version(all).max(version(&positions));
                    *awaited = peers;
                }
                None => self.grants.inherited.push(Inherited { positions, from, peers }),
            }
            self.inherited_changed();
        }
    }

    fn inherited_changed(&mut self) {
        self.out.push_back(KeeperEvent::Inherited(self.grants.inherited.clone()));
    }

    /// A peer is heard of for the first time in this run: it may have a grant of a peer that was taken over from.
    pub(super) fn await_newcomer(&mut self, peer: PeerId) {
        let removed = self.ring.as_ref().is_some_and(|ring| ring.is_removed(peer));
        let mut changed = false;
        for mark in self.grants.inherited.iter_mut().filter(|mark| !removed && mark.from != peer) {
            changed |= mark.peers.as_mut().is_some_and(|peers| peers.insert(peer));
        }
        if changed {
            self.inherited_changed();
        }
    }

    /// A peer is forgotten elsewhere: unless it left in good order, it may come back with what it was granted.
    pub(super) fn remember_peer(&mut self, peer: PeerName) {
        let Some((uid, hint)) = self.hints.get(&peer) else { return };
        let id = PeerId { name: peer, uid: *uid };
        if (!hint.leaving || self.owned_by(id) > 0) && self.seen.len() < SEEN_MAX {
            self.seen.insert(id);
        }
    }

    /// All peers that may have a grant of `gone`.
    fn known_peers(&self, gone: PeerId) -> BTreeSet<PeerId> {
        let Some(ring) = &self.ring else { return BTreeSet::new() };
        let owners = ring.owners().into_iter().filter(|id| *id != PeerId::of_any_store(id.name));
        let hints = self.hints.iter().map(|(name, (uid, _))| PeerId { name: *name, uid: *uid });
        let all = owners.chain(hints).chain(self.seen.iter().copied()).chain(self.grants.held.values().copied());
        all.chain([self.me]).filter(|id| *id != gone && !ring.is_removed(*id)).collect()
    }

    /// Why nothing can be granted at `position` yet.
    pub(super) fn awaited(&self, position: Ipv4Addr) -> Option<String> {
        let mark = self.grants.inherited.iter().find(|mark| contains(&mark.positions, position))?;
        let me = self.me.name;
        let Some(peers) = &mark.peers else {
            let from = mark.from.name;
            return Some(format!(
                "peer {me} decides about it and waits for {from}, which did before, to say what it granted"
            ));
        };
        let from = mark.from.name;
        let from = if from == me { "the former store of that name".to_owned() } else { from.to_string() };
        if peers.is_empty() {
            return Some(format!(
                "peer {me} decides about it since {from} is gone, and waits {} s for peers that it does not know yet: try again",
                HOLD_FOR.as_secs()
            ));
        }
        let names: Vec<String> = peers.iter().take(SHOWN).map(|id| id.name.to_string()).collect();
        let more = peers.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Some(format!(
            "peer {me} decides about it since {from} is gone, and waits for {}{more} to say which addresses they have: bring them \
             back, or `rmpeer` them when they are gone for good",
            names.join(", ")
        ))
    }

    /// Goes on with what is awaited: what was replied, which peers are gone, and what is asked next.
    pub(super) fn turn_grants(&mut self, allocator: &Allocator, peers: Peers<'_>, now: Instant) {
        let decides = self.ring.as_ref().map(|ring| (ring, self.range));
        let valid = |addr: &Ipv4Addr, granter: &PeerId| {
            decides.is_some_and(|(ring, range)| ring.owner_of(position(range, *addr)) == Some(*granter))
        };
        let (wanted, needs) = (&self.wanted, &self.needs);
        let wants = |addr: &Ipv4Addr| wanted.contains(addr) || needs.contains(&super::Need::Claim(*addr));
        self.granted.retain(|addr, granter| wants(addr) && valid(addr, granter));
        for (from, want, reply) in mem::take(&mut self.grants.replies) {
            match (want, reply) {
                (Want::Held(addr), Reply::Done) => self.audited(from, addr, true, now),
                (Want::Held(addr), Reply::Refused(_)) => self.audited(from, addr, false, now),
                (Want::Grants(positions, after), Reply::Grants(grants)) => {
                    self.grants_received(from, positions, after, grants, now);
                }
                (Want::Claims(positions), Reply::Claims(claims)) => self.claims_received(from, positions, &claims),
                (Want::Taken(positions), _) => drop(self.grants.taken.remove(&(positions, from))),
                _ => {}
            }
        }
        self.grants.taken.retain(|_, until| *until > now);
        self.settle_marks(allocator, peers, now);
        self.audit_grants(allocator, peers, now);
        let marks = self.marks_asking(peers);
        self.grants.asking = marks.into_iter().chain(self.audits(now)).collect();
    }

    fn settle_marks(&mut self, allocator: &Allocator, peers: Peers<'_>, now: Instant) {
        let (mut own, mut changed) = (Vec::new(), false);
        for mut mark in mem::take(&mut self.grants.inherited) {
            let removed = |id: PeerId| self.ring.as_ref().is_some_and(|ring| ring.is_removed(id));
            if mark.peers.is_none() && (removed(mark.from) || self.is_superseded(mark.from, peers)) {
                mark.peers = Some(self.known_peers(mark.from));
                self.grants.pages.remove(&mark.positions);
                changed = true;
            }
            let Some(awaited) = &mut mark.peers else {
                self.grants.inherited.push(mark);
                continue;
            };
            let count = awaited.len();
            awaited.retain(|id| !removed(*id) && *id != mark.from && !self.is_superseded(*id, peers));
            if awaited.remove(&self.me) {
                let inside = |addr: &Ipv4Addr| contains(&mark.positions, position(self.range, *addr));
                own.extend(allocator.exceptions().filter(inside));
            }
            let hold = *self.grants.held_until.entry(mark.positions).or_insert(now + HOLD_FOR);
            let settled = awaited.is_empty() && hold <= now;
            changed |= awaited.len() != count || settled;
            if settled {
                self.grants.held_until.remove(&mark.positions);
            } else {
                self.grants.inherited.push(mark);
            }
        }
        for addr in own {
            self.keep_claim(addr, self.me);
        }
        if changed {
            self.inherited_changed();
        }
    }

    /// A claim that is known of a peer becomes its grant.
    fn keep_claim(&mut self, addr: Ipv4Addr, of: PeerId) {
        match self.grants.held.get(&addr) {
            Some(holder) if *holder != of => {
                let (one, other) = (holder.name, of.name);
                let text = format!("address {addr} is on containers of {one} and of {other}: detach it on one of them");
                self.out.push_back(KeeperEvent::Log(Severity::Warn, text));
            }
            _ => self.keep(addr, of),
        }
    }

    fn marks_asking(&self, peers: Peers<'_>) -> Vec<(Want, PeerName)> {
        let mut asking = Vec::new();
        let (gifts, rest): (Vec<&Inherited>, Vec<&Inherited>) =
            self.grants.inherited.iter().partition(|mark| mark.peers.is_none());
        for mark in gifts.into_iter().take(MARKS_ASKED) {
            let page = self.grants.pages.get(&mark.positions).and_then(|page| page.last());
            let after = page.map_or(Ipv4Addr::UNSPECIFIED, |(addr, _)| *addr);
            asking.push((Want::Grants(mark.positions, after), mark.from.name));
        }
        for mark in rest.into_iter().take(MARKS_ASKED) {
            let reached = mark.peers.iter().flatten().filter(|id| (peers.reached)(id.name) && self.is_current(**id));
            asking.extend(reached.take(PEERS_ASKED).map(|id| (Want::Claims(mark.positions), id.name)));
        }
        asking.extend(
            self.grants.taken.keys().take(MARKS_ASKED).map(|(positions, from)| (Want::Taken(*positions), *from)),
        );
        asking
    }

    fn grants_received(&mut self, from: PeerName, positions: Positions, after: Ipv4Addr, grants: Grants, now: Instant) {
        let found = self.grants.inherited.iter().position(|mark| {
            mark.positions == positions && mark.from.name == from && mark.peers.is_none() && self.is_current(mark.from)
        });
        let Some(found) = found else { return };
        let Grants { grants, more, peers } = grants;
        let page = self.grants.pages.entry(positions).or_default();
        if page.last().map_or(Ipv4Addr::UNSPECIFIED, |(addr, _)| *addr) != after {
            return;
        }
        let inside = |addr: Ipv4Addr| contains(&positions, position(self.range, addr)) && !self.range.contains(&addr);
        page.extend(grants.into_iter().filter(|(addr, _)| *addr > after && inside(*addr)));
        if more && page.last().is_some_and(|(addr, _)| *addr > after) {
            return;
        }
        let all: BTreeMap<Ipv4Addr, PeerId> = self.grants.pages.remove(&positions).into_iter().flatten().collect();
        // What is held of an earlier ownership was given away with the range then.
        let inside = |addr: &&Ipv4Addr| contains(&positions, position(self.range, **addr));
        let old: Vec<Ipv4Addr> =
            self.grants.held.keys().filter(inside).filter(|addr| !all.contains_key(addr)).copied().collect();
        old.into_iter().for_each(|addr| self.drop_grant(addr));
        let removed = |id: &PeerId| self.ring.as_ref().is_some_and(|ring| ring.is_removed(*id));
        let kept: Vec<(Ipv4Addr, PeerId)> = all.into_iter().filter(|(_, holder)| !removed(holder)).collect();
        let any = !kept.is_empty();
        kept.into_iter().for_each(|(addr, holder)| self.keep(addr, holder));
        if peers.is_empty() {
            self.grants.inherited.remove(found);
        } else if let Some(mark) = self.grants.inherited.get_mut(found) {
            mark.peers = Some(peers.into_iter().collect());
        }
        if any {
            self.grants.taken.insert((positions, from), now + TAKEN_FOR);
        }
        self.inherited_changed();
    }

    fn claims_received(&mut self, from: PeerName, positions: Positions, claims: &[Ipv4Addr]) {
        let awaited = |mark: &&mut Inherited| mark.positions == positions;
        let Some(mark) = self.grants.inherited.iter_mut().find(awaited) else { return };
        let Some(of) = mark.peers.iter().flatten().copied().find(|id| id.name == from) else { return };
        if self.hints.get(&from).is_none_or(|(uid, _)| *uid != of.uid) {
            return;
        }
        if let Some(peers) = &mut mark.peers {
            peers.remove(&of);
        }
        let range = self.range;
        for addr in claims.iter().filter(|addr| contains(&positions, position(range, **addr)) && !range.contains(*addr))
        {
            self.keep_claim(*addr, of);
        }
        self.inherited_changed();
    }

    /// True when the ring here says of all these positions what made them the sender's, or something newer.
    fn knows_of(&self, positions: &Positions) -> bool {
        let Some(ring) = &self.ring else { return false };
        if positions.first > positions.last || !ring.range.contains(&positions.first) {
            return false;
        }
        let first = ring.shares.range(..=positions.first).next_back();
        let all = first.into_iter().chain(ring.shares.range(positions.first..=positions.last));
        all.into_iter().all(|(_, share)| (share.generation, share.epoch) >= version(positions))
    }

    /// What this peer granted of positions that it owned; `None` when it does not know all of that yet.
    pub(super) fn former_grants(&self, positions: &Positions, after: Ipv4Addr) -> Option<Reply> {
        let older = |mark: &&Inherited| mark.overlaps(positions) && version(&mark.positions) < version(positions);
        let older: Vec<&Inherited> = self.grants.inherited.iter().filter(older).collect();
        let peers: BTreeSet<PeerId> = older.iter().flat_map(|mark| mark.peers.iter().flatten()).copied().collect();
        if !self.knows_of(positions) || older.iter().any(|mark| mark.peers.is_none()) || peers.len() > GRANTS_MAX {
            return None;
        }
        let behind = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
        let inside = |addr: Ipv4Addr| contains(positions, position(self.range, addr));
        let all = self.grants.held.range(behind).filter(|(addr, _)| inside(**addr));
        let mut grants: Vec<(Ipv4Addr, PeerId)> = all.take(GRANTS_MAX + 1).map(|(addr, id)| (*addr, *id)).collect();
        let more = grants.len() > GRANTS_MAX;
        grants.truncate(GRANTS_MAX);
        Some(Reply::Grants(Grants { grants, more, peers: peers.into_iter().collect() }))
    }

    /// What this peer's containers have of positions, once it takes no grant of a former owner any more.
    pub(super) fn own_claims(&self, positions: &Positions, allocator: &Allocator) -> Option<Reply> {
        let inside = |addr: &Ipv4Addr| contains(positions, position(self.range, *addr));
        let claims = || allocator.exceptions().filter(inside).take(CLAIMS_MAX).collect();
        self.knows_of(positions).then(|| Reply::Claims(claims()))
    }

    /// Another peer has the grants of these positions: those of positions that are not this peer's again are forgotten.
    pub(super) fn grants_taken(&mut self, positions: &Positions) -> Option<Reply> {
        let ring = self.ring.as_ref().filter(|_| self.knows_of(positions))?;
        let (me, range) = (self.me, self.range);
        let is_former = |addr: Ipv4Addr| {
            let position = position(range, addr);
            contains(positions, position) && ring.owner_of(position) != Some(me)
        };
        let former: Vec<Ipv4Addr> = self.grants.held.keys().copied().filter(|addr| is_former(*addr)).collect();
        former.into_iter().for_each(|addr| self.drop_grant(addr));
        Some(Reply::Done)
    }

    /// True when all that `from` granted of what it handed over is known here.
    pub(super) fn has_grants_of(&self, from: PeerId) -> bool {
        !self.grants.inherited.iter().any(|mark| mark.from == from && mark.peers.is_none())
    }
}
