//! Scenarios of the predecessor's integration tests about addresses, under their numbers, in this system's words.
//!
//! What those asserted about Docker containers, names in DNS and exposed hosts is left out: this system has none of these
//! yet. Where this system means to behave otherwise, the scenario says so.

use std::{fs, net::Ipv4Addr};

use weave_tests::lab::{Host, Lab, Plan, SETTLED, cmd::run, eventually, host::ping, underlay, view::peer_name};

/// A Lab without containers and controllers.
fn bare(prefix: &str, hosts: usize) -> Lab {
    Lab::new(Plan::of(prefix, hosts).containers(0)).expect("a Lab")
}

fn at(n: usize) -> String {
    underlay(n).to_string()
}

fn linked(host: &Host, links: usize) {
    assert!(eventually(SETTLED, || host.established() == links), "{}", host.connections_text());
}

fn owned(host: &Host, n: usize) -> u64 {
    let owners = host.owners().expect("status");
    owners.iter().filter(|owner| owner.name == peer_name(n)).map(|owner| owner.addresses).sum()
}

/// The container is attached with the addresses that it should have, on its own interface and in `ps`.
fn has(host: &Host, container: &str, wanted: &[Ipv4Addr]) {
    let shown = host.ps(container).expect("ps").expect("the container");
    let shown: Vec<Ipv4Addr> = shown["addrs"].as_array().expect("addresses").iter().map(bare_address).collect();
    assert_eq!(shown, wanted, "`ps` of {container}");
    let text = run(&["ip", "-n", container, "-o", "-4", "addr", "show", "dev", "ethwe"]).expect("addresses");
    let mut there: Vec<Ipv4Addr> = text
        .split_whitespace()
        .skip_while(|word| *word != "inet")
        .filter_map(|word| word.split_once('/')?.0.parse().ok())
        .collect();
    let mut wanted = wanted.to_vec();
    there.sort();
    wanted.sort();
    assert_eq!(there, wanted, "the interface of {container}");
}

fn bare_address(shown: &serde_json::Value) -> Ipv4Addr {
    let text = shown.as_str().expect("a text");
    text.split('/').next().unwrap_or_default().parse().expect("an address")
}

/// 300_ip_reuse: an address that goes to another container is reached there, also by those who knew it before.
///
/// Beyond the predecessor: the next container is on another host.
#[test]
#[ignore = "needs root"]
fn wn_300_ip_reuse() {
    let lab = Lab::ready(Plan::of("law300", 3).containers(1)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let ((name, address), far) = (&all[0], &all[1].0);
    let (one, three, text) = (lab.host(1), lab.host(3), all[0].1.to_string());
    assert!(ping(far, *address, 2));
    one.weave(&["detach", name]).expect("detach");
    assert!(!ping(far, *address, 1), "a detached address answers");
    let (next, given) = one.give(2, &[&text]).expect("attach");
    assert_eq!(given, [*address]);
    assert!(ping(far, *address, 2), "on the same host");
    // As a second address of a container that has one.
    one.weave(&["detach", &next]).expect("detach");
    let first = Ipv4Addr::from(u32::from(*address) + 5);
    one.weave(&["attach", &first.to_string(), &next]).expect("attach");
    one.weave(&["attach", &text, &next]).expect("attach");
    has(one, &next, &[first, *address]);
    assert!(ping(far, *address, 2) && ping(far, first, 2), "beside another address");
    one.weave(&["detach", &text, &next]).expect("detach");
    let (moved, given) = three.give(2, &[&text]).expect("attach");
    assert_eq!(given, [*address]);
    assert!(eventually(SETTLED, || ping(far, *address, 1)), "on another host");
    assert!(ping(&next, *address, 2) && ping(&moved, first, 2), "between the hosts of the move");
}

/// 320_claim: a fixed address is given after the store was lost, is given to nobody else, and is waited for while its
/// owner is away; one outside the range is given by the peer that decides about it, as soon as that knows what the lost store
/// decided.
#[test]
#[ignore = "needs root"]
fn wn_320_claim() {
    let lab = Lab::ready(Plan::of("law320", 2).containers(1)).expect("a Lab");
    let (one, two) = (lab.host(1), lab.host(2));
    let (name, far) = (one.container(1), two.container(1));
    let (address, beyond) = (one.address(&name).expect("an address"), two.address(&far).expect("an address"));
    one.kill().expect("kill");
    fs::remove_dir_all(one.state_dir()).expect("the store is lost");
    lab.launch(1, &[&at(2)]).expect("launch");
    linked(one, 1);
    assert!(one.ps(&name).expect("ps").is_none(), "a new store knows a container");
    let (next, given) = one.give(2, &[&address.to_string()]).expect("attach");
    assert_eq!(given, [address], "claimed again");
    assert!(eventually(SETTLED, || ping(&next, beyond, 1)));
    let taken = one.refused(&["attach", &address.to_string(), &name], 1).expect("refused");
    assert!(taken.contains("already in use by") && taken.contains(&next), "{taken}");
    for c in 3..6 {
        assert_ne!(one.give(c, &[]).expect("attach").1, [address], "given twice");
    }

    let outside = one.add_container(8).expect("a container");
    let granted = || one.weave(&["attach", "10.99.1.7/24", &outside]).is_ok_and(|said| said == "10.99.1.7\n");
    assert!(eventually(SETTLED * 2, granted));
    let of_two = Ipv4Addr::from(u32::from(beyond) + 100).to_string();
    two.weave(&["stop"]).expect("stop");
    one.begin_to_give(6, &[&of_two]).and_then(|mut claim| claim.waits().and(claim.give_up())).expect("it waits");
    let mut claim = one.begin_to_give(7, &[&of_two]).expect("attach");
    claim.waits().expect("its owner is away");
    assert!(one.ipam_state().expect("status").contains(&of_two), "{}", one.ipam_state().expect("status"));
    two.weave(&["launch"]).expect("launch");
    assert_eq!(claim.granted().expect("its owner is back").to_string(), of_two);
    assert!(eventually(SETTLED, || ping(&one.container(7), beyond, 1)));
}

/// 330_reset: peers leave and come back one after the other, and the whole range stays in use.
#[test]
#[ignore = "needs root"]
fn wn_330_reset() {
    let lab = bare("law330", 2);
    for n in [1, 2] {
        let other = at(3 - n);
        lab.host(n).launch(&["--initial-peer-count", "2", &other]).expect("launch");
    }
    let size = 1 << 20;
    for n in [1, 2] {
        let (host, heir) = (lab.host(n), lab.host(3 - n));
        host.give(1, &[]).expect("attach");
        assert_eq!(owned(heir, 1) + owned(heir, 2), size, "{:?}", heir.owners());
        host.weave(&["reset"]).expect("reset");
        assert_eq!(owned(heir, 3 - n), size, "handed over before `reset` returns: {:?}", heir.owners());
        host.launch(&["--initial-peer-count", "2", &at(3 - n)]).expect("launch");
        run(&["ip", "netns", "del", &host.container(1)]).expect("the container ends");
        let (name, given) = host.give(1, &[]).expect("attach after a reset");
        let (other, _) = heir.give(8 + n, &[]).expect("attach");
        assert!(eventually(SETTLED, || ping(&other, given[0], 1)), "{name} is not reached");
    }
}

/// 335_rmpeer: a dead peer's addresses are taken over, and all that are left can give addresses again.
///
/// Beyond the predecessor: a peer that is alive is not removed, and one that was removed and returns is told so, gives no
/// address, and joins anew after `reset`.
#[test]
#[ignore = "needs root"]
fn wn_335_rmpeer() {
    let lab = bare("law335", 3);
    let [one, two, three] = [1, 2, 3].map(|n| lab.host(n));
    one.launch(&[]).expect("launch");
    let of_one = one.give(1, &[]).expect("a network of one").1[0];
    two.launch(&[&at(1)]).expect("launch");
    three.launch(&[&at(1)]).expect("launch");
    linked(two, 2);
    let alive = two.refused(&["rmpeer", "host-1"], 1).expect("refused");
    assert!(alive.contains("is alive") && alive.contains("reset") && alive.contains("nothing was changed"), "{alive}");
    lab.lose(1).expect("a host dies");
    let dead = || two.owners().is_ok_and(|all| all.iter().all(|owner| owner.unreachable));
    assert!(eventually(SETTLED * 2, dead), "{:?}", two.owners());
    let mut waiting = three.begin_to_give(1, &[]).expect("attach");
    waiting.waits().expect("the only owner is dead");
    let state = three.ipam_state().expect("status");
    assert!(state.contains("unreachable peers") && state.contains("rmpeer"), "{state}");

    let said = two.weave(&["rmpeer", "host-1"]).expect("rmpeer");
    assert_eq!(said, format!("1048576 IPs taken over from {} by {}\n", peer_name(1), peer_name(2)));
    let given = [two.give(1, &[]).expect("attach").1[0], waiting.granted().expect("granted")];
    assert_ne!(given[0], given[1]);
    assert!(eventually(SETTLED, || ping(&two.container(1), given[1], 1)));
    let again = two.refused(&["rmpeer", "::1"], 1).expect("refused");
    assert!(again.contains("owns no addresses"), "{again}");

    lab.set_wires(1, true).expect("the dead returns");
    one.weave(&["launch"]).expect("launch");
    assert!(eventually(SETTLED, || one.warnings().is_ok_and(|w| w.contains("was removed from the network"))));
    one.add_container(2).expect("a container");
    let told = one.refused(&["attach", &one.container(2)], 1).expect("refused");
    assert!(told.contains("removed") && told.contains("rmpeer") && told.contains("weave-ctl reset"), "{told}");
    one.weave(&["reset"]).expect("reset");
    one.launch(&[&at(2)]).expect("launch");
    let fresh = one.attach(&one.container(2)).expect("attach");
    assert!(!given.contains(&fresh), "{fresh} was given twice; before: {of_one}");
    assert!(eventually(SETTLED, || ping(&one.container(2), given[0], 1)), "{}", one.connections_text());
}

/// 340_observers_cannot_vote: an observer makes no quorum.
#[test]
#[ignore = "needs root"]
fn wn_340_observers_cannot_vote() {
    let lab = bare("law340", 3);
    let [one, two, three] = [1, 2, 3].map(|n| lab.host(n));
    one.launch(&["--ipalloc-init", "consensus=2"]).expect("launch");
    two.launch(&["--ipalloc-init", "observer", &at(1)]).expect("launch");
    linked(one, 1);
    let mut waiting = one.begin_to_give(1, &[]).expect("attach");
    waiting.waits().expect("one of two electors");
    let state = one.ipam_state().expect("status");
    assert_eq!(state, "awaiting consensus: 1 of 2 electors known (quorum: 2)");
    three.launch(&["--ipalloc-init", "consensus=2", &at(1)]).expect("launch");
    waiting.granted().expect("both electors");
    let mut names: Vec<String> = one.owners().expect("status").into_iter().map(|owner| owner.name).collect();
    names.sort();
    assert_eq!(names, [peer_name(1), peer_name(3)], "the observer owns nothing by the election");
    two.give(1, &[]).expect("the observer is served");
}

/// 350_observers_can_call_election: electors do nothing until an address is needed, and an observer's need is one.
#[test]
#[ignore = "needs root"]
fn wn_350_observers_can_call_election() {
    let lab = bare("law350", 3);
    for n in [1, 2] {
        lab.host(n).launch(&["--initial-peer-count", "2", &at(1)]).expect("launch");
    }
    lab.host(3).launch(&["--observer", &at(1)]).expect("launch");
    lab.wait_established(SETTLED).expect("links");
    for n in [1, 2] {
        let host = lab.host(n);
        assert_eq!(host.owners().expect("status"), [], "an election that nobody needed");
        let state = host.ipam_state().expect("status");
        assert_eq!(state, "idle; awaiting consensus: 2 of 2 electors known (quorum: 2)");
    }
    let (name, given) = lab.host(3).give(1, &[]).expect("attach");
    let (_, other) = lab.host(1).give(1, &[]).expect("attach");
    assert_ne!(given, other);
    assert!(eventually(SETTLED, || ping(&name, other[0], 1)));
}

/// 360_ipalloc_seed_mismatch: networks seeded apart that meet do not mix; both go on, and say so.
#[test]
#[ignore = "needs root"]
fn wn_360_ipalloc_seed_mismatch() {
    let lab = bare("law360", 3);
    let [one, two, three] = [1, 2, 3].map(|n| lab.host(n));
    one.launch(&["--seed", "::1,::3"]).expect("launch");
    two.launch(&["--seed", "::2"]).expect("launch");
    for host in [one, two] {
        host.give(1, &[]).expect("attach");
    }
    three.launch(&["--seed", "::1,::3", &at(1), &at(2)]).expect("launch");
    three.give(1, &[]).expect("attach");
    for (host, other) in [(two, 1), (three, 2)] {
        let told = || host.warnings().is_ok_and(|w| w.contains("seeded by different peers") && w.contains("`reset`"));
        assert!(eventually(SETTLED, told), "nothing of peer {other}: {:?}", host.warnings());
        assert!(host.weave(&["status"]).expect("status").contains("Warning: "));
    }
    for host in [one, two, three] {
        host.give(2, &[]).expect("both networks go on");
    }
    let names = |host: &Host| -> Vec<String> { host.owners().expect("status").into_iter().map(|o| o.name).collect() };
    assert_eq!(names(two), [peer_name(2)], "the rings stay apart");
    assert!(eventually(SETTLED, || ping(&one.container(1), three.address(&three.container(1)).expect("one"), 1)));
}

/// 362_ipalloc_range_change: there, a relaunch with another range silently dropped everything known. Here it is refused
/// with the difference and the way out, which works.
#[test]
#[ignore = "needs root"]
fn wn_362_ipalloc_range_change() {
    let lab = bare("law362", 1);
    let host = lab.host(1);
    host.launch(&["--ipalloc-range", "10.2.0.0/16"]).expect("launch");
    let given = host.give(1, &[]).expect("attach").1;
    assert_eq!(given[0].octets()[..2], [10, 2]);
    host.weave(&["stop"]).expect("stop");
    let other = ["launch", "--ipalloc-range", "10.128.0.0/10"];
    let refused = host.refused(&other, 1).expect("refused");
    for word in ["10.2.0.0/16", "10.128.0.0/10", "nothing was changed", "`reset` first"] {
        assert!(refused.contains(word), "nothing of {word}: {refused}");
    }
    host.launch(&[]).expect("launch as before");
    has(host, &host.container(1), &given);
    host.weave(&["stop"]).expect("stop");
    host.weave(&["reset", "--force"]).expect("reset");
    host.weave(&other).expect("launch");
    let fresh = host.attach(&host.container(1)).expect("attach");
    assert_eq!(fresh.octets()[0], 10);
    assert!(fresh.octets()[1] >= 128, "{fresh} is of the former range");
}

/// 370_persist_ipam: after a restart only what was freed is given again, also while the other peer is away.
#[test]
#[ignore = "needs root"]
fn wn_370_persist_ipam() {
    let lab = bare("law370", 2);
    let [one, two] = [1, 2].map(|n| lab.host(n));
    one.launch(&["--initial-peer-count", "2"]).expect("launch");
    two.launch(&["--initial-peer-count", "2", &at(1)]).expect("launch");
    let kept: Vec<_> = (1..=4).map(|c| one.give(c, &[]).expect("attach")).collect();
    let of_two = two.give(1, &[]).expect("attach").1[0];
    one.weave(&["detach", &kept[1].0]).expect("detach");
    two.weave(&["stop"]).expect("stop");
    one.weave(&["stop"]).expect("stop");
    one.weave(&["launch"]).expect("launch");
    let freed = &kept[1].1;
    assert_eq!(one.give(5, &[]).expect("attach").1, *freed, "the freed one is given again");
    let fresh = one.give(6, &[]).expect("attach").1;
    assert!(kept.iter().all(|(_, given)| *given != fresh) && fresh != [of_two], "{fresh:?} was given twice");
    for (name, given) in kept.iter().filter(|(_, given)| given != freed) {
        has(one, name, given);
        assert!(ping(&one.container(6), given[0], 1), "{name} is disturbed");
    }
    two.weave(&["launch"]).expect("launch");
    has(two, &two.container(1), &[of_two]);
    assert!(eventually(SETTLED, || ping(&two.container(1), fresh[0], 1)));
}

/// 380_ipam_seed: seeds give addresses at once, before they are connected; then they are one network.
///
/// There, another name at relaunch silently dropped everything known. Here it is refused with the difference.
#[test]
#[ignore = "needs root"]
fn wn_380_ipam_seed() {
    let lab = bare("law380", 2);
    let [one, two] = [1, 2].map(|n| lab.host(n));
    for host in [one, two] {
        host.launch(&["--ipalloc-init", "seed=::1,::2"]).expect("launch");
    }
    let (near, far) = (one.give(1, &[]).expect("attach"), two.give(1, &[]).expect("attach"));
    assert_ne!(near.1, far.1);
    assert!(!ping(&near.0, far.1[0], 1), "strangers reach each other");
    one.weave(&["connect", &at(2)]).expect("connect");
    assert!(eventually(SETTLED, || ping(&near.0, far.1[0], 1)), "{}", one.connections_text());
    one.weave(&["stop"]).expect("stop");
    let refused = one.refused(&["launch", "--name", "::9"], 1).expect("refused");
    for word in [&peer_name(1), &peer_name(9), "nothing was changed", "`reset` first"] {
        assert!(refused.contains(word), "nothing of {word}: {refused}");
    }
    one.weave(&["launch"]).expect("launch");
    has(one, &near.0, &near.1);
}

/// 390_peer_name: the name stays over every restart, also when the host's devices are lost.
///
/// There, a `reset` gave a new name. Here the name is the machine's, and it is the store's own id that is new.
#[test]
#[ignore = "needs root"]
fn wn_390_peer_name() {
    let lab = bare("law390", 1);
    let host = lab.host(1);
    let who = || {
        let status = host.json(&["status"]).expect("status");
        ["name", "uid"].map(|what| status[what].as_str().expect("a text").to_owned())
    };
    host.weave(&["launch"]).expect("launch");
    let before = who();
    assert!(before[0].starts_with(|c: char| c.is_ascii_hexdigit()) && before[0].len() == 17, "{before:?}");
    for how in ["stop", "kill", "teardown", "lost devices"] {
        match how {
            "stop" => drop(host.weave(&["stop"]).expect("stop")),
            "kill" => host.kill().expect("kill"),
            "teardown" => drop(host.weave(&["stop", "--teardown"]).expect("stop")),
            _ => {
                host.kill().expect("kill");
                run(&["ip", "-n", host.netns(), "link", "del", "weave-6784"]).expect("the socket device is lost");
            }
        }
        host.weave(&["launch"]).expect("launch");
        assert_eq!(who(), before, "after {how}");
    }
    host.give(1, &[]).expect("attach");
    let refused = host.refused(&["reset"], 1).expect("refused");
    assert!(refused.contains("no peer is in reach") && refused.contains("reset --force"), "{refused}");
    assert_eq!(who(), before, "a refused reset");
    host.weave(&["reset", "--force"]).expect("reset");
    host.weave(&["launch"]).expect("launch");
    assert_ne!(who()[1], before[1], "a store is remembered after a reset");
}

/// 500_weave_multi_cidr: several addresses and subnets at once, in every output alike.
///
/// Left out: `expose`, `hide`.
#[test]
#[ignore = "needs root"]
fn wn_500_multi_cidr() {
    let range = ["--ipalloc-range", "10.2.0.0/16", "--ipalloc-default-subnet", "10.2.1.0/24"];
    let lab = bare("law500", 2);
    let [one, two] = [1, 2].map(|n| lab.host(n));
    one.launch(&range).expect("launch");
    one.weave(&["consense"]).expect("consense");
    two.launch(&[&range[..], &[&at(1)]].concat()).expect("launch");
    let all = ["10.2.3.4/24", "ip:10.2.4.5/24", "net:10.2.2.0/24", "net:default", "ip:10.3.0.1/24"];
    let (name, given) = one.give(1, &all).expect("attach");
    let fixed = [[10, 2, 3, 4], [10, 2, 4, 5], [10, 3, 0, 1]].map(Ipv4Addr::from);
    assert_eq!([given[0], given[1], given[4]], fixed, "in the order asked for: {given:?}");
    assert_eq!([given[2].octets()[2], given[3].octets()[2]], [2, 1], "{given:?}");
    has(one, &name, &given);
    assert_eq!(one.weave(&["attach", "net:10.2.2.0/24", &name]).expect("attach").split_whitespace().count(), 5);
    let (far, _) = two.give(1, &["net:default", "net:10.2.2.0/24", "10.2.4.9/24", "10.3.0.2/24"]).expect("attach");
    for address in [given[1], given[2], given[3], given[4]] {
        assert!(eventually(SETTLED, || ping(&far, address, 1)), "{address} is not reached");
    }
    let (text, freed) = (given[2].to_string(), given[2]);
    let said = one.weave(&["detach", &text, "10.2.3.4", &name]).expect("detach");
    assert_eq!(said, format!("10.2.3.4 {text}\n"));
    let left = [given[1], given[3], given[4]];
    has(one, &name, &left);
    assert_eq!(one.give(2, &["net:10.2.2.0/24"]).expect("attach").1, [freed], "a freed address is given again");
    for (wrong, word) in [("net:10.2.2.1/30", "10.2.2.0/30"), ("net:10.2.2.0/31", "at least a /30")] {
        let refused = one.refused(&["attach", wrong, &name], 2).expect("refused");
        assert!(refused.contains(word), "nothing of {word}: {refused}");
    }
    has(one, &name, &left);
    let words: Vec<String> = left.iter().map(ToString::to_string).collect();
    assert_eq!(one.weave(&["detach", &name]).expect("detach"), words.join(" ") + "\n");
    assert!(one.ps(&name).expect("ps").is_none());
}

/// 510_detach_hide_no_ipalloc: neither `detach` nor `hide` waits for a ring; an address outside the range does: the ring decides
/// about it.
#[test]
#[ignore = "needs root"]
fn wn_510_detach_no_ipalloc() {
    let lab = bare("law510", 1);
    let host = lab.host(1);
    host.launch(&["--initial-peer-count", "3"]).expect("launch");
    let mut waiting =
        [host.begin_to_give(1, &["10.99.0.5/24"]), host.begin_to_give(2, &[])].map(|w| w.expect("attach"));
    waiting.iter_mut().for_each(|attach| attach.waits().expect("there is no ring"));
    for container in [1, 2].map(|c| host.container(c)) {
        let refused = host.refused(&["detach", &container], 1).expect("refused");
        assert!(refused.contains("is not attached"), "{refused}");
    }
    assert_eq!(host.weave(&["hide"]).expect("nothing to be hidden"), "");
    for mut attach in waiting {
        attach.waits().expect("there is no ring");
        attach.give_up().expect("the caller goes away");
    }
}

/// A network in which nobody may elect says so, with the remedy, which works.
#[test]
#[ignore = "needs root"]
fn where_nobody_elects_the_remedy_is_said_and_works() {
    let lab = bare("lawnone", 2);
    let [one, two] = [1, 2].map(|n| lab.host(n));
    one.launch(&[]).expect("launch");
    two.launch(&[&at(1)]).expect("launch");
    linked(two, 1);
    let mut waiting = [one, two].map(|host| host.begin_to_give(1, &[]).expect("attach"));
    waiting.iter_mut().for_each(|attaching| attaching.waits().expect("nobody may elect"));
    for host in [one, two] {
        let shown = host.weave(&["status"]).expect("status");
        assert!(shown.contains("awaiting the ring of another peer; when none has one, `stop` one peer"), "{shown}");
    }
    let [first, second] = waiting;
    first.give_up().expect("the caller goes away");
    one.weave(&["stop"]).expect("stop");
    one.weave(&["launch", "--initial-peer-count", "1"]).expect("launch");
    one.weave(&["consense"]).expect("consense");
    second.granted().expect("there is a ring");
}
