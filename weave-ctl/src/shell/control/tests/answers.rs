//! What the core and the host are taken to say.

use std::sync::Arc;

use crate::proto::{
    name::{PeerName, PeerUid},
    status::{
        ChannelStatus, Connection, ConnectionState, ContainerState, ContainerStatus, CounterStatus, Dataplane,
        DropStatus, HostStatus, IpamStatus, MapStatus, Names, NarrowPath, PathStatus, PeerRef, PeerStatus,
        ProgramStatus, ProtocolVersions, SizedContainer, Snapshot, Status,
    },
    wire::entry::{Content, Entry, PeerRecord, Point, ReportedSession, Version, record_key},
};

pub(super) fn name(n: u8) -> PeerName {
    PeerName::from_bytes([0, 0, 0, 0, 0, n])
}

pub(super) fn named(n: u8) -> PeerRef {
    let nickname = ["", "one", "two", "three", "four", "five"].get(usize::from(n)).copied().unwrap_or_default();
    PeerRef { name: name(n), nickname: nickname.into() }
}

fn record(n: u8) -> PeerRecord {
    PeerRecord {
        name: name(n),
        uid: PeerUid(n.into()),
        point: Point(2, 0),
        nickname: named(n).nickname,
        sessions: sessions(n).map(session).collect(),
        paths: sessions(n).map(name).collect(),
        ..PeerRecord::default()
    }
}

fn entry(n: u8) -> Arc<Entry> {
    let (key, version, content) = (record_key(name(n)), Version::default(), Content::Record(Box::new(record(n))));
    Arc::new(Entry { key, uid: PeerUid(n.into()), version, raw: [].into(), content })
}

fn peer(n: u8, path: PathStatus) -> PeerStatus {
    PeerStatus { id: named(n), uid: PeerUid(n.into()), links: Vec::new(), path, standby: None }
}

/// One and two have a session and a path, two and three, and two and nine, of which nothing is known but the name.
fn sessions(n: u8) -> impl Iterator<Item = u8> {
    [(1, 2), (2, 1), (2, 3), (2, 9), (3, 2)].into_iter().filter(move |(from, _)| *from == n).map(|(_, to)| to)
}

fn session(to: u8) -> ReportedSession {
    ReportedSession { peer: name(to), uid: PeerUid(to.into()), address: format!("192.0.2.{to}:6783"), outbound: true }
}

/// This peer, and one of each kind of path.
fn peers() -> Vec<PeerStatus> {
    let remote = "192.0.2.2:6784".parse().expect("an address");
    vec![
        peer(1, PathStatus::Here),
        peer(2, PathStatus::Direct { remote, fixed: true, rtt_us: Some(250), mtu: Some(1450) }),
        peer(3, PathStatus::Relayed { via: named(2), why: "filtered".into(), mtu: None }),
        peer(4, PathStatus::Unconfirmed { remote: Some(remote), why: "no answer".into() }),
        peer(5, PathStatus::Unconfirmed { remote: None, why: String::new() }),
    ]
}

pub(super) fn snapshot() -> Snapshot {
    let names = Names((1..=5).map(|n| (name(n), named(n).nickname)).collect());
    Snapshot { status: core_status(), names, me: record(1), records: (2..=5).map(entry).collect() }
}

fn core_status() -> Status {
    let net = "10.32.0.0/12".parse().expect("a network");
    let (state, owners) = ("awaiting consensus".into(), Vec::new());
    Status {
        version: String::new(),
        name: name(1),
        nickname: "one".into(),
        uid: PeerUid(1),
        incarnation: 2,
        protocol: ProtocolVersions::OURS,
        port: 6783,
        password: false,
        key: false,
        discovery: true,
        container_mtu: 1450,
        targets: vec!["host2:6783".into()],
        connections: vec![Connection {
            outbound: true,
            address: "192.0.2.2:6783".into(),
            state: ConnectionState::Established,
            peer: Some(named(2)),
            data: Some("192.0.2.2:6784".parse().expect("an address")),
            info: String::new(),
            retry_in_ms: Some(1500),
            mtu: Some(1450),
            rtt_us: Some(250),
        }],
        peers: peers(),
        ipam: IpamStatus { state, ready: false, range: net, size: 1 << 20, default_subnet: net, owners },
        containers: vec![container_status("c1")],
        narrow_paths: vec![NarrowPath {
            peer: named(2),
            mtu: 1350,
            containers: vec![SizedContainer { owner: "c1".into(), mtu: 1450 }],
            more_containers: 2,
        }],
        more_narrow_paths: 3,
        dataplane: Dataplane::default(),
        conn_limit: 200,
        unicast_routes: Vec::new(),
        broadcast_routes: Vec::new(),
        channels: vec![ChannelStatus {
            name: "peers".into(),
            known: true,
            entries: 5,
            errors: 2,
            last_error: "not signed".into(),
        }],
        refused: Vec::new(),
        more_refused: 0,
        dns: None,
        warnings: vec!["from the core".into()],
    }
}

pub(super) fn container_status(id: &str) -> ContainerStatus {
    ContainerStatus {
        owner: id.into(),
        state: ContainerState::Attached,
        age_s: 61,
        netns: format!("/run/netns/{id}"),
        mac: "0a:77:0a:20:00:01".into(),
        addrs: vec!["10.32.0.1/12".parse().expect("a network")],
        host_if: "wv0a200001".into(),
        mtu: 1450,
    }
}

pub(super) fn host_status() -> HostStatus {
    let dataplane = Dataplane {
        bpf_dir: "/sys/fs/bpf/weave".into(),
        programs: vec![ProgramStatus { name: "weave_underlay".into(), id: 12, attached_to: vec!["eth0".into()] }],
        maps: vec![MapStatus { name: "weave_routes".into(), entries: 3, capacity: 65536 }],
        counters: vec![CounterStatus { name: "encap".into(), packets: 5, bytes: 420 }],
        drops: vec![DropStatus { reason: "no-route".into(), packets: 2 }],
    };
    HostStatus { version: "1.2.3".into(), dataplane, resolver: None, warnings: vec!["from the host".into()] }
}
