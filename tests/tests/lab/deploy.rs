//! How networks are deployed: the sequences of commands of each way, from the first host to the last.

use std::{fs, path::Path, path::PathBuf, thread};

use weave_tests::lab::{
    Host, Lab, Plan, SETTLED, cmd::run, eventually, host::ping, load::Load, plan::weave_ctl, underlay, view::peer_name,
};

/// Peers that come and go at once. The last hosts are the fixed cluster: whoever leaves finds others that leave first
/// among its heirs.
const GUESTS: usize = 10;
/// Size of the default range.
const RANGE: u64 = 1 << 20;

fn at(n: usize) -> String {
    underlay(n).to_string()
}

/// Names of those who own something, in order; all of the range is somebody's.
fn owners(host: &Host) -> Vec<String> {
    let owners = host.owners().expect("status");
    assert_eq!(owners.iter().map(|owner| owner.addresses).sum::<u64>(), RANGE, "{owners:?}");
    let mut names: Vec<String> = owners.into_iter().map(|owner| owner.name).collect();
    names.sort();
    names
}

/// Every one of these containers reaches every other.
fn all_ping(all: &[(String, std::net::Ipv4Addr)]) {
    for (from, _) in all {
        for (to, address) in all.iter().filter(|(to, _)| to != from) {
            assert!(eventually(SETTLED, || ping(from, *address, 1)), "{from} to {to} ({address})");
        }
    }
}

/// What a reboot leaves of a host: its store. Containers come back empty.
fn reboot(host: &Host) {
    host.kill_all().expect("kill");
    let containers = host.containers();
    for name in &containers {
        run(&["ip", "netns", "del", name]).expect("remove a container");
    }
    run(&["ip", "-n", host.netns(), "link", "del", "weave-6784"]).expect("remove the socket device");
    fs::remove_dir_all(host.bpf_dir()).expect("remove the pins");
    fs::remove_dir_all(host.run_dir()).expect("remove the run directory");
    let left = || run(&["ip", "-n", host.netns(), "-o", "link"]).expect("devices").contains(": wv");
    assert!(eventually(SETTLED, || !left()), "interfaces of containers stay");
    for name in &containers {
        run(&["ip", "netns", "add", name]).expect("a container");
    }
}

/// Host by host: launch, connect, consense; connect back; remove one; reboot the network with one missing.
#[test]
#[ignore = "needs root"]
fn manual_and_incremental() {
    let lab = Lab::new(Plan::of("ldman", 4).containers(1)).expect("a Lab");
    let [one, two, three, four] = [1, 2, 3, 4].map(|n| lab.host(n));
    one.launch(&[]).expect("launch");
    assert_eq!(one.weave(&["consense"]).expect("consense"), "");
    assert_eq!(owners(one), [peer_name(1)]);
    for n in 2..=4 {
        let host = lab.host(n);
        host.launch(&[]).expect("launch");
        host.weave(&["connect", &at(1)]).expect("connect");
        host.weave(&["consense"]).expect("consense");
        host.attach(&host.container(1)).expect("attach");
        // So that the others find the new one after a reboot, too.
        one.weave(&["connect", &at(n)]).expect("connect back");
    }
    one.attach(&one.container(1)).expect("attach");
    lab.wait_established(SETTLED).expect("links");
    let all = lab.addresses().expect("addresses");
    all_ping(&all);

    three.weave(&["reset"]).expect("reset");
    one.weave(&["forget", &at(3)]).expect("forget");
    assert_eq!(owners(one), [1, 2, 4].map(peer_name));
    let gone = || [one, two, four].iter().all(|host| host.established() == 2);
    assert!(eventually(SETTLED, gone), "{}", one.connections_text());
    let left: Vec<_> = all.iter().filter(|(name, _)| *name != three.container(1)).cloned().collect();
    all_ping(&left);
    let fresh = two.give(2, &[]).expect("attach").1;
    assert!(left.iter().all(|(_, address)| [*address] != fresh[..]));

    for host in [one, two, four] {
        reboot(host);
    }
    for host in [one, two] {
        host.weave(&["launch"]).expect("launch");
    }
    assert!(eventually(SETTLED, || one.established() == 1), "{}", one.connections_text());
    for (name, address) in &left[..2] {
        let host = if *name == one.container(1) { one } else { two };
        assert_eq!(host.attach(name).expect("attach"), *address, "{name} after the reboot");
    }
    assert_eq!(two.attach(&two.container(2)).expect("attach"), fresh[0]);
    all_ping(&left[..2]);
    assert!(one.owners().expect("status").iter().any(|owner| owner.name == peer_name(4) && owner.unreachable));
    one.give(3, &[]).expect("a new container while one host is missing");
    four.weave(&["launch"]).expect("launch");
    assert_eq!(four.attach(&four.container(1)).expect("attach"), left[2].1);
    all_ping(&left);
}

/// The same flags and the same list of peers everywhere, oneself included; a peer more; a peer less.
#[test]
#[ignore = "needs root"]
fn uniform_fixed_cluster() {
    let lab = Lab::new(Plan::of("lduni", 4).containers(1)).expect("a Lab");
    let peers = [1, 2, 3].map(at);
    let flags = ["--initial-peer-count", "3", &peers[0], &peers[1], &peers[2]];
    for n in 1..=3 {
        lab.host(n).launch(&flags).expect("launch");
    }
    lab.host(2).weave(&["consense"]).expect("consense");
    for n in 1..=3 {
        let host = lab.host(n);
        host.weave(&["consense"]).expect("it is there, or on its way");
        assert_eq!(owners(host), [1, 2, 3].map(peer_name));
        host.attach(&host.container(1)).expect("attach");
    }
    let reached = |n: usize| {
        let host = lab.host(n);
        (host.container(1), host.address(&host.container(1)).expect("an address"))
    };
    all_ping(&[1, 2, 3].map(reached));

    // A peer more: it knows all, and all learn to dial it after a reboot.
    let four = lab.host(4);
    four.launch(&[&flags[..], &[&at(4)]].concat()).expect("launch");
    for n in 1..=3 {
        lab.host(n).weave(&["connect", &at(4)]).expect("connect");
    }
    four.attach(&four.container(1)).expect("attach");
    all_ping(&[1, 2, 3, 4].map(reached));
    assert!(owners(lab.host(1)).contains(&peer_name(4)));

    // A peer less.
    let two = lab.host(2);
    two.weave(&["reset"]).expect("reset");
    for n in [1, 3, 4] {
        lab.host(n).weave(&["forget", &at(2)]).expect("forget");
        assert_eq!(owners(lab.host(n)), [1, 3, 4].map(peer_name));
    }
    all_ping(&[1, 3, 4].map(reached));
    // A restart of a unit with the flags that it always had.
    let one = lab.host(1);
    one.weave(&["stop"]).expect("stop");
    one.launch(&flags).expect("launch with the same flags");
    assert_eq!(one.weave(&["status", "targets"]).expect("status").lines().count(), 3, "what was edited is kept");
    all_ping(&[1, 3, 4].map(reached));
}

/// Observers join and leave, many at once, and the fixed cluster is not changed, not even its traffic.
#[test]
#[ignore = "needs root"]
fn autoscaling() {
    let lab = Lab::new(Plan::of("ldauto", GUESTS + 3).containers(1)).expect("a Lab");
    let fixed = [1, 2, 3].map(|n| GUESTS + n);
    let peers = fixed.map(at);
    let peers = [&peers[0][..], &peers[1], &peers[2]];
    for n in fixed {
        lab.host(n).launch(&[&["--initial-peer-count", "3"], &peers[..]].concat()).expect("launch");
    }
    lab.host(fixed[0]).weave(&["consense"]).expect("consense");
    for n in fixed {
        lab.host(n).attach(&lab.host(n).container(1)).expect("attach");
    }
    let container = |n: usize| {
        let host = lab.host(n);
        (host.container(1), host.address(&host.container(1)).expect("an address"))
    };
    let load = Load::start(&container(fixed[0]), &container(fixed[2])).expect("traffic");
    let targets = || fixed.map(|n| lab.host(n).weave(&["status", "targets"]).expect("status"));
    let before = targets();
    let goal = container(fixed[1]).1;
    let join = |n: usize| {
        let host = lab.host(n);
        host.launch(&[&["--observer"], &peers[..]].concat()).expect("launch");
        host.attach(&host.container(1)).expect("attach");
        assert!(eventually(SETTLED, || ping(&host.container(1), goal, 1)), "{}", host.connections_text());
    };
    let leave = |n: usize| drop(lab.host(n).weave(&["reset"]).expect("reset"));
    at_once((1..=GUESTS).map(|n| (n, &join as &(dyn Fn(usize) + Sync))));
    let mut all: Vec<_> = (1..=GUESTS + 3).map(|n| container(n).1).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), GUESTS + 3, "an address was given twice");
    // Half of them leave; then the other half while the first comes back; then all.
    let half = GUESTS / 2;
    at_once((1..=half).map(|n| (n, &leave as &(dyn Fn(usize) + Sync))));
    at_once((1..=GUESTS).map(|n| (n, if n <= half { &join as &(dyn Fn(usize) + Sync) } else { &leave })));
    at_once((1..=half).map(|n| (n, &leave as &(dyn Fn(usize) + Sync))));
    for n in fixed {
        let only = || owners(lab.host(n)) == fixed.map(peer_name);
        assert!(eventually(SETTLED, only), "{:?}", lab.host(n).owners());
    }
    assert_eq!(targets(), before, "targets of the fixed cluster");
    load.stop_whole().expect("the fixed cluster's traffic is not disturbed");
}

/// Does all of it at the same time.
fn at_once<'a>(work: impl Iterator<Item = (usize, &'a (dyn Fn(usize) + Sync))>) {
    thread::scope(|scope| work.for_each(|(n, what)| drop(scope.spawn(move || what(n)))));
}

/// Controllers are replaced one by one by those of another version, under traffic that loses nothing.
#[test]
#[ignore = "needs root"]
fn rolling_upgrade() {
    let lab = Lab::ready(Plan::of("ldroll", 3).containers(1)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let version = |host: &Host| host.json(&["status"]).expect("status")["version"].as_str().map(str::to_owned);
    let old = version(lab.host(1)).expect("a version");
    let next = of_another_version(&lab.host(1).run_dir().with_file_name("weave-ctl-next"), &old);
    let loads = [Load::start(&all[0], &all[1]).expect("traffic"), Load::start(&all[1], &all[2]).expect("traffic")];
    for (n, host) in lab.hosts().iter().enumerate() {
        let upgraded = host.with_binary(&next.0);
        host.weave(&["stop"]).expect("stop");
        upgraded.weave(&["launch"]).expect("launch");
        assert_eq!(version(&upgraded).as_ref(), Some(&next.1));
        lab.wait_established(SETTLED).expect("versions work together");
        loads.iter().for_each(|load| load.goes_on().expect("traffic goes on"));
        let (name, given) = upgraded.give(2, &[]).expect("attach");
        for (to, address) in &all {
            assert!(ping(&name, *address, 2), "{name} ({given:?}) to {to} after {} upgrades", n + 1);
        }
    }
    for load in loads {
        load.stop_whole().expect("all of it, once");
    }
    assert_eq!(lab.addresses().expect("addresses").iter().filter(|one| all.contains(one)).count(), all.len());
}

/// The program under test with another version in it, at `path`; and that version.
///
/// A second build would cost minutes: in a copy, each place that holds the version gets one of the same length.
fn of_another_version(path: &Path, old: &str) -> (PathBuf, String) {
    let mut program = fs::read(weave_ctl()).expect("the program");
    let last = old.chars().next_back().expect("a version");
    let next = format!("{}{}", &old[..old.len() - 1], if last == '9' { '8' } else { '9' });
    let mut at = 0;
    while let Some(found) = program[at..].windows(old.len()).position(|bytes| bytes == old.as_bytes()) {
        at += found + old.len();
        program[at - old.len()..at].copy_from_slice(next.as_bytes());
    }
    fs::write(path, program).expect("a copy");
    run(&["chmod", "755", &path.to_string_lossy()]).expect("a program");
    (path.to_owned(), next)
}
