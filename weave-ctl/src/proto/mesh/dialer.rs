//! Whom to connect to, and when.
//!
//! Targets (named by the operator) and peers (heard of from others) are kept apart: the first are remembered, the second
//! are forgotten with their record. A target is dialled by name each time, so a changed address is followed.
//!
//! ```text
//! Waiting -> Dialing -> Linked -> Waiting (back-off)
//!                   \-> Waiting (back-off)      any -> Refused (an address of ours: for good)
//! ```
//! An entry whose peer is linked, by whatever link, rests; so does a target's while there are as many links as may be and
//! its peer is reached through others. Of the peers heard of, as many are dialled, at random, as links are wanted; beyond
//! that only those that no path reaches any more, a few at a time.
//! Bounds: [`DIALS_MAX`] attempts at once; [`LOST_MAX`] peers that no path reaches; pauses from [`PAUSE_MIN`] to
//! [`PAUSE_MAX`], or to [`REACHED_PAUSE_MAX`] while other links lead there, each half as long again as the one before,
//! with jitter. Peers that were never tried cost nothing here.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

use super::{store::Store, topology::Topology};
use crate::proto::{
    io::{DialId, LinkId, Target},
    name::PeerName,
    rng::Rng,
    time::Instant,
};

/// Most attempts under way at once.
pub const DIALS_MAX: usize = 64;
/// First pause after a failure.
pub const PAUSE_MIN: Duration = Duration::from_millis(500);
/// Longest pause.
pub const PAUSE_MAX: Duration = Duration::from_secs(30);
/// The same where each link soon ends again and its peer is reached through others: most likely it has as many links as
/// it may, and thousands may have been told to connect to the same few.
pub const REACHED_PAUSE_MAX: Duration = Duration::from_secs(600);
/// A link that lived this long was good: the next pause starts from the shortest again.
const GOOD_AFTER: Duration = Duration::from_secs(20);
/// Peers heard of are dialled within this time, spread, because they hear of us too.
const SPREAD: Duration = Duration::from_millis(200);

/// Pause before looking again for peers to dial while links are missing.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Most peers that no path reaches any more that are dialled in turn: a cut may lose thousands at once.
pub const LOST_MAX: usize = 32;
/// Attempts after which others of them have their turn.
const LOST_ATTEMPTS: usize = 3;

/// What an entry stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whom {
    /// Named by the operator.
    Target(Target),
    /// Heard of.
    Peer(PeerName),
}

/// Where an entry stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Until then.
    Waiting(Instant),
    /// An attempt is under way.
    Dialing(DialId),
    /// By this link.
    Linked(LinkId),
    /// Never again.
    Refused,
}

/// Somebody to connect to.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where it stands.
    pub state: State,
    /// Who answered there last.
    pub peer: Option<PeerName>,
    /// Why the last attempt failed; empty before the first failure.
    pub info: String,
    /// The address or name tried last.
    pub tried: Option<Target>,
    pause: Duration,
    attempts: usize,
}

/// Everybody to connect to who was named or tried.
#[derive(Debug, Default)]
pub struct Dialer {
    entries: BTreeMap<Whom, Entry>,
    order: Vec<Target>,
    own: Vec<Ipv4Addr>,
    /// When to look for peers heard of that are worth an attempt.
    look_at: Option<Instant>,
    next_id: u64,
}

/// How a link ended.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// How long there was one.
    pub lived: Duration,
    /// Other links lead to the peer.
    pub reached: bool,
    /// Why.
    pub reason: &'a str,
}

/// What must be known of the mesh to decide whom to dial.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// This peer.
    pub me: PeerName,
    /// Peers that are linked.
    pub linked: &'a BTreeSet<PeerName>,
    /// Links that are wanted to peers heard of, and how many there may be at all.
    pub wanted: (usize, usize),
    /// Whether a path of links leads to a peer.
    pub topology: &'a Topology,
}

impl Around<'_> {
    /// True while nobody needs to dial here.
    #[must_use]
    pub fn rests(&self, whom: &Whom, entry: &Entry) -> bool {
        let Some(peer) = entry.leads_to(whom) else { return false };
        let enough = match whom {
            Whom::Target(_) => self.wanted.1,
            Whom::Peer(_) => self.wanted.0,
        };
        self.linked.contains(&peer) || (self.linked.len() >= enough && self.topology.reached(peer))
    }
}

impl Dialer {
    /// The targets in the order given.
    #[must_use]
    pub fn targets(&self) -> &[Target] {
        &self.order
    }

    /// All entries.
    pub fn entries(&self) -> impl Iterator<Item = (&Whom, &Entry)> {
        self.entries.iter()
    }

    /// Makes `targets` the targets; new ones are dialled at once. A link to a former target stays.
    pub fn set_targets(&mut self, targets: Vec<Target>, now: Instant) {
        self.entries.retain(|whom, _| match whom {
            Whom::Target(target) => targets.contains(target),
            Whom::Peer(_) => true,
        });
        for target in &targets {
            self.entries.entry(Whom::Target(target.clone())).or_insert_with(|| Entry::new(now));
        }
        self.order = targets;
    }

    /// This host's addresses: a peer that tells the same (every host has the same bridge of its container engine) is not
    /// to be found there.
    pub fn set_own(&mut self, addrs: Vec<Ipv4Addr>) {
        self.own = addrs;
    }

    /// Peers were heard of, or lost: look for somebody to dial, but not at once, because they hear of us too.
    pub fn look(&mut self, now: Instant, rng: &mut Rng) {
        let spread = Duration::from_micros(rng.below(SPREAD.as_micros() as u64));
        self.look_at.get_or_insert(now + spread);
    }

    /// No path of links reaches these any more: whoever leads to one is dialled soon, however often that failed before.
    pub fn lost(&mut self, peers: &BTreeSet<PeerName>, now: Instant, rng: &mut Rng) {
        for (whom, entry) in &mut self.entries {
            let leads = entry.leads_to(whom).is_some_and(|peer| peers.contains(&peer));
            if let (true, State::Waiting(at)) = (leads, &entry.state) {
                entry.pause = PAUSE_MIN;
                entry.state = State::Waiting((*at).min(now + rng.jitter(PAUSE_MIN)));
            }
        }
    }

    /// `peer` is forgotten.
    pub fn forgotten(&mut self, peer: PeerName) {
        self.entries.remove(&Whom::Peer(peer));
        for entry in self.entries.values_mut().filter(|e| e.peer == Some(peer)) {
            entry.peer = None;
        }
    }

    /// True when the operator named whoever is at the other end of `link`.
    #[must_use]
    pub fn is_target(&self, peer: PeerName) -> bool {
        self.entries.iter().any(|(whom, entry)| matches!(whom, Whom::Target(_)) && entry.peer == Some(peer))
    }

    /// Attempts that are due.
    pub fn due(&mut self, around: Around<'_>, store: &Store, now: Instant, rng: &mut Rng) -> Vec<(DialId, Target)> {
        self.find_peers(around, store, now, rng);
        let mut free = self.free();
        let mut dials = Vec::new();
        for (whom, entry) in &mut self.entries {
            let due = matches!(entry.state, State::Waiting(at) if at <= now) && !around.rests(whom, entry);
            if !due || free == 0 {
                continue;
            }
            let Some(target) = entry.next_target(whom, store, &self.own) else {
                entry.state = State::Waiting(now + PAUSE_MAX);
                continue;
            };
            let dial = DialId(self.next_id);
            self.next_id += 1;
            free -= 1;
            entry.attempts += 1;
            entry.state = State::Dialing(dial);
            entry.tried = Some(target.clone());
            dials.push((dial, target));
        }
        dials
    }

    /// Makes entries for peers heard of: as many as links are missing, at random, and all that are lost.
    fn find_peers(&mut self, around: Around<'_>, store: &Store, now: Instant, rng: &mut Rng) {
        if self.look_at.is_none_or(|at| at > now) {
            return;
        }
        self.look_at = None;
        let under_way = self.entries.iter().filter(|(whom, e)| matches!(whom, Whom::Peer(_)) && e.dialing()).count();
        let missing = around.wanted.0.saturating_sub(around.linked.len() + under_way);
        let stranger = |peer: &PeerName| {
            *peer != around.me
                && !around.linked.contains(peer)
                && !self.entries.contains_key(&Whom::Peer(*peer))
                && store.record(*peer).is_some()
        };
        let mut lost: Vec<PeerName> = around.topology.lost().filter(stranger).collect();
        // Whether one that was just heard of is reached is not computed yet; most likely it is.
        let mut reached: Vec<PeerName> = match missing {
            0 => Vec::new(),
            _ => store.names().filter(|peer| !around.topology.is_lost(*peer)).filter(stranger).collect(),
        };
        let tried = self.make_room(around.topology, lost.len());
        let more_lost = rng.sample(&mut lost, LOST_MAX.saturating_sub(tried));
        // Some of those will refuse or fail.
        let more = rng.sample(&mut reached, missing);
        for peer in reached.into_iter().chain(lost) {
            self.entries.insert(Whom::Peer(peer), Entry::new(now));
        }
        if more || more_lost {
            self.look_at = Some(now + rng.jitter(LOOK_AGAIN));
        }
    }

    /// How many of those that no path reaches are tried already. When there is no room for all of `others` beside them,
    /// those are left that were tried often, and may be chosen again.
    fn make_room(&mut self, topology: &Topology, others: usize) -> usize {
        let is_lost = |whom: &Whom| matches!(whom, Whom::Peer(peer) if topology.is_lost(*peer));
        let tried = self.entries.keys().filter(|whom| is_lost(whom)).count();
        if tried + others <= LOST_MAX {
            return tried;
        }
        self.entries.retain(|whom, entry| {
            let often = entry.attempts >= LOST_ATTEMPTS && matches!(entry.state, State::Waiting(_));
            !(often && is_lost(whom))
        });
        self.entries.keys().filter(|whom| is_lost(whom)).count()
    }

    fn free(&self) -> usize {
        DIALS_MAX.saturating_sub(self.entries.values().filter(|e| e.dialing()).count())
    }

    /// When the next attempt is due; none while as many are under way as may be: the end of one is an input.
    #[must_use]
    pub fn poll_timeout(&self, around: Around<'_>) -> Option<Instant> {
        if self.free() == 0 {
            return None;
        }
        let waiting = self.entries.iter().filter_map(|(whom, entry)| match entry.state {
            State::Waiting(at) if !around.rests(whom, entry) => Some(at),
            _ => None,
        });
        waiting.chain(self.look_at).min()
    }

    /// An attempt became a link.
    pub fn opened(&mut self, dial: DialId, link: LinkId) {
        if let Some(entry) = self.entries.values_mut().find(|e| e.state == State::Dialing(dial)) {
            entry.state = State::Linked(link);
        }
    }

    /// An attempt failed.
    pub fn failed(&mut self, dial: DialId, reason: &str, now: Instant, rng: &mut Rng) {
        if let Some(entry) = self.entries.values_mut().find(|e| e.state == State::Dialing(dial)) {
            entry.wait(reason, PAUSE_MAX, now, rng);
        }
    }

    /// The peer at the other end of `link` told its name. Where another peer was looked for, its next address is tried.
    pub fn identified(&mut self, link: LinkId, peer: PeerName, now: Instant, rng: &mut Rng) {
        let Some((whom, entry)) = self.entries.iter_mut().find(|(_, e)| e.state == State::Linked(link)) else { return };
        if matches!(whom, Whom::Peer(wanted) if *wanted != peer) {
            return entry.wait(&format!("{peer} answered there"), PAUSE_MAX, now, rng);
        }
        entry.peer = Some(peer);
        entry.info.clear();
    }

    /// `link` leads to ourselves: a peer is looked for at its next address, a name may lead to others too or some day, and
    /// an address is given up.
    pub fn ourselves(&mut self, link: LinkId, reason: &str, now: Instant, rng: &mut Rng) {
        let Some((whom, entry)) = self.entries.iter_mut().find(|(_, e)| e.state == State::Linked(link)) else { return };
        match whom {
            Whom::Target(target) if target.host.parse::<Ipv4Addr>().is_ok() => {
                entry.state = State::Refused;
                reason.clone_into(&mut entry.info);
            }
            Whom::Target(_) | Whom::Peer(_) => entry.wait(reason, PAUSE_MAX, now, rng),
        }
    }

    /// `link` is gone. Its entry, and others that rested because it led to the same `peer`, wait again.
    pub fn closed(&mut self, link: LinkId, peer: Option<PeerName>, end: &End<'_>, now: Instant, rng: &mut Rng) {
        let good = end.lived >= GOOD_AFTER;
        let longest = if end.reached { REACHED_PAUSE_MAX } else { PAUSE_MAX };
        for entry in self.entries.values_mut() {
            let ours = entry.state == State::Linked(link);
            let leads = peer.is_some() && entry.peer == peer;
            // One that waits for its own turn goes on waiting: refused at each attempt, two entries of one peer would
            // otherwise shorten each other's pauses for ever.
            let rested = leads && matches!(entry.state, State::Waiting(at) if good || at <= now);
            if !ours && !rested {
                continue;
            }
            if good {
                entry.pause = PAUSE_MIN;
            }
            entry.wait(end.reason, longest, now, rng);
        }
    }
}

impl Entry {
    fn new(at: Instant) -> Self {
        Self { state: State::Waiting(at), peer: None, info: String::new(), tried: None, pause: PAUSE_MIN, attempts: 0 }
    }

    fn dialing(&self) -> bool {
        matches!(self.state, State::Dialing(_))
    }

    /// Who is, or was last, at the other end.
    #[must_use]
    pub fn leads_to(&self, whom: &Whom) -> Option<PeerName> {
        match whom {
            Whom::Peer(peer) => Some(*peer),
            Whom::Target(_) => self.peer,
        }
    }

    fn wait(&mut self, reason: &str, longest: Duration, now: Instant, rng: &mut Rng) {
        self.pause = self.pause.min(longest);
        self.state = State::Waiting(now + rng.jitter(self.pause));
        self.pause = (self.pause * 3 / 2).min(longest);
        reason.clone_into(&mut self.info);
    }

    fn next_target(&self, whom: &Whom, store: &Store, own: &[Ipv4Addr]) -> Option<Target> {
        match whom {
            Whom::Target(target) => Some(target.clone()),
            Whom::Peer(peer) => {
                let record = store.record(*peer)?;
                let addrs: Vec<&Ipv4Addr> = record.addrs.iter().filter(|a| !own.contains(a)).collect();
                let addr = addrs.get(self.attempts.checked_rem(addrs.len())?)?;
                Some(Target { host: addr.to_string(), port: Some(record.control_port) })
            }
        }
    }
}

#[cfg(test)]
mod tests;
