//! The ring of this peer and all that changes it: what neighbours tell, what peers ask of each other, takeovers, leaving.
//!
//! ```text
//! need (an address is asked for, and none is free here)
//!   -> a request to one peer at a time that has space (or to the owner of a fixed address)
//!      -> that peer gives: its ring changes, durable, then told to all; then it responds
//!         -> the ring here changes, the address is given
//! ```
//! A ring is told to neighbours when it changes (the changed tokens), and compared by its sum when a link comes up and
//! every [`COMPARE`] with one of them; the tokens that differ are then exchanged. A response that is lost costs a
//! request more: ownership is in the ring.
//! Why not as entries: an entry has one owner, which alone makes its next version. A token has an owner that changes, and
//! after a takeover somebody else makes its next version: what is newer is decided by the ring's own merge.
//!
//! A seed's share is claimed by the first store of that name. A store without memory cannot know whether an earlier one
//! of its name gave some of the share away, so when there are peers to ask it claims nothing before one was heard of.
//! What a former store of this peer's name owns in the ring of others is taken over, unless that store is alive.
//! Bounds: [`WANTS_MAX`] requests of this peer, [`INBOX_MAX`] of others wait; [`CONFLICTS_MAX`] conflicts are remembered.

mod asking;
mod claims;
mod grants;
mod inherit;
mod leaving;
mod receiving;
mod timers;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    net::Ipv4Addr,
    time::Duration,
};

use ipnet::Ipv4Net;

use self::{asking::Asked, claims::Claims, grants::Grants, leaving::Leaving};
pub use self::{
    grants::{GRANTS_MAX, position},
    inherit::Inherited,
};
use super::{
    allocator::{Access, Allocator, Need},
    hint::Hint,
    ring::{Part, Ring},
};
use crate::proto::{
    ids::{SessionId, Severity},
    key::SecretKey,
    name::{PeerId, PeerName, PeerUid},
    rng::Rng,
    throttle::Budget,
    time::Instant,
    wire::letter::{Reply, Request, Want},
};

/// Time between two comparisons with a neighbour, on average.
pub const COMPARE: Duration = Duration::from_secs(10);
/// Most things that are wanted of other peers at once.
pub const WANTS_MAX: usize = 16;
/// Most requests of other peers that wait for their answer.
pub const INBOX_MAX: usize = 256;
/// Most peers whose conflicting rings are remembered.
pub const CONFLICTS_MAX: usize = 64;

/// Rings, or changes of them, that a neighbour may tell at once, and that it is granted a second.
pub const RINGS_MAX: u32 = 64;
/// See [`RINGS_MAX`].
pub const RINGS_RATE: u32 = 10;

/// What the mesh knows of peers.
#[derive(Clone, Copy)]
pub struct Peers<'a> {
    /// True while a path of links reaches a peer.
    pub reached: &'a dyn Fn(PeerName) -> bool,
    /// True when a store of some name is known to be alive.
    pub alive: &'a dyn Fn(PeerId) -> bool,
}

/// What the rest of the core must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeeperEvent {
    /// The ring changed: make it durable, and the kernel's routes follow it.
    Ring(Ring),
    /// Tell this to all neighbours but one.
    Tell(Part, Option<SessionId>),
    /// Send one neighbour these tokens; true when they are all there are.
    Send(SessionId, Part, bool),
    /// Send one neighbour the sum of the ring.
    SendSum(SessionId, u64),
    /// Send any neighbour the sum of the ring.
    Compare(u64),
    /// What this peer publishes of its space changed.
    Hint(Vec<u8>),
    /// What the request of a peer with this id came to.
    Respond(PeerName, u64, Reply),
    /// Make durable: which peer is granted an address, or that none is.
    Grant(Ipv4Addr, Option<PeerId>),
    /// Make durable: all positions whose grants are not all known.
    Inherited(Vec<Inherited>),
    /// [`Keeper::granted`] has one more.
    Granted,
    /// Claims of other peers ended: see [`Keeper::claims`].
    Released,
    /// A container of this peer has this address outside the range, or has it no more.
    Claim(Ipv4Addr, bool),
    /// What was needed cannot be had.
    Denied(Need, String),
    /// No peer in reach has space in this subnet.
    NoSpace(Ipv4Net),
    /// A peer sent something that no peer that keeps to the rules sends; it was ignored.
    Refused(PeerName, String),
    /// All ranges are handed over, or why not.
    Left(Result<(), String>),
    /// For the operator's log.
    Log(Severity, String),
}

/// See the head of this file.
#[derive(Debug)]
pub struct Keeper {
    me: PeerId,
    /// Signs takeovers.
    key: SecretKey,
    range: Ipv4Net,
    ring: Option<Ring>,
    sum: u64,
    /// Addresses that this peer owns.
    own: u64,
    /// The same as ranges: first and last.
    ranges: Vec<(Ipv4Addr, Ipv4Addr)>,
    /// Names of all who own something.
    owners: BTreeSet<PeerName>,
    /// What is waited for while there is no ring.
    waiting: String,
    /// This peer was told of no other that it could ask.
    alone: bool,
    /// In this run rings were compared with another peer, or this one was begun: what happened before, such as a
    /// takeover, was heard of, as far as it could be.
    met: bool,
    conflicts: BTreeMap<PeerName, String>,
    /// What each peer published last, and its store.
    hints: BTreeMap<PeerName, (PeerUid, Hint)>,
    claims: Claims,
    /// What this peer decided about addresses outside the range.
    grants: Grants,
    /// What others decided, for callers that wait: which peer.
    granted: BTreeMap<Ipv4Addr, PeerId>,
    /// Addresses outside the range that callers wait for.
    wanted: BTreeSet<Ipv4Addr>,
    /// Peers that were forgotten since this peer was launched, and may come back.
    seen: BTreeSet<PeerId>,
    /// Peers of which is known that they are gone for good.
    gone: BTreeSet<PeerId>,
    /// Requests to this peer that are not answered yet.
    inbox: VecDeque<(PeerId, u64, Request)>,
    /// Peers that leave and were told that this one takes over, and until when it stays for them.
    promised: BTreeMap<PeerId, Instant>,
    needs: BTreeSet<Need>,
    asked: BTreeMap<Want, Asked>,
    /// Rings that each neighbour may still tell.
    budgets: BTreeMap<PeerName, Budget>,
    leaving: Option<Leaving>,
    /// Everything was handed over, and no heir has said yet that it has it.
    unconfirmed: bool,
    told: Option<Hint>,
    compare_at: Instant,
    rng: Rng,
    out: VecDeque<KeeperEvent>,
}

impl Keeper {
    /// The ring manager of peer `me`, whose key that is, with what its store remembers. `alone` when it was told of no peer
    /// that it could ask.
    #[must_use]
    pub fn new(
        me: PeerId,
        key: SecretKey,
        range: Ipv4Net,
        ring: Option<Ring>,
        alone: bool,
        rng: Rng,
        now: Instant,
    ) -> Self {
        Self {
            me,
            key,
            range,
            sum: ring.as_ref().map_or(0, Ring::sum),
            own: ring.as_ref().map_or(0, |ring| ring.owned(me)),
            ranges: ring.as_ref().map(|ring| ring.owned_by(me).collect()).unwrap_or_default(),
            owners: ring.as_ref().map(names).unwrap_or_default(),
            gone: ring.as_ref().map(|ring| ring.removed.keys().copied().collect()).unwrap_or_default(),
            ring,
            waiting: String::new(),
            alone,
            met: false,
            conflicts: BTreeMap::new(),
            hints: BTreeMap::new(),
            claims: Claims::new(range),
            grants: Grants::default(),
            granted: BTreeMap::new(),
            wanted: BTreeSet::new(),
            seen: BTreeSet::new(),
            inbox: VecDeque::new(),
            promised: BTreeMap::new(),
            needs: BTreeSet::new(),
            asked: BTreeMap::new(),
            budgets: BTreeMap::new(),
            leaving: None,
            unconfirmed: false,
            told: None,
            compare_at: now + COMPARE,
            rng,
            out: VecDeque::new(),
        }
    }

    /// The next thing to be done.
    pub fn poll_event(&mut self) -> Option<KeeperEvent> {
        self.out.pop_front()
    }

    /// The ring, when there is one.
    #[must_use]
    pub fn ring(&self) -> Option<&Ring> {
        self.ring.as_ref()
    }

    /// True when this peer's store was taken over from.
    #[must_use]
    pub fn removed(&self) -> bool {
        self.ring.as_ref().is_some_and(|ring| ring.is_removed(self.me))
    }

    /// True when a store of that name owns something.
    #[must_use]
    pub fn owns(&self, peer: PeerName) -> bool {
        self.owners.contains(&peer)
    }

    /// True while this peer hands its ranges over.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// The ring as far as addresses may be given from it.
    #[must_use]
    pub fn access(&self) -> Access<'_> {
        match &self.ring {
            _ if self.removed() => Access::Removed,
            _ if self.leaving.is_some() => Access::Leaving,
            None => Access::Waiting(&self.waiting),
            Some(ring) if self.holds_back(ring) => Access::Waiting(
                "this store is new, and another peer may know what was given of this peer's share before: waiting for \
                 one to answer",
            ),
            Some(ring) => Access::Ring(ring),
        }
    }

    /// True when a peer was heard of in this run, or there is none: then this peer knows what others did while it was down.
    #[must_use]
    pub fn has_heard(&self) -> bool {
        self.met || self.alone
    }

    /// True when what others did while this peer was down is known: one was heard of, or no other owns anything. A peer that
    /// was told of none may be known to some all the same.
    #[must_use]
    pub fn has_caught_up(&self) -> bool {
        let others = || self.ring().is_some_and(|ring| ring.owners().iter().any(|owner| *owner != self.me));
        self.met || !others()
    }

    fn holds_back(&self, ring: &Ring) -> bool {
        !self.has_heard() && ring.unclaimed(self.me.name)
    }

    /// What is waited for while there is no ring, for callers.
    pub fn set_waiting(&mut self, text: String) {
        self.waiting = text;
    }

    /// Ring conflicts, a sentence each.
    pub fn conflicts(&self) -> impl Iterator<Item = &String> {
        self.conflicts.values()
    }

    /// Addresses outside the range, and whose they are.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// See [`Self::claims`].
    pub fn claims_mut(&mut self) -> &mut Claims {
        &mut self.claims
    }

    /// What each peer published last, in order of name.
    fn hints(&self) -> impl Iterator<Item = (PeerId, Hint)> {
        self.hints.iter().map(|(name, (uid, hint))| (PeerId { name: *name, uid: *uid }, *hint))
    }

    /// Begins a ring.
    pub fn begin(&mut self, ring: Ring) {
        if self.ring.is_none() {
            self.met = true;
            let part = ring.whole();
            self.ring = Some(ring);
            self.changed(part, None);
        }
    }

    /// The ring is another one by now: `part` of it.
    fn changed(&mut self, part: Part, except: Option<SessionId>) {
        let Some(ring) = &self.ring else { return };
        self.sum = ring.sum();
        let (own, before) = (ring.owned_by(self.me).collect(), mem::take(&mut self.ranges));
        self.own = ring.owned(self.me);
        self.owners = names(ring);
        self.out.push_back(KeeperEvent::Ring(ring.clone()));
        self.out.push_back(KeeperEvent::Tell(part, except));
        self.ranges = own;
        self.inherit(&before);
        self.release_removed();
    }

    fn change(&mut self, with: impl FnOnce(&mut Ring) -> Vec<Ipv4Addr>) -> u64 {
        let Some(ring) = &mut self.ring else { return 0 };
        let takeovers = ring.removed.clone();
        let tokens = with(ring);
        if tokens.is_empty() && takeovers == ring.removed {
            return 0;
        }
        let part = ring.part(tokens.iter().copied());
        self.changed(part, None);
        tokens.len() as u64
    }

    /// What a peer publishes of its space is another by now, or gone.
    ///
    /// # Errors
    /// It does not read; nothing changed.
    pub fn heard_hint(&mut self, of: PeerId, bytes: Option<&[u8]>) -> Result<(), String> {
        let hint = bytes.map_or_else(|| Ok(Hint::default()), Hint::decode)?;
        let before = self.hints.insert(of.name, (of.uid, hint));
        if before.is_none_or(|(uid, _)| uid != of.uid) && !self.seen.contains(&of) {
            self.await_newcomer(of);
        }
        Ok(())
    }

    /// A peer is forgotten; its containers may live, so what they have outside the range is still theirs.
    pub fn peer_gone(&mut self, peer: PeerName) {
        self.remember_peer(peer);
        self.hints.remove(&peer);
        self.claims.peer_gone(peer);
        self.conflicts.remove(&peer);
        self.budgets.remove(&peer);
        self.inbox.retain(|(from, ..)| from.name != peer);
        self.promised.retain(|from, _| from.name != peer);
    }

    /// Lets `heir` take over from stores that are gone for good: how many addresses.
    pub fn remove(&mut self, stores: &BTreeSet<PeerId>, heir: PeerId) -> u64 {
        let addresses = stores.iter().map(|store| self.owned_by(*store)).sum();
        let (by, key) = (self.me.name, self.key.clone());
        for store in stores {
            self.change(|ring| ring.take_over(*store, heir, by, &key));
        }
        addresses
    }

    /// This peer has left, and what it had is forgotten: all peers in reach are told that it is gone for good.
    pub fn depart(&mut self) {
        let (me, key) = (self.me, self.key.clone());
        let Some(ring) = &mut self.ring else { return };
        ring.depart(me, &key);
        let part = ring.part([]);
        self.changed(part, None);
    }

    /// Does what is to be done, given what is needed for containers.
    pub fn turn(&mut self, allocator: &Allocator, needs: BTreeSet<Need>, peers: Peers<'_>, now: Instant) {
        self.needs = needs;
        self.claim(peers);
        self.turn_grants(allocator, peers, now);
        self.answer_others(allocator, peers, now);
        self.ask(allocator, peers, now);
        self.leave(peers, now);
        if self.compare_at <= now {
            self.compare_at = now + self.rng.jitter(COMPARE);
            self.out.push_back(KeeperEvent::Compare(self.sum));
        }
        self.publish(allocator);
    }

    /// When [`Self::turn`] has something to do by itself.
    #[must_use]
    pub fn poll_timeout(&self) -> Instant {
        let asked = self.asked.values().map(|asked| asked.until);
        let leaving = self.leaving.as_ref().map(Leaving::due);
        asked.chain(leaving).chain([self.grants.audit_at]).fold(self.compare_at, Instant::min)
    }

    fn claim(&mut self, peers: Peers<'_>) {
        let (me, heard) = (self.me, self.has_heard());
        let Some(ring) = self.ring.as_ref().filter(|ring| heard && !ring.is_removed(me)) else { return };
        let former = |id: &PeerId| id.name == me.name && *id != me && id.uid != PeerUid(0);
        let owners = ring.shares.values().map(|share| share.owner);
        let former: BTreeSet<PeerId> = owners.filter(former).filter(|id| !(peers.alive)(*id)).collect();
        if ring.unclaimed(me.name) {
            self.change(|ring| ring.claim(me));
        }
        for store in former {
            let addresses = self.owned_by(store);
            let key = self.key.clone();
            self.change(|ring| ring.succeed(store, me, &key));
            let text = format!("took {addresses} addresses over that this peer had before its store was lost");
            self.out.push_back(KeeperEvent::Log(Severity::Warn, text));
        }
    }

    fn publish(&mut self, allocator: &Allocator) {
        let leaving = self.removed() || self.leaving.is_some();
        let free = if leaving { 0 } else { self.own.saturating_sub(allocator.active()) };
        let hint = Hint { free: u8::try_from(u64::BITS - free.leading_zeros()).unwrap_or(0), leaving };
        if self.told != Some(hint) {
            self.out.push_back(KeeperEvent::Hint(hint.encode()));
            self.told = Some(hint);
        }
        self.out.extend(self.claims.publish(allocator.exceptions()));
    }
}

fn names(ring: &Ring) -> BTreeSet<PeerName> {
    ring.shares.values().map(|share| share.owner.name).collect()
}

#[cfg(test)]
mod tests;
