//! Whether a peer is alive: the one answer that `rmpeer`, successors and `status` share; and the question to all peers.
//!
//! Alive: this peer has a session to it, or a reached peer reports one, or its kernel answered a probe of this host.
//! The question to all peers goes along sessions: a peer that sees it for the first time answers when it has a session to
//! the peer in question, or a path to it that answers, and passes it on otherwise. The response comes back the same hops.
//! Responses are not signed: a false one only refuses a removal.
//! Bounds: [`QUERIES_MAX`] questions are remembered for [`QUERY_FOR`]; [`HOPS_MAX`] hops; [`RATE`] a second are passed on.

use std::{collections::BTreeMap, time::Duration};

use super::{Node, events::is_controller_alive};
use crate::proto::{
    ids::SessionId,
    ipam::keeper::Peers,
    membership::Membership,
    name::{PeerId, PeerName, PeerUid},
    path::Paths,
    rng::Rng,
    session::Sessions,
    throttle::Budget,
    time::Instant,
    topology::Topology,
    wire::{AliveRequest, AliveResponse, Message, entry::PeerRecord},
};

/// Hops that a question may make.
const HOPS_MAX: u8 = 32;
/// Questions that are remembered.
const QUERIES_MAX: usize = 256;
/// Time for which a question is remembered.
const QUERY_FOR: Duration = Duration::from_secs(5);
/// Questions of others that are answered and passed on, at once and in a second.
const RATE: u32 = 16;

/// Why a peer is taken for alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    /// This peer has a session to it: the address of the other end.
    Session(String),
    /// That peer has a session to it.
    Reported(PeerName),
    /// Its kernel answers, and no more is known: where.
    Kernel(String),
}

/// The modules that know whether peers are alive.
#[derive(Clone, Copy)]
pub(super) struct Witnesses<'a> {
    pub(super) sessions: &'a Sessions,
    pub(super) membership: &'a Membership,
    pub(super) topology: &'a Topology,
    pub(super) paths: &'a Paths,
    pub(super) now: Instant,
}

impl Witnesses<'_> {
    /// True while the controller of a peer can be sent messages.
    pub(super) fn reached(&self, peer: PeerName) -> bool {
        self.sessions.connected().contains(&peer) || self.topology.reached(peer)
    }

    /// True while an identity is alive. An identity of any store is the one whose record is held.
    pub(super) fn is_alive(&self, id: PeerId) -> bool {
        let (uid, by_kernel) = self.identity(id);
        is_controller_alive(self.sessions, self.topology, id.name, uid)
            || by_kernel && self.paths.answered(id.name, self.now).is_some()
    }

    /// The best evidence that an identity is alive, in the words of an operator: looks at the sessions of all peers for one
    /// that reports it.
    pub(super) fn evidence(&self, id: PeerId) -> Option<Evidence> {
        let (uid, by_kernel) = self.identity(id);
        if let Some(session) = self.sessions.to(id.name).filter(|to| to.up.is_some_and(|up| up.id.uid == uid)) {
            return Some(Evidence::Session(session.remote.to_string()));
        }
        if self.topology.alive(id.name, uid) {
            let reports = |record: &&PeerRecord| {
                self.topology.reached(record.name) && record.sessions.iter().any(|s| s.peer == id.name && s.uid == uid)
            };
            if let Some(by) = self.membership.others().filter(reports).map(|record| record.name).min() {
                return Some(Evidence::Reported(by));
            }
        }
        by_kernel.then(|| self.paths.answered(id.name, self.now)).flatten().map(Evidence::Kernel)
    }

    /// The store that is meant, and whether an answer of its kernel counts: a kernel shows its name and no uid, that of the
    /// last record.
    fn identity(&self, id: PeerId) -> (PeerUid, bool) {
        let held = self.membership.record(id.name).map(|record| record.uid);
        let uid = if id.uid == PeerUid(0) { held.unwrap_or_default() } else { id.uid };
        (uid, held.is_none_or(|held| held == uid))
    }
}

/// The same for the ring manager.
pub(super) fn with_peers<T>(witnesses: Witnesses<'_>, then: impl FnOnce(Peers<'_>) -> T) -> T {
    then(Peers { reached: &|peer| witnesses.reached(peer), alive: &|id| witnesses.is_alive(id) })
}

#[derive(Debug)]
pub(super) struct Queries {
    rng: Rng,
    budget: Budget,
    /// Where each came from (`None`: from this peer), and until when it is remembered.
    pub(super) seen: BTreeMap<u64, (Option<SessionId>, Instant)>,
}

impl Queries {
    pub(super) fn new(rng: Rng, now: Instant) -> Self {
        Self { rng, budget: Budget::full(RATE, RATE, now), seen: BTreeMap::new() }
    }

    /// False when the question was seen before, or too many are under way.
    fn begin(&mut self, id: u64, from: SessionId, now: Instant) -> bool {
        self.seen.retain(|_, (_, until)| *until > now);
        if self.seen.contains_key(&id) || self.seen.len() >= QUERIES_MAX || !self.budget.take(now) {
            return false;
        }
        self.seen.insert(id, (Some(from), now + QUERY_FOR));
        true
    }
}

impl Node {
    pub(super) fn witnesses(&self, now: Instant) -> Witnesses<'_> {
        let Self { sessions, membership, topology, paths, .. } = self;
        Witnesses { sessions, membership, topology, paths, now }
    }

    /// Asks every peer in reach whether `peer` is alive: the question.
    pub(super) fn ask_all(&mut self, peer: PeerName, now: Instant) -> AliveRequest {
        let request = AliveRequest { id: self.queries.rng.bits(), peer, hops: HOPS_MAX };
        self.queries.seen.insert(request.id, (None, now + QUERY_FOR));
        self.sessions.broadcast(&Message::AliveRequest(request), None);
        request
    }

    pub(super) fn alive_request(&mut self, from: SessionId, request: AliveRequest, now: Instant) {
        let AliveRequest { id, peer, hops } = request;
        if !self.queries.begin(id, from, now) {
            return;
        }
        let session = match self.sessions.to(peer) {
            _ if peer == self.me.name => Some((self.me.uid, "its own controller".to_owned())),
            session => session.and_then(|session| Some((session.up?.id.uid, session.remote.to_string()))),
        };
        let kernel = self.paths.answered(peer, now).unwrap_or_default();
        let known = session.is_some();
        if known || !kernel.is_empty() {
            let response = AliveResponse { id, by: self.me.name, session, kernel };
            self.sessions.send(from, &Message::AliveResponse(response));
        }
        if let (false, Some(hops)) = (known, hops.min(HOPS_MAX).checked_sub(1)) {
            self.sessions.broadcast(&Message::AliveRequest(AliveRequest { id, peer, hops }), Some(from));
        }
    }

    /// A response to a question of this peer, or one that goes back to where the question came from.
    pub(super) fn alive_response(&mut self, response: AliveResponse, now: Instant) {
        match self.queries.seen.get(&response.id) {
            Some((Some(session), until)) if *until > now => {
                self.sessions.send(*session, &Message::AliveResponse(response));
            }
            Some((None, until)) if *until > now => self.removal_answered(response),
            _ => {}
        }
    }
}
