//! The kernel's own messages and routes, in namespaces made for a test.

use super::*;
use crate::shell::{netns::tests::TestNetns, socket_device};

/// A namespace with two underlay devices whose other ends are up.
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

/// Runs `work` inside, with a task that has started there.
fn watching<T: Send>(
    ns: &TestNetns,
    work: impl AsyncFnOnce(&Host, &mut mpsc::Receiver<HostEvent>, Scan) -> T + Send,
) -> T {
    ns.inside(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let (sender, mut events) = mpsc::channel(1);
            let (host, scan) = Host::start(6784, sender, TableWatch::default()).await.unwrap();
            work(&host, &mut events, scan).await
        })
    })
}

/// Events until nothing comes for a while.
async fn drain(events: &mut mpsc::Receiver<HostEvent>) -> Vec<HostEvent> {
    let mut all = Vec::new();
    while let Ok(Some(event)) = timeout(QUIET, events.recv()).await {
        all.push(event);
    }
    all
}

/// What is told last of `to`.
async fn last(events: &mut mpsc::Receiver<HostEvent>, to: &str) -> Option<Option<Egress>> {
    let to: Ipv4Addr = to.parse().unwrap();
    drain(events).await.into_iter().rev().find_map(|event| match event {
        HostEvent::Egress { addr, egress } if addr == to => Some(egress),
        _ => None,
    })
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
    ns.block_on(socket_device::make("weave-6784", 6784)).unwrap();
    ns.block_on(socket_device::raise("weave-6784", 6784)).unwrap();
    ns.ip(&["addr", "add", "203.0.113.4/24", "dev", "weave-6784"]);

    let found = watching(&ns, async |_, _, scan| scan);
    let devices: Vec<_> = found.devices.iter().map(|d| (d.name.as_str(), d.mtu, d.addrs.len())).collect();
    assert_eq!(devices, [("u0", 1500, 2), ("u1", 1400, 1)]);
    assert!(ns.ip(&["link", "show", "u0"]).starts_with(&format!("{}:", found.devices[0].ifindex)));
    let addrs = ["192.0.2.1", "192.0.2.9", "198.51.100.1"].map(|a| a.parse::<Ipv4Addr>().unwrap());
    assert_eq!(found.underlay.addrs, addrs);
    assert_eq!(found.underlay.default_mtu, 1500, "of two devices neither is the default");
    // Packets to an address of the loopback device end here too, whatever device they come by.
    let [first, second] = [0, 1].map(|at: usize| found.devices[at].ifindex);
    let locals = [(addrs[0], first), (addrs[1], first), (addrs[2], second), (Ipv4Addr::new(203, 0, 113, 1), 1)];
    assert_eq!(found.locals, BTreeMap::from(locals));
}

#[test]
#[ignore = "needs root"]
fn the_hosts_own_interface_is_not_of_the_underlay() {
    let ns = underlay("exposed");
    let names = |scan: &Scan| scan.devices.iter().map(|device| device.name.clone()).collect::<Vec<_>>();
    let own: Ipv4Addr = "10.32.0.9".parse().unwrap();
    let make = |kind: &[&str], devices: &[&str]| {
        ns.ip(&[&["link", "add", "weave"], kind].concat());
        for device in devices {
            ns.ip(&["link", "set", device, "up"]);
        }
        ns.ip(&["addr", "add", "10.32.0.9/12", "dev", "weave"]);
    };
    let told = |scan: &Scan| scan.underlay.addrs.contains(&own) || scan.locals.contains_key(&own);
    watching(&ns, async |_, events, _| {
        let steps: [&dyn Fn(); 5] = [
            &|| make(&["type", "veth", "peer", "name", "wv12345678"], &["weave", "wv12345678"]),
            &|| drop(ns.ip(&["link", "set", "weave", "mtu", "1400"])),
            &|| drop(ns.ip(&["link", "set", "weave", "down"])),
            &|| drop(ns.ip(&["link", "set", "weave", "name", "net7", "up"])),
            &|| drop(ns.ip(&["link", "del", "wv12345678"])),
        ];
        for step in steps {
            step();
            for event in drain(events).await {
                if let HostEvent::Underlay(scan) = event {
                    assert!(names(&scan) == ["u0", "u1"] && !told(&scan), "{scan:?}");
                }
            }
        }
    });
    make(&["type", "veth", "peer", "name", "wv12345678"], &["weave", "wv12345678"]);
    let scan = watching(&ns, async |_, _, scan| scan);
    assert!(names(&scan) == ["u0", "u1"] && !told(&scan), "found at the start: {scan:?}");
    ns.ip(&["link", "del", "weave"]);
    // Devices of that name that others made.
    for (kind, other) in [(&["type", "veth", "peer", "name", "other"][..], "other"), (&["type", "bridge"], "weave")] {
        make(kind, &["weave", other]);
        let scan = watching(&ns, async |_, _, scan| scan);
        assert!(names(&scan) == ["u0", "u1", "weave"] && told(&scan), "{kind:?}: {scan:?}");
        ns.ip(&["link", "del", "weave"]);
    }
}

#[test]
#[ignore = "needs root"]
fn default_mtu_follows_the_default_route() {
    let ns = TestNetns::new("scan-empty");
    assert_eq!(watching(&ns, async |_, _, scan| scan.underlay.default_mtu), 1500);
    let ns = underlay("default");
    let mtus = watching(&ns, async |_, events, scan| {
        let mut mtus = vec![scan.underlay.default_mtu];
        for change in [
            &["route", "add", "default", "via", "198.51.100.254"][..],
            &["link", "set", "u1", "mtu", "1300"],
            &["route", "replace", "default", "via", "198.51.100.254", "mtu", "1290"],
            &["link", "set", "u1", "down"],
        ] {
            ns.ip(change);
            let scan = drain(events).await.into_iter().rev().find_map(|event| match event {
                HostEvent::Underlay(scan) => Some(scan.underlay.default_mtu),
                _ => None,
            });
            mtus.extend(scan);
        }
        mtus
    });
    assert_eq!(mtus, [1500, 1400, 1300, 1290, 1500], "at last u0 is the only device");
}

#[test]
#[ignore = "needs root"]
fn egresses_are_those_of_the_kernel() {
    let ns = underlay("egress");
    watching(&ns, async |host, events, scan| {
        let expect = |at: usize, next_hop: &str, source: &str, mtu| Egress {
            ifindex: scan.devices[at].ifindex,
            next_hop: next_hop.parse().unwrap(),
            source: source.parse().unwrap(),
            mtu,
        };
        let mut egress = async |to: &str| {
            host.watch(to.parse().unwrap());
            last(events, to).await.expect("an answer")
        };
        assert_eq!(egress("192.0.2.7").await, Some(expect(0, "192.0.2.7", "192.0.2.1", 1500)));
        assert_eq!(egress("198.51.100.7").await, Some(expect(1, "198.51.100.7", "198.51.100.1", 1400)));
        ns.ip(&["route", "add", "203.0.113.0/24", "via", "192.0.2.254", "mtu", "1300", "src", "198.51.100.1"]);
        assert_eq!(egress("203.0.113.9").await, Some(expect(0, "192.0.2.254", "198.51.100.1", 1300)));
        ns.ip(&["route", "add", "blackhole", "10.9.0.0/16"]);
        ns.ip(&["route", "add", "10.8.0.0/16", "via", "inet6", "fe80::1", "dev", "u0"]);
        for useless in ["10.7.0.1", "10.8.0.1", "10.9.0.1", "192.0.2.1", "192.0.2.255", "127.0.0.1", "224.0.0.1"] {
            assert_eq!(egress(useless).await, None, "{useless}");
        }
    });
}

#[test]
#[ignore = "needs root"]
fn egresses_follow_what_changes_them() {
    let ns = underlay("follow");
    watching(&ns, async |host, events, scan| {
        let (one, other) = (scan.devices[0].ifindex, scan.devices[1].ifindex);
        let mut after = async |commands: &[&[&str]]| {
            commands.iter().for_each(|command| drop(ns.ip(command)));
            last(events, "203.0.113.9").await.map(|egress| egress.map(|egress| (egress.ifindex, egress.mtu)))
        };
        host.watch(Ipv4Addr::new(203, 0, 113, 9));
        assert_eq!(after(&[]).await, Some(None));
        assert_eq!(after(&[&["route", "add", "203.0.113.0/24", "via", "192.0.2.254"]]).await, Some(Some((one, 1500))));
        assert_eq!(after(&[&["link", "set", "u0", "mtu", "1450"]]).await, Some(Some((one, 1450))));
        assert_eq!(after(&[&["link", "set", "u1", "mtu", "1390"]]).await, None, "another device");
        let more = ["route", "add", "203.0.113.9/32", "via", "198.51.100.254"];
        assert_eq!(after(&[&more]).await, Some(Some((other, 1390))));
        assert_eq!(after(&[&["route", "del", "203.0.113.9/32"]]).await, Some(Some((one, 1450))));
        // Another table, and a rule that leads there.
        let table = ["route", "add", "default", "via", "198.51.100.254", "table", "77"];
        assert_eq!(after(&[&table]).await, None);
        let rule = ["rule", "add", "pref", "100", "to", "203.0.113.0/24", "lookup", "77"];
        assert_eq!(after(&[&rule]).await, Some(Some((other, 1390))));
        assert_eq!(after(&[&["rule", "del", "pref", "100"]]).await, Some(Some((one, 1450))));
        // Rules by which only our packets go, and by which only those of the source that they then have.
        let port = ["rule", "add", "pref", "100", "ipproto", "udp", "dport", "6784", "lookup", "77"];
        assert_eq!(after(&[&port]).await, Some(Some((other, 1390))));
        assert_eq!(after(&[&["rule", "del", "pref", "100"]]).await, Some(Some((one, 1450))));
        let source = ["rule", "add", "pref", "100", "from", "192.0.2.1", "lookup", "77"];
        assert_eq!(after(&[&source]).await, Some(Some((other, 1390))));
        assert_eq!(after(&[&["rule", "del", "pref", "100"]]).await, Some(Some((one, 1450))));
        // Not by that of ours for what the stack cuts, which follows the answer.
        let ours = ["rule", "add", "pref", "100", "ipproto", "udp", "sport", "6784", "dport", "6784", "lookup", "77"];
        assert_eq!(after(&[&ours]).await, None);
        ns.ip(&["rule", "del", "pref", "100"]);
        // The kernel removes the routes of a device that goes down without a word.
        assert_eq!(after(&[&["link", "set", "u0", "down"]]).await, Some(None));
        let up = [&["link", "set", "u0", "up"][..], &["route", "add", "203.0.113.0/24", "via", "192.0.2.254"]];
        assert_eq!(after(&up).await, Some(Some((one, 1450))));
        assert_eq!(after(&[&["addr", "flush", "dev", "u0"]]).await, Some(None));
    });
}

#[test]
#[ignore = "needs root"]
fn vanished_devices_are_told_each() {
    let ns = underlay("watch");
    watching(&ns, async |_, events, _| {
        let gone = |events: &[HostEvent]| {
            let gone = events.iter().filter_map(|event| match event {
                HostEvent::LinkGone(ifindex) => Some(*ifindex),
                _ => None,
            });
            gone.collect::<Vec<_>>()
        };
        let index = |name: &str| ns.ip(&["link", "show", name]).split(':').next().unwrap().parse::<u32>().unwrap();
        ns.ip(&["addr", "add", "192.0.2.9/24", "dev", "u0"]);
        ns.ip(&["addr", "del", "192.0.2.9/24", "dev", "u0"]);
        let told = drain(events).await;
        assert!(told.len() <= 2 && gone(&told).is_empty(), "{told:?}");

        ns.ip(&["link", "add", "wv1", "type", "veth", "peer", "name", "wv2"]);
        let both = [index("wv1"), index("wv2")];
        assert_eq!(drain(events).await, []);
        ns.ip(&["link", "set", "wv2", "name", "wv3"]);
        assert_eq!(drain(events).await, [], "a renamed device is the same");
        ns.ip(&["link", "set", "wv1", "up"]);
        assert_eq!(drain(events).await, []);
        ns.ip(&["link", "set", "wv1", "down"]);
        assert_eq!(drain(events).await, [HostEvent::SetDown(both[0])]);
        ns.ip(&["link", "del", "wv1"]);
        let told = gone(&drain(events).await);
        assert!(told.len() == 2 && both.iter().all(|index| told.contains(index)), "{told:?}");

        let renamed = index("u0");
        ns.ip(&["link", "set", "u0", "name", "lan0"]);
        let told = drain(events).await;
        let name = |event: &HostEvent| match event {
            HostEvent::Underlay(scan) => scan.devices.iter().find(|d| d.ifindex == renamed).map(|d| d.name.clone()),
            _ => None,
        };
        assert!(
            gone(&told).is_empty() && told.iter().filter_map(name).next_back().as_deref() == Some("lan0"),
            "{told:?}"
        );
        ns.ip(&["link", "del", "lan0"]);
        let told = drain(events).await;
        assert!(gone(&told).contains(&renamed), "{told:?}");
        assert!(
            told.iter().any(|event| matches!(event, HostEvent::Underlay(scan) if scan.devices.len() == 1)),
            "{told:?}"
        );

        // Leaving a bridge is not vanishing.
        ns.ip(&["link", "add", "name", "br", "type", "bridge"]);
        ns.ip(&["link", "set", "u1", "master", "br"]);
        ns.ip(&["link", "set", "u1", "nomaster"]);
        assert!(!gone(&drain(events).await).contains(&index("u1")));
    });
}
