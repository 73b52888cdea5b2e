//! The entries that this peer holds, its own among them, and the sums by which two peers find out what differs.
//!
//! Only increases: an entry's stamp, for as long as its owner's store is the same. The entries of an owner that is
//! forgotten are kept aside for [`ASIDE`], so that neighbours who have not forgotten it yet do not bring it back, and a
//! healed partition does.
//! Bounds: [`OWNERS_MAX`] owners, as many aside; [`CHANNELS_MAX`] entries an owner; [`BYTES_MAX`] bytes in all.

use std::{collections::BTreeMap, iter, mem, sync::Arc, time::Duration};

use thin_vec::ThinVec;

use super::{
    entry::{Entry, PEERS, PeerRecord},
    wire::{BUCKETS, Key, Stamp},
};
use crate::proto::{
    name::{PeerName, PeerUid},
    time::Instant,
};

/// Most peers, as many as the kernel's map of tunnels holds.
pub const OWNERS_MAX: usize = weave_common::map::TUNNELS_MAX as usize;
/// Most entries of one owner.
pub const CHANNELS_MAX: usize = 16;
/// Most bytes of all entries held.
pub const BYTES_MAX: usize = 256 * 1024 * 1024;
/// Time for which the entries of a forgotten owner are kept aside.
pub const ASIDE: Duration = Duration::from_secs(600);

/// What an entry that was offered turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// Not newer than what is held.
    Old,
    /// Newer: it is held now.
    New,
    /// Of another store under a name in use.
    Rival,
    /// Of an owner of whom nothing is known.
    Orphan,
    /// No room.
    Full,
}

/// What is held of one owner.
#[derive(Debug)]
struct Held {
    uid: PeerUid,
    /// Of the record. Most of what is told of thousands of owners is known already: this says so by itself, without a look
    /// at entries that lie all over the memory.
    stamp: Stamp,
    record: Arc<Entry>,
    /// Of other channels, in order of channel.
    others: ThinVec<Arc<Entry>>,
}

impl Held {
    fn new(record: Arc<Entry>) -> Self {
        Self { uid: record.uid, stamp: record.stamp, record, others: ThinVec::new() }
    }

    /// The record, and then what is in other channels.
    fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        iter::once(&self.record).chain(&self.others)
    }

    fn stamp(&self, channel: &str) -> Option<Stamp> {
        if channel == PEERS { Some(self.stamp) } else { self.get(channel).map(|entry| entry.stamp) }
    }

    fn get(&self, channel: &str) -> Option<&Arc<Entry>> {
        if channel == PEERS { Some(&self.record) } else { self.find(channel).ok().map(|at| &self.others[at]) }
    }

    fn find(&self, channel: &str) -> Result<usize, usize> {
        self.others.binary_search_by(|e| e.key.channel.as_str().cmp(channel))
    }

    /// Puts `entry` in the place of what it replaces, and returns that.
    fn put(&mut self, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        if entry.key.channel == PEERS {
            (self.uid, self.stamp) = (entry.uid, entry.stamp);
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

/// Owners in order of name, and what is held of each.
#[derive(Debug, Default)]
struct Bucket {
    names: Vec<PeerName>,
    held: Vec<Held>,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Store {
    buckets: Vec<Bucket>,
    sums: Vec<u64>,
    owners: usize,
    bytes: usize,
    aside: BTreeMap<PeerName, (Held, Instant)>,
}

impl Default for Store {
    fn default() -> Self {
        let buckets = iter::repeat_with(Bucket::default).take(BUCKETS).collect();
        Self { buckets, sums: vec![0; BUCKETS], owners: 0, bytes: 0, aside: BTreeMap::new() }
    }
}

/// The bucket of an owner: FNV-1a, folded.
fn bucket(owner: PeerName) -> usize {
    let hash = owner.bytes().iter().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(*b)).wrapping_mul(0x0100_0193));
    ((hash ^ (hash >> 8) ^ (hash >> 16)) & 0xff) as usize
}

impl Store {
    fn held(&self, owner: PeerName) -> Option<&Held> {
        let bucket = &self.buckets[bucket(owner)];
        bucket.names.binary_search(&owner).ok().map(|at| &bucket.held[at])
    }

    /// Everything of `owner`: its record, and then the rest in order of channel.
    pub fn of(&self, owner: PeerName) -> impl Iterator<Item = &Arc<Entry>> {
        self.held(owner).into_iter().flat_map(Held::iter)
    }

    /// The store of that name, and how new its record is.
    #[must_use]
    pub fn version(&self, owner: PeerName) -> Option<(PeerUid, Stamp)> {
        self.held(owner).map(|held| (held.uid, held.stamp))
    }

    /// One entry.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&Arc<Entry>> {
        self.held(key.owner)?.get(&key.channel)
    }

    /// The record of `peer`.
    #[must_use]
    pub fn record(&self, peer: PeerName) -> Option<&PeerRecord> {
        self.held(peer)?.record.record()
    }

    /// All owners, in no order that means anything.
    pub fn names(&self) -> impl Iterator<Item = PeerName> {
        self.buckets.iter().flat_map(|bucket| bucket.names.iter().copied())
    }

    /// All records, in no order that means anything.
    pub fn records(&self) -> impl Iterator<Item = &PeerRecord> {
        self.buckets.iter().flat_map(|bucket| &bucket.held).filter_map(|held| held.record.record())
    }

    /// True when there is anything of `owner`.
    #[must_use]
    pub fn holds(&self, owner: PeerName) -> bool {
        self.held(owner).is_some()
    }

    /// All entries, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.buckets.iter().flat_map(|bucket| &bucket.held).flat_map(Held::iter)
    }

    /// Owners held.
    #[must_use]
    pub fn owners(&self) -> usize {
        self.owners
    }

    /// The sum of each bucket.
    #[must_use]
    pub fn sums(&self) -> &[u64] {
        &self.sums
    }

    /// The sum of all.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sums.iter().fold(0, |all: u64, sum| all.rotate_left(1) ^ sum)
    }

    /// What is in a bucket, and how new each is.
    pub fn bucket(&self, number: u8) -> impl Iterator<Item = (PeerName, &str, Stamp, &Arc<Entry>)> {
        let Bucket { names, held } = &self.buckets[usize::from(number)];
        names.iter().zip(held).flat_map(|(name, held)| {
            let others = held.others.iter().map(|entry| (*name, entry.key.channel.as_str(), entry.stamp, entry));
            iter::once((*name, PEERS, held.stamp, &held.record)).chain(others)
        })
    }

    /// The bucket that the entries of `owner` are in.
    #[must_use]
    pub fn bucket_of(owner: PeerName) -> u8 {
        bucket(owner) as u8
    }

    /// True when an entry of this store may be news. Stamps of two stores cannot be compared.
    #[must_use]
    pub fn may_be_news(&self, key: &Key, uid: PeerUid, stamp: Stamp) -> bool {
        let held = self.held(key.owner);
        let rival = held.is_some_and(|held| held.uid != uid);
        if rival { key.channel == PEERS } else { self.newer_than(held, key, stamp) }
    }

    /// True when this stamp is newer than what is held, or kept aside, under `key`.
    #[must_use]
    pub fn newer(&self, key: &Key, stamp: Stamp) -> bool {
        self.newer_than(self.held(key.owner), key, stamp)
    }

    fn newer_than(&self, held: Option<&Held>, key: &Key, stamp: Stamp) -> bool {
        let held = held.and_then(|held| held.stamp(&key.channel));
        let aside = || self.aside.get(&key.owner).and_then(|(held, _)| held.stamp(&key.channel));
        held.or_else(aside).is_none_or(|held| stamp > held)
    }

    /// Holds `entry` if it is newer. `alive` tells whether a store of some name is known to be alive: another one then
    /// does not take the name over.
    pub fn offer(&mut self, entry: Arc<Entry>, alive: &dyn Fn(PeerName, PeerUid) -> bool) -> Offer {
        let owner = entry.key.owner;
        let peers = entry.key.channel == PEERS;
        let Some(held) = self.held(owner) else {
            return if peers { self.offer_stranger(entry) } else { Offer::Orphan };
        };
        if held.uid != entry.uid {
            if !peers || alive(owner, held.uid) {
                return Offer::Rival;
            }
            self.take(owner);
            return self.insert(entry);
        }
        match held.stamp(&entry.key.channel) {
            Some(stamp) if entry.stamp <= stamp => Offer::Old,
            None if held.iter().count() >= CHANNELS_MAX => Offer::Full,
            _ => self.insert(entry),
        }
    }

    fn offer_stranger(&mut self, entry: Arc<Entry>) -> Offer {
        let owner = entry.key.owner;
        if let Some((aside, _)) = self.aside.get(&owner) {
            let same = aside.uid == entry.uid;
            if same && entry.stamp <= aside.stamp {
                return Offer::Old;
            }
            if same {
                self.restore(owner);
            } else {
                self.aside.remove(&owner);
            }
        }
        if self.owners >= OWNERS_MAX { Offer::Full } else { self.insert(entry) }
    }

    /// Holds `entry`, which is a record where nothing is held of its owner yet.
    fn insert(&mut self, entry: Arc<Entry>) -> Offer {
        if self.bytes + entry.raw.len() > BYTES_MAX {
            return Offer::Full;
        }
        let (owner, number) = (entry.key.owner, bucket(entry.key.owner));
        self.bytes += entry.raw.len();
        self.sums[number] = self.sums[number].wrapping_add(entry.stamp.digest);
        let bucket = &mut self.buckets[number];
        let old = match bucket.names.binary_search(&owner) {
            Ok(at) => bucket.held[at].put(entry),
            Err(at) => {
                self.owners += 1;
                // Room for twice as many would be much of what thousands of owners take.
                bucket.names.reserve_exact(1);
                bucket.held.reserve_exact(1);
                bucket.names.insert(at, owner);
                bucket.held.insert(at, Held::new(entry));
                None
            }
        };
        if let Some(old) = old {
            self.bytes -= old.raw.len();
            self.sums[number] = self.sums[number].wrapping_sub(old.stamp.digest);
        }
        Offer::New
    }

    /// Takes out everything of `owner`.
    fn take(&mut self, owner: PeerName) -> Option<Held> {
        let number = bucket(owner);
        let bucket = &mut self.buckets[number];
        let at = bucket.names.binary_search(&owner).ok()?;
        bucket.names.remove(at);
        let held = bucket.held.remove(at);
        self.owners -= 1;
        for entry in held.iter() {
            self.bytes -= entry.raw.len();
            self.sums[number] = self.sums[number].wrapping_sub(entry.stamp.digest);
        }
        Some(held)
    }

    /// Puts everything of `owner` aside.
    pub fn forget(&mut self, owner: PeerName, now: Instant) {
        let held = self.take(owner);
        if let Some(held) = held.filter(|_| self.aside.len() < OWNERS_MAX) {
            self.aside.insert(owner, (held, now));
        }
    }

    /// Holds again what was put aside of `owner`; false when there is nothing.
    pub fn restore(&mut self, owner: PeerName) -> bool {
        let Some((held, _)) = self.aside.remove(&owner) else { return false };
        iter::once(held.record).chain(held.others).all(|entry| self.insert(entry) == Offer::New)
    }

    /// The records that were put aside.
    pub fn records_aside(&self) -> impl Iterator<Item = &PeerRecord> {
        self.aside.values().filter_map(|(held, _)| held.record.record())
    }

    /// Drops what was put aside long ago.
    pub fn expire(&mut self, now: Instant) {
        self.aside.retain(|_, (_, since)| now.since(*since) < ASIDE);
    }
}

#[cfg(test)]
mod tests;
