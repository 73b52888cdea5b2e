//! Holds the entries of all peers, this one's among them, and the digests by which two peers find what differs.
//!
//! An entry's version only rises, as long as its owner's store is the same. The entries of a forgotten owner are retained
//! for [`RETAINED_FOR`]: neighbours that have not forgotten it yet do not bring it back, and a healed partition does.
//! Bounds: [`OWNERS_MAX`] owners, as many retained; [`CHANNELS_MAX`] entries an owner; [`BYTES_MAX`] bytes in all.

use std::{collections::BTreeMap, iter, mem, sync::Arc};

use thin_vec::ThinVec;

use super::timers::RETAINED_FOR;
use crate::proto::{
    name::{PeerName, PeerUid},
    time::Instant,
    wire::{
        BUCKETS, EntryKey, Version,
        entry::{Entry, PEERS, PeerRecord},
    },
};

/// Most peers, as many as the kernel's map of tunnels holds.
pub(super) const OWNERS_MAX: usize = weave_common::map::TUNNELS_MAX as usize;
/// Most entries of one owner.
pub(super) const CHANNELS_MAX: usize = 16;
/// Most bytes of all entries held.
pub(super) const BYTES_MAX: usize = 256 * 1024 * 1024;

/// True while the controller of an identity is known to be alive: another store does not take its name over.
pub(crate) type Alive<'a> = &'a dyn Fn(PeerName, PeerUid) -> bool;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// Not newer than what is held.
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
    /// Of the record. Most of what is advertised of thousands of owners is held already: this shows it without a look at
    /// entries that lie all over the memory.
    version: Version,
    record: Arc<Entry>,
    /// Of other channels, in order of channel.
    others: ThinVec<Arc<Entry>>,
}

impl Held {
    fn new(record: Arc<Entry>) -> Self {
        Self { uid: record.uid, version: record.version, record, others: ThinVec::new() }
    }

    /// The record, and then the entries of other channels.
    fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        iter::once(&self.record).chain(&self.others)
    }

    fn version(&self, channel: &str) -> Option<Version> {
        if channel == PEERS { Some(self.version) } else { self.get(channel).map(|entry| entry.version) }
    }

    fn get(&self, channel: &str) -> Option<&Arc<Entry>> {
        if channel == PEERS { Some(&self.record) } else { self.find(channel).ok().map(|at| &self.others[at]) }
    }

    fn find(&self, channel: &str) -> Result<usize, usize> {
        self.others.binary_search_by(|e| e.key.channel.as_str().cmp(channel))
    }

    /// Puts `entry` in the place of the entry that it replaces, and returns that.
    fn put(&mut self, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        if entry.key.channel == PEERS {
            (self.uid, self.version) = (entry.uid, entry.version);
            return Some(mem::replace(&mut self.record, entry));
        }
        match self.find(&entry.key.channel) {
            Ok(at) => Some(mem::replace(&mut self.others[at], entry)),
            Err(at) => {
                // Most have one, and thousands of owners are held.
                self.others.reserve_exact(1);
                self.others.insert(at, entry);
                None
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Store {
    /// Owners in order of name, and the entries of each.
    buckets: Vec<Vec<(PeerName, Held)>>,
    digests: Vec<u64>,
    owners: usize,
    bytes: usize,
    retained: BTreeMap<PeerName, (Held, Instant)>,
}

impl Default for Store {
    fn default() -> Self {
        let buckets = iter::repeat_with(Vec::new).take(BUCKETS).collect();
        Self { buckets, digests: vec![0; BUCKETS], owners: 0, bytes: 0, retained: BTreeMap::new() }
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

    /// Everything of `owner`: its record, and then the rest in order of channel.
    pub(super) fn of(&self, owner: PeerName) -> impl Iterator<Item = &Arc<Entry>> {
        self.held(owner).into_iter().flat_map(Held::iter)
    }

    /// The uid of the store that bears the name, and the version of its record.
    pub(super) fn version(&self, owner: PeerName) -> Option<(PeerUid, Version)> {
        self.held(owner).map(|held| (held.uid, held.version))
    }

    pub(super) fn get(&self, key: &EntryKey) -> Option<&Arc<Entry>> {
        self.held(key.owner)?.get(&key.channel)
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
        self.buckets.iter().flatten().filter_map(|(_, held)| held.record.record())
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

    pub(super) fn bucket(&self, number: u8) -> impl Iterator<Item = (PeerName, &str, Version, &Arc<Entry>)> {
        self.buckets[usize::from(number)].iter().flat_map(|(name, held)| {
            let others = held.others.iter().map(|entry| (*name, entry.key.channel.as_str(), entry.version, entry));
            iter::once((*name, PEERS, held.version, &held.record)).chain(others)
        })
    }

    pub(super) fn bucket_of(owner: PeerName) -> u8 {
        bucket(owner) as u8
    }

    /// True when an entry of this store may be new. Versions of two stores cannot be compared.
    pub(super) fn may_be_new(&self, key: &EntryKey, uid: PeerUid, version: Version) -> bool {
        let duplicate = self.held(key.owner).is_some_and(|held| held.uid != uid);
        if duplicate { key.channel == PEERS } else { self.newer(key, version) }
    }

    /// True when this version is newer than the one that is held, or retained, under `key`.
    pub(super) fn newer(&self, key: &EntryKey, version: Version) -> bool {
        let held = self.held(key.owner).and_then(|held| held.version(&key.channel));
        let retained = || self.retained.get(&key.owner).and_then(|(held, _)| held.version(&key.channel));
        held.or_else(retained).is_none_or(|held| version > held)
    }

    pub(super) fn offer(&mut self, entry: Arc<Entry>, alive: Alive<'_>) -> Offer {
        let owner = entry.key.owner;
        let peers = entry.key.channel == PEERS;
        let Some(held) = self.held(owner) else {
            return if peers { self.offer_stranger(entry) } else { Offer::Orphan };
        };
        if held.uid != entry.uid {
            if !peers || alive(owner, held.uid) {
                return Offer::Duplicate;
            }
            self.take(owner);
            return self.insert(entry);
        }
        match held.version(&entry.key.channel) {
            Some(version) if entry.version <= version => Offer::Old,
            None if held.iter().count() >= CHANNELS_MAX => Offer::Full,
            _ => self.insert(entry),
        }
    }

    fn offer_stranger(&mut self, entry: Arc<Entry>) -> Offer {
        let owner = entry.key.owner;
        if let Some((retained, _)) = self.retained.get(&owner) {
            let same = retained.uid == entry.uid;
            if same && entry.version <= retained.version {
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
        let (owner, number) = (entry.key.owner, bucket(entry.key.owner));
        self.bytes += entry.raw.len();
        self.digests[number] = self.digests[number].wrapping_add(entry.version.digest);
        let bucket = &mut self.buckets[number];
        let old = match find(bucket, owner) {
            Ok(at) => bucket[at].1.put(entry),
            Err(at) => {
                self.owners += 1;
                // Room for twice as many would be much of what thousands of owners take.
                bucket.reserve_exact(1);
                bucket.insert(at, (owner, Held::new(entry)));
                None
            }
        };
        if let Some(old) = old {
            self.bytes -= old.raw.len();
            self.digests[number] = self.digests[number].wrapping_sub(old.version.digest);
        }
        Offer::New
    }

    fn take(&mut self, owner: PeerName) -> Option<Held> {
        let number = bucket(owner);
        let bucket = &mut self.buckets[number];
        let (_, held) = bucket.remove(find(bucket, owner).ok()?);
        self.owners -= 1;
        for entry in held.iter() {
            self.bytes -= entry.raw.len();
            self.digests[number] = self.digests[number].wrapping_sub(entry.version.digest);
        }
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
        iter::once(held.record).chain(held.others).all(|entry| self.insert(entry) == Offer::New)
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
