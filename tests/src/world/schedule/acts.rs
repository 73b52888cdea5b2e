//! Acts of trouble, each with what must hold in it.

use std::{collections::BTreeSet, time::Duration};

use weave_ctl::proto::{
    command::{Command, Container, Holder, NameRequest},
    reservation::{HOST_OWNER, Place},
};

use super::{SETTLE, comings, host, index, pause, settle, shape, within};
use crate::world::{
    Faults, HostId, World, detach,
    net::{Nat, What},
};

/// Containers a host.
const CONTAINERS: u64 = 6;

/// One act.
pub(super) fn any(world: &mut World, hosts: HostId) {
    match world.pick(7) {
        0 | 1 => chaos(world, hosts),
        2 => control_trouble(world, hosts),
        3 => split(world, hosts),
        4 => lost_ways(world, hosts),
        5 => comings::takeover(world, hosts),
        _ => comings::leaving(world, hosts),
    }
}

/// Everything at once: only what always holds is asked for.
fn chaos(world: &mut World, hosts: HostId) {
    let lossy = world.pick(2) == 0;
    let faults = Faults {
        loss: if lossy { world.pick(300) } else { 0 },
        duplicate: world.pick(200),
        crash_after_commit: world.pick(30),
        crash_before_commit: world.pick(30),
        slow_commit: if world.pick(3) == 0 { world.pick(200) } else { 0 },
        link_failure: world.pick(100),
        map_failure: if world.pick(3) == 0 { world.pick(50) } else { 0 },
        delay_max: Duration::from_micros(100 + world.pick(200_000)),
    };
    world.set_faults(faults);
    for _ in 0..within(world, (10, 40)) {
        anything(world, hosts);
        pause(world, 8000);
    }
    if world.pick(2) == 0 {
        settle(world, hosts);
    }
}

fn anything(world: &mut World, hosts: HostId) {
    let id = host(world, hosts);
    let container = format!("c{id}-{}", world.pick(CONTAINERS));
    match world.pick(26) {
        0..=3 => drop(world.attach(id, &container)),
        4 => comings::claim(world, id, &container),
        5 | 6 => drop(world.ask(id, detach(&container))),
        7 => world.vanish(id, &container),
        8 | 9 => cut(world, hosts),
        10 => world.heal(),
        11 => world.crash(id),
        12 => world.power_off(id),
        13 | 14 => (1..=hosts).for_each(|id| world.start(id)),
        15 => stop(world, id),
        16 => divide(world, hosts),
        17 => {
            let what = what(world);
            world.filter(id, what);
        }
        18 => {
            let other = host(world, hosts);
            let mtu = 1000 + u32::try_from(world.pick(500)).unwrap_or(0);
            world.limit(id, other, mtu);
        }
        19 => world.fill_disk(id),
        20 => drop(world.ask(id, Command::Reserve(Some(container), vec![]))),
        21 => drop(world.ask(id, Command::Release(container, vec![]))),
        22 => {
            let place = Place::Host { masquerade: false };
            let host = Container { owner: HOST_OWNER.to_owned(), chosen: true, place, names: NameRequest::default() };
            let _request = world.ask(id, Command::Attach(host, vec![]));
        }
        23 => drop(world.ask(id, detach(HOST_OWNER))),
        24 => {
            let holder = Holder { owner: container, netns: None };
            let _request = world.ask(id, Command::Detach { holder, addrs: vec![], keep: true });
        }
        // A store that is lost before there is a ring may take the last quorum with it, and one whose gifts others have
        // not heard of the word that they were given.
        _ if world.outlived(id) => world.wipe(id),
        _ => {}
    }
}

fn what(world: &mut World) -> What {
    match world.pick(3) {
        0 => What::Data,
        1 => What::Control,
        _ => What::All,
    }
}

fn stop(world: &mut World, id: HostId) {
    let most = if world.pick(4) == 0 { 60_000 } else { 8000 };
    let time = Duration::from_millis(world.pick(most));
    world.pause(id, time);
}

fn cut(world: &mut World, hosts: HostId) {
    let (one, other) = (host(world, hosts), host(world, hosts));
    let what = what(world);
    if world.pick(2) == 0 { world.cut_way(one, other, what) } else { world.cut_what(one, other, what) }
}

/// A random part of the hosts; never all.
fn part(world: &mut World, hosts: HostId) -> Vec<HostId> {
    let most = u64::from(hosts) - 1;
    let size = 1 + world.pick(most);
    let mut all: Vec<HostId> = (1..=hosts).collect();
    (0..size).map(|_| all.swap_remove(index(world, all.len()))).collect()
}

fn divide(world: &mut World, hosts: HostId) {
    let part = part(world, hosts);
    world.partition(&[&part]);
}

/// Controllers crash, stop and lose touch, but every packet passes: nothing that works may stop.
fn control_trouble(world: &mut World, hosts: HostId) {
    for id in 1..=hosts {
        let _request = world.attach(id, &format!("c{id}-0"));
    }
    settle(world, hosts);
    world.guard();
    for _ in 0..within(world, (5, 15)) {
        let (id, other) = (host(world, hosts), host(world, hosts));
        let container = format!("c{id}-{}", world.pick(CONTAINERS));
        match world.pick(9) {
            0 | 1 => world.crash(id),
            2 => stop(world, id),
            3 => world.cut_what(id, other, What::Control),
            4 => part(world, hosts).into_iter().for_each(|id| world.filter(id, What::Control)),
            5 => (1..=hosts).for_each(|id| world.start(id)),
            6 => world.mend(id, other),
            7 => world.fill_disk(id),
            _ => drop(world.attach(id, &container)),
        }
        let most = if world.pick(5) == 0 { 100_000 } else { 8000 };
        pause(world, most);
    }
    settle(world, hosts);
    world.unguard();
}

/// The network falls apart for long: each side goes on by itself.
fn split(world: &mut World, hosts: HostId) {
    settle(world, hosts);
    let side = part(world, hosts);
    world.partition(&[&side]);
    let more = Duration::from_secs(world.pick(200));
    world.run(SETTLE + more);
    let side: BTreeSet<HostId> = side.into_iter().collect();
    let rest: BTreeSet<HostId> = (1..=hosts).filter(|h| !side.contains(h)).collect();
    for among in [side, rest] {
        let wrong = world.unreached(&among);
        if !wrong.is_empty() && holds_together(world, &among) {
            world.fail("a side goes on by itself", &wrong.join("; "));
        }
    }
    settle(world, hosts);
}

/// True when the hosts of a side can all have sessions with one another, if not directly (docs/limitations.md, L42).
fn holds_together(world: &World, among: &BTreeSet<HostId>) -> bool {
    let nats: Vec<Nat> = among.iter().map(|id| world.nat(*id)).collect();
    let needed = shape::links_needed(&nats);
    world.joinable(among) && among.iter().all(|id| world.discovers(*id) && world.conn_limit(*id) >= needed)
}

/// Packets lose their ways while all controllers run: those that are being sent find others.
fn lost_ways(world: &mut World, hosts: HostId) {
    world.talk(1000);
    for id in 1..=hosts {
        let _request = world.attach(id, &format!("c{id}-0"));
    }
    settle(world, hosts);
    for _ in 0..within(world, (1, 4)) {
        for _ in 0..within(world, (1, 4)) {
            let (one, other) = (host(world, hosts), host(world, hosts));
            match world.pick(6) {
                0 | 1 => world.cut_way(one, other, What::Data),
                2 | 3 => world.cut_what(one, other, What::Data),
                4 => world.cut(one, other),
                _ => world.crash(one),
            }
        }
        let time = Duration::from_secs(15 + world.pick(30));
        world.run(time);
        if world.pick(2) == 0 {
            world.heal();
            world.run(Duration::from_secs(15));
        }
        (1..=hosts).for_each(|id| world.start(id));
    }
    settle(world, hosts);
}
