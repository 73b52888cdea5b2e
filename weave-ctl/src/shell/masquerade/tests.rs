//! Rules in namespaces made for a test, and what they do to packets.

use std::{
    net::{Ipv4Addr, TcpListener, TcpStream},
    time::Duration,
};

use super::*;
use crate::shell::netns::tests::{TestNetns, run as run_here};

const IFNAME: &str = "weave";
const RANGE: &str = "10.32.0.0/12";
const CONTAINER: Ipv4Addr = Ipv4Addr::new(10, 32, 0, 5);
const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// The kinds of iptables.
const IPTABLES: [&str; 2] = ["iptables-nft", "iptables-legacy"];

fn range() -> Ipv4Net {
    RANGE.parse().unwrap()
}

fn ensure_in(ns: &TestNetns) -> Applied {
    ns.inside(|| ensure(range(), IFNAME)).unwrap()
}

fn remove_in(ns: &TestNetns) -> bool {
    ns.inside(remove).unwrap()
}

/// Runs a program inside, and returns what it printed.
fn tool(ns: &TestNetns, program: &str, args: &[&str]) -> String {
    ns.inside(|| run_here(program, args))
}

/// A namespace without forwarding, as hosts are before anybody asks.
fn host(tag: &str) -> TestNetns {
    let ns = TestNetns::new(tag);
    ns.inside(|| fs::write(IP_FORWARD, "0")).unwrap();
    ns
}

#[test]
#[ignore = "needs root"]
fn the_table_is_made_mended_and_removed() {
    let ns = host("masq-table");
    assert!(!remove_in(&ns), "nothing to remove");
    tool(&ns, "nft", &["add", "table", "ip", "others"]);
    let first = ensure_in(&ns);
    assert_eq!((first.changed.len(), first.blocked.len()), (2, 0), "{first:?}");
    assert!(first.changed[1].contains("IP forwarding"), "{first:?}");
    assert_eq!(ns.inside(|| fs::read_to_string(IP_FORWARD)).unwrap().trim(), "1");
    assert_eq!(ensure_in(&ns), Applied::default(), "all was right");
    for change in [
        &["flush", "chain", "ip", "weave_ctl", "forward"][..],
        &["delete", "table", "ip", "weave_ctl"],
        &["chain", "ip", "weave_ctl", "forward", "{ policy drop; }"],
        &["add", "rule", "ip", "weave_ctl", "postrouting", "accept"],
    ] {
        tool(&ns, "nft", change);
        assert_eq!(ensure_in(&ns).changed.len(), 1, "{change:?}");
        assert_eq!(ensure_in(&ns), Applied::default(), "{change:?}");
    }
    let shown = tool(&ns, "nft", &["list", "table", "ip", "weave_ctl"]);
    assert!(
        shown.contains("ip saddr 10.32.0.0/12 ip daddr != 10.32.0.0/12 oifname != \"weave\" masquerade"),
        "{shown}"
    );
    assert!(shown.contains("oifname \"weave\" drop"), "{shown}");
    // Another range takes the place of the first.
    let other = ns.inside(|| ensure("10.99.0.0/16".parse().unwrap(), IFNAME)).unwrap();
    assert_eq!(other.changed.len(), 1);
    let shown = tool(&ns, "nft", &["list", "ruleset"]);
    assert!(shown.contains("10.99.0.0/16") && !shown.contains(RANGE) && shown.contains("table ip others"), "{shown}");

    assert!(remove_in(&ns) && !remove_in(&ns));
    assert_eq!(tool(&ns, "nft", &["list", "ruleset"]).trim(), "table ip others {\n}");
    assert_eq!(ns.inside(|| fs::read_to_string(IP_FORWARD)).unwrap().trim(), "1", "others may rely on it");
}

#[test]
#[ignore = "needs root"]
fn dockers_chain_accepts_and_is_left_as_it_was() {
    for program in IPTABLES {
        let ns = host("masq-docker");
        for args in [
            &["-P", "FORWARD", "DROP"][..],
            &["-N", "DOCKER-USER"],
            &["-A", "FORWARD", "-j", "DOCKER-USER"],
            &["-A", "DOCKER-USER", "-s", "203.0.113.0/24", "-m", "comment", "--comment", "mine", "-j", "DROP"],
            &["-A", "DOCKER-USER", "-j", "RETURN"],
        ] {
            tool(&ns, program, args);
        }
        let before = tool(&ns, program, &["-S"]);
        let applied = ensure_in(&ns);
        assert_eq!((applied.changed.len(), applied.blocked.len()), (3, 0), "{program}: {applied:?}");
        assert!(applied.changed[2].contains(program), "{applied:?}");
        let rules = tool(&ns, program, &["-S", "DOCKER-USER"]);
        let ours: Vec<&str> = rules.lines().filter(|rule| rule.contains("weave-ctl")).collect();
        assert!(ours.len() == 2 && ours.iter().all(|rule| rule.ends_with("-j ACCEPT")), "{program}: {rules}");
        assert_eq!(ensure_in(&ns), Applied::default(), "{program}");
        // Docker may empty its chain.
        tool(&ns, program, &["-F", "DOCKER-USER"]);
        assert_eq!(ensure_in(&ns).changed.len(), 1, "{program}");
        assert!(remove_in(&ns));
        assert_eq!(tool(&ns, program, &["-S", "DOCKER-USER"]).trim(), "-N DOCKER-USER", "{program}");
        tool(
            &ns,
            program,
            &["-A", "DOCKER-USER", "-s", "203.0.113.0/24", "-m", "comment", "--comment", "mine", "-j", "DROP"],
        );
        tool(&ns, program, &["-A", "DOCKER-USER", "-j", "RETURN"]);
        ensure_in(&ns);
        assert!(remove_in(&ns) && !remove_in(&ns));
        assert_eq!(tool(&ns, program, &["-S"]), before, "{program}");
    }
}

/// Runs what stands between backticks in a sentence.
fn run_commands(ns: &TestNetns, sentence: &str) {
    for command in sentence.split('`').skip(1).step_by(2) {
        let words: Vec<&str> = command.split_whitespace().collect();
        tool(ns, words[0], &words[1..]);
    }
}

#[test]
#[ignore = "needs root"]
fn a_firewall_that_drops_is_told_until_it_accepts() {
    let drops = |hook: &str| format!("add chain inet fw {hook} {{ type filter hook {hook} priority 0; policy drop; }}");
    let firewalls: [(&str, Vec<Vec<String>>); 3] = [
        ("iptables-nft", vec![["-P", "FORWARD", "DROP"].map(str::to_owned).to_vec()]),
        ("iptables-legacy", vec![["-P", "FORWARD", "DROP"].map(str::to_owned).to_vec()]),
        ("nft", vec![vec!["add table inet fw".to_owned()], vec![drops("input")], vec![drops("forward")]]),
    ];
    for (program, commands) in firewalls {
        let ns = host("masq-drop");
        for command in commands {
            tool(&ns, program, &command.iter().map(String::as_str).collect::<Vec<_>>());
        }
        let blocked = ensure_in(&ns).blocked;
        assert_eq!(blocked.len(), 1, "{program}: {blocked:?}");
        assert!(blocked[0].contains("do not get out") && blocked[0].contains(program), "{blocked:?}");
        assert_eq!(ensure_in(&ns), Applied { blocked: blocked.clone(), ..Applied::default() }, "told again");
        run_commands(&ns, &blocked[0]);
        assert_eq!(ensure_in(&ns), Applied::default(), "{program}: the command helped");
    }
}

#[test]
#[ignore = "needs root"]
fn ufw_and_firewalld_have_commands_of_their_own() {
    let ns = host("masq-ufw");
    for args in
        [&["-P", "FORWARD", "DROP"][..], &["-N", "ufw-user-forward"], &["-A", "FORWARD", "-j", "ufw-user-forward"]]
    {
        tool(&ns, "iptables-nft", args);
    }
    let blocked = ensure_in(&ns).blocked;
    assert!(blocked.len() == 1 && blocked[0].contains("`ufw route allow in on weave`"), "{blocked:?}");
    // What ufw then writes.
    tool(&ns, "iptables-nft", &["-A", "ufw-user-forward", "-i", "weave", "-j", "ACCEPT"]);
    assert_eq!(ensure_in(&ns).blocked, [""; 0]);

    let ns = host("masq-fwd");
    for command in [
        "add table inet firewalld",
        "add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; policy accept; }",
        "add chain inet firewalld filter_FWD_trusted",
        "add rule inet firewalld filter_FORWARD iifname \"eth0\" accept",
        "add rule inet firewalld filter_FORWARD reject with icmpx admin-prohibited",
    ] {
        tool(&ns, "nft", &[command]);
    }
    let blocked = ensure_in(&ns).blocked;
    assert!(blocked.len() == 1 && blocked[0].contains("--zone=trusted --add-interface=weave"), "{blocked:?}");
    tool(&ns, "nft", &["insert rule inet firewalld filter_FORWARD iifname \"weave\" goto filter_FWD_trusted"]);
    assert_eq!(ensure_in(&ns).blocked, [""; 0]);
}

/// A host between the network (`weave`) and the outside (`eth0`), which knows no route into the network.
struct Scene {
    host: TestNetns,
    container: TestNetns,
    outside: TestNetns,
}

fn scene(tag: &str) -> Scene {
    let host = host(&format!("{tag}-h"));
    let (container, outside) = (TestNetns::new(&format!("{tag}-c")), TestNetns::new(&format!("{tag}-o")));
    for (device, addr, ns, other) in
        [(IFNAME, "10.32.0.1/12", &container, "10.32.0.5/12"), ("eth0", "192.0.2.1/24", &outside, "192.0.2.2/24")]
    {
        let pair = ["type", "veth", "peer", "name", "eth0", "netns", &ns.name];
        host.ip(&[&["link", "add", device], &pair[..]].concat());
        host.ip(&["addr", "add", addr, "dev", device]);
        host.ip(&["link", "set", device, "up"]);
        ns.ip(&["addr", "add", other, "dev", "eth0"]);
        ns.ip(&["link", "set", "eth0", "up"]);
    }
    container.ip(&["route", "add", "default", "via", "10.32.0.1"]);
    Scene { host, container, outside }
}

/// The address that a connection comes from, or `None` when there is none within a second.
fn connects(from: &TestNetns, to: &TestNetns, addr: Ipv4Addr) -> Option<Ipv4Addr> {
    let listener = to.inside(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))).unwrap();
    let target = (addr, listener.local_addr().unwrap().port()).into();
    let stream = from.inside(|| TcpStream::connect_timeout(&target, Duration::from_secs(1))).ok()?;
    let (_, source) = listener.accept().unwrap();
    drop(stream);
    match source.ip() {
        std::net::IpAddr::V4(addr) => Some(addr),
        std::net::IpAddr::V6(_) => None,
    }
}

#[test]
#[ignore = "needs root"]
fn containers_get_out_and_nobody_gets_in() {
    let Scene { host, container, outside } = scene("masq-out");
    let out = || connects(&container, &outside, OUTSIDE);
    assert_eq!(out(), None, "no forwarding, and no way back");
    ensure_in(&host);
    assert_eq!(out(), Some(HOST), "under the host's own address");
    // A neighbour of the host that takes it for a router.
    outside.ip(&["route", "add", RANGE, "via", "192.0.2.1"]);
    assert_eq!(connects(&outside, &container, CONTAINER), None);
    // What the operator redirects to a container passes.
    tool(&host, "nft", &["add table ip mine; add chain ip mine pre { type nat hook prerouting priority -100; }"]);
    tool(&host, "nft", &["add rule ip mine pre ip daddr 192.0.2.1 tcp dport 1-65535 dnat to 10.32.0.5"]);
    assert_eq!(connects(&outside, &container, HOST), Some(OUTSIDE));
    // The host itself reaches its containers.
    assert_eq!(connects(&host, &container, CONTAINER), Some(Ipv4Addr::new(10, 32, 0, 1)));
    remove_in(&host);
    assert_eq!(connects(&outside, &container, CONTAINER), Some(OUTSIDE), "nothing of ours is left");
    outside.ip(&["route", "del", RANGE]);
    assert_eq!(out(), None);
}

#[test]
#[ignore = "needs root"]
fn containers_get_out_where_docker_drops() {
    for program in IPTABLES {
        let Scene { host, container, outside } = scene("masq-dock");
        for args in [
            &["-P", "FORWARD", "DROP"][..],
            &["-N", "DOCKER-USER"],
            &["-A", "DOCKER-USER", "-j", "RETURN"],
            &["-A", "FORWARD", "-j", "DOCKER-USER"],
        ] {
            tool(&host, program, args);
        }
        let out = || connects(&container, &outside, OUTSIDE);
        host.inside(|| table::ensure(range(), IFNAME).and_then(|_| forward())).unwrap();
        assert_eq!(out(), None, "{program}: its policy drops");
        ensure_in(&host);
        assert_eq!(out(), Some(HOST), "{program}");
        remove_in(&host);
        assert_eq!(out(), None, "{program}");
    }
}

#[test]
fn a_missing_program_is_told_with_what_to_do() {
    assert!(run("weave-ctl-no-such-program", &[], "").unwrap().is_none());
    let text = MasqueradeError::NoNft.to_string();
    assert!(text.contains("install the package nftables"), "{text}");
}
