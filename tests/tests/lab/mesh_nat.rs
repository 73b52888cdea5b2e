//! Hosts behind routers that translate addresses and forward nothing: they are never dialled, and packets reach them only
//! where their probes went out, yet their containers reach all and are reached.

use std::{thread::sleep, time::Duration};

use weave_tests::lab::{
    Everyone, Lab, Plan, SETTLED,
    load::Load,
    router::Router,
    traffic::{UdpFlow, tcp},
    view::Path,
};

/// From a failure to traffic by another way.
const RECOVERED: Duration = Duration::from_secs(10);
/// Bytes of a TCP transfer of which every one is checked.
const TRANSFER: u64 = 1 << 20;
/// For so long routers remember a NAT mapping without packets, while a controller is dead: longer than the others pause
/// between probes.
const MEMORY: Duration = Duration::from_secs(7);
/// For so long a controller stays dead while packets keep the mappings fresh.
const WITHOUT_CONTROLLER: Duration = Duration::from_secs(12);

/// Three hosts with a container each, those of `behind` behind routers, which are launched with host 1 as target.
fn lab(prefix: &str, behind: &[usize]) -> Lab {
    let lab = Lab::new(Plan::of(prefix, 3).containers(1)).expect("a Lab");
    behind.iter().for_each(|n| lab.put_behind(*n, Router::Nat).expect("a router"));
    lab.launch_all().expect("launch");
    lab.wait_known(SETTLED).expect("all are known");
    lab.attach_all().expect("attach");
    lab
}

/// Kills the controller of host `n`, and launches it again later than the routers of `behind` forget what no packet uses.
/// Meanwhile `check` is made.
fn without_controller(lab: &Lab, n: usize, behind: &[usize], check: impl FnOnce()) {
    lab.host(n).kill().expect("kill");
    behind.iter().for_each(|n| lab.set_mapping_timeout(*n, Some(MEMORY)).expect("a router"));
    sleep(WITHOUT_CONTROLLER);
    check();
    behind.iter().for_each(|n| lab.set_mapping_timeout(*n, None).expect("a router"));
    lab.launch_planned(n).expect("launch again");
}

#[test]
#[ignore = "needs root"]
fn a_host_behind_translation_sends_to_all_and_all_to_it() {
    let lab = lab("lmnat1", &[3]);
    let all = lab.addresses().expect("addresses");
    Everyone::of(&all).expect("sockets").reach_each_other(SETTLED).expect("everyone");
    lab.wait_established(SETTLED).expect("links to all");
    lab.wait_direct(SETTLED).expect("no relay is needed");
    let relayed = lab.relayed().expect("counters");
    for (one, other) in [(0, 2), (2, 0), (1, 2), (2, 1)] {
        tcp(&all[one].0, &all[other].0, all[other].1, TRANSFER).unwrap_or_else(|e| panic!("{one} to {other}: {e:#}"));
    }
    assert_eq!(lab.relayed().expect("counters"), relayed);
    let shown = lab.host(1).connection(3).expect("status").expect("a connection");
    assert_eq!(shown["state"], "established", "{shown}");
    let info = "through NAT or a stateful filter: packets go from data port to data port";
    assert_eq!(shown["info"], info, "{shown}");
    assert!(lab.host(1).connections_text().contains(info));

    // Packets alone keep open what the probes opened.
    let load = Load::start(&all[0], &all[2]).expect("traffic");
    for (n, what) in [(3, "the controller behind the router"), (1, "the other controller")] {
        without_controller(&lab, n, &[3], || {
            load.goes_on().unwrap_or_else(|e| panic!("traffic stands without {what}: {e:#}"));
        });
        lab.wait_established(SETTLED).expect("links to all again");
    }
    load.stop_whole().expect("all of it, once");
}

#[test]
#[ignore = "needs root"]
fn two_hosts_behind_translators_reach_each_other_through_an_open_one() {
    let lab = lab("lmnat2", &[2, 3]);
    let all = lab.addresses().expect("addresses");
    let mut everyone = Everyone::of(&all).expect("sockets");
    everyone.reach_each_other(SETTLED).expect("everyone");
    for (here, there) in [(2, 3), (3, 2)] {
        lab.host(here).wait_path(there, SETTLED, |path| path.is_through(1)).expect("a relay");
        lab.host(here).wait_path(1, SETTLED, Path::is_direct).expect("straight to the open one");
        lab.host(1).wait_path(here, SETTLED, Path::is_direct).expect("straight from the open one");
    }
    let before = lab.relayed().expect("counters");
    tcp(&all[1].0, &all[2].0, all[2].1, TRANSFER).expect("TCP to host 3");
    tcp(&all[2].0, &all[1].0, all[1].1, TRANSFER).expect("TCP to host 2");
    let after = lab.relayed().expect("counters");
    assert!(after[0] > before[0] && after[1..] == before[1..], "{before:?} {after:?}");

    // The relay is rewritten in the kernel: its controller is not needed, and comes back without a loss.
    let flow = UdpFlow::start(&all[1].0, &all[2].0, all[2].1, 200, 100).expect("a flow");
    let answers = UdpFlow::start(&all[2].0, &all[1].0, all[1].1, 200, 100).expect("a flow");
    without_controller(&lab, 1, &[2, 3], || {});
    lab.wait_known(SETTLED).expect("all are known again");
    for flow in [flow, answers] {
        let flow = flow.stop().expect("a count");
        assert!(flow.is_whole(), "{flow:?}");
    }
    lab.lose(1).expect("host 1 is gone");
    let missing = everyone.round(|name| *name != *all[0].0).expect("a round");
    assert_eq!(missing.len(), 2, "there is no way: {missing:?}");
    lab.restore(1).expect("host 1 is back");
    everyone.reach_each_other(SETTLED * 2 + RECOVERED).expect("everyone again");
}
