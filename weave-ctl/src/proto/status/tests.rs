//! What a snapshot is completed with, and the text that its types have in JSON.

use serde_json::json;

use super::*;
use crate::proto::fixture::{entry, name, record, uid};

fn peer(n: u8, path: PathStatus, names: &Names) -> PeerStatus {
    PeerStatus { id: names.of(name(n)), uid: uid(n), links: Vec::new(), path, standby: None }
}

/// Peer 1 has a session to peer 2, and that to peer 3.
fn snapshot() -> Snapshot {
    let names = Names((1..=3).map(|n| (name(n), format!("host-{n}"))).collect());
    let net = "10.32.0.0/12".parse().unwrap();
    let (state, owners) = ("ready".to_owned(), Vec::new());
    let direct =
        PathStatus::Direct { remote: "192.0.2.2:6784".parse().unwrap(), fixed: false, rtt_us: None, mtu: None };
    let relayed = PathStatus::Relayed { via: names.of(name(2)), why: String::new(), mtu: None };
    let status = Status {
        version: String::new(),
        name: name(1),
        nickname: "host-1".to_owned(),
        uid: uid(1),
        incarnation: 1,
        protocol: ProtocolVersions::OURS,
        port: 6783,
        password: false,
        key: false,
        discovery: true,
        container_mtu: 1450,
        targets: Vec::new(),
        connections: Vec::new(),
        peers: vec![peer(1, PathStatus::Here, &names), peer(2, direct, &names), peer(3, relayed, &names)],
        ipam: IpamStatus { state, ready: true, range: net, size: 1 << 20, default_subnet: net, owners },
        containers: Vec::new(),
        narrow_paths: Vec::new(),
        more_narrow_paths: 0,
        dataplane: Dataplane::default(),
        conn_limit: 200,
        unicast_routes: Vec::new(),
        broadcast_routes: Vec::new(),
        channels: Vec::new(),
        refused: Vec::new(),
        more_refused: 0,
        dns: None,
        warnings: vec!["of the core".to_owned()],
    };
    let other = PeerRecord { paths: vec![name(1)], ..record(2, 1, &[1, 3]) };
    let records = vec![entry(&other), entry(&record(3, 1, &[2]))];
    Snapshot { status, names, me: record(1, 1, &[2]), records }
}

#[test]
fn a_snapshot_is_completed_from_records_and_host() {
    let dataplane = Dataplane { bpf_dir: "/sys/fs/bpf/weave".to_owned(), ..Dataplane::default() };
    let host =
        HostStatus { version: "1.2.3".to_owned(), dataplane, resolver: None, warnings: vec!["of the host".to_owned()] };
    let status = snapshot().complete(host.clone());
    let links = |at: usize| -> Vec<_> {
        status.peers[at].links.iter().map(|link| (link.id.nickname.as_str(), link.established)).collect()
    };
    assert_eq!((links(0), links(2)), (vec![("host-2", true)], vec![("host-2", true)]));
    assert_eq!(links(1), [("host-1", true), ("host-3", false)], "peer 2 reports no path to peer 3");
    let routes: Vec<_> = status.unicast_routes.iter().map(|r| (r.dest.name, r.via.name)).collect();
    assert_eq!(routes, [(name(2), name(2)), (name(3), name(2))]);
    let broadcasts: Vec<_> = status.broadcast_routes.iter().map(|r| (r.source.name, r.via.len())).collect();
    assert_eq!(broadcasts, [(name(1), 1)]);
    assert_eq!((&status.version, &status.dataplane), (&host.version, &host.dataplane));
    assert_eq!(status.warnings, ["of the core", "of the host"]);
}

#[test]
fn json_has_names_networks_and_states_as_people_write_them() {
    let status = snapshot().complete(HostStatus::default());
    let value = serde_json::to_value(&status).unwrap();
    assert_eq!((&value["name"], &value["ipam"]["range"]), (&json!("00:00:00:00:00:01"), &json!("10.32.0.0/12")));
    let link = json!({ "name": "00:00:00:00:00:02", "nickname": "host-2", "address": "192.0.2.2:6783", "outbound": true,
        "established": true });
    assert_eq!(value["peers"][0]["links"], json!([link]));
    let remote = "192.0.2.2:6784";
    let direct = json!({ "kind": "direct", "remote": remote, "fixed": false, "rtt_us": null, "mtu": null });
    assert_eq!(value["peers"][1]["path"], direct);
    assert_eq!(serde_json::from_value::<Status>(value).unwrap(), status);
    for state in ConnectionState::ALL {
        assert_eq!(serde_json::to_value(state).unwrap(), json!(state.to_string()));
    }
    assert_eq!(ContainerState::Absent.to_string(), "absent");
}
