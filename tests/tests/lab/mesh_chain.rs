//! Hosts in a chain: who relays, what goes on without a relay's controller, and what needs no relay at all.

use std::{thread::sleep, time::Duration};

use weave_tests::lab::{
    BEYOND_GRACE, Everyone, Lab, Plan, SETTLED, SHORT_GRACE, eventually,
    load::Load,
    traffic::{UdpFlow, tcp},
    view::{Path, peer_name},
};

/// From a failure to traffic by another way.
const RECOVERED: Duration = Duration::from_secs(10);
/// Bytes of a TCP transfer of which every one is checked.
const TRANSFER: u64 = 1 << 20;

/// Hosts 1, 2 and 3 with a container each; each is launched with the one before it as its only target.
fn chain(prefix: &str) -> Plan {
    Plan::of(prefix, 3).containers(1).chain()
}

#[test]
#[ignore = "needs root"]
fn a_chain_relays_in_the_kernel_with_its_controller_or_without() {
    let launch = [&["--no-discovery"], &SHORT_GRACE[..]].concat();
    let plan = chain("lmchain").launch(&launch).wires(&[(1, 2), (2, 3)]);
    let lab = Lab::meshed(plan).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let mut everyone = Everyone::of(&all).expect("sockets");
    everyone.reach_each_other(SETTLED).expect("everyone");
    for (here, there) in [(1, 3), (3, 1)] {
        let path = lab.host(here).wait_path(there, SETTLED, |p| p.is_through(2)).expect("a path");
        assert!(!path.why.is_empty(), "nothing says why host {there} is not reached directly");
    }
    let before = lab.relayed().expect("counters");
    tcp(&all[0].0, &all[2].0, all[2].1, TRANSFER).expect("TCP to host 3");
    tcp(&all[2].0, &all[0].0, all[0].1, TRANSFER).expect("TCP to host 1");
    let after = lab.relayed().expect("counters");
    assert!(after[1] > before[1], "host 2 counts nothing that it relays: {before:?} {after:?}");
    assert_eq!([after[0], after[2]], [before[0], before[2]], "hosts 1 and 3 relay for nobody");

    // The dataplane of host 2 goes on by itself: nothing is lost when its controller dies, is forgotten, comes back.
    let load = Load::start(&all[0], &all[2]).expect("traffic");
    lab.host(2).kill().expect("kill");
    load.goes_on().expect("traffic goes on");
    sleep(BEYOND_GRACE);
    load.goes_on().expect("traffic goes on when the peer is forgotten");
    everyone.reach_each_other(RECOVERED).expect("the containers of host 2, too");
    lab.launch_planned(2).expect("launch again");
    load.goes_on().expect("traffic goes on");
    for host in [1, 3] {
        lab.host(host).wait_path(2, SETTLED, Path::is_direct).expect("host 2 is back");
    }
    load.stop_whole().expect("all of it, once");

    // Without the host there is no way; with it, there is again.
    lab.lose(2).expect("host 2 is gone");
    let missing = everyone.round(|name| *name != *all[1].0).expect("a round");
    assert_eq!(missing.len(), 2, "hosts 1 and 3 reach each other over nothing: {missing:?}");
    lab.restore(2).expect("host 2 is back");
    everyone.reach_each_other(SETTLED * 2).expect("everyone again");
}

#[test]
#[ignore = "needs root"]
fn hosts_without_a_link_send_to_each_other_directly_where_the_underlay_allows_it() {
    let lab = Lab::meshed(chain("lmdirect").launch(&["--no-discovery"])).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let mut everyone = Everyone::of(&all).expect("sockets");
    everyone.reach_each_other(SETTLED).expect("everyone");
    // Traffic is what makes a path worth probing often.
    let flow = UdpFlow::start(&all[0].0, &all[2].0, all[2].1, 20, 100).expect("a flow");
    lab.wait_direct(SETTLED).expect("direct paths");
    for (host, neighbours) in [(1, vec![2]), (2, vec![1, 3]), (3, vec![2])] {
        let wanted: Vec<String> = neighbours.into_iter().map(peer_name).collect();
        assert_eq!(lab.host(host).neighbours().expect("status"), wanted, "links of host {host}");
    }
    let before = lab.relayed().expect("counters");
    tcp(&all[0].0, &all[2].0, all[2].1, TRANSFER).expect("TCP");
    everyone.reach_each_other(RECOVERED).expect("everyone");
    assert_eq!(lab.relayed().expect("counters"), before, "something was relayed");
    // Nothing depends on the host in the middle.
    lab.lose(2).expect("host 2 is gone");
    everyone.reach_each_other_without(lab.host(2), RECOVERED).expect("hosts 1 and 3");
    let arrived = flow.arrived();
    assert!(eventually(RECOVERED, || flow.arrived() > arrived), "the flow stands");
    flow.stop().expect("a count");
}

#[test]
#[ignore = "needs root"]
fn a_way_that_opens_is_found_and_outlives_the_relay() {
    let lab = Lab::meshed(chain("lmopen").wires(&[(1, 2), (2, 3)])).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let mut everyone = Everyone::of(&all).expect("sockets");
    everyone.reach_each_other(SETTLED).expect("everyone");
    let flow = UdpFlow::start(&all[0].0, &all[2].0, all[2].1, 20, 100).expect("a flow");
    lab.host(1).wait_path(3, SETTLED, |p| p.is_through(2)).expect("a path through host 2");
    lab.unblock(1, 3).expect("a wire");
    lab.wait_direct(SETTLED).expect("direct paths");
    lab.lose(2).expect("host 2 is gone");
    everyone.reach_each_other_without(lab.host(2), RECOVERED).expect("hosts 1 and 3");
    // The flow saw three ways: whatever was lost between them, nothing came twice.
    let flow = flow.stop().expect("a count");
    assert_eq!(flow.duplicates, 0, "{flow:?}");
}

#[test]
#[ignore = "needs root"]
fn a_way_that_opens_is_found_also_when_the_relay_has_no_controller() {
    // Who is forgotten is looked for by those alone whose operator named it: host 3 has both others as targets.
    let plan = Plan::of("lmorphan", 3).containers(1).targets(|n| (1..n).collect());
    let lab = Lab::meshed(plan.launch(&SHORT_GRACE).wires(&[(1, 2), (2, 3)])).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let mut everyone = Everyone::of(&all).expect("sockets");
    everyone.reach_each_other(SETTLED).expect("everyone");
    lab.host(1).wait_path(3, SETTLED, |p| p.is_through(2)).expect("a path through host 2");
    let load = Load::start(&all[0], &all[2]).expect("traffic");
    lab.host(2).kill().expect("kill");
    sleep(BEYOND_GRACE);
    for (here, there) in [(1, 3), (3, 1)] {
        let is_forgotten = || lab.host(here).path(there).is_ok_and(|path| path.is_none());
        assert!(eventually(SETTLED, is_forgotten), "host {there} is not forgotten by host {here}");
    }
    load.goes_on().expect("traffic goes on through the kernel of host 2");

    lab.unblock(1, 3).expect("a wire");
    for (here, there) in [(1, 3), (3, 1)] {
        lab.host(here).wait_path(there, SETTLED * 3, Path::is_direct).expect("a direct path");
    }
    everyone.reach_each_other(RECOVERED).expect("everyone, host 2 by its kernel alone");
    load.stop_whole().expect("all of it, once, on both ways");

    // From now on nothing of host 2 is needed.
    let flow = UdpFlow::start(&all[0].0, &all[2].0, all[2].1, 20, 100).expect("a flow");
    lab.lose(2).expect("host 2 is gone");
    everyone.reach_each_other_without(lab.host(2), RECOVERED).expect("hosts 1 and 3");
    tcp(&all[0].0, &all[2].0, all[2].1, TRANSFER).expect("TCP to host 3");
    tcp(&all[2].0, &all[0].0, all[0].1, TRANSFER).expect("TCP to host 1");
    let flow = flow.stop().expect("a count");
    assert!(flow.is_whole(), "packets between hosts 1 and 3 hang on host 2: {flow:?}");
}
