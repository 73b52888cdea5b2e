//! L1: names that two peers have, and the peers that a controller remembers over a restart.

use std::time::Duration;

use weave_ctl::proto::{
    command::{Answer, Command},
    name::PeerName,
    status::{HostStatus, Status},
};
use weave_tests::world::{
    Faults, HostId, Spec, World, name,
    net::{CONTROL_PORT, What},
    packets::SMALL,
    schedule::SETTLE,
    underlay,
};

const SECOND: Duration = Duration::from_secs(1);

fn status(world: &mut World, id: HostId) -> Status {
    let request = world.ask(id, Command::Status);
    match world.answer(request) {
        Some(Ok(Answer::Status(snapshot))) => snapshot.clone().complete(HostStatus::default()),
        other => panic!("no status: {other:?}"),
    }
}

fn warnings(world: &mut World, id: HostId) -> Vec<String> {
    status(world, id).warnings
}

fn links(world: &World) -> [usize; 3] {
    [1, 2, 3].map(|id| world.links(id))
}

/// Two networks: host 2 is linked to host 1, and host 3 to host 4; the peers of hosts 1 and 4 have one name. Host 5 is
/// beside host 2. Nobody dials whom it was not told of.
fn namesakes(twin: PeerName) -> World {
    let mut world = World::new(1, Faults::NONE);
    let mut launch = |id, name, targets: &[HostId]| {
        let targets = targets.to_vec();
        world.launch_as(id, Spec { name, targets, discovery: false, ..Spec::default() });
    };
    launch(1, Some(twin), &[]);
    launch(2, None, &[1]);
    launch(4, Some(twin), &[]);
    launch(3, None, &[4]);
    launch(5, None, &[2]);
    world.run(SECOND * 5);
    world
}

#[test]
fn a_name_that_two_have_is_found_by_all_once_their_networks_are_joined() {
    let twin = name(9);
    let mut world = namesakes(twin);
    for id in 1..=5 {
        assert_eq!(warnings(&mut world, id), Vec::<String>::new(), "h{id} before the networks are joined");
    }
    world.connect_to(3, &[2]);
    world.run(SECOND * 10);
    let at = [1, 4].map(|host| format!("{}:{CONTROL_PORT}", underlay(host)));
    for id in [2, 3, 5] {
        let told = warnings(&mut world, id);
        let both = |text: &String| text.contains(&at[0]) && text.contains(&at[1]);
        assert!(told.len() == 1 && told.iter().all(both), "h{id}: {told:?}");
        assert!(told[0].starts_with(&format!("several peers are called {twin}, at ")), "h{id}: {told:?}");
    }
    for (id, other) in [(1, &at[1]), (4, &at[0])] {
        let text =
            format!("another peer at {other} is called {twin} like this one: relaunch one of them with another --name");
        assert_eq!(warnings(&mut world, id), [text], "h{id}");
    }
    let connections = status(&mut world, 5).connections;
    let linked: Vec<PeerName> = connections.iter().filter_map(|c| Some(c.peer.as_ref()?.name)).collect();
    assert_eq!(linked, [name(2)], "to neither of the two");
    // One of them goes, as the operator is asked for.
    world.crash(4);
    world.run(SECOND * 10);
    for id in [1, 2, 3, 5] {
        assert_eq!(warnings(&mut world, id), Vec::<String>::new(), "h{id} when one of the two is gone");
    }
}

/// Hosts 2 and 3 are told of host 1 alone; host 2 finds host 3, which dials nobody by itself.
fn found() -> World {
    let mut world = World::new(1, Faults::NONE);
    for id in 1..=3 {
        let targets = if id == 1 { vec![] } else { vec![1] };
        let seeds = (1..=3).map(name).collect();
        world.launch_as(id, Spec { seeds, targets, discovery: id != 3, ..Spec::default() });
    }
    world.run(SECOND * 5);
    assert_eq!(links(&world), [2, 2, 2], "{}", world.tail(40));
    world
}

#[test]
fn a_peer_that_was_found_by_discovery_alone_is_not_remembered_over_a_restart() {
    for reboot in [false, true] {
        let mut world = found();
        world.crash(1);
        if reboot {
            world.power_off(2);
        } else {
            world.crash(2);
        }
        world.run(SECOND * 20);
        world.start(2);
        for second in 1..=120 {
            world.run(SECOND);
            assert_eq!(links(&world), [0, 0, 0], "{second} s after its start, reboot: {reboot}\n{}", world.tail(40));
        }
        let told = status(&mut world, 2);
        let attempts: Vec<&str> = told.connections.iter().map(|c| c.address.as_str()).collect();
        assert_eq!((attempts, told.peers.len()), (vec!["h1"], 1), "reboot: {reboot}");
        world.start(1);
        world.run(SETTLE);
        assert_eq!(links(&world), [2, 2, 2], "reboot: {reboot}\n{}", world.tail(40));
        assert_eq!(world.unsettled(), Vec::<String>::new(), "reboot: {reboot}\n{}", world.tail(40));
    }
}

/// Data takes the links 1-2, 2-3, 3-4 and no others, though straight ways worked before; of host 4 the others hear on.
#[test]
fn a_controller_that_ends_two_relays_away_does_not_end_a_way_through_its_kernel() {
    let mut world = World::new(1, Faults::NONE);
    for id in 1..=4 {
        let seeds = (1..=4).map(name).collect();
        world.launch_as(id, Spec { seeds, targets: vec![1], ..Spec::default() });
    }
    world.run(SECOND * 10);
    for (one, other) in [(1, 3), (1, 4), (2, 4)] {
        world.cut_what(one, other, What::Data);
    }
    world.run(SETTLE);
    assert!(world.reach(1, 4, SMALL).is_delivered(), "{}", world.explain(1, 4, SMALL));
    world.crash(3);
    // Until it is forgotten, and when it is.
    for second in 1..=120 {
        world.run(SECOND);
        for (from, to) in [(1, 4), (4, 1), (2, 4), (4, 2)] {
            let way = world.explain(from, to, SMALL);
            assert!(world.reach(from, to, SMALL).is_delivered(), "after {second} s: {way}\n{}", world.tail(40));
        }
    }
}
