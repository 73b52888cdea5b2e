//! Traffic of containers on real controllers and the real kernel: everybody to everybody, sizes, devices, what tools see.

use std::{
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    time::Duration,
};

use serde_json::Value;
use weave_common::vxlan::OVERHEAD;
use weave_tests::lab::{
    Everyone, Host, Lab, Plan, SETTLED,
    cmd::{output, run, text},
    eventually,
    host::{ping, ping_with},
    traffic::{TcpFlow, UdpFlow, send_super_packet, tcp, within},
    underlay_on,
};

/// Bytes of the headers of IPv4 with UDP or ICMP.
const HEADERS: u32 = 28;
/// Datagrams of a flow that shows that a pair can talk.
const ENOUGH: u64 = 20;
/// A frame of this size crosses the underlay only as a super-packet.
const SUPER: u32 = 20_000;

/// Sizes of UDP super-packets: with its outer headers the last exceeds what a device takes at once and is cut before it,
/// all others cross an underlay that keeps super-packets in one piece.
const SUPER_SIZES: [usize; 6] = [2000, 2800, 10_000, 60_000, 65_440, 65535 - HEADERS as usize];
/// Payload of each datagram of a UDP super-packet.
const SEGMENT: u16 = 1400;

type Container = (String, Ipv4Addr);

fn pairs(all: &[Container]) -> Vec<(&Container, &Container)> {
    all.iter().flat_map(|from| all.iter().filter(move |to| *to != from).map(move |to| (from, to))).collect()
}

/// The MTU that the container's own interface has.
fn mtu_of(container: &str) -> u32 {
    let shown = run(&["ip", "-n", container, "-j", "link", "show", "dev", "ethwe"]).expect("the interface");
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    shown[0]["mtu"].as_u64().and_then(|mtu| mtu.try_into().ok()).expect("an MTU")
}

fn all_ping(all: &[Container]) {
    let failed: Vec<_> = pairs(all).into_iter().filter(|(from, to)| !ping(&from.0, to.1, 2)).collect();
    assert!(failed.is_empty(), "no answer: {failed:?}");
}

/// Runs a flow of datagrams of `size` bytes between every pair at once.
fn all_send(all: &[Container], size: u32) {
    let start = |(from, to): (&Container, &Container)| {
        UdpFlow::start(&from.0, &to.0, to.1, 100, size as usize).expect("a flow")
    };
    let flows: Vec<UdpFlow> = pairs(all).into_iter().map(start).collect();
    eventually(SETTLED, || flows.iter().all(|flow| flow.arrived() >= ENOUGH));
    flows.iter().for_each(UdpFlow::end);
    for ((from, to), flow) in pairs(all).into_iter().zip(flows) {
        let flow = flow.stop().expect("a count");
        assert!(flow.is_whole() && flow.sent >= ENOUGH, "{from:?} to {to:?}, {size} bytes: {flow:?}");
    }
}

/// A packet of exactly the MTU passes although nobody may cut it; one byte more is refused where it is sent.
fn exactly_the_mtu(from: &str, to: Ipv4Addr, mtu: u32) {
    let size = (mtu - HEADERS).to_string();
    assert!(ping_with(from, to, &["-c", "2", "-i", "0.05", "-W", "1", "-M", "do", "-s", &size]), "{mtu} bytes to {to}");
    let (net, more, to) = (format!("--net=/run/netns/{from}"), (mtu - HEADERS + 1).to_string(), to.to_string());
    let said = output(&["nsenter", &net, "ping", "-n", "-c", "1", "-W", "0.05", "-M", "do", "-s", &more, &to]);
    let said = text(&said.expect("ping runs"));
    assert!(said.contains(&format!("message too long, mtu={mtu}")), "{said}");
}

fn drops(host: &Host) -> u64 {
    let status = host.json(&["status"]).expect("status");
    let drops = status["dataplane"]["drops"].as_array().expect("a list").clone();
    drops.iter().filter_map(|d| d["packets"].as_u64()).sum()
}

#[test]
#[ignore = "needs root"]
fn six_containers_on_three_hosts_all_talk_to_each_other() {
    let lab = Lab::ready(Plan::of("lt6", 3)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    assert_eq!(all.len(), 6);
    all_ping(&all);
    all_send(&all, 100);
    let mtu = mtu_of(&all[0].0);
    assert_eq!(mtu, 1500 - OVERHEAD);
    all_send(&all, mtu - HEADERS);
    for (from, to) in pairs(&all) {
        tcp(&from.0, &to.0, to.1, 1 << 20).unwrap_or_else(|e| panic!("TCP {from:?} to {to:?}: {e:#}"));
        exactly_the_mtu(&from.0, to.1, mtu);
    }
    let dropped: Vec<u64> = lab.hosts().iter().map(drops).collect();
    assert_eq!(dropped, [0, 0, 0], "packets were dropped though all was in order");
}

#[test]
#[ignore = "needs root"]
fn the_mtu_of_containers_follows_the_underlay() {
    for underlay in [1400, 9000] {
        let lab = Lab::ready(Plan::of("ltmtu", 2).containers(1).mtu(underlay)).expect("a Lab");
        let all = lab.addresses().expect("addresses");
        let mtu = underlay - OVERHEAD;
        assert_eq!([mtu_of(&all[0].0), mtu_of(&all[1].0)], [mtu, mtu]);
        assert_eq!(lab.host(1).connections().expect("status")[0]["mtu"], mtu);
        exactly_the_mtu(&all[0].0, all[1].1, mtu);
        all_send(&all, mtu - HEADERS);
        tcp(&all[0].0, &all[1].0, all[1].1, 1 << 20).expect("TCP");
    }
}

#[test]
#[ignore = "needs root"]
fn peers_are_reached_by_different_devices() {
    let lab = Lab::new(Plan::of("ltdev", 3).containers(1)).expect("a Lab");
    // Host 1 and 2 share both underlays, host 3 has the second alone.
    lab.add_underlay(&[1, 2, 3], 1400).expect("a second underlay");
    lab.unplug(3, 0).expect("no first underlay");
    let first = |k| underlay_on(k, 1).to_string();
    lab.launch(1, &[]).expect("launch");
    lab.launch(2, &[&first(0)]).expect("launch");
    lab.launch(3, &[&first(1)]).expect("launch");
    lab.wait_established(SETTLED).expect("links");
    lab.attach_all().expect("attach");
    let all = lab.addresses().expect("addresses");
    all_ping(&all);
    for (container, _) in &all {
        assert_eq!(mtu_of(container), 1400 - OVERHEAD);
    }
    for (from, to) in pairs(&all) {
        tcp(&from.0, &to.0, to.1, 1 << 20).unwrap_or_else(|e| panic!("TCP {from:?} to {to:?}: {e:#}"));
        exactly_the_mtu(&from.0, to.1, 1400 - OVERHEAD);
    }
    let devices: Vec<Value> =
        lab.host(1).map("weave_tunnels").expect("a map").iter().map(|e| e["value"]["ifindex"].clone()).collect();
    assert_eq!(devices.len(), 2);
    assert_ne!(devices[0], devices[1], "both peers are reached by one device");
}

#[test]
#[ignore = "needs root"]
fn super_packets_stay_whole_on_the_underlay() {
    let lab = Lab::ready(Plan::of("ltgso", 2).containers(1)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let flow = TcpFlow::start(&all[0].0, &all[1].0, all[1].1, Duration::ZERO).expect("a flow");
    for host in lab.hosts() {
        let net = format!("--net=/run/netns/{}", host.netns());
        let filter = format!("udp port 6784 and greater {SUPER}");
        // Ends with success only when that many such frames passed.
        run(&["nsenter", &net, "tcpdump", "-n", "-c", "20", "-i", "eth0", &filter]).expect("super-packets on eth0");
    }
    flow.stop().expect("every byte");
}

/// Sends one super-packet of each size between every pair; what did not arrive at a plain socket.
fn lost_super_packets(all: &[Container]) -> Vec<String> {
    let mut lost = Vec::new();
    for (from, to) in pairs(all) {
        let inbound = within(&to.0, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))).expect("a socket");
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&inbound, 1 << 20).expect("room");
        let port = inbound.local_addr().expect("an address").port();
        for bytes in SUPER_SIZES {
            inbound.set_read_timeout(Some(Duration::from_secs(1))).expect("a limit");
            send_super_packet(&from.0, SocketAddrV4::new(to.1, port), bytes, SEGMENT).expect("sent");
            let (mut arrived, mut buffer) = (0, vec![0; 1 << 16]);
            while arrived < bytes {
                match inbound.recv(&mut buffer) {
                    Ok(length) => arrived += length,
                    Err(error) => {
                        lost.push(format!("{arrived} of {bytes} from {} to {}: {error}", from.0, to.0));
                        break;
                    }
                }
            }
        }
    }
    lost
}

#[test]
#[ignore = "needs root"]
fn udp_super_packets_of_every_size_arrive() {
    // Hosts 1 and 3 do not reach each other: host 2 relays.
    let plan = Plan::of("ltudp", 3).containers(2).chain().wires(&[(1, 2), (2, 3)]);
    let lab = Lab::new(plan).expect("a Lab");
    lab.launch_all().expect("launch");
    lab.attach_all().expect("attach");
    let all = lab.addresses().expect("addresses");
    Everyone::of(&all).expect("sockets").reach_each_other(SETTLED).expect("everyone");
    let before: Vec<u64> = lab.hosts().iter().map(drops).collect();
    assert_eq!(lost_super_packets(&all), [""; 0], "super-packets whole on every host's device");
    // The relay receives them in one piece, and must cut them itself.
    cards(lab.host(2));
    assert_eq!(lost_super_packets(&all), [""; 0], "cut by the relay alone");
    lab.plain_cards().expect("ethtool");
    assert_eq!(lost_super_packets(&all), [""; 0], "cut by every host");
    let after: Vec<u64> = lab.hosts().iter().map(drops).collect();
    assert_eq!(after, before, "packets were dropped though all was in order");
}

/// Makes the device of a host work as a plain card does: frames of MTU size with checksums leave it.
fn cards(host: &Host) {
    let net = format!("--net=/run/netns/{}", host.netns());
    run(&["nsenter", &net, "ethtool", "-K", "eth0", "tx", "off", "tso", "off", "gro", "on"]).expect("ethtool");
}

#[test]
#[ignore = "needs root"]
fn segments_of_mtu_size_on_the_wire_are_delivered_whole() {
    let lab = Lab::ready(Plan::of("ltwire", 2).containers(1)).expect("a Lab");
    lab.plain_cards().expect("ethtool");
    let all = lab.addresses().expect("addresses");
    for (from, to) in pairs(&all) {
        tcp(&from.0, &to.0, to.1, 8 << 20).expect("TCP");
    }
    all_send(&all, 1500 - OVERHEAD - HEADERS);
}

#[test]
#[ignore = "needs root"]
fn bpftool_shows_named_fields_and_programs() {
    let lab = Lab::ready(Plan::of("ltbpf", 2).containers(1)).expect("a Lab");
    let host = lab.host(1);
    let fields = [
        ("weave_endpoints", &["addr"][..], &["ifindex", "mac"][..]),
        ("weave_routes", &["prefix_len", "data"], &["kind", "peer"]),
        (
            "weave_tunnels",
            &["name"],
            &["push", "ifindex", "next_hop", "inner_mtu", "kind", "via", "sent_ns", "big_ns", "heard_ns"],
        ),
        ("weave_senders", &["addr"], &["peer", "echo"]),
        ("weave_locals", &["addr"], &["ifindex"]),
        ("weave_config", &[], &["schema", "vni", "data_port", "socket_ifindex", "me"]),
    ];
    for (map, keys, values) in fields {
        let entries = host.map(map).expect("bpftool");
        assert!(!entries.is_empty(), "{map} is empty");
        for entry in &entries {
            assert!(map == "weave_config" || entry["key"].is_object(), "{map}: the key has no fields: {entry}");
            assert!(entry["value"].is_object(), "{map}: the value has no fields: {entry}");
            let missing: Vec<_> = keys
                .iter()
                .filter(|k| entry["key"].get(**k).is_none())
                .chain(values.iter().filter(|v| entry["value"].get(**v).is_none()))
                .collect();
            assert!(missing.is_empty(), "{map} has no field {missing:?}: {entry}");
        }
    }
    let shown = run(&["bpftool", "prog", "show"]).expect("bpftool");
    for program in ["weave_container", "weave_underlay", "weave_socket", "weave_prober"] {
        assert!(shown.contains(&format!("name {program} ")), "{program} is not in\n{shown}");
    }
}

#[test]
#[ignore = "needs root"]
fn status_shows_peers_and_links() {
    let lab = Lab::ready(Plan::of("ltstat", 3).containers(1)).expect("a Lab");
    for host in lab.hosts() {
        let status = host.json(&["status"]).expect("status");
        let peers: Vec<_> = status["peers"].as_array().expect("peers").iter().map(|p| p["name"].clone()).collect();
        assert_eq!(peers.len(), 3, "{status}");
        assert_eq!(peers[0], status["name"]);
        let links = status["connections"].as_array().expect("links");
        assert_eq!(links.len(), 2);
        for link in links {
            assert_eq!(link["state"], "established");
            assert_eq!(link["mtu"], 1500 - OVERHEAD);
            assert!(link["rtt_us"].as_u64().is_some(), "{link}");
            assert!(link["address"].as_str().is_some_and(|a| a.starts_with("192.168.77.")), "{link}");
        }
        let shown = host.weave(&["status", "connections"]).expect("status");
        assert_eq!(shown.lines().count(), 2, "{shown}");
        assert!(shown.lines().all(|l| l.contains("established") && l.contains("mtu=1450 rtt=")), "{shown}");
        let owners = status["ipam"]["owners"].as_array().expect("owners");
        assert_eq!(owners.len(), 3);
    }
}

#[test]
#[ignore = "needs root"]
fn a_network_with_a_password() {
    let lab = Lab::ready(Plan::of("ltpass", 3).containers(1).launch(&["--password", "open sesame"])).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    all_ping(&all);
    tcp(&all[0].0, &all[2].0, all[2].1, 1 << 20).expect("TCP");
    let shown = lab.host(2).weave(&["status", "connections"]).expect("status");
    assert!(shown.lines().all(|l| l.contains(" password ")), "{shown}");
}
