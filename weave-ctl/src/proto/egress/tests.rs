//! A tunnel needs a path and an egress, and an address is watched exactly while a path leads to it.

use std::net::SocketAddrV4;

use super::*;

fn name(n: u8) -> PeerName {
    PeerName::from_bytes([0, 0, 0, 0, 0, n])
}

fn addr(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, n)
}

fn path(at: u8, via: u8) -> PathTo {
    let remote = SocketAddrV4::new(addr(at), 6784);
    PathTo { remote, short_id: 1, via: name(via), translated: false, path_mtu: 0 }
}

fn egress(to: u8, mtu: u32) -> Egress {
    Egress { ifindex: 2, next_hop: addr(to), source: addr(1), mtu }
}

/// Addresses told since the last call: with + to watch, with - to watch no more.
fn asked(egresses: &mut Egresses) -> Vec<String> {
    let outputs = std::iter::from_fn(|| egresses.poll_output());
    let text = outputs.map(|output| match output {
        Output::Watch(addr) => format!("+{}", addr.octets()[3]),
        Output::Unwatch(addr) => format!("-{}", addr.octets()[3]),
        other => panic!("{other:?}"),
    });
    text.collect()
}

#[test]
fn tunnel_is_complete_once_the_egress_is_known() {
    let mut all = Egresses::default();
    all.set_path(name(2), path(2, 2));
    assert_eq!((asked(&mut all), all.tunnel(name(2)), all.is_complete()), (vec!["+2".to_owned()], None, false));
    assert_eq!(all.answered(addr(2), Some(egress(2, 1500))), [name(2)]);
    let tunnel = all.tunnel(name(2)).unwrap();
    assert_eq!((tunnel.kind, tunnel.path_mtu, tunnel.egress), (PathKind::Direct, 1500, egress(2, 1500)));
    assert!(all.is_complete());
    assert_eq!(all.answered(addr(2), Some(egress(2, 1500))), [], "nothing new");
    assert_eq!(all.answered(addr(2), Some(egress(2, 1400))), [name(2)]);
    assert_eq!(all.tunnel(name(2)).unwrap().path_mtu, 1400);
    // Without a route there is no tunnel to write, and so the one in the kernel stays.
    assert_eq!(all.answered(addr(2), None), [name(2)]);
    assert_eq!(all.tunnel(name(2)), None);
    assert_eq!(all.unreachable().collect::<Vec<_>>(), [(name(2), addr(2))]);
    assert_eq!(all.answered(addr(9), None), [], "nobody is sent to there");
}

#[test]
fn path_size_is_the_smaller_of_measured_and_route() {
    let mut all = Egresses::default();
    all.answered(addr(2), Some(egress(2, 1500)));
    for (measured, route, expected) in [(0, 1500, 1500), (1400, 1500, 1400), (1500, 1280, 1280)] {
        all.set_path(name(2), PathTo { path_mtu: measured, ..path(2, 2) });
        all.answered(addr(2), Some(egress(2, route)));
        assert_eq!(all.tunnel(name(2)).unwrap().path_mtu, expected);
    }
}

#[test]
fn kind_tells_relayed_and_fixed() {
    let mut all = Egresses::default();
    let kinds = [(2, false, PathKind::Direct), (2, true, PathKind::Fixed)];
    let relayed = [false, true].map(|fixed| (3, fixed, PathKind::Relayed));
    for (via, translated, kind) in kinds.into_iter().chain(relayed) {
        all.set_path(name(2), PathTo { translated, ..path(3, via) });
        all.answered(addr(3), Some(egress(3, 1500)));
        let tunnel = all.tunnel(name(2)).unwrap();
        assert_eq!((tunnel.kind, tunnel.fixed), (kind, translated));
    }
}

#[test]
fn address_is_watched_while_a_path_leads_there() {
    let mut all = Egresses::default();
    all.set_path(name(2), path(3, 3));
    all.set_path(name(3), path(3, 3));
    assert_eq!(asked(&mut all), ["+3"]);
    all.answered(addr(3), Some(egress(3, 1500)));
    all.set_path(name(2), path(2, 2));
    assert_eq!(asked(&mut all), ["+2"]);
    assert_eq!(all.mtus(), Some((1500, 1500)));
    assert!(!all.is_complete());
    all.answered(addr(2), Some(egress(2, 9000)));
    assert_eq!(all.mtus(), Some((1500, 9000)));
    all.remove(name(3));
    assert_eq!((asked(&mut all), all.mtus()), (vec!["-3".to_owned()], Some((9000, 9000))));
    // Left and taken again before the shell was told: it is asked anew.
    all.set_path(name(2), path(4, 4));
    all.set_path(name(2), path(2, 2));
    assert_eq!(asked(&mut all), ["+4", "-2", "+2", "-4"]);
    assert_eq!((all.mtus(), all.is_complete()), (None, false));
    all.remove(name(2));
    assert_eq!((asked(&mut all), all.is_complete()), (vec!["-2".to_owned()], true));
}
