//! L1: how addresses are divided, move between peers, and outlive them.
//!
//! Faults of the predecessor that these and the core's own tests keep away, by their numbers in the list of its defects:
//! D1, D2, D3: `there_is_one_outcome`, `a_voter_that_lost_its_store_does_not_vote_where_the_former_is_remembered`,
//! `those_who_declare_different_numbers_do_not_elect_together`. D4, D5, D6: `merging_is_a_join`,
//! `any_part_is_merged_or_refused`. D7: `whoever_is_taken_over_from_owns_nothing_whatever_it_says`. D8:
//! `a_power_cut_loses_nothing_acknowledged_and_no_part_of_a_batch`. D10: `a_nickname_of_several_peers_names_none`,
//! `a_live_peer_is_not_removed`, `all_who_remove_a_peer_at_once_choose_one_successor`. D11:
//! `without_a_word_of_the_heir_leaving_fails_in_bounded_time`. D19, of names, has no names yet to go wrong with; its cause,
//! versions that begin anew with a process, is `versions_only_increase_and_incarnations_count_first`.

use std::{net::Ipv4Addr, time::Duration};

use weave_ctl::proto::{
    boot::Init,
    command::{AddrRequest, Answer, Command, Refusal},
    status::{ContainerState, HostStatus, Status},
};
use weave_tests::world::{Faults, HostId, Spec, World, detach, named, schedule::SETTLE};

const SECOND: Duration = Duration::from_secs(1);

fn electors(count: HostId, observers: HostId) -> World {
    let mut world = World::new(1, Faults::NONE);
    let all: Vec<HostId> = (1..=count + observers).collect();
    for id in &all {
        let init = if *id <= count { Init::Election(count) } else { Init::Observer };
        world.launch_as(*id, Spec { init, targets: all.clone(), ..Spec::default() });
    }
    world.run(SECOND * 3);
    world
}

fn ask(world: &mut World, id: HostId, command: Command, time: Duration) -> Option<Result<Answer, Refusal>> {
    let request = world.ask(id, command);
    world.run(time);
    world.answer(request).cloned()
}

fn status(world: &mut World, id: HostId) -> Status {
    match ask(world, id, Command::Status, Duration::ZERO) {
        Some(Ok(Answer::Status(snapshot))) => snapshot.complete(HostStatus::default()),
        other => panic!("no status: {other:?}"),
    }
}

fn attach(world: &mut World, id: HostId, name: &str, addrs: Vec<AddrRequest>) -> Option<Result<Answer, Refusal>> {
    ask(world, id, Command::Attach(named(name), addrs), SECOND * 2)
}

fn address(answer: Option<Result<Answer, Refusal>>) -> Ipv4Addr {
    match answer {
        Some(Ok(Answer::Container(status))) => status.addrs[0].addr(),
        other => panic!("not attached: {other:?}"),
    }
}

fn refused(answer: Option<Result<Answer, Refusal>>) -> String {
    match answer {
        Some(Err(refusal)) => refusal.0,
        other => panic!("not refused: {other:?}"),
    }
}

fn remove(peer: &str) -> Command {
    Command::RemovePeer { peer: peer.to_owned(), force: false }
}

#[test]
fn nobody_elects_before_an_address_is_needed() {
    let mut world = electors(3, 0);
    world.run(SECOND * 60);
    let idle = status(&mut world, 1).ipam;
    assert!(!idle.ready && idle.owners.is_empty() && idle.state.starts_with("idle"), "{idle:?}");
    let first = address(attach(&mut world, 2, "c", vec![]));
    for id in 1..=3 {
        let ipam = status(&mut world, id).ipam;
        assert_eq!((ipam.ready, ipam.owners.len()), (true, 3), "h{id}");
    }
    assert_ne!(first, address(attach(&mut world, 3, "d", vec![])));
    assert_eq!(world.unsettled(), Vec::<String>::new());
}

#[test]
fn consense_says_what_is_waited_for_and_an_observer_may_ask_for_an_election() {
    let mut world = World::new(1, Faults::NONE);
    world.launch_as(1, Spec { init: Init::Election(3), ..Spec::default() });
    world.launch_as(4, Spec { init: Init::Observer, targets: vec![1], ..Spec::default() });
    world.run(SECOND * 3);
    let waiting = ask(&mut world, 4, Command::Consense, SECOND * 5);
    assert!(matches!(waiting, Some(Ok(Answer::Consense(false, _)))));
    let elector = status(&mut world, 1).ipam.state;
    assert!(elector.contains("awaiting consensus: 1 of 3 electors known (quorum: 2)"), "{elector}");
    world.launch_as(2, Spec { init: Init::Election(3), targets: vec![1], ..Spec::default() });
    world.run(SECOND * 5);
    let done = ask(&mut world, 4, Command::Consense, Duration::ZERO);
    assert!(matches!(done, Some(Ok(Answer::Consense(true, _)))), "{}", world.tail(40));
    let owners = status(&mut world, 4).ipam.owners;
    assert_eq!(owners.len(), 2, "an observer is not among them: {owners:?}");
}

#[test]
fn a_peer_alone_divides_the_range_by_itself_and_one_with_peers_never() {
    let mut world = World::new(1, Faults::NONE);
    world.launch(1, &[], &[]);
    address(attach(&mut world, 1, "c", vec![]));
    world.launch(2, &[], &[1]);
    world.run(SECOND * 3);
    address(attach(&mut world, 2, "d", vec![]));
    let mut world = World::new(1, Faults::NONE);
    world.launch(1, &[], &[2]);
    world.launch(2, &[], &[1]);
    assert_eq!(attach(&mut world, 1, "c", vec![]).map(drop_answer), None, "it waits");
    let state = status(&mut world, 1).ipam.state;
    assert!(state.contains("launch it again with --initial-peer-count 1"), "with the way out: {state}");
}

fn drop_answer(_: Result<Answer, Refusal>) {}

#[test]
fn during_a_partition_each_side_gives_its_own_and_who_has_none_is_served_on_healing() {
    let mut world = electors(3, 1);
    address(attach(&mut world, 1, "a", vec![]));
    world.partition(&[&[1, 2], &[4]]);
    world.run(SECOND * 40);
    let (one, other) = (attach(&mut world, 1, "b", vec![]), attach(&mut world, 3, "c", vec![]));
    assert_ne!(address(one), address(other));
    // The observer owns nothing yet, and nobody is there to ask.
    let request = world.attach(4, "d");
    world.run(SECOND * 10);
    assert!(world.answer(request).is_none());
    let state = status(&mut world, 4).ipam.state;
    assert!(state.contains("all IP ranges owned by unreachable peers"), "{state}");
    world.heal();
    world.run(SECOND * 100);
    assert!(matches!(world.answer(request), Some(Ok(_))), "{}", world.tail(40));
}

#[test]
fn fixed_addresses_are_fetched_and_those_outside_the_range_reach_everybody() {
    let mut world = electors(3, 0);
    address(attach(&mut world, 1, "a", vec![]));
    let first = Ipv4Addr::new(10, 32, 0, 200);
    let fixed = |addr| vec![AddrRequest::Fixed(addr, None)];
    assert_eq!(address(attach(&mut world, 1, "b", fixed(first))), first);
    let taken = refused(attach(&mut world, 2, "c", fixed(first)));
    assert!(taken.contains("is owned by other peer") && taken.contains("in use by b"), "{taken}");
    let outside = Ipv4Addr::new(192, 168, 7, 1);
    assert!(refused(attach(&mut world, 1, "d", fixed(outside))).contains("outside the network's range"));
    let with_length = |addr| vec![AddrRequest::Fixed(addr, Some(24))];
    assert_eq!(address(attach(&mut world, 1, "d", with_length(outside))), outside);
    let twice = refused(attach(&mut world, 3, "e", with_length(outside)));
    assert!(twice.contains("a container of peer 00:00:00:00:00:01 has address"), "{twice}");
    address(attach(&mut world, 2, "f", with_length(Ipv4Addr::new(192, 168, 7, 2))));
    assert_eq!(world.unsettled(), Vec::<String>::new(), "all containers reach each other");
}

#[test]
fn a_request_four_hops_away_touches_those_on_the_way_alone() {
    let mut world = World::new(1, Faults::NONE);
    // 1 - 2 - 3 - 4 - 5, and 6 beside 3; all is the first one's.
    for (id, target) in [(1, None), (2, Some(1)), (3, Some(2)), (4, Some(3)), (5, Some(4)), (6, Some(3))] {
        let (seeds, targets) = (vec![weave_tests::world::name(1)], target.into_iter().collect());
        world.launch_as(id, Spec { seeds, targets, discovery: false, ..Spec::default() });
    }
    world.run(SECOND * 20);
    address(attach(&mut world, 1, "first", vec![]));
    world.run(SECOND * 5);
    world.count_anew();
    address(attach(&mut world, 5, "last", vec![]));
    world.run(SECOND * 20);
    let letters: Vec<(HostId, u64)> = world.meter().sent().map(|(id, sent)| (id, sent.letters.messages)).collect();
    assert_eq!(letters, [(1, 2), (2, 4), (3, 4), (4, 4), (5, 2), (6, 0)], "a range, and what was granted of it");
    assert_eq!(world.unsettled(), Vec::<String>::new());
}

/// A controller stands still for a day (its machine was suspended), with an address in mind that was given up meanwhile.
#[test]
fn deleted_claims_stay_so_when_a_peer_that_was_away_is_back() {
    let mut world = electors(3, 0);
    let outside = |last| Ipv4Addr::new(192, 168, 7, last);
    for (id, last) in [(1, 1), (1, 2), (2, 3)] {
        let fixed = vec![AddrRequest::Fixed(outside(last), Some(24))];
        assert_eq!(address(attach(&mut world, id, &format!("c{last}"), fixed)), outside(last));
    }
    world.run(SECOND * 10);
    world.pause(3, SECOND * 86_400);
    world.run(SECOND);
    for id in [1, 2] {
        let name = if id == 1 { "c1" } else { "c3" };
        let detached = ask(&mut world, id, detach(name), SECOND);
        assert!(matches!(detached, Some(Ok(_))), "{detached:?}");
    }
    // Longer than tombstones are kept; then one that hears of this from peer 3 as well as from the others.
    (0..24).for_each(|_| world.run(SECOND * 3600));
    world.launch_as(4, Spec { init: Init::Observer, targets: vec![3], ..Spec::default() });
    world.run(SETTLE);
    assert_eq!(world.unsettled(), Vec::<String>::new(), "nobody sends to what is gone");
    let fixed = vec![AddrRequest::Fixed(outside(1), Some(24))];
    assert_eq!(address(attach(&mut world, 3, "again", fixed)), outside(1), "it can be had again");
}

#[test]
fn a_live_peer_is_not_removed() {
    let mut world = electors(3, 0);
    address(attach(&mut world, 1, "a", vec![]));
    let before = status(&mut world, 1).ipam;
    for (peer, why) in
        [("h2", "is alive"), ("::1", "cannot remove itself"), ("::9", "owns no addresses"), ("x y", "no peer")]
    {
        let text = refused(ask(&mut world, 1, remove(peer), SECOND));
        assert!(text.contains(why) && text.contains("nothing was changed"), "{peer}: {text}");
    }
    assert_eq!(status(&mut world, 1).ipam, before);
}

#[test]
fn a_nickname_of_several_peers_names_none() {
    let mut world = World::new(1, Faults::NONE);
    for id in 1..=3 {
        let nickname = Some(if id == 1 { "one" } else { "twin" }.to_owned());
        let seeds = (1..=3).map(weave_tests::world::name).collect();
        world.launch_as(id, Spec { seeds, nickname, targets: vec![1], ..Spec::default() });
    }
    world.run(SECOND * 3);
    address(attach(&mut world, 1, "a", vec![]));
    world.power_off(2);
    world.power_off(3);
    world.run(SECOND * 150);
    let text = refused(ask(&mut world, 1, remove("twin"), SECOND));
    assert!(text.contains("several peers are called twin") && text.contains("00:00:00:00:00:03"), "{text}");
    // It reaches one of two other owners: another part of the network could take over as well.
    let alone = refused(ask(&mut world, 1, remove("::2"), SECOND));
    assert!(alone.contains("only 1 of the 2 other peers") && alone.contains("--force"), "{alone}");
    let remove = |peer: &str| Command::RemovePeer { peer: peer.to_owned(), force: true };
    let by_name = ask(&mut world, 1, remove("::2"), SECOND * 5);
    assert!(matches!(by_name, Some(Ok(Answer::Removed { addresses, .. })) if addresses > 0));
    let now_plain = ask(&mut world, 1, remove("twin"), SECOND * 5);
    assert!(matches!(now_plain, Some(Ok(Answer::Removed { .. }))), "{now_plain:?}");
    assert_eq!(status(&mut world, 1).ipam.owners.len(), 1);
}

#[test]
fn without_anybody_in_reach_leaving_needs_force() {
    let mut world = electors(3, 0);
    let kept = address(attach(&mut world, 1, "a", vec![]));
    world.power_off(2);
    world.power_off(3);
    world.run(SECOND * 150);
    let text = refused(ask(&mut world, 1, Command::Reset { force: false }, SECOND * 20));
    assert!(text.contains("reset --force"), "{text}");
    let containers = status(&mut world, 1).containers;
    assert!(
        containers[0].addrs[0].addr() == kept && containers[0].state == ContainerState::Attached,
        "nothing was changed"
    );
    let forced = ask(&mut world, 1, Command::Reset { force: true }, SECOND * 20);
    assert!(matches!(forced, Some(Ok(Answer::Done))), "{forced:?}");
    assert!(world.blank(1));
}

/// Links are up a little before all know that they are.
#[test]
fn who_leaves_right_after_its_link_came_back_finds_its_heir() {
    let mut world = electors(2, 0);
    address(attach(&mut world, 1, "a", vec![]));
    address(attach(&mut world, 2, "b", vec![]));
    world.crash(1);
    world.run(SECOND * 2);
    world.start(1);
    while world.links(2) == 0 {
        world.run(Duration::from_micros(100));
    }
    let left = ask(&mut world, 2, Command::Reset { force: false }, SECOND * 10);
    assert!(matches!(left, Some(Ok(Answer::Done))), "{left:?}");
    assert_eq!(status(&mut world, 1).ipam.owners.len(), 1, "it has everything");
}

/// What those who lose stores at random go by.
#[test]
fn a_store_is_outlived_when_nobody_missed_what_it_gave_away() {
    let mut world = World::new(1, Faults::NONE);
    for id in 1..=3 {
        let seeds: &[HostId] = if id == 3 { &[] } else { &[1, 2] };
        world.launch(id, seeds, &[1, 2]);
    }
    world.run(SECOND * 3);
    assert!((1..=3).all(|id| world.outlived(id)));
    world.crash(2);
    address(attach(&mut world, 3, "given", vec![]));
    assert!([1, 3].iter().all(|id| !world.outlived(*id)), "2 was away");
    world.start(2);
    world.run(SECOND * 20);
    assert!((1..=3).all(|id| world.outlived(id)));
}
