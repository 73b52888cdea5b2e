//! The kernel's entry, and what is read back from it.

use weave_common::config::SCHEMA;

use super::*;

const EGRESS: Egress =
    Egress { ifindex: 7, next_hop: Ipv4Addr::new(192, 0, 2, 254), source: Ipv4Addr::new(192, 0, 2, 1), mtu: 1500 };

const CONFIG: Config = Config {
    schema: SCHEMA,
    vni: vxlan::VNI,
    data_port: 6783,
    pad: 0,
    socket_ifindex: 0,
    me: [2, 0, 0, 0, 0, 77],
    pad2: [0; 2],
    service: [0; 4],
    dns_ttl: 0,
    dns: 0,
};

fn to(last: u8, port: u16) -> TunnelTo {
    let remote = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, last), port);
    TunnelTo { remote, via: peer(last), kind: PathKind::Direct, fixed: false, egress: EGRESS, path_mtu: 1500 }
}

#[test]
fn entry_carries_the_route_and_reads_back() {
    let tunnel = entry(peer(9), &to(9, 6784), &CONFIG);
    assert_eq!((tunnel.ifindex, tunnel.inner_mtu), (7, 1450));
    assert_eq!(Ipv4Addr::from(tunnel.next_hop), EGRESS.next_hop);
    assert_eq!(tunnel.push.outer.ipv4[12..16], [192, 0, 2, 1]);
    assert_eq!(vxlan::vni(&tunnel.push.outer.vxlan), Some(vxlan::VNI));
    assert_eq!(tunnel.push.ethernet, [2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 77, 8, 0], "for the peer, from this host");
    assert_eq!(tunnel.kind, PATH_DIRECT);
    assert_eq!(read_back(peer(9), &tunnel), to(9, 6784));
}

#[test]
fn fixed_paths_use_one_source_port() {
    let by_flow = entry(peer(9), &to(9, 6784), &CONFIG);
    assert_eq!(by_flow.push.outer.source_port(), 0);
    let fixed = TunnelTo { kind: PathKind::Fixed, fixed: true, ..to(9, 31_005) };
    let tunnel = entry(peer(9), &fixed, &CONFIG);
    assert_eq!(tunnel.push.outer.udp[0..4], [26, 127, 121, 29], "6783 to 31005");
    assert_eq!(tunnel.kind, PATH_FIXED);
    assert_eq!(read_back(peer(9), &tunnel), fixed);
    for fixed in [true, false] {
        let relayed = TunnelTo { kind: PathKind::Relayed, fixed, ..to(9, 6784) };
        let tunnel = entry(peer(4), &relayed, &CONFIG);
        assert_eq!(tunnel.kind, PATH_RELAYED);
        assert_eq!(tunnel.push.ethernet[..6], peer(4).bytes(), "the receiver's name, not the relay's");
        assert_eq!(read_back(peer(4), &tunnel), relayed);
    }
}

#[test]
fn path_smaller_than_the_headers_carries_nothing() {
    assert_eq!(entry(peer(9), &TunnelTo { path_mtu: 20, ..to(9, 6784) }, &CONFIG).inner_mtu, 0);
}

#[test]
fn inner_mtu_follows_the_path_not_the_route() {
    let tunnel = entry(peer(9), &TunnelTo { path_mtu: 1400, ..to(9, 6784) }, &CONFIG);
    assert_eq!(tunnel.inner_mtu, 1350);
    assert_eq!(read_back(peer(9), &tunnel).egress.mtu, 1400, "all that is known of the route");
}

fn peer(last: u8) -> PeerName {
    PeerName::from_bytes([2, 0, 0, 0, 0, last])
}

#[test]
fn all_tunnels_get_their_turn() {
    let mut tunnels = Tunnels::default();
    assert_eq!(tunnels.next(3), []);
    for last in 1..=4 {
        tunnels.insert(peer(last));
    }
    assert_eq!(tunnels.next(3), [1, 2, 3].map(peer));
    assert_eq!(tunnels.next(3), [4, 1, 2].map(peer));
    tunnels.remove(peer(2));
    tunnels.remove(peer(3));
    assert_eq!(tunnels.next(3), [4, 1].map(peer), "each once");
    assert_eq!(tunnels.next(0), []);
    assert_eq!(tunnels.next(9), [1, 4].map(peer));
}

/// The kernel's entry of a tunnel with these times.
fn used(sent_ns: u64, big_ns: u64, heard_ns: u64) -> Tunnel {
    Tunnel { sent_ns, big_ns, heard_ns, ..entry(peer(9), &to(9, 6784), &CONFIG) }
}

#[test]
fn traffic_is_told_once() {
    let mut traffic = Traffic::default();
    let told = |peer, sent, big, heard| Some(Activity { peer, sent, big, heard, elsewhere: false });
    assert_eq!(traffic.news(peer(1), &used(0, 0, 0)), None, "never used");
    assert_eq!(traffic.news(peer(1), &used(5, 0, 0)), told(peer(1), true, false, false));
    assert_eq!(traffic.news(peer(1), &used(5, 0, 0)), None);
    assert_eq!(traffic.news(peer(1), &used(6, 6, 3)), told(peer(1), true, true, true));
    assert_eq!(traffic.news(peer(1), &used(6, 6, 4)), told(peer(1), false, false, true));
    assert_eq!(traffic.news(peer(2), &used(0, 0, 0)), None, "each for itself");
    let elsewhere = Tunnel { elsewhere_ns: 2, ..used(0, 0, 0) };
    let seen = traffic.news(peer(2), &elsewhere);
    assert_eq!(seen, Some(Activity { peer: peer(2), elsewhere: true, ..Activity::default() }));
    assert_eq!(traffic.news(peer(2), &elsewhere), None);
    // A tunnel that is made anew begins anew.
    traffic.forget(peer(1));
    assert_eq!(traffic.news(peer(1), &used(0, 0, 0)), None);
    assert_eq!(traffic.news(peer(1), &used(3, 0, 0)), told(peer(1), true, false, false));
}

#[test]
fn tunnels_without_traffic_are_no_longer_active() {
    let mut traffic = Traffic::default();
    traffic.news(peer(1), &used(5, 0, 0));
    traffic.news(peer(2), &used(0, 0, 5));
    assert_eq!(traffic.active(9), [1, 2].map(peer));
    assert_eq!(traffic.active(1), [peer(1)]);
    for look in 1..=QUIET_LOOKS {
        assert!(traffic.active(9).contains(&peer(1)), "look {look}");
        traffic.news(peer(1), &used(5, 0, 0));
    }
    assert_eq!(traffic.active(9), [peer(2)]);
    traffic.news(peer(1), &used(6, 0, 0));
    assert_eq!(traffic.active(9), [1, 2].map(peer));
    traffic.forget(peer(1));
    assert_eq!(traffic.active(9), [peer(2)]);
}
