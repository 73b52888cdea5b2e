//! Carries what happens in sessions, membership, topology and paths to the other modules, and the selected paths to the
//! kernel's maps.

use std::{
    collections::{BTreeMap, BTreeSet},
    iter,
    net::SocketAddrV4,
    sync::Arc,
};

use super::Node;
use crate::proto::{
    ids::{SessionId, Severity},
    io::Output,
    membership::{Membership, MembershipEvent},
    name::{PeerName, PeerUid},
    path::PathEvent,
    requests::{MessageError, RequestEvent},
    session::{Network, SessionEvent, Sessions},
    time::Instant,
    topology::{self, Topology},
    wire::{
        Message,
        entry::{Channel, Entry, PeerRecord, ReportedSession},
        letter::Forwarded,
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

    fn lost(&self) -> BTreeSet<PeerName> {
        self.topology.lost().collect()
    }

    fn names(&self) -> Box<dyn Iterator<Item = PeerName> + '_> {
        Box::new(self.membership.names())
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
            while let Some(event) = self.requests.poll_event() {
                quiet = false;
                match event {
                    RequestEvent::Received(from, id, request) => self.keeper.requested(from, id, request),
                    RequestEvent::Answered(from, want, result) => self.keeper.responded(from, want, result),
                    RequestEvent::Failed(from, error, what) => self.dropped(from, error, &what, now),
                }
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

    pub(super) fn pump_messages(&mut self, now: Instant) {
        let facts = Facts { membership: &self.membership, topology: &self.topology };
        self.sessions.dial(&facts, self.membership.known(), now);
        while let Some((session, message)) = self.membership.poll_send() {
            self.sessions.send(session, &message);
        }
        while let Some(letter) = self.requests.poll_send() {
            self.send_letter(letter, None, now);
        }
        self.out.extend(iter::from_fn(|| self.sessions.poll_output()));
        let probes: Vec<_> = iter::from_fn(|| self.paths.poll_probe()).collect();
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
            SessionEvent::Unreadable(from, what) => self.refused(from, &what, now),
            SessionEvent::Full(session, entry) => self.refuse_full(session, entry, now),
            SessionEvent::Message(session, from, message) => match message {
                Message::Ring(ring) => self.ring_received(session, from, ring, now),
                Message::RingDigest(digest) => self.keeper.heard_sum(session, digest),
                Message::AliveRequest(request) => self.alive_request(session, request, now),
                Message::AliveResponse(response) => self.alive_response(response, now),
                Message::Letter(letter) => self.letter_received(session, from, letter, now),
                gossip => {
                    let (sessions, topology) = (&self.sessions, &self.topology);
                    let alive = |peer, uid| is_controller_alive(sessions, topology, peer, uid);
                    self.membership.message(session, gossip, &alive, now);
                }
            },
        }
    }

    pub(super) fn letter_received(&mut self, session: SessionId, from: PeerName, letter: Forwarded, now: Instant) {
        if letter.to == self.me.name {
            let holder = |peer| self.membership.record(peer).map(|record| record.uid);
            if let Err(error) = self.requests.received(&letter, holder, now) {
                self.membership.channel_error(&Channel::Space, &error);
                self.refused(from, &error, now);
            }
        } else if let Some(hops) = self.requests.forwards(session, from, letter.hops, now) {
            self.send_letter(Forwarded { hops, ..letter }, Some(from), now);
        }
    }

    /// Sends a letter to its receiver, or to the next hop; with none, its sender sends it again.
    fn send_letter(&mut self, letter: Forwarded, from: Option<PeerName>, now: Instant) {
        let session = self.sessions.established(letter.to).or_else(|| {
            let others: Vec<&PeerRecord> = self.membership.others().collect();
            let hop = topology::next_hop(self.membership.me(), &others, letter.to, from)?;
            self.sessions.established(hop)
        });
        match session {
            Some(session) => self.sessions.send(session, &Message::Letter(letter)),
            None => {
                let text = format!("no session leads to peer {}", self.called(letter.to));
                self.dropped(from.unwrap_or(self.me.name), MessageError::NoNextHop, &text, now);
            }
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
            MembershipEvent::Moved(peer) => self.learn(peer, now),
            MembershipEvent::Reports(peer) => self.reports_changed(peer, now),
            MembershipEvent::Entry(entry) => self.entry_received(&entry, entry.value()),
            MembershipEvent::Gone(entry) => self.entry_received(&entry, None),
            MembershipEvent::Whole(peer) => {
                if self.keeper.claims_mut().received_all(peer) {
                    self.refresh_exceptions();
                }
            }
            MembershipEvent::Refused(session, what) => {
                if let Some(from) = self.sessions.peer_of(session) {
                    self.refused(from, &what, now);
                }
            }
            MembershipEvent::Published => self.topology.changed(self.membership.known(), now),
            MembershipEvent::Log(severity, text) => self.log(severity, text),
        }
    }

    fn compute(&mut self, now: Instant) {
        let near: BTreeSet<PeerName> = self.paths.neighbours().collect();
        let others: Vec<&PeerRecord> = self.membership.others().collect();
        let retained: Vec<&PeerRecord> = self.membership.retained().collect();
        let changes = self.topology.compute(self.membership.me(), &near, &others, &retained, now);
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
        self.dns.peer_gone(peer);
        self.refresh_exceptions();
        self.forget_peer(peer);
    }

    pub(super) fn learn(&mut self, peer: PeerName, now: Instant) {
        let Some(record) = self.membership.record(peer) else { return };
        // Every host may have the same bridge of its container engine.
        let addrs = record.addrs.iter().filter(|addr| !self.own_addrs.contains(addr));
        let addrs = addrs.map(|addr| SocketAddrV4::new(*addr, record.data_port)).collect();
        self.paths.set_peer(peer, addrs, record.mtu, now);
        self.reports_changed(peer, now);
    }

    fn reports_changed(&mut self, peer: PeerName, now: Instant) {
        let me = self.me.name;
        let reported = self.membership.record(peer).is_some_and(|record| record.paths.contains(&me));
        self.paths.set_reported(peer, reported, now);
        self.refresh_nat(peer, now);
        self.topology.changed(self.membership.known(), now);
        self.sessions.look_for_peers(now);
    }

    /// Looks at which address `peer` sees this host: one that is not its own belongs to a NAT.
    fn refresh_nat(&mut self, peer: PeerName, now: Instant) {
        let seen = self.membership.record(peer).and_then(|record| self.seen_by(record));
        let elsewhere = seen.is_some_and(|seen| !self.own_addrs.is_empty() && !self.own_addrs.contains(seen.ip()));
        let changed = if elsewhere { self.seen_elsewhere.insert(peer) } else { self.seen_elsewhere.remove(&peer) };
        if changed {
            self.paths.set_behind_nat(!self.seen_elsewhere.is_empty(), now);
        }
    }

    fn seen_by(&self, record: &PeerRecord) -> Option<SocketAddrV4> {
        let inbound = record.sessions.iter().find(|session| session.peer == self.me.name && !session.outbound)?;
        inbound.address.parse().ok()
    }

    /// Puts sessions, and direct paths that answer, into this peer's record. A path to a peer whose session ended is
    /// reported until it does not answer any more: the kernel there may go on without its controller, and others relay by
    /// it.
    fn report_adjacencies(&mut self, now: Instant) {
        let up = self.sessions.iter().filter_map(|session| Some((session, session.up?)));
        let sessions: BTreeMap<PeerName, ReportedSession> = up
            .map(|(session, up)| {
                let (peer, uid, outbound) = (up.id.name, up.id.uid, session.outbound());
                (peer, ReportedSession { peer, uid, address: session.remote.to_string(), outbound })
            })
            .collect();
        self.reported_paths.extend(self.sessions.connected());
        self.reported_paths.retain(|peer| self.paths.is_neighbour(*peer));
        let paths = self.reported_paths.iter().copied().collect();
        self.membership.set_adjacencies(sessions.into_values().collect(), paths, now);
    }

    fn path_event(&mut self, event: PathEvent, now: Instant) {
        match event {
            PathEvent::Selected { peer, path, why } => {
                if !why.is_empty() {
                    let through =
                        if path.via == peer { String::new() } else { format!("through {} ", self.called(path.via)) };
                    let text = format!("packets for {} go {through}to {}: {why}", self.called(peer), path.remote);
                    self.log(Severity::Info, text);
                }
                self.datapath.set_tunnel(peer, path);
            }
            PathEvent::Senders(peer, addrs) => self.datapath.set_senders(peer, &addrs),
            PathEvent::Neighbour(_) => {
                self.report_adjacencies(now);
                self.topology.changed(self.membership.known(), now);
            }
            PathEvent::Watch(addr) => self.out.push_back(Output::Watch(addr)),
            PathEvent::Unwatch(addr) => self.out.push_back(Output::Unwatch(addr)),
            PathEvent::DeviceMtus(mtus) => {
                self.device_mtus = mtus;
                self.refresh_mtu(now);
            }
        }
    }
}

/// True while the controller of an identity is alive, by sessions alone: its kernel shows a name, but no uid.
pub(super) fn is_controller_alive(sessions: &Sessions, topology: &Topology, peer: PeerName, uid: PeerUid) -> bool {
    let session = sessions.to(peer).and_then(|session| session.up);
    session.is_some_and(|up| up.id.uid == uid) || topology.alive(peer, uid)
}
