//! Eight hosts: with few links each, or on a partial underlay; all reach all, and any loss is mended by itself.
//!
//! The partial underlay is random: `$WEAVE_LAB_SEED` chooses another, and a failure names the one it had.

use std::{
    collections::BTreeSet,
    thread::sleep,
    time::{Duration, Instant},
};

use weave_ctl::proto::rng::Rng;
use weave_tests::lab::{
    BEYOND_GRACE, Everyone, GRACE, Host, Lab, Plan, SETTLED, SHORT_GRACE, eventually,
    traffic::{TcpFlow, tcp},
    view::Path,
};

const HOSTS: usize = 8;
/// From a failure to traffic by another way.
const RECOVERED: Duration = Duration::from_secs(10);
/// Longer than a dead controller stays unnoticed by the others: what they then decide must not hurt either.
const NOTICED: Duration = Duration::from_secs(8);
/// Between two rounds while a controller is dead, and between two chunks of a connection: room for all others.
const PAUSE: Duration = Duration::from_millis(50);
/// Bytes of a TCP transfer of which every one is checked.
const TRANSFER: u64 = 1 << 20;

fn everyone_of(lab: &Lab) -> Everyone {
    let mut everyone = Everyone::of(&lab.addresses().expect("addresses")).expect("sockets");
    everyone.reach_each_other(SETTLED).unwrap_or_else(|e| panic!("{e:#}\n{}", paths(lab)));
    everyone
}

/// What every host says of its paths, for the reader of a failure.
fn paths(lab: &Lab) -> String {
    let said = lab
        .hosts()
        .iter()
        .map(|h| format!("{}:\n{}", h.netns(), h.weave(&["status", "peers"]).unwrap_or_else(|e| e.to_string())));
    said.collect::<Vec<_>>().join("\n")
}

/// Kills every controller in turn, one at a time: its kernel goes on, so that nobody notices anything. The controller
/// of host `long` stays dead for `time`.
fn kill_each_controller(lab: &Lab, everyone: &mut Everyone, (long, time): (usize, Duration)) {
    for host in lab.hosts() {
        let n = host.number();
        host.kill().expect("kill");
        let end = Instant::now() + if n == long { time } else { Duration::ZERO };
        loop {
            everyone
                .reach_each_other(RECOVERED)
                .unwrap_or_else(|e| panic!("with the controller of host {n} killed: {e:#}\n{}", paths(lab)));
            if Instant::now() >= end {
                break;
            }
            sleep(PAUSE);
        }
        lab.launch_planned(n).expect("launch again");
        if n == long || time > GRACE {
            // They may have forgotten each other, which is not to be a second trouble when the next one dies.
            lab.wait_known(SETTLED).expect("all are known everywhere again");
        }
    }
    everyone.reach_each_other(RECOVERED).expect("everyone, with all controllers back");
}

/// Takes every host away in turn, one at a time.
fn lose_each_host(lab: &Lab, everyone: &mut Everyone) {
    for host in lab.hosts() {
        lab.lose(host.number()).expect("a host is gone");
        everyone
            .reach_each_other_without(host, RECOVERED)
            .unwrap_or_else(|e| panic!("without host {}: {e:#}\n{}", host.number(), paths(lab)));
        lab.restore(host.number()).expect("the host is back");
        everyone
            .reach_each_other(SETTLED)
            .unwrap_or_else(|e| panic!("with host {} back: {e:#}\n{}", host.number(), paths(lab)));
    }
}

#[test]
#[ignore = "needs root"]
fn eight_hosts_with_at_most_three_links_each_reach_each_other_directly() {
    let plan = Plan::of("lm8lim", HOSTS).containers(1).launch(&["--conn-limit", "3"]).chain();
    let lab = Lab::meshed(plan).expect("a Lab");
    let mut everyone = everyone_of(&lab);
    lab.wait_direct(SETTLED).expect("direct paths");
    // Never too many. None for a moment is right: where a host that nobody else reaches comes, others make room.
    let few = |lab: &Lab| {
        let linked = |host: &Host| {
            let neighbours = host.neighbours().expect("status");
            assert!(neighbours.len() <= 3, "links of {}: {neighbours:?}", host.netns());
            !neighbours.is_empty()
        };
        let all = || lab.hosts().iter().all(linked);
        assert!(eventually(SETTLED, all), "a host stays without links");
    };
    few(&lab);
    let before = lab.relayed().expect("counters");
    let all = lab.addresses().expect("addresses");
    tcp(&all[0].0, &all[7].0, all[7].1, TRANSFER).expect("TCP");
    everyone.reach_each_other(RECOVERED).expect("everyone");
    assert_eq!(lab.relayed().expect("counters"), before, "something was relayed");

    kill_each_controller(&lab, &mut everyone, (4, NOTICED));
    lose_each_host(&lab, &mut everyone);
    lab.wait_known(SETTLED).expect("all are known everywhere again");
    few(&lab);
}

/// Hosts in random order, and the wires of a random underlay that stays in one piece without any one host: a ring in that
/// order, and some more.
fn random_wires(rng: &mut Rng) -> (Vec<usize>, BTreeSet<(usize, usize)>) {
    let mut order: Vec<usize> = (1..=HOSTS).collect();
    for last in (1..HOSTS).rev() {
        order.swap(last, below(rng, last + 1));
    }
    let ring = (0..HOSTS).map(|i| (order[i], order[(i + 1) % HOSTS]));
    let more: Vec<_> = (0..4).map(|_| (1 + below(rng, HOSTS), 1 + below(rng, HOSTS))).collect();
    let pairs = ring.chain(more).filter(|(one, other)| one != other);
    let wires = pairs.map(|(one, other)| (one.min(other), one.max(other))).collect();
    (order, wires)
}

fn below(rng: &mut Rng, bound: usize) -> usize {
    usize::try_from(rng.below(bound as u64)).expect("a small number")
}

fn are_wired(wires: &BTreeSet<(usize, usize)>, one: usize, other: usize) -> bool {
    wires.contains(&(one.min(other), one.max(other)))
}

/// A host to which no wire leads from host 1.
fn far_from_first(wires: &BTreeSet<(usize, usize)>) -> usize {
    (2..=HOSTS).find(|n| !are_wired(wires, 1, *n)).expect("somebody is far from host 1")
}

/// Hosts on a random underlay, launched with these arguments, all known everywhere, and its wires.
fn on_random_wires(prefix: &str, launch: &[&str]) -> (Lab, BTreeSet<(usize, usize)>) {
    let seed: u64 = std::env::var("WEAVE_LAB_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    let (order, wires) = random_wires(&mut Rng::new(bytes));
    println!("WEAVE_LAB_SEED={seed}: {wires:?}");
    // Everybody is told of the next in the ring, which it can reach; discovery finds the rest.
    let place = |n: usize| order.iter().position(|o| *o == n).unwrap_or(0);
    let plan = Plan::of(prefix, HOSTS).containers(1).launch(launch).targets(|n| vec![order[(place(n) + 1) % HOSTS]]);
    let lab = Lab::meshed(plan.wires(&wires.iter().copied().collect::<Vec<_>>())).expect("a Lab");
    (lab, wires)
}

#[test]
#[ignore = "needs root"]
fn eight_hosts_on_a_random_partial_underlay_reach_each_other_through_relays() {
    let (lab, wires) = on_random_wires("lm8part", &[]);
    let mut everyone = everyone_of(&lab);
    for (here, there) in (1..=HOSTS).flat_map(|one| (1..=HOSTS).map(move |other| (one, other))) {
        if here == there {
            continue;
        }
        let host = lab.host(here);
        if are_wired(&wires, here, there) {
            host.wait_path(there, SETTLED, Path::is_direct).expect("a direct path");
            continue;
        }
        let through = |p: &Path| (1..=HOSTS).any(|n| are_wired(&wires, here, n) && p.is_through(n));
        let path = host.wait_path(there, SETTLED, through).expect("a path through a neighbour");
        assert!(!path.why.is_empty(), "host {here} does not say why host {there} is not reached directly");
    }
    let all = lab.addresses().expect("addresses");
    let far = far_from_first(&wires);
    tcp(&all[0].0, &all[far - 1].0, all[far - 1].1, TRANSFER).expect("TCP through relays");
    let relays: u64 = lab.relayed().expect("counters").iter().sum();
    assert!(relays > 0, "nothing was relayed");

    lose_each_host(&lab, &mut everyone);
}

#[test]
#[ignore = "needs root"]
fn controllers_of_relays_on_a_random_partial_underlay_die_and_traffic_goes_on() {
    let (lab, wires) = on_random_wires("lm8dead", &SHORT_GRACE);
    let mut everyone = everyone_of(&lab);
    let all = lab.addresses().expect("addresses");
    let far = far_from_first(&wires);
    let path = lab.host(1).wait_path(far, SETTLED, |p| p.kind == "relayed").expect("a path through a relay");
    let relay = (1..=HOSTS).find(|n| path.is_through(*n)).expect("a relay");
    // Packets under way may meet hosts that do not agree yet on who relays. A connection sends those again; it must not
    // break, nor stand for longer than traffic takes to find another way.
    let connection = TcpFlow::start(&all[0].0, &all[far - 1].0, all[far - 1].1, PAUSE).expect("a connection");
    kill_each_controller(&lab, &mut everyone, (relay, BEYOND_GRACE));
    let bytes = connection.stop().expect("a connection outlives all controllers");
    assert!(bytes >= TRANSFER, "only {bytes} bytes went over");
    let relays: u64 = lab.relayed().expect("counters").iter().sum();
    assert!(relays > 0, "nothing was relayed");
    lab.wait_known(SETTLED).expect("all are known everywhere again");
}
