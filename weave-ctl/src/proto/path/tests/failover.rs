//! How long packets are lost when a path breaks, and what brings it back.

use super::{
    fixture::{OTHER_RELAY, Traffic},
    *,
};

/// A busy peer with a direct path, and a relay next in line.
fn scene() -> Net {
    let mut net = Net::new();
    net.join_relay(RELAY);
    net.paths.set_relays(PEER, (&[RELAY], &[]), net.now);
    net.busy(PEER);
    net.session(PEER);
    net.run(ms(20_000));
    assert_eq!(net.paths.active(PEER).expect("a path").via, PEER);
    net
}

/// Time until packets pass again.
fn outage(net: &mut Net) -> Duration {
    let start = net.now;
    while !net.passes(PEER) {
        net.run(ms(10));
        assert!(net.now.since(start) < ms(60_000), "packets never pass again");
    }
    net.now.since(start)
}

#[test]
fn cut_both_ways_fails_over_within_a_second() {
    for offset in 0..30 {
        let mut net = scene();
        net.run(ms(offset * 100));
        net.dead(addr(PEER));
        let outage = outage(&mut net);
        assert!(outage <= ms(1100), "{outage:?} at offset {offset}");
        assert_eq!(net.paths.active(PEER).expect("a path").via, RELAY);
    }
}

#[test]
fn standby_path_leads_to_another_address_than_the_active_one() {
    let mut net = Net::new();
    net.join_relay(RELAY);
    net.paths.set_relays(PEER, (&[RELAY], &[]), net.now);
    // Its data port is open a moment late: the fixed path to the same address is a candidate by then, and answers as well.
    net.dead(addr(PEER));
    net.busy(PEER);
    net.session(PEER);
    net.run(ms(900));
    net.revive(addr(PEER));
    net.run(ms(20_000));
    let status = net.paths.status(PEER, net.now);
    assert!(status.candidates.iter().filter(|line| line.via.is_none() && line.answers).count() > 1);
    assert_eq!(status.standby.and_then(|line| line.via), Some(RELAY));
    net.dead(addr(PEER));
    assert!(outage(&mut net) <= ms(1100));
}

#[test]
fn a_peer_that_turns_to_another_path_makes_ours_suspect() {
    let mut net = scene();
    net.traffic.insert(PEER, Traffic { out: false, back: true, big: false });
    net.dead(addr(PEER));
    // Its packets come by the relay now; nothing is sent to it before that.
    net.elsewhere.insert(PEER);
    let outage = outage(&mut net);
    assert!(outage <= ms(1000), "{outage:?}");
}

#[test]
fn cut_one_way_under_reverse_traffic_fails_over_within_4_s() {
    for offset in 0..30 {
        let mut net = scene();
        net.run(ms(offset * 100));
        // Packets of the peer go on arriving; those to it do not, nor do answers of it.
        net.traffic.insert(PEER, Traffic { out: true, back: true, big: false });
        net.one_way(PEER);
        let outage = outage(&mut net);
        assert!(outage <= ms(4000), "{outage:?} at offset {offset}");
    }
}

#[test]
fn direct_path_returns_within_5_s_of_the_end_of_a_cut() {
    for cut in [10_000, 600_000] {
        let mut net = scene();
        net.dead(addr(PEER));
        net.run(ms(cut));
        net.revive(addr(PEER));
        let start = net.now;
        while net.paths.active(PEER).expect("a path").via != PEER {
            net.run(ms(10));
            assert!(net.passes(PEER), "make before break");
            assert!(net.now.since(start) < ms(5000), "after a cut of {cut} ms");
        }
    }
}

#[test]
fn relay_that_dies_is_left_for_another_within_a_second() {
    let mut net = Net::new();
    net.join_relay(RELAY);
    net.join_relay(OTHER_RELAY);
    net.dead(addr(PEER));
    net.paths.set_relays(PEER, (&[RELAY, OTHER_RELAY], &[]), net.now);
    net.busy(PEER);
    net.run(ms(30_000));
    let relay = net.paths.active(PEER).expect("a path").via;
    net.dead(addr(relay));
    let outage = outage(&mut net);
    assert!(outage <= ms(1100), "{outage:?}");
}

#[test]
fn spare_relay_is_left_for_another_that_answers() {
    let mut net = Net::new();
    net.join_relay(RELAY);
    net.join_relay(OTHER_RELAY);
    net.busy(PEER);
    net.dead(addr(PEER));
    net.paths.set_relays(PEER, (&[RELAY], &[]), net.now);
    net.run(Duration::from_secs(3));
    assert_eq!(net.paths.active(PEER).expect("a path").via, RELAY);
    // Its controller ended.
    net.paths.set_relays(PEER, (&[OTHER_RELAY], &[RELAY]), net.now);
    net.run(Duration::from_secs(3));
    assert_eq!(net.paths.active(PEER).expect("a path").via, OTHER_RELAY);
    assert!(net.passes(PEER));
    // A relay that does not work is not worth one that does, wherever its controller is.
    net.break_relay(OTHER_RELAY, PEER);
    net.run(Duration::from_secs(3));
    assert_eq!(net.paths.active(PEER).expect("a path").via, RELAY);
}

#[test]
fn relay_that_does_not_pass_packets_on_is_left() {
    let mut net = Net::new();
    net.join_relay(RELAY);
    net.join_relay(OTHER_RELAY);
    net.dead(addr(PEER));
    net.paths.set_relays(PEER, (&[RELAY, OTHER_RELAY], &[]), net.now);
    net.busy(PEER);
    net.run(ms(30_000));
    let relay = net.paths.active(PEER).expect("a path").via;
    net.break_relay(relay, PEER);
    assert!(outage(&mut net) <= ms(4000));
}

#[test]
fn one_way_traffic_by_nature_is_no_reason_to_probe_fast() {
    let mut net = scene();
    net.traffic.insert(PEER, Traffic { out: true, back: false, big: false });
    net.run(ms(5000));
    let before = net.sent_to(PEER);
    net.run(ms(30_000));
    let rate = (net.sent_to(PEER) - before) as f64 / 30.0;
    assert!(rate < 2.0, "{rate} probes a second");
    assert_eq!(net.paths.active(PEER).expect("a path").via, PEER);
}

#[test]
fn lossy_path_is_not_left() {
    let mut net = scene();
    net.loss = 20;
    net.run(ms(600_000));
    let left = net.selected.iter().filter(|(_, peer, path)| *peer == PEER && path.via != PEER).count();
    assert!(left <= 6, "left {left} times in ten minutes with one packet in five lost");
}

#[test]
fn lost_answers_on_this_host_move_no_path() {
    let mut net = scene();
    let before = net.selected.len();
    net.withhold = true;
    for _ in 0..20 {
        net.run(ms(300));
        net.paths.replies_lost(net.now);
    }
    assert_eq!(net.selected.len(), before);
}

#[test]
fn address_of_a_relay_that_moves_is_followed() {
    let mut net = Net::new();
    net.join_relay(RELAY);
    net.dead(addr(PEER));
    net.paths.set_relays(PEER, (&[RELAY], &[]), net.now);
    net.busy(PEER);
    net.run(ms(5000));
    let moved = SocketAddrV4::new(Ipv4Addr::new(192, 168, 7, 7), 6784);
    net.dead(addr(RELAY));
    net.paths.set_peer(RELAY, vec![moved], 0, net.now);
    net.paths.set_session(RELAY, Some(moved), net.now);
    net.run(ms(30_000));
    assert_eq!(net.paths.active(PEER).expect("a path").remote, moved);
}

#[test]
fn a_dead_path_without_traffic_is_left_for_the_standby() {
    let mut net = scene();
    net.traffic.clear();
    net.run(ms(120_000));
    net.dead(addr(PEER));
    net.run(ms(30_000));
    assert!(net.passes(PEER), "the relay answers, and is asked");
}

#[test]
fn dead_relay_of_a_quiet_peer_is_not_left_for_a_dead_path() {
    let mut net = Net::new();
    net.join_relay(RELAY);
    net.dead(addr(PEER));
    net.paths.set_relays(PEER, (&[RELAY], &[]), net.now);
    net.advertise(PEER);
    net.run(ms(60_000));
    net.dead(addr(RELAY));
    net.run(ms(30_000));
    assert_eq!(net.paths.active(PEER).expect("a path").via, RELAY, "nothing else is known to work");
    net.paths.set_relays(PEER, (&[], &[]), net.now);
    net.run(ms(30_000));
    net.revive(addr(RELAY));
    net.run(ms(30_000));
    net.paths.set_relays(PEER, (&[RELAY], &[]), net.now);
    net.run(ms(2000));
    assert!(net.passes(PEER));
    assert!(net.paths.answered(PEER, net.now).is_some());
}

#[test]
fn standby_of_a_quiet_peer_is_asked_once_its_path_is_dead() {
    let mut net = scene();
    net.traffic.clear();
    net.paths.set_session(PEER, None, net.now);
    net.run(ms(60_000));
    net.dead(addr(PEER));
    net.run(ms(60_000));
    assert!(net.passes(PEER));
    assert_eq!(net.paths.active(PEER).expect("a path").via, RELAY);
}

#[test]
fn path_without_a_route_is_left_for_a_relay_not_tried_before() {
    let mut net = Net::new();
    net.join_relay(RELAY);
    net.advertise(PEER);
    net.session(PEER);
    net.run(ms(5000));
    net.paths.set_session(PEER, None, net.now);
    net.paths.set_relays(PEER, (&[RELAY], &[]), net.now);
    net.run(ms(5000));
    assert_eq!(net.paths.active(PEER).expect("a path").via, PEER);
    net.paths.set_egress(*addr(PEER).ip(), None, net.now);
    net.run(ms(1000));
    assert_eq!(net.paths.active(PEER).expect("a path").via, RELAY);
}

#[test]
fn relayed_path_of_a_former_run_stays_until_another_answers() {
    let to = addr(RELAY);
    let (kind, egress) = (PathKind::Relayed, fixture::egress(to, 1500));
    let path = TunnelTo { remote: to, via: RELAY, kind, fixed: false, egress, path_mtu: 1500 };
    let mut net = Net::inheriting(PEER, path);
    net.dead(addr(PEER));
    net.busy(PEER);
    // The session stands before a direct path to the relay is measured.
    net.session(PEER);
    net.run(ms(2000));
    assert_eq!(net.paths.active(PEER), Some(path));
    net.join_relay(RELAY);
    net.paths.set_relays(PEER, (&[RELAY], &[]), net.now);
    net.run(ms(2000));
    assert!(net.passes(PEER));
    assert_eq!(net.selected.iter().filter(|(_, peer, path)| *peer == PEER && path.via != RELAY).count(), 0);
    // What answers directly is better.
    net.revive(addr(PEER));
    net.run(ms(5000));
    assert_eq!(net.paths.active(PEER).expect("a path").via, PEER);
}

#[test]
fn dead_relayed_path_of_a_peer_that_left_becomes_direct() {
    let mut net = scene();
    net.paths.set_session(PEER, None, net.now);
    net.dead(addr(PEER));
    net.run(ms(3000));
    assert_eq!(net.paths.active(PEER).expect("a path").via, RELAY);
    // While it answers it stays, whatever controllers know.
    net.paths.leave(PEER, net.now);
    net.run(ms(100_000));
    assert_eq!(net.paths.active(PEER).expect("a path").via, RELAY);
    net.break_relay(RELAY, PEER);
    net.run(ms(30_000));
    assert_eq!(net.paths.active(PEER).expect("a path").via, RELAY, "it may answer again");
    net.run(ms(100_000));
    assert_eq!(net.paths.active(PEER).expect("a path").via, PEER);
}

#[test]
fn dead_relayed_path_is_kept_over_an_address_never_answered() {
    let mut net = Net::new();
    net.join_relay(RELAY);
    net.dead(addr(PEER));
    net.busy(PEER);
    net.paths.set_relays(PEER, (&[RELAY], &[]), net.now);
    net.run(ms(3000));
    net.paths.leave(PEER, net.now);
    net.break_relay(RELAY, PEER);
    net.run(ms(200_000));
    assert_eq!(net.paths.active(PEER).expect("a path").via, RELAY, "its NAT may open again");
}
