//! Merging rings: deltas that peers send, which of them are refused, and the join of two rings.
//!
//! Merging is commutative, associative and idempotent, and total on any input: of each address the greatest [`Share`] counts.
//! A delta says where each of its ranges ends ([`Part::limits`]), and counts for the addresses up to there: a receiver that
//! does not know yet of a range that was split off would else take that for a part of it; and a range that is split after it
//! was taken over would else come back under a new token.
//!
//! Admission ([`admit`]) comes before, and is no part of the join: it refuses what no peer that keeps to the rules sends, so
//! that no message makes a ring that a takeover or a hand-over cannot mend. A takeover begins a generation above all others,
//! with room for its epochs, and a version far above those held is refused:
//! | bound | meaning |
//! |---|---|
//! | [`GENERATIONS_AHEAD_MAX`] | generations above the highest held; a peer that missed more takeovers has to join anew |
//! | [`EPOCHS_AHEAD_MAX`] | epochs above the highest held |
//! | [`VERSION_MAX`] | for a peer without a ring, which has nothing to compare with |

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;

use super::{ENTRIES_MAX, GIFT, Ring, Share, TAKEOVERS_MAX, join};
use crate::proto::{
    name::{PeerId, PeerName, PeerUid},
    wire::takeover::Takeover,
};

/// See the head of this file.
pub const GENERATIONS_AHEAD_MAX: u64 = 1024;
/// See the head of this file.
const EPOCHS_AHEAD_MAX: u64 = 1 << 32;
/// See the head of this file.
const VERSION_MAX: u64 = 1 << 62;

/// A ring, or what changed of it, as it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Part {
    /// The range that is divided.
    pub range: Ipv4Net,
    /// The founders of the ring.
    pub origin: Vec<PeerId>,
    /// Some or all of its ranges, by token.
    pub shares: Vec<(Ipv4Addr, Share)>,
    /// Tokens of ranges of which nothing is said but that ranges end before them.
    pub limits: Vec<Ipv4Addr>,
    /// Peers that are gone for good.
    pub removed: Vec<Takeover>,
}

impl Part {
    /// True when it tells of every address of the range.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.limits.is_empty() && self.shares.iter().any(|(token, _)| *token == self.range.network())
    }

    /// By token: the share of the addresses up to the next one, if it says anything of them.
    fn by_token(&self, range: Ipv4Net) -> BTreeMap<Ipv4Addr, Option<Share>> {
        let limits = self.limits.iter().map(|token| (*token, None));
        let mut all: BTreeMap<Ipv4Addr, Option<Share>> = limits.filter(|(token, _)| range.contains(token)).collect();
        for (token, share) in self.shares.iter().filter(|(token, _)| range.contains(token)) {
            let held = all.entry(*token).or_default();
            *held = (*held).max(Some(*share));
        }
        all
    }

    fn conflict(&self, range: Ipv4Net, origin: &[PeerId]) -> Result<(), Conflict> {
        if self.range != range {
            return Err(Conflict::Range { theirs: self.range, ours: range });
        }
        if self.origin != origin {
            let names = |origin: &[PeerId]| origin.iter().map(|id| id.name).collect();
            return Err(Conflict::Origin { theirs: names(&self.origin), ours: names(origin) });
        }
        Ok(())
    }
}

/// Why a ring that was received is not merged: it is of another network. Ours stays as it was.
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
        /// Among which theirs was divided.
        theirs: Vec<PeerName>,
        /// Among which ours was.
        ours: Vec<PeerName>,
    },
    /// No ring at all.
    #[error("received a ring that cannot be: {0}")]
    Impossible(String),
}

/// Why a delta is refused: no peer that keeps to the rules sends it. The ring stays as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Nonsense {
    /// More than fits.
    #[error("it has {0} {1}, more than {2}")]
    TooMany(usize, &'static str, usize),
    /// An address that is not of the range.
    #[error("it gives {0}, which is not of the range")]
    Outside(Ipv4Addr),
    /// A share of a name without a store that is not of the first division.
    #[error("it gives {0} to {1}, without a store")]
    NoStore(Ipv4Addr, PeerName),
    /// See [`GENERATIONS_AHEAD_MAX`].
    #[error("it has generation {0}, and the highest here is {1}")]
    Generation(u64, u64),
    /// A generation that no takeover began.
    #[error("it has generation {0}, and no takeover that it holds is of that")]
    NoTakeover(u64),
    /// See [`EPOCHS_AHEAD_MAX`].
    #[error("it has epoch {0}, and the highest here is {1}")]
    Epoch(u64, u64),
    /// A takeover that nobody signed.
    #[error("the signature of a takeover from {0} is not that of {1}")]
    Signature(PeerName, PeerName),
    /// This peer gives only to peers that it knows.
    #[error("it gives {0}, which this peer owns, to {1}, which is not known here; this peer keeps it")]
    Stolen(Ipv4Addr, PeerName),
}

/// Whether peer `me` merges a delta into the ring it holds, or begins one with it. `known` tells peers that this peer could
/// have given something to. A delta of another network is admitted: the merge answers with a conflict.
///
/// # Errors
/// It is nonsense.
pub fn admit(part: &Part, held: Option<&Ring>, me: PeerId, known: impl Fn(PeerId) -> bool) -> Result<(), Nonsense> {
    bounded("founders", part.origin.len(), ENTRIES_MAX)?;
    bounded("ranges", part.shares.len(), ENTRIES_MAX)?;
    bounded("ends of ranges", part.limits.len(), ENTRIES_MAX)?;
    bounded("takeovers", part.removed.len(), TAKEOVERS_MAX)?;
    if held.is_some_and(|held| held.range != part.range || held.origin != part.origin) {
        return Ok(());
    }
    let tokens = part.shares.iter().map(|(token, _)| token).chain(&part.limits);
    if let Some(token) = tokens.copied().find(|token| !part.range.contains(token)) {
        return Err(Nonsense::Outside(token));
    }
    versions(part, held)?;
    for (token, share) in &part.shares {
        let first = Share::first(share.owner);
        if share.owner.uid == PeerUid(0) && (*share != first || part.origin.binary_search(&share.owner).is_err()) {
            return Err(Nonsense::NoStore(*token, share.owner.name));
        }
    }
    let network =
        Ring { range: part.range, origin: part.origin.clone(), shares: BTreeMap::new(), removed: BTreeMap::new() };
    let network = network.network();
    let is_held = |takeover: &&Takeover| held.and_then(|ring| ring.removed.get(&takeover.peer)) != Some(takeover);
    if let Some(forged) = part.removed.iter().filter(is_held).find(|takeover| !takeover.is_genuine(network)) {
        return Err(Nonsense::Signature(forged.peer.name, forged.by));
    }
    held.map_or(Ok(()), |ring| stolen(part, ring, me, known))
}

fn bounded(what: &'static str, count: usize, max: usize) -> Result<(), Nonsense> {
    if count > max { Err(Nonsense::TooMany(count, what, max)) } else { Ok(()) }
}

fn versions(part: &Part, held: Option<&Ring>) -> Result<(), Nonsense> {
    let takeovers = part.removed.iter().map(|takeover| takeover.generation);
    let shares = || part.shares.iter().map(|(_, share)| share);
    let (begun, generation) = (takeovers.max().unwrap_or(0), held.map_or(0, Ring::generation));
    let highest = shares().map(|share| share.generation).max().unwrap_or(0);
    let most = if held.is_some() { generation.saturating_add(GENERATIONS_AHEAD_MAX) } else { VERSION_MAX };
    if highest.max(begun) > most.min(VERSION_MAX) {
        return Err(Nonsense::Generation(highest.max(begun), generation));
    }
    if highest > begun.max(generation) {
        return Err(Nonsense::NoTakeover(highest));
    }
    let epochs = held.into_iter().flat_map(|ring| ring.shares.values()).map(|share| share.epoch);
    let epoch = epochs.max().unwrap_or(0);
    let most = if held.is_some() { epoch.saturating_add(EPOCHS_AHEAD_MAX) } else { VERSION_MAX };
    match shares().map(|share| share.epoch).max() {
        Some(highest) if highest > most.min(VERSION_MAX) => Err(Nonsense::Epoch(highest, epoch)),
        _ => Ok(()),
    }
}

/// In one generation only the owner gives, and to peers that it knows: what else takes from it is refused.
fn stolen(part: &Part, ring: &Ring, me: PeerId, known: impl Fn(PeerId) -> bool) -> Result<(), Nonsense> {
    match ring.thefts(part, me, known).first() {
        Some((token, share)) => Err(Nonsense::Stolen(*token, share.owner.name)),
        None => Ok(()),
    }
}

/// For each token of either: the share held there, and that of the delta, where it says something.
fn compared<'a>(
    held: &'a BTreeMap<Ipv4Addr, Share>,
    part: &'a BTreeMap<Ipv4Addr, Option<Share>>,
) -> impl Iterator<Item = (Ipv4Addr, Share, Share)> + 'a {
    let tokens: BTreeSet<Ipv4Addr> = held.keys().chain(part.keys()).copied().collect();
    let (mut ours, mut theirs) = (None, None);
    tokens.into_iter().filter_map(move |token| {
        ours = held.get(&token).copied().or(ours);
        theirs = part.get(&token).copied().unwrap_or(theirs);
        Some((token, ours?, theirs?))
    })
}

impl Ring {
    /// True for a peer that owns something, did before an owner of today, or was a founder.
    fn knows(&self, peer: PeerId) -> bool {
        let of_shares = self.shares.values().any(|share| share.owner == peer || share.from == peer);
        of_shares || self.origin.contains(&peer)
    }

    /// Where a delta gives what `me` owns to a peer that `me` could not have given it to.
    fn thefts(&self, part: &Part, me: PeerId, known: impl Fn(PeerId) -> bool) -> Vec<(Ipv4Addr, Share)> {
        let is_strange = |owner: PeerId| owner.name != me.name && !self.knows(owner) && !known(owner);
        let by_token = part.by_token(self.range);
        let all = compared(&self.shares, &by_token);
        let taken = all.filter(|(_, held, share)| {
            held.owner == me && share.generation == held.generation && share > held && is_strange(share.owner)
        });
        taken.map(|(token, _, share)| (token, share)).collect()
    }

    /// Raises the epoch of what `me` owns above that of a delta which was refused because it takes that away: other peers
    /// cannot see who gave, and take the highest. The tokens changed.
    pub fn defend(&mut self, part: &Part, me: PeerId, known: impl Fn(PeerId) -> bool) -> Vec<Ipv4Addr> {
        let thefts = self.thefts(part, me, known);
        let epoch = thefts.iter().map(|(_, share)| share.epoch).max().unwrap_or(0).saturating_add(GIFT);
        let generations: BTreeSet<u64> = thefts.iter().map(|(_, share)| share.generation).collect();
        let own =
            self.shares.iter_mut().filter(|(_, share)| share.owner == me && generations.contains(&share.generation));
        let mut changed = Vec::new();
        for (token, share) in own {
            share.epoch = share.epoch.max(epoch);
            changed.push(*token);
        }
        join(&mut self.shares);
        changed
    }

    /// Merges a delta: the tokens at which something changed, and whether anything did.
    ///
    /// # Errors
    /// It is of another ring, or would make this one too large; nothing changed.
    pub fn merge(&mut self, part: &Part) -> Result<Vec<Ipv4Addr>, Conflict> {
        part.conflict(self.range, &self.origin)?;
        let mut merged = self.shares.clone();
        let mut changed = Vec::new();
        for (token, held, share) in compared(&self.shares, &part.by_token(self.range)) {
            merged.insert(token, held.max(share));
            if share > held {
                changed.push(token);
            }
        }
        // Where a range of the delta ends, what is held goes on.
        for limit in part.limits.iter().filter(|limit| self.range.contains(*limit)) {
            let held = self.shares.range(..=limit).next_back().map(|(_, share)| *share);
            let told = part.shares.iter().any(|(token, _)| token == limit);
            merged.extend(held.filter(|_| !told).map(|share| (*limit, share)));
        }
        join(&mut merged);
        if merged.len() > ENTRIES_MAX {
            return Err(Conflict::Impossible(format!("it has more than {ENTRIES_MAX} ranges")));
        }
        self.shares = merged;
        self.add_takeovers(&part.removed);
        Ok(changed)
    }

    /// Of one peer the greatest counts, and of more than [`TAKEOVERS_MAX`] peers those of the latest takeovers: before
    /// them go peers that left by themselves.
    pub(super) fn add_takeovers(&mut self, takeovers: &[Takeover]) {
        for takeover in takeovers {
            let held = self.removed.entry(takeover.peer).or_insert(*takeover);
            *held = *takeover.rank().max(held.rank()).1;
        }
        while self.removed.len() > TAKEOVERS_MAX {
            let oldest = self.removed.values().min_by_key(|takeover| takeover.rank()).map(|takeover| takeover.peer);
            oldest.map(|peer| self.removed.remove(&peer));
        }
    }

    /// The ring that a part of it, sent to a peer without one, begins.
    ///
    /// # Errors
    /// There is no such ring, or it is of another range than `range`.
    pub fn adopt(range: Ipv4Net, part: &Part) -> Result<Self, Conflict> {
        part.conflict(range, &part.origin)?;
        let sorted = part.origin.is_sorted() && part.origin.windows(2).all(|pair| pair[0] != pair[1]);
        if !sorted {
            return Err(Conflict::Impossible("its founders are not in order".to_owned()));
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

    /// The ranges that hold these addresses, with all takeovers.
    pub fn part(&self, addrs: impl IntoIterator<Item = Ipv4Addr>) -> Part {
        let token = |addr| self.shares.range(..=addr).next_back().map(|(token, _)| *token);
        let tokens: BTreeSet<Ipv4Addr> = addrs.into_iter().filter_map(token).collect();
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
        let removed = self.removed.values().copied().collect();
        Part { range: self.range, origin: self.origin.clone(), shares, limits, removed }
    }

    /// True when the ring says of each address what the `other` says, or something newer.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let known = |peer: &PeerId| self.removed.get(peer) >= other.removed.get(peer);
        let whole = other.whole().by_token(self.range);
        let newer = compared(&self.shares, &whole).any(|(_, held, share)| share > held);
        !newer && (other.removed.keys().all(known) || self.removed.len() >= TAKEOVERS_MAX)
    }

    /// What is newer here than in the whole ring of another peer, if anything.
    #[must_use]
    pub fn newer_than(&self, theirs: &Part) -> Option<Part> {
        let by_token = theirs.by_token(self.range);
        let newer = compared(&self.shares, &by_token).filter(|(_, held, share)| held > share).map(|(token, ..)| token);
        let newer: Vec<Ipv4Addr> = newer.collect();
        let removed: BTreeMap<PeerId, Takeover> =
            theirs.removed.iter().map(|takeover| (takeover.peer, *takeover)).collect();
        let takeovers = self.removed.iter().any(|(peer, takeover)| removed.get(peer) < Some(takeover));
        (!newer.is_empty() || takeovers).then(|| self.part(newer))
    }
}
