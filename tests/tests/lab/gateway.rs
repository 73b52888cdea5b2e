//! The host as a container of the network, and as the gateway out of it: packets that really arrive. Tables are written by
//! hand ([`weave_tests::lab::tables`]).

use std::{fs, net::Ipv4Addr};

use ipnet::Ipv4Net;
use weave_common::addr::Mac;
use weave_ctl::{
    proto::io::{EndpointTo, MapOp, RouteTo},
    shell::{exposed::HOST_IF, masquerade},
};
use weave_tests::lab::{
    cmd::run,
    host::{ping, ping_with},
    tables::{DATA_PORT, Network, container, device_index, inside},
    traffic::{UdpFlow, tcp},
    underlay,
};

/// Bytes that a TCP transfer moves.
const TCP_BYTES: u64 = 8 << 20;
const SYSCTLS: &str = "/proc/sys/net/ipv4";

/// The host's own address in the network.
fn own(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 32, u8::try_from(n).expect("small"), 200)
}

/// Gives host `at` an interface in the network, with reverse-path filters as strict as they can be.
fn expose(network: &mut Network, at: usize, gateway: bool) {
    let host = network.lab.host(at).clone();
    let ip = |args: &[&str]| run(&[&["ip", "-n", host.netns()], args].concat()).expect("ip");
    let (addr, mac) = (own(at), Mac::of_container(own(at).octets()));
    ip(&["link", "add", "wvhost", "mtu", "1450", "type", "veth", "peer", "name", HOST_IF, "mtu", "1450"]);
    ip(&["link", "set", "wvhost", "up"]);
    ip(&["link", "set", HOST_IF, "address", &mac.to_string(), "up"]);
    ip(&["addr", "add", &format!("{addr}/12"), "dev", HOST_IF]);
    let ifindex = inside(&host, || {
        for device in ["all", HOST_IF, "wvhost"] {
            fs::write(format!("{SYSCTLS}/conf/{device}/rp_filter"), "1").expect("written");
        }
        if gateway {
            fs::write(format!("{SYSCTLS}/ip_forward"), "1").expect("written");
        }
        device_index("wvhost")
    });
    network.attach_container(at, ifindex);
    let to = EndpointTo { host: true, gateway, ..EndpointTo::container(ifindex, mac) };
    network.apply(at, &MapOp::PutEndpoint(addr, to));
    if gateway {
        network.apply(at, &MapOp::PutRoute(Ipv4Net::default(), RouteTo::Host(addr)));
    }
}

fn two_hosts(prefix: &str) -> Network {
    let mut network = Network::new(prefix, 2);
    network.tunnel(1, 2, 2, DATA_PORT);
    network.tunnel(2, 1, 1, DATA_PORT);
    network
}

/// What is moved between every two of hosts and containers, both ways.
fn all_reach_each_other(network: &Network, what: &str) {
    let host = |n: usize| (network.lab.host(n).netns().to_owned(), own(n));
    let inner = |n: usize| (network.name(n), container(n));
    for (a, b) in [(host(1), inner(1)), (host(1), inner(2)), (host(1), host(2)), (inner(1), host(2))] {
        for ((from, _), (to, addr)) in [(&a, &b), (&b, &a)] {
            let text = format!("{what}: {from} to {addr}");
            assert!(ping(from, *addr, 3), "{text}");
            // Fragments: of a packet larger than the interface.
            assert!(ping_with(from, *addr, &["-c", "2", "-W", "2", "-s", "4000"]), "{text}, 4,000 bytes");
            tcp(from, to, *addr, TCP_BYTES).unwrap_or_else(|e| panic!("{text}: {e}"));
            let flow = UdpFlow::start(from, to, *addr, 2000, 1200).expect("a flow");
            std::thread::sleep(std::time::Duration::from_millis(300));
            let flow = flow.stop().expect("a flow");
            assert!(flow.is_whole() && flow.sent > 100, "{text}: {flow:?}");
        }
    }
    for at in [1, 2] {
        for reason in ["kernel", "source-address", "too-big", "malformed"] {
            assert_eq!(network.drops(at, reason), 0, "{what}: {reason} at host {at}");
        }
    }
}

#[test]
#[ignore = "needs root"]
fn hosts_and_containers_reach_each_other() {
    let mut network = two_hosts("lgw-all");
    for at in [1, 2] {
        expose(&mut network, at, false);
    }
    all_reach_each_other(&network, "by the underlay's program");
    for at in [1, 2] {
        network.without_underlay_program(at);
    }
    all_reach_each_other(&network, "by the VXLAN socket device");
}

#[test]
#[ignore = "needs root"]
fn a_gateway_serves_the_containers_beside_it() {
    let mut network = two_hosts("lgw-out");
    expose(&mut network, 1, true);
    expose(&mut network, 2, false);
    let outside = underlay(2);
    // Host 2 stands for the outside: it answers without any network address translation.
    let back = ["ip", "-n", network.lab.host(2).netns(), "route", "add", &format!("{}/32", container(1))];
    run(&[&back[..], &["via", &underlay(1).to_string()]].concat()).expect("ip");
    for (n, gateway) in [(1, own(1)), (2, own(1))] {
        let via = ["ip", "-n", &network.name(n), "route", "add", "default", "via", &gateway.to_string()];
        run(&via).expect("ip");
    }
    assert!(ping(&network.name(1), outside, 3), "no answer from outside");
    tcp(&network.name(1), network.lab.host(2).netns(), outside, TCP_BYTES).expect("TCP");
    assert!(network.counter(1, "outside").0 > 3);
    // The host's own underlay address too: it answers, and asks for the container, from there.
    assert!(ping(&network.name(1), underlay(1), 3), "no answer of the gateway");

    // The same under the host's own address, without a way back of its own; and then nobody gets in.
    let host = network.lab.host(1).clone();
    let netns = network.lab.host(2).netns();
    let applied =
        inside(&host, || masquerade::ensure("10.32.0.0/12".parse().expect("a range"), HOST_IF)).expect("rules");
    assert!(applied.changed.len() == 1 && applied.blocked.is_empty(), "{applied:?}");
    assert!(!ping_with(netns, container(1), &["-c", "2", "-W", "1"]), "from outside");
    run(&[&["ip", "-n", netns, "route", "del"], &back[5..]].concat()).expect("ip");
    assert!(ping(&network.name(1), outside, 3), "no answer from outside, masqueraded");
    tcp(&network.name(1), netns, outside, TCP_BYTES).expect("TCP, masqueraded");
    assert!(inside(&host, masquerade::remove).expect("removed"));

    // By the gateway of another host nothing leaves.
    let before = network.drops(2, "no-route");
    assert!(!ping_with(&network.name(2), Ipv4Addr::new(198, 51, 100, 1), &["-c", "2", "-W", "1"]));
    assert_eq!(network.drops(2, "no-route"), before + 2);

    // Never from the address of a container, nor from outside to one on another host.
    let netns = host.netns();
    run(&["ip", "-n", netns, "addr", "add", &format!("{}/32", container(2)), "dev", "lo"]).expect("ip");
    run(&["ip", "-n", netns, "addr", "add", "198.51.100.7/32", "dev", "lo"]).expect("ip");
    for (source, to) in [(container(2), container(1)), (Ipv4Addr::new(198, 51, 100, 7), own(2))] {
        // From its own address it reaches both, and its neighbours are known.
        assert!(ping(netns, to, 1), "to {to}");
        let before = network.drops(1, "source-address");
        assert!(!ping_with(netns, to, &["-I", &source.to_string(), "-c", "2", "-W", "1"]), "from {source} to {to}");
        assert!(network.drops(1, "source-address") > before, "from {source} to {to}");
    }
}
