//! Names, asked for as containers do. The numbers in the names of tests are those of the predecessor's tests.

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    thread,
    time::Duration,
};

use weave_ctl::shell::netns::in_netns;
use weave_tests::lab::{
    Host, Lab, Plan, SETTLED,
    cmd::{output, run, text},
    eventually,
    faults::Traffic,
    host::ping,
    underlay,
};

/// Time within which a change is known to all.
pub(crate) const KNOWN: Duration = Duration::from_secs(3);
/// The service address of the default range.
pub(crate) const SERVICE: &str = "10.47.255.254";

/// What dig prints in a container, also when nothing was found.
fn dig(container: &str, args: &[&str]) -> String {
    let net = format!("--net=/run/netns/{container}");
    let server = format!("@{SERVICE}");
    let words = [&["nsenter", &net, "dig", "+time=2", "+tries=1", &server], args].concat();
    text(&output(&words).expect("dig"))
}

/// The addresses of a name, as a container is answered.
pub(crate) fn found(container: &str, args: &[&str]) -> BTreeSet<String> {
    let short = [&["+short"], args].concat();
    dig(container, &short).lines().map(str::to_owned).collect()
}

pub(crate) fn status(container: &str, args: &[&str]) -> String {
    let said = dig(container, args);
    let status = said.split("status: ").nth(1).and_then(|rest| rest.split(',').next());
    status.unwrap_or_else(|| panic!("no status in {said}")).to_owned()
}

fn set<T: ToString>(addrs: &[T]) -> BTreeSet<String> {
    addrs.iter().map(ToString::to_string).collect()
}

/// Waits until a name has these addresses, asked by a container.
pub(crate) fn becomes<T: ToString>(container: &str, name: &str, addrs: &[T]) {
    let expected = set(addrs);
    let seen = eventually(KNOWN, || found(container, &[name]) == expected);
    assert!(seen, "{name} is {:?} for {container}, and should be {expected:?}", found(container, &[name]));
}

/// Attaches a container under this name; its address.
pub(crate) fn attach_as(host: &Host, container: &str, name: &str) -> Ipv4Addr {
    let said = host.weave(&["attach", "--hostname", name, container]).expect("attach");
    said.trim().parse().expect("an address")
}

#[test]
#[ignore = "needs root"]
fn names_200_of_containers_host_and_files() {
    let lab = Lab::ready(Plan::of("ldns", 2).containers(1)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let (one, two) = (&all[0].0, &all[1].0);
    becomes(one, &format!("{two}.weave.local"), &[all[1].1]);
    becomes(two, &format!("{one}.weave.local"), &[all[0].1]);
    // The host itself, by two names.
    let host: Ipv4Addr = lab.host(1).weave(&["expose", "-H", "gate"]).expect("expose").trim().parse().expect("one");
    lab.host(1).weave(&["expose", "-H", "gate2.weave.local"]).expect("expose");
    for name in ["gate.weave.local", "gate2.weave.local"] {
        becomes(two, name, &[host]);
    }
    // Files of a new container; `ip netns exec` shows them to it.
    let third = lab.host(1).add_container(2).expect("a container");
    let files = format!("/etc/netns/{third}");
    let attach = ["attach", "--rewrite-hosts", "--rewrite-resolv", "--add-host", "printer:192.0.2.9", &third];
    lab.host(1).weave(&attach).expect("attach");
    let inside = |name: &str| text(&output(&["ip", "netns", "exec", &third, "getent", "hosts", name]).expect("getent"));
    assert!(inside("printer").starts_with("192.0.2.9"), "{}", inside("printer"));
    assert!(inside("gate").starts_with(&host.to_string()), "by the search domain: {}", inside("gate"));
    fs::remove_dir_all(files).expect("removed");
    let shown = lab.host(2).weave(&["status", "dns"]).expect("status");
    assert!(
        shown.starts_with("NAME") && shown.contains("gate2.weave.local") && shown.contains("weave:expose"),
        "{shown}"
    );
    let summary = lab.host(2).weave(&["status"]).expect("status");
    assert!(summary.contains("Service: dns") && summary.contains(SERVICE), "{summary}");
}

#[test]
#[ignore = "needs root"]
fn names_205_are_not_answered_without_dns() {
    let lab = Lab::ready(Plan::of("ldnsoff", 1).containers(1).launch(&["--no-dns"])).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    assert_eq!(lab.host(1).weave(&["dns-args"]).expect("dns-args").trim(), "");
    assert!(dig(&all[0].0, &["web.weave.local"]).contains("no servers could be reached"));
    assert!(!ping(&all[0].0, SERVICE.parse().expect("an address"), 1));
    lab.host(1).weave(&["stop"]).expect("stop");
    lab.host(1).launch(&[]).expect("launch");
    assert_eq!(
        lab.host(1).weave(&["dns-args"]).expect("dns-args").trim(),
        "--dns 10.47.255.254 --dns-search weave.local"
    );
    becomes(&all[0].0, &format!("{}.weave.local", all[0].0), &[all[0].1]);
}

#[test]
#[ignore = "needs root"]
fn names_210_of_several_hosts_come_and_go() {
    let lab = Lab::ready(Plan::of("ldnsmany", 3).containers(2)).expect("a Lab");
    let asking = lab.host(1).container(2);
    let name = "shared.weave.local";
    for _ in 0..3 {
        let mut addrs = Vec::new();
        for host in lab.hosts() {
            host.weave(&["detach", &host.container(1)]).expect("detach");
            addrs.push(attach_as(host, &host.container(1), "shared"));
        }
        becomes(&asking, name, &addrs);
        lab.host(2).weave(&["dns-add", "10.32.77.7", &lab.host(2).container(1), "-H", "shared"]).expect("dns-add");
        let with = [&addrs[..], &["10.32.77.7".parse().expect("an address")]].concat();
        becomes(&asking, name, &with);
        for host in lab.hosts() {
            host.weave(&["detach", &host.container(1)]).expect("detach");
        }
        becomes::<Ipv4Addr>(&asking, name, &[]);
        assert_eq!(status(&asking, &[name]), "NXDOMAIN");
        for host in lab.hosts() {
            host.attach(&host.container(1)).expect("attach");
        }
    }
}

#[test]
#[ignore = "needs root"]
fn names_215_that_went_during_a_partition_stay_away() {
    let lab = Lab::ready(Plan::of("ldnscut", 3).containers(1)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let name = format!("{}.weave.local", all[0].0);
    becomes(&all[2].0, &name, &[all[0].1]);
    for other in [1, 2] {
        lab.block(3, other, Traffic::All).expect("a fault");
    }
    lab.host(1).kill().expect("kill");
    lab.launch_planned(1).expect("launch");
    lab.host(1).weave(&["detach", &all[0].0]).expect("detach");
    becomes::<Ipv4Addr>(&all[1].0, &name, &[]);
    assert_eq!(found(&all[2].0, &[&name]), set(&[all[0].1]), "it has not heard of it");
    for other in [1, 2] {
        lab.unblock(3, other).expect("healed");
    }
    let gone = |container: &str| found(container, &[&name]).is_empty();
    assert!(eventually(SETTLED * 3, || gone(&all[2].0)));
    thread::sleep(Duration::from_secs(2));
    for (container, _) in &all[1..] {
        assert!(gone(container), "it came back: {}", dig(container, &[&name]));
    }
}

#[test]
#[ignore = "needs root"]
fn names_220_225_230_in_domains_of_ones_own() {
    let lab =
        Lab::ready(Plan::of("ldnsdom", 2).containers(2).launch(&["--dns-domain", "Corp.Example."])).expect("a Lab");
    let (one, two) = (lab.host(1), lab.host(2));
    let asking = two.container(2);
    let web = attach_as(one, &one.container(1), "web.team.corp.example");
    let db = attach_as(one, &one.container(2), "db.other");
    for name in ["web.team.corp.example", "web.team.corp.example.", "WEB.team.CORP.example"] {
        becomes(&asking, name, &[web]);
    }
    becomes(&asking, "db.other.corp.example", &[db]);
    assert_eq!(status(&asking, &["team.corp.example"]), "NOERROR", "a name above a name");
    assert_eq!(status(&asking, &["web.corp.example"]), "NXDOMAIN");
    let searched = found(&asking, &["+search", "+domain=team.corp.example", "web"]);
    assert_eq!(searched, set(&[web]));
    let refused = two.refused(&["attach", "--hostname", "www.example.org.", &two.container(1)], 1).expect("refused");
    assert!(refused.contains("not in the domain corp.example"), "{refused}");
    let long = "x".repeat(64);
    let refused = two.refused(&["attach", "--hostname", &long, &two.container(1)], 1).expect("refused");
    assert!(refused.contains("more than 63 letters"), "{refused}");
    attach_as(two, &two.container(1), &long[..63]);
    becomes(&asking, &format!("{}.corp.example", &long[..63]), &[two.address(&two.container(1)).expect("an address")]);
}

#[test]
#[ignore = "needs root"]
fn names_240_are_added_and_removed() {
    let lab = Lab::ready(Plan::of("ldnsadd", 2).containers(1)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let (host, asking) = (lab.host(1), &all[1].0);
    let own = &all[0].0;
    host.weave(&["dns-add", own, "-H", "alias"]).expect("dns-add");
    becomes(asking, "alias.weave.local", &[all[0].1]);
    let second = "10.32.8.8";
    host.weave(&["attach", second, own]).expect("attach");
    becomes(asking, "alias.weave.local", &[all[0].1.to_string(), second.to_owned()]);
    host.weave(&["dns-remove", second, own, "-H", "alias"]).expect("dns-remove");
    becomes(asking, "alias.weave.local", &[all[0].1]);
    host.weave(&["dns-add", "192.0.2.77", "192.0.2.78", "-H", "outside.weave.local"]).expect("dns-add");
    becomes(asking, "outside.weave.local", &["192.0.2.77", "192.0.2.78"]);
    assert_eq!(found(asking, &["-x", "192.0.2.77"]), set(&["outside.weave.local."]));
    host.weave(&["dns-remove", "192.0.2.77", "-H", "outside"]).expect("dns-remove");
    becomes(asking, "outside.weave.local", &["192.0.2.78"]);
    assert_eq!(host.weave(&["dns-lookup", "outside"]).expect("dns-lookup"), "192.0.2.78\n");
    host.weave(&["dns-remove", own]).expect("dns-remove");
    becomes::<Ipv4Addr>(asking, "alias.weave.local", &[]);
    for wrong in [&["dns-remove", own][..], &["dns-add", "no-such-container", "-H", "x"], &["dns-lookup", "nobody"]] {
        host.refused(wrong, 1).expect("refused");
    }
    host.refused(&["dns-add", "one", "two", "-H", "x"], 2).expect("usage");
    host.weave(&["attach", "--without-dns", own]).expect("attach");
    assert!(!host.weave(&["status", "dns"]).expect("status").contains(own.as_str()));
}

#[test]
#[ignore = "needs root"]
fn names_245_265_are_one_in_any_spelling_and_direction() {
    let lab = Lab::ready(Plan::of("ldnscase", 2).containers(2)).expect("a Lab");
    let (host, asking) = (lab.host(1), lab.host(2).container(1));
    let lower = attach_as(host, &host.container(1), "web");
    let upper = attach_as(lab.host(2), &lab.host(2).container(2), "WEB");
    becomes(&asking, "wEb.weave.local", &[lower, upper]);
    let said = dig(&asking, &["+noall", "+question", "wEb.weave.local"]);
    assert!(said.contains("wEb.weave.local."), "the spelling is the asker's: {said}");
    let [a, b, c, d] = lower.octets();
    let names = found(&asking, &["PTR", &format!("{d}.{c}.{b}.{a}.IN-addr.ARPA")]);
    assert_eq!(names, set(&[format!("{}.weave.local.", host.container(1)), "web.weave.local.".to_owned()]));
    // One address, three containers one after the other.
    let addr = "10.32.5.5";
    for name in ["first", "second", "third"] {
        host.weave(&["attach", "--hostname", name, addr, &host.container(2)]).expect("attach");
        let expected = set(&[format!("{name}.weave.local.")]);
        assert!(eventually(KNOWN, || found(&asking, &["-x", addr]).is_superset(&expected)), "{name}");
        host.weave(&["dns-remove", &host.container(2), "-H", name]).expect("dns-remove");
    }
}

/// Field report F1; the servers of other names are what `--dns-upstream` says.
#[test]
#[ignore = "needs root"]
fn names_250_that_are_not_there_are_told() {
    let lab = Lab::new(Plan::of("ldnsneg", 1).containers(1)).expect("a Lab");
    let host = lab.host(1);
    // Knows no name, and counts who asks.
    let upstream: UdpSocket = in_netns(format!("/run/netns/{}", host.netns()), || UdpSocket::bind((underlay(1), 5353)))
        .expect("a namespace")
        .expect("a socket");
    thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = upstream.recv_from(&mut buffer) {
            buffer[2] |= 0x80;
            buffer[3] = 0x83;
            upstream.send_to(&buffer[..length], from).expect("sent");
        }
    });
    let server = SocketAddr::from((underlay(1), 5353)).to_string();
    lab.launch(1, &["--dns-upstream", &server]).expect("launch");
    lab.attach_all().expect("attach");
    let asking = host.container(1);
    let own = format!("{asking}.weave.local");
    assert!(eventually(KNOWN, || status(&asking, &[&own]) == "NOERROR"));
    for kind in ["MX", "AAAA", "TXT", "SRV", "HTTPS"] {
        assert_eq!(status(&asking, &[&own, kind]), "NOERROR", "{kind}");
        assert!(dig(&asking, &[&own, kind]).contains("SOA"), "{kind}");
    }
    assert_eq!(status(&asking, &["nope.weave.local"]), "NXDOMAIN");
    assert_eq!(status(&asking, &["example.com"]), "NXDOMAIN", "by the other server");
    assert_eq!(status(&asking, &["+norecurse", "example.com"]), "REFUSED");
    assert_eq!(status(&asking, &["CH", "TXT", "version.bind"]), "REFUSED");
    let said = host.weave(&["status"]).expect("status");
    assert!(said.contains(&server) && said.contains("forwarded"), "{said}");
}

#[test]
#[ignore = "needs root"]
fn names_255_260_outlive_the_controller_and_end_with_containers() {
    let lab = Lab::ready(Plan::of("ldnsend", 2).containers(2)).expect("a Lab");
    let (one, two) = (lab.host(1), lab.host(2));
    let asking = two.container(1);
    let names: Vec<String> = one.containers().iter().map(|container| format!("{container}.weave.local")).collect();
    let addrs: Vec<Ipv4Addr> = one.containers().iter().map(|c| one.address(c).expect("an address")).collect();
    becomes(&asking, &names[0], &[addrs[0]]);
    two.kill().expect("kill");
    assert_eq!(found(&asking, &["+nocookie", &names[0]]), set(&[addrs[0]]), "the kernel answers");
    lab.launch_planned(2).expect("launch");
    assert_eq!(found(&asking, &["+nocookie", &names[0]]), set(&[addrs[0]]), "at once");
    assert!(eventually(KNOWN, || found(&asking, &["+tcp", &names[0]]) == set(&[addrs[0]])), "the server knows it too");
    one.weave(&["stop"]).expect("stop");
    lab.launch_planned(1).expect("launch");
    becomes(&asking, &names[0], &[addrs[0]]);
    run(&["ip", "netns", "del", &one.container(1)]).expect("removed");
    becomes::<Ipv4Addr>(&asking, &names[0], &[]);
    becomes(&asking, &names[1], &[addrs[1]]);
    // A host that is lost: until it is removed.
    one.kill().expect("kill");
    lab.unplug(1, 0).expect("unplugged");
    two.weave(&["rmpeer", "--force", "::1"]).expect("rmpeer");
    becomes::<Ipv4Addr>(&asking, &names[1], &[]);
}

/// Field report F3.
#[test]
#[ignore = "needs root"]
fn names_295_with_many_addresses_arrive_whole() {
    let lab = Lab::ready(Plan::of("ldnsbig", 1).containers(1)).expect("a Lab");
    let (host, asking) = (lab.host(1), lab.host(1).container(1));
    let addrs: Vec<String> = (1..=50).map(|n| format!("192.0.2.{n}")).collect();
    let args: Vec<&str> =
        ["dns-add"].into_iter().chain(addrs.iter().map(String::as_str)).chain(["-H", "many"]).collect();
    host.weave(&args).expect("dns-add");
    let name = "many.weave.local";
    assert!(eventually(KNOWN, || found(&asking, &[name]).len() == 50), "{:?}", found(&asking, &[name]));
    for how in [&["+bufsize=700"][..], &["+tcp"], &["+tcp", "+bufsize=700"], &["+noedns"]] {
        assert_eq!(found(&asking, &[how, &[name]].concat()).len(), 50, "{how:?}");
    }
    let cut = dig(&asking, &["+ignore", "+bufsize=700", name]);
    assert!(cut.contains(" tc ") && cut.contains("ANSWER: 40"), "{cut}");
    // Few fit the table of the kernel, and come in another order each time.
    host.weave(&["dns-add", "192.0.2.1", "192.0.2.2", "192.0.2.3", "-H", "few"]).expect("dns-add");
    becomes(&asking, "few.weave.local", &["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    let first = || dig(&asking, &["+short", "+nocookie", "few.weave.local"]).lines().next().map(str::to_owned);
    let firsts: BTreeSet<_> = (0..40).map(|_| first()).collect();
    assert!(firsts.len() > 1, "always {firsts:?} first");
}

/// A message sent from a container to the service address, and the answer.
fn asked(container: &str, message: &[u8]) -> Option<Vec<u8>> {
    in_netns(format!("/run/netns/{container}"), || {
        let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
        socket.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        socket.connect((SERVICE, 53)).ok()?;
        socket.send(message).ok()?;
        let mut answer = vec![0; 2048];
        let length = socket.recv(&mut answer).ok()?;
        answer.truncate(length);
        Some(answer)
    })
    .expect("a namespace")
}

/// The kernel and the controller answer the same question with the same bytes.
#[test]
#[ignore = "needs root"]
fn kernel_answers_are_those_of_the_resolver() {
    let plan = Plan::of("ldnssame", 2).containers(1).host(2, &["--dns-kernel", "off"]);
    let lab = Lab::ready(plan).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    lab.host(1).weave(&["dns-add", "192.0.2.1", "-H", "Web-1.x_y"]).expect("dns-add");
    for (container, _) in &all {
        becomes(container, "web-1.x_y.weave.local", &["192.0.2.1"]);
    }
    let counted = |host: &Host| {
        let status = host.json(&["status"]).expect("status");
        let counters = status["dataplane"]["counters"].as_array().expect("counters").clone();
        counters.iter().find(|c| c["name"] == "dns-answer").and_then(|c| c["packets"].as_u64()).unwrap_or(0)
    };
    let before = lab.hosts().iter().map(counted).collect::<Vec<_>>();
    let name = b"\x05wEb-1\x03X_y\x05weave\x05local\0";
    let opt = |size: [u8; 2], flags: u8| [&[0, 0, 41][..], &size, &[0, 0, flags, 0, 0, 0]].concat();
    let mut questions = 0;
    for flags in [[1, 0], [0, 0], [1, 0x30], [0, 0x10]] {
        for opt in [Vec::new(), opt([2, 0], 0), opt([16, 0], 0x80), opt([0, 0], 0)] {
            let records = u8::from(!opt.is_empty());
            let head = [0x12, 0x34, flags[0], flags[1], 0, 1, 0, 0, 0, 0, 0, records];
            let message = [&head[..], name, &[0, 1, 0, 1], &opt].concat();
            let answers: Vec<Vec<u8>> = all.iter().map(|(c, _)| asked(c, &message).expect("an answer")).collect();
            assert_eq!(answers[0], answers[1], "to {message:02x?}");
            questions += 1;
        }
    }
    let after = lab.hosts().iter().map(counted).collect::<Vec<_>>();
    assert_eq!((after[0] - before[0], after[1] - before[1]), (questions, 0), "who answered");
}

/// Field report F5, and what the service address must not reach.
#[test]
#[ignore = "needs root"]
fn a_server_of_the_host_is_neither_in_the_way_nor_reached() {
    let lab = Lab::new(Plan::of("ldnsport", 1).containers(1)).expect("a Lab");
    let host = lab.host(1);
    let (taken, other) = in_netns(format!("/run/netns/{}", host.netns()), || {
        let udp = UdpSocket::bind("0.0.0.0:53").expect("a socket");
        udp.set_nonblocking(true).expect("set");
        (udp, std::net::TcpListener::bind("0.0.0.0:8080").expect("a socket"))
    })
    .expect("a namespace");
    other.set_nonblocking(true).expect("set");
    lab.launch(1, &[]).expect("launch");
    lab.attach_all().expect("attach");
    let asking = host.container(1);
    becomes(&asking, &format!("{asking}.weave.local"), &[host.address(&asking).expect("an address")]);
    assert_eq!(status(&asking, &["+tcp", "nope.weave.local"]), "NXDOMAIN");
    let service: Ipv4Addr = SERVICE.parse().expect("an address");
    assert!(ping(&asking, service, 2));
    let reached = in_netns(format!("/run/netns/{asking}"), || {
        std::net::TcpStream::connect_timeout(&(service, 8080).into(), Duration::from_secs(1)).is_ok()
    });
    assert!(!reached.expect("a namespace") && other.accept().is_err(), "a port of the host is reached");
    assert!(taken.recv(&mut [0; 64]).is_err(), "the host's server got a question");
    let drops = host.json(&["status"]).expect("status")["dataplane"]["drops"].clone();
    let dropped = drops.as_array().expect("drops").iter().find(|d| d["reason"] == "service-port").cloned();
    assert!(dropped.is_some_and(|d| d["packets"].as_u64() > Some(0)), "{drops}");
}
