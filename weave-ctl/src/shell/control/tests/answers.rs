//! What the core and the kernel are taken to say.

use std::time::Duration;

use weave_common::addr::Mac;

use crate::{
    proto::{
        command::{
            ChannelStatus, Connection, ConnectionState, ContainerStatus, IpamStatus, NarrowPath, NarrowPaths,
            PathStatus, PeerStatus, Status,
        },
        name::{PeerName, PeerUid},
    },
    shell::control::KernelFacts,
};

pub(super) fn name(n: u8) -> PeerName {
    PeerName::from_bytes([0, 0, 0, 0, 0, n])
}

fn peer_status(n: u8, nickname: &str, path: PathStatus) -> PeerStatus {
    let uid = PeerUid(n.into());
    PeerStatus { name: name(n), nickname: nickname.into(), uid, links: Vec::new(), path, standby: None }
}

/// This peer, and one a way of being reached.
fn peers() -> Vec<PeerStatus> {
    let remote = "192.0.2.2:6784".parse().expect("an address");
    let direct = PathStatus::Direct { remote, fixed: true, rtt: Some(Duration::from_micros(250)), mtu: Some(1450) };
    let relayed = PathStatus::Relayed { via: (name(2), "two".into()), why: "filtered".into(), mtu: None };
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
    Status {
        name: name(1),
        uid: PeerUid(10),
        nickname: "one".into(),
        incarnation: 2,
        port: 6783,
        encrypted: false,
        discovery: true,
        container_mtu: 1450,
        targets: vec!["host2:6783".parse().expect("a target")],
        connections: vec![Connection {
            outbound: true,
            address: "192.0.2.2:6783".into(),
            state: ConnectionState::Established,
            peer: Some((name(2), "two".into())),
            data: Some("192.0.2.2:6784".parse().expect("an address")),
            info: String::new(),
            retry_in: Some(Duration::from_millis(1500)),
            mtu: Some(1450),
            rtt: Some(Duration::from_micros(250)),
        }],
        peers: peers(),
        ipam: IpamStatus {
            state: "awaiting consensus".into(),
            ready: false,
            range: net,
            default_subnet: net,
            owners: Vec::new(),
        },
        containers: vec![container_status("c1")],
        narrow_paths: NarrowPaths {
            shown: vec![NarrowPath {
                peer: name(2),
                nickname: "two".into(),
                mtu: 1350,
                containers: vec![("c1".into(), 1450)],
                more: 2,
            }],
            more: 3,
        },
        conn_limit: 200,
        protocol: (3, 4),
        broadcast: vec![(name(1), vec![name(2), name(9)]), (name(3), Vec::new())],
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
        id: id.into(),
        netns: format!("/run/netns/{id}"),
        mac: Mac([10, 0x77, 10, 32, 0, 1]),
        addrs: vec!["10.32.0.1/12".parse().expect("a network")],
        host_if: "wv0a200001".into(),
        mtu: 1450,
        attached: true,
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
