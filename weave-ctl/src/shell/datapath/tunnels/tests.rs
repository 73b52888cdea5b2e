//! The kernel's entry, and what is read back from it.

use weave_common::config::SCHEMA;

use super::*;

fn to(last: u8, port: u16) -> TunnelTo {
    let remote = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, last), port);
    TunnelTo { remote, short_id: 0xbeef, via: peer(last), translated: false, path_mtu: 0 }
}

const ROUTE: UnderlayRoute = UnderlayRoute {
    ifindex: 7,
    next_hop: Ipv4Addr::new(192, 0, 2, 254),
    source: Ipv4Addr::new(192, 0, 2, 1),
    mtu: 1500,
};

const CONFIG: Config = Config { schema: SCHEMA, vni: vxlan::VNI, data_port: 6784, probe_port: 6783, socket_ifindex: 0 };

#[test]
fn entry_carries_the_route_and_reads_back() {
    let tunnel = entry(to(9, 6784), ROUTE, &CONFIG);
    assert_eq!((tunnel.ifindex, tunnel.inner_mtu), (7, 1450));
    assert_eq!(Ipv4Addr::from(tunnel.next_hop), ROUTE.next_hop);
    assert_eq!(tunnel.outer.ipv4[12..16], [192, 0, 2, 1]);
    assert_eq!(vxlan::vni(&tunnel.outer.vxlan), Some(vxlan::VNI));
    assert_eq!(wanted_by(&tunnel), to(9, 6784));
}

#[test]
fn behind_translation_packets_leave_from_one_port() {
    let of_flows = entry(to(9, 6784), ROUTE, &CONFIG);
    assert_eq!(of_flows.outer.source_port(), 0);
    let translated = TunnelTo { translated: true, ..to(9, 31_005) };
    let tunnel = entry(translated, ROUTE, &CONFIG);
    assert_eq!(tunnel.outer.udp[0..4], [26, 127, 121, 29], "6783 to 31005");
    assert_eq!(wanted_by(&tunnel), translated);
}

#[test]
fn a_path_smaller_than_the_headers_carries_nothing() {
    assert_eq!(entry(to(9, 6784), UnderlayRoute { mtu: 20, ..ROUTE }, &CONFIG).inner_mtu, 0);
}

#[test]
fn what_the_path_takes_bounds_what_the_route_takes() {
    let path = |path_mtu| entry(TunnelTo { path_mtu, ..to(9, 6784) }, ROUTE, &CONFIG);
    assert_eq!(path(1400).inner_mtu, 1350);
    assert_eq!(path(9000).inner_mtu, 1450);
    assert_eq!(wanted_by(&path(9000)).path_mtu, 9000);
}

fn peer(last: u8) -> PeerName {
    PeerName::from_bytes([2, 0, 0, 0, 0, last])
}

#[test]
fn all_tunnels_get_their_turn() {
    let mut wanted = Wanted::default();
    assert_eq!(wanted.next(3), []);
    for last in 1..=4 {
        wanted.put(peer(last), to(last, 6784));
    }
    assert_eq!(wanted.next(3), [1, 2, 3].map(peer));
    assert_eq!(wanted.next(3), [4, 1, 2].map(peer));
    wanted.remove(peer(2));
    wanted.remove(peer(3));
    assert_eq!(wanted.next(3), [4, 1].map(peer), "each once");
    assert_eq!(wanted.next(0), []);
    assert_eq!(wanted.next(9), [1, 4].map(peer));
}

#[test]
fn traffic_is_told_once() {
    let mut traffic = Traffic::default();
    assert!(!traffic.is_news(peer(1), 0), "never used");
    assert!(traffic.is_news(peer(1), 5));
    assert!(!traffic.is_news(peer(1), 5));
    assert!(traffic.is_news(peer(1), 6));
    assert!(!traffic.is_news(peer(2), 0), "each for itself");
    // A tunnel that is made anew begins anew.
    traffic.forget(peer(1));
    assert!(!traffic.is_news(peer(1), 0));
    assert!(traffic.is_news(peer(1), 3));
}
