//! Which peers' data ports answer from here, at which address, how fast, and how large a packet may be.
//!
//! Every peer is asked directly, with or without a link: `peer` is the state of one path, `addresses` where it may be
//! found, `mtu` the search for its size, `pauses` how often it is asked, `lanes` the order of turns and their rates. Paths
//! with traffic are asked each second, peers with a link every few seconds, all others share four probes a second. So what
//! this host sends does not grow with the number of peers, and neither does the work of a call, except for
//! [`Paths::set_mtu`].
//!
//! Who knows this host's cookie can make it send short answers and ask an address once a second; strangers get nothing.
//! An answer counts only with the nonce that its question carried. One that sends requests in another's name, from an
//! address of its own, is asked there, and must prove that it is that peer.
//!
//! Bounds: a peer's addresses, open questions and padded probes as in the rooms; [`PROBES_MAX`] probes and
//! [`HEARD_EVENTS_MAX`] addresses heard wait to be taken, further ones are lost; [`STRANGERS_MAX`] peers without a record;
//! other events one a peer.
//!
//! Does not: relay, choose next hops, or tell the kernel; it does not take part in what a peer behind a down path gets.

mod addresses;
mod lanes;
pub mod mtu;
mod pauses;
mod peer;
mod sent;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

pub use addresses::{HEAR_EVERY, HEARD_MAX, TOLD_MAX};
pub use pauses::{
    ACTIVE_EVERY, ACTIVE_FOR, ACTIVE_RETRY, DOWN_EVERY_MAX, FAST_EVERY, FAST_ROUNDS, IDLE_EVERY, LINKED_EVERY,
    LOST_AFTER, NUDGE_AFTER, RETRY_MAX, VERIFY_ACTIVE, VERIFY_LINKED,
};
pub use sent::{SENT_FOR, SENT_MAX};

use self::{
    addresses::Heard,
    lanes::Lanes,
    mtu::PathMtu,
    peer::{Answer, Outbox, Peer, Status},
};
use super::probe::{self, Kind, Probe, Proof};
use crate::proto::{budget::Budget, key::SecretKey, name::PeerName, queue, rng::Rng, time::Instant};

/// Probes that wait to be taken.
pub const PROBES_MAX: usize = 1024;
/// Most proofs given at once, and in a second.
pub const PROOFS_MAX: u32 = 64;
/// [`PathEvent::Heard`] that wait to be taken.
pub const HEARD_EVENTS_MAX: usize = 256;
/// Peers without a record whose address is remembered.
pub const STRANGERS_MAX: usize = 256;
/// New peers without a link are asked within this time, spread: all hosts hear of a new one together.
pub const SPREAD: Duration = Duration::from_millis(500);

/// What is known of a peer's data port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerFacts {
    /// What probes to it must carry.
    pub cookie: u64,
    /// Where its record tells that it is found, most likely first; the first [`TOLD_MAX`] are used.
    pub candidates: Vec<SocketAddrV4>,
    /// Where packets for it went before.
    pub before: Option<SocketAddrV4>,
    /// The port that its probes leave from; zero when unknown.
    pub probe_port: u16,
    /// The largest outer IP packet in bytes that its host takes; zero when unknown.
    pub mtu: u32,
}

/// A reply that counts if it was signed by its sender, and if its question came from this host as the sender saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Where it came from.
    pub from: SocketAddrV4,
    /// What came.
    pub reply: Probe,
    /// Its proof.
    pub proof: Proof,
}

/// A path that works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direct {
    /// The address that answers.
    pub remote: SocketAddrV4,
    /// That is an opening of a translator: only what leaves from the port that probes leave from passes.
    pub translated: bool,
    /// Round-trip time of the last unpadded probe that was answered; at first of the one that found the path.
    pub rtt: Option<Duration>,
    /// Largest outer IP packet in bytes that passes; zero while that is not measured.
    pub path_mtu: u32,
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathEvent {
    /// The path works.
    Up(PeerName),
    /// It does not: it did before, or it was tried for the first time and in vain.
    Down(PeerName),
    /// It works, but to another address, with another MTU, or with one that is now, or no more, below that of the hosts.
    Changed(PeerName),
    /// An authentic probe came from an address that neither the peer's record nor a link to it showed.
    Heard(PeerName, Ipv4Addr),
}

/// A path, for status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathState {
    /// No peer of this name, no address of it, or not asked often enough to tell.
    Untested,
    /// It works.
    Up(Direct),
    /// It does not.
    Down {
        /// The most likely address among those tried last.
        tried: Option<SocketAddrV4>,
        /// Time since the last answer; since the first probe when there never was one.
        silent: Duration,
    },
}

/// See the head of this file.
#[derive(Debug)]
pub struct Paths {
    me: PeerName,
    cookie: u64,
    rng: Rng,
    mtu: u32,
    /// This host is behind a translator of addresses.
    translated: bool,
    key: SecretKey,
    /// A signature takes many times what an answer takes.
    proofs: Budget,
    /// Most of what a mesh of thousands remembers.
    peers: BTreeMap<PeerName, Box<Peer>>,
    linked: BTreeSet<PeerName>,
    lanes: Lanes,
    probes: VecDeque<(SocketAddrV4, Vec<u8>)>,
    news: BTreeSet<PeerName>,
    heard: VecDeque<(PeerName, Ipv4Addr)>,
    /// Who asked, knowing the cookie, before its record came: from where, the newest last.
    strangers: VecDeque<(PeerName, SocketAddrV4)>,
}

impl Paths {
    /// No paths yet. `cookie` is what probes to this peer carry, `key` proves that answers are its own.
    #[must_use]
    pub fn new(me: PeerName, cookie: u64, key: SecretKey, rng: Rng) -> Self {
        Self {
            me,
            cookie,
            rng,
            mtu: 0,
            translated: false,
            key,
            proofs: Budget::full(PROOFS_MAX, PROOFS_MAX, Instant::default()),
            peers: BTreeMap::new(),
            linked: BTreeSet::new(),
            lanes: Lanes::default(),
            probes: VecDeque::new(),
            news: BTreeSet::new(),
            heard: VecDeque::new(),
            strangers: VecDeque::new(),
        }
    }

    /// A peer's record is new or changed. A path that works goes on working.
    pub fn set_peer(&mut self, name: PeerName, facts: PeerFacts, now: Instant) {
        if name == self.me {
            return;
        }
        let own = self.mtu;
        let peer = self.peer(name, now);
        peer.set_told_mtu(facts.mtu);
        peer.set_mtu_bound(own, now);
        peer.set_cookie(facts.cookie, now);
        if peer.addresses.tell(&facts) {
            peer.hurry();
        }
        if let Some(at) = self.strangers.iter().position(|(stranger, _)| *stranger == name)
            && let Some((_, from)) = self.strangers.remove(at)
        {
            self.hear(name, from, now);
        }
        self.settle(name, now);
    }

    /// A peer is forgotten. No event tells of it.
    pub fn remove_peer(&mut self, name: PeerName) {
        if let Some(slot) = self.peers.remove(&name).and_then(|peer| peer.slot) {
            self.lanes.remove(slot, name);
        }
        self.news.remove(&name);
    }

    /// A link to a peer shows that it is, or should be, found at `at`: that is tried first. The record may come later.
    pub fn observed(&mut self, name: PeerName, at: SocketAddrV4, now: Instant) {
        if name == self.me {
            return;
        }
        let peer = self.peer(name, now);
        if peer.addresses.observe(at) {
            peer.hurry();
        }
        self.settle(name, now);
    }

    /// These peers have a control link, others have none.
    pub fn set_linked(&mut self, linked: &BTreeSet<PeerName>, now: Instant) {
        let before = std::mem::replace(&mut self.linked, linked.clone());
        for name in before.symmetric_difference(linked) {
            if let Some(peer) = self.peers.get_mut(name) {
                peer.set_linked(linked.contains(name), now);
                self.settle(*name, now);
            }
        }
    }

    /// The largest outer IP packet in bytes that this host sends where no route to the peer says more; zero when unknown.
    /// Those paths are measured again.
    pub fn set_mtu(&mut self, mtu: u32, now: Instant) {
        if mtu == self.mtu {
            return;
        }
        self.mtu = mtu;
        for name in self.peers.keys().copied().collect::<Vec<_>>() {
            if let Some(peer) = self.peers.get_mut(&name) {
                peer.set_mtu_bound(mtu, now);
            }
            self.settle(name, now);
        }
    }

    /// The largest outer IP packet in bytes that the route to a peer takes. The path is measured again if that changed.
    pub fn set_egress_mtu(&mut self, name: PeerName, mtu: u32, now: Instant) {
        let own = self.mtu;
        if let Some(peer) = self.peers.get_mut(&name) {
            peer.set_egress_mtu(mtu);
            peer.set_mtu_bound(own, now);
            self.settle(name, now);
        }
    }

    /// Others see this host at an address that is not its own, or none does any more.
    pub fn set_translated(&mut self, translated: bool) {
        self.translated = translated;
    }

    /// These peers are being sent to.
    pub fn traffic(&mut self, peers: &[PeerName], now: Instant) {
        for name in peers {
            if self.peers.get_mut(name).is_some_and(|peer| peer.traffic(now)) {
                self.settle(*name, now);
            }
        }
    }

    /// A datagram came on the data port, maybe a probe. What it claims is to be verified, and then told to [`Self::proven`].
    pub fn probe(&mut self, from: SocketAddrV4, bytes: &[u8], now: Instant) -> Option<Claim> {
        let probe = Probe::decode(bytes).filter(|p| p.receiver == self.me && p.sender != self.me)?;
        let name = probe.sender;
        match probe.kind {
            Kind::Request => {
                if probe.cookie != self.cookie {
                    return None;
                }
                self.reply(from, &probe, bytes, now);
                self.hear(name, from, now);
                if let Some(peer) = self.peers.get_mut(&name) {
                    peer.nudge(now);
                    self.settle(name, now);
                }
            }
            Kind::Reply => {
                let answer = self.peers.get_mut(&name)?.answer(&probe, from, false, now);
                if answer == Answer::Unproven {
                    return Some(Claim { from, reply: probe, proof: probe.proof(bytes)? });
                }
                self.answered(name, from, answer, now);
            }
        }
        None
    }

    /// `claim` was found to be true.
    pub fn proven(&mut self, claim: &Claim, now: Instant) {
        let Claim { from, reply, .. } = claim;
        let Some(peer) = self.peers.get_mut(&reply.sender) else { return };
        let answer = peer.answer(reply, *from, true, now);
        self.answered(reply.sender, *from, answer, now);
    }

    fn answered(&mut self, name: PeerName, from: SocketAddrV4, answer: Answer, now: Instant) {
        if answer == Answer::Taken {
            self.hear(name, from, now);
            self.settle(name, now);
        }
    }

    /// Does what is due, as far as the rates allow: a bounded number of turns.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((lane, name)) = self.lanes.pop(now) {
            let Self { me, peers, probes, translated, .. } = self;
            let mut send = |to, bytes| push(probes, (to, bytes));
            let mut out = Outbox { me: *me, translated: *translated, now, send: &mut send };
            let cost = peers.get_mut(&name).map_or(0, |peer| {
                peer.slot = None;
                peer.turn(&mut out)
            });
            self.lanes.charge(lane, cost, now);
            self.settle(name, now);
        }
    }

    /// When [`Self::handle_timeout`] has something to do; after a call of it, that is later than its `now`.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.lanes.ready()
    }

    /// The next probe to send: where to, and what follows the VXLAN header.
    pub fn poll_probe(&mut self) -> Option<(SocketAddrV4, Vec<u8>)> {
        queue::pop(&mut self.probes)
    }

    /// The next thing that changed. What changed back before it was asked for is not told.
    pub fn poll_event(&mut self) -> Option<PathEvent> {
        while let Some(name) = self.news.pop_first() {
            let Some(peer) = self.peers.get_mut(&name) else { continue };
            let (before, after) = peer.tell();
            match (before, after) {
                (Status::Up(..), Status::Up(..)) if before == after => {}
                (Status::Up(..), Status::Up(..)) => return Some(PathEvent::Changed(name)),
                (_, Status::Up(..)) => return Some(PathEvent::Up(name)),
                (Status::Up(..) | Status::Untested, Status::Down) => return Some(PathEvent::Down(name)),
                (Status::Down, Status::Down) | (_, Status::Untested) => {}
            }
        }
        self.heard.pop_front().map(|(name, ip)| PathEvent::Heard(name, ip))
    }

    /// The path to a peer, only while it works.
    #[must_use]
    pub fn direct(&self, name: PeerName) -> Option<Direct> {
        self.peers.get(&name)?.direct()
    }

    /// The largest outer IP packet in bytes on the path to a peer, where both hosts would take more.
    #[must_use]
    pub fn narrow(&self, name: PeerName) -> Option<u32> {
        let peer = self.peers.get(&name)?;
        peer.up().filter(|_| peer.narrow()).map(|_| peer.path_mtu())
    }

    /// Where a peer may be found, and so where its packets may come from, whether or not it answers there.
    #[must_use]
    pub fn addresses(&self, name: PeerName) -> BTreeSet<Ipv4Addr> {
        let peer = self.peers.get(&name).into_iter();
        peer.flat_map(|peer| peer.addresses.candidates()).map(|at| *at.ip()).collect()
    }

    /// The path to a peer, for status.
    #[must_use]
    pub fn state(&self, name: PeerName, now: Instant) -> PathState {
        self.peers.get(&name).map_or(PathState::Untested, |peer| peer.state(now))
    }

    fn peer(&mut self, name: PeerName, now: Instant) -> &mut Peer {
        let Self { peers, rng, linked, mtu, .. } = self;
        peers.entry(name).or_insert_with(|| {
            let spread = Duration::from_micros(rng.below(SPREAD.as_micros() as u64));
            let mut peer = Peer::new(name, rng.bits(), now + spread, PathMtu::new(mtu::bound(*mtu, 0), now));
            peer.set_linked(linked.contains(&name), now);
            Box::new(peer)
        })
    }

    /// Puts a peer where it belongs after it may have changed.
    fn settle(&mut self, name: PeerName, now: Instant) {
        let Some(peer) = self.peers.get_mut(&name) else { return };
        let due = peer.due(now);
        if peer.slot != due {
            if let Some(slot) = peer.slot {
                self.lanes.remove(slot, name);
            }
            if let Some(slot) = due {
                self.lanes.insert(slot, name);
            }
            peer.slot = due;
        }
        if peer.has_news() {
            self.news.insert(name);
        }
    }

    /// Answers also a peer whose record has not come yet.
    fn reply(&mut self, from: SocketAddrV4, request: &Probe, bytes: &[u8], now: Instant) {
        let to = self.peers.get(&request.sender).map_or(from, |peer| peer.answer_to(from, self.translated));
        let reply = Probe {
            kind: Kind::Reply,
            flags: 0,
            length: probe::outer_len(bytes),
            cookie: 0,
            sender: self.me,
            receiver: request.sender,
            ..*request
        };
        let proves = request.flags & probe::PROVE != 0 && bytes.len() >= probe::PROVEN_LEN && self.proofs.take(now);
        let bytes = if proves { reply.encode_proven(*from.ip(), &self.key) } else { reply.encode() };
        push(&mut self.probes, (to, bytes));
    }

    fn hear(&mut self, name: PeerName, from: SocketAddrV4, now: Instant) {
        let Some(peer) = self.peers.get_mut(&name) else {
            // Its packets may come from there before it asks again.
            self.strangers.retain(|(stranger, _)| *stranger != name);
            self.strangers.push_back((name, from));
            if self.strangers.len() > STRANGERS_MAX {
                self.strangers.pop_front();
            }
            return;
        };
        if self.heard.len() >= HEARD_EVENTS_MAX {
            return;
        }
        match peer.addresses.hear(from, now) {
            Heard::Known => return,
            Heard::Port => {}
            Heard::Address => self.heard.push_back((name, *from.ip())),
        }
        peer.hurry();
    }
}

fn push(probes: &mut VecDeque<(SocketAddrV4, Vec<u8>)>, probe: (SocketAddrV4, Vec<u8>)) {
    if probes.len() < PROBES_MAX {
        probes.push_back(probe);
    }
}

#[cfg(test)]
mod tests;
