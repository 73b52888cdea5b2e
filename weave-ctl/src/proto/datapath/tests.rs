//! The difference, applied, gives what is wanted; refused writes come again; control trouble removes nothing.

use std::net::SocketAddrV4;

use proptest::prelude::*;

use super::*;
use crate::proto::{
    domain::Domain,
    name::{PeerId, PeerUid},
};

const NOW: Instant = Instant::from_start(Duration::from_secs(1));

fn name(n: u8) -> PeerName {
    PeerName::from_bytes([0, 0, 0, 0, 0, n])
}

fn tunnel(n: u8) -> TunnelTo {
    let remote = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, n), 6784);
    let egress = Egress { ifindex: 2, next_hop: *remote.ip(), source: Ipv4Addr::new(192, 0, 2, 1), mtu: 1500 };
    TunnelTo { remote, via: name(n), kind: PathKind::Direct, fixed: false, egress, path_mtu: 1500 }
}

fn endpoint(n: u8) -> (Ipv4Addr, EndpointTo) {
    let addr = Ipv4Addr::new(10, 0, 0, n);
    (addr, EndpointTo::container(u32::from(n), Mac::of_container(addr.octets())))
}

#[test]
fn without_a_ring_inherited_routes_and_tunnels_stay() {
    let inherited =
        [MapOp::PutRoute("10.0.0.0/25".parse().unwrap(), RouteTo::Peer(name(2))), MapOp::PutTunnel(name(2), tunnel(2))];
    let mut datapath = Datapath::new(&inherited);
    assert_eq!(datapath.diff(NOW), []);
    assert!(!datapath.forget_peer(name(2)));
    assert_eq!(datapath.diff(NOW), [], "a peer that owns a routed range is still sent to");
}

#[test]
fn inherited_endpoints_that_nobody_has_go() {
    let (addr, to) = endpoint(5);
    let mut datapath = Datapath::new(&[MapOp::PutEndpoint(addr, to)]);
    assert_eq!(datapath.diff(NOW), [MapOp::DelEndpoint(addr)]);
}

#[test]
fn a_refused_write_comes_again_after_a_pause() {
    let mut datapath = Datapath::default();
    datapath.set_tunnel(name(2), tunnel(2));
    let ops = datapath.diff(NOW);
    assert_eq!(ops.len(), 1);
    datapath.failed(&ops[0], "no space", NOW);
    assert_eq!(datapath.warnings().count(), 1);
    assert_eq!(datapath.diff(NOW), []);
    let later = datapath.poll_timeout().unwrap();
    assert_eq!(datapath.diff(later), ops);
    assert_eq!(datapath.warnings().count(), 0);
    assert_eq!(datapath.diff(later), []);
}

#[test]
fn a_refused_removal_comes_again() {
    let (addr, to) = endpoint(5);
    let mut datapath = Datapath::new(&[MapOp::PutEndpoint(addr, to)]);
    datapath.set_tunnel(name(2), tunnel(2));
    datapath.set_senders(name(2), &BTreeSet::from([addr]));
    datapath.diff(NOW);
    assert!(datapath.forget_peer(name(2)));
    datapath.set_senders(name(2), &BTreeSet::new());
    let ops = datapath.diff(NOW);
    ops.iter().for_each(|op| datapath.failed(op, "busy", NOW));
    assert_eq!(datapath.diff(datapath.poll_timeout().unwrap()), ops);
}

#[test]
fn a_peer_that_owns_nothing_any_more_is_told_once() {
    let range = "10.0.0.0/24".parse().unwrap();
    let ids = [1, 2].map(|n| PeerId { name: name(n), uid: PeerUid(1) });
    let mut ring = Ring::from_origin(range, &ids).unwrap();
    let mut datapath = Datapath::default();
    datapath.set_ring(&ring, name(1));
    datapath.set_exceptions(BTreeMap::from([(Ipv4Addr::new(192, 0, 2, 1), name(3))]));
    for n in [2, 3, 4] {
        datapath.set_tunnel(name(n), tunnel(n));
    }
    assert_eq!(datapath.take_unrouted(), [], "the kernel has none of that");
    datapath.diff(NOW);
    assert_eq!(datapath.take_unrouted(), [name(4)]);
    assert_eq!(datapath.take_unrouted(), []);
    datapath.set_exceptions(BTreeMap::new());
    while !datapath.diff(NOW).is_empty() {}
    assert_eq!(datapath.take_unrouted(), [name(3), name(4)]);
    assert!(!datapath.forget_peer(name(2)) && datapath.forget_peer(name(3)));
    let owned = ring.routes().filter(|(_, owner)| *owner == ids[1]).map(|(net, _)| net).collect::<Vec<_>>();
    for net in owned {
        ring.give(net.network(), net.broadcast(), ids[1], ids[0]);
    }
    datapath.set_ring(&ring, name(1));
    while !datapath.diff(NOW).is_empty() {}
    assert_eq!(datapath.take_unrouted(), [name(2), name(4)]);
    assert!(datapath.forget_peer(name(2)));
}

#[test]
fn a_route_goes_only_when_those_that_take_its_place_are_there() {
    let range = "10.0.0.0/24".parse().unwrap();
    let ids = [1, 2].map(|n| PeerId { name: name(n), uid: PeerUid(1) });
    let mut ring = Ring::from_origin(range, &ids[..1]).unwrap();
    let mut datapath = Datapath::default();
    datapath.set_ring(&ring, name(1));
    assert_eq!(datapath.diff(NOW), [MapOp::PutRoute(range, RouteTo::Local)]);
    ring.give(Ipv4Addr::new(10, 0, 0, 128), Ipv4Addr::new(10, 0, 0, 255), ids[0], ids[1]);
    datapath.set_ring(&ring, name(1));
    let ops = datapath.diff(NOW);
    assert!(ops.len() == 2 && ops.iter().all(|op| matches!(op, MapOp::PutRoute(..))), "{ops:?}");
    // One is refused: what it is to take the place of stays until it is not.
    datapath.failed(&ops[0], "no memory", NOW);
    assert_eq!(datapath.diff(NOW), []);
    let retry = datapath.poll_timeout().unwrap();
    assert_eq!(datapath.diff(retry), [ops[0].clone()]);
    assert_eq!(datapath.poll_timeout(), Some(retry));
    assert_eq!(datapath.diff(retry), [MapOp::DelRoute(range)]);
    assert_eq!((datapath.diff(retry), datapath.poll_timeout()), (vec![], None));
}

#[test]
fn the_route_out_of_the_network_stays_with_a_new_ring() {
    let (everywhere, host) = (Ipv4Net::default(), Ipv4Addr::new(10, 0, 0, 9));
    let inherited = MapOp::PutRoute(everywhere, RouteTo::Host(host));
    let ring = |names: &[PeerName]| Ring::from_seeds("10.0.0.0/24".parse().unwrap(), names).unwrap();
    let mut datapath = Datapath::new(std::slice::from_ref(&inherited));
    datapath.set_ring(&ring(&[name(1)]), name(1));
    datapath.set_gateway(Some(host));
    assert!(datapath.diff(NOW).iter().all(|op| !matches!(op, MapOp::PutRoute(net, _) if *net == everywhere)));
    datapath.set_ring(&ring(&[name(1), name(2)]), name(1));
    drop(datapath.diff(NOW));
    assert!(!datapath.diff(NOW).contains(&MapOp::DelRoute(everywhere)));
    let other = Ipv4Addr::new(10, 0, 0, 8);
    datapath.set_gateway(Some(other));
    assert_eq!(datapath.diff(NOW), [MapOp::PutRoute(everywhere, RouteTo::Host(other))]);
    datapath.set_gateway(None);
    assert_eq!(datapath.diff(NOW), [MapOp::DelRoute(everywhere)]);
}

proptest! {
    #[test]
    fn applying_the_difference_gives_what_is_wanted(
        before in prop::collection::btree_set(1_u8..20, 0..10),
        after in prop::collection::btree_set(1_u8..20, 0..10),
        seeds in prop::collection::btree_set(1_u8..8, 1..4),
    ) {
        let installed: Vec<MapOp> = before.iter().map(|n| {
            let (addr, to) = endpoint(*n);
            MapOp::PutEndpoint(addr, EndpointTo { ifindex: to.ifindex + u32::from(*n % 2), ..to })
        }).collect();
        let mut kernel = Maps::default();
        installed.iter().for_each(|op| kernel.apply(op));
        let mut datapath = Datapath::new(&installed);
        datapath.set_endpoints(after.iter().map(|n| endpoint(*n)).collect());
        let names: Vec<PeerName> = seeds.iter().map(|n| name(*n)).collect();
        datapath.set_ring(&Ring::from_seeds("10.0.0.0/24".parse().unwrap(), &names).unwrap(), name(1));
        datapath.diff(NOW).iter().for_each(|op| kernel.apply(op));
        prop_assert_eq!(&kernel, &datapath.want);
        prop_assert_eq!(datapath.diff(NOW), vec![]);
    }
}

#[test]
fn several_peers_behind_one_address_share_the_sender() {
    let (addr, other) = (Ipv4Addr::new(192, 0, 2, 9), Ipv4Addr::new(192, 0, 2, 10));
    let mut datapath = Datapath::default();
    datapath.set_senders(name(3), &BTreeSet::from([addr]));
    datapath.set_senders(name(2), &BTreeSet::from([addr, other]));
    let put = |addr, n| MapOp::PutSender(addr, name(n));
    assert_eq!(datapath.diff(NOW), [put(addr, 2), put(other, 2)]);
    datapath.set_senders(name(2), &BTreeSet::new());
    assert_eq!(datapath.diff(NOW), [put(addr, 3), MapOp::DelSender(other)]);
    datapath.set_senders(name(3), &BTreeSet::new());
    assert_eq!(datapath.diff(NOW), [MapOp::DelSender(addr)]);
}

#[test]
fn a_forgotten_peer_that_comes_back_is_sent_to_again() {
    let mut datapath = Datapath::default();
    datapath.set_tunnel(name(2), tunnel(2));
    assert_eq!(datapath.diff(NOW).len(), 1);
    assert!(datapath.forget_peer(name(2)));
    assert_eq!(datapath.diff(NOW), [MapOp::DelTunnel(name(2))]);
    datapath.set_tunnel(name(2), tunnel(2));
    assert_eq!(datapath.diff(NOW), [MapOp::PutTunnel(name(2), tunnel(2))]);
}

#[test]
fn a_peer_that_is_gone_may_relay_still_until_its_address_is_anothers_or_many_others_are_gone() {
    let addr = |n: usize| Ipv4Addr::from(0xc000_0200 + u32::try_from(n).unwrap());
    let peer = |n: usize| PeerName::from_bytes([0, 0, 0, 0, 1, u8::try_from(n % 256).unwrap()]);
    let from = |n: usize| BTreeSet::from([addr(n)]);
    let mut datapath = Datapath::default();
    for n in 0..GONE_MAX {
        datapath.set_senders(peer(n), &from(n));
    }
    datapath.diff(NOW);
    for n in 0..GONE_MAX {
        assert!(datapath.forget_peer(peer(n)));
    }
    assert_eq!(datapath.diff(NOW), []);
    datapath.set_senders(name(2), &from(7));
    assert_eq!(datapath.diff(NOW), [MapOp::PutSender(addr(7), name(2))]);
    assert!(datapath.forget_peer(name(2)));
    assert_eq!(datapath.diff(NOW), [MapOp::DelSender(addr(0))]);
    // One comes back, and goes again: it is the last one then.
    datapath.set_senders(peer(1), &from(1));
    assert!(datapath.forget_peer(peer(1)) && datapath.forget_peer(name(3)));
    assert_eq!(datapath.diff(NOW), [MapOp::DelSender(addr(2))]);
}

#[test]
fn many_names_are_changed_a_few_at_once() {
    let mut datapath = Datapath::default();
    let name = |n: usize| Domain::default().name(&format!("n{n}")).unwrap();
    for n in 0..NAMES_AT_ONCE + 1 {
        datapath.set_name(name(n), vec![Ipv4Addr::LOCALHOST]);
    }
    assert_eq!(datapath.diff(NOW).len(), NAMES_AT_ONCE);
    assert_eq!(datapath.poll_timeout(), Some(NOW), "the rest at once");
    let left = datapath.diff(NOW);
    assert!(matches!(&left[..], [MapOp::PutName(..)]), "{left:?}");
    assert_eq!(datapath.poll_timeout(), None);
    // What the kernel refused is written again, unless it changed meanwhile.
    datapath.failed(&left[0], "no memory", NOW);
    datapath.set_name(name(0), vec![]);
    let MapOp::PutName(refused, _) = &left[0] else { panic!("{left:?}") };
    let again = datapath.diff(NOW + RETRY_EVERY);
    assert_eq!(again, [MapOp::DelName(name(0)), MapOp::PutName(refused.clone(), vec![Ipv4Addr::LOCALHOST])]);
}
