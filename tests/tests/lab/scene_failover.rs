//! Scenes: how soon packets flow again when a path fails under traffic, and that none is lost when it is well again.
//!
//! Figures are the longest gap that the receiver saw. Bounds are ten times as wide as what is promised.

use std::{
    net::Ipv4Addr,
    thread::sleep,
    time::{Duration, Instant},
};

use weave_tests::lab::{
    Everyone, Lab, Plan, SETTLED, Traffic, eventually,
    measure::{long_cut, measured, measured_time, rounds},
    timeline::Timeline,
    traffic::UdpFlow,
    view::Path,
};

type Container = (String, Ipv4Addr);

/// Datagrams a second.
const RATE: u32 = 200;
/// For so long traffic runs before anything happens, and after all is well again.
const RUN_IN: Duration = Duration::from_secs(1);
/// How long a short cut lasts after packets flow again.
const SHORT_CUT: Duration = Duration::from_secs(1);
/// Ten times the worst promised gap: data port cut in both directions; in one.
const GAP_MAX: [Duration; 2] = [Duration::from_secs(20), Duration::from_secs(45)];
/// Ten times what is promised from the end of a cut to the direct path.
const BACK_MAX: Duration = Duration::from_secs(50);
/// For so long a relay's controller is dead.
const WITHOUT_CONTROLLER: Duration = Duration::from_secs(8);

/// Hosts with a container each, all of which reach each other directly.
fn lab(prefix: &str, hosts: usize) -> (Lab, Vec<Container>) {
    let lab = Lab::ready(Plan::of(prefix, hosts).containers(1)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    Everyone::of(&all).expect("sockets").reach_each_other(SETTLED).expect("everyone");
    lab.wait_direct(SETTLED).expect("direct paths");
    (lab, all)
}

/// Datagrams between the containers of hosts 1 and 3, from 1 to 3 first; they run.
fn flows(all: &[Container]) -> [UdpFlow; 2] {
    let flows = [(0, 2), (2, 0)].map(|(from, to): (usize, usize)| {
        UdpFlow::start(&all[from].0, &all[to].0, all[to].1, RATE, 100).expect("a flow")
    });
    assert!(eventually(SETTLED, || flows.iter().all(|flow| flow.has_passed(RATE.into()))), "no traffic");
    flows
}

/// What was seen of one cut.
struct Cut {
    /// Longest gap of each flow while the path was cut.
    gaps: [Duration; 2],
    /// From the end of the cut until both hosts say that they are direct.
    back: Duration,
    /// Datagrams of each flow that were sent by relay before the end of the cut, or later, and lost.
    lost: [Vec<u64>; 2],
}

/// Cuts a path under traffic, waits until packets flow again, waits for `hold`, mends it, and waits for the direct path.
fn cut(lab: &Lab, all: &[Container], hold: Duration, limit: Duration, begin: impl Fn()) -> Cut {
    let flows = flows(all);
    let ready = || [(1, 3), (3, 1)].iter().all(|(here, there)| lab.host(*here).stands_by(*there, 2));
    assert!(eventually(SETTLED, ready), "no standby path: {:?}", lab.host(1).weave(&["status", "peers"]));
    let since = Instant::now();
    begin();
    let marks = flows.each_ref().map(UdpFlow::sent);
    let again = || flows.iter().zip(marks).all(|(flow, mark)| flow.has_passed(mark));
    assert!(eventually(limit, again), "no packet flows {limit:?} after the cut: {:?}", lab.host(1).path(3));
    sleep(hold);
    let until = Instant::now();
    let safe = flows.each_ref().map(UdpFlow::sent);
    assert!(lab.blocked().expect("a count") > 0, "nothing was cut");
    lab.unblock(1, 3).expect("no fault");
    let mended = Instant::now();
    for (here, there) in [(1, 3), (3, 1)] {
        lab.host(here).wait_path(there, BACK_MAX, Path::is_direct).expect("direct again");
    }
    let back = mended.elapsed();
    sleep(RUN_IN);
    let lines: [Timeline; 2] = flows.map(|flow| flow.timeline().expect("a timeline"));
    let gaps = lines.each_ref().map(|line| line.longest_gap(since, until));
    let lost = [0, 1].map(|n| lines[n].missing(safe[n]..lines[n].sent));
    assert!(lines.iter().all(|line| line.flow().duplicates == 0), "datagrams came twice");
    Cut { gaps, back, lost }
}

/// Rounds of [`cut`], the last one a long one.
fn cuts(lab: &Lab, all: &[Container], name: &str, limit: Duration, begin: impl Fn(&Lab)) {
    let count = rounds(3);
    for round in 1..=count {
        let long = round == count;
        let hold = if long { long_cut() } else { SHORT_CUT };
        let Cut { gaps, back, lost } = cut(lab, all, hold, limit, || begin(lab));
        measured_time(&format!("{name}-gap"), gaps[0]);
        measured_time(&format!("{name}-gap-of-other-direction"), gaps[1]);
        measured_time(if long { "direct-after-long-cut" } else { "direct-after-short-cut" }, back);
        measured("lost-at-change-back", lost[0].len() + lost[1].len(), "packets");
        assert!(gaps.iter().all(|gap| *gap < limit), "round {round}: {gaps:?}");
        assert!(lost.iter().all(Vec::is_empty), "round {round}: lost at the change back: {lost:?}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_path_cut_in_both_directions_is_left_for_a_relay() {
    let (lab, all) = lab("scoboth", 3);
    cuts(&lab, &all, "cut-both-ways", GAP_MAX[0], |lab| lab.block(1, 3, Traffic::Data).expect("a fault"));
}

#[test]
#[ignore = "needs root"]
fn a_path_cut_in_one_direction_is_left_for_a_relay() {
    let (lab, all) = lab("scoone", 3);
    cuts(&lab, &all, "cut-one-way", GAP_MAX[1], |lab| lab.block_one_way(1, 3, Traffic::Data).expect("a fault"));
}

#[test]
#[ignore = "needs root"]
fn a_relay_whose_controller_dies_loses_nothing() {
    let (lab, all) = lab("scoctl", 3);
    lab.block(1, 3, Traffic::Data).expect("a fault");
    let flows = flows_by_relay(&lab, &all, &[2]).0;
    lab.host(2).kill().expect("kill");
    sleep(WITHOUT_CONTROLLER);
    lab.launch_planned(2).expect("launch again");
    lab.wait_known(SETTLED).expect("all are known again");
    sleep(RUN_IN);
    for flow in flows {
        let flow = flow.stop().expect("a count");
        assert!(flow.is_whole(), "{flow:?}");
    }
}

/// Waits until hosts 1 and 3 send to each other by one of these relays, then starts traffic; with the relay of host 1.
fn flows_by_relay(lab: &Lab, all: &[Container], relays: &[usize]) -> ([UdpFlow; 2], usize) {
    // Traffic makes the hosts look for another path; what it loses meanwhile is another scene's matter.
    let first = [(0, 2), (2, 0)].map(|(from, to): (usize, usize)| {
        UdpFlow::start(&all[from].0, &all[to].0, all[to].1, RATE, 100).expect("a flow")
    });
    let by = |here: usize, there: usize| {
        let path = lab.host(here).wait_path(there, SETTLED * 2, |p| relays.iter().any(|r| p.is_through(*r)));
        let path = path.expect("a relay");
        relays.iter().copied().find(|relay| path.is_through(*relay)).expect("one of them")
    };
    let relay = by(1, 3);
    by(3, 1);
    for flow in first {
        flow.stop().expect("a count");
    }
    (flows(all), relay)
}

#[test]
#[ignore = "needs root"]
fn a_relay_whose_host_dies_is_left_for_another() {
    let (lab, all) = lab("scohost", 4);
    lab.block(1, 3, Traffic::Data).expect("a fault");
    let (flows, relay) = flows_by_relay(&lab, &all, &[2, 4]);
    let since = Instant::now();
    lab.lose(relay).expect("the relay's host dies");
    let marks = flows.each_ref().map(UdpFlow::sent);
    let again = || flows.iter().zip(marks).all(|(flow, mark)| flow.has_passed(mark));
    assert!(eventually(GAP_MAX[0], again), "no packet flows: {:?}", lab.host(1).path(3));
    sleep(RUN_IN);
    let until = Instant::now();
    let gaps = flows.map(|flow| flow.timeline().expect("a timeline").longest_gap(since, until));
    gaps.iter().for_each(|gap| measured_time("lost-relay-gap", *gap));
    assert!(gaps.iter().all(|gap| *gap < GAP_MAX[0]), "{gaps:?}");
}
