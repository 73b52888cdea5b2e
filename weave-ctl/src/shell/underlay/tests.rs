//! The underlay of namespaces made for a test.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use rtnetlink::packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkMessage},
};
use tokio::{sync::mpsc, time::timeout};

use super::{
    COALESCE, GONE_MAX, Instant, NetlinkPayload, Pending, Scan, UnderlayError, UnderlayEvent, UnderlayRoute, route_to,
    scan, watch,
};
use crate::shell::{anchor, netns::tests::TestNetns};

#[tokio::test]
async fn loopback_is_no_underlay() {
    assert!(scan().await.unwrap().devices.iter().all(|d| d.name != "lo"));
    let error = route_to(Ipv4Addr::LOCALHOST).await.unwrap_err();
    assert!(matches!(error, UnderlayError::Unusable { .. }), "{error}");
    let error = route_to(Ipv4Addr::new(224, 0, 0, 1)).await.unwrap_err();
    assert!(error.to_string().contains("224.0.0.1"), "{error}");
}

fn gone(name: &str) -> NetlinkPayload<RouteNetlinkMessage> {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link))
}

#[tokio::test]
async fn what_waits_is_bounded() {
    let (mut pending, now) = (Pending::default(), Instant::now());
    for i in 0..GONE_MAX + 10 {
        pending.note(&gone(&format!("wv{i}")), now);
    }
    assert_eq!(pending.gone.len(), GONE_MAX);
    assert!(pending.due.is_some());
    let names = (0..GONE_MAX).all(|_| matches!(pending.take(), UnderlayEvent::LinkGone { .. }));
    assert!(names);
    assert_eq!(pending.take(), UnderlayEvent::Changed);
    assert!(pending.due.is_none());
}

#[tokio::test]
async fn lost_messages_are_told_at_once_and_others_after_a_while() {
    let (mut pending, now) = (Pending::default(), Instant::now());
    pending.note(&gone("wv1"), now);
    assert_eq!(pending.due, None);
    pending.note(&gone("eth1"), now);
    pending.note(&gone("eth2"), now + COALESCE / 2);
    assert_eq!(pending.due, Some(now + COALESCE));
    pending.due = None;
    pending.note(&NetlinkPayload::Overrun(Vec::new()), now);
    assert!(pending.due.is_some_and(|due| due <= Instant::now()));
}

/// A namespace with two underlay devices and other ends that are up.
fn underlay(tag: &str) -> TestNetns {
    let ns = TestNetns::new(tag);
    for (name, addr, mtu) in [("u0", "192.0.2.1/24", "1500"), ("u1", "198.51.100.1/24", "1400")] {
        ns.ip(&["link", "add", "name", name, "mtu", mtu, "type", "veth", "peer", "name", &format!("{name}p")]);
        ns.ip(&["addr", "add", addr, "dev", name]);
        ns.ip(&["link", "set", name, "up"]);
        ns.ip(&["link", "set", &format!("{name}p"), "up"]);
    }
    ns
}

#[test]
#[ignore = "needs root"]
fn only_the_underlay_is_listed() {
    let ns = underlay("scan");
    ns.ip(&["addr", "add", "192.0.2.9/24", "dev", "u0"]);
    ns.ip(&["addr", "add", "169.254.1.1/16", "dev", "u0", "scope", "link"]);
    ns.ip(&["addr", "add", "203.0.113.1/24", "dev", "lo"]);
    ns.ip(&["link", "add", "wv1", "type", "veth", "peer", "name", "down"]);
    ns.ip(&["addr", "add", "203.0.113.2/24", "dev", "wv1"]);
    ns.ip(&["link", "set", "wv1", "up"]);
    ns.ip(&["addr", "add", "203.0.113.3/24", "dev", "down"]);
    ns.block_on(anchor::make("weave-6784", 6784)).unwrap();
    ns.block_on(anchor::raise("weave-6784", 6784)).unwrap();
    ns.ip(&["addr", "add", "203.0.113.4/24", "dev", "weave-6784"]);

    let found = ns.block_on(scan()).unwrap();
    let names: Vec<_> = found.devices.iter().map(|d| (d.name.as_str(), d.mtu)).collect();
    let (first, second) = (("u0", 1500), ("u1", 1400));
    assert_eq!(names, [first, second]);
    assert!(ns.ip(&["link", "show", "u0"]).starts_with(&format!("{}:", found.devices[0].ifindex)));
    let addrs = ["192.0.2.1", "192.0.2.9", "198.51.100.1"].map(|a| a.parse::<Ipv4Addr>().unwrap());
    assert_eq!(found.underlay.addrs, addrs);
    assert_eq!(found.underlay.mtu, 1400);
    // Packets to an address of the loopback device end here too, whatever device they come by.
    let [first, second] = [0, 1].map(|at: usize| found.devices[at].ifindex);
    let locals = [(addrs[0], first), (addrs[1], first), (addrs[2], second), (Ipv4Addr::new(203, 0, 113, 1), 1)];
    assert_eq!(found.locals, BTreeMap::from(locals));
}

#[test]
#[ignore = "needs root"]
fn an_empty_host_has_the_usual_mtu() {
    let ns = TestNetns::new("scan-empty");
    let found = ns.block_on(scan()).unwrap();
    assert_eq!((found.devices, found.underlay.mtu), (Vec::new(), 1500));
    let error = ns.block_on(route_to(Ipv4Addr::new(192, 0, 2, 2))).unwrap_err();
    assert!(error.to_string().starts_with("no route to 192.0.2.2: "), "{error}");
}

#[test]
#[ignore = "needs root"]
fn routes_are_those_of_the_kernel() {
    let ns = underlay("route");
    let Scan { devices, .. } = ns.block_on(scan()).unwrap();
    let route = |to: &str| ns.block_on(route_to(to.parse().unwrap()));
    let expect = |at: usize, next_hop: &str, source: &str, mtu| UnderlayRoute {
        ifindex: devices[at].ifindex,
        next_hop: next_hop.parse().unwrap(),
        source: source.parse().unwrap(),
        mtu,
    };
    assert_eq!(route("192.0.2.7").unwrap(), expect(0, "192.0.2.7", "192.0.2.1", 1500));
    assert_eq!(route("198.51.100.7").unwrap(), expect(1, "198.51.100.7", "198.51.100.1", 1400));
    ns.ip(&["route", "add", "203.0.113.0/24", "via", "192.0.2.254", "mtu", "1300", "src", "198.51.100.1"]);
    assert_eq!(route("203.0.113.9").unwrap(), expect(0, "192.0.2.254", "198.51.100.1", 1300));
    ns.ip(&["route", "add", "blackhole", "10.9.0.0/16"]);
    assert!(matches!(route("10.9.0.1"), Err(UnderlayError::Route { .. })));
    assert!(matches!(route("192.0.2.1"), Err(UnderlayError::Unusable { .. })));
    assert!(matches!(route("192.0.2.255"), Err(UnderlayError::Unusable { .. })));
    ns.ip(&["route", "add", "10.8.0.0/16", "via", "inet6", "fe80::1", "dev", "u0"]);
    let error = route("10.8.0.1").unwrap_err();
    assert!(error.to_string().contains("gateway"), "{error}");
}

/// Events until nothing comes for a while.
async fn drain(events: &mut mpsc::Receiver<UnderlayEvent>) -> Vec<UnderlayEvent> {
    let mut all = Vec::new();
    while let Ok(Some(event)) = timeout(Duration::from_millis(300), events.recv()).await {
        all.push(event);
    }
    all
}

#[test]
#[ignore = "needs root"]
fn changes_are_told_once_a_burst_and_vanished_devices_each() {
    let ns = underlay("watch");
    ns.block_on(async {
        let (sender, mut events) = mpsc::channel(1);
        let task = watch(sender).await.unwrap();
        ns.ip(&["addr", "add", "192.0.2.9/24", "dev", "u0"]);
        ns.ip(&["addr", "del", "192.0.2.9/24", "dev", "u0"]);
        let told = drain(&mut events).await;
        assert!(told.iter().all(|e| *e == UnderlayEvent::Changed) && (1..=2).contains(&told.len()), "{told:?}");

        ns.ip(&["link", "add", "wv1", "type", "veth", "peer", "name", "wv2"]);
        assert_eq!(drain(&mut events).await, []);
        ns.ip(&["link", "del", "wv1"]);
        let told = drain(&mut events).await;
        let gone = |name: &str| UnderlayEvent::LinkGone { name: name.to_owned() };
        assert!(told.len() == 2 && told.contains(&gone("wv1")) && told.contains(&gone("wv2")), "{told:?}");

        ns.ip(&["link", "del", "u0"]);
        let told = drain(&mut events).await;
        assert!(told.contains(&gone("u0")) && told.contains(&UnderlayEvent::Changed), "{told:?}");

        // Leaving a bridge is not vanishing.
        ns.ip(&["link", "add", "name", "br", "type", "bridge"]);
        ns.ip(&["link", "set", "u1", "master", "br"]);
        ns.ip(&["link", "set", "u1", "nomaster"]);
        let told = drain(&mut events).await;
        assert!(!told.contains(&gone("u1")), "{told:?}");

        drop(events);
        timeout(Duration::from_secs(5), task).await.unwrap().unwrap();
    });
}
