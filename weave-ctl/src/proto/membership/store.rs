//! Holds the entries of all peers, this one's among them, and the digests by which two peers find what differs.
//!
//! An entry's version only rises, as long as its owner's store is the same. Of each owner is known up to which point
//! everything is held ([`Summary::complete`]): a peer that lacks something asks for what is above that point. Tombstones up
//! to the owner's floor are dropped. A peer that does not hold everything up to there may hold entries that were deleted
//! meanwhile: it asks for everything of that owner again, and drops what is not named ([`Store::span`]); and it takes no
//! older entry from peers that do not know of the floor, and names none itself that may be deleted. Of launches before that
//! of the floor nothing is left: the owner said anew what still holds. So nothing deleted comes back.
//! The entries of a forgotten owner are retained for [`RETAINED_FOR`]: neighbours that have not forgotten it yet do not
//! bring it back, and a healed partition does.
//! Bounds: [`OWNERS_MAX`] owners, as many retained; [`ENTRIES_MAX`] entries an owner; [`BYTES_MAX`] bytes in all.

use std::{
    collections::{BTreeMap, BTreeSet},
    iter, mem,
    sync::Arc,
};

use thin_vec::ThinVec;

use super::timers::RETAINED_FOR;
use crate::proto::{
    name::{PeerName, PeerUid},
    time::Instant,
    wire::{
        BUCKETS, Span, Summary,
        entry::{Channel, Entry, EntryKey, PeerRecord, Point, Version},
    },
};

/// Most peers, as many as the kernel's map of tunnels holds.
pub(super) const OWNERS_MAX: usize = weave_common::map::TUNNELS_MAX as usize;
/// Most entries of one owner, tombstones among them.
pub(super) const ENTRIES_MAX: usize = 16_384;
/// Most bytes of all entries held.
pub(super) const BYTES_MAX: usize = 256 * 1024 * 1024;

/// True while the controller of an identity is known to be alive: another store does not take its name over.
pub(crate) type Alive<'a> = &'a dyn Fn(PeerName, PeerUid) -> bool;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// Not newer than what is held, or deleted since.
    Old,
    /// Newer: it is held now.
    New,
    /// Of another store under a name in use: a duplicate identity.
    Duplicate,
    /// Of an owner without a record.
    Orphan,
    Full,
}

#[derive(Debug)]
struct Held {
    uid: PeerUid,
    complete: Point,
    newest: Point,
    /// Wrapping sum over all entries.
    digest: u64,
    record: Arc<Entry>,
    /// Of other channels, in order of channel and key.
    others: ThinVec<Arc<Entry>>,
    /// What may have been deleted: to be dropped when everything up to the floor is held and none of it was named.
    doubtful: Option<BTreeSet<EntryKey>>,
}

impl Held {
    fn new(record: Arc<Entry>) -> Self {
        Self {
            uid: record.uid,
            complete: Point::ZERO,
            newest: record.version.point,
            digest: record.version.digest,
            record,
            others: ThinVec::new(),
            doubtful: None,
        }
    }

    /// The record, and then the entries of other channels.
    fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        iter::once(&self.record).chain(&self.others)
    }

    fn len(&self) -> usize {
        1 + self.others.len()
    }

    fn floor(&self) -> Point {
        self.record.record().map_or(Point::ZERO, |record| record.floor)
    }

    fn get(&self, key: &EntryKey) -> Option<&Arc<Entry>> {
        if key.channel == Channel::Peers { Some(&self.record) } else { self.find(key).ok().map(|at| &self.others[at]) }
    }

    fn find(&self, key: &EntryKey) -> Result<usize, usize> {
        self.others.binary_search_by(|entry| entry.key.cmp(key))
    }

    /// True for what the owner said in a launch before that of its floor.
    fn is_of_former_launch(&self, entry: &Entry) -> bool {
        entry.key.channel != Channel::Peers && entry.version.point.0 < self.floor().0
    }

    fn is_doubtful(&self, key: &EntryKey) -> bool {
        self.doubtful.as_ref().is_some_and(|doubtful| doubtful.contains(key))
    }

    fn version(&self, key: &EntryKey) -> Option<Version> {
        self.get(key).map(|entry| entry.version)
    }

    /// Puts `entry` in the place of the entry that it replaces, and returns that.
    fn put(&mut self, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        self.newest = self.newest.max(entry.version.point);
        self.digest = self.digest.wrapping_add(entry.version.digest);
        let old = if entry.key.channel == Channel::Peers {
            Some(mem::replace(&mut self.record, entry))
        } else {
            match self.find(&entry.key) {
                Ok(at) => Some(mem::replace(&mut self.others[at], entry)),
                Err(at) => {
                    if self.others.len() < 4 {
                        // Most have one or two, and thousands of owners are held.
                        self.others.reserve_exact(1);
                    }
                    self.others.insert(at, entry);
                    None
                }
            }
        };
        let digest = old.as_ref().map_or(0, |old| old.version.digest);
        self.digest = self.digest.wrapping_sub(digest);
        old
    }

    /// Removes the entries of other channels that are `gone`.
    fn remove(&mut self, gone: impl Fn(&Entry) -> bool) -> Vec<Arc<Entry>> {
        let (gone, kept): (Vec<_>, Vec<_>) = mem::take(&mut self.others).into_iter().partition(|entry| gone(entry));
        self.others = ThinVec::from(kept);
        let digest = gone.iter().fold(0_u64, |sum, entry| sum.wrapping_add(entry.version.digest));
        self.digest = self.digest.wrapping_sub(digest);
        gone
    }

    fn summary(&self) -> Summary {
        let owner = self.record.key.owner;
        Summary { owner, uid: self.uid, complete: self.complete, newest: self.newest, digest: self.digest }
    }

    /// What is held may be deleted by now, or something is missing: begin anew.
    fn doubt(&mut self) {
        let floor = self.floor();
        let doubtful = self.others.iter().filter(|entry| entry.version.point <= floor).map(|entry| entry.key.clone());
        self.doubtful = Some(doubtful.collect::<BTreeSet<_>>()).filter(|keys| !keys.is_empty());
        self.complete = Point::ZERO;
    }
}

#[derive(Debug)]
pub(super) struct Store {
    /// In order of name in each bucket.
    buckets: Vec<Vec<(PeerName, Held)>>,
    digests: Vec<u64>,
    owners: usize,
    bytes: usize,
    retained: BTreeMap<PeerName, (Held, Instant)>,
    /// Entries that went without a newer version: readers of their channels are to be told.
    pub(super) dropped: Vec<Arc<Entry>>,
}

impl Default for Store {
    fn default() -> Self {
        let buckets = iter::repeat_with(Vec::new).take(BUCKETS).collect();
        Self { buckets, digests: vec![0; BUCKETS], owners: 0, bytes: 0, retained: BTreeMap::new(), dropped: Vec::new() }
    }
}

/// The bucket of an owner: FNV-1a, folded.
fn bucket(owner: PeerName) -> usize {
    let hash = owner.bytes().iter().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(*b)).wrapping_mul(0x0100_0193));
    ((hash ^ (hash >> 8) ^ (hash >> 16)) & 0xff) as usize
}

fn find(bucket: &[(PeerName, Held)], owner: PeerName) -> Result<usize, usize> {
    bucket.binary_search_by_key(&owner, |(name, _)| *name)
}

impl Store {
    fn held(&self, owner: PeerName) -> Option<&Held> {
        let bucket = &self.buckets[bucket(owner)];
        find(bucket, owner).ok().map(|at| &bucket[at].1)
    }

    /// Bytes of all entries held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Changes what is held of an owner, and keeps digests and bytes true.
    fn update<T>(&mut self, owner: PeerName, change: impl FnOnce(&mut Held) -> (T, Vec<Arc<Entry>>)) -> Option<T> {
        let number = bucket(owner);
        let at = find(&self.buckets[number], owner).ok()?;
        let held = &mut self.buckets[number][at].1;
        let before = held.digest;
        let (result, gone) = change(held);
        self.digests[number] = self.digests[number].wrapping_sub(before).wrapping_add(held.digest);
        self.bytes -= gone.iter().map(|entry| entry.raw.len()).sum::<usize>();
        Some(result)
    }

    /// Everything of `owner`: its record, and then the rest in order of channel and key.
    pub(super) fn of(&self, owner: PeerName) -> impl Iterator<Item = &Arc<Entry>> {
        self.held(owner).into_iter().flat_map(Held::iter)
    }

    pub(super) fn get(&self, key: &EntryKey) -> Option<&Arc<Entry>> {
        self.held(key.owner)?.get(key)
    }

    pub(super) fn record(&self, peer: PeerName) -> Option<&PeerRecord> {
        self.held(peer)?.record.record()
    }

    /// All owners, in no order that means anything.
    pub(super) fn names(&self) -> impl Iterator<Item = PeerName> {
        self.buckets.iter().flatten().map(|(name, _)| *name)
    }

    /// All records, in no order that means anything.
    pub(super) fn records(&self) -> impl Iterator<Item = &PeerRecord> {
        self.record_entries().filter_map(|entry| entry.record())
    }

    /// The same as entries.
    pub(super) fn record_entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.buckets.iter().flatten().map(|(_, held)| &held.record)
    }

    /// All entries, in no order that means anything.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.buckets.iter().flatten().flat_map(|(_, held)| held.iter())
    }

    pub(super) fn owners(&self) -> usize {
        self.owners
    }

    pub(super) fn digests(&self) -> &[u64] {
        &self.digests
    }

    pub(super) fn digest(&self) -> u64 {
        self.digests.iter().fold(0, |all: u64, one| all.rotate_left(1) ^ one)
    }

    pub(super) fn bucket(&self, number: u8) -> impl Iterator<Item = Summary> {
        self.buckets[usize::from(number)].iter().map(|(_, held)| held.summary())
    }

    pub(super) fn bucket_of(owner: PeerName) -> u8 {
        bucket(owner) as u8
    }

    pub(super) fn summary(&self, owner: PeerName) -> Option<Summary> {
        self.held(owner).map(Held::summary)
    }

    /// What is retained of a forgotten owner.
    pub(super) fn retained_summary(&self, owner: PeerName) -> Option<Summary> {
        self.retained.get(&owner).map(|(held, _)| held.summary())
    }

    /// What the owner deleted up to this point is gone for good.
    pub(super) fn floor(&self, owner: PeerName) -> Point {
        self.held(owner).map_or(Point::ZERO, Held::floor)
    }

    /// Everything of `owner` above `since` in the order in which it was made, its record before all; without what may be
    /// deleted.
    pub(super) fn since(&self, owner: PeerName, since: Point) -> Vec<&Arc<Entry>> {
        let Some(held) = self.held(owner) else { return Vec::new() };
        let above = held.iter().filter(|entry| entry.version.point > since);
        let mut all: Vec<&Arc<Entry>> = above.filter(|entry| !held.is_doubtful(&entry.key)).collect();
        all.sort_by_key(|entry| (entry.key.channel != Channel::Peers, entry.version.point));
        all
    }

    /// True when an entry of this store may be new. Versions of two stores cannot be compared.
    pub(super) fn may_be_new(&self, key: &EntryKey, uid: PeerUid, version: Version) -> bool {
        let Some(held) = self.held(key.owner) else {
            let retained = self.retained.get(&key.owner).filter(|(held, _)| held.uid == uid);
            return retained.and_then(|(held, _)| held.version(key)).is_none_or(|held| version > held);
        };
        if held.uid == uid {
            held.version(key).is_none_or(|held| version > held)
        } else {
            key.channel == Channel::Peers
        }
    }

    /// `vouched`: it came with a span that names all there is of its owner around it.
    pub(super) fn offer(&mut self, entry: Arc<Entry>, vouched: bool, alive: Alive<'_>) -> Offer {
        let owner = entry.key.owner;
        let peers = entry.key.channel == Channel::Peers;
        let Some(held) = self.held(owner) else {
            return if peers { self.offer_stranger(entry) } else { Offer::Orphan };
        };
        if held.uid != entry.uid {
            if !peers || alive(owner, held.uid) {
                return Offer::Duplicate;
            }
            if let Some(former) = self.take(owner) {
                self.dropped.extend(former.others);
            }
            return self.insert(entry);
        }
        let below = entry.version.point <= held.floor();
        match held.version(&entry.key) {
            Some(version) if entry.version <= version => Offer::Old,
            _ if held.is_of_former_launch(&entry) => Offer::Old,
            _ if below && entry.is_tombstone() => Offer::Old,
            None if below && !vouched => Offer::Old,
            None if held.len() >= ENTRIES_MAX => Offer::Full,
            _ => self.insert(entry),
        }
    }

    fn offer_stranger(&mut self, entry: Arc<Entry>) -> Offer {
        let owner = entry.key.owner;
        if let Some((retained, _)) = self.retained.get(&owner) {
            let same = retained.uid == entry.uid;
            if same && entry.version <= retained.record.version {
                return Offer::Old;
            }
            if same {
                self.restore(owner);
            } else {
                self.retained.remove(&owner);
            }
        }
        if self.owners >= OWNERS_MAX { Offer::Full } else { self.insert(entry) }
    }

    /// Holds `entry`, which is a record where its owner has none yet.
    fn insert(&mut self, entry: Arc<Entry>) -> Offer {
        if self.bytes + entry.raw.len() > BYTES_MAX {
            return Offer::Full;
        }
        let (owner, is_record) = (entry.key.owner, entry.key.channel == Channel::Peers);
        self.bytes += entry.raw.len();
        let number = bucket(owner);
        if let Err(at) = find(&self.buckets[number], owner) {
            self.owners += 1;
            self.digests[number] = self.digests[number].wrapping_add(entry.version.digest);
            let bucket = &mut self.buckets[number];
            // Room for twice as many would be much of what thousands of owners take.
            bucket.reserve_exact(1);
            bucket.insert(at, (owner, Held::new(entry)));
            return Offer::New;
        }
        let mut dropped = Vec::new();
        self.update(owner, |held| {
            let mut gone = Vec::from_iter(held.put(entry));
            let floor = held.floor();
            if is_record && gone.iter().any(|old| old.record().is_none_or(|old| old.floor < floor)) {
                gone.extend(held.remove(|entry| entry.is_tombstone() && entry.version.point <= floor));
                dropped = held.remove(|entry| entry.version.point.0 < floor.0);
                gone.extend(dropped.iter().cloned());
                if held.complete < floor {
                    held.doubt();
                }
            }
            ((), gone)
        });
        self.dropped.extend(dropped);
        Offer::New
    }

    /// Everything of this store's owner is held: it makes the entries.
    pub(super) fn complete_own(&mut self, owner: PeerName) {
        self.update(owner, |held| {
            held.complete = held.newest;
            ((), Vec::new())
        });
    }

    /// Entries `named` are all that there is of an owner in a span. True when everything of it is held now.
    pub(super) fn span(&mut self, span: &Span, named: &BTreeSet<EntryKey>) -> bool {
        let mut dropped = Vec::new();
        let whole = self.update(span.owner, |held| {
            let floor = held.floor();
            // A sender that does not know of the floor may name what was deleted, and not name what deleted it.
            if held.uid != span.uid || span.floor < floor || span.from > held.complete {
                return (false, Vec::new());
            }
            held.complete = held.complete.max(span.to.min(held.newest));
            if let Some(doubtful) = &mut held.doubtful {
                doubtful.retain(|key| !named.contains(key));
                if held.complete >= floor
                    && let Some(gone) = held.doubtful.take()
                {
                    dropped = held.remove(|entry| entry.version.point <= floor && gone.contains(&entry.key));
                }
            }
            (held.complete == held.newest, dropped.clone())
        });
        self.dropped.extend(dropped);
        whole.unwrap_or_default()
    }

    /// What is held of `owner` differs from what others hold though it should not: everything is to be asked for again.
    pub(super) fn doubt(&mut self, owner: PeerName) {
        self.update(owner, |held| (held.doubt(), Vec::new()));
    }

    fn take(&mut self, owner: PeerName) -> Option<Held> {
        let number = bucket(owner);
        let bucket = &mut self.buckets[number];
        let (_, held) = bucket.remove(find(bucket, owner).ok()?);
        self.owners -= 1;
        self.digests[number] = self.digests[number].wrapping_sub(held.digest);
        self.bytes -= held.iter().map(|entry| entry.raw.len()).sum::<usize>();
        Some(held)
    }

    /// Retains everything of `owner` for a while, and holds it no more.
    pub(super) fn forget(&mut self, owner: PeerName, now: Instant) {
        let held = self.take(owner);
        if let Some(held) = held.filter(|_| self.retained.len() < OWNERS_MAX) {
            self.retained.insert(owner, (held, now));
        }
    }

    /// Holds again what is retained of `owner`; false when there is nothing.
    pub(super) fn restore(&mut self, owner: PeerName) -> bool {
        let Some((held, _)) = self.retained.remove(&owner) else { return false };
        let bytes: usize = held.iter().map(|entry| entry.raw.len()).sum();
        let number = bucket(owner);
        match find(&self.buckets[number], owner) {
            Err(at) if self.bytes + bytes <= BYTES_MAX => {
                self.owners += 1;
                self.bytes += bytes;
                self.digests[number] = self.digests[number].wrapping_add(held.digest);
                self.buckets[number].insert(at, (owner, held));
                true
            }
            _ => false,
        }
    }

    pub(super) fn retained(&self) -> impl Iterator<Item = &PeerRecord> {
        self.retained.values().filter_map(|(held, _)| held.record.record())
    }

    pub(super) fn expire(&mut self, now: Instant) {
        self.retained.retain(|_, (_, since)| now.since(*since) < RETAINED_FOR);
    }
}

#[cfg(test)]
mod tests;
