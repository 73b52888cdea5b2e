//! What nodes make of each other's records, sessions and paths.

use std::net::SocketAddrV4;

use super::*;
use crate::proto::{
    io::{MapOp, TunnelTo},
    status::{ConnectionState, HostStatus, PathStatus, Status},
};

fn status(net: &mut Net, n: u8) -> Status {
    let now = net.now;
    net.at(n).status(now).complete(HostStatus::default())
}

fn path(net: &mut Net, from: u8, to: u8) -> PathStatus {
    let all = status(net, from).peers;
    all.into_iter().find(|peer| peer.id.name == name(to)).expect("a peer").path
}

#[test]
fn peers_behind_others_are_known_and_reached() {
    let mut net = Net::new(4, &[1]);
    for (a, b) in [(1, 2), (2, 3), (3, 4)] {
        net.connect(a, b);
    }
    net.run(Duration::from_secs(5));
    let now = net.now;
    for (node, other) in [(1, 4), (4, 1), (2, 4)] {
        assert!(net.at(node).witnesses(now).reached(name(other)), "{node} to {other}");
    }
}

#[test]
fn a_peer_without_room_is_made_known() {
    let mut net = Net::new(4, &[1]);
    net.nodes[0] = node(1, &[1], &Installed::default(), 2);
    net.connect(2, 1);
    net.connect(3, 1);
    net.run(Duration::from_secs(1));
    // Nobody else leads to peers 2 and 3, so none of them can be spared.
    net.connect(4, 1);
    net.deliver();
    assert_eq!(*net.at(1).sessions.connected(), BTreeSet::from([2, 3].map(name)));
    assert!(net.at(1).membership.record(name(4)).is_some(), "peers with room may dial it");
    assert!(net.at(4).membership.record(name(2)).is_some(), "it learns of others");
}

#[test]
fn an_address_of_this_host_is_no_place_of_another() {
    let (mut net, bridge) = (Net::new(2, &[1]), Ipv4Addr::new(172, 17, 0, 1));
    let both = |n| Underlay { addrs: vec![ip(n), bridge], default_mtu: 1500, ..Underlay::default() };
    net.at(2).handle_input(Input::Underlay(both(2)), NOW);
    net.connect(2, 1);
    net.run(Duration::from_secs(1));
    let places = |net: &mut Net| {
        let now = net.now;
        let lines = net.at(1).paths.status(name(2), now).candidates;
        lines.into_iter().filter_map(|line| line.remote.map(|at| *at.ip())).collect::<BTreeSet<_>>()
    };
    assert!(places(&mut net).contains(&bridge));
    let now = net.now;
    net.at(1).handle_input(Input::Underlay(both(1)), now);
    assert_eq!(places(&mut net), BTreeSet::from([ip(2)]));
}

#[test]
fn a_host_that_others_see_elsewhere_is_behind_nat() {
    let mut net = Net::new(2, &[1]);
    net.connect_as(2, 1, Ipv4Addr::new(198, 51, 100, 2));
    net.run(Duration::from_secs(2));
    assert_eq!(net.at(2).seen_elsewhere, BTreeSet::from([name(1)]));
    assert!(net.at(1).seen_elsewhere.is_empty());
}

#[test]
fn a_direct_path_is_reported_until_it_dies() {
    let mut net = Net::new(2, &[1]);
    let session = net.connect(1, 2);
    net.answer(&[(1, 2)]);
    net.run(Duration::from_secs(5));
    assert_eq!(status(&mut net, 1).connections[0].state, ConnectionState::Established);
    assert!(matches!(path(&mut net, 1, 2), PathStatus::Direct { .. }));
    assert_eq!(net.at(2).membership.record(name(1)).expect("a record").paths, [name(2)]);
    net.answers.clear();
    net.run(Duration::from_secs(40));
    assert_eq!(status(&mut net, 1).connections[0].state, ConnectionState::Pending);
    assert!(matches!(path(&mut net, 1, 2), PathStatus::Unconfirmed { remote: Some(_), .. }), "the last path stays");
    assert!(net.at(1).membership.me().paths.is_empty());
    net.cut(session);
}

#[test]
fn a_path_outlives_the_session_in_the_record() {
    let mut net = Net::new(2, &[1]);
    let session = net.connect(1, 2);
    net.answer(&[(1, 2)]);
    net.run(Duration::from_secs(5));
    net.cut(session);
    net.deliver();
    let me = net.at(1).membership.me();
    assert_eq!((&me.sessions[..], &me.paths[..]), (&[][..], &[name(2)][..]));
    // Until it does not answer any more.
    net.answers.clear();
    net.run(Duration::from_secs(50));
    assert!(net.at(1).membership.me().paths.is_empty());
}

#[test]
fn owners_whose_kernels_answer_are_not_unreachable() {
    let mut net = Net::new(3, &[1, 2, 3]);
    net.connect(1, 2);
    net.connect(1, 3);
    net.answer(&[(1, 3)]);
    net.run(Duration::from_secs(5));
    net.kill(2);
    net.kill(3);
    net.run(Duration::from_secs(5));
    let owners = status(&mut net, 1).ipam.owners;
    let unreachable: Vec<_> = owners.iter().filter(|owner| owner.unreachable).map(|owner| owner.id.name).collect();
    assert_eq!(unreachable, [name(2)]);
}

#[test]
fn paths_of_an_earlier_run_are_kept() {
    let tunnel = TunnelTo {
        remote: SocketAddrV4::new(ip(2), 6784),
        via: name(2),
        kind: PathKind::Direct,
        fixed: false,
        egress: egress(),
        path_mtu: 1400,
    };
    let installed = Installed {
        adopted: true,
        maps: vec![MapOp::PutTunnel(name(2), tunnel), MapOp::PutSender(ip(2), name(2))],
        ..Installed::default()
    };
    let mut node = node(1, &[1, 2], &installed, 200);
    assert_eq!(node.paths.active(name(2)).map(|path| (path.remote, path.path_mtu)), Some((tunnel.remote, 1400)));
    let changed = std::iter::from_fn(|| node.poll_output()).any(|output| {
        matches!(output, Output::Map(MapOp::DelTunnel(..) | MapOp::DelSender(..) | MapOp::PutTunnel(..)))
    });
    assert!(!changed, "the kernel's tables stay as they are");
}

#[test]
fn a_pending_session_shows_what_its_path_takes() {
    let mut net = Net::new(2, &[1]);
    net.connect(1, 2);
    net.deliver();
    let shown = |net: &mut Net| {
        let shown = status(net, 1).connections;
        (shown[0].state, shown[0].mtu)
    };
    assert_eq!(shown(&mut net), (ConnectionState::Pending, Some(1450)), "the peer may know no device yet");
    // The peer's device is smaller, as its record then says.
    let egress = Some(Egress { ifindex: 2, next_hop: ip(1), source: ip(2), mtu: 1400 });
    let now = net.now;
    net.at(2).handle_input(Input::Egress(ip(1), egress), now);
    net.run(Duration::from_secs(1));
    assert_eq!(shown(&mut net), (ConnectionState::Pending, Some(1350)));
}

#[test]
fn a_peer_without_a_route_is_shown() {
    let mut net = Net::new(2, &[1]);
    net.connect(1, 2);
    net.answer(&[(1, 2)]);
    net.run(Duration::from_secs(2));
    assert!(status(&mut net, 1).warnings.is_empty());
    let now = net.now;
    net.at(1).handle_input(Input::Egress(ip(2), None), now);
    let warnings = status(&mut net, 1).warnings;
    assert!(warnings.iter().any(|text| text.contains("no route to 192.0.2.2")), "{warnings:?}");
    assert!(net.at(1).datapath.tunnel(name(2)).is_some(), "its last path stays");
}

#[test]
fn container_mtu_follows_the_devices_of_paths() {
    let mut net = Net::new(2, &[1]);
    assert_eq!(net.at(1).container_mtu(), 1450);
    net.at(1)
        .handle_input(Input::Underlay(Underlay { addrs: vec![ip(1)], default_mtu: 9000, ..Underlay::default() }), NOW);
    assert_eq!(net.at(1).container_mtu(), 8950, "without a peer by the default route");
    net.connect(1, 2);
    net.answer(&[(1, 2)]);
    net.run(Duration::from_secs(2));
    assert_eq!(net.at(1).container_mtu(), 1450, "the device of the route to the peer has 1500");
}
