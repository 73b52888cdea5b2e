//! Names while somebody does harm: a flood of questions, resolvers that ask each other, strangers; and a name that eight hosts
//! hear of.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, UdpSocket},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use weave_ctl::shell::netns::in_netns;
use weave_tests::lab::{
    Host, Lab, Plan,
    cmd::{output, run, text},
    eventually,
    flood::controller_time,
    measure::{measured, measured_time, rounds},
    underlay,
};

use super::dns::{KNOWN, SERVICE, attach_as, becomes, found, status};

/// What the question of a container is answered: addresses, or nothing in time.
fn answered(container: &str, message: &[u8]) -> bool {
    in_netns(format!("/run/netns/{container}"), || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a limit");
        socket.connect((SERVICE, 53)).expect("connected");
        let mut answer = [0; 512];
        // It may be dropped on its way: the test counts.
        socket.send(message).is_ok() && socket.recv(&mut answer).is_ok_and(|length| length > message.len())
    })
    .expect("a namespace")
}

/// A question for `web.weave.local`, with an EDNS option that only the resolver answers if `odd`.
fn question(odd: bool) -> Vec<u8> {
    let head = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(odd)];
    let opt: &[u8] = if odd { b"\0\0\x29\x04\xd0\0\0\0\0\0\x0c\0\x0a\0\x08weave-ok" } else { b"" };
    [&head[..], b"\x03web\x05weave\x05local\0\0\x01\0\x01", opt].concat()
}

fn dropped(host: &Host, reason: &str) -> u64 {
    let status = host.json(&["status"]).expect("status");
    let drops = status["dataplane"]["drops"].as_array().expect("drops").clone();
    drops.iter().find(|drop| drop["reason"] == reason).and_then(|drop| drop["packets"].as_u64()).unwrap_or(0)
}

#[test]
#[ignore = "needs root"]
fn a_flood_of_questions_starves_nobody_else() {
    let lab = Lab::ready(Plan::of("ldnsflood", 1).containers(2)).expect("a Lab");
    let (host, flooding, asking) = (lab.host(1), lab.host(1).container(1), lab.host(1).container(2));
    host.weave(&["dns-add", "192.0.2.1", "-H", "web"]).expect("dns-add");
    becomes(&asking, "web.weave.local", &["192.0.2.1"]);
    let (over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let flood = || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.connect((SERVICE, 53)).expect("connected");
        let message = question(true);
        while !over.load(Ordering::Relaxed) {
            sent.fetch_add(u64::from(socket.send(&message).is_ok()), Ordering::Relaxed);
        }
    };
    let (used, began) = (|| controller_time(host).expect("a controller"), Instant::now());
    let before = used();
    let counts = thread::scope(|scope| {
        scope.spawn(|| in_netns(format!("/run/netns/{flooding}"), flood).expect("a namespace"));
        thread::sleep(Duration::from_secs(1));
        let counts = [true, false].map(|odd| (0..100).filter(|_| answered(&asking, &question(odd))).count());
        over.store(true, Ordering::Relaxed);
        counts
    });
    let (time, sent) = (began.elapsed().as_secs_f64(), sent.into_inner());
    measured("flood-of-questions", (sent as f64 / time).round(), "1/s");
    measured("flood-of-questions-controller", (used() - before).as_secs_f64() / time, "cores");
    assert_eq!(counts, [100, 100], "answers of the resolver and of the kernel");
    let passed = sent - dropped(host, "question-limit");
    let most = 2000.0 + 1000.0 * time;
    assert!(passed as f64 <= most, "{passed} of {sent} questions reached the resolver, may {most}");
    assert!(eventually(KNOWN, || answered(&flooding, &question(true))), "it is answered again");
}

/// What dig says in the namespace of a host, asked from one of its addresses.
fn dig_from(host: &Host, from: Ipv4Addr, server: Ipv4Addr, args: &[&str]) -> String {
    let (net, server, from) = (format!("--net=/run/netns/{}", host.netns()), format!("@{server}"), from.to_string());
    let words = [&["nsenter", &net, "dig", "+time=3", "+tries=1", "-b", &from, &server], args].concat();
    text(&output(&words).expect("dig"))
}

/// Field report F4 (c): two resolvers that each ask the other; and who may ask on a host's own address.
#[test]
#[ignore = "needs root"]
fn resolvers_that_ask_each_other_end_and_strangers_are_refused() {
    let [one, two] = [1, 2].map(|n| underlay(n).to_string());
    let plan = Plan::of("ldnsloop", 2)
        .containers(1)
        .host(1, &["--dns-listen", &one, "--dns-upstream", &two])
        .host(2, &["--dns-listen", &two, "--dns-upstream", &one]);
    let lab = Lab::ready(plan).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let name = format!("{}.weave.local", all[1].0);
    becomes(&all[0].0, &name, &[all[1].1]);
    let sent = |host: &Host| {
        let rules = run(&["ip", "netns", "exec", host.netns(), "nft", "list", "table", "ip", "counted"]).expect("nft");
        let count = rules.split("packets ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
        count.expect("a counter")
    };
    for host in lab.hosts() {
        let rules = "add table ip counted; add chain ip counted out { type filter hook output priority 0; }; \
                     add rule ip counted out udp dport 53 counter";
        run(&["ip", "netns", "exec", host.netns(), "nft", rules]).expect("nft");
    }
    let began = Instant::now();
    let code = status(&all[0].0, &["example.com"]);
    measured_time("loop-of-resolvers-told", began.elapsed());
    assert_eq!(code, "SERVFAIL");
    thread::sleep(Duration::from_secs(5));
    let packets: u64 = lab.hosts().iter().map(sent).sum();
    measured("loop-of-resolvers", packets, "packets");
    assert!((1..10).contains(&packets), "{packets} packets");
    // On the host's address: a neighbour is answered, a stranger is not.
    let (neighbour, stranger) = (underlay(2), Ipv4Addr::new(203, 0, 113, 5));
    let said = dig_from(lab.host(2), neighbour, underlay(1), &["+short", &name]);
    assert_eq!(said.trim(), all[1].1.to_string());
    run(&["ip", "-n", lab.host(2).netns(), "addr", "add", "203.0.113.5/32", "dev", "lo"]).expect("an address");
    run(&["ip", "-n", lab.host(1).netns(), "route", "add", "203.0.113.5", "via", &two]).expect("a route");
    for question in [name.as_str(), "example.com"] {
        let said = dig_from(lab.host(2), stranger, underlay(1), &[question]);
        assert!(said.contains("status: REFUSED") && said.contains("ANSWER: 0"), "{said}");
    }
}

/// The predecessor's 280.
#[test]
#[ignore = "needs root"]
fn names_280_are_of_those_that_want_one() {
    let lab = Lab::ready(Plan::of("ldnswith", 1).containers(2)).expect("a Lab");
    let (host, asking) = (lab.host(1), lab.host(1).container(1));
    let other = host.container(2);
    let name = format!("{other}.weave.local");
    let addr = host.address(&other).expect("an address");
    becomes(&asking, &name, &[addr]);
    host.weave(&["detach", &other]).expect("detach");
    host.weave(&["attach", "--without-dns", "--add-host", "fixed.example:192.0.2.9", &other]).expect("attach");
    becomes::<Ipv4Addr>(&asking, &name, &[]);
    assert_eq!(status(&asking, &[&name]), "NXDOMAIN");
    // What stands in its hosts file it finds all the same.
    let said = run(&["ip", "netns", "exec", &other, "getent", "hosts", "fixed.example"]).expect("getent");
    assert!(said.contains("192.0.2.9"), "{said}");
}

#[test]
#[ignore = "needs root"]
fn a_name_is_known_to_eight_hosts_soon_and_gone_soon() {
    let lab = Lab::ready(Plan::of("ldnseight", 8).containers(1)).expect("a Lab");
    let askers: Vec<String> = lab.hosts().iter().map(|host| host.container(1)).collect();
    let everywhere = |expected: &BTreeSet<String>| {
        let began = Instant::now();
        let one = |container: &String| {
            let seen = eventually(KNOWN, || found(container, &["+nocookie", "new.weave.local"]) == *expected);
            assert!(seen, "{container} finds {:?}", found(container, &["+nocookie", "new.weave.local"]));
        };
        thread::scope(|scope| askers.iter().for_each(|asker| drop(scope.spawn(|| one(asker)))));
        began.elapsed()
    };
    for round in 0..rounds(3) {
        let host = lab.host(1 + round % 8);
        let container = host.add_container(2).expect("a container");
        let addr = attach_as(host, &container, "new");
        measured_time("new-name-known-to-eight", everywhere(&BTreeSet::from([addr.to_string()])));
        host.weave(&["detach", &container]).expect("detach");
        measured_time("removed-name-unknown-to-eight", everywhere(&BTreeSet::new()));
        run(&["ip", "netns", "del", &container]).expect("removed");
    }
}
