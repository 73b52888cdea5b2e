//! What is filtered between two hosts, and the way that packets then take.

use std::{net::Ipv4Addr, time::Duration};

use weave_common::vxlan::OVERHEAD;
use weave_tests::lab::{
    Everyone, Lab, Plan, SETTLED, Traffic, eventually,
    load::Load,
    router::{Router, inner},
    traffic::{UdpFlow, tcp},
    underlay,
    view::{Path, peer_name},
};

/// From a failure to traffic by another way.
const RECOVERED: Duration = Duration::from_secs(10);
/// Bytes of a TCP transfer of which every one is checked.
const TRANSFER: u64 = 1 << 20;
/// Longest outer packet in bytes between the hosts of [`narrow`].
const NARROW: u16 = 1300;

/// What `status connections` says of the links from host `here` to host `there`: state and reason.
fn links(lab: &Lab, here: usize, there: usize) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let (name, address) = (peer_name(there), format!("{}:", underlay(there)));
    let all = lab.host(here).connections().unwrap_or_default();
    let of_peer = all.iter().filter(|c| {
        c["peer"]["name"] == name.as_str() || c["address"].as_str().is_some_and(|a| a.starts_with(&address))
    });
    of_peer.map(|c| (text(&c["state"]), text(&c["info"]))).collect()
}

#[test]
#[ignore = "needs root"]
fn a_blocked_data_port_moves_traffic_to_a_relay_and_back() {
    let lab = Lab::ready(Plan::of("lpblock", 3).containers(1)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let mut everyone = Everyone::of(&all).expect("sockets");
    everyone.reach_each_other(SETTLED).expect("everyone");
    let flows = [(0, 2), (2, 0)].map(|(from, to): (usize, usize)| {
        UdpFlow::start(&all[from].0, &all[to].0, all[to].1, 20, 100).expect("a flow")
    });
    lab.wait_direct(SETTLED).expect("direct paths");
    for both_ways in [true, false] {
        if both_ways {
            lab.block(1, 3, Traffic::Data).expect("a fault");
        } else {
            lab.block_one_way(1, 3, Traffic::Data).expect("a fault");
        }
        let what = if both_ways { "both ways" } else { "one way" };
        everyone.reach_each_other(RECOVERED).unwrap_or_else(|e| panic!("blocked {what}: {e:#}"));
        assert!(lab.blocked().expect("a count") > 0, "nothing was blocked");
        // Probes there and back need both directions: whichever is blocked, both hosts see it.
        for (here, there) in [(1, 3), (3, 1)] {
            let path = lab.host(here).wait_path(there, RECOVERED, |p| p.is_through(2)).expect("a relay");
            assert!(!path.why.is_empty(), "nothing says why host {there} is not reached directly");
            let said = || links(&lab, here, there);
            let pending = || said().iter().any(|(state, why)| state == "pending" && !why.is_empty());
            assert!(eventually(SETTLED, pending), "the link from {here} to {there}, blocked {what}: {:?}", said());
        }
        let before = lab.relayed().expect("counters");
        tcp(&all[0].0, &all[2].0, all[2].1, TRANSFER).expect("TCP through host 2");
        assert!(lab.relayed().expect("counters")[1] > before[1], "host 2 relays nothing");

        lab.unblock(1, 3).expect("no fault");
        lab.wait_direct(SETTLED).unwrap_or_else(|e| panic!("unblocked after {what}: {e:#}"));
        let before = lab.relayed().expect("counters");
        tcp(&all[0].0, &all[2].0, all[2].1, TRANSFER).expect("TCP");
        assert_eq!(lab.relayed().expect("counters"), before, "something is relayed still");
        lab.wait_established(SETTLED).expect("the link is established again");
    }
    for flow in flows {
        let flow = flow.stop().expect("a count");
        assert_eq!(flow.duplicates, 0, "{flow:?}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_blocked_control_port_leaves_traffic_direct() {
    let lab = Lab::new(Plan::of("lpctrl", 3).containers(1).chain()).expect("a Lab");
    lab.block(1, 3, Traffic::Control).expect("a fault");
    lab.launch_all().expect("launch");
    lab.wait_known(SETTLED).expect("hosts 1 and 3 hear of each other from host 2");
    lab.attach_all().expect("attach");
    let all = lab.addresses().expect("addresses");
    Everyone::of(&all).expect("sockets").reach_each_other(SETTLED).expect("everyone");
    let flow = UdpFlow::start(&all[0].0, &all[2].0, all[2].1, 20, 100).expect("a flow");
    lab.wait_direct(SETTLED).expect("direct paths without a link");
    flow.stop().expect("a count");
    let stays_direct = |when: &str| {
        let before = lab.relayed().expect("counters");
        tcp(&all[0].0, &all[2].0, all[2].1, TRANSFER).expect("TCP");
        assert_eq!(lab.relayed().expect("counters"), before, "relayed {when}");
        for (here, there) in [(1, 3), (3, 1)] {
            let path = lab.host(here).path(there).expect("status").expect("a path");
            assert!(path.is_direct(), "{path:?} {when}");
            assert!(!lab.host(here).neighbours().expect("status").contains(&peer_name(there)));
        }
    };
    stays_direct("without a link from the start");
    // Somebody dials, in vain, and says so.
    let said = || [links(&lab, 1, 3), links(&lab, 3, 1)].concat();
    assert!(eventually(SETTLED, || said().iter().any(|(_, why)| !why.is_empty())), "{:?}", said());

    lab.unblock(1, 3).expect("no fault");
    lab.wait_established(SETTLED * 3).expect("the link comes");
    let load = Load::start(&all[0], &all[2]).expect("traffic");
    lab.block(1, 3, Traffic::Control).expect("a fault");
    let linked = |here: usize, there: usize| lab.host(here).is_linked(there);
    assert!(eventually(SETTLED * 2, || !linked(1, 3) && !linked(3, 1)), "{:?}", said());
    stays_direct("with a link that is cut");
    assert!(eventually(SETTLED, || said().iter().any(|(_, why)| !why.is_empty())), "{:?}", said());
    load.stop_whole().expect("traffic never noticed");
}

/// Two hosts between which packets of more than 1300 bytes do not pass: they vanish, or a router says so.
fn narrow(prefix: &str, says_so: bool) -> Lab {
    let lab = Lab::new(Plan::of(prefix, 2).containers(1)).expect("a Lab");
    lab.plain_cards().expect("ethtool");
    let target = if says_so {
        lab.put_behind(2, Router::Mtu(NARROW)).expect("a router");
        inner(2)
    } else {
        lab.block(1, 2, Traffic::Longer(NARROW)).expect("a fault");
        underlay(2)
    };
    lab.launch(2, &[]).expect("launch");
    lab.launch(1, &[&target.to_string()]).expect("launch");
    lab.wait_established(SETTLED).expect("the link");
    lab.attach_all().expect("attach");
    lab
}

/// Traffic of small packets both ways until both hosts know what their path carries.
fn measured(lab: &Lab, all: &[(String, Ipv4Addr)]) {
    let flows = [(0, 1), (1, 0)].map(|(from, to): (usize, usize)| {
        UdpFlow::start(&all[from].0, &all[to].0, all[to].1, 20, 100).expect("a flow")
    });
    let most = u64::from(NARROW) - u64::from(OVERHEAD);
    for (here, there) in [(1, 2), (2, 1)] {
        let known = |p: &Path| p.is_direct() && p.mtu == Some(most);
        lab.host(here).wait_path(there, SETTLED, known).expect("the path's MTU");
    }
    for flow in flows {
        let flow = flow.stop().expect("a count");
        assert!(flow.received > 0, "{flow:?}");
    }
}

#[test]
#[ignore = "needs root"]
fn what_a_path_carries_is_measured() {
    for (prefix, says_so) in [("lphole", false), ("lprouter", true)] {
        let lab = narrow(prefix, says_so);
        measured(&lab, &lab.addresses().expect("addresses"));
    }
}
