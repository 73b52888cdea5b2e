//! Walks over maps made by hand.

use std::net::SocketAddrV4;

use weave_common::addr::Mac;
use weave_ctl::proto::io::{Egress, EndpointTo, MapOp, PathKind, TunnelTo};

use super::*;
use crate::world::{
    Faults, Spec,
    host::Host,
    name,
    net::{DATA_PORT, Nat, What, router, underlay},
};

fn net(host: HostId) -> Ipv4Net {
    Ipv4Net::new_assert(container(host), 28).trunc()
}

fn container(host: HostId) -> Ipv4Addr {
    Ipv4Addr::new(10, 32, 0, 16 * u8::try_from(host).unwrap() + 1)
}

fn tunnel(to: SocketAddrV4, via: HostId) -> TunnelTo {
    let egress = Egress { ifindex: 2, next_hop: *to.ip(), source: *to.ip(), mtu: 1500 };
    TunnelTo { remote: to, via: name(via), kind: PathKind::Direct, fixed: false, egress, path_mtu: 1500 }
}

fn straight(host: HostId) -> TunnelTo {
    tunnel(SocketAddrV4::new(underlay(host), DATA_PORT), host)
}

impl World {
    fn apply(&mut self, host: HostId, op: &MapOp) {
        self.hosts.get_mut(&host).unwrap().kernel.maps.apply(op);
    }

    fn via(&mut self, at: HostId, to: HostId, tunnel: TunnelTo) {
        self.apply(at, &MapOp::PutTunnel(name(to), tunnel));
    }

    fn small(&self, from: HostId, to: HostId) -> Fate {
        self.forward(from, container(from), container(to), SMALL)
    }
}

/// Hosts without controllers, each with a container, all of which reach each other straight.
fn world(hosts: HostId) -> World {
    let mut world = World::new(1, Faults::NONE);
    for id in 1..=hosts {
        let mut host = Host::new(id, Spec::default());
        (host.kernel.on, host.kernel.loaded) = (true, true);
        world.by_name.insert(host.name, id);
        world.hosts.insert(id, host);
        world.apply(id, &MapOp::PutEndpoint(container(id), EndpointTo::container(1, Mac([0; 6]))));
        for other in 1..=hosts {
            let to = if other == id { RouteTo::Local } else { RouteTo::Peer(name(other)) };
            world.apply(id, &MapOp::PutRoute(net(other), to));
            if other != id {
                world.via(id, other, straight(other));
                world.apply(id, &MapOp::PutSender(underlay(other), name(other)));
            }
        }
    }
    world
}

fn lost(at: HostId, why: Why) -> Fate {
    Fate::Lost { at, why }
}

#[test]
fn straight_or_through_a_relay() {
    let mut world = world(3);
    assert_eq!(world.small(1, 3), Fate::Delivered { host: 3, hops: 1 });
    assert_eq!(world.forward(1, container(1), container(1), SMALL), Fate::Delivered { host: 1, hops: 0 });
    world.net.cut(1, 3, What::Data);
    assert_eq!(world.small(1, 3), lost(1, Why::Underlay(Stop::Cut)));
    assert_eq!(world.small(3, 1), Fate::Delivered { host: 1, hops: 1 }, "the other way is open");
    world.via(1, 3, straight(2));
    assert_eq!(world.small(1, 3), Fate::Delivered { host: 3, hops: 2 });
    assert_eq!(world.reach(1, 3, SMALL), Fate::Delivered { host: 3, hops: 2 });
}

#[test]
fn every_reason_to_drop() {
    type Change = fn(&mut World);
    let cases: [(Change, Fate); 9] = [
        (|w| w.apply(1, &MapOp::DelEndpoint(container(1))), lost(1, Why::SourceAddress)),
        (|w| w.apply(1, &MapOp::DelRoute(net(3))), lost(1, Why::NoRoute)),
        (|w| w.apply(1, &MapOp::PutRoute(net(3), RouteTo::Local)), lost(1, Why::NoEndpoint)),
        (|w| w.apply(1, &MapOp::DelTunnel(name(3))), lost(1, Why::NoTunnel)),
        (|w| w.apply(3, &MapOp::DelSender(underlay(1))), lost(3, Why::UnknownSender)),
        (|w| w.apply(3, &MapOp::DelEndpoint(container(3))), lost(3, Why::NoEndpoint)),
        (|w| w.hosts.get_mut(&3).unwrap().kernel.loaded = false, lost(3, Why::NoPrograms)),
        (|w| w.net.filter(3, What::Data), lost(1, Why::Underlay(Stop::Filtered))),
        (|w| w.net.limit(1, 3, 200), lost(1, Why::Underlay(Stop::TooBig))),
    ];
    for (change, fate) in cases {
        let mut world = world(3);
        change(&mut world);
        assert_eq!(world.small(1, 3), fate);
    }
}

#[test]
fn loops_end() {
    let mut world = world(4);
    world.via(1, 4, straight(2));
    world.via(2, 4, straight(1));
    assert_eq!(world.small(1, 4), lost(2, Why::Backwards), "never back to where it came from");
    world.via(2, 4, straight(3));
    world.via(3, 4, straight(1));
    assert!(matches!(world.small(1, 4), Fate::Lost { why: Why::Ttl, .. }));
}

#[test]
fn a_tunnel_that_knows_its_path_tells_the_sender() {
    let mut world = world(2);
    let largest = 1500 - vxlan::OVERHEAD;
    assert!(world.forward(1, container(1), container(2), largest).is_delivered());
    assert_eq!(world.forward(1, container(1), container(2), largest + 1), lost(1, Why::TooBig));
    world.net.limit(1, 2, 1450);
    assert_eq!(world.forward(1, container(1), container(2), largest), lost(1, Why::Underlay(Stop::TooBig)));
    world.via(1, 2, TunnelTo { path_mtu: 1450, ..straight(2) });
    assert_eq!(world.forward(1, container(1), container(2), largest), lost(1, Why::TooBig));
    assert!(world.forward(1, container(1), container(2), largest - 50).is_delivered());
}

#[test]
fn behind_nat_a_host_is_sent_to_where_its_router_lets_packets_in() {
    let mut world = world(2);
    world.net.place(2, Nat::Forwarding, 1500);
    assert_eq!(world.small(1, 2), lost(1, Why::Underlay(Stop::NoHost)));
    assert_eq!(world.small(2, 1), lost(1, Why::UnknownSender));
    world.apply(1, &MapOp::PutSender(router(2), name(2)));
    assert!(world.small(2, 1).is_delivered());
    world.via(1, 2, tunnel(SocketAddrV4::new(router(2), DATA_PORT), 2));
    assert!(world.small(1, 2).is_delivered());
    world.net.place(2, Nat::Closed, 1500);
    assert_eq!(world.small(1, 2), lost(1, Why::Underlay(Stop::NoPort)));
    let asked = SocketAddrV4::new(underlay(1), DATA_PORT);
    let probes = world.net.packet((2, DATA_PORT), asked, 100, world.now).unwrap().source;
    world.via(1, 2, TunnelTo { kind: PathKind::Fixed, fixed: true, ..tunnel(probes, 2) });
    assert_eq!(world.small(1, 2), lost(1, Why::Underlay(Stop::Shut)), "nothing was asked");
    world.net.open(2, DATA_PORT, asked, world.now);
    assert!(world.small(1, 2).is_delivered(), "where its probes come from");
    world.via(1, 2, tunnel(probes, 2));
    assert_eq!(world.small(1, 2), lost(1, Why::Underlay(Stop::Shut)), "from the port that was asked alone");
    world.net.open(2, FLOW_PORT, asked, world.now);
    let flow = SocketAddrV4::new(router(2), FLOW_PORT);
    world.via(1, 2, TunnelTo { kind: PathKind::Fixed, fixed: true, ..tunnel(flow, 2) });
    assert_eq!(
        world.small(1, 2),
        lost(1, Why::Underlay(Stop::NoPort)),
        "the programs take data at the data port alone"
    );
}

#[test]
fn the_longest_prefix_wins() {
    let mut maps = Maps::default();
    for (net, to) in [("10.0.0.0/8", 1), ("10.32.0.0/12", 2), ("10.32.0.7/32", 3)] {
        maps.routes.insert(net.parse().unwrap(), RouteTo::Peer(name(to)));
    }
    let to = |addr: &str| longest(&maps, addr.parse().unwrap());
    assert_eq!(to("10.32.0.7"), Some(RouteTo::Peer(name(3))));
    assert_eq!(to("10.32.0.8"), Some(RouteTo::Peer(name(2))));
    assert_eq!(to("10.99.0.1"), Some(RouteTo::Peer(name(1))));
    assert_eq!(to("11.0.0.1"), None);
}
