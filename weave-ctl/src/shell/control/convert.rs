//! The core's answers in the words of the contract.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    api::{self, types},
    proto::{
        command::{
            ChannelStatus, Connection, ConnectionState, ContainerStatus, IpamStatus, NarrowPath, OwnerStatus,
            PathStatus, PeerLink, PeerStatus, StandbyPath, Status,
        },
        name::PeerName,
    },
};

use super::KernelFacts;

pub(super) fn strings<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

pub(super) fn container(from: &ContainerStatus) -> types::Container {
    types::Container {
        id: from.id.clone(),
        netns: from.netns.clone(),
        mac: from.mac.to_string(),
        addrs: strings(&from.addrs),
        host_if: from.host_if.clone(),
        mtu: from.mtu,
        attached: from.attached,
    }
}

pub(super) fn status(from: &Status, kernel: KernelFacts) -> types::Status {
    let (dataplane, troubles) = dataplane(kernel);
    types::Status {
        version: api::VERSION.to_owned(),
        name: from.name.to_string(),
        nickname: from.nickname.clone(),
        uid: from.uid.to_string(),
        incarnation: from.incarnation,
        protocol: types::Protocol { min: from.protocol.0, max: from.protocol.1 },
        port: from.port,
        password: from.encrypted,
        discovery: from.discovery,
        container_mtu: from.container_mtu,
        targets: strings(&from.targets),
        connections: from.connections.iter().map(connection).collect(),
        peers: from.peers.iter().map(peer).collect(),
        ipam: ipam(&from.ipam),
        containers: from.containers.iter().map(container).collect(),
        narrow_paths: from.narrow_paths.shown.iter().map(narrow_path).collect(),
        more_narrow_paths: from.narrow_paths.more as u64,
        dataplane,
        conn_limit: from.conn_limit,
        unicast_routes: from.peers.iter().filter_map(unicast_route).collect(),
        broadcast_routes: broadcast_routes(from),
        channels: from.channels.iter().map(channel).collect(),
        warnings: from.warnings.iter().cloned().chain(troubles).collect(),
    }
}

fn narrow_path(from: &NarrowPath) -> types::NarrowPath {
    let container = |(id, mtu): &(String, u32)| types::SizedContainer { id: id.clone(), mtu: *mtu };
    types::NarrowPath {
        peer: peer_ref(from.peer, &from.nickname),
        mtu: from.mtu,
        containers: from.containers.iter().map(container).collect(),
        more_containers: from.more as u64,
    }
}

fn connection(from: &Connection) -> types::Connection {
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
        peer: from.peer.as_ref().map(|(name, nickname)| peer_ref(*name, nickname)),
        data: from.data.map(|d| d.to_string()),
        info: from.info.clone(),
        retry_in_ms: from.retry_in.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
        mtu: from.mtu,
        rtt_us: from.rtt.map(micros),
    }
}

fn peer(from: &PeerStatus) -> types::Peer {
    types::Peer {
        id: peer_ref(from.name, &from.nickname),
        uid: from.uid.to_string(),
        links: from.links.iter().map(peer_link).collect(),
        path: Some(path(&from.path)),
        standby: from.standby.as_ref().map(standby),
    }
}

fn path(from: &PathStatus) -> types::Path {
    match from {
        PathStatus::Here => types::Path::Here,
        PathStatus::Direct { remote, fixed, rtt, mtu } => {
            types::Path::Direct { remote: remote.to_string(), fixed: *fixed, rtt_us: rtt.map(micros), mtu: *mtu }
        }
        PathStatus::Relayed { via: (name, nickname), why, mtu } => {
            types::Path::Relayed { via: peer_ref(*name, nickname), why: why.clone(), mtu: *mtu }
        }
        PathStatus::Unconfirmed { remote, why } => {
            types::Path::Unconfirmed { remote: remote.map(|r| r.to_string()), why: why.clone() }
        }
    }
}

fn standby(from: &StandbyPath) -> types::Standby {
    let via = from.via.as_ref().map(|(name, nickname)| peer_ref(*name, nickname));
    types::Standby { remote: from.remote.to_string(), fixed: from.fixed, via }
}

fn unicast_route(to: &PeerStatus) -> Option<types::UnicastRoute> {
    let dest = peer_ref(to.name, &to.nickname);
    let via = match &to.path {
        PathStatus::Direct { .. } => dest.clone(),
        PathStatus::Relayed { via: (name, nickname), .. } => peer_ref(*name, nickname),
        PathStatus::Here | PathStatus::Unconfirmed { .. } => return None,
    };
    Some(types::UnicastRoute { dest, via })
}

fn broadcast_routes(from: &Status) -> Vec<types::BroadcastRoute> {
    let nicknames: BTreeMap<PeerName, &str> = from.peers.iter().map(|p| (p.name, p.nickname.as_str())).collect();
    let named = |peer: &PeerName| peer_ref(*peer, nicknames.get(peer).copied().unwrap_or_default());
    let route = |(source, children): &(PeerName, Vec<PeerName>)| types::BroadcastRoute {
        source: named(source),
        via: children.iter().map(named).collect(),
    };
    from.broadcast.iter().map(route).collect()
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

fn peer_link(from: &PeerLink) -> types::PeerLink {
    types::PeerLink {
        id: peer_ref(from.peer, &from.nickname),
        address: from.address.clone(),
        outbound: from.outbound,
        established: from.established,
    }
}

fn ipam(from: &IpamStatus) -> types::Ipam {
    types::Ipam {
        state: from.state.clone(),
        ready: from.ready,
        range: from.range.to_string(),
        size: 1 << (32 - from.range.prefix_len()),
        default_subnet: from.default_subnet.to_string(),
        owners: from.owners.iter().map(owner).collect(),
    }
}

fn owner(from: &OwnerStatus) -> types::Owner {
    types::Owner {
        id: peer_ref(from.peer, &from.nickname),
        addresses: from.addresses,
        active: from.active,
        unreachable: from.unreachable,
        ranges: strings(&from.ranges),
    }
}

fn peer_ref(name: PeerName, nickname: &str) -> types::PeerRef {
    types::PeerRef { name: name.to_string(), nickname: nickname.to_owned() }
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
