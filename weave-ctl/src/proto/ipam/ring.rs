//! The ring: which peer owns which range of the network's range.
//!
//! A ring begins with founders, the peers among which the range was divided: from seeds (the same list everywhere, no
//! message needed), or from an election. From then on only the owner of a range gives of it, and a peer that takes over
//! from one that is gone for good. Each address has a version (generation, epoch) that only rises: a takeover raises the
//! generation, a change by the owner the epoch. A ring is a map from addresses to (version, owner), merged by the maximum of
//! each ([`merge`]). It is kept as ranges, by the token at which each begins; no two neighbours are the same, so a takeover
//! or a hand-over also mends a ring that was cut into many ranges. Rings of different founders never mix: a conflict is an
//! answer, not a panic.
//!
//! The owner is a name with a uid: a peer that lost its store does not own what it had. Seeds name nobody's store; the first
//! store of a seed's name claims the share (an epoch later).
//! Bounds: [`ENTRIES_MAX`] ranges, [`TAKEOVERS_MAX`] peers that are gone for good: of more, those of the latest takeovers.

mod merge;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::{Ipv4Net, Ipv4Subnets};
use serde::{Deserialize, Serialize};

pub use self::merge::{Conflict, GENERATIONS_AHEAD_MAX, Nonsense, Part, admit};
pub use crate::proto::wire::TAKEOVERS_MAX;
use crate::proto::{
    key::{self, SecretKey},
    name::{PeerId, PeerName},
    wire::takeover::Takeover,
};

/// Most ranges in a ring.
pub const ENTRIES_MAX: usize = crate::proto::wire::RING_MAX;

/// Blocks a peer's share is rounded to: shares differ by at most one block, and each is a few CIDR ranges.
const BLOCKS_PER_PEER: u64 = 64;
/// By how much a gift raises the epoch: more than a claim, so that what a store gave away before it was lost, and not all
/// heard of, is not the next store's again.
const GIFT: u64 = 2;
/// By how much a store's claim of what is its name's raises it.
const CLAIM: u64 = 1;

/// How the range is divided. A range goes from its token up to the next one; the last up to the end of the network's range.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ring {
    /// What is divided.
    pub range: Ipv4Net,
    /// Among whom it was divided at the start, in order, each once. Seeds have no uid.
    pub origin: Vec<PeerId>,
    /// By token; the first token is the start of the range.
    pub shares: BTreeMap<Ipv4Addr, Share>,
    /// Peers that are gone for good: they own nothing again until they begin anew.
    pub removed: BTreeMap<PeerId, Takeover>,
}

/// Whose a range is. The greatest wins: by generation, then epoch; the owners only break a tie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Share {
    /// Raised by a takeover.
    pub generation: u64,
    /// Raised whenever the owner changes something; begins at zero with each generation.
    pub epoch: u64,
    /// The peer that owns it.
    pub owner: PeerId,
    /// The peer that owned it before: the owner itself, where it is the first.
    pub from: PeerId,
}

impl Share {
    /// The first owner's.
    #[must_use]
    pub const fn first(owner: PeerId) -> Self {
        Self { generation: 0, epoch: 0, owner, from: owner }
    }

    /// The same range when its owner has changed something.
    fn changed(self, epoch: u64, to: PeerId) -> Self {
        Self { generation: self.generation, epoch, owner: to, from: self.owner }
    }
}

/// Why no ring can be made of an origin.
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
    /// More seeds than a ring may have ranges.
    #[error("{0} seeds are more than the {ENTRIES_MAX} that a ring can hold")]
    TooMany(usize),
}

/// Addresses in `net`.
#[must_use]
pub fn size(net: Ipv4Net) -> u64 {
    1 << (32 - u32::from(net.prefix_len()))
}

/// Addresses from `first` to `last`.
#[must_use]
pub fn span(first: Ipv4Addr, last: Ipv4Addr) -> u64 {
    (u64::from(u32::from(last)) + 1).saturating_sub(u64::from(u32::from(first)))
}

fn address(n: u64) -> Ipv4Addr {
    Ipv4Addr::from(u32::try_from(n).unwrap_or(u32::MAX))
}

fn after(addr: Ipv4Addr) -> Option<Ipv4Addr> {
    u32::from(addr).checked_add(1).map(Ipv4Addr::from)
}

impl Ring {
    /// The ring of `range` divided evenly among the peers named in `seeds`, in any order and with repetitions.
    ///
    /// # Errors
    /// When the list is empty or too long for the range.
    pub fn from_seeds(range: Ipv4Net, seeds: &[PeerName]) -> Result<Self, SeedError> {
        let origin: Vec<PeerId> = seeds.iter().map(|name| PeerId::of_any_store(*name)).collect();
        Self::from_origin(range, &origin)
    }

    /// The ring of `range` divided evenly among `origin`, in any order and with repetitions.
    ///
    /// # Errors
    /// When the list is empty or too long for the range.
    pub fn from_origin(range: Ipv4Net, origin: &[PeerId]) -> Result<Self, SeedError> {
        let range = range.trunc();
        let origin: Vec<PeerId> = origin.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let peers = origin.len() as u64;
        if origin.is_empty() {
            return Err(SeedError::Empty);
        }
        if origin.len() > ENTRIES_MAX {
            return Err(SeedError::TooMany(origin.len()));
        }
        if size(range) < peers {
            return Err(SeedError::TooSmall { range, addresses: size(range), peers: origin.len() });
        }
        let blocks = (peers.next_power_of_two() * BLOCKS_PER_PEER).min(size(range));
        let block = size(range) / blocks;
        let start = u64::from(u32::from(range.network()));
        let token = |i: u64| address(start + (i * blocks / peers) * block);
        let shares = (0_u64..).zip(&origin).map(|(i, owner)| (token(i), Share::first(*owner))).collect();
        Ok(Self { range, origin, shares, removed: BTreeMap::new() })
    }

    /// Every piece, as large as it is one owner's: first address, last address, owner.
    pub fn pieces(&self) -> impl Iterator<Item = (Ipv4Addr, Ipv4Addr, PeerId)> + '_ {
        let mut tokens = self.shares.iter().peekable();
        std::iter::from_fn(move || {
            let (first, share) = tokens.next()?;
            while tokens.next_if(|(_, next)| next.owner == share.owner).is_some() {}
            let end = tokens.peek().map(|(next, _)| Ipv4Addr::from(u32::from(**next).saturating_sub(1)));
            Some((*first, end.unwrap_or(self.range.broadcast()), share.owner))
        })
    }

    /// Pieces that `owner` owns: first and last address.
    pub fn owned_by(&self, owner: PeerId) -> impl Iterator<Item = (Ipv4Addr, Ipv4Addr)> + '_ {
        self.pieces().filter(move |(_, _, o)| *o == owner).map(|(first, last, _)| (first, last))
    }

    /// Addresses that `owner` owns.
    #[must_use]
    pub fn owned(&self, owner: PeerId) -> u64 {
        self.owned_by(owner).map(|(first, last)| span(first, last)).sum()
    }

    /// The owner of `addr`, or `None` outside the range.
    #[must_use]
    pub fn owner_of(&self, addr: Ipv4Addr) -> Option<PeerId> {
        if !self.range.contains(&addr) {
            return None;
        }
        self.shares.range(..=addr).next_back().map(|(_, share)| share.owner)
    }

    /// The ring as CIDR pieces, each with its owner.
    pub fn routes(&self) -> impl Iterator<Item = (Ipv4Net, PeerId)> + '_ {
        self.pieces().flat_map(|(first, last, owner)| Ipv4Subnets::new(first, last, 0).map(move |net| (net, owner)))
    }

    /// Everybody who owns something.
    #[must_use]
    pub fn owners(&self) -> BTreeSet<PeerId> {
        self.shares.values().map(|share| share.owner).collect()
    }

    /// True when `me` may claim a seed's share: it bears the name, and no store of that name has claimed it.
    #[must_use]
    pub fn unclaimed(&self, me: PeerName) -> bool {
        self.shares.values().any(|share| share.owner == PeerId::of_any_store(me))
    }

    /// True when a takeover from that peer is known.
    #[must_use]
    pub fn is_removed(&self, peer: PeerId) -> bool {
        self.removed.contains_key(&peer)
    }

    /// The highest generation of a range or a takeover.
    #[must_use]
    pub fn generation(&self) -> u64 {
        let ranges = self.shares.values().map(|share| share.generation);
        ranges.chain(self.removed.values().map(|takeover| takeover.generation)).max().unwrap_or(0)
    }

    /// Tells this network, by range and founders, from others: what a takeover is signed with.
    #[must_use]
    pub fn network(&self) -> u128 {
        let range = u64::from(u32::from(self.range.network())) << 8 | u64::from(self.range.prefix_len());
        let founders = self.origin.iter().flat_map(|id| [&id.name.bytes()[..], &{ id.uid.0 }.to_be_bytes()].concat());
        key::digest(&range.to_be_bytes().into_iter().chain(founders).collect::<Vec<u8>>())
    }

    /// Claims what is a seed's of the name of `me`; the tokens changed.
    pub fn claim(&mut self, me: PeerId) -> Vec<Ipv4Addr> {
        let seed = PeerId::of_any_store(me.name);
        self.reassign(seed, |share| Share { from: me, ..share.changed(share.epoch.saturating_add(CLAIM), me) })
    }

    /// Hands everything of `from` to `to`: by `from` itself. The tokens changed.
    pub fn hand_over(&mut self, from: PeerId, to: PeerId) -> Vec<Ipv4Addr> {
        let newest = newest(self.shares.values().filter(|share| share.owner == from));
        self.reassign(from, |share| share.changed(gift(&newest, share), to))
    }

    /// Takes over for `me` what a former store of its name has, which is lost; signed by `me`. The tokens changed.
    pub fn succeed(&mut self, former: PeerId, me: PeerId, key: &SecretKey) -> Vec<Ipv4Addr> {
        self.remove(former, self.generation(), me.name, key);
        self.reassign(former, |share| share.changed(share.epoch.saturating_add(CLAIM), me))
    }

    /// Takes everything of `from`, which is gone for good, over for `to`; signed by peer `by`. The tokens changed.
    pub fn take_over(&mut self, from: PeerId, to: PeerId, by: PeerName, key: &SecretKey) -> Vec<Ipv4Addr> {
        let generation = self.generation().saturating_add(1);
        self.remove(from, generation, by, key);
        self.reassign(from, |_| Share { generation, epoch: 0, owner: to, from })
    }

    /// `me` is gone for good, by its own word.
    pub fn depart(&mut self, me: PeerId, key: &SecretKey) {
        self.remove(me, self.generation(), me.name, key);
    }

    fn remove(&mut self, peer: PeerId, generation: u64, by: PeerName, key: &SecretKey) {
        let takeover = Takeover::sign(self.network(), peer, generation, by, key);
        self.add_takeovers(&[takeover]);
    }

    fn reassign(&mut self, from: PeerId, with: impl Fn(Share) -> Share) -> Vec<Ipv4Addr> {
        let of_from = self.shares.iter_mut().filter(|(_, share)| share.owner == from);
        let changed = of_from.map(|(token, share)| {
            *share = with(*share);
            *token
        });
        let changed = changed.collect();
        join(&mut self.shares);
        changed
    }

    /// Gives `first` to `last` of what `from` owns to `to`; the tokens changed: none when the range is not `from`'s whole,
    /// or the ring is full.
    pub fn give(&mut self, first: Ipv4Addr, last: Ipv4Addr, from: PeerId, to: PeerId) -> Vec<Ipv4Addr> {
        let whole = self.owned_by(from).any(|(start, end)| start <= first && last <= end);
        if !whole || first > last || self.shares.len() + 2 > ENTRIES_MAX {
            return Vec::new();
        }
        let at = |at: Ipv4Addr| self.shares.range(..=at).next_back().map(|(_, share)| *share);
        let behind = after(last).filter(|next| self.range.contains(next) && !self.shares.contains_key(next));
        let head = at(first);
        let rest = behind.and_then(|next| Some((next, at(next)?)));
        let newest = newest(head.iter().chain(self.shares.range(first..=last).map(|(_, share)| share)));
        self.shares.extend(head.map(|share| (first, share)));
        self.shares.extend(rest);
        let mut changed: Vec<Ipv4Addr> = Vec::new();
        for (token, share) in self.shares.range_mut(first..=last) {
            *share = share.changed(gift(&newest, *share), to);
            changed.push(*token);
        }
        changed.extend(rest.map(|(token, _)| token));
        join(&mut self.shares);
        changed
    }

    /// A number that two different rings hardly share (FNV-1a); never zero.
    #[must_use]
    pub fn sum(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut eat = |word: u64| {
            for byte in word.to_be_bytes() {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        let id = |id: PeerId| [u64::from_be_bytes(pad(id.name)), (id.uid.0 >> 64) as u64, id.uid.0 as u64];
        eat(u64::from(u32::from(self.range.network())) << 8 | u64::from(self.range.prefix_len()));
        self.origin.iter().flat_map(|peer| id(*peer)).for_each(&mut eat);
        for (token, share) in &self.shares {
            eat(u64::from(u32::from(*token)));
            eat(share.generation);
            eat(share.epoch);
            [share.owner, share.from].into_iter().flat_map(id).for_each(&mut eat);
        }
        for takeover in self.removed.values() {
            eat(takeover.generation);
            id(takeover.peer).into_iter().for_each(&mut eat);
            eat(takeover.signature.first_chunk().map_or(0, |head| u64::from_be_bytes(*head)));
        }
        hash.max(1)
    }
}

/// The highest epoch of each generation.
fn newest<'a>(shares: impl Iterator<Item = &'a Share>) -> BTreeMap<u64, u64> {
    let mut newest = BTreeMap::new();
    for share in shares {
        let epoch: &mut u64 = newest.entry(share.generation).or_default();
        *epoch = (*epoch).max(share.epoch);
    }
    newest
}

/// The epoch of a gift: the same for all that is given, so that ranges that were apart are one again.
fn gift(newest: &BTreeMap<u64, u64>, share: Share) -> u64 {
    newest.get(&share.generation).copied().unwrap_or(share.epoch).saturating_add(GIFT)
}

/// Makes one range of neighbours that are the same.
fn join(shares: &mut BTreeMap<Ipv4Addr, Share>) {
    let mut last = None;
    shares.retain(|_, share| last.replace(*share) != Some(*share));
}

fn pad(name: PeerName) -> [u8; 8] {
    let [a, b, c, d, e, f] = name.bytes();
    [0, 0, a, b, c, d, e, f]
}

#[cfg(test)]
mod tests;
