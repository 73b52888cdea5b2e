//! What the core and the kernel are taken to say.

use std::time::Duration;

use weave_common::addr::Mac;

use crate::{
    proto::{
        boot::{Init, Launch, LaunchParams, SecretKind},
        command::{
            ChannelStatus, Connection, ConnectionState, ContainerState, ContainerStatus, IpamStatus, NarrowPath,
            PathStatus, PeerStatus, Status,
        },
        name::{PeerName, PeerUid},
        reservation::{Netns, Place},
        wire::entry::{PeerRecord, ReportedSession},
    },
    shell::control::KernelFacts,
};

pub(super) fn name(n: u8) -> PeerName {
    PeerName::from_bytes([0, 0, 0, 0, 0, n])
}

fn peer_status(n: u8, nickname: &str, path: PathStatus) -> PeerStatus {
    let record = PeerRecord {
        name: name(n),
        uid: PeerUid(n.into()),
        point: crate::proto::wire::entry::Point(2, 0),
        nickname: nickname.into(),
        sessions: sessions(n).map(session).collect(),
        paths: sessions(n).map(name).collect(),
        ..PeerRecord::default()
    };
    PeerStatus { record, path, standby: None }
}

/// One and two have a session and a path, two and three, and two and nine, of which nothing is known but the name.
fn sessions(n: u8) -> impl Iterator<Item = u8> {
    [(1, 2), (2, 1), (2, 3), (2, 9), (3, 2)].into_iter().filter(move |(from, _)| *from == n).map(|(_, to)| to)
}

fn session(to: u8) -> ReportedSession {
    ReportedSession { peer: name(to), uid: PeerUid(to.into()), address: format!("192.0.2.{to}:6783"), outbound: true }
}

/// This peer, and one a way of being reached.
fn peers() -> Vec<PeerStatus> {
    let remote = "192.0.2.2:6784".parse().expect("an address");
    let direct = PathStatus::Direct { remote, fixed: true, rtt: Some(Duration::from_micros(250)), mtu: Some(1450) };
    let relayed = PathStatus::Relayed { via: name(2), why: "filtered".into(), mtu: None };
    let lost = PathStatus::Unconfirmed { remote: Some(remote), why: "no answer".into() };
    vec![
        peer_status(1, "one", PathStatus::Here),
        peer_status(2, "two", direct),
        peer_status(3, "three", relayed),
        peer_status(4, "four", lost),
        peer_status(5, "five", PathStatus::Unconfirmed { remote: None, why: String::new() }),
    ]
}

pub(super) fn core_status() -> Status {
    let net = "10.32.0.0/12".parse().expect("a network");
    let launch = Launch {
        name: None,
        nickname: "one".into(),
        range: None,
        default_subnet: None,
        seeds: Vec::new(),
        init: Init::Undeclared,
        targets: Vec::new(),
        discovery: true,
        conn_limit: 200,
        port: 6783,
        secret: SecretKind::None,
        test_grace: None,
    };
    let (init, seeds, peers_named) = (Init::Undeclared, Vec::new(), Vec::new());
    Status {
        launch,
        params: LaunchParams { range: net, default_subnet: net, seeds, init, peers: peers_named },
        nicknames: peers().into_iter().map(|peer| (peer.record.name, peer.record.nickname)).collect(),
        container_mtu: 1450,
        targets: vec!["host2:6783".parse().expect("a target")],
        connections: vec![Connection {
            outbound: true,
            address: "192.0.2.2:6783".into(),
            state: ConnectionState::Established,
            peer: Some(name(2)),
            data: Some("192.0.2.2:6784".parse().expect("an address")),
            info: String::new(),
            retry_in: Some(Duration::from_millis(1500)),
            mtu: Some(1450),
            rtt: Some(Duration::from_micros(250)),
        }],
        peers: peers(),
        ipam: IpamStatus { state: "awaiting consensus".into(), ready: false, owners: Vec::new() },
        containers: vec![container_status("c1")],
        narrow_paths: vec![NarrowPath { peer: name(2), mtu: 1350, containers: vec![("c1".into(), 1450)], more: 2 }],
        more_narrow_paths: 3,
        channels: vec![ChannelStatus {
            name: "peers".into(),
            known: true,
            entries: 5,
            errors: 2,
            last_error: "not signed".into(),
        }],
        warnings: vec!["from the core".into()],
    }
}

pub(super) fn container_status(id: &str) -> ContainerStatus {
    ContainerStatus {
        owner: id.into(),
        place: Some(Place::Netns(Netns { path: format!("/run/netns/{id}"), id: Default::default() })),
        mac: Some(Mac([10, 0x77, 10, 32, 0, 1])),
        addrs: vec!["10.32.0.1/12".parse().expect("a network")],
        host_if: "wv0a200001".into(),
        mtu: 1450,
        state: ContainerState::Attached,
        age: Duration::from_secs(61),
    }
}

pub(super) fn kernel_facts() -> KernelFacts {
    KernelFacts {
        bpf_dir: "/sys/fs/bpf/weave".into(),
        counters: vec![("encap".into(), 5, 420)],
        drops: vec![("no-route".into(), 2)],
        maps: vec![("weave_routes".into(), 3, 65536)],
        programs: vec![("weave_underlay".into(), 12, vec!["eth0".into()])],
        warnings: vec!["from the kernel".into()],
    }
}
