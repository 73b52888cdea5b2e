//! Chooses which peers to connect to, and when.
//!
//! Targets (named by the operator) and discovered peers are kept apart: the first are remembered, the second are forgotten
//! with their record. A target is resolved anew at each attempt, so a changed address is followed. States: docs/protocol.md,
//! section 4.2.
//!
//! An entry whose peer has a session, by whatever attempt, rests; so does a target's while the connection limit is reached
//! and its peer is reached through others. Of the discovered peers, as many are dialled, at random, as sessions are wanted;
//! beyond that only those that no session path reaches any more, a few at a time.
//! Bounds: [`DIALS_MAX`] attempts at once; [`LOST_MAX`] unreachable peers; pauses as in [`super::timers`], with jitter.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

use super::{
    Network,
    timers::{
        CONNECT_RETRY_FULL, CONNECT_RETRY_MAX, CONNECT_RETRY_MIN, DISCOVERY_RETRY, DISCOVERY_SPREAD, STABLE_AFTER,
    },
};
use crate::proto::{
    ids::{DialId, SessionId},
    name::PeerName,
    rng::Rng,
    target::Target,
    time::Instant,
};

/// Most attempts under way at once.
const DIALS_MAX: usize = 64;
/// Most unreachable peers that are dialled in turn: a cut may lose thousands at once.
const LOST_MAX: usize = 32;
/// Attempts after which other unreachable peers have their turn.
const LOST_ATTEMPTS: usize = 3;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum DialKey {
    /// Named by the operator.
    Target(Target),
    /// Discovered.
    Peer(PeerName),
}

/// State of an entry: see the module's doc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DialState {
    Waiting(Instant),
    Dialing(DialId),
    Connected(SessionId),
    /// Given up for good.
    Refused,
}

#[derive(Clone, Debug)]
pub(crate) struct DialEntry {
    pub(crate) state: DialState,
    /// Why the last attempt failed; empty before the first failure.
    pub(crate) info: String,
    /// The address or name tried last.
    pub(crate) tried: Option<Target>,
    /// The peer that answered there last.
    peer: Option<PeerName>,
    pause: Duration,
    attempts: usize,
}

/// All entries: targets, and discovered peers that were tried.
#[derive(Debug)]
pub(super) struct Dialer {
    pub(super) around: Around,
    pub(super) rng: Rng,
    entries: Entries,
    order: Vec<Target>,
    own: Vec<Ipv4Addr>,
    /// When to choose discovered peers.
    look_at: Option<Instant>,
    next_id: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct SessionEnd<'a> {
    pub(super) lived: Duration,
    /// Other session paths lead to the peer.
    pub(super) reached: bool,
    pub(super) reason: &'a str,
}

/// The sessions that there are and that there should be.
#[derive(Debug)]
pub(super) struct Around {
    pub(super) me: PeerName,
    pub(super) connected: BTreeSet<PeerName>,
    /// Sessions that are wanted to discovered peers.
    pub(super) wanted: usize,
    pub(super) limit: usize,
}

impl Around {
    /// True while no attempt is needed.
    fn rests(&self, key: &DialKey, entry: &DialEntry, network: &dyn Network) -> bool {
        let Some(peer) = entry.leads_to(key) else { return false };
        let enough = match key {
            DialKey::Target(_) => self.limit,
            DialKey::Peer(_) => self.wanted,
        };
        self.connected.contains(&peer) || (self.connected.len() >= enough && network.reached(peer))
    }
}

impl Dialer {
    pub(super) fn new(me: PeerName, limit: usize, rng: Rng) -> Self {
        let around = Around { me, connected: BTreeSet::new(), wanted: 0, limit };
        Self { around, rng, entries: BTreeMap::new(), order: Vec::new(), own: Vec::new(), look_at: None, next_id: 0 }
    }

    pub(super) fn targets(&self) -> &[Target] {
        &self.order
    }

    /// All entries, each with whether it rests.
    pub(super) fn entries(&self, network: &dyn Network) -> impl Iterator<Item = (&DialKey, &DialEntry, bool)> {
        self.entries.iter().map(move |(key, entry)| (key, entry, self.around.rests(key, entry, network)))
    }

    /// Makes `targets` the targets; new ones are dialled at once. A session to a former target stays.
    pub(super) fn set_targets(&mut self, targets: Vec<Target>, now: Instant) {
        self.entries.retain(|key, _| match key {
            DialKey::Target(target) => targets.contains(target),
            DialKey::Peer(_) => true,
        });
        for target in &targets {
            self.entries.entry(DialKey::Target(target.clone())).or_insert_with(|| DialEntry::new(now));
        }
        self.order = targets;
    }

    /// This host's addresses: a peer that advertises one of them too (every host has the same bridge of its container
    /// engine) is not dialled there.
    pub(super) fn set_own(&mut self, addrs: Vec<Ipv4Addr>) {
        self.own = addrs;
    }

    /// Peers were discovered, or lost: choose some to dial, but not at once, because they discover this one too.
    pub(super) fn look(&mut self, now: Instant) {
        let spread = Duration::from_micros(self.rng.below(DISCOVERY_SPREAD.as_micros() as u64));
        self.look_at.get_or_insert(now + spread);
    }

    /// No session path reaches these any more: their entries are dialled soon, however often that failed before.
    pub(super) fn lost(&mut self, peers: &BTreeSet<PeerName>, now: Instant) {
        for (key, entry) in &mut self.entries {
            let leads = entry.leads_to(key).is_some_and(|peer| peers.contains(&peer));
            if let (true, DialState::Waiting(at)) = (leads, &entry.state) {
                entry.pause = CONNECT_RETRY_MIN;
                entry.state = DialState::Waiting((*at).min(now + self.rng.jitter(CONNECT_RETRY_MIN)));
            }
        }
    }

    pub(super) fn forget(&mut self, peer: PeerName) {
        self.entries.remove(&DialKey::Peer(peer));
        for entry in self.entries.values_mut().filter(|e| e.peer == Some(peer)) {
            entry.peer = None;
        }
    }

    pub(super) fn is_target(&self, peer: PeerName) -> bool {
        self.entries.iter().any(|(key, entry)| matches!(key, DialKey::Target(_)) && entry.peer == Some(peer))
    }

    pub(super) fn due(&mut self, network: &dyn Network, now: Instant) -> Vec<(DialId, Target)> {
        self.find_peers(network, now);
        let mut free = self.free();
        let mut dials = Vec::new();
        for (key, entry) in &mut self.entries {
            let due =
                matches!(entry.state, DialState::Waiting(at) if at <= now) && !self.around.rests(key, entry, network);
            if !due || free == 0 {
                continue;
            }
            let Some(target) = entry.next_target(key, network, &self.own) else {
                entry.state = DialState::Waiting(now + CONNECT_RETRY_MAX);
                continue;
            };
            let dial = DialId(self.next_id);
            self.next_id += 1;
            free -= 1;
            entry.attempts += 1;
            entry.state = DialState::Dialing(dial);
            entry.tried = Some(target.clone());
            dials.push((dial, target));
        }
        dials
    }

    /// Makes entries for discovered peers: as many as sessions are missing, at random, and for unreachable ones.
    fn find_peers(&mut self, network: &dyn Network, now: Instant) {
        if self.look_at.is_none_or(|at| at > now) {
            return;
        }
        self.look_at = None;
        let discovered = |key: &DialKey| matches!(key, DialKey::Peer(_));
        let under_way = self.entries.iter().filter(|(key, e)| discovered(key) && e.dialing()).count();
        let missing = self.around.wanted.saturating_sub(self.around.connected.len() + under_way);
        let stranger = |peer: &PeerName| {
            *peer != self.around.me
                && !self.around.connected.contains(peer)
                && !self.entries.contains_key(&DialKey::Peer(*peer))
                && network.record(*peer).is_some()
        };
        let all_lost = network.lost();
        let mut lost: Vec<PeerName> = all_lost.iter().copied().filter(stranger).collect();
        // Whether a peer that was just discovered is reached is not computed yet; most likely it is.
        let mut reached: Vec<PeerName> = match missing {
            0 => Vec::new(),
            _ => network.names().filter(|peer| !all_lost.contains(peer)).filter(stranger).collect(),
        };
        let tried = self.make_room(&all_lost, lost.len());
        let more_lost = self.rng.sample(&mut lost, LOST_MAX.saturating_sub(tried));
        // Some of those will refuse or fail.
        let more = self.rng.sample(&mut reached, missing);
        for peer in reached.into_iter().chain(lost) {
            self.entries.insert(DialKey::Peer(peer), DialEntry::new(now));
        }
        if more || more_lost {
            self.look_at = Some(now + self.rng.jitter(DISCOVERY_RETRY));
        }
    }

    /// How many unreachable peers have an entry. When there is no room for `others` beside them, entries that were tried
    /// often go, and may be chosen again.
    fn make_room(&mut self, lost: &BTreeSet<PeerName>, others: usize) -> usize {
        let is_lost = |key: &DialKey| matches!(key, DialKey::Peer(peer) if lost.contains(peer));
        let tried = self.entries.keys().filter(|key| is_lost(key)).count();
        if tried + others <= LOST_MAX {
            return tried;
        }
        self.entries.retain(|key, entry| {
            let often = entry.attempts >= LOST_ATTEMPTS && matches!(entry.state, DialState::Waiting(_));
            !(often && is_lost(key))
        });
        self.entries.keys().filter(|key| is_lost(key)).count()
    }

    fn free(&self) -> usize {
        DIALS_MAX.saturating_sub(self.entries.values().filter(|e| e.dialing()).count())
    }

    /// When the next attempt is due; none while as many are under way as may be: the end of one is an input.
    pub(super) fn poll_timeout(&self, network: &dyn Network) -> Option<Instant> {
        if self.free() == 0 {
            return None;
        }
        let waiting = self.entries.iter().filter_map(|(key, entry)| match entry.state {
            DialState::Waiting(at) if !self.around.rests(key, entry, network) => Some(at),
            _ => None,
        });
        waiting.chain(self.look_at).min()
    }

    pub(super) fn opened(&mut self, dial: DialId, session: SessionId) {
        if let Some((_, entry)) = find(&mut self.entries, &DialState::Dialing(dial)) {
            entry.state = DialState::Connected(session);
        }
    }

    pub(super) fn failed(&mut self, dial: DialId, reason: &str, now: Instant) {
        if let Some((_, entry)) = find(&mut self.entries, &DialState::Dialing(dial)) {
            entry.wait(reason, CONNECT_RETRY_MAX, now, &mut self.rng);
        }
    }

    /// The handshake shows which peer is at the other end of `session`. Where another was looked for, its next address is
    /// tried.
    pub(super) fn identified(&mut self, session: SessionId, peer: PeerName, now: Instant) {
        let Some((key, entry)) = find(&mut self.entries, &DialState::Connected(session)) else { return };
        if matches!(key, DialKey::Peer(wanted) if *wanted != peer) {
            return entry.wait(&format!("{peer} answered there"), CONNECT_RETRY_MAX, now, &mut self.rng);
        }
        entry.peer = Some(peer);
        entry.info.clear();
    }

    /// `session` leads to this host: a peer is looked for at its next address, a name may lead elsewhere too or some day,
    /// and an address is given up.
    pub(super) fn ourselves(&mut self, session: SessionId, reason: &str, now: Instant) {
        let Some((key, entry)) = find(&mut self.entries, &DialState::Connected(session)) else { return };
        match key {
            DialKey::Target(target) if target.host.parse::<Ipv4Addr>().is_ok() => {
                entry.state = DialState::Refused;
                reason.clone_into(&mut entry.info);
            }
            DialKey::Target(_) | DialKey::Peer(_) => entry.wait(reason, CONNECT_RETRY_MAX, now, &mut self.rng),
        }
    }

    /// `session` is gone. Its entry, and others that rested because it led to the same `peer`, wait again.
    pub(super) fn closed(&mut self, session: SessionId, peer: Option<PeerName>, end: &SessionEnd<'_>, now: Instant) {
        let good = end.lived >= STABLE_AFTER;
        let longest = if end.reached { CONNECT_RETRY_FULL } else { CONNECT_RETRY_MAX };
        for entry in self.entries.values_mut() {
            let ours = entry.state == DialState::Connected(session);
            let leads = peer.is_some() && entry.peer == peer;
            // An entry that waits for its own turn goes on waiting: refused at each attempt, two entries of one peer would
            // otherwise shorten each other's pauses for ever.
            let rested = leads && matches!(entry.state, DialState::Waiting(at) if good || at <= now);
            if !ours && !rested {
                continue;
            }
            if good {
                entry.pause = CONNECT_RETRY_MIN;
            }
            entry.wait(end.reason, longest, now, &mut self.rng);
        }
    }
}

type Entries = BTreeMap<DialKey, DialEntry>;

fn find<'a>(entries: &'a mut Entries, state: &DialState) -> Option<(&'a DialKey, &'a mut DialEntry)> {
    entries.iter_mut().find(|(_, entry)| entry.state == *state)
}

impl DialEntry {
    fn new(at: Instant) -> Self {
        let state = DialState::Waiting(at);
        Self { state, info: String::new(), tried: None, peer: None, pause: CONNECT_RETRY_MIN, attempts: 0 }
    }

    fn dialing(&self) -> bool {
        matches!(self.state, DialState::Dialing(_))
    }

    /// The peer that is, or was last, at the other end.
    pub(crate) fn leads_to(&self, key: &DialKey) -> Option<PeerName> {
        match key {
            DialKey::Peer(peer) => Some(*peer),
            DialKey::Target(_) => self.peer,
        }
    }

    fn wait(&mut self, reason: &str, longest: Duration, now: Instant, rng: &mut Rng) {
        self.pause = self.pause.min(longest);
        self.state = DialState::Waiting(now + rng.jitter(self.pause));
        self.pause = (self.pause * 3 / 2).min(longest);
        reason.clone_into(&mut self.info);
    }

    fn next_target(&self, key: &DialKey, network: &dyn Network, own: &[Ipv4Addr]) -> Option<Target> {
        match key {
            DialKey::Target(target) => Some(target.clone()),
            DialKey::Peer(peer) => {
                let record = network.record(*peer)?;
                let addrs: Vec<&Ipv4Addr> = record.addrs.iter().filter(|a| !own.contains(a)).collect();
                let addr = addrs.get(self.attempts.checked_rem(addrs.len())?)?;
                Some(Target { host: addr.to_string(), port: Some(record.control_port) })
            }
        }
    }
}

#[cfg(test)]
mod tests;
