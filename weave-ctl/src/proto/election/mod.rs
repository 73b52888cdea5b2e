//! Bootstrap by election: single-decree Paxos (Lamport, "Paxos Made Simple") over gossip. The value is the origin of the
//! ring: who owns what at the start.
//!
//! Each voter's whole state stands on its own signed entry of the channel of votes: what it promised and what it
//! accepted. A voter that sees a higher ballot promises it; the proposer that sees its ballot promised by a quorum
//! accepts a value for it, that of the highest ballot accepted among these, or else everybody it knows; voters that see
//! a value accepted for the ballot they promised accept it too; whoever sees one ballot accepted by a quorum knows the
//! outcome. A state read late is no harm: while it still promises a ballot, it says what was accepted before.
//!
//! ```text
//! nothing -- needed --> promised(own ballot) -- quorum promised --> accepted(own ballot) -- quorum accepted --> decided
//!              ^              |                                          |
//!              +-- RETRY -----+---------- somebody's higher ballot ------+
//! ```
//! What is promised or accepted is durable before it is told. The number of voters is declared, the same by all: a voter
//! counts only states that declare its own number and range, so two quorums always share a voter. A second store of a
//! voter's name is not counted while the first is remembered, and more voters than declared are no electorate at all.
//! Observers do not vote and are not in the value; their wish for an election is heard.
//! Bounds: [`VOTERS_MAX`] voters.

mod vote;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ipnet::Ipv4Net;

pub use self::vote::{Accepted, Ballot, Vote};
use super::{
    name::{PeerId, PeerName},
    rng::Rng,
    time::Instant,
};

/// Most voters, and so the largest number that can be declared.
pub const VOTERS_MAX: usize = 1024;
/// Time after which a ballot that came to nothing is followed by a higher one, on average.
pub const RETRY: Duration = Duration::from_secs(3);

/// Part of a peer in the election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// One of this many voters.
    Voter(u16),
    /// Waits for the outcome.
    Observer,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Election {
    me: PeerId,
    range: Ipv4Net,
    role: Role,
    vote: Vote,
    told: bool,
    /// By name: the first store heard of, and what it last told.
    heard: BTreeMap<PeerName, (PeerId, Vote)>,
    /// Names of which other stores were heard too.
    twice: BTreeSet<PeerName>,
    needed: bool,
    propose_at: Instant,
    decided: bool,
    rng: Rng,
}

/// What a turn came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Make this durable, then tell it.
    pub vote: Option<Vote>,
    /// The outcome: among whom the range is divided.
    pub decided: Option<Vec<PeerId>>,
}

/// Voters that must agree out of `count`.
#[must_use]
pub fn quorum(count: u16) -> usize {
    usize::from(count) / 2 + 1
}

impl Election {
    /// The part of `me` in the election, with what its store remembers.
    #[must_use]
    pub fn new(me: PeerId, range: Ipv4Net, role: Role, stored: Option<Vote>, rng: Rng, now: Instant) -> Self {
        let count = if let Role::Voter(count) = role { Some(count) } else { None };
        let vote = stored.filter(|vote| vote.count == count && vote.range == range);
        let mut vote = vote.unwrap_or_else(|| Vote::new(range, count));
        if count.is_some() && !vote.known.contains(&me) {
            vote.known.push(me);
        }
        let needed = vote.wants;
        Self {
            me,
            range,
            role,
            vote,
            told: false,
            heard: BTreeMap::new(),
            twice: BTreeSet::new(),
            needed,
            propose_at: now,
            decided: false,
            rng,
        }
    }

    /// What a peer told. Its name's first store counts, of those that declare what this peer declares: no other can have
    /// voted with it.
    pub fn heard(&mut self, from: PeerId, vote: Vote) {
        if from.name == self.me.name {
            if from != self.me && self.declares_the_same(&vote) {
                self.twice.insert(from.name);
            }
            return;
        }
        // A store that voted in an earlier run of this peer is remembered too.
        let other = |id: &PeerId| id.name == from.name && *id != from;
        let first = self.heard.get(&from.name).filter(|(_, vote)| self.declares_the_same(vote));
        let known = self.vote.known.iter().any(other) || first.is_some_and(|(id, _)| other(id));
        if known {
            self.twice.insert(from.name);
        } else if self.heard.len() < VOTERS_MAX || self.heard.contains_key(&from.name) {
            self.heard.insert(from.name, (from, vote));
        }
    }

    /// An address is needed here, or somebody waits for the ring.
    pub fn need(&mut self) {
        self.needed = true;
    }

    /// True when somebody waits for the outcome.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        self.needed
    }

    /// There is a ring: nothing is to be decided any more.
    pub fn over(&mut self) {
        self.decided = true;
    }

    fn declares_the_same(&self, vote: &Vote) -> bool {
        vote.count.is_some() && vote.count == self.vote.count && vote.range == self.range
    }

    /// Voters other than this peer that declare what it declares.
    fn voters(&self) -> impl Iterator<Item = (PeerId, &Vote)> + '_ {
        self.heard.values().filter(|(_, vote)| self.declares_the_same(vote)).map(|(id, vote)| (*id, vote))
    }

    /// Voters known, this one among them, and how many must agree; `None` for an observer.
    #[must_use]
    pub fn known(&self) -> Option<(usize, usize)> {
        let Role::Voter(count) = self.role else { return None };
        Some((self.voters().count() + 1, quorum(count)))
    }

    /// What keeps this peer from voting; or, for an observer, from hoping.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let Role::Voter(count) = self.role else {
            let voters = self.heard.values().any(|(_, vote)| vote.count.is_some());
            let none = "no peer that may elect is known: launch some with --initial-peer-count, or one with --seed";
            return (!voters).then(|| none.to_owned());
        };
        if self.formerly() {
            return Some(
                "a former store of this peer's name has voted: this one does not, and waits for the others".to_owned(),
            );
        }
        let known = self.vote.known.len();
        if known > usize::from(count) {
            return Some(format!(
                "{known} peers declare that {count} elect: `reset` some and launch them with --observer"
            ));
        }
        let other =
            self.heard.values().find(|(_, v)| v.count.is_some() && (v.count, v.range) != (Some(count), self.range));
        let (other, vote) = other?;
        let theirs = vote.count.unwrap_or(0);
        let what = if vote.range == self.range {
            format!("{} declares {theirs} electors, this peer {count}", other.name)
        } else {
            format!("{} declares the range {}, this peer {}", other.name, vote.range, self.range)
        };
        Some(format!("{what}: they do not elect together; launch all with the same"))
    }

    /// Another voter knows another store under this peer's name.
    fn formerly(&self) -> bool {
        let me = self.me;
        let mut known = self.voters().flat_map(|(_, vote)| vote.known.iter());
        self.twice.contains(&me.name) || known.any(|id| id.name == me.name && *id != me)
    }

    /// True when this peer votes: it is a voter, and the electorate is what it was declared to be.
    fn votes(&self) -> bool {
        let Role::Voter(count) = self.role else { return false };
        !self.formerly() && self.vote.known.len() <= usize::from(count)
    }

    /// Does what is to be done.
    pub fn turn(&mut self, now: Instant) -> Turn {
        if self.decided {
            return Turn::default();
        }
        let before = self.vote.clone();
        self.needed |= self.heard.values().any(|(_, vote)| vote.wants);
        self.vote.wants |= self.needed;
        if let Role::Voter(count) = self.role {
            let known: BTreeSet<PeerId> =
                self.voters().map(|(id, _)| id).chain(self.vote.known.iter().copied()).collect();
            self.vote.known = known.into_iter().take(VOTERS_MAX).collect();
            if self.votes() {
                self.follow();
                self.lead(quorum(count), now);
            }
        }
        let decided = if let Role::Voter(count) = self.role { self.outcome(quorum(count)) } else { None };
        self.decided |= decided.is_some();
        let tell = before != self.vote || !self.told;
        self.told = true;
        Turn { vote: tell.then(|| self.vote.clone()), decided }
    }

    /// When [`Self::turn`] has something to do by itself.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        (self.needed && !self.decided && self.votes() && self.enough()).then_some(self.propose_at)
    }

    /// An acceptor: promises the highest ballot, accepts what was accepted for the ballot it promised.
    fn follow(&mut self) {
        let highest = self.voters().filter_map(|(_, vote)| vote.promised).max();
        self.vote.promised = self.vote.promised.max(highest);
        let promised = self.vote.promised;
        let accepted = self.voters().filter_map(|(_, vote)| vote.accepted.as_ref());
        let accepted = accepted.filter(|accepted| Some(accepted.ballot) == promised).find(|a| fits(a)).cloned();
        if self.vote.accepted.as_ref().is_none_or(|held| Some(held.ballot) < promised) && accepted.is_some() {
            self.vote.accepted = accepted;
        }
    }

    fn enough(&self) -> bool {
        self.known().is_some_and(|(known, quorum)| known >= quorum)
    }

    /// A proposer: opens a ballot when one is needed, and gives the value to its own when a quorum has promised it.
    fn lead(&mut self, quorum: usize, now: Instant) {
        let mine = self.vote.promised.filter(|ballot| ballot.proposer == self.me);
        let valued = self.vote.accepted.as_ref().map(|accepted| accepted.ballot) == mine;
        if let Some(ballot) = mine.filter(|_| !valued) {
            let promised: Vec<(PeerId, &Vote)> = self.voters().filter(|(_, v)| v.promised == Some(ballot)).collect();
            if promised.len() + 1 >= quorum {
                let earlier = promised.iter().filter_map(|(_, vote)| vote.accepted.as_ref());
                let earlier = earlier.chain(&self.vote.accepted).max_by_key(|accepted| accepted.ballot);
                let origin = earlier.map_or_else(|| self.vote.known.clone(), |accepted| accepted.origin.clone());
                self.vote.accepted = Some(Accepted { ballot, origin });
                return;
            }
        }
        if self.needed && self.enough() && self.propose_at <= now {
            self.propose_at = now + self.rng.jitter(RETRY);
            let round = self.vote.promised.map_or(0, |ballot| ballot.round).saturating_add(1);
            self.vote.promised = Some(Ballot { round, proposer: self.me });
            if quorum == 1 {
                self.lead(quorum, now);
            }
        }
    }

    /// The value that a quorum has accepted for one ballot.
    fn outcome(&self, quorum: usize) -> Option<Vec<PeerId>> {
        let mut counts: BTreeMap<Ballot, (usize, &Accepted)> = BTreeMap::new();
        let own = Some(&self.vote).filter(|_| !self.formerly());
        for accepted in self.voters().map(|(_, vote)| vote).chain(own).filter_map(|vote| vote.accepted.as_ref()) {
            counts.entry(accepted.ballot).or_insert((0, accepted)).0 += 1;
        }
        let (_, accepted) = counts.into_values().find(|(count, _)| *count >= quorum)?;
        (self.vote.known.len() <= usize::from(self.vote.count?)).then(|| accepted.origin.clone())
    }
}

/// A value that a ring can be made of.
fn fits(accepted: &Accepted) -> bool {
    !accepted.origin.is_empty() && accepted.origin.len() <= VOTERS_MAX
}

#[cfg(test)]
mod tests;
