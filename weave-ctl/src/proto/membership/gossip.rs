//! Spreads entries: new ones by rumour, everything else by anti-entropy.
//!
//! Messages and what answers them: docs/protocol.md, section 2.1. `rumours` tells others what is new here. A peer that is
//! less far with an owner requests what is above the point up to which it holds everything. So a change costs its own size
//! once a peer, whatever else its owner has said. No answer needs state about the peer that asks.
//!
//! An error in a channel is counted there: it changes nothing else and closes no session. A peer that advertises an entry
//! and never sends it delays that entry by one round; anti-entropy does not wait for it. Where two peers that hold
//! everything of an owner differ all the same, one of them asks for everything again, once in [`DOUBT_PAUSE`].
//! Bounds: those of `rumours`; [`REQUESTED_MAX`] owners requested;
//! [`ANSWERS_MAX`] answers at once a session, [`ANSWERS_RATE`] a second; an entry that was not verified is not passed on.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use foldhash::fast::FixedState;
use indexmap::IndexMap;
use serde_bytes::ByteBuf;

use super::{
    rumours::{PUSH_MAX, Rumours, Source, advertise, delta_of, size},
    store::{Alive, Offer, Store},
    timers::{ANTI_ENTROPY, ANTI_ENTROPY_BUSY, BUSY_FOR, DOUBT_PAUSE, REQUEST_RETRY},
};
use crate::proto::{
    ids::SessionId,
    name::{PeerName, PeerUid},
    queue,
    rng::Rng,
    status::ChannelStatus,
    throttle::{Budget, hold_down},
    time::Instant,
    wire::{
        BUCKETS, Delta, Message, PAGE_MAX, Page, Span, Summary, Want, clean,
        entry::{Channel, Content, Entry, EntryKey, Point, Verifier, Version},
    },
};

/// Most owners of which a request is remembered; of more, several peers may be asked.
pub(super) const REQUESTED_MAX: usize = 8192;
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
    rumours: Rumours,
    /// What is requested until then.
    requested: BTreeMap<PeerName, Requested>,
    requested_until: Instant,
    pub(super) sessions: BTreeMap<SessionId, Neighbour>,
    compare_at: Instant,
    busy_until: Instant,
    /// Owners of which everything was asked for again, and when.
    doubted: BTreeMap<PeerName, Instant>,
    rng: Rng,
    errors: BTreeMap<String, (u64, String)>,
    /// The highest point of this peer's key that it did not make in this run: its store was restored, or copied.
    pub(super) foreign: Option<Point>,
    /// A session that entries came by which cannot be used, and why: the last since it was taken.
    pub(super) refused: Option<(SessionId, String)>,
    out: VecDeque<(SessionId, Message)>,
    updates: VecDeque<Update>,
}

/// The other end of a session.
#[derive(Debug)]
pub(super) struct Neighbour {
    peer: PeerName,
    /// Answers that it can have.
    budget: Budget,
}

/// What was requested of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Requested {
    want: Want,
    session: SessionId,
    /// Up to where that session has it.
    upto: Point,
}

/// What changed for the modules that read entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Update {
    /// An entry is new to this peer; the one that it replaced.
    New(Arc<Entry>, Option<Arc<Entry>>),
    /// An entry is gone without a newer one.
    Dropped(Arc<Entry>),
    /// Everything that an owner has said is held.
    Whole(PeerName),
}

impl Gossip {
    pub(super) fn new(me: PeerName, verifier: Arc<dyn Verifier>, rng: Rng, now: Instant) -> Self {
        Self {
            me,
            verifier,
            store: Store::default(),
            rumours: Rumours::new(me),
            requested: BTreeMap::new(),
            requested_until: now,
            sessions: BTreeMap::new(),
            compare_at: now + ANTI_ENTROPY,
            busy_until: now,
            doubted: BTreeMap::new(),
            rng,
            errors: BTreeMap::new(),
            foreign: None,
            refused: None,
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

    /// A session to `peer` is up: the side that `dialled` compares at once, for both.
    pub(super) fn session_up(&mut self, session: SessionId, peer: PeerName, dialled: bool, now: Instant) {
        self.sessions.insert(session, Neighbour { peer, budget: Budget::full(ANSWERS_MAX, ANSWERS_RATE, now) });
        if dialled {
            self.compare(session);
        }
    }

    /// An entry of this peer itself, newly signed.
    pub(super) fn publish(&mut self, entry: Arc<Entry>, now: Instant) {
        let owner = entry.key.owner;
        self.hold(entry, Source::Own, true, &|_, _| false, now);
        self.store.complete_own(owner);
    }

    /// A verified entry: of this peer itself, or that arrived on a session. `vouched` as in [`Store::offer`].
    pub(super) fn hold(
        &mut self,
        entry: Arc<Entry>,
        source: Source,
        vouched: bool,
        alive: Alive<'_>,
        now: Instant,
    ) -> Offer {
        let owner = entry.key.owner;
        let (stranger, before) = (self.store.summary(owner).is_none(), self.store.get(&entry.key).cloned());
        let offer = self.store.offer(Arc::clone(&entry), vouched, alive);
        if offer == Offer::New && stranger && source != Source::Own {
            // The retained entries of a forgotten peer are held again: new to the modules that read them.
            let others = self.store.of(owner).filter(|other| other.key != entry.key);
            self.updates.extend(others.map(|entry| Update::New(Arc::clone(entry), None)));
        }
        self.tell_dropped();
        if offer == Offer::New {
            if let Content::Unreadable(why) = &entry.content {
                self.error(entry.key.channel.name(), &format!("of {owner}: {why}"));
            }
            self.rumours.note(owner, source, now);
            self.busy_until = now + BUSY_FOR;
            self.compare_at = self.compare_at.min(now + self.pause(ANTI_ENTROPY_BUSY));
            if source != Source::Own {
                self.updates.push_back(Update::New(entry, before));
            }
        }
        offer
    }

    fn tell_dropped(&mut self) {
        self.updates.extend(self.store.dropped.drain(..).map(Update::Dropped));
    }

    pub(super) fn message(&mut self, session: SessionId, message: Message, alive: Alive<'_>, now: Instant) {
        if let Message::Delta(delta) = message {
            return self.delta(session, &delta, alive, now);
        }
        if !self.sessions.get_mut(&session).is_some_and(|neighbour| neighbour.budget.take(now)) {
            return;
        }
        match message {
            Message::Digest(theirs) if theirs != self.store.digest() => {
                self.out.push_back((session, Message::Buckets(self.store.digests().to_vec())));
            }
            Message::Advertise(owners) => self.request(session, owners.iter(), now),
            Message::Buckets(theirs) => self.buckets(session, &theirs),
            Message::Page(page) => self.page(session, &page, now),
            Message::Request(wants) => self.answer(session, &wants),
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
                Err(error) => return self.refuse(session, "?", &error.to_string()),
            }
        }
        let mut named: BTreeMap<PeerName, BTreeSet<EntryKey>> = BTreeMap::new();
        for (key, _) in newest.keys() {
            named.entry(key.owner).or_default().insert(key.clone());
        }
        let spans: BTreeMap<PeerName, &Span> = delta.spans.iter().map(|span| (span.owner, span)).collect();
        // An owner's record comes before its other entries.
        let mut all: Vec<_> = newest.into_iter().collect();
        all.sort_by_key(|((key, _), _)| (key.channel != Channel::Peers, key.owner));
        let neighbour = self.sessions.get(&session).map(|neighbour| neighbour.peer);
        let mut gained = false;
        for ((key, uid), (version, raw)) in all {
            if !self.may_be_new(&key, uid, version) {
                continue;
            }
            let inside = |span: &&Span| span.uid == uid && span.from < version.point && version.point <= span.to;
            let span = spans.get(&key.owner).copied().filter(inside);
            let vouched = span.is_some_and(|span| span.floor >= self.store.floor(key.owner));
            match self.verifier.open(raw) {
                Ok(entry) if key.owner == self.me => self.foreign = self.foreign.max(Some(entry.version.point)),
                Ok(entry) => {
                    let flooded = delta.flooded && neighbour == Some(key.owner);
                    let source = if flooded { Source::Flood } else { Source::Session(session) };
                    gained |= self.hold(entry, source, vouched, alive, now) == Offer::New;
                }
                // An honest peer passes on only what it verified: the rest of this message is not worth the effort.
                Err(error) => return self.refuse(session, key.channel.name(), &error.to_string()),
            }
        }
        for (owner, span) in spans {
            if owner != self.me && self.store.span(span, &named.remove(&owner).unwrap_or_default()) {
                self.updates.push_back(Update::Whole(owner));
            }
        }
        self.tell_dropped();
        if delta.more && gained {
            self.request_rest(session);
        }
    }

    fn may_be_new(&self, key: &EntryKey, uid: PeerUid, version: Version) -> bool {
        if key.owner != self.me {
            return self.store.may_be_new(key, uid, version);
        }
        // Another store of this peer's name is for others to find: they see a duplicate identity. What this peer said in
        // an earlier launch, it may not say in this one. A copy of its store may make another entry of the same point.
        let twin = |held: &Arc<Entry>| held.version.point == version.point && held.version < version;
        self.store.summary(self.me).is_some_and(|own| own.uid == uid && version.point > own.newest)
            || self.store.get(key).is_some_and(|held| held.uid == uid && twin(held))
    }

    /// What is wanted of an owner of which another peer holds this.
    fn want(&self, theirs: &Summary) -> Option<Want> {
        let Summary { owner, uid, complete, newest, .. } = *theirs;
        let since = match self.store.summary(owner) {
            Some(own) if owner == self.me => {
                let twin = newest == own.newest && theirs.digest != own.digest;
                let since = (newest > own.newest).then_some(own.newest);
                return (own.uid == uid && (twin || since.is_some())).then_some(Want { owner, uid, since });
            }
            // The record shows whose store of that name lives.
            Some(held) if held.uid != uid => None,
            Some(held) if complete > held.complete || newest > held.newest => Some(held.complete),
            Some(_) => return None,
            None => match self.store.retained_summary(owner).filter(|held| held.uid == uid) {
                Some(held) if newest <= held.newest => return None,
                Some(held) => Some(held.complete),
                None => Some(Point::ZERO),
            },
        };
        Some(Want { owner, uid, since })
    }

    /// The other side holds these: requests what is new, unless another peer was asked for just that.
    fn request<'a>(&mut self, session: SessionId, owners: impl Iterator<Item = &'a Summary>, now: Instant) {
        if self.requested_until <= now {
            self.requested.clear();
            self.requested_until = now + REQUEST_RETRY;
        }
        let mut wants = Vec::new();
        for theirs in owners {
            let Some(want) = self.want(theirs) else { continue };
            let upto = theirs.newest.max(theirs.complete);
            let asked = self.requested.get(&want.owner);
            if asked.is_some_and(|asked| asked.want == want && asked.upto >= upto) {
                continue;
            }
            if self.requested.len() < REQUESTED_MAX || asked.is_some() {
                self.requested.insert(want.owner, Requested { want, session, upto });
            }
            wants.push(want);
        }
        if !wants.is_empty() {
            self.out.push_back((session, Message::Request(wants)));
        }
    }

    /// Not everything that was requested of this session fitted its answer: requests the rest.
    fn request_rest(&mut self, session: SessionId) {
        let mut wants = Vec::new();
        for (owner, asked) in &mut self.requested {
            let complete = self.store.summary(*owner).map(|held| held.complete);
            if asked.session == session && asked.want.since.is_some() && complete.is_none_or(|held| held < asked.upto) {
                asked.want.since = Some(complete.unwrap_or(Point::ZERO));
                wants.push(asked.want);
            }
        }
        if wants.is_empty() {
            return self.compare(session);
        }
        self.out.extend(wants.chunks(PAGE_MAX).map(|wants| (session, Message::Request(wants.to_vec()))));
    }

    fn answer(&mut self, session: SessionId, wants: &[Want]) {
        self.send(session, delta_of(&self.store, wants));
    }

    fn send(&mut self, session: SessionId, delta: Delta) {
        if !delta.entries.is_empty() || !delta.spans.is_empty() {
            self.out.push_back((session, Message::Delta(delta)));
        }
    }

    pub(super) fn error(&mut self, channel: &str, what: &str) {
        let channel = clean(channel);
        if self.errors.len() < CHANNELS_SHOWN || self.errors.contains_key(&channel) {
            let (count, last) = self.errors.entry(channel).or_default();
            (*count, *last) = (*count + 1, clean(what));
        }
    }

    fn refuse(&mut self, session: SessionId, channel: &str, what: &str) {
        self.error(channel, what);
        self.refused = Some((session, what.to_owned()));
    }

    fn buckets(&mut self, session: SessionId, theirs: &[u64]) {
        if theirs.len() != BUCKETS {
            return self.refuse(session, "?", "a comparison of another shape");
        }
        let ours = self.store.digests();
        let differ: Vec<u8> = (0..=u8::MAX).filter(|n| ours[usize::from(*n)] != theirs[usize::from(*n)]).collect();
        if differ.is_empty() {
            return;
        }
        // Begin anywhere, so that a difference that stays does not hide those after it.
        let start = self.rng.below(differ.len() as u64) as usize;
        let mut page = Page { buckets: Vec::new(), owners: Vec::new(), more: false };
        for number in differ[start..].iter().chain(&differ[..start]) {
            let owners: Vec<Summary> = self.store.bucket(*number).collect();
            if page.owners.len() + owners.len() > PAGE_MAX {
                page.more = true;
                break;
            }
            page.buckets.push(*number);
            page.owners.extend(owners);
        }
        self.out.push_back((session, Message::Page(page)));
    }

    fn page(&mut self, session: SessionId, page: &Page, now: Instant) {
        let theirs: IndexMap<PeerName, &Summary, FixedState> = page.owners.iter().map(|s| (s.owner, s)).collect();
        let listed: BTreeSet<u8> = page.buckets.iter().copied().collect();
        let held: Vec<Summary> = listed.iter().flat_map(|number| self.store.bucket(*number)).collect();
        let mut newer = Vec::new();
        for own in held {
            let Summary { owner, uid, .. } = own;
            match theirs.get(&owner) {
                None => newer.push(Want { owner, uid, since: Some(Point::ZERO) }),
                Some(theirs) if theirs.uid != uid => newer.push(Want { owner, uid, since: None }),
                Some(theirs) if own.complete > theirs.complete || own.newest > theirs.newest => {
                    newer.push(Want { owner, uid, since: Some(theirs.complete) });
                }
                Some(theirs) => self.compare_owner(&own, theirs, now),
            }
        }
        let before = self.out.len();
        let of_listed = theirs.into_values().filter(|s| listed.contains(&Store::bucket_of(s.owner)));
        self.request(session, of_listed, now);
        if self.out.len() > before && newer.is_empty() && page.more {
            self.compare(session);
        }
        self.offer_newer(session, &newer);
    }

    /// What is newer here is sent at once while it is little. Of much the other side is only told: several peers compare with
    /// it at the same time, and it asks one of them.
    fn offer_newer(&mut self, session: SessionId, newer: &[Want]) {
        let delta = delta_of(&self.store, newer);
        if !delta.more && size(&delta) <= PUSH_MAX {
            return self.send(session, delta);
        }
        let (records, much): (Vec<Want>, Vec<Want>) = newer.iter().partition(|want| want.since.is_none());
        self.answer(session, &records);
        let owners: Vec<Summary> = much.iter().filter_map(|want| self.store.summary(want.owner)).collect();
        self.out.extend(advertise(session, &owners));
    }

    /// Both sides are equally far with an owner: then they hold the same, or something went wrong.
    fn compare_owner(&mut self, own: &Summary, theirs: &Summary, now: Instant) {
        let record = self.store.record(own.owner);
        // While it says anew what it said before its relaunch, peers hold more or less of what it said then.
        let settled = record.is_none_or(|record| record.floor.0 == record.point.0);
        let equal = (own.complete, own.newest) == (theirs.complete, theirs.newest);
        let doubted = self.doubted.get(&own.owner).is_some_and(|since| now.since(*since) < DOUBT_PAUSE);
        if equal && settled && own.digest != theirs.digest && own.owner != self.me && !doubted {
            self.doubted.insert(own.owner, now);
            self.store.doubt(own.owner);
        }
    }

    fn compare(&mut self, session: SessionId) {
        self.out.push_back((session, Message::Digest(self.store.digest())));
    }

    /// A few records for a peer that is refused, so that it learns of others.
    pub(super) fn sample(&mut self, count: usize) -> Delta {
        let all: Vec<&Arc<Entry>> = self.store.iter().filter(|entry| entry.key.channel == Channel::Peers).collect();
        let start = self.rng.below(all.len() as u64) as usize;
        let some = all[start..].iter().chain(&all[..start]).take(count);
        Delta { entries: some.map(|e| ByteBuf::from(e.raw.to_vec())).collect(), ..Delta::default() }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.rumours.due().is_some_and(|at| at <= now) {
            self.flush();
        }
        if self.compare_at <= now {
            let mean = if now < self.busy_until { ANTI_ENTROPY_BUSY } else { ANTI_ENTROPY };
            self.compare_at = now + self.rng.jitter(self.pause(mean));
            self.pick(1).into_iter().for_each(|session| self.compare(session));
            self.store.expire(now);
            self.doubted.retain(|_, since| now.since(*since) < DOUBT_PAUSE);
        }
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        self.rumours.due().map_or(self.compare_at, |at| at.min(self.compare_at))
    }

    /// Time between two comparisons: in a large network much is under way as rumours, which take as long to spread.
    fn pause(&self, least: Duration) -> Duration {
        least.max(hold_down(self.store.owners()) * 2)
    }

    fn flush(&mut self) {
        let mut order: Vec<SessionId> = self.sessions.keys().copied().collect();
        let all = order.len();
        self.rng.sample(&mut order, all);
        let order: Vec<(SessionId, PeerName)> =
            order.into_iter().map(|session| (session, self.sessions[&session].peer)).collect();
        self.out.extend(self.rumours.flush(&self.store, &order));
    }

    fn pick(&mut self, count: usize) -> Vec<SessionId> {
        let mut sessions: Vec<SessionId> = self.sessions.keys().copied().collect();
        self.rng.sample(&mut sessions, count);
        sessions
    }

    pub(super) fn channels(&self) -> Vec<ChannelStatus> {
        let none = |channel: &str| (Channel::from(smol_str::SmolStr::from(channel)), 0);
        let mut counts: BTreeMap<Channel, usize> = self.errors.keys().map(|channel| none(channel)).collect();
        for entry in self.store.iter().filter(|entry| !entry.is_tombstone()) {
            *counts.entry(entry.key.channel.clone()).or_default() += 1;
        }
        let status = |(channel, entries): (Channel, usize)| {
            let name = channel.name().to_owned();
            let (errors, last_error) = self.errors.get(&name).cloned().unwrap_or_default();
            ChannelStatus { known: !matches!(channel, Channel::Unknown(_)), name, entries, errors, last_error }
        };
        counts.into_iter().map(status).collect()
    }
}

#[cfg(test)]
mod tests;
