//! Scene: UDP super-packets, as QUIC sends them, reach plain sockets: on the same host, directly and through a relay, over
//! an underlay that keeps them whole and over one that cuts them.

use std::net::Ipv4Addr;

use weave_tests::lab::{
    Everyone, Lab, Plan, SETTLED, Traffic,
    superpacket::{BYTES_MAX, SuperPackets},
};

type Container = (String, Ipv4Addr);

/// Bytes of one super-packet. From 2,000 to the most that UDP carries; those above 65,440 exceed a device's 64 KiB with
/// the outer headers, so that the sender's kernel cuts them.
const SIZES: [usize; 7] = [2_000, 2_800, 10_000, 60_000, 65_440, 65_490, BYTES_MAX];
/// Bytes of a datagram that is cut out of one.
const SEGMENTS: [u16; 2] = [1_100, 1_400];

/// Packets dropped on all hosts so far, by reason.
fn drops(lab: &Lab) -> Vec<String> {
    let of = |host: &weave_tests::lab::Host| {
        let status = host.json(&["status"]).expect("status");
        let all = status["dataplane"]["drops"].as_array().expect("drops").clone();
        let some = all.into_iter().filter(|d| d["packets"] != 0);
        some.map(|d| format!("{}: {} {}", host.netns(), d["reason"], d["packets"])).collect::<Vec<_>>()
    };
    lab.hosts().iter().flat_map(of).collect()
}

/// What does not arrive of all sizes, three times each.
fn lost(what: &str, from: &Container, to: &Container) -> Vec<String> {
    let sockets = SuperPackets::between(&from.0, &to.0, to.1).expect("sockets");
    let mut lost = Vec::new();
    for (size, segment) in SEGMENTS.iter().flat_map(|segment| SIZES.map(|size| (size, *segment))) {
        for round in 1..=3 {
            let arrived = sockets.send(size, segment).expect("a super-packet");
            if !arrived.is_all_of(size, segment) {
                lost.push(format!("{what}, round {round}: {size} bytes by {segment}: {arrived:?}"));
                // One of a size is enough to know.
                break;
            }
        }
    }
    lost
}

/// All paths over an underlay of this kind.
fn super_packets_arrive(prefix: &str, plain: bool) {
    let lab = Lab::new(Plan::of(prefix, 3)).expect("a Lab");
    if plain {
        lab.plain_cards().expect("ethtool");
    }
    lab.launch_all().expect("launch");
    lab.wait_established(SETTLED).expect("sessions");
    lab.attach_all().expect("attach");
    let all = lab.addresses().expect("addresses");
    let [one, beside, _, _, three, _] = &all[..] else { panic!("six containers: {all:?}") };
    let mut everyone = Everyone::of(&all).expect("sockets");
    everyone.reach_each_other(SETTLED).expect("everyone");
    lab.wait_direct(SETTLED).expect("direct paths");
    let before = drops(&lab);
    let mut missing = lost("on the same host", one, beside);
    missing.extend(lost("direct", one, three));
    missing.extend(lost("direct, back", three, one));
    assert_eq!(drops(&lab), before, "packets were dropped");
    lab.block(1, 3, Traffic::Data).expect("a fault");
    everyone.reach_each_other(SETTLED).expect("everyone");
    for (here, there) in [(1, 3), (3, 1)] {
        lab.host(here).wait_path(there, SETTLED, |p| p.is_through(2)).expect("a relay");
    }
    let before = (drops(&lab), lab.relayed().expect("counters")[1]);
    missing.extend(lost("relayed", one, three));
    missing.extend(lost("relayed, back", three, one));
    assert!(missing.is_empty(), "{missing:#?}");
    assert_eq!(drops(&lab), before.0, "packets were dropped");
    assert!(lab.relayed().expect("counters")[1] > before.1, "host 2 relays nothing");
}

#[test]
#[ignore = "needs root"]
fn super_packets_arrive_over_an_underlay_that_keeps_them() {
    super_packets_arrive("scuwhole", false);
}

#[test]
#[ignore = "needs root"]
fn super_packets_arrive_over_an_underlay_that_cuts_them() {
    super_packets_arrive("scuplain", true);
}
