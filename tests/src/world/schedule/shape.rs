//! The network of a seed: who knows whom, who is behind NAT, who may have how many links, what never passes.

use std::{net::Ipv4Addr, time::Duration};

use ipnet::Ipv4Net;
use weave_ctl::proto::{boot::Init, name::PeerName};

use super::{MESH, index};
use crate::world::{
    HostId, Spec, World, name,
    net::{Nat, What},
};

/// Launches `hosts` hosts, within some seconds of each other, such that targets alone join them all.
pub(super) fn launch(world: &mut World, hosts: HostId) {
    let network = network(world, hosts);
    let open: Vec<HostId> = (1..=hosts).filter(|h| network.nats[usize::from(h - 1)] == Nat::None).collect();
    for id in 1..=hosts {
        let earlier: Vec<HostId> = open.iter().copied().filter(|h| *h < id).collect();
        let known = pick(world, &earlier);
        if network.sparse {
            gaps(world, id, known);
        }
        let spec = spec(world, &network, id, &open, known);
        world.launch_as(id, spec);
        if world.pick(2) == 0 {
            let pause = Duration::from_millis(world.pick(3000));
            world.run(pause);
        }
    }
}

/// What all hosts of a network have in common.
struct Network {
    names: Vec<PeerName>,
    seeds: usize,
    /// How many elect, from the first host on; zero when there are seeds.
    electors: HostId,
    range: Ipv4Net,
    discovery: bool,
    conn_limit: u32,
    nats: Vec<Nat>,
    bridge: bool,
    mtus: Vec<u32>,
    /// Some pairs of hosts never reach each other, or in part.
    sparse: bool,
}

fn network(world: &mut World, hosts: HostId) -> Network {
    let mut names: Vec<PeerName> = (1..=hosts).map(name).collect();
    if world.pick(4) == 0 {
        // Another name with the same low bits, from which the short id is made at first.
        names[1] = PeerName::from_bytes([0, 0, 0, 1, 0, 1]);
    }
    let elect = world.pick(2) == 0;
    let observers = HostId::try_from(world.pick(3)).unwrap_or(0).min(hosts - 1);
    let electors = if elect { hosts - observers } else { 0 };
    let seeds = if elect { 0 } else { names.len() - usize::from(world.pick(4) == 0) };
    let range = Ipv4Net::new_assert(Ipv4Addr::new(10, 32, 0, 0), [24, 24, 25, 26][index(world, 4)]);
    let discovery = world.pick(4) != 0;
    let conn_limit = if MESH && discovery && world.pick(4) == 0 { 2 + world.pick(3) } else { 200 };
    let nat = MESH && world.pick(4) == 0;
    let kind = |world: &mut World| [Nat::None, Nat::Forwarding, Nat::Closed][index(world, 3)];
    let nats: Vec<Nat> = (1..=hosts).map(|id| if nat && id > 1 { kind(world) } else { Nat::None }).collect();
    // Of hosts behind NAT any may be linked with any open one: that all fit in a bound without a link to spare is chance.
    let conn_limit = conn_limit.max(links_needed(&nats) as u64 + u64::from(nat));
    let uneven = MESH && world.pick(4) == 0;
    let mut mtu = || if uneven { [1500, 1400, 9000][index(world, 3)] } else { 1500 };
    let mtus = (1..=hosts).map(|_| mtu()).collect();
    Network {
        names,
        seeds,
        electors,
        range,
        discovery,
        conn_limit: u32::try_from(conn_limit).unwrap_or(200),
        nats,
        bridge: world.pick(3) == 0,
        mtus,
        // With few links each, those that join all could be the ones that there is no room for.
        sparse: MESH && conn_limit == 200 && world.pick(4) == 0,
    }
}

/// What the underlay never carries between `id` and those before it, but for the one that it knows.
fn gaps(world: &mut World, id: HostId, known: Option<HostId>) {
    for other in (1..id).filter(|other| Some(*other) != known) {
        let both = [(id, other), (other, id)];
        let (ways, what) = match world.pick(8) {
            0 => (&both[..1], What::Data),
            1 => (&both[1..], What::Data),
            2 => (&both[..1], What::Control),
            3 => (&both[..], What::Data),
            4 | 5 => (&both[..], What::All),
            _ => continue,
        };
        ways.iter().for_each(|(from, to)| world.never(*from, *to, what));
    }
}

/// The bound on each host's links with which links join all, one of each host behind NAT, which can be linked with open
/// ones only, and a tree of links among the open ones, which takes two ends each.
pub(super) fn links_needed(nats: &[Nat]) -> usize {
    let open = nats.iter().filter(|nat| **nat == Nat::None).count();
    let ends = nats.len() - open + 2 * open.saturating_sub(1);
    ends.checked_div(open).map_or(usize::MAX, |_| ends.div_ceil(open))
}

fn pick(world: &mut World, of: &[HostId]) -> Option<HostId> {
    of.get(index(world, of.len())).copied()
}

/// `known` is one of those before.
fn spec(world: &mut World, network: &Network, id: HostId, open: &[HostId], known: Option<HostId>) -> Spec {
    let at = usize::from(id - 1);
    // Everybody knows one of those before; some know everybody, themselves included; some know any other.
    let mut targets: Vec<HostId> = known.into_iter().collect();
    match world.pick(4) {
        0 => targets = open.to_vec(),
        1 => targets.extend(pick(world, open)),
        _ => {}
    }
    Spec {
        name: Some(network.names[at]),
        nickname: None,
        seeds: if at < network.seeds { network.names[..network.seeds].to_vec() } else { Vec::new() },
        init: if id <= network.electors { Init::Election(network.electors) } else { Init::Observer },
        range: network.range,
        targets,
        discovery: network.discovery,
        conn_limit: network.conn_limit,
        nat: network.nats[at],
        mtu: network.mtus[at],
        bridge: network.bridge,
    }
}

#[cfg(test)]
mod tests;
