//! Scenes: hosts that let nothing in but answers to what they sent, without translation. They are reached, directly where
//! their own packets open a path, and both sides say the same.

use std::{net::Ipv4Addr, thread::sleep, time::Duration};

use serde_json::Value;
use weave_tests::lab::{
    Everyone, Lab, Plan, SETTLED, eventually,
    firewall::Firewall,
    load::Load,
    measure::{measured_time, time_until},
    router::Router,
    traffic::{UdpFlow, tcp},
    view::{Path, peer_name},
};

type Container = (String, Ipv4Addr);

/// Ten times what is promised of direct paths.
const DIRECT: Duration = Duration::from_secs(100);
/// Longer than a filter keeps a connection of UDP of which it has seen packets one way only (Linux: 30 s).
const FORGETS: Duration = Duration::from_secs(35);
/// Bytes of a TCP transfer of which every one is checked.
const TRANSFER: u64 = 1 << 20;

/// Three hosts with a container each, those of `behind` behind routers that pass answers only, with host 1 as target.
fn behind_routers(prefix: &str, behind: &[usize]) -> (Lab, Vec<Container>) {
    let lab = Lab::new(Plan::of(prefix, 3).containers(1)).expect("a Lab");
    behind.iter().for_each(|n| lab.put_behind(*n, Router::Stateful).expect("a router"));
    lab.launch_all().expect("launch");
    lab.wait_known(SETTLED).expect("all are known");
    lab.attach_all().expect("attach");
    let all = lab.addresses().expect("addresses");
    Everyone::of(&all).expect("sockets").reach_each_other(SETTLED).expect("everyone");
    (lab, all)
}

/// What hosts say of each other: kind of path, and state of the session.
fn said(lab: &Lab, here: usize, there: usize) -> (String, Value) {
    let kind = lab.host(here).path(there).ok().flatten().map_or_else(String::new, |path| path.kind);
    let session = lab.host(here).connection(there).ok().flatten().unwrap_or_default();
    (kind, session["state"].clone())
}

/// Both sides of each pair say the same of their path and of their session, and go on to.
fn both_sides_agree(lab: &Lab, pairs: &[(usize, usize)]) {
    let agree = || pairs.iter().all(|(one, other)| said(lab, *one, *other) == said(lab, *other, *one));
    let all =
        || pairs.iter().map(|(one, other)| (said(lab, *one, *other), said(lab, *other, *one))).collect::<Vec<_>>();
    for _ in 0..3 {
        assert!(eventually(SETTLED, agree), "{pairs:?}: {:?}\n{}", all(), lab.host(pairs[0].0).connections_text());
        sleep(Duration::from_secs(1));
    }
}

#[test]
#[ignore = "needs root"]
fn a_host_that_accepts_answers_only_is_direct() {
    let plan = Plan::of("scsown", 3).containers(1).targets(|n| if n == 1 { vec![2, 3] } else { Vec::new() });
    let lab = Lab::new(plan).expect("a Lab");
    lab.host(1).set_firewall(Firewall::Answers).expect("a firewall");
    lab.host(1).is_closed_to(lab.host(2)).expect("the firewall is in force");
    lab.launch_all().expect("launch");
    let took = time_until(DIRECT, || lab.wait_direct(Duration::ZERO).is_ok());
    let explained = || lab.wait_direct(Duration::ZERO).map_or_else(|e| format!("{e:#}"), |()| String::new());
    measured_time("stateful-host-direct", took.unwrap_or_else(|| panic!("{}", explained())));
    lab.wait_established(SETTLED).expect("sessions");
    lab.attach_all().expect("attach");
    let all = lab.addresses().expect("addresses");
    Everyone::of(&all).expect("sockets").reach_each_other(SETTLED).expect("everyone");
    for (from, to) in [(0, 2), (2, 0), (1, 0), (0, 1)] {
        tcp(&all[from].0, &all[to].0, all[to].1, TRANSFER).unwrap_or_else(|e| panic!("{from} to {to}: {e:#}"));
    }
    both_sides_agree(&lab, &[(1, 2), (1, 3), (2, 3)]);
}

#[test]
#[ignore = "needs root"]
fn a_host_behind_a_stateful_filter_is_direct() {
    let (lab, all) = behind_routers("scsone", &[3]);
    // Host 2 is not dialled by anybody but by discovery; host 3 is never dialled.
    let flows = [(0, 2), (2, 0), (1, 2), (2, 1)].map(|(from, to): (usize, usize)| {
        UdpFlow::start(&all[from].0, &all[to].0, all[to].1, 20, 100).expect("a flow")
    });
    let took = time_until(DIRECT, || lab.wait_direct(Duration::ZERO).is_ok());
    let explained = || lab.wait_direct(Duration::ZERO).map_or_else(|e| format!("{e:#}"), |()| String::new());
    measured_time("stateful-filter-direct", took.unwrap_or_else(|| panic!("{}", explained())));
    let relayed = lab.relayed().expect("counters");
    for (from, to) in [(0, 2), (2, 0), (1, 2), (2, 1)] {
        tcp(&all[from].0, &all[to].0, all[to].1, TRANSFER).unwrap_or_else(|e| panic!("{from} to {to}: {e:#}"));
    }
    assert_eq!(lab.relayed().expect("counters"), relayed, "something is relayed");
    for flow in flows {
        assert!(flow.stop().expect("a count").received > 0);
    }
    lab.wait_established(SETTLED).expect("sessions");
    both_sides_agree(&lab, &[(1, 3), (2, 3), (1, 2)]);
    // Without traffic the filter forgets; then whoever begins is heard.
    sleep(FORGETS);
    for (from, to) in [(1, 2), (0, 2)] {
        let load = Load::start(&all[from], &all[to]).expect("traffic from outside begins");
        load.stop_whole().unwrap_or_else(|e| panic!("{from} to {to}: {e:#}"));
    }
    both_sides_agree(&lab, &[(1, 3), (2, 3)]);
}

#[test]
#[ignore = "needs root"]
fn two_hosts_behind_stateful_filters_reach_each_other() {
    let (lab, all) = behind_routers("scstwo", &[2, 3]);
    let flows = [(1, 2), (2, 1)].map(|(from, to): (usize, usize)| {
        UdpFlow::start(&all[from].0, &all[to].0, all[to].1, 20, 100).expect("a flow")
    });
    for (here, there) in [(2, 1), (1, 2), (3, 1), (1, 3)] {
        lab.host(here).wait_path(there, DIRECT, Path::is_direct).expect("direct to the open host");
    }
    for (from, to) in [(1, 2), (2, 1)] {
        tcp(&all[from].0, &all[to].0, all[to].1, TRANSFER).unwrap_or_else(|e| panic!("{from} to {to}: {e:#}"));
    }
    both_sides_agree(&lab, &[(2, 3), (1, 2), (1, 3)]);
    // By relay, or by packets of both that open both filters; never "no path known".
    let kind = said(&lab, 2, 3).0;
    assert!(kind == "direct" || kind == "relayed", "{} is {kind}", peer_name(3));
    for flow in flows {
        assert!(flow.stop().expect("a count").received > 0);
    }
}
