//! One outcome, whatever is lost, repeated, late, or restarted from its store.

use proptest::prelude::*;

use super::*;
use crate::proto::{name::PeerUid, rng::Rng};

fn id(n: u8) -> PeerId {
    store(n, u128::from(n))
}

fn store(n: u8, uid: u128) -> PeerId {
    PeerId { name: PeerName::from_bytes([0, 0, 0, 0, 0, n]), uid: PeerUid(uid) }
}

fn range() -> Ipv4Net {
    "10.32.0.0/12".parse().unwrap()
}

fn at(seconds: u64) -> Instant {
    Instant::from_start(Duration::from_secs(seconds))
}

fn election(id: PeerId, role: Role, stored: Option<Vote>) -> Election {
    Election::new(id, range(), role, stored, Rng::new([id.uid.0 as u8; 32]), at(0))
}

/// Voters (and observers) that hear each other when told to.
struct Network {
    peers: Vec<(PeerId, Role, Election)>,
    /// Durable; and what everybody could hear: the same, as nothing is told before.
    stored: Vec<Option<Vote>>,
    decided: Vec<Option<Vec<PeerId>>>,
    now: u64,
}

impl Network {
    fn new(roles: &[Role]) -> Self {
        let peer = |(n, role): (usize, &Role)| (id(n as u8 + 1), *role, election(id(n as u8 + 1), *role, None));
        let peers: Vec<_> = roles.iter().enumerate().map(peer).collect();
        Self { stored: vec![None; peers.len()], decided: vec![None; peers.len()], peers, now: 0 }
    }

    fn turn(&mut self, n: usize) {
        let turn = self.peers[n].2.turn(at(self.now));
        if turn.vote.is_some() {
            self.stored[n] = turn.vote;
        }
        if turn.decided.is_some() {
            self.decided[n] = turn.decided;
        }
    }

    fn hear(&mut self, to: usize, from: usize) {
        if let Some(vote) = self.stored[from].clone() {
            let from = self.peers[from].0;
            self.peers[to].2.heard(from, vote);
        }
    }

    fn restart(&mut self, n: usize) {
        let (id, role, _) = self.peers[n];
        self.peers[n].2 = election(id, role, self.stored[n].clone());
    }

    /// Everybody hears everybody for a while.
    fn settle(&mut self) {
        for _ in 0..40 {
            self.now += 1;
            for n in 0..self.peers.len() {
                self.turn(n);
                (0..self.peers.len()).filter(|other| *other != n).for_each(|other| self.hear(other, n));
            }
        }
    }

    fn outcomes(&self) -> BTreeSet<&Vec<PeerId>> {
        self.decided.iter().flatten().collect()
    }
}

const THREE: [Role; 3] = [Role::Voter(3); 3];

#[test]
fn nothing_happens_before_it_is_needed() {
    let mut network = Network::new(&THREE);
    network.settle();
    assert!(network.outcomes().is_empty());
    network.peers[1].2.need();
    network.settle();
    assert_eq!(network.decided, vec![Some(vec![id(1), id(2), id(3)]); 3]);
}

#[test]
fn less_than_a_quorum_decides_nothing_and_says_so() {
    let mut network = Network::new(&THREE);
    network.peers[0].2.need();
    for _ in 0..20 {
        network.now += 1;
        network.turn(0);
    }
    assert!(network.outcomes().is_empty());
    assert_eq!(network.peers[0].2.known(), Some((1, 2)));
    assert_eq!(network.peers[0].2.trouble(), None);
    // With a second there is one.
    network.turn(1);
    for _ in 0..20 {
        network.now += 1;
        network.hear(0, 1);
        network.turn(0);
        network.hear(1, 0);
        network.turn(1);
    }
    assert_eq!(network.decided[..2], vec![Some(vec![id(1), id(2)]); 2]);
}

#[test]
fn one_voter_decides_alone() {
    let mut network = Network::new(&[Role::Voter(1)]);
    network.peers[0].2.need();
    network.turn(0);
    assert_eq!(network.decided[0], Some(vec![id(1)]));
}

#[test]
fn an_observer_is_heard_and_does_not_vote() {
    let mut network = Network::new(&[Role::Voter(2), Role::Voter(2), Role::Observer]);
    network.peers[2].2.need();
    network.settle();
    assert_eq!(network.decided, [Some(vec![id(1), id(2)]), Some(vec![id(1), id(2)]), None]);
    // With one voter of two, two observers make no quorum.
    let mut network = Network::new(&[Role::Voter(2), Role::Observer, Role::Observer]);
    network.peers[1].2.need();
    network.settle();
    assert!(network.outcomes().is_empty());
}

#[test]
fn an_observer_without_voters_is_told_what_to_do() {
    let network = Network::new(&[Role::Observer]);
    assert!(network.peers[0].2.trouble().unwrap().contains("--initial-peer-count"));
}

#[test]
fn those_who_declare_different_numbers_do_not_elect_together() {
    let mut network = Network::new(&[Role::Voter(2), Role::Voter(3)]);
    network.peers[0].2.need();
    network.settle();
    assert!(network.outcomes().is_empty());
    let trouble = network.peers[0].2.trouble().unwrap();
    assert!(trouble.contains("declares 3 electors, this peer 2"), "{trouble}");
}

#[test]
fn one_that_declared_another_number_and_begins_anew_with_the_right_one_votes() {
    let mut network = Network::new(&[Role::Voter(2), Role::Voter(3)]);
    network.peers[0].2.need();
    network.settle();
    assert!(network.outcomes().is_empty());
    let fresh = store(2, 22);
    network.peers[1] = (fresh, Role::Voter(2), election(fresh, Role::Voter(2), None));
    // It hears of its former store, too.
    let former = network.stored[1].take().unwrap();
    network.peers[1].2.heard(id(2), former);
    network.settle();
    assert_eq!(network.decided, vec![Some(vec![id(1), fresh]); 2]);
}

#[test]
fn more_than_declared_are_no_electorate() {
    let mut network = Network::new(&[Role::Voter(2); 3]);
    for (to, from) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
        network.turn(from);
        network.hear(to, from);
    }
    network.peers[0].2.need();
    network.settle();
    assert!(network.outcomes().is_empty());
    let trouble = network.peers[0].2.trouble().unwrap();
    assert!(trouble.contains("3 peers declare that 2 elect"), "{trouble}");
}

#[test]
fn a_voter_that_lost_its_store_does_not_vote_where_the_former_is_remembered() {
    let mut network = Network::new(&THREE);
    network.turn(0);
    network.hear(1, 0);
    network.turn(1);
    // The first is wiped, and a voter that remembers it is restarted.
    network.peers[0] = (store(1, 77), Role::Voter(3), election(store(1, 77), Role::Voter(3), None));
    network.stored[0] = None;
    network.restart(1);
    network.turn(0);
    network.hear(1, 0);
    network.hear(0, 1);
    network.peers[0].2.need();
    for _ in 0..20 {
        network.now += 1;
        network.turn(0);
        network.turn(1);
        network.hear(0, 1);
        network.hear(1, 0);
    }
    assert!(network.outcomes().is_empty(), "two names, and not a quorum of stores");
    assert!(network.peers[0].2.trouble().unwrap().contains("former store"));
}

#[test]
fn votes_survive_the_trip() {
    let ballot = Ballot { round: 3, proposer: id(2) };
    let vote = Vote {
        wants: true,
        promised: Some(ballot),
        accepted: Some(Accepted { ballot, origin: vec![id(1), id(2)] }),
        known: vec![id(1)],
        ..Vote::new(range(), Some(3))
    };
    assert_eq!(Vote::decode(&vote.encode()), Ok(vote.clone()));
    let long = Vote { known: vec![id(1); VOTERS_MAX + 1], ..vote };
    assert!(Vote::decode(&long.encode()).is_err());
}

/// What may happen to voters.
#[derive(Clone, Copy, Debug)]
enum Step {
    Turn(u8),
    Hear(u8, u8),
    Restart(u8),
    Need(u8),
    Later,
}

fn step(voters: u8) -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..voters).prop_map(Step::Turn),
        6 => (0..voters, 0..voters).prop_map(|(to, from)| Step::Hear(to, from)),
        1 => (0..voters).prop_map(Step::Restart),
        1 => (0..voters).prop_map(Step::Need),
        1 => Just(Step::Later),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn there_is_one_outcome(voters in 2_u8..6, steps in prop::collection::vec(step(6), 0..200)) {
        let mut network = Network::new(&vec![Role::Voter(u16::from(voters)); usize::from(voters)]);
        for step in steps {
            match step {
                Step::Turn(n) => network.turn(usize::from(n % voters)),
                Step::Hear(to, from) if to % voters != from % voters => {
                    network.hear(usize::from(to % voters), usize::from(from % voters));
                }
                Step::Hear(..) => {}
                Step::Restart(n) => network.restart(usize::from(n % voters)),
                Step::Need(n) => network.peers[usize::from(n % voters)].2.need(),
                Step::Later => network.now += 2,
            }
            prop_assert!(network.outcomes().len() <= 1, "{:?}", network.decided);
        }
        network.peers[0].2.need();
        network.settle();
        prop_assert_eq!(network.outcomes().len(), 1, "there is one in the end");
        let outcome: Vec<PeerId> = (*network.outcomes().first().unwrap()).clone();
        prop_assert!(outcome.len() >= quorum(u16::from(voters)), "{:?}", outcome);
    }

    #[test]
    fn decoding_a_vote_is_total(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(Vote::decode(&bytes));
    }
}
