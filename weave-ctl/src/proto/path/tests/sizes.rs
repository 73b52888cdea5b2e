//! Sizes of paths: confirmed, fallen back, published.

use super::{fixture::Traffic, *};

fn size(net: &Net) -> u32 {
    net.paths.active(PEER).expect("a path").path_mtu
}

#[test]
fn narrow_path_is_confirmed_within_3_s_of_the_first_packet() {
    let mut net = Net::new();
    net.limits.insert(addr(PEER), 1400);
    net.busy(PEER);
    net.run(ms(3000));
    assert_eq!(size(&net), 1400);
}

#[test]
fn path_that_narrows_under_large_packets_falls_back_within_2_s() {
    let mut net = Net::new();
    net.busy(PEER);
    net.traffic.insert(PEER, Traffic { out: true, back: true, big: true });
    net.run(ms(5000));
    assert_eq!(size(&net), 1500);
    net.limits.insert(addr(PEER), 1400);
    net.run(ms(2000));
    assert!(size(&net) <= 1400, "{}", size(&net));
    net.run(ms(3000));
    assert_eq!(size(&net), 1400);
}

#[test]
fn path_that_widens_is_found() {
    let mut net = Net::new();
    net.limits.insert(addr(PEER), 1400);
    net.busy(PEER);
    net.run(ms(10_000));
    net.limits.clear();
    net.run(ms(70_000));
    assert_eq!(size(&net), 1500);
}

#[test]
fn device_of_another_peer_does_not_matter() {
    let mut net = Net::new();
    net.busy(PEER);
    net.run(ms(2000));
    net.route(addr(RELAY), 1280);
    net.join_relay(RELAY);
    net.route(addr(RELAY), 1280);
    net.run(ms(2000));
    assert_eq!(size(&net), 1500);
    assert_eq!(net.device_mtu, Some(1280), "containers may send to that peer, too");
}

#[test]
fn smaller_mtu_of_the_device_is_followed_at_once() {
    let mut net = Net::new();
    net.busy(PEER);
    net.run(ms(5000));
    net.route(addr(PEER), 1300);
    assert_eq!(size(&net), 1300);
    assert_eq!(net.device_mtu, Some(1300));
}
