//! Grants of addresses outside the range: the peer that owns the position which an address hashes to decides about it.
//!
//! ```text
//!             asked for                   the holder says that it has it no more
//! (nothing) ------------> granted to a peer --------------------------------------> (nothing)
//!                             | asked for by another: the holder is asked first; has it, or is silent: refused
//! ```
//! A grant is durable before it is answered, and answered again to its holder. It ends when its holder says that no
//! container of it has the address or is to have it: the holder is asked when its entry of the address is gone, or was
//! never seen, and when another peer wants the address. So a release that is lost is made up for, and nothing is released
//! that the holder may still use: when the holder asks again, an answer to an older question does not count any more.
//! The grants of a peer that is gone for good end at once. Positions that were another peer's before: [`super::inherit`].
//! | timer | value | meaning |
//! |---|---|---|
//! | [`AUDIT_WAIT`] | 2 s | a holder is waited for so long |
//! | [`AUDIT_FRESH`] | 2 s | what a holder said counts for so long |
//! | [`AUDIT_EVERY`] | 10 s | mean time between looks for grants without an entry; jitter |
//!
//! Bounds: [`GRANTS_MAX`] grants of this peer, [`CLAIMS_MAX`] of them to one peer, [`AUDITS_MAX`] holders are asked at once.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::Ipv4Addr,
    time::Duration,
};

use ipnet::Ipv4Net;

use super::{Inherited, Keeper, KeeperEvent, Peers};
use crate::proto::{
    ipam::{
        allocator::{Allocator, CLAIMS_MAX},
        ring::size,
    },
    name::{PeerId, PeerName, PeerUid},
    time::Instant,
    wire::letter::{Positions, Reply, Want},
};

/// Most grants that a peer keeps.
pub const GRANTS_MAX: usize = 65_536;
/// Most holders that are asked at once.
const AUDITS_MAX: usize = 32;
/// See the head of this file.
const AUDIT_WAIT: Duration = Duration::from_secs(2);
/// See the head of this file.
const AUDIT_FRESH: Duration = Duration::from_secs(2);
/// See the head of this file.
pub(super) const AUDIT_EVERY: Duration = Duration::from_secs(10);

/// The position in `range` of an address outside it: its owner grants the address. The same everywhere, for ever.
#[must_use]
pub fn position(range: Ipv4Net, addr: Ipv4Addr) -> Ipv4Addr {
    let hash = u64::from(u32::from(addr)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let offset = u32::try_from(hash % size(range)).unwrap_or(0);
    Ipv4Addr::from(u32::from(range.network()).saturating_add(offset))
}

/// What this peer granted, and what it has to find out first.
#[derive(Debug, Default)]
pub(super) struct Grants {
    pub(super) held: BTreeMap<Ipv4Addr, PeerId>,
    /// Positions that were another peer's, whose grants are not all known.
    pub(super) inherited: Vec<Inherited>,
    /// Grants received so far of such positions.
    pub(super) pages: BTreeMap<Positions, Vec<(Ipv4Addr, PeerId)>>,
    /// Until when takeovers wait for peers that are not known yet.
    pub(super) held_until: BTreeMap<Positions, Instant>,
    /// Peers that are told that their grants of some positions are here, until when.
    pub(super) taken: BTreeMap<(Positions, PeerName), Instant>,
    /// Holders that are asked whether they have an address.
    audits: BTreeMap<Ipv4Addr, Audit>,
    /// Addresses whose entry is gone.
    suspects: BTreeSet<Ipv4Addr>,
    pub(super) audit_at: Instant,
    /// What is asked of other peers now.
    pub(super) asking: BTreeSet<(Want, PeerName)>,
    /// What they replied, since the last turn.
    pub(super) replies: VecDeque<(PeerName, Want, Reply)>,
}

/// A holder is asked whether it has an address.
#[derive(Clone, Copy, Debug)]
struct Audit {
    holder: PeerId,
    /// Whether it does: once it said so.
    answer: Option<bool>,
    /// Until when it is waited for; from when on the answer is too old.
    until: Instant,
}

impl Keeper {
    /// Puts back what the store remembers.
    pub fn restore_grants(&mut self, grants: BTreeMap<Ipv4Addr, PeerId>, inherited: Vec<Inherited>) {
        self.grants.held = grants;
        self.grants.inherited = inherited;
    }

    /// Addresses outside the range that callers wait for, whether or not they could have them now.
    pub fn set_wanted(&mut self, wanted: BTreeSet<Ipv4Addr>) {
        self.wanted = wanted;
    }

    /// Addresses that containers of this peer may have: granted by the peers that decide about them now, and wanted.
    #[must_use]
    pub fn granted(&self) -> BTreeSet<Ipv4Addr> {
        let decides = |addr: Ipv4Addr| self.ring.as_ref()?.owner_of(position(self.range, addr));
        let all =
            self.granted.iter().filter(|(addr, granter)| self.wants(**addr) && decides(**addr) == Some(**granter));
        all.map(|(addr, _)| *addr).collect()
    }

    pub(super) fn wants(&self, addr: Ipv4Addr) -> bool {
        self.wanted.contains(&addr) || self.needs.contains(&super::Need::Claim(addr))
    }

    /// Number of grants.
    #[must_use]
    pub fn grant_count(&self) -> usize {
        self.grants.held.len()
    }

    /// Identities of a name that has a grant of this peer, or an address outside the range, or that grants wait for; not those
    /// that were removed already.
    pub fn counted_on(&self, name: PeerName) -> impl Iterator<Item = PeerId> {
        let claims = self.claims.iter().any(|(_, of)| of == name);
        let uid = self.hints.get(&name).map_or(PeerUid(0), |(uid, _)| *uid);
        let of_entry = claims.then_some(PeerId { name, uid });
        let marks = self.grants.inherited.iter();
        let awaited = marks.flat_map(|mark| mark.peers.iter().flatten().chain([&mark.from]));
        let all = self.grants.held.values().chain(awaited).copied().filter(move |id| id.name == name).chain(of_entry);
        let removed = |id: &PeerId| self.ring.as_ref().is_some_and(|ring| ring.is_removed(*id));
        all.filter(move |id| !removed(id))
    }

    /// An entry of `from` that says that it has an address is gone.
    pub fn claim_gone(&mut self, from: PeerId, addr: Ipv4Addr) {
        if self.grants.held.get(&addr) == Some(&from) {
            self.grants.suspects.insert(addr);
        }
    }

    /// True when another store has the name, and the store of `id` is not known to be alive.
    pub(super) fn is_superseded(&self, id: PeerId, peers: Peers<'_>) -> bool {
        self.hints.get(&id.name).is_some_and(|(uid, _)| *uid != id.uid) && id != self.me && !(peers.alive)(id)
    }

    /// True when what comes from that name comes from this store.
    pub(super) fn is_current(&self, id: PeerId) -> bool {
        self.hints.get(&id.name).is_some_and(|(uid, _)| *uid == id.uid)
    }

    /// What `from` is answered that asks for an address; `None` when it has to ask again.
    pub(super) fn grant(
        &mut self,
        from: PeerId,
        addr: Ipv4Addr,
        allocator: &Allocator,
        peers: Peers<'_>,
        now: Instant,
    ) -> Option<Reply> {
        let position = position(self.range, addr);
        let ring = self.ring.as_ref().filter(|_| self.may_grant())?;
        if ring.owner_of(position) != Some(self.me) || ring.is_removed(from) || self.range.contains(&addr) {
            return None;
        }
        if let Some(why) = self.awaited(position) {
            return Some(Reply::Refused(why));
        }
        if let Some(holder) = self.holder(addr, allocator).filter(|holder| *holder != from)
            && let Some(answer) = self.judge(holder, addr, allocator, peers, now)
        {
            return answer;
        }
        let of_from = self.grants.held.values().filter(|holder| **holder == from).count();
        let known = self.grants.held.get(&addr) == Some(&from);
        if !known && (self.grants.held.len() >= GRANTS_MAX || of_from >= CLAIMS_MAX) {
            return Some(Reply::Refused(format!("peer {} has granted as many addresses as it can", self.me.name)));
        }
        // An answer to a question from before does not count any more.
        self.grants.audits.remove(&addr);
        self.keep(addr, from);
        Some(Reply::Done)
    }

    /// Makes a grant durable.
    pub(super) fn keep(&mut self, addr: Ipv4Addr, holder: PeerId) {
        if self.grants.held.insert(addr, holder) != Some(holder) {
            self.out.push_back(KeeperEvent::Grant(addr, Some(holder)));
        }
    }

    pub(super) fn drop_grant(&mut self, addr: Ipv4Addr) {
        if self.grants.held.remove(&addr).is_some() {
            self.out.push_back(KeeperEvent::Grant(addr, None));
        }
    }

    /// Another peer may have taken over from this one while it was down: not where nobody else owns anything.
    fn may_grant(&self) -> bool {
        let sole = || self.owners.iter().all(|name| *name == self.me.name);
        self.may_give() && (self.met || sole())
    }

    /// The peer that has an address, by its grant, or by its entry where there is none.
    fn holder(&self, addr: Ipv4Addr, allocator: &Allocator) -> Option<PeerId> {
        let of_entry = || {
            let name = self.claims.of(addr)?;
            Some(PeerId { name, uid: self.hints.get(&name).map_or(PeerUid(0), |(uid, _)| *uid) })
        };
        let own = || allocator.holder(addr).map(|_| self.me);
        self.grants.held.get(&addr).copied().or_else(own).or_else(of_entry)
    }

    /// What another peer is answered while `holder` has the address; `None` when the holder has it no more.
    fn judge(
        &mut self,
        holder: PeerId,
        addr: Ipv4Addr,
        allocator: &Allocator,
        peers: Peers<'_>,
        now: Instant,
    ) -> Option<Option<Reply>> {
        let refused = |what: &str| {
            let text = format!("a container of peer {} has address {addr}{what}", holder.name);
            Some(Some(Reply::Refused(text)))
        };
        if holder == self.me {
            let free = allocator.holder(addr).is_none() && !self.granted.contains_key(&addr) && !self.wants(addr);
            return if free { None } else { refused("") };
        }
        match self.grants.audits.get(&addr).copied().filter(|audit| audit.holder == holder) {
            Some(Audit { answer: Some(true), until, .. }) if until > now => refused(""),
            Some(Audit { answer: Some(false), until, .. }) if until > now => None,
            Some(Audit { answer: None, until, .. }) if until <= now => refused(", and that peer does not answer"),
            Some(Audit { answer: None, .. }) => Some(None),
            _ if !(peers.reached)(holder.name) => {
                refused(", and that peer is out of reach: `rmpeer` it when it is gone for good")
            }
            _ if self.audit(addr, holder, now) => Some(None),
            _ => refused(""),
        }
    }

    /// True while a holder is asked.
    pub(super) fn is_audited(&self, addr: Ipv4Addr) -> bool {
        self.grants.audits.get(&addr).is_some_and(|audit| audit.answer.is_none())
    }

    /// Asks a holder whether it has an address; false when too many are asked.
    fn audit(&mut self, addr: Ipv4Addr, holder: PeerId, now: Instant) -> bool {
        let room = self.grants.audits.len() < AUDITS_MAX || self.grants.audits.contains_key(&addr);
        if room {
            self.grants.audits.insert(addr, Audit { holder, answer: None, until: now + AUDIT_WAIT });
        }
        room
    }

    /// Whether this peer has an address that it was granted, or may use such a grant yet.
    pub(super) fn has_or_wants(&self, addr: Ipv4Addr, allocator: &Allocator) -> Reply {
        let has = allocator.holder(addr).is_some() || self.wants(addr) || self.granted.contains_key(&addr);
        if has { Reply::Done } else { Reply::Refused("no container has it".to_owned()) }
    }

    /// What a holder said.
    pub(super) fn audited(&mut self, from: PeerName, addr: Ipv4Addr, has: bool, now: Instant) {
        let Some(audit) = self.grants.audits.get_mut(&addr).filter(|a| a.holder.name == from && a.answer.is_none())
        else {
            return;
        };
        (audit.answer, audit.until) = (Some(has), now + AUDIT_FRESH);
        let holder = audit.holder;
        // A store of the same name cannot speak for another one.
        if !has && self.is_current(holder) && self.grants.held.get(&addr) == Some(&holder) {
            self.drop_grant(addr);
        }
    }

    /// Ends grants whose holders are gone, and asks holders whose entries are.
    pub(super) fn audit_grants(&mut self, allocator: &Allocator, peers: Peers<'_>, now: Instant) {
        let old = |audit: &Audit| audit.until + AUDIT_WAIT <= now;
        self.grants.audits.retain(|_, audit| !old(audit));
        let all = self.grants.audit_at <= now;
        if all {
            self.grants.audit_at = now + self.rng.jitter(AUDIT_EVERY);
        }
        let suspects = std::mem::take(&mut self.grants.suspects);
        let held = &self.grants.held;
        let looked_at: Vec<(Ipv4Addr, PeerId)> = if all {
            held.iter().map(|(addr, holder)| (*addr, *holder)).collect()
        } else {
            suspects.iter().filter_map(|addr| Some((*addr, *held.get(addr)?))).collect()
        };
        for (addr, holder) in looked_at {
            let idle = || allocator.holder(addr).is_none() && !self.wants(addr) && !self.granted.contains_key(&addr);
            if self.is_superseded(holder, peers) || (holder == self.me && idle()) {
                self.drop_grant(addr);
            } else if holder != self.me && self.is_current(holder) && !self.claims.has(holder.name, addr) {
                let under_way = self.grants.audits.contains_key(&addr) || !(peers.reached)(holder.name);
                if !under_way && !self.audit(addr, holder, now) {
                    self.grants.suspects.insert(addr);
                    break;
                }
            }
        }
    }

    /// Peers are gone for good since the ring changed: what they were granted ends, and so do their claims.
    pub(super) fn release_removed(&mut self) {
        let Some(ring) = &self.ring else { return };
        let new: Vec<PeerId> = ring.removed.keys().copied().filter(|id| !self.gone.contains(id)).collect();
        if new.is_empty() {
            return;
        }
        self.gone = ring.removed.keys().copied().collect();
        let gone = self.grants.held.iter().filter(|(_, holder)| ring.is_removed(**holder));
        let gone: Vec<Ipv4Addr> = gone.map(|(addr, _)| *addr).collect();
        let current = |id: &&PeerId| self.hints.get(&id.name).is_none_or(|(uid, _)| *uid == id.uid);
        let names: Vec<PeerName> = new.iter().filter(current).map(|id| id.name).collect();
        let mut released = false;
        for name in names {
            released |= self.claims.released(name);
        }
        gone.into_iter().for_each(|addr| self.drop_grant(addr));
        if released {
            self.out.push_back(KeeperEvent::Released);
        }
    }

    /// What is asked of holders now.
    pub(super) fn audits(&self, now: Instant) -> impl Iterator<Item = (Want, PeerName)> {
        let open = self.grants.audits.iter().filter(move |(_, audit)| audit.answer.is_none() && audit.until > now);
        open.map(|(addr, audit)| (Want::Held(*addr), audit.holder.name))
    }
}

#[cfg(test)]
mod tests;
