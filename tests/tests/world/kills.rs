//! L1: a controller is killed at each write point of a story, one after the other: before every commit, and between a
//! commit and each of its effects. What was acknowledged stays, nothing is given twice, and all comes to a good end.
//!
//! That a commit itself is whole or not there is shown on the real store, cut off at each of its writes:
//! `a_power_cut_loses_nothing_acknowledged_and_no_part_of_a_batch`.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use weave_ctl::proto::{
    boot::Init,
    command::{AddrRequest, Answer, Command, Container, Holder},
    status::HostStatus,
};
use weave_tests::world::{Faults, HostId, Spec, World, detach, named, schedule::SETTLE};

const SECOND: Duration = Duration::from_secs(1);
/// How often the operator asks again after a second without an answer, or after a refusal.
const TRIES: usize = 40;

/// Three that elect, and an observer.
fn network() -> World {
    let mut world = World::new(1, Faults::NONE);
    for id in 1..=4 {
        let init = if id <= 3 { Init::Election(3) } else { Init::Observer };
        world.launch_as(id, Spec { init, targets: vec![1, 2, 3, 4], ..Spec::default() });
    }
    world.run(SECOND * 3);
    world
}

/// Asks until it is done, as an operator whose controller was killed would.
fn ask(world: &mut World, id: HostId, command: &Command) -> Answer {
    let mut told = String::new();
    for _ in 0..TRIES {
        let request = world.ask(id, command.clone());
        world.run(SECOND);
        match world.answer(request) {
            Some(Ok(answer)) => return answer.clone(),
            answer => told = format!("{answer:?}"),
        }
    }
    world.fail("the operator is served", &format!("h{id} {command:?}: {told}"))
}

fn attach(world: &mut World, id: HostId, name: &str, addrs: Vec<AddrRequest>) -> Vec<Ipv4Addr> {
    match ask(world, id, &Command::Attach(named(name), addrs)) {
        Answer::Container(status) => status.addrs.iter().map(|net| net.addr()).collect(),
        other => panic!("{other:?}"),
    }
}

/// Owners and how many addresses each has, as `id` tells.
fn owners(world: &mut World, id: HostId) -> BTreeMap<String, u64> {
    match ask(world, id, &Command::Status) {
        Answer::Status(snapshot) => {
            let owners = snapshot.complete(HostStatus::default()).ipam.owners;
            owners.iter().map(|o| (o.id.name.to_string(), o.addresses)).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// Containers come and go, on peers with and without space.
fn containers(world: &mut World) {
    let fixed = |addr| vec![AddrRequest::Fixed(addr, Some(24))];
    let inside = fixed(Ipv4Addr::new(10, 32, 0, 200));
    let outside = fixed(Ipv4Addr::new(192, 168, 7, 7));
    let all = [(1, "a", vec![]), (4, "b", vec![]), (2, "c", inside), (3, "d", outside)];
    let given: Vec<Vec<Ipv4Addr>> =
        all.iter().map(|(id, name, addrs)| attach(world, *id, name, addrs.clone())).collect();
    assert_eq!(given[2..], [vec![Ipv4Addr::new(10, 32, 0, 200)], vec![Ipv4Addr::new(192, 168, 7, 7)]]);
    let more = attach(world, 4, "b", fixed(Ipv4Addr::new(10, 32, 0, 201)));
    assert_eq!(more, [given[1][0], Ipv4Addr::new(10, 32, 0, 201)]);
    world.vanish(1, "a");
    assert_eq!(attach(world, 1, "a", vec![]), given[0], "its address was kept for it");
    attach(world, 2, "e", vec![]);
    let gone = world.ask(2, detach("e"));
    world.run(SECOND * 2);
    if world.answer(gone).is_none() {
        // Whether it was carried out before the controller was killed is not known: both answers are right.
        let _again = world.ask(2, detach("e"));
    }
    world.run(SETTLE);
    assert_eq!(world.unsettled(), Vec::<String>::new(), "{}", world.tail(40));
    for ((id, name, addrs), given) in all.iter().zip(&given) {
        let again = attach(world, *id, name, addrs.clone());
        assert_eq!(again[0], given[0], "{name} has what it was told");
    }
}

/// What an engine does: reserves, names the owner, attaches, takes the interface alone away, attaches again, and releases.
fn engine(world: &mut World) {
    let container = |world: &mut World, id, command: &Command| match ask(world, id, command) {
        Answer::Container(status) => (status.owner, status.addrs),
        other => panic!("{other:?}"),
    };
    let (reserved, addrs) = container(world, 4, &Command::Reserve(None, vec![]));
    let owner = "engine:1".to_owned();
    let bind = Command::Bind { id: reserved, owner: owner.clone() };
    assert_eq!(container(world, 4, &bind), (owner.clone(), addrs.clone()));
    let attach = Command::Attach(Container { owner: owner.clone(), chosen: true, ..named("e") }, vec![]);
    let detach = Command::Detach { holder: Holder { owner: owner.clone(), netns: None }, addrs: vec![], keep: true };
    for _ in 0..2 {
        assert_eq!(container(world, 4, &attach), (owner.clone(), addrs.clone()));
        assert!(matches!(ask(world, 4, &detach), Answer::Released(none) if none.is_empty()));
    }
    let other = container(world, 4, &Command::Reserve(Some("engine:2".to_owned()), vec![]));
    assert_ne!(other.1, addrs, "what is reserved is nobody else's");
    // Whether it was carried out before the controller was killed is not known: both answers are right.
    let released = ask(world, 4, &Command::Release(owner, vec![]));
    assert!(matches!(released, Answer::Released(free) if free.is_empty() || free == addrs));
    world.run(SETTLE);
    assert_eq!(world.unsettled(), Vec::<String>::new(), "{}", world.tail(40));
    assert_eq!(container(world, 4, &Command::Reserve(Some("engine:2".to_owned()), vec![])), other);
}

/// One peer leaves in good order, another is gone for good.
fn departures(world: &mut World) {
    for (id, name) in [(1, "a"), (3, "c"), (4, "d")] {
        attach(world, id, name, vec![]);
    }
    for _ in 0..TRIES {
        if world.blank(4) {
            break;
        }
        let _request = world.ask(4, Command::Reset { force: false });
        world.run(SECOND * 2);
    }
    assert!(world.blank(4), "it left\n{}", world.tail(40));
    // Whoever was killed is back by then.
    world.run(SECOND * 4);
    world.power_off(3);
    world.give_up(3);
    world.run(SECOND * 150);
    let peer = world.peer(3).to_string();
    for _ in 0..TRIES {
        let _request = world.ask(1, Command::RemovePeer { peer: peer.clone(), force: false });
        world.run(SECOND * 2);
        // The answer may be lost, and one that has just been started refuses until it has computed whom it reaches.
        if !owners(world, 1).contains_key(&peer) {
            break;
        }
    }
    world.run(SECOND * 20);
    let (one, two) = (owners(world, 1), owners(world, 2));
    assert_eq!((one.values().sum::<u64>(), one.contains_key(&peer)), (256, false), "{one:?}");
    assert_eq!(one, two);
    attach(world, 2, "b", vec![]);
    world.wipe(3);
    world.start(3);
    world.start(4);
    world.run(SETTLE);
    assert_eq!(world.unsettled(), Vec::<String>::new(), "{}", world.tail(40));
}

/// Tells `story` without a kill, and then once for each write point in it, killed there.
fn killed_everywhere(story: fn(&mut World), least: u64) {
    let mut world = network();
    let first = world.write_points();
    story(&mut world);
    let points = first..world.write_points();
    println!("{} write points", points.end - points.start);
    assert!(points.end - points.start >= least, "the story writes less than it did");
    for point in points {
        let mut world = network();
        world.kill_at(point);
        story(&mut world);
        assert!(world.write_points() > point, "the story came to write point {point}");
    }
}

#[test]
fn killed_at_any_write_point_containers_keep_what_they_were_told() {
    killed_everywhere(containers, 60);
}

#[test]
fn killed_at_any_write_point_engines_have_what_they_were_told() {
    killed_everywhere(engine, 30);
}

#[test]
fn killed_at_any_write_point_those_who_leave_and_who_stay_share_the_range() {
    killed_everywhere(departures, 60);
}
