//! Sessions between controllers: dials targets and discovered peers, lets peers in, and carries messages.
//!
//! A message that cannot be read is counted and skipped; before the handshake it ends the session. What belongs to other
//! modules comes as an argument ([`Network`], the own signed record); what they must know leaves as [`SessionEvent`].
//! Bounds: `--conn-limit` sessions after the handshake, the shell's limit before; what is sent goes into the shell's
//! bounded queues; [`NONCES_MAX`] nonces of former sessions and [`DUPLICATES_MAX`] refused names are remembered.

mod dialer;
mod handshake;
mod timers;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
};

pub(crate) use self::{
    dialer::{DialEntry, DialKey, DialState},
    handshake::{Established, Session},
};
use self::{
    dialer::{Dialer, SessionEnd},
    handshake::Verdict,
};
use super::{
    ids::{DialId, SessionId, Severity},
    io::{Direction, Output},
    key::SecretKey,
    name::{PeerId, PeerName},
    queue,
    rng::Rng,
    target::Target,
    time::Instant,
    wire::{
        ChannelBinding, Delta, Handshake, Message, VERSIONS,
        entry::{Entry, PeerRecord, Verifier, identity_proof},
    },
};

/// Nonces of sessions that are remembered, to know a session with this peer itself.
const NONCES_MAX: usize = 256;
/// Refused names that are remembered.
const DUPLICATES_MAX: usize = 64;

/// What sessions must know of the rest of the network.
pub(crate) trait Network {
    /// True while a path of sessions reaches the peer.
    fn reached(&self, peer: PeerName) -> bool;
    /// Known peers that no path of sessions reaches any more.
    fn lost(&self) -> BTreeSet<PeerName>;
    /// In the same order in every run.
    fn names(&self) -> Box<dyn Iterator<Item = PeerName> + '_>;
    fn record(&self, peer: PeerName) -> Option<&PeerRecord>;
    /// Where another store of the name that `them` bears is alive.
    fn duplicate(&self, them: &PeerRecord) -> Option<String>;
    /// The first of `peers` that is reached by other sessions than this host's to it as well.
    fn spare(&self, peers: &[PeerName]) -> Option<PeerName>;
}

/// What [`Sessions`] is made from.
#[derive(Clone, Debug)]
pub(crate) struct SessionsConfig {
    pub(crate) me: PeerId,
    pub(crate) key: SecretKey,
    pub(crate) discovery: bool,
    pub(crate) conn_limit: usize,
    pub(crate) targets: Vec<Target>,
    pub(crate) verifier: Arc<dyn Verifier>,
}

/// What the rest of the core must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SessionEvent {
    Up {
        session: SessionId,
        entry: Arc<Entry>,
        /// Its data port at the address that the session shows.
        data: SocketAddrV4,
        /// This side dialled.
        dialled: bool,
    },
    /// A session that was up is gone.
    Down(SessionId, PeerName),
    /// The peer of that record must be refused for want of room: to be answered by [`Sessions::refuse_full`] at once.
    Full(SessionId, Arc<Entry>),
    /// The peer sent what cannot be read; it was skipped.
    Unreadable(PeerName, String),
    /// A message of the peer for another module.
    Message(SessionId, PeerName, Message),
}

#[derive(Debug)]
pub(crate) struct Sessions {
    config: SessionsConfig,
    sessions: BTreeMap<SessionId, Session>,
    /// No session needs anything before.
    due: Option<Instant>,
    dialer: Dialer,
    nonces: VecDeque<u64>,
    duplicates: BTreeMap<PeerName, (String, Instant)>,
    unreadable: u64,
    out: VecDeque<Output>,
    events: VecDeque<SessionEvent>,
}

/// Sessions that are wanted to discovered peers in a network of `peers` others: to all of them in a small one, and as many
/// as keep a large one in few hops of each other. Peers that come later dial as many again: most end up with twice as many.
fn sessions_wanted(peers: usize, limit: usize) -> usize {
    let log = usize::BITS - peers.leading_zeros();
    limit.min(5 + log as usize)
}

impl Sessions {
    pub(crate) fn new(mut config: SessionsConfig, rng: Rng, now: Instant) -> Self {
        let mut dialer = Dialer::new(config.me.name, config.conn_limit, rng);
        dialer.set_targets(std::mem::take(&mut config.targets), now);
        Self {
            config,
            sessions: BTreeMap::new(),
            due: None,
            dialer,
            nonces: VecDeque::new(),
            duplicates: BTreeMap::new(),
            unreadable: 0,
            out: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        queue::pop(&mut self.out)
    }

    pub(crate) fn poll_event(&mut self) -> Option<SessionEvent> {
        queue::pop(&mut self.events)
    }

    /// All sessions, also before their handshake.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Session> {
        self.sessions.values()
    }

    /// The peer at the other end of a session, after its handshake.
    pub(crate) fn peer_of(&self, session: SessionId) -> Option<PeerName> {
        self.sessions.get(&session)?.peer()
    }

    /// The session to a peer, after its handshake.
    pub(crate) fn to(&self, peer: PeerName) -> Option<&Session> {
        self.sessions.values().find(|session| session.peer() == Some(peer))
    }

    /// The session to a peer, when it is up.
    pub(crate) fn established(&self, peer: PeerName) -> Option<SessionId> {
        let of = |session: &Session| session.up.is_some_and(|up| up.id.name == peer);
        self.sessions.iter().find(|(_, session)| of(session)).map(|(id, _)| *id)
    }

    pub(crate) fn connected(&self) -> &BTreeSet<PeerName> {
        &self.dialer.around.connected
    }

    pub(crate) fn targets(&self) -> &[Target] {
        self.dialer.targets()
    }

    /// Entries of the dialer, each with whether it rests: nothing is dialled because none is needed.
    pub(crate) fn dial_entries(&self, network: &dyn Network) -> Vec<(&DialKey, &DialEntry, bool)> {
        self.dialer.entries(network).collect()
    }

    /// Makes `targets` the targets. Sessions to former ones stay.
    pub(crate) fn set_targets(&mut self, targets: Vec<Target>, now: Instant) {
        self.dialer.set_targets(targets, now);
    }

    pub(crate) fn set_own_addrs(&mut self, addrs: Vec<Ipv4Addr>) {
        self.dialer.set_own(addrs);
    }

    /// Peers were discovered or changed: there may be some to dial.
    pub(crate) fn look_for_peers(&mut self, now: Instant) {
        if self.config.discovery {
            self.dialer.look(now);
        }
    }

    pub(crate) fn peers_lost(&mut self, peers: &BTreeSet<PeerName>, now: Instant) {
        self.dialer.lost(peers, now);
        if !peers.is_empty() {
            self.look_for_peers(now);
        }
    }

    pub(crate) fn forget(&mut self, peer: PeerName) {
        self.dialer.forget(peer);
    }

    pub(crate) fn send(&mut self, session: SessionId, message: &Message) {
        self.out.push_back(Output::Send(session, message.encode()));
    }

    /// Sends `message` on every session after its handshake, but not on `except`.
    pub(crate) fn broadcast(&mut self, message: &Message, except: Option<SessionId>) {
        let bytes = message.encode();
        let up = self.sessions.iter().filter(|(id, session)| session.up.is_some() && Some(**id) != except);
        self.out.extend(up.map(|(id, _)| Output::Send(*id, bytes.clone())));
    }

    /// A session after its handshake, at random.
    pub(crate) fn any(&mut self) -> Option<SessionId> {
        let up: Vec<SessionId> = self.sessions.iter().filter(|(_, s)| s.up.is_some()).map(|(id, _)| *id).collect();
        let at = self.dialer.rng.below(up.len() as u64);
        up.get(usize::try_from(at).unwrap_or(0)).copied()
    }

    /// A session is open: sends the handshake, with `own`, this peer's signed record.
    pub(crate) fn opened(
        &mut self,
        id: SessionId,
        remote: SocketAddr,
        direction: Direction,
        binding: ChannelBinding,
        own: &[u8],
        now: Instant,
    ) {
        if let Direction::Outbound(dial) = direction {
            self.dialer.opened(dial, id);
        }
        let (up, nonce) = (None, self.dialer.rng.bits());
        let session = Session { remote, direction, up, binding, since: now, nonce, heard: now, pinged: now };
        self.nonces.truncate(NONCES_MAX - 1);
        self.nonces.push_front(session.nonce);
        let (min_version, max_version) = VERSIONS;
        let proof = identity_proof(&self.config.key, &binding, session.outbound());
        let handshake = Handshake { min_version, max_version, nonce: session.nonce, entry: own.to_vec(), proof };
        self.look_at(session.poll_timeout());
        self.sessions.insert(id, session);
        self.send(id, &Message::Handshake(Box::new(handshake)));
    }

    pub(crate) fn closed(&mut self, id: SessionId, reason: &str, network: &dyn Network, now: Instant) {
        // A session that this side closes is not among them any more.
        let Some(session) = self.sessions.remove(&id) else { return };
        let peer = session.peer();
        self.dialer.around.connected = self.sessions.values().filter_map(Session::peer).collect();
        // A duplicate that goes changes nothing for the peer: another session to it stays.
        let lost = peer.filter(|peer| !self.connected().contains(peer));
        let reached = peer.is_some_and(|peer| network.reached(peer));
        let end = SessionEnd { lived: now.since(session.since), reached, reason };
        self.dialer.closed(id, lost, &end, now);
        if let Some(peer) = lost {
            self.log(Severity::Info, format!("session to {peer} at {} is gone: {reason}", session.remote));
            self.look_for_peers(now);
        }
        if let Some(peer) = peer {
            self.events.push_back(SessionEvent::Down(id, peer));
        }
    }

    pub(crate) fn dial_failed(&mut self, dial: DialId, reason: &str, now: Instant) {
        self.dialer.failed(dial, reason, now);
    }

    pub(crate) fn frame(&mut self, id: SessionId, bytes: &[u8], network: &dyn Network, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.heard = now;
        match (Message::decode(bytes), session.peer()) {
            (Ok(Message::Close(reason)), _) => {
                self.close(id, &format!("refused by the other side: {reason}"), network, now);
            }
            (Ok(Message::Handshake(handshake)), None) => self.handshake(id, &handshake, network, now),
            (Ok(_), None) => self.close(id, "the other side did not begin with a handshake", network, now),
            (Err(error), None) => self.close(id, &format!("the other side sent {error}"), network, now),
            (Ok(Message::Handshake(_)), Some(_)) => self.unreadable += 1,
            (Ok(Message::Ping | Message::Unknown), Some(_)) => {}
            (Ok(message), Some(from)) => self.events.push_back(SessionEvent::Message(id, from, message)),
            (Err(error), Some(from)) => {
                self.unreadable += 1;
                self.events.push_back(SessionEvent::Unreadable(from, error.to_string()));
            }
        }
    }

    fn handshake(&mut self, id: SessionId, handshake: &Handshake, network: &dyn Network, now: Instant) {
        let Some(session) = self.sessions.get(&id) else { return };
        let (remote, nonces) = (session.remote, (session.nonce, handshake.nonce));
        let (entry, record) = match handshake::verify(&*self.config.verifier, session, handshake) {
            Ok(verified) => verified,
            Err(reason) => return self.refuse(id, &reason, network, now),
        };
        match handshake::judge(self, network, remote, nonces, &record) {
            Verdict::Accept => self.accept(id, nonces, entry, &record, now),
            Verdict::Replace(others, why) => {
                self.accept(id, nonces, entry, &record, now);
                for other in others {
                    self.refuse(other, why, network, now);
                }
            }
            Verdict::Ourselves => {
                let reason = "cannot connect to ourself";
                self.dialer.ourselves(id, reason, now);
                self.close(id, reason, network, now);
            }
            Verdict::Duplicate(text) => {
                self.duplicates.retain(|_, (_, at)| now.since(*at) < timers::REFUSAL_SHOWN);
                if self.duplicates.len() < DUPLICATES_MAX || self.duplicates.contains_key(&record.name) {
                    self.duplicates.insert(record.name, (text.clone(), now));
                }
                self.log(Severity::Warn, text.clone());
                self.refuse(id, &text, network, now);
            }
            Verdict::Full => self.events.push_back(SessionEvent::Full(id, entry)),
            Verdict::Refuse(reason) => {
                // The dialled peer is found, if by another session: its entry rests.
                self.dialer.identified(id, record.name, now);
                self.refuse(id, &reason, network, now);
            }
        }
    }

    fn accept(&mut self, id: SessionId, nonces: (u64, u64), entry: Arc<Entry>, record: &PeerRecord, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let (IpAddr::V4(ip), remote) = (session.remote.ip(), session.remote) else { return };
        let data = SocketAddrV4::new(ip, record.data_port);
        let peer = record.name;
        let (incarnation, order) = (record.point.0, handshake::order(nonces));
        session.up = Some(Established { id: PeerId { name: peer, uid: record.uid }, data, incarnation, order });
        let (dialled, due) = (session.outbound(), session.poll_timeout());
        self.dialer.around.connected.insert(peer);
        self.look_at(due);
        self.dialer.identified(id, peer, now);
        self.duplicates.remove(&peer);
        self.log(Severity::Info, format!("session to {peer} ({}) at {remote} is up", record.nickname));
        self.events.push_back(SessionEvent::Up { session: id, entry, data, dialled });
    }

    /// Refuses a peer for want of room, and tells it of others that may have some.
    pub(crate) fn refuse_full(&mut self, id: SessionId, others: Delta, network: &dyn Network, now: Instant) {
        self.send(id, &Message::Delta(others));
        self.refuse(id, &format!("connection limit reached ({})", self.config.conn_limit), network, now);
    }

    /// Closes a session, and tells the other side why: its operator may be able to mend it.
    fn refuse(&mut self, id: SessionId, reason: &str, network: &dyn Network, now: Instant) {
        self.send(id, &Message::Close(reason.to_owned()));
        self.close(id, reason, network, now);
    }

    fn close(&mut self, id: SessionId, reason: &str, network: &dyn Network, now: Instant) {
        self.out.push_back(Output::Close(id, reason.to_owned()));
        self.closed(id, reason, network, now);
    }

    /// Dials what is due, in a network of `known` peers, this one among them.
    pub(crate) fn dial(&mut self, network: &dyn Network, known: usize, now: Instant) {
        self.dialer.around.wanted = sessions_wanted(known.saturating_sub(1), self.config.conn_limit);
        let due = self.dialer.due(network, now);
        self.out.extend(due.into_iter().map(|(dial, target)| Output::Dial(dial, target)));
    }

    /// Does what sessions need at `now`; [`Self::dial`] is to follow.
    pub(crate) fn handle_timeout(&mut self, network: &dyn Network, now: Instant) {
        if self.due.is_none_or(|at| at > now) {
            return;
        }
        // Until the next point in time found here they are not looked at: what happens on a session only puts off its need.
        let needy: Vec<_> = self.sessions.iter().filter(|(_, s)| s.poll_timeout() <= now).map(|(id, _)| *id).collect();
        for id in needy {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            if let Some(reason) = session.overdue(now) {
                self.close(id, &reason, network, now);
            } else {
                session.pinged = now;
                self.send(id, &Message::Ping);
            }
        }
        self.due = self.sessions.values().map(Session::poll_timeout).min();
    }

    pub(crate) fn poll_timeout(&self, network: &dyn Network) -> Option<Instant> {
        self.due.into_iter().chain(self.dialer.poll_timeout(network)).min()
    }

    fn look_at(&mut self, due: Instant) {
        self.due = self.due.into_iter().chain([due]).min();
    }

    pub(crate) fn warnings(&self, now: Instant) -> Vec<String> {
        let shown = self.duplicates.values().filter(|(_, at)| now.since(*at) < timers::REFUSAL_SHOWN);
        let mut warnings: Vec<String> = shown.map(|(text, _)| text.clone()).collect();
        if self.unreadable > 0 {
            warnings.push(format!("{} unreadable messages from peers were skipped", self.unreadable));
        }
        warnings
    }

    fn log(&mut self, severity: Severity, text: String) {
        self.out.push_back(Output::Event(severity, text));
    }
}

#[cfg(test)]
mod tests;
