//! The ring: which peer owns which piece of the range.
//!
//! Bootstrap is by seed: every peer that is given the same list computes the same ring, so no message is needed and it
//! does not matter who starts first. Two networks seeded differently never mix: a conflict is an answer, not a panic,
//! and leaves both rings as they were.

use std::{collections::BTreeSet, net::Ipv4Addr};

use ipnet::{Ipv4Net, Ipv4Subnets};
use serde::{Deserialize, Serialize};

use crate::proto::name::PeerName;

/// Most pieces in a ring.
pub const ENTRIES_MAX: usize = 8192;

/// Blocks a peer's share is rounded to: shares differ by at most one block, and each is a few CIDR pieces.
const BLOCKS_PER_PEER: u64 = 64;

/// How the range is divided. Entry i owns from its token to the next one's; the last up to the end of the range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ring {
    /// What is divided.
    pub range: Ipv4Net,
    /// Among whom it was divided at the start, in order of name, each once.
    pub seeds: Vec<PeerName>,
    /// In order of token; the first token is the start of the range.
    pub entries: Vec<Entry>,
}

/// One piece of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// First address.
    pub token: Ipv4Addr,
    /// Who owns it.
    pub owner: PeerName,
    /// Raised by the owner whenever ownership changes.
    pub epoch: u64,
}

/// Why no ring can be made of a seed list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeedError {
    /// Nobody to own anything.
    #[error("the seed list is empty")]
    Empty,
    /// A share would be empty.
    #[error("the range {range} has {addresses} addresses, too few to divide among {peers} seeds")]
    TooSmall {
        /// The range.
        range: Ipv4Net,
        /// Its size.
        addresses: u64,
        /// Number of seeds.
        peers: usize,
    },
    /// More seeds than a ring may have pieces.
    #[error("{0} seeds are more than the {ENTRIES_MAX} that a ring can hold")]
    TooMany(usize),
}

/// What to do with a ring that a neighbour sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Merge {
    /// It says what ours says.
    Same,
    /// We had none: take this one.
    Adopt(Ring),
    /// The two networks were divided differently; ours stays.
    Conflict(String),
}

/// Addresses in `net`.
#[must_use]
pub fn size(net: Ipv4Net) -> u64 {
    1 << (32 - u32::from(net.prefix_len()))
}

fn address(n: u64) -> Ipv4Addr {
    Ipv4Addr::from(u32::try_from(n).unwrap_or(u32::MAX))
}

impl Ring {
    /// The ring of `range` divided evenly among `seeds`, in any order and with repetitions.
    ///
    /// # Errors
    /// When the list is empty or too long for the range.
    pub fn from_seeds(range: Ipv4Net, seeds: &[PeerName]) -> Result<Self, SeedError> {
        let range = range.trunc();
        let seeds: Vec<PeerName> = seeds.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let peers = seeds.len() as u64;
        if seeds.is_empty() {
            return Err(SeedError::Empty);
        }
        if seeds.len() > ENTRIES_MAX {
            return Err(SeedError::TooMany(seeds.len()));
        }
        if size(range) < peers {
            return Err(SeedError::TooSmall { range, addresses: size(range), peers: seeds.len() });
        }
        let blocks = (peers.next_power_of_two() * BLOCKS_PER_PEER).min(size(range));
        let block = size(range) / blocks;
        let start = u64::from(u32::from(range.network()));
        let entries = (0_u64..)
            .zip(&seeds)
            .map(|(i, owner)| Entry { token: address(start + (i * blocks / peers) * block), owner: *owner, epoch: 0 })
            .collect();
        Ok(Self { range, seeds, entries })
    }

    /// Every piece: first address, last address, owner.
    pub fn pieces(&self) -> impl Iterator<Item = (Ipv4Addr, Ipv4Addr, PeerName)> + '_ {
        let ends = self.entries.iter().skip(1).map(|e| Ipv4Addr::from(u32::from(e.token).saturating_sub(1)));
        self.entries.iter().zip(ends.chain([self.range.broadcast()])).map(|(e, last)| (e.token, last, e.owner))
    }

    /// Pieces that `owner` owns: first and last address.
    pub fn owned_by(&self, owner: PeerName) -> impl Iterator<Item = (Ipv4Addr, Ipv4Addr)> + '_ {
        self.pieces().filter(move |(_, _, o)| *o == owner).map(|(first, last, _)| (first, last))
    }

    /// The owner of `addr`, or `None` outside the range.
    #[must_use]
    pub fn owner_of(&self, addr: Ipv4Addr) -> Option<PeerName> {
        if !self.range.contains(&addr) {
            return None;
        }
        let after = self.entries.partition_point(|e| e.token <= addr);
        self.entries.get(after.checked_sub(1)?).map(|e| e.owner)
    }

    /// The ring as CIDR pieces, each with its owner.
    pub fn routes(&self) -> impl Iterator<Item = (Ipv4Net, PeerName)> + '_ {
        self.pieces().flat_map(|(first, last, owner)| Ipv4Subnets::new(first, last, 0).map(move |net| (net, owner)))
    }

    /// Decides about a ring for `range` and `seeds` that a neighbour told of, given `ours` for `our_range`.
    ///
    /// Only the range and the seeds are taken from the message: the entries follow from them, so no message can give
    /// one peer's share to another. Total on any input.
    #[must_use]
    pub fn merge(ours: Option<&Self>, our_range: Ipv4Net, range: Ipv4Net, seeds: &[PeerName]) -> Merge {
        if range != our_range {
            return Merge::Conflict(format!(
                "Incompatible IP allocation ranges (received: {range}, ours: {our_range})"
            ));
        }
        let theirs = match Self::from_seeds(range, seeds) {
            Ok(ring) => ring,
            Err(error) => return Merge::Conflict(format!("received a ring that cannot be: {error}")),
        };
        match ours {
            None => Merge::Adopt(theirs),
            Some(ours) if ours.seeds == theirs.seeds => Merge::Same,
            Some(ours) => Merge::Conflict(format!(
                "IP allocation was seeded by different peers (received: {:?}, ours: {:?})",
                theirs.seeds, ours.seeds
            )),
        }
    }
}

#[cfg(test)]
mod tests;
