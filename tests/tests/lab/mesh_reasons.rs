//! What `status` says of connections that are not as they should be: which, why, and how packets travel all the same.
//! To people and as JSON, on both hosts of a pair.

use std::{net::Ipv4Addr, time::Duration};

use serde_json::Value;
use weave_tests::lab::{
    Everyone, Host, Lab, Plan, SETTLED, Traffic, eventually,
    load::Load,
    traffic::{UdpFlow, tcp},
    underlay,
    view::{Path, shown_name},
};

/// From a failure to traffic by another way.
const RECOVERED: Duration = Duration::from_secs(10);
/// Bytes of a TCP transfer of which every one is checked.
const TRANSFER: u64 = 1 << 20;
/// Hosts 1 and 3, both ways.
const PAIR: [(usize, usize); 2] = [(1, 3), (3, 1)];
/// What is blocked between them: both ways, and each alone.
const BLOCKED: [&[(usize, usize)]; 3] = [&PAIR, &[(1, 3)], &[(3, 1)]];

fn block(lab: &Lab, ways: &[(usize, usize)], traffic: Traffic) {
    ways.iter().for_each(|(from, to)| lab.block_one_way(*from, *to, traffic).expect("a fault"));
}

/// Small datagrams both ways between the containers of hosts 1 and 3: traffic is what makes a path worth probing often.
fn flows(all: &[(String, Ipv4Addr)]) -> [UdpFlow; 2] {
    PAIR.map(|(from, to)| {
        let (from, to) = (&all[from - 1], &all[to - 1]);
        UdpFlow::start(&from.0, &to.0, to.1, 20, 100).expect("a flow")
    })
}

fn nothing_came_twice(flows: [UdpFlow; 2]) {
    for flow in flows {
        let flow = flow.stop().expect("a count");
        assert!(flow.received > 0 && flow.duplicates == 0, "{flow:?}");
    }
}

/// The text with an N in place of the seconds for which something is silent.
fn masked(text: &str) -> String {
    let mut before = "";
    let words = text.split(' ').map(|word| {
        let is_number = before == "for" && word.parse::<u64>().is_ok();
        before = word;
        if is_number { "N" } else { word }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// A host shows the connection to host `there` in this state and with this reason, once it does; all that it shows.
fn shown(host: &Host, there: usize, state: &str, info: &str) -> Value {
    let mut last = Value::Null;
    let is_so = || {
        last = host.connection(there).ok().flatten().unwrap_or_default();
        last["state"] == state && last["info"].as_str().is_some_and(|said| masked(said) == info)
    };
    assert!(eventually(SETTLED, is_so), "not {state} for {info:?}, but {last}\n{}", host.connections_text());
    last
}

/// `status connections` and the summary have a line with all of these words, once they do.
fn lists(host: &Host, words: &[&str]) {
    for args in [&["status", "connections"][..], &["status"]] {
        let printed = || masked(&host.weave(args).unwrap_or_default());
        let has = |line: &str| words.iter().all(|word| line.contains(*word));
        assert!(eventually(SETTLED, || printed().lines().any(has)), "no line has all of {words:?}:\n{}", printed());
    }
}

/// The summary has these words, once it does.
fn sums_up(host: &Host, words: &str) {
    let printed = || masked(&host.weave(&["status"]).unwrap_or_default());
    assert!(eventually(SETTLED, || printed().contains(words)), "{words:?} is not in\n{}", printed());
}

/// Host `here` says that the data port of host `there` does not answer, and through which of the hosts `relays` packets go.
fn detour_is_told(lab: &Lab, (here, there): (usize, usize), relays: &[usize]) {
    let (host, data) = (lab.host(here), format!("{}:6784", underlay(there)));
    let through = |path: &Path| relays.iter().copied().find(|via| path.is_through(*via));
    let path = host.wait_path(there, RECOVERED, |path| through(path).is_some()).expect("a relay");
    let via = through(&path).expect("that relay");
    let relay = shown_name(via);
    let silent = format!("no answer from data port {data} for N s");
    let info = format!("{silent}; packets go through {relay}");
    let connection = shown(host, there, "pending", &info);
    assert_eq!(connection["data"], data, "{connection}");
    let path = host.wait_path(there, RECOVERED, |path| path.is_through(via)).expect("the same relay");
    assert_eq!(masked(&path.why), silent);
    let peer = shown_name(there);
    lists(host, &["  pending  ", "  relayed  ", &peer, &format!("via {relay}: {info}")]);
    // Beside the connections, the summary tells of peers to which packets do not go direct.
    let path = |line: &str| {
        let line = line.trim_start();
        let (line, _) = line.split_once("; standby ").unwrap_or((line, ""));
        line.starts_with(&format!("{peer}  via {relay}")) && line.ends_with(&format!(": {silent}"))
    };
    let summary = || masked(&host.weave(&["status"]).unwrap_or_default());
    assert!(eventually(SETTLED, || summary().lines().any(path)), "nothing says how {peer} is reached:\n{}", summary());
}

/// Host `here` says that the control port of host `there` does not answer, and that packets go straight all the same.
fn lack_of_a_link_is_told(lab: &Lab, (here, there): (usize, usize)) {
    let (host, at) = (lab.host(here), underlay(there));
    let info = format!("cannot connect to {at}:6783: no answer within 5 s; packets go direct to {at}:6784");
    let connection = shown(host, there, "retrying", &info);
    assert_eq!(connection["address"], format!("{at}:6783"), "{connection}");
    assert!(connection["retry_in_ms"].is_u64(), "{connection}");
    host.wait_path(there, RECOVERED, Path::is_direct).expect("a direct path");
    lists(host, &["  retrying  ", "  direct  ", &shown_name(there), &format!("{info}, next attempt in ")]);
}

/// Host `here` has an established connection to host `there`, and no way that needs a word.
fn nothing_is_told(lab: &Lab, (here, there): (usize, usize)) {
    let host = lab.host(here);
    shown(host, there, "established", "");
    let summary = host.weave(&["status"]).expect("status");
    assert!(!summary.contains("Paths: ") && !summary.contains("no answer"), "{summary}");
}

#[test]
#[ignore = "needs root"]
fn a_blocked_data_port_is_explained_by_both_hosts() {
    let lab = Lab::ready(Plan::of("lmrdata", 3).containers(1)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let mut everyone = Everyone::of(&all).expect("sockets");
    everyone.reach_each_other(SETTLED).expect("everyone");
    let flows = flows(&all);
    lab.wait_direct(SETTLED).expect("direct paths");
    for ways in BLOCKED {
        block(&lab, ways, Traffic::Data);
        everyone.reach_each_other(RECOVERED).unwrap_or_else(|e| panic!("blocked {ways:?}: {e:#}"));
        // A probe needs one direction, its answer the other: whichever is blocked, both hosts see it.
        for pair in PAIR {
            detour_is_told(&lab, pair, &[2]);
            sums_up(lab.host(pair.0), "Connections: 2 (1 established, 1 pending)");
            sums_up(lab.host(pair.0), "Paths: 2 (1 direct, 1 relayed)");
        }
        lab.unblock(1, 3).expect("no fault");
        lab.wait_direct(SETTLED).unwrap_or_else(|e| panic!("unblocked after {ways:?}: {e:#}"));
        lab.wait_established(SETTLED).expect("the link is established again");
        PAIR.into_iter().for_each(|pair| nothing_is_told(&lab, pair));
    }
    nothing_came_twice(flows);
}

#[test]
#[ignore = "needs root"]
fn a_blocked_control_port_is_explained_by_both_hosts() {
    // Neither of hosts 1 and 3 is told of the other: each hears of it from host 2, and dials it.
    let lab = Lab::new(Plan::of("lmrctrl", 3).containers(1).chain()).expect("a Lab");
    block(&lab, BLOCKED[0], Traffic::Control);
    lab.launch_all().expect("launch");
    lab.wait_known(SETTLED).expect("hosts 1 and 3 hear of each other from host 2");
    lab.attach_all().expect("attach");
    let all = lab.addresses().expect("addresses");
    Everyone::of(&all).expect("sockets").reach_each_other(SETTLED).expect("everyone");
    let flows = flows(&all);
    lab.wait_direct(SETTLED).expect("direct paths without a link");
    let load = Load::start(&all[0], &all[2]).expect("traffic");
    for ways in BLOCKED {
        // The first one is there before any link; each other one cuts a link.
        block(&lab, ways, Traffic::Control);
        let cut = || PAIR.iter().all(|pair| !lab.host(pair.0).is_linked(pair.1));
        assert!(eventually(SETTLED * 2, cut), "blocked {ways:?}: {}", lab.host(1).connections_text());
        PAIR.into_iter().for_each(|pair| lack_of_a_link_is_told(&lab, pair));
        load.goes_on().expect("traffic goes on");
        lab.unblock(1, 3).expect("no fault");
        lab.wait_established(SETTLED * 3).unwrap_or_else(|e| panic!("unblocked after {ways:?}: {e:#}"));
        PAIR.into_iter().for_each(|pair| nothing_is_told(&lab, pair));
    }
    load.stop_whole().expect("traffic never noticed");
    nothing_came_twice(flows);
}

/// While the data port is blocked between hosts 1 and 3, and the control port between those of `cut`, each trouble is
/// told as what it is, one of `relays` relays, and everybody reaches everybody.
fn both_are_told(
    lab: &Lab,
    all: &[(String, Ipv4Addr)],
    everyone: &mut Everyone,
    (cut, relays): ([(usize, usize); 2], &[usize]),
) {
    let unlinked = || cut.iter().all(|pair| !lab.host(pair.0).is_linked(pair.1));
    assert!(eventually(SETTLED * 2, unlinked), "{}", lab.host(cut[0].0).connections_text());
    PAIR.into_iter().for_each(|pair| detour_is_told(lab, pair, relays));
    cut.into_iter().for_each(|pair| lack_of_a_link_is_told(lab, pair));
    everyone.reach_each_other(RECOVERED).expect("everyone");
    let before = lab.relayed().expect("counters");
    tcp(&all[0].0, &all[2].0, all[2].1, TRANSFER).expect("TCP through host 2");
    tcp(&all[2].0, &all[0].0, all[0].1, TRANSFER).expect("TCP back");
    let after = lab.relayed().expect("counters");
    assert!(relays.iter().any(|n| after[n - 1] > before[n - 1]), "hosts {relays:?} relay nothing");
}

/// Nothing is blocked any more, and nothing is told any more.
fn both_are_mended(lab: &Lab, cut: [(usize, usize); 2]) {
    for (one, other) in [PAIR[0], cut[0]] {
        lab.unblock(one, other).expect("no fault");
    }
    lab.wait_direct(SETTLED).expect("direct paths");
    lab.wait_established(SETTLED * 3).expect("links");
    PAIR.into_iter().chain(cut).for_each(|pair| nothing_is_told(lab, pair));
}

#[test]
#[ignore = "needs root"]
fn a_relay_without_a_link_to_one_of_the_two_goes_on_and_both_troubles_are_told() {
    const CUT: [(usize, usize); 2] = [(2, 3), (3, 2)];
    let lab = Lab::ready(Plan::of("lmrthree", 3).containers(1)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let mut everyone = Everyone::of(&all).expect("sockets");
    // What worked once must not be taken up again when no path of links leads through the relay any more.
    lab.wait_direct(SETTLED).expect("direct paths");
    block(&lab, &PAIR, Traffic::Data);
    everyone.reach_each_other(SETTLED).expect("everyone");
    let flows = flows(&all);
    PAIR.into_iter().for_each(|pair| detour_is_told(&lab, pair, &[2]));
    block(&lab, &CUT, Traffic::Control);
    both_are_told(&lab, &all, &mut everyone, (CUT, &[2]));
    sums_up(lab.host(3), "Connections: 2 (1 pending, 1 retrying)");
    sums_up(lab.host(3), "Paths: 2 (1 direct, 1 relayed)");
    both_are_mended(&lab, CUT);
    nothing_came_twice(flows);
}

#[test]
#[ignore = "needs root"]
fn a_blocked_data_port_and_a_blocked_control_port_at_once_are_told_apart() {
    const CUT: [(usize, usize); 2] = [(1, 4), (4, 1)];
    let lab = Lab::ready(Plan::of("lmrfour", 4).containers(1).chain()).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let mut everyone = Everyone::of(&all).expect("sockets");
    everyone.reach_each_other(SETTLED).expect("everyone");
    let flows = flows(&all);
    lab.wait_direct(SETTLED).expect("direct paths");
    let load = Load::start(&all[0], &all[3]).expect("traffic");
    block(&lab, &PAIR, Traffic::Data);
    block(&lab, &CUT, Traffic::Control);
    everyone.reach_each_other(RECOVERED).expect("everyone, before the lack of a link is noticed");
    // Data passes between hosts 1 and 4 all the time, session or not.
    both_are_told(&lab, &all, &mut everyone, (CUT, &[2, 4]));
    sums_up(lab.host(1), "Connections: 3 (1 established, 1 pending, 1 retrying)");
    sums_up(lab.host(1), "Paths: 3 (2 direct, 1 relayed)");
    both_are_mended(&lab, CUT);
    load.stop_whole().expect("a link that is cut costs no packet");
    nothing_came_twice(flows);
}
