//! The entries that this peer holds, its own among them, and the sums by which two peers find out what differs.
//!
//! Only increases: an entry's stamp, for as long as its owner's store is the same. The entries of an owner that is
//! forgotten are kept aside for [`ASIDE`], so that neighbours who have not forgotten it yet do not bring it back, and a
//! healed partition does.
//! Bounds: [`OWNERS_MAX`] owners, as many aside; [`CHANNELS_MAX`] entries an owner; [`BYTES_MAX`] bytes in all.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

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

/// See the head of this file.
#[derive(Debug)]
pub struct Store {
    /// By bucket: each owner in it, in order of name, with its entries in order of channel.
    buckets: Vec<Vec<(PeerName, ThinVec<Arc<Entry>>)>>,
    sums: Vec<u64>,
    owners: usize,
    bytes: usize,
    aside: BTreeMap<PeerName, (ThinVec<Arc<Entry>>, Instant)>,
}

impl Default for Store {
    fn default() -> Self {
        Self { buckets: vec![Vec::new(); BUCKETS], sums: vec![0; BUCKETS], owners: 0, bytes: 0, aside: BTreeMap::new() }
    }
}

/// The bucket of an owner: FNV-1a, folded.
fn bucket(owner: PeerName) -> usize {
    let hash = owner.bytes().iter().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(*b)).wrapping_mul(0x0100_0193));
    ((hash ^ (hash >> 8) ^ (hash >> 16)) & 0xff) as usize
}

/// Where `owner` is in its bucket, or belongs.
fn place<T>(bucket: &[(PeerName, T)], owner: PeerName) -> Result<usize, usize> {
    bucket.binary_search_by_key(&owner, |(name, _)| *name)
}

fn find(entries: &[Arc<Entry>], channel: &str) -> Result<usize, usize> {
    entries.binary_search_by(|e| e.key.channel.as_str().cmp(channel))
}

impl Store {
    /// Everything of `owner`, in order of channel.
    #[must_use]
    pub fn of(&self, owner: PeerName) -> &[Arc<Entry>] {
        let bucket = &self.buckets[bucket(owner)];
        place(bucket, owner).map_or(&[], |at| bucket[at].1.as_slice())
    }

    /// One entry.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&Arc<Entry>> {
        let of = self.of(key.owner);
        find(of, &key.channel).ok().map(|at| &of[at])
    }

    /// The record of `peer`.
    #[must_use]
    pub fn record(&self, peer: PeerName) -> Option<&PeerRecord> {
        let of = self.of(peer);
        find(of, PEERS).ok().and_then(|at| of[at].record())
    }

    /// All owners, in no order that means anything.
    pub fn names(&self) -> impl Iterator<Item = PeerName> {
        self.buckets.iter().flatten().map(|(name, _)| *name)
    }

    /// All records, in no order that means anything.
    pub fn records(&self) -> impl Iterator<Item = &PeerRecord> {
        self.iter().filter_map(|entry| entry.record())
    }

    /// True when there is anything of `owner`.
    #[must_use]
    pub fn holds(&self, owner: PeerName) -> bool {
        !self.of(owner).is_empty()
    }

    /// All entries, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.buckets.iter().flatten().flat_map(|(_, entries)| entries)
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

    /// What is in a bucket.
    pub fn bucket(&self, number: u8) -> impl Iterator<Item = &Arc<Entry>> {
        self.buckets[usize::from(number)].iter().flat_map(|(_, entries)| entries)
    }

    /// The bucket that the entries of `owner` are in.
    #[must_use]
    pub fn bucket_of(owner: PeerName) -> u8 {
        bucket(owner) as u8
    }

    /// True when an entry of this store may be news. Stamps of two stores cannot be compared.
    #[must_use]
    pub fn may_be_news(&self, key: &Key, uid: PeerUid, stamp: Stamp) -> bool {
        let of = self.of(key.owner);
        let rival = of.first().is_some_and(|held| held.uid != uid);
        if rival { key.channel == PEERS } else { self.newer_than(of, key, stamp) }
    }

    /// True when this stamp is newer than what is held, or kept aside, under `key`.
    #[must_use]
    pub fn newer(&self, key: &Key, stamp: Stamp) -> bool {
        self.newer_than(self.of(key.owner), key, stamp)
    }

    fn newer_than(&self, of: &[Arc<Entry>], key: &Key, stamp: Stamp) -> bool {
        match find(of, &key.channel) {
            Ok(at) => stamp > of[at].stamp,
            Err(_) => self.aside_stamp(key).is_none_or(|held| stamp > held),
        }
    }

    fn aside_stamp(&self, key: &Key) -> Option<Stamp> {
        let (entries, _) = self.aside.get(&key.owner)?;
        find(entries, &key.channel).ok().map(|at| entries[at].stamp)
    }

    /// Holds `entry` if it is newer. `alive` tells whether a store of some name is known to be alive: another one then
    /// does not take the name over.
    pub fn offer(&mut self, entry: Arc<Entry>, alive: &dyn Fn(PeerName, PeerUid) -> bool) -> Offer {
        let owner = entry.key.owner;
        let peers = entry.key.channel == PEERS;
        let Some(uid) = self.of(owner).first().map(|e| e.uid) else {
            return if peers { self.offer_stranger(entry) } else { Offer::Orphan };
        };
        if uid != entry.uid {
            if !peers || alive(owner, uid) {
                return Offer::Rival;
            }
            self.take(owner);
            return self.insert(entry);
        }
        match self.get(&entry.key) {
            Some(held) if entry.stamp <= held.stamp => Offer::Old,
            None if self.of(owner).len() >= CHANNELS_MAX => Offer::Full,
            _ => self.insert(entry),
        }
    }

    fn offer_stranger(&mut self, entry: Arc<Entry>) -> Offer {
        if let Some((aside, _)) = self.aside.get(&entry.key.owner) {
            let same = aside.first().is_some_and(|e| e.uid == entry.uid);
            if same && !self.newer(&entry.key, entry.stamp) {
                return Offer::Old;
            }
            let owner = entry.key.owner;
            if same {
                self.restore(owner);
            } else {
                self.aside.remove(&owner);
            }
        }
        if self.owners >= OWNERS_MAX { Offer::Full } else { self.insert(entry) }
    }

    fn insert(&mut self, entry: Arc<Entry>) -> Offer {
        if self.bytes + entry.raw.len() > BYTES_MAX {
            return Offer::Full;
        }
        let (owner, number) = (entry.key.owner, bucket(entry.key.owner));
        let bucket = &mut self.buckets[number];
        let at = place(bucket, owner).unwrap_or_else(|at| {
            self.owners += 1;
            // Most have one entry, and thousands are held.
            bucket.insert(at, (owner, ThinVec::with_capacity(1)));
            at
        });
        let of = &mut bucket[at].1;
        self.bytes += entry.raw.len();
        self.sums[number] = self.sums[number].wrapping_add(entry.stamp.digest);
        match find(of, &entry.key.channel) {
            Ok(at) => {
                let old = std::mem::replace(&mut of[at], entry);
                self.bytes -= old.raw.len();
                self.sums[number] = self.sums[number].wrapping_sub(old.stamp.digest);
            }
            Err(at) => of.insert(at, entry),
        }
        Offer::New
    }

    /// Takes out everything of `owner`.
    fn take(&mut self, owner: PeerName) -> ThinVec<Arc<Entry>> {
        let number = bucket(owner);
        let Ok(at) = place(&self.buckets[number], owner) else { return ThinVec::new() };
        let (_, entries) = self.buckets[number].remove(at);
        self.owners -= 1;
        for entry in &entries {
            self.bytes -= entry.raw.len();
            self.sums[number] = self.sums[number].wrapping_sub(entry.stamp.digest);
        }
        entries
    }

    /// Puts everything of `owner` aside.
    pub fn forget(&mut self, owner: PeerName, now: Instant) {
        let entries = self.take(owner);
        if self.aside.len() < OWNERS_MAX && !entries.is_empty() {
            self.aside.insert(owner, (entries, now));
        }
    }

    /// Holds again what was put aside of `owner`; false when there is nothing.
    pub fn restore(&mut self, owner: PeerName) -> bool {
        let Some((entries, _)) = self.aside.remove(&owner) else { return false };
        entries.into_iter().all(|entry| self.insert(entry) == Offer::New)
    }

    /// The records that were put aside.
    pub fn records_aside(&self) -> impl Iterator<Item = &PeerRecord> {
        self.aside.values().flat_map(|(entries, _)| entries).filter_map(|entry| entry.record())
    }

    /// Drops what was put aside long ago.
    pub fn expire(&mut self, now: Instant) {
        self.aside.retain(|_, (_, since)| now.since(*since) < ASIDE);
    }
}

#[cfg(test)]
mod tests;
