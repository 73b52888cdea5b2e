//! The core's answers in the words of the contract.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    api::{self, types},
    proto::{
        boot::SecretKind,
        command::{
            ChannelStatus, Connection, ConnectionState, ContainerState, ContainerStatus, NarrowPath, OwnerStatus,
            PathStatus, PeerStatus, Status,
        },
        name::PeerName,
        reservation::Place,
        topology,
        wire::VERSIONS,
    },
};

use super::KernelFacts;

/// Nicknames, by peer.
type Names = BTreeMap<PeerName, String>;

pub(super) fn strings<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

pub(super) fn container(from: &ContainerStatus) -> types::Container {
    let state = match from.state {
        ContainerState::Reserved => "reserved",
        ContainerState::Changing => "changing",
        ContainerState::Attached => "attached",
        ContainerState::Vanished => "vanished",
        ContainerState::Absent => "absent",
    };
    types::Container {
        owner: from.owner.clone(),
        state: state.to_owned(),
        age_s: from.age.as_secs(),
        netns: from.place.as_ref().and_then(Place::path).unwrap_or_default().to_owned(),
        mac: from.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        addrs: strings(&from.addrs),
        host_if: from.host_if.clone(),
        mtu: from.mtu,
    }
}

pub(super) fn status(from: &Status, kernel: KernelFacts) -> types::Status {
    let (dataplane, troubles) = dataplane(kernel);
    let (names, me) = (&from.nicknames, &from.peers[0].record);
    types::Status {
        // Read from memory, not written by code: the test of rolling upgrades makes a program of another version by its text.
        version: std::hint::black_box(api::VERSION).to_owned(),
        name: me.name.to_string(),
        nickname: me.nickname.clone(),
        uid: me.uid.to_string(),
        incarnation: me.point.0,
        protocol: types::Protocol { min: VERSIONS.0, max: VERSIONS.1 },
        port: from.launch.port,
        password: from.launch.secret == SecretKind::Password,
        key: from.launch.secret == SecretKind::Key,
        discovery: from.launch.discovery,
        container_mtu: from.container_mtu,
        targets: strings(&from.targets),
        connections: from.connections.iter().map(|one| connection(one, names)).collect(),
        peers: from.peers.iter().map(|one| peer(one, names)).collect(),
        ipam: ipam(from),
        containers: from.containers.iter().map(container).collect(),
        narrow_paths: from.narrow_paths.iter().map(|one| narrow_path(one, names)).collect(),
        more_narrow_paths: from.more_narrow_paths as u64,
        dataplane,
        conn_limit: from.launch.conn_limit,
        unicast_routes: from.peers.iter().filter_map(|one| unicast_route(one, names)).collect(),
        broadcast_routes: broadcast_routes(from),
        channels: from.channels.iter().map(channel).collect(),
        warnings: from.warnings.iter().cloned().chain(troubles).collect(),
    }
}

fn narrow_path(from: &NarrowPath, names: &Names) -> types::NarrowPath {
    let container = |(owner, mtu): &(String, u32)| types::SizedContainer { owner: owner.clone(), mtu: *mtu };
    types::NarrowPath {
        peer: peer_ref(from.peer, names),
        mtu: from.mtu,
        containers: from.containers.iter().map(container).collect(),
        more_containers: from.more as u64,
    }
}

fn connection(from: &Connection, names: &Names) -> types::Connection {
    let state = match from.state {
        ConnectionState::Connecting => "connecting",
        ConnectionState::Pending => "pending",
        ConnectionState::Established => "established",
        ConnectionState::Retrying => "retrying",
        ConnectionState::Failed => "failed",
    };
    types::Connection {
        outbound: from.outbound,
        address: from.address.clone(),
        state: state.to_owned(),
        peer: from.peer.map(|name| peer_ref(name, names)),
        data: from.data.map(|d| d.to_string()),
        info: from.info.clone(),
        retry_in_ms: from.retry_in.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
        mtu: from.mtu,
        rtt_us: from.rtt.map(micros),
    }
}

fn peer(PeerStatus { record, path: to, standby }: &PeerStatus, names: &Names) -> types::Peer {
    let links = record.sessions.iter().map(|session| types::PeerLink {
        id: peer_ref(session.peer, names),
        address: session.address.clone(),
        outbound: session.outbound,
        established: record.paths.contains(&session.peer),
    });
    let standby = standby.as_ref().map(|path| types::Standby {
        remote: path.remote.to_string(),
        fixed: path.fixed,
        via: path.via.map(|via| peer_ref(via, names)),
    });
    let id = peer_ref(record.name, names);
    types::Peer { id, uid: record.uid.to_string(), links: links.collect(), path: Some(path(to, names)), standby }
}

fn path(from: &PathStatus, names: &Names) -> types::Path {
    match from {
        PathStatus::Here => types::Path::Here,
        PathStatus::Direct { remote, fixed, rtt, mtu } => {
            types::Path::Direct { remote: remote.to_string(), fixed: *fixed, rtt_us: rtt.map(micros), mtu: *mtu }
        }
        PathStatus::Relayed { via, why, mtu } => {
            types::Path::Relayed { via: peer_ref(*via, names), why: why.clone(), mtu: *mtu }
        }
        PathStatus::Unconfirmed { remote, why } => {
            types::Path::Unconfirmed { remote: remote.map(|r| r.to_string()), why: why.clone() }
        }
    }
}

fn unicast_route(to: &PeerStatus, names: &Names) -> Option<types::UnicastRoute> {
    let dest = peer_ref(to.record.name, names);
    let via = match &to.path {
        PathStatus::Direct { .. } => dest.clone(),
        PathStatus::Relayed { via, .. } => peer_ref(*via, names),
        PathStatus::Here | PathStatus::Unconfirmed { .. } => return None,
    };
    Some(types::UnicastRoute { dest, via })
}

fn broadcast_routes(from: &Status) -> Vec<types::BroadcastRoute> {
    let named = |peer: &PeerName| peer_ref(*peer, &from.nicknames);
    let route = |(source, children): &(PeerName, Vec<PeerName>)| types::BroadcastRoute {
        source: named(source),
        via: children.iter().map(named).collect(),
    };
    // Paths through the mesh are computed here, from the records: the core has packets to see to.
    let mut records = from.peers.iter().map(|peer| &peer.record);
    let Some(me) = records.next() else { return Vec::new() };
    topology::broadcasts(me, &records.collect::<Vec<_>>()).iter().map(route).collect()
}

fn channel(from: &ChannelStatus) -> types::Channel {
    types::Channel {
        name: from.name.clone(),
        known: from.known,
        entries: from.entries as u64,
        errors: from.errors,
        last_error: from.last_error.clone(),
    }
}

fn ipam(from: &Status) -> types::Ipam {
    let Status { ipam, params, nicknames, .. } = from;
    types::Ipam {
        state: ipam.state.clone(),
        ready: ipam.ready,
        range: params.range.to_string(),
        size: 1 << (32 - params.range.prefix_len()),
        default_subnet: params.default_subnet.to_string(),
        owners: ipam.owners.iter().map(|one| owner(one, nicknames)).collect(),
    }
}

fn owner(from: &OwnerStatus, names: &Names) -> types::Owner {
    types::Owner {
        id: peer_ref(from.peer, names),
        addresses: from.addresses,
        active: from.active,
        unreachable: from.unreachable,
        ranges: strings(&from.ranges),
    }
}

fn peer_ref(name: PeerName, names: &Names) -> types::PeerRef {
    types::PeerRef { name: name.to_string(), nickname: names.get(&name).cloned().unwrap_or_default() }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The kernel's part of a status, and its troubles.
fn dataplane(from: KernelFacts) -> (types::Dataplane, Vec<String>) {
    let programs = from.programs.into_iter().map(|(name, id, attached_to)| types::Program { name, id, attached_to });
    let maps = from.maps.into_iter().map(|(name, entries, capacity)| types::Map { name, entries, capacity });
    let counters = from.counters.into_iter().map(|(name, packets, bytes)| types::Counter { name, packets, bytes });
    let drops = from.drops.into_iter().map(|(reason, packets)| types::Drop { reason, packets });
    let dataplane = types::Dataplane {
        bpf_dir: from.bpf_dir,
        programs: programs.collect(),
        maps: maps.collect(),
        counters: counters.collect(),
        drops: drops.collect(),
    };
    (dataplane, from.warnings)
}
