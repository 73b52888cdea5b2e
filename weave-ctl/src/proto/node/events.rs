//! Carries what happens in sessions, membership and topology to the other modules.

use std::{collections::BTreeSet, sync::Arc};

use super::Node;
use crate::proto::{
    ids::{SessionId, Severity},
    io::Output,
    membership::{Membership, MembershipEvent},
    name::{PeerName, PeerUid},
    session::{Network, SessionEvent, Sessions},
    time::Instant,
    topology::{self, Records, Topology},
    wire::{
        Message,
        entry::{Entry, PeerRecord},
    },
};

/// What sessions must know of membership and topology.
#[derive(Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) membership: &'a Membership,
    pub(super) topology: &'a Topology,
}

impl Network for Facts<'_> {
    fn reached(&self, peer: PeerName) -> bool {
        self.topology.reached(peer)
    }

    fn is_lost(&self, peer: PeerName) -> bool {
        self.topology.is_lost(peer)
    }

    fn lost(&self) -> Box<dyn Iterator<Item = PeerName> + '_> {
        Box::new(self.topology.lost())
    }

    fn names(&self) -> Box<dyn Iterator<Item = PeerName> + '_> {
        Box::new(self.membership.names())
    }

    fn known(&self) -> usize {
        self.membership.known()
    }

    fn record(&self, peer: PeerName) -> Option<&PeerRecord> {
        self.membership.record(peer)
    }

    /// Where the store that the name belongs to so far lives, if its controller is alive.
    fn duplicate(&self, them: &PeerRecord) -> Option<String> {
        let held = self.membership.record(them.name).filter(|held| held.uid != them.uid)?;
        let at = held.addrs.first().map_or_else(|| "an unknown address".to_owned(), ToString::to_string);
        let alive = self.topology.alive(held.name, held.uid);
        alive.then(|| self.topology.duplicate(held.name, them.uid).map_or(at, str::to_owned))
    }

    fn spare(&self, peers: &[PeerName]) -> Option<PeerName> {
        let others: Vec<&PeerRecord> = self.membership.others().collect();
        topology::first_spare(self.membership.me(), &others, peers)
    }
}

impl Node {
    pub(super) fn pump_events(&mut self, now: Instant) {
        loop {
            let mut quiet = true;
            while let Some(event) = self.sessions.poll_event() {
                quiet = false;
                self.session_event(event, now);
            }
            while let Some(event) = self.membership.poll_event() {
                quiet = false;
                self.membership_event(event, now);
            }
            while let Some(event) = self.paths.poll_event() {
                quiet = false;
                self.path_event(event, now);
            }
            if self.topology.poll_timeout().is_some_and(|at| at <= now) {
                quiet = false;
                self.compute(now);
            }
            if quiet {
                return;
            }
        }
    }

    /// Hands on what is to be sent.
    pub(super) fn pump_messages(&mut self, now: Instant) {
        let facts = Facts { membership: &self.membership, topology: &self.topology };
        self.sessions.dial(&facts, now);
        while let Some((session, message)) = self.membership.poll_send() {
            self.sessions.send(session, &message);
        }
        while let Some(output) = self.sessions.poll_output() {
            self.out.push_back(output);
        }
        let mut probes = Vec::new();
        while let Some(probe) = self.paths.poll_probe() {
            probes.push(probe);
        }
        if !probes.is_empty() {
            self.out.push_back(Output::Probes(probes));
        }
    }

    fn session_event(&mut self, event: SessionEvent, now: Instant) {
        match event {
            SessionEvent::Up { session, entry, data, dialled } => {
                let peer = entry.key.owner;
                self.membership.session_up(session, entry, dialled, now);
                self.paths.set_session(peer, Some(data), now);
                self.report_adjacencies(now);
                self.keeper.link_up(session);
                self.ask_one(session);
            }
            SessionEvent::Down(session, peer) => {
                self.membership.session_down(session);
                let data = self.sessions.to(peer).and_then(|other| other.up).map(|up| up.data);
                self.paths.set_session(peer, data, now);
                self.report_adjacencies(now);
            }
            SessionEvent::Full(session, entry) => self.refuse_full(session, entry, now),
            SessionEvent::Message(session, from, message) => match message {
                Message::Ring(ring) => self.ring_received(session, from, ring, now),
                Message::RingDigest(digest) => self.keeper.heard_sum(session, digest),
                Message::AliveRequest(request) => self.alive_request(session, request, now),
                Message::AliveResponse(response) => {
                    if let Some(response) = self.alive_response(response, now) {
                        self.removal_answered(response);
                    }
                }
                gossip => {
                    let (sessions, topology) = (&self.sessions, &self.topology);
                    let alive = |peer, uid| is_controller_alive(sessions, topology, peer, uid);
                    self.membership.message(session, gossip, &alive, now);
                }
            },
        }
    }

    fn refuse_full(&mut self, session: SessionId, entry: Arc<Entry>, now: Instant) {
        let (sessions, topology) = (&self.sessions, &self.topology);
        let alive = |peer, uid| is_controller_alive(sessions, topology, peer, uid);
        let others = self.membership.introduce(session, entry, &alive, now);
        let facts = Facts { membership: &self.membership, topology: &self.topology };
        self.sessions.refuse_full(session, others, &facts, now);
    }

    fn membership_event(&mut self, event: MembershipEvent, now: Instant) {
        match event {
            MembershipEvent::Record { peer, moved: true } => self.learn(peer, now),
            MembershipEvent::Record { peer, moved: false } => self.reports_changed(peer, now),
            MembershipEvent::Channel(from, channel, data) => self.channel_received(from, channel, &data),
            MembershipEvent::Published => self.topology.changed(self.membership.known(), now),
            MembershipEvent::Log(severity, text) => self.log(severity, text),
        }
    }

    fn compute(&mut self, now: Instant) {
        let near: BTreeSet<PeerName> = self.paths.neighbours().collect();
        let others: Vec<&PeerRecord> = self.membership.others().collect();
        let retained: Vec<&PeerRecord> = self.membership.retained().collect();
        let records = Records { me: self.membership.me(), near: &near, others: &others, retained: &retained };
        let changes = self.topology.compute(records, now);
        for peer in changes.back {
            self.membership.restore(peer);
        }
        for peer in changes.rerouted {
            if self.membership.record(peer).is_some() {
                self.paths.set_relays(peer, self.topology.first_hops(peer), now);
            }
        }
        self.sessions.peers_lost(&changes.lost.into_iter().collect(), now);
        for peer in changes.gone {
            self.drop_peer(peer, now);
        }
    }

    /// No path of sessions has reached the peer for the grace period.
    fn drop_peer(&mut self, peer: PeerName, now: Instant) {
        self.membership.forget(peer, now);
        self.sessions.forget(peer);
        self.paths.leave(peer, now);
        self.refresh_nat(peer, now);
        self.log(Severity::Info, format!("peer {peer} is forgotten: no path of sessions reached it"));
        self.keeper.peer_gone(peer);
        self.refresh_exceptions();
        self.forget_peer(peer);
    }
}

/// True while the controller of an identity is alive, by sessions alone: its kernel shows a name, but no uid.
fn is_controller_alive(sessions: &Sessions, topology: &Topology, peer: PeerName, uid: PeerUid) -> bool {
    let session = sessions.to(peer).and_then(|session| session.up);
    session.is_some_and(|up| up.id.uid == uid) || topology.alive(peer, uid)
}
