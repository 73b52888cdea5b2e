//! What operators see, from fixed states of a controller.

use std::{fmt::Debug, str::FromStr};

use serde_json::{Value, json};

use self::ConnectionState::{Connecting, Established, Failed, Pending, Retrying};
use super::{
    super::args::StatusPart, attached, containers, done, failure, launched, released, removed, status, targets, version,
};
use crate::api::types::{
    BroadcastRoute, ChannelStatus, Connection, ConnectionState, ContainerState, ContainerStatus, CounterStatus,
    Dataplane, Done, DropStatus, IpamStatus, MapStatus, OwnerStatus, PathStatus, PeerLink, PeerRef, PeerStatus,
    ProgramStatus, ProtocolVersions, Released, StandbyPath, Status, Targets, UnicastRoute,
};

pub(super) fn text(s: &str) -> String {
    s.to_owned()
}

fn parsed<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().expect(text)
}

pub(super) fn id(n: u8, nickname: &str) -> PeerRef {
    let name = format!("7e:21:4a:70:2f:{n:02x}").parse().expect("a name");
    PeerRef { name, nickname: text(nickname) }
}

pub(super) fn attempt(address: &str, state: ConnectionState) -> Connection {
    Connection {
        outbound: true,
        address: text(address),
        state,
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

fn owner(n: u8, nickname: &str, addresses: u64, active: Option<u64>, unreachable: bool) -> OwnerStatus {
    OwnerStatus { id: id(n, nickname), addresses, active, unreachable, ranges: vec![parsed("10.32.0.0/14")] }
}

fn container(id: &str, addrs: &[&str], attached: bool) -> ContainerStatus {
    ContainerStatus {
        owner: text(id),
        state: if attached { ContainerState::Attached } else { ContainerState::Absent },
        age_s: if attached { 119 } else { 7300 },
        netns: format!("/run/netns/{id}"),
        mac: text("0a:77:0a:20:00:01"),
        addrs: addrs.iter().map(|a| parsed(a)).collect(),
        host_if: text("wv0a200001"),
        mtu: 1450,
    }
}

fn direct(remote: &str) -> PathStatus {
    PathStatus::Direct { remote: parsed(remote), fixed: false, rtt_us: Some(1250), mtu: Some(1450) }
}

/// Peers 2 to 5: one reached directly, one through it, and two that no way is known to reach.
pub(super) fn with_detours() -> Status {
    let mut status = example();
    let peer = |n: u8, nickname: &str, path| PeerStatus { id: id(n, nickname), path, ..status.peers[2].clone() };
    let relayed = PathStatus::Relayed {
        via: id(2, "host2"),
        why: text("no answer from 192.168.48.13:6784 for 12 s"),
        mtu: Some(1400),
    };
    let lost = PathStatus::Unconfirmed { remote: Some(parsed("192.168.48.14:6784")), why: text("no peer reaches it") };
    let silent = PathStatus::Unconfirmed { remote: None, why: String::new() };
    let others = [peer(3, "h3", relayed), peer(4, "h4", lost), peer(5, "", silent)];
    status.peers.pop();
    status.peers.extend(others);
    status.connections.push(Connection { peer: Some(id(4, "h4")), ..attempt("192.168.48.14:50123", Pending) });
    status
}

fn connections() -> Vec<Connection> {
    vec![
        Connection {
            outbound: false,
            peer: Some(id(2, "host2")),
            data: Some(parsed("192.168.48.12:6784")),
            mtu: Some(1450),
            rtt_us: Some(1250),
            ..attempt("192.168.48.12:33866", Established)
        },
        Connection { peer: Some(id(3, "h3")), ..attempt("192.168.48.13:6783", Pending) },
        Connection {
            info: text("connection refused"),
            retry_in_ms: Some(4200),
            ..attempt("192.168.48.14:6783", Retrying)
        },
        Connection { info: text("cannot connect to ourself"), ..attempt("h1", Failed) },
        attempt("host5.example", Connecting),
    ]
}

/// Three peers that own a third each, the last one out of reach.
fn owners() -> Vec<OwnerStatus> {
    vec![
        owner(1, "host1", 349_526, Some(2), false),
        owner(2, "host2", 349_525, None, false),
        owner(3, "h3", 349_525, None, true),
    ]
}

fn peer(n: u8, nickname: &str, links: Vec<PeerLink>, path: PathStatus) -> PeerStatus {
    PeerStatus { id: id(n, nickname), uid: parsed(&format!("{n:032x}")), links, path, standby: None }
}

fn peers() -> Vec<PeerStatus> {
    let here = [link(2, "host2", "192.168.48.12:33866", false, true), link(3, "h3", "192.168.48.13:6783", true, false)];
    let other = link(1, "host1", "192.168.48.11:6783", true, true);
    vec![
        peer(1, "host1", here.to_vec(), PathStatus::Here),
        peer(2, "host2", vec![other], direct("192.168.48.12:6784")),
        peer(9, "", Vec::new(), direct("192.168.48.19:6784")),
    ]
}

fn dataplane() -> Dataplane {
    Dataplane {
        bpf_dir: text("/sys/fs/bpf/weave"),
        programs: vec![
            ProgramStatus { name: text("weave_container"), id: 11, attached_to: ["a", "b", "c"].map(text).to_vec() },
            ProgramStatus { name: text("weave_underlay"), id: 12, attached_to: vec![text("eth0")] },
        ],
        maps: vec![MapStatus { name: text("weave_routes"), entries: 3, capacity: 65536 }],
        counters: vec![CounterStatus { name: text("encap"), packets: 5, bytes: 420 }],
        drops: vec![
            DropStatus { reason: text("no-route"), packets: 2 },
            DropStatus { reason: text("malformed"), packets: 0 },
            DropStatus { reason: text("too-big"), packets: 1 },
        ],
    }
}

/// A peer with a link of each state.
pub(super) fn example() -> Status {
    Status {
        version: text("1.2.3"),
        name: id(1, "").name,
        nickname: text("host1"),
        uid: parsed(&format!("{:032x}", 1)),
        incarnation: 3,
        protocol: ProtocolVersions { min: 1, max: 2 },
        port: 6783,
        password: false,
        key: false,
        discovery: true,
        container_mtu: 1450,
        targets: vec![text("192.168.48.12"), text("host5.example")],
        connections: connections(),
        peers: peers(),
        ipam: IpamStatus {
            state: text("ready"),
            ready: true,
            range: parsed("10.32.0.0/12"),
            size: 1_048_576,
            default_subnet: parsed("10.32.0.0/12"),
            owners: owners(),
        },
        containers: vec![container("c1", &["10.32.0.1/12"], true), container("long-name", &["10.32.0.2/12"], false)],
        narrow_paths: Vec::new(),
        more_narrow_paths: 0,
        dataplane: dataplane(),
        conn_limit: 200,
        unicast_routes: vec![UnicastRoute { dest: id(2, "host2"), via: id(2, "host2") }],
        broadcast_routes: vec![BroadcastRoute { source: id(1, "host1"), via: vec![id(2, "host2")] }],
        channels: vec![ChannelStatus {
            name: text("peers"),
            known: true,
            entries: 3,
            errors: 0,
            last_error: String::new(),
        }],
        refused: Vec::new(),
        more_refused: 0,
        dns: None,
        warnings: Vec::new(),
    }
}

#[test]
fn peers_with_their_links() {
    let expected = "\
7e:21:4a:70:2f:01(host1)  this peer
   <-  192.168.48.12:33866  7e:21:4a:70:2f:02(host2)  established
   ->  192.168.48.13:6783   7e:21:4a:70:2f:03(h3)     pending
7e:21:4a:70:2f:02(host2)  direct 192.168.48.12:6784 mtu=1450 rtt=1.2ms
   ->  192.168.48.11:6783   7e:21:4a:70:2f:01(host1)  established
7e:21:4a:70:2f:09         direct 192.168.48.19:6784 mtu=1450 rtt=1.2ms
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
    let remote = parsed("192.168.48.12:6784");
    status_now.peers[1].path = PathStatus::Direct { remote, fixed: true, rtt_us: None, mtu: None };
    status_now.peers[1].standby = Some(StandbyPath { remote, fixed: false, via: Some(id(3, "h3")) });
    status_now.peers[2].standby = Some(StandbyPath { remote, fixed: true, via: None });
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
    hostile.peers[2].path = PathStatus::Relayed { via: id(2, "a\nb\u{200b}"), why: text("a\nb\u{2066}"), mtu: None };
    hostile.channels[0] =
        ChannelStatus { name: text("a\nb"), errors: 1, last_error: text("a\nb"), ..hostile.channels[0].clone() };
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
    let former: Status = serde_json::from_value(value).expect("a status");
    let shown = status(&former, None, false);
    assert!(!shown.contains("ConnLimit"), "{shown}");
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
