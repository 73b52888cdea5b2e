//! Paths over a made-up underlay: what is selected, how fast, and at what cost.

mod failover;
mod fixture;
mod forged;
mod nat;
mod sizes;

use std::time::Duration;

use fixture::{Net, PEER, RELAY, addr, name};

use std::collections::BTreeSet;

use super::size::SMALLEST;
use super::*;
use crate::proto::io::PathKind;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn session_peer_is_probed_at_once_and_direct() {
    let mut net = Net::new();
    net.advertise(PEER);
    net.session(PEER);
    net.run(ms(100));
    let path = net.paths.active(PEER).expect("a path");
    assert_eq!((path.remote, path.via, path.fixed), (addr(PEER), PEER, false));
    assert!(net.paths.direct(PEER).is_some());
    assert_eq!(net.paths.direct(PEER).expect("a direct path").size, Some(1500));
}

#[test]
fn idle_peer_without_session_starts_by_relay() {
    let mut net = Net::new();
    net.join_relay(RELAY);
    net.dead(addr(PEER));
    net.paths.set_relays(PEER, (&[RELAY], &[]), net.now);
    net.advertise(PEER);
    assert_eq!(net.paths.active(PEER).expect("a path").via, RELAY);
}

#[test]
fn idle_peer_whose_relay_is_known_later_goes_by_relay() {
    let mut net = Net::new();
    net.dead(addr(PEER));
    net.advertise(PEER);
    assert_eq!(net.paths.active(PEER).expect("a path").via, PEER, "nothing else is known");
    net.join_relay(RELAY);
    net.paths.set_relays(PEER, (&[RELAY], &[]), net.now);
    assert_eq!(net.paths.active(PEER).expect("a path").via, RELAY);
}

#[test]
fn idle_peer_with_an_open_data_port_becomes_direct() {
    let mut net = Net::new();
    net.join_relay(RELAY);
    net.paths.set_relays(PEER, (&[RELAY], &[]), net.now);
    net.advertise(PEER);
    net.run(ms(3000));
    assert_eq!(net.paths.active(PEER).expect("a path").via, PEER);
}

#[test]
fn neighbour_without_a_session_is_told_when_it_answers() {
    let mut net = Net::new();
    net.advertise(PEER);
    net.run(ms(3000));
    assert_eq!(net.neighbours, BTreeSet::from([PEER]), "it may relay");
    assert_eq!(net.paths.neighbours().collect::<Vec<_>>(), [PEER]);
    net.dead(addr(PEER));
    net.run(ms(120_000));
    assert_eq!((net.neighbours.len(), net.paths.neighbours().count()), (0, 0));
}

#[test]
fn last_known_path_stays_without_any_answer() {
    let mut net = Net::new();
    net.busy(PEER);
    net.run(ms(2000));
    net.dead(addr(PEER));
    net.run(ms(600_000));
    assert_eq!(net.paths.active(PEER).expect("a path").remote, addr(PEER));
    net.paths.leave(PEER, net.now);
    net.run(ms(60_000));
    assert_eq!(net.paths.active(PEER).expect("a path").remote, addr(PEER), "also when the peer left the topology");
}

#[test]
fn peer_without_a_route_gets_no_path_until_there_is_one() {
    let mut net = Net::new();
    net.no_route(addr(PEER));
    net.advertise(PEER);
    net.run(ms(5000));
    assert_eq!(net.paths.active(PEER), None);
    assert_eq!(net.sent_to(PEER), 0, "nothing is sent where no route leads");
    net.route(addr(PEER), 1400);
    net.run(ms(5000));
    assert_eq!(net.paths.active(PEER).expect("a path").egress.mtu, 1400);
}

#[test]
fn inherited_path_is_kept_until_probes_select_another() {
    let egress = fixture::egress(addr(PEER), 1500);
    let kind = PathKind::Direct;
    let path = TunnelTo { remote: addr(PEER), via: PEER, kind, fixed: false, egress, path_mtu: 1500 };
    let mut net = Net::inheriting(PEER, path);
    net.join_relay(RELAY);
    assert_eq!(net.paths.active(PEER), Some(path));
    net.dead(addr(PEER));
    net.paths.set_relays(PEER, (&[RELAY], &[]), net.now);
    net.busy(PEER);
    net.run(ms(2500));
    assert_eq!(net.paths.active(PEER).expect("a path").via, RELAY);
}

#[test]
fn senders_and_watched_addresses_follow_the_record() {
    let mut net = Net::new();
    net.advertise(PEER);
    net.run(ms(10));
    assert_eq!(net.senders[&PEER], BTreeSet::from([*addr(PEER).ip()]));
    assert!(net.watched.contains(addr(PEER).ip()));
    let moved = SocketAddrV4::new(Ipv4Addr::new(10, 9, 9, 9), 6784);
    net.paths.set_peer(PEER, vec![moved], 0, net.now);
    net.run(ms(10));
    assert!(net.senders[&PEER].contains(moved.ip()));
    net.paths.forget(PEER);
    net.run(ms(10));
    assert!(net.watched.is_empty(), "{:?}", net.watched);
}

#[test]
fn idle_peers_share_a_small_budget() {
    let mut net = Net::new();
    for n in 2..502 {
        net.advertise(name(n));
    }
    net.run(ms(120_000));
    let before = net.total;
    net.run(ms(100_000));
    let rate = (net.total - before) as f64 / 100.0;
    assert!(rate < 3.0, "{rate} probes a second");
}

#[test]
fn busy_peers_are_probed_as_often_as_planned() {
    let mut net = Net::new();
    net.join_relay(RELAY);
    for n in 100..300 {
        net.paths.set_relays(name(n), (&[RELAY], &[]), net.now);
        net.busy(name(n));
    }
    net.run(ms(30_000));
    let before = net.small;
    net.run(ms(60_000));
    let rate = (net.small - before) as f64 / 60.0;
    // 200 peers: one probe in 3 s of the active path, one in 15 s of the standby path.
    assert!((60.0..90.0).contains(&rate), "{rate} probes a second");
}

#[test]
fn asked_peer_is_probed_by_every_candidate() {
    let mut net = Net::new();
    net.join_relay(RELAY);
    net.dead(addr(PEER));
    net.paths.set_relays(PEER, (&[RELAY], &[]), net.now);
    net.advertise(PEER);
    net.run(ms(60_000));
    assert_eq!(net.paths.answered(name(99), net.now), None);
    let before = net.sent_to(PEER);
    net.paths.ask(PEER, net.now);
    net.run(ms(1000));
    assert!(net.sent_to(PEER) > before);
    let answered = net.paths.answered(PEER, net.now).expect("an answer through the relay");
    assert!(answered.contains("through 00:00:00:00:00:03"), "{answered}");
}

#[test]
fn direct_path_without_a_route_is_no_neighbour() {
    let mut net = Net::new();
    net.join_relay(PEER);
    assert!(net.paths.is_neighbour(PEER) && net.neighbours.contains(&PEER));
    net.paths.set_egress(*addr(PEER).ip(), None, net.now);
    net.run(ms(100));
    assert!(!net.paths.is_neighbour(PEER) && !net.neighbours.contains(&PEER), "others would relay into nowhere");
}
