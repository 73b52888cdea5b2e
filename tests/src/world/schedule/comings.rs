//! Acts in which peers leave for good, are taken over from, and come back as others; and fixed addresses.

use std::{collections::BTreeSet, net::Ipv4Addr, time::Duration};

use weave_ctl::proto::command::{AddrRequest, Answer, Command};

use super::{host, pause, settle, within};
use crate::world::{HostId, World, named};

/// Time after which a host without power is forgotten by all others.
const FORGOTTEN: Duration = Duration::from_secs(150);
/// Time within which a removal is answered: everybody is asked whether the peer is alive before.
const ASKED: Duration = Duration::from_secs(5);
/// Time in which whoever leaves has an heir, when nothing is wrong.
const INHERITED: Duration = Duration::from_secs(20);

/// Asks for a fixed address: of the range, or outside it.
pub(super) fn claim(world: &mut World, id: HostId, container: &str) {
    let inside = world.pick(4) != 0;
    // Within the smallest range that schedules draw; outside few, so that several peers want the same.
    let last = u8::try_from(world.pick(if inside { 64 } else { 6 })).unwrap_or(0);
    let addr = if inside { Ipv4Addr::new(10, 32, 0, last) } else { Ipv4Addr::new(10, 132, 0, 1 + last) };
    let request = AddrRequest::Fixed(addr, Some(24));
    let _request = world.ask(id, Command::Attach(named(container), vec![request]));
}

fn attach_all(world: &mut World, hosts: HostId, container: &str) {
    for id in 1..=hosts {
        let _request = world.attach(id, &format!("{container}-{id}"));
    }
}

/// A host is gone for good, and another takes its addresses over; it comes back all the same, or another in its stead.
pub(super) fn takeover(world: &mut World, hosts: HostId) {
    attach_all(world, hosts, "before");
    settle(world, hosts);
    let (dead, heir) = (host(world, hosts), host(world, hosts));
    if dead == heir || !world.divided() {
        return;
    }
    world.power_off(dead);
    world.run(FORGOTTEN);
    let rest: BTreeSet<HostId> = (1..=hosts).filter(|id| *id != dead).collect();
    if !world.linked(&rest) {
        // Of parts that do not hear of each other one may take over, and the other take in who was taken over from.
        return settle(world, hosts);
    }
    world.give_up(dead);
    let peer = world.peer(dead).to_string();
    let removed = world.ask(heir, Command::RemovePeer { peer: peer.clone(), force: false });
    let other = host(world, hosts);
    if other != dead && world.pick(2) == 0 {
        // Two operators at once.
        let _request = world.ask(other, Command::RemovePeer { peer, force: false });
    }
    for _ in 0..within(world, (1, 10)) {
        let id = host(world, hosts);
        let container = format!("after-{}", world.pick(6));
        if id != dead {
            let fixed = world.pick(2) == 0;
            if fixed {
                claim(world, id, &container);
            } else {
                let _request = world.attach(id, &container);
            }
        }
        pause(world, 2000);
    }
    world.run(ASKED);
    let told = |part: &str| matches!(world.answer(removed), Some(Err(refusal)) if refusal.0.contains(part));
    let owned = !told("owns no addresses") && !told("are reached from here");
    if owned && !matches!(world.answer(removed), Some(Ok(Answer::Removed { .. }))) {
        let answer = format!("h{heir} was answered {:?}", world.answer(removed));
        world.fail("the dead are taken over from", &answer);
    }
    // Where not everybody heard of it yet, who comes back may join those who did not, and give to them.
    let (known, others) = world.removal_known(dead);
    if world.pick(2) == 0 && (known == 0 || known == others) {
        world.start(dead);
        world.run(FORGOTTEN);
        let again = world.attach(dead, "again");
        world.run(Duration::from_secs(1));
        if known > 0 && !matches!(world.answer(again), Some(Err(refusal)) if refusal.0.contains("removed")) {
            let answer = format!("h{dead} was answered {:?}", world.answer(again));
            world.fail("a removed identity cannot allocate", &answer);
        }
        let _reset = world.ask(dead, Command::Reset { force: true });
        world.run(Duration::from_secs(1));
    }
    world.wipe(dead);
    settle(world, hosts);
}

/// A host leaves in good order, and joins again as another peer.
pub(super) fn leaving(world: &mut World, hosts: HostId) {
    attach_all(world, hosts, "before");
    settle(world, hosts);
    if !world.divided() {
        return;
    }
    let leaver = host(world, hosts);
    let linked = world.links(leaver) > 0;
    let reset = world.ask(leaver, Command::Reset { force: false });
    for _ in 0..within(world, (0, 5)) {
        let id = host(world, hosts);
        let container = format!("after-{}", world.pick(6));
        if id != leaver {
            let _request = world.attach(id, &container);
        }
        pause(world, 1000);
    }
    world.run(INHERITED);
    // Packets may pass where, for want of room, no link does.
    if linked && !world.blank(leaver) {
        let answer = format!("h{leaver} was answered {:?}", world.answer(reset));
        world.fail("whoever leaves has an heir", &answer);
    }
    settle(world, hosts);
}
