//! The oracle finds what is wrong: each invariant is broken by hand.

use std::{panic, time::Duration};

use weave_ctl::proto::{
    command::{Command, Refusal},
    io::{LinkOp, MapOp, RouteTo},
    time::Instant,
};

use super::{REPAIR, paths};
use crate::world::{Faults, HostId, World, detach, name, named, net::What};

const SECOND: Duration = Duration::from_secs(1);

/// Three hosts that know each other, with a container each.
fn world() -> World {
    let mut world = World::new(1, Faults::NONE);
    for id in 1..=3 {
        world.launch(id, &[1, 2, 3], &[1]);
    }
    world.run(SECOND * 5);
    for id in 1..=3 {
        world.attach(id, &format!("c{id}"));
    }
    world.run(SECOND);
    assert_eq!(world.unsettled(), Vec::<String>::new());
    world
}

/// The invariant that `break_it` breaks.
fn broken(break_it: impl FnOnce(&mut World)) -> String {
    let mut world = world();
    let payload = panic::catch_unwind(panic::AssertUnwindSafe(|| break_it(&mut world)));
    let text = payload.expect_err("the oracle sees nothing").downcast::<String>().expect("a message");
    text.split(": ").next().unwrap_or_default().to_owned()
}

fn map(world: &mut World, id: HostId, op: &MapOp) {
    world.check_lasting(id, op);
    world.hosts.get_mut(&id).unwrap().kernel.maps.apply(op);
    world.run(2 * super::paths::REPAIR);
}

#[test]
fn an_address_twice_is_found() {
    let on_interfaces = broken(|w| {
        let (_, spec) = w.hosts[&1].kernel.interfaces.values().next().cloned().unwrap();
        w.hosts.get_mut(&2).unwrap().kernel.link_op(&LinkOp::Ensure(spec));
        w.check_interfaces(2);
    });
    let on_disks = broken(|w| {
        let allocation = w.hosts[&1].disk.reservations["c1"].clone();
        let disk = &mut w.hosts.get_mut(&1).unwrap().disk;
        disk.reservations.insert("again".to_owned(), allocation);
        w.check_disk(1);
    });
    let anothers = broken(|w| {
        let allocation = w.hosts[&1].disk.reservations["c1"].clone();
        w.hosts.get_mut(&2).unwrap().disk.reservations.insert("mine".to_owned(), allocation);
        w.check_disk(2);
    });
    assert_eq!([&*on_interfaces, &on_disks, &anothers], ["an address once", "an address once", "own share only"]);
}

#[test]
fn a_broken_promise_and_another_ring_are_found() {
    let forgotten = broken(|w| {
        w.hosts.get_mut(&1).unwrap().disk.reservations.clear();
        w.check_disk(1);
    });
    let ring = broken(|w| {
        w.hosts.get_mut(&1).unwrap().disk.ring.as_mut().unwrap().shares.values_mut().next().unwrap().epoch = 0;
        w.check_disk(1);
    });
    assert_eq!([&*forgotten, &ring], ["promises are kept", "a ring is for ever"]);
}

#[test]
fn detach_suspends_the_promise_until_it_is_refused() {
    let refused = broken(|w| {
        let request = w.attach(1, "c1");
        w.run(SECOND);
        let attached = w.answer(request).expect("an answer").clone();
        w.oracle.asked(1000, 1, &Command::Attach(named("c1"), vec![]));
        w.oracle.asked(1001, 1, &detach("c1"));
        w.oracle.answered(1000, &attached);
        w.hosts.get_mut(&1).unwrap().disk.reservations.clear();
        let quiet = panic::catch_unwind(panic::AssertUnwindSafe(|| w.check_disk(1))).is_ok();
        w.oracle.answered(1001, &Err(Refusal("no".to_owned())));
        if quiet {
            w.check_disk(1);
        }
    });
    assert_eq!(refused, "promises are kept");
}

#[test]
fn paths_that_end_for_no_reason_are_found() {
    let ops: [fn(&World) -> MapOp; 3] = [
        |w| MapOp::DelRoute(*w.hosts[&1].kernel.maps.routes.keys().next().unwrap()),
        |w| MapOp::PutRoute(*w.hosts[&1].kernel.maps.routes.keys().next().unwrap(), RouteTo::Peer(name(9))),
        |_| MapOp::DelTunnel(name(2)),
    ];
    for op in ops {
        assert_eq!(broken(|w| map(w, 1, &op(w))), "paths outlive trouble");
    }
    let misled = broken(|w| {
        // The oracle looks once a second while containers may talk.
        w.talk(0);
        w.guard();
        let mut tunnel = w.hosts[&1].kernel.maps.tunnels[&name(2)];
        tunnel.remote.set_port(1);
        map(w, 1, &MapOp::PutTunnel(name(2), tunnel));
    });
    assert_eq!(misled, "paths outlive trouble");
}

#[test]
fn packets_that_find_no_other_way_are_found() {
    // Joined, but the kernel of one is told to send elsewhere.
    let stuck = broken(|w| {
        w.talk(1000);
        w.run(REPAIR + SECOND);
        let maps = &mut w.hosts.get_mut(&1).unwrap().kernel.maps;
        maps.tunnels.get_mut(&name(2)).unwrap().remote.set_port(1);
        w.run(SECOND * 2);
    });
    assert_eq!(stuck, "packets find another way");
}

#[test]
fn nothing_is_asked_for_where_there_is_no_way_or_was_no_time() {
    let mut world = world();
    world.talk(1000);
    world.run(REPAIR + SECOND);
    world.cut_what(1, 2, What::Data);
    world.run(REPAIR - SECOND);
    world.heal();
    world.run(REPAIR + SECOND);
    for other in [2, 3] {
        world.cut_what(1, other, What::Data);
    }
    world.run(REPAIR * 3);
}

#[test]
fn what_is_not_settled_is_told() {
    let mut world = world();
    world.cut(1, 2);
    let host = world.hosts.get_mut(&3).unwrap();
    host.kernel.maps.apply(&MapOp::DelTunnel(name(1)));
    host.kernel.interfaces.clear();
    host.node = None;
    let wrong = world.unsettled().join("\n");
    for part in ["h1 to h2", "h2 to h1", "h3 has no tunnel to h1", "h3: interfaces {}", "h3 is not running"] {
        assert!(wrong.contains(part), "{part} in {wrong}");
    }
    assert_eq!(world.crowded().len(), 0);
}

#[test]
fn islands_are_told_apart() {
    let of = paths::islands(&[(3, 4), (1, 5), (2, 3), (4, 6)]);
    assert_eq!(of.into_iter().collect::<Vec<_>>(), [(1, 1), (2, 2), (3, 2), (4, 2), (5, 1), (6, 2)]);
}

#[test]
fn joined_are_those_whose_link_and_data_pass() {
    let mut world = world();
    world.talk(0);
    world.run(SECOND * 2);
    assert_eq!(world.oracle.paths.joined(), [(1, 2), (1, 3), (2, 3)]);
    world.cut_way(2, 1, What::Data);
    world.cut_way(3, 1, What::Control);
    world.run(SECOND);
    assert_eq!(world.oracle.paths.joined(), [(2, 3)]);
    assert!(world.now() > Instant::default());
}
