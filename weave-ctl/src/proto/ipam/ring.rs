//! The ring: which peer owns which piece of the range.
//!
//! A ring begins with an origin, the peers among whom the range was divided: from seeds (the same list everywhere, no
//! message needed), or from an election. From then on only the owner of a piece gives of it, and whoever takes over from
//! a peer that is gone for good. Each address has an epoch that only rises: a ring is a map from addresses to (epoch,
//! owner), merged by the maximum of each, so merging is commutative, associative and idempotent, and total on any input.
//! It is kept as pieces, by the token where each begins; tokens are never taken out. Rings of different origins never
//! mix: a conflict is an answer, not a panic.
//!
//! What is told of a piece says where it ends ([`Part::limits`]), and counts for the addresses up to there: who does not
//! know yet that more was split off behind it would else take that for a part of it; and a piece that is split after it
//! was taken over would else come back under a new token.
//!
//! The owner is a name with a uid: who lost its store does not own what it had. Seeds name nobody's store; the first
//! store of a seed's name claims the share (an epoch later).
//! Bounds: [`ENTRIES_MAX`] tokens, as many removed stores.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::{Ipv4Net, Ipv4Subnets};
use serde::{Deserialize, Serialize};

use crate::proto::name::{PeerId, PeerName};

/// Most pieces in a ring.
pub const ENTRIES_MAX: usize = crate::proto::wire::RING_MAX;

/// Blocks a peer's share is rounded to: shares differ by at most one block, and each is a few CIDR pieces.
const BLOCKS_PER_PEER: u64 = 64;
/// Epochs by which a takeover is ahead of what the one taken over from may still say.
const TAKEOVER: u64 = 1 << 20;
/// By how much a gift raises the epoch: more than a claim, so that what a store gave away before it was lost, and not all
/// heard of, is not the next store's again.
const GIFT: u64 = 2;
/// By how much a store's claim of what is its name's raises it.
const CLAIM: u64 = 1;

/// How the range is divided. A token owns up to the next one; the last up to the end of the range.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ring {
    /// What is divided.
    pub range: Ipv4Net,
    /// Among whom it was divided at the start, in order, each once. Seeds have no uid.
    pub origin: Vec<PeerId>,
    /// By token; the first token is the start of the range.
    pub shares: BTreeMap<Ipv4Addr, Share>,
    /// Stores whose ranges were taken over: they own nothing again until they begin anew.
    pub removed: BTreeSet<PeerId>,
}

/// Whose a piece of the ring is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Share {
    /// Raised whenever ownership changes; the highest wins.
    pub epoch: u64,
    /// Who owns it.
    pub owner: PeerId,
}

/// A ring, or what changed of it, as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Part {
    /// What is divided.
    pub range: Ipv4Net,
    /// Which ring it is of.
    pub origin: Vec<PeerId>,
    /// Some or all of its tokens.
    pub shares: Vec<(Ipv4Addr, Share)>,
    /// Tokens of which nothing is told but that pieces end before them.
    pub limits: Vec<Ipv4Addr>,
    /// Some or all of the removed stores.
    pub removed: Vec<PeerId>,
}

impl Part {
    /// True when it tells of every address of the range.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.limits.is_empty() && self.shares.iter().any(|(token, _)| *token == self.range.network())
    }

    /// By token: what is told of the addresses up to the next one, if anything.
    fn told(&self, range: Ipv4Net) -> BTreeMap<Ipv4Addr, Option<Share>> {
        let limits = self.limits.iter().map(|token| (*token, None));
        let mut told: BTreeMap<Ipv4Addr, Option<Share>> = limits.filter(|(token, _)| range.contains(token)).collect();
        for (token, share) in self.shares.iter().filter(|(token, _)| range.contains(token)) {
            let held = told.entry(*token).or_default();
            *held = (*held).max(Some(*share));
        }
        told
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
    /// More seeds than a ring may have pieces.
    #[error("{0} seeds are more than the {ENTRIES_MAX} that a ring can hold")]
    TooMany(usize),
}

/// Why a ring that was told is not merged. Ours stays as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Another range.
    #[error("Incompatible IP allocation ranges (received: {theirs}, ours: {ours})")]
    Range {
        /// Theirs.
        theirs: Ipv4Net,
        /// Ours.
        ours: Ipv4Net,
    },
    /// Another network.
    #[error("IP allocation was seeded by different peers (received: {theirs:?}, ours: {ours:?})")]
    Origin {
        /// Among whom theirs was divided.
        theirs: Vec<PeerName>,
        /// Among whom ours was.
        ours: Vec<PeerName>,
    },
    /// No ring at all.
    #[error("received a ring that cannot be: {0}")]
    Impossible(String),
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
        let shares = (0_u64..).zip(&origin).map(|(i, owner)| (token(i), Share { epoch: 0, owner: *owner })).collect();
        Ok(Self { range, origin, shares, removed: BTreeSet::new() })
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

    /// Claims what is a seed's of the name of `me`; the tokens changed.
    pub fn claim(&mut self, me: PeerId) -> Vec<Ipv4Addr> {
        self.reassign(PeerId::of_any_store(me.name), me, CLAIM)
    }

    /// Hands everything of `from` to `to`: by `from` itself. The tokens changed.
    pub fn hand_over(&mut self, from: PeerId, to: PeerId) -> Vec<Ipv4Addr> {
        self.reassign(from, to, GIFT)
    }

    /// Takes over for `me` what a former store of its name has, which is lost. The tokens changed.
    pub fn succeed(&mut self, former: PeerId, me: PeerId) -> Vec<Ipv4Addr> {
        if self.removed.len() < ENTRIES_MAX {
            self.removed.insert(former);
        }
        self.reassign(former, me, CLAIM)
    }

    /// Takes everything of `from`, which is gone for good, over for `to`. The tokens changed.
    pub fn take_over(&mut self, from: PeerId, to: PeerId) -> Vec<Ipv4Addr> {
        if self.removed.len() < ENTRIES_MAX {
            self.removed.insert(from);
        }
        self.reassign(from, to, TAKEOVER)
    }

    fn reassign(&mut self, from: PeerId, to: PeerId, ahead: u64) -> Vec<Ipv4Addr> {
        let of_from = self.shares.iter_mut().filter(|(_, share)| share.owner == from);
        let changed = of_from.map(|(token, share)| {
            *share = Share { epoch: share.epoch.saturating_add(ahead), owner: to };
            *token
        });
        changed.collect()
    }

    /// Gives `first` to `last` of what `from` owns to `to`; the tokens changed: none when the piece is not `from`'s whole,
    /// or the ring is full.
    pub fn give(&mut self, first: Ipv4Addr, last: Ipv4Addr, from: PeerId, to: PeerId) -> Vec<Ipv4Addr> {
        let whole = self.owned_by(from).any(|(start, end)| start <= first && last <= end);
        if !whole || first > last || self.shares.len() + 2 > ENTRIES_MAX {
            return Vec::new();
        }
        let epoch_at = |at: Ipv4Addr| self.shares.range(..=at).next_back().map_or(0, |(_, share)| share.epoch);
        let behind = after(last).filter(|next| self.range.contains(next) && !self.shares.contains_key(next));
        let rest = behind.map(|next| (next, Share { epoch: epoch_at(next), owner: from }));
        let head = (first, Share { epoch: epoch_at(first).saturating_add(GIFT), owner: to });
        let mut changed: Vec<Ipv4Addr> = Vec::new();
        for (token, share) in self.shares.range_mut(first..=last) {
            *share = Share { epoch: share.epoch.saturating_add(GIFT), owner: to };
            changed.push(*token);
        }
        if !self.shares.contains_key(&first) {
            self.shares.insert(head.0, head.1);
            changed.push(first);
        }
        if let Some((token, share)) = rest {
            self.shares.insert(token, share);
            changed.push(token);
        }
        changed
    }

    /// Takes in what another peer told: the tokens that changed, and whether anything did.
    ///
    /// # Errors
    /// It is of another ring, or would make this one too large; nothing changed.
    pub fn merge(&mut self, part: &Part) -> Result<Vec<Ipv4Addr>, Conflict> {
        if part.range != self.range {
            return Err(Conflict::Range { theirs: part.range, ours: self.range });
        }
        if part.origin != self.origin {
            let names = |origin: &[PeerId]| origin.iter().map(|id| id.name).collect();
            return Err(Conflict::Origin { theirs: names(&part.origin), ours: names(&self.origin) });
        }
        let told = part.told(self.range);
        let split: Vec<Ipv4Addr> = told.keys().copied().filter(|token| !self.shares.contains_key(token)).collect();
        let outcast = part.removed.iter().filter(|id| !self.removed.contains(id)).count();
        if self.shares.len() + split.len() > ENTRIES_MAX || self.removed.len() + outcast > ENTRIES_MAX {
            return Err(Conflict::Impossible(format!("it has more than {ENTRIES_MAX} pieces")));
        }
        for token in &split {
            let held = self.shares.range(..token).next_back().map(|(_, share)| *share);
            self.shares.extend(held.map(|share| (*token, share)));
        }
        let mut changed: BTreeSet<Ipv4Addr> = split.into_iter().collect();
        let mut newest = None;
        for (token, held) in &mut self.shares {
            // What is told counts up to the next token that is told of, or a limit.
            newest = told.get(token).copied().unwrap_or(newest);
            if let Some(share) = newest.filter(|share| share > held) {
                *held = share;
                changed.insert(*token);
            }
        }
        self.removed.extend(&part.removed);
        Ok(changed.into_iter().collect())
    }

    /// The ring that a part of it, told to a peer without one, begins.
    ///
    /// # Errors
    /// There is no such ring, or it is of another range than `range`.
    pub fn adopt(range: Ipv4Net, part: &Part) -> Result<Self, Conflict> {
        if part.range != range {
            return Err(Conflict::Range { theirs: part.range, ours: range });
        }
        let sorted = part.origin.is_sorted() && part.origin.windows(2).all(|pair| pair[0] != pair[1]);
        if !sorted {
            return Err(Conflict::Impossible("its origin is not in order".to_owned()));
        }
        let mut ring =
            Self::from_origin(range, &part.origin).map_err(|error| Conflict::Impossible(error.to_string()))?;
        ring.merge(part)?;
        Ok(ring)
    }

    /// All of the ring.
    #[must_use]
    pub fn whole(&self) -> Part {
        self.part(self.shares.keys().copied())
    }

    /// These tokens of the ring, with all removed stores.
    pub fn part(&self, tokens: impl IntoIterator<Item = Ipv4Addr>) -> Part {
        let tokens: BTreeSet<Ipv4Addr> = tokens.into_iter().filter(|token| self.shares.contains_key(token)).collect();
        let (mut shares, mut limits, mut open) = (Vec::new(), Vec::new(), false);
        for (token, share) in &self.shares {
            let here = tokens.contains(token);
            if here {
                shares.push((*token, *share));
            } else if open {
                limits.push(*token);
            }
            open = here;
        }
        let removed = self.removed.iter().copied().collect();
        Part { range: self.range, origin: self.origin.clone(), shares, limits, removed }
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
            eat(share.epoch);
            id(share.owner).into_iter().for_each(&mut eat);
        }
        self.removed.iter().flat_map(|peer| id(*peer)).for_each(&mut eat);
        hash.max(1)
    }
}

fn pad(name: PeerName) -> [u8; 8] {
    let [a, b, c, d, e, f] = name.bytes();
    [0, 0, a, b, c, d, e, f]
}

#[cfg(test)]
mod tests;
