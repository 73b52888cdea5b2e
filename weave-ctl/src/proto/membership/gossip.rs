//! Spreads entries: new ones by rumour, everything else by anti-entropy.
//!
//! Messages and who answers what: docs/protocol.md, section 2.1. A new entry goes on to [`FANOUT`] sessions, chosen anew
//! each time, once, after [`GOSSIP_INTERVAL`] in which more may gather: an owner that changes fast costs others no more
//! than its last change. Most peers that a rumour reaches hold the entry already: of an entry longer than [`WHOLE_MAX`]
//! only the owner sends the whole, others advertise its version. No answer needs state about the asker.
//!
//! An error in a channel is counted there: it changes nothing else and closes no session. A peer that advertises an entry
//! and never sends it delays that entry by one round; anti-entropy does not wait for it.
//! Bounds: [`PAGE_BYTES`] a message; [`REQUESTED_MAX`] entries requested; [`ANSWERS_MAX`] answers at once a session,
//! [`ANSWERS_RATE`] a second; an entry that was not verified is not passed on.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    iter,
    sync::Arc,
    time::Duration,
};

use foldhash::fast::FixedState;
use indexmap::IndexMap;
use serde_bytes::ByteBuf;

use super::{
    store::{Alive, Offer, Store},
    timers::{ANTI_ENTROPY, ANTI_ENTROPY_BUSY, BUSY_FOR, GOSSIP_INTERVAL, REQUEST_RETRY},
};
use crate::proto::{
    command::ChannelStatus,
    ids::SessionId,
    name::{PeerName, PeerUid},
    queue,
    rng::Rng,
    throttle::{Budget, hold_down},
    time::Instant,
    wire::{
        Advert, BUCKETS, Delta, ENTRIES_MAX, EntryKey, Message, PAGE_MAX, Page, Version, clean,
        entry::{Entry, PEERS, Verifier},
    },
};

/// Sessions that a new entry goes on to.
pub(super) const FANOUT: usize = 6;
/// Longest entry in bytes that is sent to peers that may hold it: about ten times its advertisement.
pub(super) const WHOLE_MAX: usize = 512;
/// Most entries of which a request is remembered; of more, several peers may be asked.
pub(super) const REQUESTED_MAX: usize = 8192;
/// Most bytes of entries in a message.
pub(super) const PAGE_BYTES: usize = 256 * 1024;
/// Most answers that one session can have at once.
pub(super) const ANSWERS_MAX: u32 = 64;
/// Answers that a session is granted a second.
pub(super) const ANSWERS_RATE: u32 = 20;
/// Most channels whose errors are counted apart.
const CHANNELS_SHOWN: usize = 64;

#[derive(Debug)]
pub(super) struct Gossip {
    me: PeerName,
    pub(super) verifier: Arc<dyn Verifier>,
    pub(super) store: Store,
    fresh: BTreeMap<EntryKey, Option<SessionId>>,
    flush_at: Option<Instant>,
    /// Requested because of advertisements, until then.
    requested: BTreeMap<EntryKey, (PeerUid, Version)>,
    requested_until: Instant,
    pub(super) sessions: BTreeMap<SessionId, Budget>,
    compare_at: Instant,
    busy_until: Instant,
    rng: Rng,
    /// Channels that other modules of this peer read.
    known: Vec<&'static str>,
    errors: BTreeMap<String, (u64, String)>,
    /// The highest version under this peer's own name and key that it did not make in this run: its store was restored from
    /// a backup, or another controller runs with a copy of it.
    pub(super) foreign: Option<Version>,
    out: VecDeque<(SessionId, Message)>,
    updates: VecDeque<Update>,
}

/// An entry that is new to this peer, and the one that it replaced.
pub(super) type Update = (Arc<Entry>, Option<Arc<Entry>>);

impl Gossip {
    pub(super) fn new(
        me: PeerName,
        known: Vec<&'static str>,
        verifier: Arc<dyn Verifier>,
        rng: Rng,
        now: Instant,
    ) -> Self {
        Self {
            me,
            verifier,
            store: Store::default(),
            fresh: BTreeMap::new(),
            flush_at: None,
            requested: BTreeMap::new(),
            requested_until: now,
            sessions: BTreeMap::new(),
            compare_at: now + ANTI_ENTROPY,
            busy_until: now,
            rng,
            known,
            errors: BTreeMap::new(),
            foreign: None,
            out: VecDeque::new(),
            updates: VecDeque::new(),
        }
    }

    pub(super) fn poll_send(&mut self) -> Option<(SessionId, Message)> {
        queue::pop(&mut self.out)
    }

    pub(super) fn poll_update(&mut self) -> Option<Update> {
        queue::pop(&mut self.updates)
    }

    /// A session is up: the side that `dialled` compares at once, for both.
    pub(super) fn session_up(&mut self, session: SessionId, dialled: bool, now: Instant) {
        self.sessions.insert(session, Budget::full(ANSWERS_MAX, ANSWERS_RATE, now));
        if dialled {
            self.compare(session);
        }
    }

    /// An entry of this peer itself, newly signed.
    pub(super) fn publish(&mut self, entry: Arc<Entry>, now: Instant) {
        self.hold(entry, None, &|_, _| false, now);
    }

    /// A verified entry: of this peer itself, or that arrived on a session.
    pub(super) fn hold(&mut self, entry: Arc<Entry>, from: Option<SessionId>, alive: Alive<'_>, now: Instant) -> Offer {
        let (stranger, before) = (self.store.version(entry.key.owner).is_none(), self.store.get(&entry.key).cloned());
        let offer = self.store.offer(Arc::clone(&entry), alive);
        if offer == Offer::New && stranger && from.is_some() {
            // The retained entries of a forgotten peer are held again: new to the modules that read them.
            let others = self.store.of(entry.key.owner).filter(|other| other.key != entry.key);
            self.updates.extend(others.map(|entry| (Arc::clone(entry), None)));
        }
        if offer == Offer::New {
            if let Err(why) = &entry.content {
                self.error(&entry.key.channel, &format!("of {}: {why}", entry.key.owner));
            }
            self.fresh.insert(entry.key.clone(), from);
            self.flush_at.get_or_insert(now + GOSSIP_INTERVAL);
            self.busy_until = now + BUSY_FOR;
            self.compare_at = self.compare_at.min(now + self.pause(ANTI_ENTROPY_BUSY));
            if from.is_some() {
                self.updates.push_back((entry, before));
            }
        }
        offer
    }

    pub(super) fn message(&mut self, session: SessionId, message: Message, alive: Alive<'_>, now: Instant) {
        if let Message::Delta(delta) = message {
            return self.delta(session, &delta, alive, now);
        }
        if !self.sessions.get_mut(&session).is_some_and(|budget| budget.take(now)) {
            return;
        }
        match message {
            Message::Digest(theirs) if theirs != self.store.digest() => {
                self.out.push_back((session, Message::Buckets(self.store.digests().to_vec())));
            }
            Message::Advertise(adverts) => self.advertised(session, adverts, now),
            Message::Buckets(theirs) => self.buckets(session, &theirs),
            Message::Page(page) => self.page(session, &page),
            Message::Request(keys) => {
                let delta = delta(keys.iter().filter_map(|key| self.store.get(key)));
                self.send(session, delta);
            }
            _ => {}
        }
    }

    fn delta(&mut self, session: SessionId, delta: &Delta, alive: Alive<'_>, now: Instant) {
        // Of several versions in one message the newest alone is worth verifying.
        let mut newest: BTreeMap<(EntryKey, PeerUid), (Version, &[u8])> = BTreeMap::new();
        for raw in &delta.entries {
            match self.verifier.peek(raw) {
                Ok((key, uid, version)) => {
                    let held = newest.entry((key, uid)).or_insert((version, raw));
                    if version > held.0 {
                        *held = (version, raw);
                    }
                }
                Err(error) => return self.error("?", &error.to_string()),
            }
        }
        // An owner's record comes before its other entries.
        let mut all: Vec<_> = newest.into_iter().collect();
        all.sort_by_key(|((key, _), _)| (key.channel != PEERS, key.owner));
        let mut gained = false;
        for ((key, uid), (version, raw)) in all {
            if !self.may_be_new(&key, uid, version) {
                continue;
            }
            match self.verifier.open(raw) {
                Ok(entry) if key.owner == self.me => self.foreign = self.foreign.max(Some(entry.version)),
                Ok(entry) => match self.hold(entry, Some(session), alive, now) {
                    Offer::New => gained = true,
                    Offer::Duplicate => self.answer_duplicate(session, &key, version, now),
                    Offer::Old | Offer::Orphan | Offer::Full => {}
                },
                // An honest peer passes on only what it verified: the rest of this message is not worth the effort.
                Err(error) => return self.error(&key.channel, &error.to_string()),
            }
        }
        if delta.more && gained {
            self.compare(session);
        }
    }

    fn may_be_new(&self, key: &EntryKey, uid: PeerUid, version: Version) -> bool {
        // Another store of this peer's name is for others to find: they see a duplicate identity.
        let foreign = key.owner == self.me && self.store.version(self.me).is_none_or(|(own, _)| own != uid);
        !foreign && !self.is_former(key, version) && self.store.may_be_new(key, uid, version)
    }

    /// An entry that this peer made in an earlier launch, and may not have made in this one.
    fn is_former(&self, key: &EntryKey, version: Version) -> bool {
        key.owner == self.me && self.store.version(self.me).is_none_or(|(_, own)| version.incarnation < own.incarnation)
    }

    /// The other side holds these: requests what is new, unless another peer was asked for just that.
    fn advertised(&mut self, session: SessionId, adverts: Vec<Advert>, now: Instant) {
        if self.requested_until <= now {
            self.requested.clear();
            self.requested_until = now + REQUEST_RETRY;
        }
        let mut want = Vec::new();
        for (key, uid, version) in adverts {
            if !self.may_be_new(&key, uid, version) || self.requested.get(&key) == Some(&(uid, version)) {
                continue;
            }
            if self.requested.len() < REQUESTED_MAX {
                self.requested.insert(key.clone(), (uid, version));
            }
            want.push(key);
        }
        if !want.is_empty() {
            self.out.push_back((session, Message::Request(want)));
        }
    }

    /// The other side holds an entry of a former store of a name. Versions of two stores do not show which is newer, but
    /// comparisons go by them: where the former's are higher, no other peer would send that side the new entry.
    fn answer_duplicate(&mut self, session: SessionId, key: &EntryKey, version: Version, now: Instant) {
        let Some(held) = self.store.get(key).filter(|held| version > held.version).cloned() else { return };
        if self.sessions.get_mut(&session).is_some_and(|budget| budget.take(now)) {
            self.send(session, delta(iter::once(&held)));
        }
    }

    /// The channel of that name, if a module other than membership reads it.
    pub(super) fn reader(&self, channel: &str) -> Option<&'static str> {
        self.known.iter().copied().find(|known| *known == channel)
    }

    pub(super) fn error(&mut self, channel: &str, what: &str) {
        let channel = clean(channel);
        if self.errors.len() < CHANNELS_SHOWN || self.errors.contains_key(&channel) {
            let (count, last) = self.errors.entry(channel).or_default();
            *count += 1;
            *last = clean(what);
        }
    }

    fn buckets(&mut self, session: SessionId, theirs: &[u64]) {
        if theirs.len() != BUCKETS {
            return self.error("?", "a comparison of another shape");
        }
        let ours = self.store.digests();
        let differ: Vec<u8> = (0..=u8::MAX).filter(|n| ours[usize::from(*n)] != theirs[usize::from(*n)]).collect();
        if differ.is_empty() {
            return;
        }
        // Begin anywhere, so that a difference that stays does not hide those after it.
        let start = self.rng.below(differ.len() as u64) as usize;
        let mut page = Page { buckets: Vec::new(), items: Vec::new(), more: false };
        for number in differ[start..].iter().chain(&differ[..start]) {
            let key = |owner, channel: &str| EntryKey { owner, channel: channel.into() };
            let items = self.store.bucket(*number).map(|(owner, channel, version, _)| (key(owner, channel), version));
            let items: Vec<_> = items.collect();
            if page.items.len() + items.len() > PAGE_MAX {
                page.more = true;
                break;
            }
            page.buckets.push(*number);
            page.items.extend(items);
        }
        self.out.push_back((session, Message::Page(page)));
    }

    fn page(&mut self, session: SessionId, page: &Page) {
        let theirs = page.items.iter().map(|item| ((item.0.owner, item.0.channel.as_str()), item));
        let theirs: IndexMap<_, _, FixedState> = theirs.collect();
        let listed: BTreeSet<u8> = page.buckets.iter().copied().collect();
        let of_listed = |key: &EntryKey| listed.contains(&Store::bucket_of(key.owner));
        let want =
            theirs.values().filter(|(key, version)| self.store.newer(key, *version) && !self.is_former(key, *version));
        let want: Vec<EntryKey> = want.filter(|(key, _)| of_listed(key)).map(|(key, _)| key.clone()).collect();
        let held = listed.iter().flat_map(|number| self.store.bucket(*number));
        let newer =
            held.filter(|(owner, channel, version, _)| theirs.get(&(*owner, *channel)).is_none_or(|t| *version > t.1));
        let newer = delta(newer.map(|(.., entry)| entry));
        if !want.is_empty() {
            self.out.push_back((session, Message::Request(want)));
            if newer.entries.is_empty() && page.more {
                self.compare(session);
            }
        }
        self.send(session, newer);
    }

    fn compare(&mut self, session: SessionId) {
        self.out.push_back((session, Message::Digest(self.store.digest())));
    }

    fn send(&mut self, session: SessionId, delta: Delta) {
        if !delta.entries.is_empty() {
            self.out.push_back((session, Message::Delta(delta)));
        }
    }

    /// A few records for a peer that is refused, so that it learns of others.
    pub(super) fn sample(&mut self, count: usize) -> Delta {
        let all: Vec<&Arc<Entry>> = self.store.iter().filter(|e| e.key.channel == PEERS).collect();
        let start = self.rng.below(all.len() as u64) as usize;
        let some = all[start..].iter().chain(&all[..start]).take(count);
        Delta { entries: some.map(|e| ByteBuf::from(e.raw.to_vec())).collect(), more: false }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.flush_at.is_some_and(|at| at <= now) {
            self.flush_at = None;
            self.flush();
        }
        if self.compare_at <= now {
            let mean = if now < self.busy_until { ANTI_ENTROPY_BUSY } else { ANTI_ENTROPY };
            self.compare_at = now + self.rng.jitter(self.pause(mean));
            self.pick(1).into_iter().for_each(|session| self.compare(session));
            self.store.expire(now);
        }
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        self.flush_at.map_or(self.compare_at, |at| at.min(self.compare_at))
    }

    /// Time between two comparisons: in a large network much is under way as rumours, which take as long to spread.
    fn pause(&self, least: Duration) -> Duration {
        least.max(hold_down(self.store.owners()) * 2)
    }

    fn flush(&mut self) {
        let fresh: Vec<(Arc<Entry>, Option<SessionId>)> = std::mem::take(&mut self.fresh)
            .into_iter()
            .filter_map(|(key, from)| self.store.get(&key).map(|entry| (Arc::clone(entry), from)))
            .collect();
        for session in self.pick(FANOUT) {
            let mut whole = Vec::new();
            let mut adverts: Vec<Advert> = Vec::new();
            for (entry, from) in fresh.iter().filter(|(_, from)| *from != Some(session)) {
                if from.is_none() || entry.raw.len() <= WHOLE_MAX {
                    whole.push(Arc::clone(entry));
                } else {
                    adverts.push((entry.key.clone(), entry.uid, entry.version));
                }
            }
            let mut rest = whole.as_slice();
            while !rest.is_empty() {
                let delta = delta(rest.iter());
                rest = &rest[delta.entries.len()..];
                self.out.push_back((session, Message::Delta(Delta { more: false, ..delta })));
            }
            self.out.extend(adverts.chunks(PAGE_MAX).map(|adverts| (session, Message::Advertise(adverts.to_vec()))));
        }
    }

    fn pick(&mut self, count: usize) -> Vec<SessionId> {
        let mut sessions: Vec<SessionId> = self.sessions.keys().copied().collect();
        self.rng.sample(&mut sessions, count);
        sessions
    }

    pub(super) fn channels(&self) -> Vec<ChannelStatus> {
        let mut counts: BTreeMap<&str, usize> = self.errors.keys().map(|channel| (channel.as_str(), 0)).collect();
        for entry in self.store.iter() {
            *counts.entry(&entry.key.channel).or_default() += 1;
        }
        let status = |(name, entries): (&str, usize)| {
            let (errors, last_error) = self.errors.get(name).cloned().unwrap_or_default();
            let known = name == PEERS || self.reader(name).is_some();
            ChannelStatus { name: name.to_owned(), known, entries, errors, last_error }
        };
        counts.into_iter().map(status).collect()
    }
}

/// As many of `entries` as fit a message, at least one.
fn delta<'a>(entries: impl Iterator<Item = &'a Arc<Entry>>) -> Delta {
    let mut delta = Delta::default();
    let mut bytes = 0;
    for entry in entries {
        bytes += entry.raw.len();
        if delta.entries.len() >= ENTRIES_MAX || (bytes > PAGE_BYTES && !delta.entries.is_empty()) {
            delta.more = true;
            break;
        }
        delta.entries.push(ByteBuf::from(entry.raw.to_vec()));
    }
    delta
}

#[cfg(test)]
mod tests;
