//! L2: models: the real election and the real keepers of addresses in every state that they can reach, within bounds.
//!
//! | model                                      | bounds                                              | states    |
//! |--------------------------------------------|-----------------------------------------------------|-----------|
//! | voters that know each other but for one    | 3 voters, 3 proposals                               | 1 307 726 |
//! | the same, a crash between turn and commit  | 3 voters, 2 proposals                               | 70 941    |
//! | voters that know nothing of each other     | 3 voters, 1 proposal                                | 132 600   |
//! | voters of different numbers (2, 3, 3)      | 3 voters, 2 proposals                               | 680       |
//! | peers that give, hand over and allocate    | 3 peers, a /29, 2 changes of the ring, 1 allocation | 542 903   |
//! | the same, one dies and is taken over from  | 3 peers, a /30, 2 changes, 2 allocations            | 177 562   |
//! | the same, the one removed goes on, cut off | 3 peers, a /29, 1 change, 1 allocation              | 72 881    |
//!
//! Each property was seen to fail with a fault in the real code, or in the store:
//!
//! | property                                            | seen to fail when                                        |
//! |-----------------------------------------------------|----------------------------------------------------------|
//! | one outcome                                         | the proposer ignores what was accepted before; the       |
//! |                                                     | quorum is half, or one promise short; a voter accepts    |
//! |                                                     | below its promise; acceptances of different ballots are  |
//! |                                                     | counted together; a store forgets                        |
//! | one value is chosen, and it alone is learned        | acceptances of different ballots are counted together    |
//! | a ballot has one value                              | a proposer gives its ballot a value again                |
//! | promises and acceptances never go back              | a voter starts from an empty vote instead of its store;  |
//! |                                                     | promises what it heard last, not the highest; accepts    |
//! |                                                     | below its promise                                        |
//! | voters of another count have no part                | the declared numbers are not compared                    |
//! | no address is on two peers                          | what is given is not looked up for its owner; a store    |
//! |                                                     | forgets                                                  |
//! | no address has two owners by their own views        | a gift or a hand-over does not raise the epoch; a part   |
//! |                                                     | does not say where its pieces end; a takeover is one     |
//! |                                                     | epoch ahead alone; pieces end one address too late       |
//! | an address that is in use stays its peer's          | an address is given that a container has                 |
//! | tokens and epochs never go back                     | merging takes the lower epoch; a store forgets           |
//! | peers that told each other all have one ring        | what is told of a piece does not count for what was      |
//! |                                                     | split off; removed stores are not merged                 |
//! | who had no ring has an address; all have one ring   | a change is told and not made durable                    |
//! | after all changes (both can be reached)             |                                                          |
//! | what a lost peer owned is in use again (as above)   | a takeover has no effect                                 |
//! | an outcome, also after all proposals (as above)     | nobody proposes                                          |
//! | rings cover the range                               | pieces end one address too late                          |
//!
//! Does not: model the mesh, or time; show that an outcome is reached in the end (the World does).

#[path = "models/election.rs"]
mod election;
#[path = "models/interner.rs"]
mod interner;
#[path = "models/ring.rs"]
mod ring;

use std::{collections::BTreeSet, fmt::Debug, hash::Hash, time::Instant};

use election::Voters;
use ring::{Loss, Sharers};
use stateright::{Checker, HasDiscoveries, Model};

/// Whom each of three voters knows at the start: so the value depends on who proposes, and on what was heard by then.
const ACQUAINTED: [&[usize]; 3] = [&[0, 1], &[0, 1, 2], &[0, 1, 2]];

/// After so many steps the model is taken for boundless.
const STATES_MAX: usize = 8_000_000;

/// Every state that can be reached: there are at least `least`, and all properties hold.
fn explore<M>(model: M, least: usize)
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq,
{
    let start = Instant::now();
    let bounded = model.checker().finish_when(HasDiscoveries::AnyFailures).target_state_count(STATES_MAX);
    let checker = bounded.spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    println!("{states} states, depth {depth}, {:.1} s", start.elapsed().as_secs_f64());
    checker.assert_properties();
    assert!(checker.state_count() < STATES_MAX, "not all states were visited");
    assert!(states >= least, "{states} states: the model does less than it did");
}

/// The model, which is made wrong, breaks `property`.
fn found_out<M>(model: M, property: &'static str)
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq,
{
    let checker = model.checker().finish_when(HasDiscoveries::AnyOf(BTreeSet::from([property]))).spawn_bfs().join();
    let path = checker.discovery(property).expect("it is found out");
    println!("{} steps to it: {:?}", path.clone().into_actions().len(), path.into_actions());
}

#[test]
fn three_proposals_of_three_voters_have_one_outcome() {
    explore(Voters { acquainted: Some(ACQUAINTED), ..Voters::new([3; 3], 3) }, 1_000_000);
}

#[test]
fn voters_that_crash_between_turn_and_commit_have_one_outcome() {
    explore(Voters { acquainted: Some(ACQUAINTED), crashes: true, ..Voters::new([3; 3], 2) }, 50_000);
}

#[test]
fn voters_that_know_nothing_of_each_other_have_one_outcome() {
    explore(Voters::new([3; 3], 1), 100_000);
}

#[test]
fn voters_that_declare_different_numbers_have_no_part_in_each_other() {
    explore(Voters::new([2, 3, 3], 2), 500);
    explore(Voters::new([3, 2, 3], 2), 500);
}

#[test]
fn a_voter_that_forgets_is_found_out() {
    found_out(Voters { acquainted: Some(ACQUAINTED), forgetful: true, ..Voters::new([3; 3], 2) }, "one outcome");
}

#[test]
fn two_changes_among_three_peers_put_no_address_on_two() {
    explore(Sharers::new("10.0.0.0/29", 2, 1), 500_000);
}

#[test]
fn what_a_dead_peer_owned_has_one_owner() {
    explore(Sharers { loss: Loss::Dead, ..Sharers::new("10.0.0.0/30", 2, 2) }, 100_000);
}

#[test]
fn what_a_peer_gives_that_was_removed_has_one_owner() {
    explore(Sharers { loss: Loss::CutOff, ..Sharers::new("10.0.0.0/29", 1, 1) }, 10_000);
}

#[test]
fn a_peer_that_forgets_is_found_out() {
    let forgetful = || Sharers { forgetful: true, ..Sharers::new("10.0.0.0/30", 2, 2) };
    found_out(forgetful(), "no address is on two peers");
    found_out(forgetful(), "tokens and epochs never go back");
}
