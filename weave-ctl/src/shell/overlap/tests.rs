//! Which routes of a host lead into a range.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use rtnetlink::{
    RouteMessageBuilder,
    packet_route::route::{RouteHeader, RouteMessage},
};

use super::{HostRoute, find, overlapping};
use crate::shell::netns::tests::TestNetns;

/// Number of the table of this host's own addresses.
const LOCAL: u8 = 255;

fn route(net: &str, index: u32, table: u8) -> RouteMessage {
    let net: Ipv4Net = net.parse().expect("a network");
    let mut route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(net.addr(), net.prefix_len())
        .output_interface(index)
        .build();
    route.header.table = table;
    route
}

fn found(routes: &[RouteMessage], range: &str) -> Option<(String, Option<u32>)> {
    overlapping(routes, range.parse().expect("a range")).next().map(|(net, index)| (net.to_string(), index))
}

#[test]
fn a_route_that_shares_addresses_with_the_range_is_found() {
    let main = RouteHeader::RT_TABLE_MAIN;
    let mut default = RouteMessageBuilder::<Ipv4Addr>::new().output_interface(7).build();
    default.header.table = main;
    let local = route("10.32.0.1/32", 2, LOCAL);
    let apart = route("10.48.0.0/16", 3, main);
    let none = [default.clone(), local.clone(), apart.clone()];
    assert_eq!(found(&none, "10.32.0.0/12"), None, "default, local and other routes are no matter");
    for (net, range) in [
        ("10.33.0.0/16", "10.32.0.0/12"),
        ("10.0.0.0/8", "10.32.0.0/12"),
        ("10.32.0.0/12", "10.32.0.0/12"),
        ("10.47.255.255/32", "10.32.0.0/12"),
    ] {
        let all = [default.clone(), local.clone(), apart.clone(), route(net, 4, main)];
        assert_eq!(found(&all, range), Some((net.to_owned(), Some(4))));
    }
}

#[test]
fn a_route_is_told_with_its_device() {
    let net = "10.33.0.0/16".parse().expect("a network");
    assert_eq!(HostRoute { net, device: "eth0".to_owned() }.to_string(), "10.33.0.0/16 dev eth0");
    assert_eq!(HostRoute { net, device: String::new() }.to_string(), "10.33.0.0/16");
}

#[test]
#[ignore = "needs root"]
fn the_hosts_own_interface_is_no_overlap() {
    let ns = TestNetns::new("overlap");
    let range = "10.32.0.0/12".parse().expect("a range");
    let found = || ns.block_on(find(range)).expect("a list").map(|route| route.to_string());
    ns.ip(&["link", "add", "wv12345678", "type", "veth", "peer", "name", "weave"]);
    for device in ["wv12345678", "weave"] {
        ns.ip(&["link", "set", device, "up"]);
    }
    ns.ip(&["addr", "add", "10.32.0.9/12", "dev", "weave"]);
    assert_eq!(found(), None);
    // A route behind it is told, whichever the kernel lists first.
    ns.ip(&["link", "add", "eth7", "type", "bridge"]);
    ns.ip(&["link", "set", "eth7", "up"]);
    ns.ip(&["route", "add", "10.40.0.0/16", "dev", "eth7"]);
    assert_eq!(found().as_deref(), Some("10.40.0.0/16 dev eth7"));
    ns.ip(&["link", "del", "eth7"]);
    // A device of the same name that others made.
    ns.ip(&["link", "del", "weave"]);
    ns.ip(&["link", "add", "weave", "type", "veth", "peer", "name", "other"]);
    for device in ["other", "weave"] {
        ns.ip(&["link", "set", device, "up"]);
    }
    ns.ip(&["addr", "add", "10.32.0.9/12", "dev", "weave"]);
    assert_eq!(found().as_deref(), Some("10.32.0.0/12 dev weave"));
}
