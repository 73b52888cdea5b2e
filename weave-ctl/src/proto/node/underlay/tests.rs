//! Sizes follow the routes to peers, and nothing else.

use std::{collections::BTreeMap, net::SocketAddrV4, time::Duration};

use super::*;
use crate::proto::{
    boot::{self, Init, Installed, Launch, Stored},
    io::{Input, MapOp, Output, PathKind, TunnelTo},
    rng::Rng,
};

const NOW: Instant = Instant::from_start(Duration::from_secs(1));

fn name(n: u8) -> PeerName {
    PeerName::from_bytes([2, 0, 0, 0, 0, n])
}

fn addr(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, n)
}

fn egress(to: u8, mtu: u32) -> Egress {
    Egress { ifindex: 2, next_hop: addr(to), source: addr(1), mtu }
}

/// A node whose earlier run sent to these peers, each with its own address.
fn node(peers: &[u8]) -> Node {
    let launch = Launch {
        name: Some(name(1)),
        nickname: "one".to_owned(),
        range: None,
        default_subnet: None,
        init: Init::Undeclared,
        seeds: Vec::new(),
        targets: Vec::new(),
        discovery: true,
        conn_limit: 10,
        port: 6783,
        encrypted: false,
        test_grace: None,
    };
    let tunnel = |n: &u8| {
        let remote = SocketAddrV4::new(addr(*n), 6784);
        let tunnel = TunnelTo {
            remote,
            via: name(*n),
            kind: PathKind::Direct,
            fixed: false,
            egress: egress(*n, 9000),
            path_mtu: 9000,
        };
        MapOp::PutTunnel { peer: name(*n), tunnel }
    };
    let maps = peers.iter().map(tunnel).collect();
    let installed = Installed { adopted: true, maps, endpoints: BTreeMap::new() };
    let boot = boot::resume(Stored::default(), &launch, None, &mut Rng::new([1; 32])).expect("boots");
    Node::new(boot, &launch, &installed, [2; 32], NOW)
}

fn outputs(node: &mut Node) -> Vec<Output> {
    std::iter::from_fn(|| node.poll_output()).collect()
}

/// Sizes of the tunnels that are written.
fn written(node: &mut Node) -> Vec<(PeerName, u32)> {
    let written = outputs(node).into_iter().filter_map(|output| match output {
        Output::Map(MapOp::PutTunnel { peer, tunnel }) => Some((peer, tunnel.path_mtu)),
        _ => None,
    });
    written.collect()
}

fn host(node: &mut Node, addrs: &[u8], default_mtu: u32) {
    let addrs = addrs.iter().map(|n| addr(*n)).collect();
    node.handle_input(Input::Underlay(Underlay { addrs, default_mtu }), NOW);
}

fn told(node: &mut Node, to: u8, mtu: Option<u32>) {
    let egress = mtu.map(|mtu| egress(to, mtu));
    node.handle_input(Input::Egress { addr: addr(to), egress }, NOW);
}

#[test]
fn unrelated_device_changes_no_size() {
    let mut node = node(&[2]);
    let watched = outputs(&mut node).iter().any(|output| matches!(output, Output::Watch(to) if *to == addr(2)));
    assert!(watched, "what an earlier run sent to is watched from the start");
    host(&mut node, &[1], 1500);
    told(&mut node, 2, Some(1500));
    assert_eq!((node.mtu, node.mesh.me().mtu), (1450, 1450));
    assert_eq!(written(&mut node), [(name(2), 1500)]);
    // A VPN comes up, and takes the default route.
    host(&mut node, &[1, 200], 1280);
    assert_eq!((node.mtu, node.mesh.me().mtu), (1450, 1450));
    assert_eq!(written(&mut node), []);
}

#[test]
fn containers_get_the_smallest_and_peers_the_largest() {
    let mut node = node(&[2, 3]);
    host(&mut node, &[1], 1400);
    assert_eq!((node.mtu, node.mesh.me().mtu), (1350, 1350), "no route is known: the default one counts");
    told(&mut node, 2, Some(9000));
    told(&mut node, 3, Some(1500));
    assert_eq!((node.mtu, node.mesh.me().mtu), (1450, 8950));
    let tunnels: Vec<u32> = node.datapath.tunnels().map(|(_, tunnel)| tunnel.path_mtu).collect();
    assert_eq!(tunnels, [9000, 1500]);
    told(&mut node, 3, None);
    assert_eq!((node.mtu, node.mesh.me().mtu), (8950, 8950));
    assert_eq!(node.datapath.tunnels().count(), 2, "the entry of a peer without a route stays");
    let said = node.unreachable();
    assert!(said.len() == 1 && said[0].contains("no route to 192.0.2.3"), "{said:?}");
    told(&mut node, 2, Some(300));
    assert_eq!(node.mtu, MTU_MIN);
}
