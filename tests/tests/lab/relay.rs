//! Relaying in the kernel: hosts whose tables are written by hand ([`weave_tests::lab::tables`]). And where a controller
//! puts XDP.

use std::{collections::BTreeMap, net::Ipv4Addr};

use weave_common::map::PROG_XDP;
use weave_ctl::{
    proto::io::{Activity, MapOp, RouteTo},
    shell::datapath::{Datapath, Look, XdpDevice, XdpMode, XdpWanted},
};
use weave_tests::lab::{
    Host, Lab, Plan, SETTLED,
    cmd::run,
    eventually,
    host::ping,
    tables::{DATA_PORT, Network, config, container, device_index, ethtool, inside, peer, range},
    traffic::{UdpFlow, within},
    underlay, underlay_on,
};

/// A packet of this size crosses a device of 1500 bytes only as a super-packet.
const SUPER: u64 = 4000;
/// Hops of a packet that nobody stops.
const HOPS: u64 = 64;

#[test]
#[ignore = "needs root"]
fn tcp_crosses_a_relay_in_super_packets_and_in_frames() {
    let mut network = Network::chain("lrly-tcp");
    assert!(ping(&network.name(1), container(3), 3), "no answer through host 2");
    let size = network.tcp_both_ways("veth, super-packets");
    assert!(size > SUPER, "super-packets were cut before the relay: {size} bytes each");

    // Frames of MTU size, made by the hosts, merged by each receiver.
    network.like_cards(&["eth0"]);
    let size = network.tcp_both_ways("frames, merged by the relay");
    assert!(size > SUPER, "the relay did not merge: {size} bytes each");

    // The same, merged by nobody.
    for host in network.lab.hosts() {
        ethtool(host.netns(), "eth0", &["gro", "off"]);
    }
    let size = network.tcp_both_ways("frames, one by one");
    assert!(size < SUPER, "{size} bytes each");

    let activity: Vec<Vec<Activity>> =
        network.datapaths.iter_mut().map(|datapath| datapath.activity(Look::All).expect("read")).collect();
    // Also at the relay, where data is heard of its origin.
    let both = |n: usize| Activity { peer: peer(n), sent: true, big: true, heard: true, elsewhere: false };
    assert_eq!(activity, [vec![both(3)], vec![both(1), both(3)], vec![both(1)]], "tunnels that carried packets");
    for at in 1..=3 {
        assert_eq!(network.drops(at, "kernel") + network.drops(at, "too-big"), 0);
    }
}

#[test]
#[ignore = "needs root"]
fn data_crosses_from_data_port_to_data_port() {
    let mut network = Network::chain("lrly-port");
    for (at, to, via) in [(1, 2, 2), (1, 3, 2), (2, 1, 1), (2, 3, 3), (3, 1, 2)] {
        network.fixed_tunnel(at, to, via);
    }
    let size = network.tcp_both_ways("from the data port");
    assert!(size > SUPER, "{size} bytes each");
    assert!(ping(&network.name(1), container(2), 1), "no answer of host 2");
    for at in [1, 3] {
        assert!(network.counter(at, "encap-relayed").0 > 0);
        assert_eq!(network.counter(at, "encap").0, 0);
    }
    assert!(network.counter(1, "encap-fixed").0 > 0);
}

#[test]
#[ignore = "needs root"]
fn a_packet_in_a_loop_ends_after_its_hops() {
    const PACKETS: u64 = 20;
    let mut network = Network::new("lrly-loop", 3);
    // Nobody has the range of a fourth; each holds the next for its way.
    for at in 1..=3 {
        network.apply(at, &MapOp::PutRoute(range(4), RouteTo::Peer(peer(4))));
        network.tunnel(at, 4, at % 3 + 1, DATA_PORT);
    }
    let from = network.name(1);
    let socket = within(&from, || std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))).expect("a socket");
    let ended = |network: &Network| (1..=3).map(|at| network.drops(at, "ttl-exhausted")).sum::<u64>();
    for sent in 1..=PACKETS {
        socket.send_to(b"round and round", (container(4), 9)).expect("sent");
        assert!(eventually(SETTLED, || ended(&network) == sent), "{} of {sent} ended", ended(&network));
    }
    let relayed: u64 = (1..=3).map(|at| network.counter(at, "relay").0).sum();
    assert_eq!(relayed, PACKETS * (HOPS - 1));

    // Two that hold each other for the way give up at once.
    network.tunnel(1, 4, 2, DATA_PORT);
    network.tunnel(2, 4, 1, DATA_PORT);
    socket.send_to(b"there and back", (container(4), 9)).expect("sent");
    assert!(eventually(SETTLED, || network.drops(2, "relay-back") == 1));
}

#[test]
#[ignore = "needs root"]
fn a_change_of_way_under_traffic_loses_nothing() {
    let mut network = Network::chain("lrly-way");
    let flow = UdpFlow::start(&network.name(1), &network.name(3), container(3), 500, 200).expect("a flow");
    for round in 1..=10_u64 {
        let (via, port) = if round % 2 == 0 { (2, DATA_PORT) } else { (3, DATA_PORT) };
        network.tunnel(1, 3, via, port);
        let seen = flow.arrived();
        assert!(eventually(SETTLED, || flow.arrived() > seen + 20), "nothing arrives by host {via}");
    }
    let flow = flow.stop().expect("a count");
    assert!(flow.is_whole(), "{flow:?}");
    assert!(network.counter(2, "relay").0 > 50);
}

#[test]
#[ignore = "needs root"]
fn xdp_that_may_not_relay_leaves_it_to_the_stack() {
    const PINGS: u32 = 2;
    let mut network = Network::chain("lrly-pass");
    // What is nobody's ends there. Before any TCP: the last packets of a connection that ends would be counted too.
    network.apply(2, &MapOp::DelSender(underlay(1)));
    for (mode, seen) in XdpMode::ALL.into_iter().zip(1..) {
        network.xdp_on_all(mode);
        assert!(!ping(&network.name(1), container(3), PINGS));
        assert_eq!(network.drops(2, "unknown-sender"), seen * u64::from(PINGS), "past {} XDP", mode.as_str());
    }
    network.apply(2, &MapOp::PutSender(underlay(1), peer(1)));
    for mode in XdpMode::ALL {
        network.xdp_on_all(mode);
        network.tcp_both_ways(&format!("past {} XDP", mode.as_str()));
    }
}

#[test]
#[ignore = "needs root"]
fn xdp_relays_out_of_the_same_device() {
    let mut network = Network::chain("lrly-tx");
    network.like_cards(&["eth0"]);
    network.xdp(2, "eth0", XdpMode::Native, true);
    let _peer = network.wake_veth(2);
    network.xdp_alone(&["eth0"], &[underlay(1), underlay(3)]);
    assert!(eventually(SETTLED, || ping(&network.name(1), container(3), 1)), "no answer through host 2");
    let size = network.tcp_both_ways("XDP, the same device");
    assert!(size < SUPER, "{size} bytes each");
    let both = |n: usize| Activity { peer: peer(n), sent: true, big: true, heard: true, elsewhere: false };
    assert_eq!(network.datapaths[1].activity(Look::All).expect("read"), [both(1), both(3)]);
}

#[test]
#[ignore = "needs root"]
fn xdp_relays_out_of_another_device() {
    let mut network = Network::chain("lrly-red");
    network.lab.add_underlay(&[1, 2, 3], 1500).expect("another underlay");
    for at in 1..=3 {
        let datapath = &mut network.datapaths[at - 1];
        inside(network.lab.host(at), || {
            let locals = [(underlay(at), device_index("eth0")), (underlay_on(1, at), device_index("eth1"))];
            datapath.set_locals(&BTreeMap::from(locals)).expect("written");
            datapath.programs().attach_underlay(device_index("eth1")).expect("attached");
        });
    }
    network.second_way(2, 3, 3);
    network.second_way(3, 1, 2);
    network.like_cards(&["eth0", "eth1"]);
    assert!(ping(&network.name(1), container(3), 3), "no answer through host 2");
    network.xdp(2, "eth0", XdpMode::Native, true);
    network.xdp(2, "eth1", XdpMode::Native, true);
    network.xdp_alone(&["eth0", "eth1"], &[underlay(1), underlay_on(1, 3)]);
    assert!(eventually(SETTLED, || ping(&network.name(1), container(3), 1)), "no answer through host 2");
    let size = network.tcp_both_ways("XDP, another device");
    assert!(size < SUPER, "{size} bytes each");
}

/// Where `report` says that XDP is, and what the device itself shows.
fn xdp_of(host: &Host) -> (Vec<String>, Option<&'static str>) {
    let report = host.json(&["report"]).expect("report");
    let programs = report["status"]["dataplane"]["programs"].as_array().expect("programs").clone();
    let found = programs.iter().find(|program| program["name"] == PROG_XDP).expect("the program is loaded");
    let on = found["attached_to"].as_array().expect("devices").iter();
    (on.map(|device| device.as_str().expect("a name").to_owned()).collect(), shown_xdp(host))
}

fn shown_xdp(host: &Host) -> Option<&'static str> {
    let shown = run(&["ip", "-n", host.netns(), "-d", "link", "show", "dev", "eth0"]).expect("ip");
    let mode = if shown.contains(" xdpgeneric ") { "generic" } else { "native" };
    shown.contains("prog/xdp").then_some(mode)
}

#[test]
#[ignore = "needs root"]
fn a_launch_says_where_xdp_is() {
    let lab = Lab::new(Plan::of("lrly-ctl", 1).containers(0)).expect("a lab");
    let host = lab.host(1);
    let none: (Vec<String>, _) = (Vec::new(), None);
    let only = |mode: &'static str| (vec![format!("eth0 ({mode})")], Some(mode));
    lab.launch(1, &[]).expect("launch");
    assert_eq!(xdp_of(host), none, "auto leaves a veth alone");
    for (mode, expected) in
        [("native", only("native")), ("generic", only("generic")), ("native", only("native")), ("auto", none.clone())]
    {
        host.weave(&["stop"]).expect("stop");
        host.weave(&["launch", "--xdp", mode]).expect("launch");
        assert_eq!(xdp_of(host), expected, "--xdp {mode}");
    }
    host.weave(&["stop"]).expect("stop");
    host.weave(&["launch", "--xdp", "native"]).expect("launch");
    host.kill().expect("killed");
    assert_eq!(shown_xdp(host), Some("native"), "it stays without its controller");
    host.weave(&["launch", "--xdp", "off"]).expect("launch");
    assert_eq!(xdp_of(host), none, "--xdp off");

    host.weave(&["stop"]).expect("stop");
    host.weave(&["launch", "--xdp", "generic"]).expect("launch");
    host.weave(&["stop", "--teardown"]).expect("stop");
    assert!(eventually(SETTLED, || shown_xdp(host).is_none()), "still there after a teardown");
}

#[test]
#[ignore = "needs root"]
fn a_launch_that_insists_on_xdp_is_refused_where_there_is_another() {
    let lab = Lab::new(Plan::of("lrly-busy", 1).containers(0)).expect("a lab");
    let (host, dir) = (lab.host(1), lab.host(1).second().bpf_dir());
    let wanted = Some(XdpWanted { mode: XdpMode::Native, mac: [2; 6], relays: false });
    inside(host, || {
        let (other, _) = Datapath::open(&dir, config(1)).expect("opens");
        let devices = [XdpDevice { ifindex: device_index("eth0"), wanted }];
        assert!(other.programs().set_xdp(&devices).is_empty());
    });
    for mode in ["native", "generic"] {
        let said = host.refused(&["launch", "--name", "::1", "--xdp", mode], 1).expect("a refusal");
        let start = format!("could not attach {PROG_XDP} to eth0 in {mode} mode: ");
        assert!(said.contains(&start) && said.ends_with("launch with --xdp auto or --xdp off"), "{said}");
        assert_eq!(shown_xdp(host), Some("native"), "the other program is untouched");
        assert!(!host.bpf_dir().exists(), "something was left behind");
    }
    host.weave(&["launch", "--name", "::1", "--xdp", "auto"]).expect("launch");
    Datapath::teardown(&dir).expect("torn down");
}
