//! What operators see, from fixed states of a controller.

use serde_json::{Value, json};

use super::{
    super::args::StatusPart, attached, containers, done, failure, launched, released, removed, status, targets, version,
};
use crate::api::types::{
    BroadcastRoute, Channel, Connection, Container, Counter, Dataplane, Done, Drop, Ipam, Map, NarrowPath, Owner, Path,
    Peer, PeerLink, PeerRef, Program, Protocol, Released, SizedContainer, Standby, Status, Targets, UnicastRoute,
};

pub(super) fn text(s: &str) -> String {
    s.to_owned()
}

pub(super) fn id(n: u8, nickname: &str) -> PeerRef {
    PeerRef { name: format!("7e:21:4a:70:2f:{n:02x}"), nickname: text(nickname) }
}

pub(super) fn attempt(address: &str, state: &str) -> Connection {
    Connection {
        outbound: true,
        address: text(address),
        state: text(state),
        peer: None,
        data: None,
        info: String::new(),
        retry_in_ms: None,
        mtu: None,
        rtt_us: None,
    }
}

fn link(n: u8, nickname: &str, address: &str, outbound: bool, established: bool) -> PeerLink {
    PeerLink { id: id(n, nickname), address: text(address), outbound, established }
}

fn owner(n: u8, nickname: &str, addresses: u64, active: Option<u64>, unreachable: bool) -> Owner {
    Owner { id: id(n, nickname), addresses, active, unreachable, ranges: vec![text("10.32.0.0/14")] }
}

fn container(id: &str, addrs: &[&str], attached: bool) -> Container {
    Container {
        owner: text(id),
        state: text(if attached { "attached" } else { "absent" }),
        age_s: if attached { 119 } else { 7300 },
        netns: format!("/run/netns/{id}"),
        mac: text("0a:77:0a:20:00:01"),
        addrs: addrs.iter().map(|a| text(a)).collect(),
        host_if: text("wv0a200001"),
        mtu: 1450,
    }
}

fn direct(remote: &str) -> Path {
    Path::Direct { remote: text(remote), fixed: false, rtt_us: Some(1250), mtu: Some(1450) }
}

/// Peers 2 to 5: one reached directly, one through it, and two that no way is known to reach.
pub(super) fn with_detours() -> Status {
    let mut status = example();
    let peer = |n: u8, nickname: &str, path| Peer { id: id(n, nickname), path: Some(path), ..status.peers[2].clone() };
    let relayed =
        Path::Relayed { via: id(2, "host2"), why: text("no answer from 192.168.48.13:6784 for 12 s"), mtu: Some(1400) };
    let lost = Path::Unconfirmed { remote: Some(text("192.168.48.14:6784")), why: text("no peer reaches it") };
    let silent = Path::Unconfirmed { remote: None, why: String::new() };
    let others = [peer(3, "h3", relayed), peer(4, "h4", lost), peer(5, "", silent)];
    status.peers.pop();
    status.peers.extend(others);
    status.connections.push(Connection { peer: Some(id(4, "h4")), ..attempt("192.168.48.14:50123", "pending") });
    status
}

fn connections() -> Vec<Connection> {
    vec![
        Connection {
            outbound: false,
            peer: Some(id(2, "host2")),
            data: Some(text("192.168.48.12:6784")),
            mtu: Some(1450),
            rtt_us: Some(1250),
            ..attempt("192.168.48.12:33866", "established")
        },
        Connection { peer: Some(id(3, "h3")), ..attempt("192.168.48.13:6783", "pending") },
        Connection {
            info: text("connection refused"),
            retry_in_ms: Some(4200),
            ..attempt("192.168.48.14:6783", "retrying")
        },
        Connection { info: text("cannot connect to ourself"), ..attempt("h1", "failed") },
        attempt("host5.example", "connecting"),
    ]
}

/// Three peers that own a third each, the last one out of reach.
fn owners() -> Vec<Owner> {
    vec![
        owner(1, "host1", 349_526, Some(2), false),
        owner(2, "host2", 349_525, None, false),
        owner(3, "h3", 349_525, None, true),
    ]
}

/// A peer with a link of each state.
pub(super) fn example() -> Status {
    Status {
        version: text("1.2.3"),
        name: id(1, "").name,
        nickname: text("host1"),
        uid: "aa".repeat(16),
        incarnation: 3,
        protocol: Protocol { min: 1, max: 2 },
        port: 6783,
        password: false,
        key: false,
        discovery: true,
        container_mtu: 1450,
        targets: vec![text("192.168.48.12"), text("host5.example")],
        connections: connections(),
        peers: vec![
            Peer {
                id: id(1, "host1"),
                uid: "aa".repeat(16),
                links: vec![
                    link(2, "host2", "192.168.48.12:33866", false, true),
                    link(3, "h3", "192.168.48.13:6783", true, false),
                ],
                path: Some(Path::Here),
                standby: None,
            },
            Peer {
                id: id(2, "host2"),
                uid: "bb".repeat(16),
                links: vec![link(1, "host1", "192.168.48.11:6783", true, true)],
                path: Some(direct("192.168.48.12:6784")),
                standby: None,
            },
            Peer { id: id(9, ""), uid: "cc".repeat(16), links: Vec::new(), path: None, standby: None },
        ],
        ipam: Ipam {
            state: text("ready"),
            ready: true,
            range: text("10.32.0.0/12"),
            size: 1_048_576,
            default_subnet: text("10.32.0.0/12"),
            owners: owners(),
        },
        containers: vec![container("c1", &["10.32.0.1/12"], true), container("long-name", &["10.32.0.2/12"], false)],
        narrow_paths: Vec::new(),
        more_narrow_paths: 0,
        dataplane: Dataplane {
            bpf_dir: text("/sys/fs/bpf/weave"),
            programs: vec![
                Program { name: text("weave_container"), id: 11, attached_to: ["a", "b", "c"].map(text).to_vec() },
                Program { name: text("weave_underlay"), id: 12, attached_to: vec![text("eth0")] },
            ],
            maps: vec![Map { name: text("weave_routes"), entries: 3, capacity: 65536 }],
            counters: vec![Counter { name: text("encap"), packets: 5, bytes: 420 }],
            drops: vec![
                Drop { reason: text("no-route"), packets: 2 },
                Drop { reason: text("malformed"), packets: 0 },
                Drop { reason: text("too-big"), packets: 1 },
            ],
        },
        conn_limit: 200,
        unicast_routes: vec![UnicastRoute { dest: id(2, "host2"), via: id(2, "host2") }],
        broadcast_routes: vec![BroadcastRoute { source: id(1, "host1"), via: vec![id(2, "host2")] }],
        channels: vec![Channel { name: text("peers"), known: true, entries: 3, errors: 0, last_error: String::new() }],
        warnings: Vec::new(),
    }
}

#[test]
fn summary() {
    let expected = "        Version: 1.2.3

        Service: router
       Protocol: weave-ctl 1..2
           Name: 7e:21:4a:70:2f:01(host1)
     Encryption: sessions only, without password or key (containers' packets are not encrypted)
  PeerDiscovery: enabled
        Targets: 2
    Connections: 5 (1 established, 1 pending, 1 retrying, 1 failed, 1 connecting)
                 <-  192.168.48.12:33866  established  no-password  direct   7e:21:4a:70:2f:02(host2)  mtu=1450 rtt=1.2ms
                 ->  192.168.48.13:6783   pending      no-password  no-data  7e:21:4a:70:2f:03(h3)
                 ->  192.168.48.14:6783   retrying     connection refused, next attempt in 4.2s
                 ->  h1                   failed       cannot connect to ourself
                 ->  host5.example        connecting
      ConnLimit: 200
          Peers: 3 (with 2 established, 1 pending connections)

        Service: ipam
         Status: ready
          Range: 10.32.0.0/12
  DefaultSubnet: 10.32.0.0/12

        Service: dataplane
         Pinned: /sys/fs/bpf/weave
       Programs: weave_container on 3 devices, weave_underlay on eth0
     Containers: 2 (1 not attached)
            MTU: 1450
           Sent: 5 (5 direct)
          Drops: 3 (2 no-route, 1 too-big)
";
    assert_eq!(status(&example(), None, false), expected);
}

#[test]
fn summary_names_narrow_paths_and_what_they_mean() {
    let mut narrow = example();
    let sized = |id: &str, mtu| SizedContainer { owner: text(id), mtu };
    narrow.narrow_paths = vec![NarrowPath {
        peer: id(2, "host2"),
        mtu: 1350,
        containers: vec![sized("c2", 8950), sized("c1", 1450)],
        more_containers: 3,
    }];
    narrow.more_narrow_paths = 4;
    let expected = "            MTU: 1450
    NarrowPaths: 5 take less than containers' MTU: larger packets are refused by ICMP, or sent in pieces (slower)
                 to 7e:21:4a:70:2f:02(host2) 1350 bytes; larger MTU: c2 (8950), c1 (1450), 3 more
                 and 4 more
           Sent: 5 (5 direct)
          Drops: 3 (2 no-route, 1 too-big)
";
    let shown = status(&narrow, None, false);
    assert!(shown.contains(expected), "{shown}");
}

#[test]
fn summary_of_a_lone_peer_with_troubles() {
    let mut lone = example();
    lone.connections.clear();
    lone.peers.truncate(1);
    lone.peers[0].links.clear();
    lone.protocol = Protocol { min: 1, max: 1 };
    lone.password = true;
    lone.dataplane = Dataplane::default();
    lone.containers.clear();
    lone.warnings = vec![text("peer ::2 has two uids"), text("map weave_routes is full")];
    let shown = status(&lone, None, false);
    for line in [
        "       Protocol: weave-ctl 1\n",
        "     Encryption: sessions only, with password",
        "    Connections: 0\n      ConnLimit: 200\n          Peers: 1\n",
        "       Programs: none\n     Containers: 0\n",
        "           Sent: 0\n          Drops: 0\n",
    ] {
        assert!(shown.contains(line), "{line:?} is not in\n{shown}");
    }
    let last = "\n\n        Warning: peer ::2 has two uids\n        Warning: map weave_routes is full\n";
    assert!(shown.ends_with(last), "{shown}");
}

#[test]
fn a_summary_tells_which_packets_do_not_go_straight() {
    let shown = status(&with_detours(), None, false);
    let expected = "\
          Peers: 5 (with 2 established, 1 pending connections)
          Paths: 4 (1 direct, 1 relayed, 2 unconfirmed)
                 7e:21:4a:70:2f:03(h3)  via 7e:21:4a:70:2f:02(host2) mtu=1400: no answer from 192.168.48.13:6784 for 12 s
                 7e:21:4a:70:2f:04(h4)  unconfirmed 192.168.48.14:6784: no peer reaches it
                 7e:21:4a:70:2f:05      unconfirmed

";
    assert!(shown.contains(expected), "{shown}");
    let mut crowd = with_detours();
    let relayed = crowd.peers[2].clone();
    crowd.peers.extend(vec![relayed; 9]);
    let shown = status(&crowd, None, false);
    assert!(shown.contains("          Paths: 13 (1 direct, 10 relayed, 2 unconfirmed)\n"), "{shown}");
    assert!(shown.contains("                 and 4 more: status peers\n"), "{shown}");
    assert!(!status(&example(), None, false).contains("Paths:"));
}

#[test]
fn a_summary_tells_what_is_full_or_could_not_be_used() {
    let mut full = example();
    full.conn_limit = 2;
    full.channels[0].errors = 3;
    full.channels[0].last_error = text("a record of another peer");
    let shown = status(&full, None, false);
    for line in [
        "      ConnLimit: 2 (reached: further peers get no link)\n",
        "        Channel: peers: 3 entries could not be used, the last: a record of another peer\n",
    ] {
        assert!(shown.contains(line), "{line:?} is not in\n{shown}");
    }
    // Attempts are no links.
    full.conn_limit = 3;
    assert!(status(&full, None, false).contains("      ConnLimit: 3\n"));
}

#[test]
fn a_summary_lists_some_links_and_counts_the_rest() {
    let mut crowd = example();
    crowd.connections = vec![attempt("10.0.0.1:6783", "connecting"); 20];
    let shown = status(&crowd, None, false);
    assert_eq!(shown.matches("->  10.0.0.1:6783").count(), 16);
    assert!(shown.contains("                 and 4 more: status connections\n"), "{shown}");
}

#[test]
fn peers_with_their_links() {
    let expected = "\
7e:21:4a:70:2f:01(host1)  this peer
   <-  192.168.48.12:33866  7e:21:4a:70:2f:02(host2)  established
   ->  192.168.48.13:6783   7e:21:4a:70:2f:03(h3)     pending
7e:21:4a:70:2f:02(host2)  direct 192.168.48.12:6784 mtu=1450 rtt=1.2ms
   ->  192.168.48.11:6783   7e:21:4a:70:2f:01(host1)  established
7e:21:4a:70:2f:09
";
    assert_eq!(status(&example(), Some(StatusPart::Peers), false), expected);
    let expected = "\
   ->  192.168.48.11:6783   7e:21:4a:70:2f:01(host1)  established
7e:21:4a:70:2f:03(h3)     via 7e:21:4a:70:2f:02(host2) mtu=1400: no answer from 192.168.48.13:6784 for 12 s
7e:21:4a:70:2f:04(h4)     unconfirmed 192.168.48.14:6784: no peer reaches it
7e:21:4a:70:2f:05         unconfirmed
";
    let shown = status(&with_detours(), Some(StatusPart::Peers), false);
    assert!(shown.ends_with(expected), "{shown}");
}

#[test]
fn peers_show_fixed_and_standby_paths() {
    let mut status_now = with_detours();
    let remote = text("192.168.48.12:6784");
    status_now.peers[1].path = Some(Path::Direct { remote: remote.clone(), fixed: true, rtt_us: None, mtu: None });
    status_now.peers[1].standby = Some(Standby { remote: remote.clone(), fixed: false, via: Some(id(3, "h3")) });
    status_now.peers[2].standby = Some(Standby { remote, fixed: true, via: None });
    let shown = status(&status_now, Some(StatusPart::Peers), false);
    for line in [
        "(host2)  direct, fixed port 192.168.48.12:6784; standby via 7e:21:4a:70:2f:03(h3)\n",
        "for 12 s; standby direct, fixed port 192.168.48.12:6784\n",
    ] {
        assert!(shown.contains(line), "{line:?} is not in\n{shown}");
    }
}

#[test]
fn targets_and_shares() {
    assert_eq!(status(&example(), Some(StatusPart::Targets), false), "192.168.48.12\nhost5.example\n");
    let expected = "\
7e:21:4a:70:2f:01(host1)    349526 IPs (33.3% of total) (2 active)
7e:21:4a:70:2f:02(host2)    349525 IPs (33.3% of total)
7e:21:4a:70:2f:03(h3)       349525 IPs (33.3% of total) - unreachable!
";
    assert_eq!(status(&example(), Some(StatusPart::Ipam), false), expected);
    let mut whole = example();
    whole.ipam.owners = vec![owner(1, "host1", 1_048_576, Some(0), false), owner(2, "", 1, None, false)];
    let shown = status(&whole, Some(StatusPart::Ipam), false);
    assert!(shown.contains(" 1048576 IPs (100.0% of total) (0 active)\n"), "{shown}");
    assert!(shown.contains("       1 IPs (00.0% of total)\n"), "{shown}");
    whole.ipam.owners.clear();
    whole.ipam.state = "awaiting consensus: 1 of 3 electors known (quorum: 2)".to_owned();
    let shown = status(&whole, Some(StatusPart::Ipam), false);
    assert_eq!(shown, "awaiting consensus: 1 of 3 electors known (quorum: 2)\n");
}

#[test]
fn containers_and_addresses() {
    let both =
        [container("c1", &["10.32.0.1/12", "10.40.0.1/24"], true), container("long-name", &["10.32.0.2/12"], false)];
    let expected = "\
OWNER      STATE     AGE    MAC                ADDRESSES
c1         attached  119 s  0a:77:0a:20:00:01  10.32.0.1/12 10.40.0.1/24
long-name  absent    2 h    0a:77:0a:20:00:01  10.32.0.2/12
";
    assert_eq!(containers(&both, false), expected);
    assert_eq!(containers(&[], false), "");
    assert_eq!(attached(&both[0], false), "10.32.0.1 10.40.0.1\n");
    assert_eq!(released(&Released { addrs: both[1].addrs.clone() }, false), "10.32.0.2\n");
    assert_eq!(released(&Released { addrs: Vec::new() }, false), "");
}

#[test]
fn what_other_hosts_say_cannot_steer_the_terminal() {
    let mut hostile = with_detours();
    hostile.peers[1].id.nickname = text("\u{1b}[2Jx\ny");
    hostile.peers[1].links[0].address = text("a\nb\u{202e}");
    hostile.peers[2].path = Some(Path::Relayed { via: id(2, "a\nb\u{200b}"), why: text("a\nb\u{2066}"), mtu: None });
    hostile.channels[0] =
        Channel { name: text("a\nb"), errors: 1, last_error: text("a\nb"), ..hostile.channels[0].clone() };
    hostile.connections[0].peer = Some(id(2, "a\nb"));
    hostile.connections[2].info = text("a\r\nb");
    hostile.ipam.owners[1].id.nickname = text("a\nb");
    hostile.warnings = vec![text("a\u{7}\nb")];
    for part in [None, Some(StatusPart::Connections), Some(StatusPart::Peers), Some(StatusPart::Ipam)] {
        let mut honest = Status { warnings: vec![text("x")], ..with_detours() };
        honest.channels[0].errors = 1;
        let honest = status(&honest, part, false);
        let shown = status(&hostile, part, false);
        let harmless = |c: char| !c.is_control() && !('\u{200b}'..='\u{206f}').contains(&c);
        assert!(shown.chars().all(|c| c == '\n' || harmless(c)), "{shown:?}");
        assert_eq!(shown.lines().count(), honest.lines().count(), "{shown}");
    }
}

#[test]
fn json_has_the_names_of_the_contract() {
    let value = |text: String| serde_json::from_str::<Value>(&text).expect("JSON");
    let whole = value(status(&example(), None, true));
    assert_eq!(whole["connections"][0]["peer"]["nickname"], "host2");
    assert_eq!(whole["peers"][0]["name"], "7e:21:4a:70:2f:01");
    assert_eq!(whole["dataplane"]["drops"][0]["reason"], "no-route");
    assert_eq!(whole["conn_limit"], 200);
    assert_eq!(whole["protocol"], json!({ "min": 1, "max": 2 }));
    assert_eq!(whole["unicast_routes"][0]["via"]["nickname"], "host2");
    assert_eq!(whole["broadcast_routes"][0]["via"][0]["nickname"], "host2");
    assert_eq!(whole["channels"][0]["entries"], 3);
    let paths = value(status(&with_detours(), Some(StatusPart::Peers), true));
    assert_eq!(paths[0]["path"], json!({ "kind": "here" }));
    let remote = "192.168.48.12:6784";
    let direct = json!({ "kind": "direct", "remote": remote, "fixed": false, "rtt_us": 1250, "mtu": 1450 });
    assert_eq!((&paths[1]["path"], &paths[1]["standby"]), (&direct, &Value::Null));
    assert_eq!(paths[2]["path"]["via"]["name"], "7e:21:4a:70:2f:02");
    assert_eq!(paths[4]["path"], json!({ "kind": "unconfirmed", "remote": null, "why": "" }));
    for (part, name) in [
        (StatusPart::Connections, "connections"),
        (StatusPart::Peers, "peers"),
        (StatusPart::Targets, "targets"),
        (StatusPart::Ipam, "ipam"),
    ] {
        assert_eq!(value(status(&example(), Some(part), true)), whole[name]);
    }
    assert_eq!(value(attached(&container("c1", &["10.32.0.1/12"], true), true))["addrs"][0], "10.32.0.1/12");
    assert_eq!(value(containers(&[], true)), Value::Array(Vec::new()));
    assert_eq!(value(failure("no", true))["error"], "no");
    assert_eq!(value(version("1.2.3", true))["version"], "1.2.3");
    assert_eq!(value(done(&Done { done: true }, true))["done"], true);
    assert_eq!(value(removed(&[text("a")], true))["removed"][0], "a");
    assert_eq!(
        value(launched(&example(), 42, &[text("w")], true)),
        json!({
            "name": "7e:21:4a:70:2f:01", "nickname": "host1", "pid": 42, "warnings": ["w"],
        })
    );
}

/// Fields are only added within a version of the contract, so what a former controller says is read.
#[test]
fn an_answer_without_the_fields_of_today_is_read() {
    let mut value = serde_json::to_value(with_detours()).expect("JSON");
    for field in ["conn_limit", "unicast_routes", "broadcast_routes", "channels"] {
        assert!(value.as_object_mut().and_then(|o| o.remove(field)).is_some(), "{field}");
    }
    for peer in value["peers"].as_array_mut().expect("peers") {
        assert!(peer.as_object_mut().and_then(|o| o.remove("path")).is_some());
    }
    let former: Status = serde_json::from_value(value).expect("a status");
    let shown = status(&former, None, false);
    assert!(!shown.contains("ConnLimit") && !shown.contains("Paths"), "{shown}");
    assert!(status(&former, Some(StatusPart::Peers), false).contains("\n7e:21:4a:70:2f:02(host2)\n"));
    assert_eq!(targets(&serde_json::from_value(json!({ "done": true })).expect("an answer"), true).lines().count(), 6);
}

#[test]
fn what_became_of_targets() {
    let list = |names: &[&str]| names.iter().map(|n| text(n)).collect::<Vec<_>>();
    let some = Targets { done: true, added: list(&["a", "b:7"]), kept: list(&["c"]), removed: list(&["d"]) };
    let expected = "\
a added
b:7 added
c was a target already: nothing was changed
d is no target any more; a connection to it stays while it is up
";
    assert_eq!(targets(&some, false), expected);
    let none = Targets { done: true, added: Vec::new(), kept: Vec::new(), removed: Vec::new() };
    assert_eq!(targets(&none, false), "there were no targets: nothing was changed\n");
    let value: Value = serde_json::from_str(&targets(&some, true)).expect("JSON");
    assert_eq!(value, json!({ "done": true, "added": ["a", "b:7"], "kept": ["c"], "removed": ["d"] }));
}

#[test]
fn short_answers_for_people() {
    assert_eq!(done(&Done { done: true }, false), "");
    assert_eq!(removed(&[text("a"), text("b")], false), "a\nb\n");
    assert_eq!(version("1.2.3", false), "weave-ctl 1.2.3\n");
    assert_eq!(launched(&example(), 42, &[], false), "7e:21:4a:70:2f:01(host1)\n");
    assert_eq!(launched(&example(), 42, &[text("so")], false), "7e:21:4a:70:2f:01(host1)\nWarning: so\n");
    assert_eq!(failure("it is so", false), "it is so\n");
}
