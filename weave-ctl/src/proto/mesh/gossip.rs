//! How entries spread: news by rumour, all else by comparison.
//!
//! News goes on to [`FANOUT`] links, chosen anew each time, once, after [`PAUSE`] in which more of it may gather: so an
//! owner that changes fast costs others no more than its last change. Most who hear of news have it already: of an entry
//! longer than [`WHOLE_MAX`] only the owner sends the whole, all others tell how new it is, and who lacks it asks one of
//! them. Every [`COMPARE`] (sooner after news) one link is asked whether its sum of all digests is the same; where it is
//! not, buckets are compared, then what is in them, and both sides send what the other lacks, page by page. Nothing is
//! answered that would need state about the asker, and full state is never flooded.
//!
//! ```text
//! News -> (is news) Want -> Entries
//! Sum -> (differs) Buckets -> List of those that differ -> Entries newer here, Want what is newer there -> Entries
//! ```
//! An error in a channel is counted there and quarantined: it changes nothing else and closes no link.
//! Who tells of what it then does not send delays no more than one rumour of it: comparisons do not wait for it.
//! Bounds: [`PAGE_BYTES`] a message; [`ASKED_MAX`] entries asked for; [`ANSWERS_MAX`] answers at once a link,
//! [`ANSWERS_RATE`] a second; what was not verified is not passed on.

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
    entry::{Content, Entry, Opener, PEERS},
    store::{Offer, Store},
    topology::settle_time,
    wire::{BUCKETS, ENTRIES_MAX, Entries, Key, LIST_MAX, List, Message, Stamp, Told, WireError, clean},
};
use crate::proto::{
    budget::Budget,
    command::ChannelStatus,
    io::LinkId,
    name::{PeerName, PeerUid},
    queue,
    rng::Rng,
    time::Instant,
};

/// Links that news goes on to.
pub const FANOUT: usize = 6;
/// Time in which news gathers.
pub const PAUSE: Duration = Duration::from_millis(50);
/// Time between two comparisons, on average; in a large mesh two [`settle_time`]s, where that is longer.
pub const COMPARE: Duration = Duration::from_secs(3);
/// The same within [`BUSY`] after news.
pub const COMPARE_BUSY: Duration = Duration::from_secs(1);
/// How long news counts as recent.
pub const BUSY: Duration = Duration::from_secs(5);
/// Longest entry in bytes that is sent on to those who may have it: about ten times what tells how new it is.
pub const WHOLE_MAX: usize = 512;
/// Longest time for which others are not asked for what one was asked for.
pub const ASK_AGAIN: Duration = Duration::from_millis(500);
/// Most entries of which it is remembered that they were asked for; of more, several may be asked.
pub const ASKED_MAX: usize = 8192;
/// Most bytes of entries in a message.
pub const PAGE_BYTES: usize = 256 * 1024;
/// Most answers to comparisons that one link can have at once.
pub const ANSWERS_MAX: u32 = 64;
/// Answers that a link is granted a second.
pub const ANSWERS_RATE: u32 = 20;
/// Most channels whose errors are told apart.
const CHANNELS_SHOWN: usize = 64;

/// Tells whether a store of some name is known to be alive.
pub type Alive<'a> = &'a dyn Fn(PeerName, PeerUid) -> bool;

/// See the head of this file.
#[derive(Debug)]
pub struct Gossip {
    me: PeerName,
    opener: Arc<dyn Opener>,
    store: Store,
    fresh: BTreeMap<Key, Option<LinkId>>,
    flush_at: Option<Instant>,
    /// What rumours made this peer ask for, until then.
    asked: BTreeMap<Key, (PeerUid, Stamp)>,
    asked_until: Instant,
    links: BTreeMap<LinkId, Budget>,
    compare_at: Instant,
    busy_until: Instant,
    rng: Rng,
    /// Channels that others in this peer read.
    known: Vec<&'static str>,
    errors: BTreeMap<String, (u64, String)>,
    /// The newest stamp of this peer's own store that it did not make in this run.
    outbid: Option<Stamp>,
    out: VecDeque<(LinkId, Message)>,
    news: VecDeque<News>,
}

/// An entry that is news to this peer.
#[derive(Clone, Debug)]
pub struct News {
    /// What is held now.
    pub entry: Arc<Entry>,
    /// What it replaced.
    pub before: Option<Arc<Entry>>,
}

impl Gossip {
    /// Nothing known, nobody linked.
    #[must_use]
    pub fn new(me: PeerName, known: Vec<&'static str>, opener: Arc<dyn Opener>, rng: Rng, now: Instant) -> Self {
        Self {
            me,
            opener,
            store: Store::default(),
            fresh: BTreeMap::new(),
            flush_at: None,
            asked: BTreeMap::new(),
            asked_until: now,
            links: BTreeMap::new(),
            compare_at: now + COMPARE,
            busy_until: now,
            rng,
            known,
            errors: BTreeMap::new(),
            outbid: None,
            out: VecDeque::new(),
            news: VecDeque::new(),
        }
    }

    /// What is held.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What is held, to forget and restore.
    pub fn store_mut(&mut self) -> &mut Store {
        &mut self.store
    }

    /// Verifies an entry that came by another way than gossip.
    ///
    /// # Errors
    /// As [`Opener::open`].
    pub fn open(&self, raw: &[u8]) -> Result<Arc<Entry>, WireError> {
        self.opener.open(raw)
    }

    /// The next message to send.
    pub fn poll_send(&mut self) -> Option<(LinkId, Message)> {
        queue::pop(&mut self.out)
    }

    /// The next entry that is news to this peer.
    pub fn poll_news(&mut self) -> Option<News> {
        queue::pop(&mut self.news)
    }

    /// A link is past its hello: whoever `dialled` compares at once, which is for both.
    pub fn link_up(&mut self, link: LinkId, dialled: bool, now: Instant) {
        self.links.insert(link, Budget::full(ANSWERS_MAX, ANSWERS_RATE, now));
        if dialled {
            self.out.push_back((link, Message::Sum(self.store.sum())));
        }
    }

    /// A link is gone.
    pub fn link_down(&mut self, link: LinkId) {
        self.links.remove(&link);
    }

    /// An entry of this peer itself, newly signed.
    pub fn publish(&mut self, entry: Arc<Entry>, now: Instant) {
        self.hold(entry, None, &|_, _| false, now);
    }

    /// A verified entry that came with a hello; what became of it.
    pub fn introduce(&mut self, link: LinkId, entry: Arc<Entry>, alive: Alive<'_>, now: Instant) -> Offer {
        self.hold(entry, Some(link), alive, now)
    }

    fn hold(&mut self, entry: Arc<Entry>, from: Option<LinkId>, alive: Alive<'_>, now: Instant) -> Offer {
        let (stranger, before) = (!self.store.holds(entry.key.owner), self.store.get(&entry.key).cloned());
        let offer = self.store.offer(Arc::clone(&entry), alive);
        if offer == Offer::New && stranger && from.is_some() {
            // What was kept aside of a forgotten peer is held again: news to those who read it.
            let others = self.store.of(entry.key.owner).filter(|other| other.key != entry.key);
            self.news.extend(others.map(|entry| News { entry: Arc::clone(entry), before: None }));
        }
        if offer == Offer::New {
            if let Content::Unreadable(why) = &entry.content {
                self.error(&entry.key.channel, &format!("of {}: {why}", entry.key.owner));
            }
            self.fresh.insert(entry.key.clone(), from);
            self.flush_at.get_or_insert(now + PAUSE);
            self.busy_until = now + BUSY;
            self.compare_at = self.compare_at.min(now + self.pause(COMPARE_BUSY));
            if from.is_some() {
                self.news.push_back(News { entry, before });
            }
        }
        offer
    }

    /// Takes in a message of this room.
    pub fn message(&mut self, link: LinkId, message: Message, alive: Alive<'_>, now: Instant) {
        if let Message::Entries(entries) = message {
            return self.entries(link, &entries, alive, now);
        }
        if !self.links.get_mut(&link).is_some_and(|budget| budget.take(now)) {
            return;
        }
        match message {
            Message::Sum(theirs) if theirs != self.store.sum() => {
                self.out.push_back((link, Message::Buckets(self.store.sums().to_vec())));
            }
            Message::News(told) => self.told(link, told, now),
            Message::Buckets(theirs) => self.buckets(link, &theirs),
            Message::List(list) => self.list(link, &list),
            Message::Want(keys) => {
                let page = page(keys.iter().filter_map(|key| self.store.get(key)));
                self.send(link, page);
            }
            _ => {}
        }
    }

    fn entries(&mut self, link: LinkId, entries: &Entries, alive: Alive<'_>, now: Instant) {
        // Of several versions in one message the newest alone is worth verifying.
        let mut newest: BTreeMap<(Key, PeerUid), (Stamp, &[u8])> = BTreeMap::new();
        for raw in &entries.entries {
            match self.opener.peek(raw) {
                Ok((key, uid, stamp)) => {
                    let held = newest.entry((key, uid)).or_insert((stamp, raw));
                    if stamp > held.0 {
                        *held = (stamp, raw);
                    }
                }
                Err(error) => return self.error("?", &error.to_string()),
            }
        }
        // An owner's record comes before what else it has.
        let mut all: Vec<_> = newest.into_iter().collect();
        all.sort_by_key(|((key, _), _)| (key.channel != PEERS, key.owner));
        let mut gained = false;
        for ((key, uid), (stamp, raw)) in all {
            if !self.may_be_news(&key, uid, stamp) {
                continue;
            }
            match self.opener.open(raw) {
                Ok(entry) if key.owner == self.me => self.outbid = self.outbid.max(Some(entry.stamp)),
                Ok(entry) => match self.hold(entry, Some(link), alive, now) {
                    Offer::New => gained = true,
                    Offer::Rival => self.answer_rival(link, &key, stamp, now),
                    Offer::Old | Offer::Orphan | Offer::Full => {}
                },
                // An honest peer passes on only what it verified: the rest of this message is not worth the effort.
                Err(error) => return self.error(&key.channel, &error.to_string()),
            }
        }
        if entries.more && gained {
            self.out.push_back((link, Message::Sum(self.store.sum())));
        }
    }

    fn may_be_news(&self, key: &Key, uid: PeerUid, stamp: Stamp) -> bool {
        // Another store of this peer's name is none of its business; it is for others to find the collision.
        let foreign = key.owner == self.me && self.store.version(self.me).is_none_or(|(own, _)| own != uid);
        !foreign && !self.is_former(key, stamp) && self.store.may_be_news(key, uid, stamp)
    }

    /// What this peer itself said in an earlier launch, and may not have said in this one.
    fn is_former(&self, key: &Key, stamp: Stamp) -> bool {
        key.owner == self.me && self.store.version(self.me).is_none_or(|(_, own)| stamp.incarnation < own.incarnation)
    }

    /// The newest stamp under this peer's own name and key that others hold, if it is none of this run: its store was
    /// set back to what it was before, or somebody runs with a copy of it.
    pub fn take_outbid(&mut self) -> Option<Stamp> {
        self.outbid.take()
    }

    /// The other side holds these: asks for what is news, unless another one was asked for just that.
    fn told(&mut self, link: LinkId, told: Vec<Told>, now: Instant) {
        if self.asked_until <= now {
            self.asked.clear();
            self.asked_until = now + ASK_AGAIN;
        }
        let mut want = Vec::new();
        for (key, uid, stamp) in told {
            if !self.may_be_news(&key, uid, stamp) || self.asked.get(&key) == Some(&(uid, stamp)) {
                continue;
            }
            if self.asked.len() < ASKED_MAX {
                self.asked.insert(key.clone(), (uid, stamp));
            }
            want.push(key);
        }
        if !want.is_empty() {
            self.out.push_back((link, Message::Want(want)));
        }
    }

    /// The other side holds an entry of a store that another one took over from. Versions of two stores say nothing about
    /// which is newer, but comparisons go by them: where the former's are higher, nobody else would tell that side.
    fn answer_rival(&mut self, link: LinkId, key: &Key, stamp: Stamp, now: Instant) {
        let Some(held) = self.store.get(key).filter(|held| stamp > held.stamp).cloned() else { return };
        if self.links.get_mut(&link).is_some_and(|budget| budget.take(now)) {
            self.send(link, page(iter::once(&held)));
        }
    }

    /// True when somebody in this peer reads the channel.
    #[must_use]
    pub fn knows(&self, channel: &str) -> bool {
        channel == PEERS || self.reader(channel).is_some()
    }

    /// The channel of that name, if somebody in this peer reads it beside the mesh.
    #[must_use]
    pub fn reader(&self, channel: &str) -> Option<&'static str> {
        self.known.iter().copied().find(|known| *known == channel)
    }

    /// What came in `channel` could not be used.
    pub fn error(&mut self, channel: &str, what: &str) {
        let channel = clean(channel);
        if self.errors.len() < CHANNELS_SHOWN || self.errors.contains_key(&channel) {
            let (count, last) = self.errors.entry(channel).or_default();
            *count += 1;
            *last = clean(what);
        }
    }

    fn buckets(&mut self, link: LinkId, theirs: &[u64]) {
        if theirs.len() != BUCKETS {
            return self.error("?", "a comparison of another shape");
        }
        let ours = self.store.sums();
        let differ: Vec<u8> = (0..=u8::MAX).filter(|n| ours[usize::from(*n)] != theirs[usize::from(*n)]).collect();
        if differ.is_empty() {
            return;
        }
        // Begin anywhere, so that a difference that stays does not hide those behind it.
        let start = self.rng.below(differ.len() as u64) as usize;
        let mut list = List { buckets: Vec::new(), items: Vec::new(), more: false };
        for number in differ[start..].iter().chain(&differ[..start]) {
            let items = self.store.bucket(*number);
            let items = items.map(|(owner, channel, stamp, _)| (Key { owner, channel: channel.into() }, stamp));
            let items: Vec<_> = items.collect();
            if list.items.len() + items.len() > LIST_MAX {
                list.more = true;
                break;
            }
            list.buckets.push(*number);
            list.items.extend(items);
        }
        self.out.push_back((link, Message::List(list)));
    }

    fn list(&mut self, link: LinkId, list: &List) {
        let theirs = list.items.iter().map(|item| ((item.0.owner, item.0.channel.as_str()), item));
        let theirs: IndexMap<_, _, FixedState> = theirs.collect();
        let listed: BTreeSet<u8> = list.buckets.iter().copied().collect();
        let of_listed = |key: &Key| listed.contains(&Store::bucket_of(key.owner));
        let want = theirs.values().filter(|(key, stamp)| self.store.newer(key, *stamp) && !self.is_former(key, *stamp));
        let want: Vec<Key> = want.filter(|(key, _)| of_listed(key)).map(|(key, _)| key.clone()).collect();
        let held = listed.iter().flat_map(|number| self.store.bucket(*number));
        let newer =
            held.filter(|(owner, channel, stamp, _)| theirs.get(&(*owner, *channel)).is_none_or(|t| *stamp > t.1));
        let newer = page(newer.map(|(.., entry)| entry));
        let gains = !want.is_empty();
        if gains {
            self.out.push_back((link, Message::Want(want)));
        }
        if newer.entries.is_empty() && list.more && gains {
            self.out.push_back((link, Message::Sum(self.store.sum())));
        }
        self.send(link, newer);
    }

    /// Sends `page`, unless there is nothing on it.
    fn send(&mut self, link: LinkId, page: Entries) {
        if !page.entries.is_empty() {
            self.out.push_back((link, Message::Entries(page)));
        }
    }

    /// A few entries for a peer that is refused, so that it learns of others.
    #[must_use]
    pub fn sample(&mut self, count: usize) -> Message {
        let all: Vec<&Arc<Entry>> = self.store.iter().filter(|e| e.key.channel == PEERS).collect();
        let start = self.rng.below(all.len() as u64) as usize;
        let some = all[start..].iter().chain(&all[..start]).take(count);
        Message::Entries(Entries { entries: some.map(|e| ByteBuf::from(e.raw.to_vec())).collect(), more: false })
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.flush_at.is_some_and(|at| at <= now) {
            self.flush_at = None;
            self.flush();
        }
        if self.compare_at <= now {
            let mean = if now < self.busy_until { COMPARE_BUSY } else { COMPARE };
            self.compare_at = now + self.rng.jitter(self.pause(mean));
            if let Some(link) = self.pick(1).first() {
                self.out.push_back((*link, Message::Sum(self.store.sum())));
            }
            self.store.expire(now);
        }
    }

    /// When [`Self::handle_timeout`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Instant {
        self.flush_at.map_or(self.compare_at, |at| at.min(self.compare_at))
    }

    /// Time between two comparisons: in a large mesh much is on its way as news, which takes as long to be told.
    fn pause(&self, least: Duration) -> Duration {
        least.max(settle_time(self.store.owners()) * 2)
    }

    fn flush(&mut self) {
        let fresh: Vec<(Arc<Entry>, Option<LinkId>)> = std::mem::take(&mut self.fresh)
            .into_iter()
            .filter_map(|(key, from)| self.store.get(&key).map(|entry| (Arc::clone(entry), from)))
            .collect();
        for link in self.pick(FANOUT) {
            let mut whole = Vec::new();
            let mut told: Vec<Told> = Vec::new();
            for (entry, from) in fresh.iter().filter(|(_, from)| *from != Some(link)) {
                if from.is_none() || entry.raw.len() <= WHOLE_MAX {
                    whole.push(Arc::clone(entry));
                } else {
                    told.push((entry.key.clone(), entry.uid, entry.stamp));
                }
            }
            let mut rest = whole.as_slice();
            while !rest.is_empty() {
                let page = page(rest.iter());
                rest = &rest[page.entries.len()..];
                self.out.push_back((link, Message::Entries(Entries { more: false, ..page })));
            }
            self.out.extend(told.chunks(LIST_MAX).map(|told| (link, Message::News(told.to_vec()))));
        }
    }

    /// Up to `count` links, at random.
    fn pick(&mut self, count: usize) -> Vec<LinkId> {
        let mut links: Vec<LinkId> = self.links.keys().copied().collect();
        self.rng.sample(&mut links, count);
        links
    }

    /// What is gossiped, by channel.
    #[must_use]
    pub fn channels(&self) -> Vec<ChannelStatus> {
        let mut counts: BTreeMap<&str, usize> = self.errors.keys().map(|channel| (channel.as_str(), 0)).collect();
        for entry in self.store.iter() {
            *counts.entry(&entry.key.channel).or_default() += 1;
        }
        let status = |(name, entries): (&str, usize)| {
            let (errors, last_error) = self.errors.get(name).cloned().unwrap_or_default();
            ChannelStatus { name: name.to_owned(), known: self.knows(name), entries, errors, last_error }
        };
        counts.into_iter().map(status).collect()
    }
}

/// As many of `entries` as fit a message, at least one.
fn page<'a>(entries: impl Iterator<Item = &'a Arc<Entry>>) -> Entries {
    let mut page = Entries::default();
    let mut bytes = 0;
    for entry in entries {
        bytes += entry.raw.len();
        if page.entries.len() >= ENTRIES_MAX || (bytes > PAGE_BYTES && !page.entries.is_empty()) {
            page.more = true;
            break;
        }
        page.entries.push(ByteBuf::from(entry.raw.to_vec()));
    }
    page
}

#[cfg(test)]
mod tests;
