//! Voters in every order: the real `Election`, made anew from its store for every turn.
//!
//! A voter is the history of the votes that it told, the last of which is its store. For a turn it is made from that, and
//! hears of each other voter any one vote that this one ever told, or none: so votes are lost, late, repeated and out of
//! order, and the voter may have been restarted before. Its clock is an argument: a turn may find the time for a proposal
//! come, or not. A voter that has learned the outcome goes on, which a real one does not: more can happen here, not less.
//!
//! With `crashes`, a turn and the commit of what came of it are two steps, between which others go on; a crash there
//! forgets the turn, and what was learned in it. Without, they are one: nobody can tell the difference, as a turn that is
//! committed late is one that was taken late and heard what it heard.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use ipnet::Ipv4Net;
use stateright::{Model, Property};
use weave_ctl::proto::{
    election::{self, Election, Role, Vote, quorum},
    name::{PeerId, PeerName, PeerUid},
    rng::Rng,
    time::Instant,
};

use crate::interner::{Interner, Number};

/// What the model may do; see the head of this file.
#[derive(Debug)]
pub(crate) struct Voters {
    /// What each declares.
    pub(crate) counts: [u16; 3],
    /// Proposals in all.
    pub(crate) proposals: u8,
    /// The voters start with these known to each, all wanting an election; without, they know nothing of each other, and
    /// the first two want one.
    pub(crate) acquainted: Option<[&'static [usize]; 3]>,
    /// See the head of this file.
    pub(crate) crashes: bool,
    /// One store may lose what it held, which the real one never does.
    pub(crate) forgetful: bool,
    pub(crate) memory: Mutex<Memory>,
}

/// What comes of a turn: the vote, and the outcome that was learned.
type Came = (Number, Option<Number>);

/// Something that a voter may do: what it heard, if the time for a proposal had come, what comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    heard: [Option<Number>; 3],
    due: bool,
    came: Came,
}

/// Whose turn it is, its store, the histories of the two others, and if the time for a proposal has come.
type Occasion = (usize, Option<Number>, [Option<Number>; 2], bool);

/// Values that came up, by number, and what came of them.
#[derive(Debug)]
pub(crate) struct Memory {
    votes: Interner<Vote>,
    values: Interner<Vec<PeerId>>,
    /// An earlier history, and a vote that was told then.
    histories: Interner<(Option<Number>, Number)>,
    told: Vec<Told>,
    /// The votes that are heard stand for the histories here.
    turns: HashMap<Occasion, Came>,
    occasions: HashMap<Occasion, Arc<[Turn]>>,
}

/// A ballot as its round times four and its proposer, from one: greater is higher.
type Ballot = u64;

/// What the properties look at in a history.
#[derive(Clone, Debug)]
struct Told {
    promised: Ballot,
    /// In order.
    accepted: Vec<(Ballot, Number)>,
    /// Voters that are named anywhere, a bit each.
    names: u8,
    /// A promise or an acceptance is lower than one before, or is accepted without promise.
    back: bool,
}

/// One voter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Voter {
    told: Option<Number>,
    /// What it goes on from: the last that it told, unless the store forgot.
    stored: Option<Number>,
    /// A turn that is not committed yet.
    pending: Option<Came>,
}

/// All voters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct State {
    voters: [Voter; 3],
    /// Outcomes that somebody learned, in order of their numbers.
    learned: Vec<Number>,
    proposals: u8,
    forgot: bool,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Turn(usize, Turn),
    /// What came of the last turn becomes durable, and is told.
    Commit(usize),
    /// What came of the last turn is lost.
    Crash(usize),
    /// The store is empty.
    Forget(usize),
}

fn id(n: usize) -> PeerId {
    let n = u8::try_from(n + 1).expect("three voters");
    PeerId { name: PeerName::from_bytes([0, 0, 0, 0, 0, n]), uid: PeerUid(u128::from(n)) }
}

fn bit(id: PeerId) -> u8 {
    1 << (id.name.bytes()[5] - 1)
}

fn ballot(ballot: election::Ballot) -> Ballot {
    ballot.round * 4 + u64::from(ballot.proposer.name.bytes()[5])
}

fn range() -> Ipv4Net {
    "10.0.0.0/24".parse().expect("a range")
}

impl Voters {
    /// Voters that declare `counts` and know nothing of each other.
    pub(crate) fn new(counts: [u16; 3], proposals: u8) -> Self {
        let memory = Memory {
            votes: Interner::new(),
            values: Interner::new(),
            histories: Interner::new(),
            told: Vec::new(),
            turns: HashMap::new(),
            occasions: HashMap::new(),
        };
        Self { counts, proposals, acquainted: None, crashes: false, forgetful: false, memory: Mutex::new(memory) }
    }

    fn commit(memory: &mut Memory, state: &mut State, voter: usize, (vote, outcome): Came) {
        let voter = &mut state.voters[voter];
        if voter.stored != Some(vote) {
            voter.stored = Some(vote);
            voter.told = Some(memory.tell(voter.told, vote));
        }
        if let Some(outcome) = outcome
            && let Err(at) = state.learned.binary_search(&outcome)
        {
            state.learned.insert(at, outcome);
        }
    }

    /// The real code's turn.
    fn turn(
        &self,
        memory: &mut Memory,
        voter: usize,
        stored: Option<Number>,
        heard: [Option<Number>; 2],
        due: bool,
    ) -> Came {
        if let Some(came) = memory.turns.get(&(voter, stored, heard, due)) {
            return *came;
        }
        let [early, late] = [0, 1].map(|seconds| Instant::from_start(Duration::from_secs(seconds)));
        let vote = stored.map(|number| memory.votes.value(number).clone());
        // A proposal is due when the voter is made: in a turn before that, it is not.
        let role = Role::Voter(self.counts[voter]);
        let mut election = Election::new(id(voter), range(), role, vote, Rng::new([0; 32]), late);
        for (other, number) in (1..3).zip(heard) {
            if let Some(number) = number {
                election.heard(id((voter + other) % 3), memory.votes.value(number).clone());
            }
        }
        if voter < 2 {
            election.need();
        }
        let turn = election.turn(if due { late } else { early });
        let vote = turn.vote.expect("a voter that was just made tells its vote");
        let came = (memory.votes.number(&vote), turn.decided.map(|outcome| memory.values.number(&outcome)));
        memory.turns.insert((voter, stored, heard, due), came);
        came
    }

    /// All that can come of a turn, once each: with the last votes of the others' histories, or with earlier ones.
    fn turns(&self, memory: &mut Memory, occasion: Occasion) -> Arc<[Turn]> {
        if let Some(turns) = memory.occasions.get(&occasion) {
            return Arc::clone(turns);
        }
        let (voter, stored, histories, due) = occasion;
        let nodes = histories.map(|history| history.map(|number| *memory.histories.value(number)));
        let last = nodes.map(|node| node.map(|(_, vote)| vote));
        let came = self.turn(memory, voter, stored, last, due);
        let mut heard = [None; 3];
        (heard[(voter + 1) % 3], heard[(voter + 2) % 3]) = (last[0], last[1]);
        let mut turns = vec![Turn { heard, due, came }];
        for (n, node) in nodes.iter().enumerate() {
            let Some((before, _)) = node else { continue };
            let mut earlier = histories;
            earlier[n] = *before;
            for turn in self.turns(memory, (voter, stored, earlier, due)).iter() {
                if !turns.iter().any(|other| other.came == turn.came) {
                    turns.push(*turn);
                }
            }
        }
        let turns: Arc<[Turn]> = turns.into();
        memory.occasions.insert(occasion, Arc::clone(&turns));
        turns
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().expect("whoever held it did not panic")
    }
}

impl Memory {
    /// The history that goes on with `vote`.
    fn tell(&mut self, before: Option<Number>, vote: Number) -> Number {
        let history = self.histories.number(&(before, vote));
        if history as usize == self.told.len() {
            let none = Told { promised: 0, accepted: Vec::new(), names: 0, back: false };
            let mut told = before.map_or(none, |before| self.told[before as usize].clone());
            let vote = self.votes.value(vote);
            let promised = vote.promised.map_or(0, ballot);
            let accepted = vote.accepted.as_ref().map(|held| (ballot(held.ballot), self.values.number(&held.origin)));
            let highest = told.accepted.last().map_or(0, |(ballot, _)| *ballot);
            let ballot = accepted.map_or(0, |(ballot, _)| ballot);
            told.back |= promised < told.promised || ballot < highest || ballot > promised;
            told.promised = promised;
            told.accepted.extend(accepted.filter(|held| !told.accepted.contains(held)));
            let proposers =
                vote.promised.iter().chain(vote.accepted.iter().map(|held| &held.ballot)).map(|b| &b.proposer);
            let origin = vote.accepted.iter().flat_map(|held| &held.origin);
            told.names |= proposers.chain(origin).chain(&vote.known).fold(0, |names, id| names | bit(*id));
            self.told.push(told);
        }
        history
    }

    fn proposer(&self, vote: Number) -> Option<election::Ballot> {
        self.votes.value(vote).promised
    }

    /// What each voter told.
    fn told<'a>(&'a self, state: &'a State) -> impl Iterator<Item = &'a Told> + Clone + 'a {
        state.voters.iter().filter_map(|voter| Some(&self.told[voter.told? as usize]))
    }
}

impl Model for Voters {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let mut state = State::default();
        let memory = &mut *self.memory();
        for voter in 0..3 {
            let vote = self.acquainted.map(|known| {
                let known = known[voter].iter().map(|n| id(*n)).collect();
                Vote { known, wants: true, ..Vote::new(range(), Some(self.counts[voter])) }
            });
            let stored = vote.map(|vote| memory.votes.number(&vote));
            let came = self.turn(memory, voter, stored, [None; 2], false);
            Self::commit(memory, &mut state, voter, came);
        }
        vec![state]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        let memory = &mut *self.memory();
        for (n, voter) in state.voters.iter().enumerate() {
            if voter.pending.is_some() {
                steps.extend([Step::Commit(n), Step::Crash(n)]);
                continue;
            }
            let others = [1, 2].map(|other| state.voters[(n + other) % 3].told);
            for due in [false, true] {
                if due && state.proposals >= self.proposals {
                    continue;
                }
                let turns = self.turns(memory, (n, voter.stored, others, due));
                let new = turns.iter().filter(|turn| {
                    Some(turn.came.0) != voter.stored || turn.came.1.is_some_and(|o| !state.learned.contains(&o))
                });
                steps.extend(new.map(|turn| Step::Turn(n, *turn)));
            }
            if self.forgetful && !state.forgot && voter.stored.is_some() {
                steps.push(Step::Forget(n));
            }
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let memory = &mut *self.memory();
        let mut state = state.clone();
        match step {
            Step::Turn(voter, Turn { came, .. }) => {
                let before = state.voters[voter].stored.and_then(|vote| memory.proposer(vote));
                let after = memory.proposer(came.0);
                let proposed = after != before && after.is_some_and(|ballot| ballot.proposer == id(voter));
                state.proposals += u8::from(proposed);
                if self.crashes {
                    state.voters[voter].pending = Some(came);
                } else {
                    Self::commit(memory, &mut state, voter, came);
                }
            }
            Step::Commit(voter) => {
                let came = state.voters[voter].pending.take()?;
                Self::commit(memory, &mut state, voter, came);
            }
            Step::Crash(voter) => state.voters[voter].pending = None,
            Step::Forget(voter) => {
                state.forgot = true;
                state.voters[voter].stored = None;
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("one outcome", |_, state: &State| state.learned.len() <= 1),
            Property::always("one value is chosen, and it alone is learned", Self::chosen_once),
            Property::always("a ballot has one value", Self::one_value_each),
            Property::always("promises and acceptances never go back", |model: &Self, state: &State| {
                !model.memory().told(state).any(|told| told.back)
            }),
            Property::always("voters of another count have no part", Self::apart),
            Property::sometimes("an outcome", |_, state: &State| !state.learned.is_empty()),
            Property::sometimes("an outcome after all proposals", |model: &Self, state: &State| {
                !state.learned.is_empty() && state.proposals == model.proposals
            }),
        ]
    }
}

/// Properties.
impl Voters {
    /// One value at most is accepted by a quorum of stores for one ballot, at whatever time; only it is learned.
    fn chosen_once(&self, state: &State) -> bool {
        let memory = self.memory();
        let count = |ballot: Ballot| self.counts[usize::try_from(ballot % 4).expect("small") - 1];
        let accepted = memory.told(state).flat_map(|told| &told.accepted);
        let mut chosen = accepted
            .filter(|held| {
                memory.told(state).filter(|told| told.accepted.contains(held)).count() >= quorum(count(held.0))
            })
            .map(|(_, value)| *value);
        let first = chosen.next();
        chosen.all(|value| Some(value) == first) && state.learned.iter().all(|value| Some(*value) == first)
    }

    fn one_value_each(&self, state: &State) -> bool {
        let memory = self.memory();
        let held = || memory.told(state).flat_map(|told| &told.accepted);
        held().all(|(ballot, value)| held().all(|(other, another)| other != ballot || another == value))
    }

    /// What a voter promises, accepts and knows is of voters that declare what it declares.
    fn apart(&self, state: &State) -> bool {
        let memory = self.memory();
        let strangers = |own: u16| (0..3).filter(|n| self.counts[*n] != own).fold(0, |names, n| names | bit(id(n)));
        memory.told(state).zip(self.counts).all(|(told, own)| told.names & strangers(own) == 0)
    }
}
