//! Takes the snapshot of everything the core knows, for `status` and `report`.
//!
//! It runs on the driver: each peer, session, owner, container and entry is looked at once, and what needs the graph of
//! sessions was computed before ([`Topology`](crate::proto::topology)) or follows beside the driver ([`Snapshot::complete`]).

use std::{cmp::Reverse, collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use weave_common::vxlan;

use super::Node;
use crate::proto::{
    boot::SecretKind,
    ipam::{Ring, allocator::Access, ring},
    name::{PeerId, PeerName},
    path::RouteStatus,
    session::{DialEntry, DialKey, DialState, Session},
    status::{
        Connection, ConnectionState, Dataplane, IpamStatus, Names, NarrowPath, OwnerStatus, PathStatus, PeerStatus,
        ProtocolVersions, SizedContainer, Snapshot, StandbyPath, Status,
    },
    time::Instant,
    wire::entry::{Entry, PeerRecord},
};

/// What a removed peer shows.
const REMOVED: &str = "this peer was removed from the network by `rmpeer`, and its addresses may belong to others by now: \
                       `reset` it and launch it anew";

/// Most narrow paths that are named, and most peers without a route.
const SHOWN: usize = 16;
/// Most containers that are named with each narrow path.
const CONTAINERS_SHOWN: usize = 8;

/// MTU in bytes of containers' packets on a path that takes outer IP packets of `size` bytes.
fn inner_mtu(size: u32) -> u32 {
    size.saturating_sub(vxlan::OVERHEAD)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Node {
    pub(super) fn status(&self, now: Instant) -> Snapshot {
        let names = Names(self.nicknames());
        let me = self.membership.me().clone();
        let mut records: Vec<Arc<Entry>> = self.membership.other_entries().cloned().collect();
        records.sort_by_key(|entry| entry.key.owner);
        let others: Vec<(&PeerRecord, RouteStatus)> = records
            .iter()
            .filter_map(|entry| entry.record())
            .map(|record| (record, self.paths.status(record.name, now)))
            .collect();
        let (narrow_paths, more_narrow_paths) = self.narrow_paths(&names);
        let (refused, more_refused) = self.refused.status(&names, now);
        let here =
            PeerStatus { id: names.of(me.name), uid: me.uid, links: vec![], path: PathStatus::Here, standby: None };
        let peers = others.iter().map(|(record, route)| self.peer(record, route, &names));
        let status = Status {
            version: String::new(),
            name: me.name,
            nickname: me.nickname.clone(),
            uid: me.uid,
            incarnation: me.point.0,
            protocol: ProtocolVersions::OURS,
            port: self.launch.port,
            password: self.launch.secret == SecretKind::Password,
            key: self.launch.secret == SecretKind::Key,
            discovery: self.launch.discovery,
            container_mtu: self.container_mtu(),
            targets: self.sessions.targets().iter().map(ToString::to_string).collect(),
            connections: self.connections(&names, now),
            peers: std::iter::once(here).chain(peers).collect(),
            ipam: self.ipam_status(&names, now),
            containers: self.endpoints.status(now),
            narrow_paths,
            more_narrow_paths,
            dataplane: Dataplane::default(),
            conn_limit: self.launch.conn_limit,
            unicast_routes: Vec::new(),
            broadcast_routes: Vec::new(),
            channels: self.membership.channels(),
            refused,
            more_refused,
            dns: Some(self.dns_status()),
            warnings: self.warnings(&others, now),
        };
        Snapshot { status, names, me, records }
    }

    fn warnings(&self, others: &[(&PeerRecord, RouteStatus)], now: Instant) -> Vec<String> {
        let shortened =
            |grace: Duration| format!("grace periods are shortened to {} s: for tests only", grace.as_secs());
        let mut warnings: Vec<String> = self.launch.test_grace.map(shortened).into_iter().collect();
        warnings.extend(self.sessions.warnings(now));
        if let Some(at) = self.topology.duplicate(self.me.name, self.me.uid) {
            let me = self.me.name;
            let text =
                format!("another peer at {at} is called {me} like this one: relaunch one of them with another --name");
            warnings.push(text);
        }
        let duplicates = self.topology.duplicates().filter(|(name, _)| *name != self.me.name);
        warnings.extend(duplicates.map(|(name, at)| {
            let at = at.join(" and ");
            format!("several peers are called {name}, at {at}: relaunch all but one with another --name")
        }));
        warnings.extend(self.membership.warning(now));
        warnings.extend(self.near.warnings(&self.bounds()));
        warnings.extend(self.refused.warnings(&|peer| self.called(peer)));
        warnings.extend(self.keeper.conflicts().cloned());
        warnings.extend(self.keeper.removed().then(|| REMOVED.to_owned()));
        warnings.extend(self.datapath.warnings().cloned());
        warnings.extend(self.without_route(others));
        warnings
    }

    fn ipam_status(&self, names: &Names, now: Instant) -> IpamStatus {
        let witnesses = self.witnesses(now);
        let mut shares: BTreeMap<PeerId, OwnerStatus> = BTreeMap::new();
        for (net, owner) in self.keeper.ring().into_iter().flat_map(Ring::routes) {
            let share = shares.entry(owner).or_insert_with(|| OwnerStatus {
                id: names.of(owner.name),
                addresses: 0,
                active: (owner == self.me).then(|| self.endpoints.allocator().active()),
                unreachable: owner != self.me && !witnesses.is_alive(owner),
                ranges: Vec::new(),
            });
            share.addresses += ring::size(net);
            share.ranges.push(net);
        }
        let own = shares.remove(&self.me);
        IpamStatus {
            state: self.ipam_state(now),
            ready: matches!(self.keeper.access(), Access::Ring(_)),
            range: self.params.range,
            size: ring::size(self.params.range),
            default_subnet: self.params.default_subnet,
            owners: own.into_iter().chain(shares.into_values()).collect(),
        }
    }

    /// How address management stands, in a few words.
    pub(super) fn ipam_state(&self, now: Instant) -> String {
        let Some(ring) = self.keeper.ring() else {
            let idle = self.election.as_ref().is_some_and(|e| e.trouble().is_none() && !e.is_needed());
            let text = self.waiting_for_ring();
            return if idle { format!("idle; {text}") } else { text };
        };
        let pending = self.endpoints.waiting();
        match (self.keeper.access(), pending) {
            (Access::Removed, _) => REMOVED.to_owned(),
            (Access::Leaving, _) => "leaving: handing this peer's addresses over".to_owned(),
            (Access::Waiting(why), _) => why.to_owned(),
            (Access::Ring(_), Some((count, why))) => {
                let witnesses = self.witnesses(now);
                let reachable = ring.owners().iter().any(|id| id.name != self.me.name && witnesses.reached(id.name));
                if !reachable && self.keeper.owned() == 0 {
                    "all IP ranges owned by unreachable peers - use `rmpeer` if they are dead".to_owned()
                } else {
                    let containers = if count == 1 { "container" } else { "containers" };
                    format!("waiting for IP(s) to become available for {count} {containers}: {why}")
                }
            }
            (Access::Ring(_), None) if self.keeper.owned() == 0 => {
                "ready; this peer owns no addresses yet, and asks others when one is needed".to_owned()
            }
            (Access::Ring(_), None) => "ready".to_owned(),
        }
    }

    /// Sessions first, then attempts that are no session yet.
    fn connections(&self, names: &Names, now: Instant) -> Vec<Connection> {
        let mut all: Vec<Connection> =
            self.sessions.iter().map(|session| self.connection(session, names, now)).collect();
        let facts = self.facts();
        let connected = self.sessions.connected();
        let attempts = self.sessions.dial_entries(&facts).into_iter().filter(|(key, entry, rests)| match key {
            // The operator named it, and may wonder why it has no session.
            DialKey::Target(_) => entry.leads_to(key).is_none_or(|peer| !connected.contains(&peer)),
            DialKey::Peer(_) => !rests,
        });
        all.extend(attempts.filter_map(|(key, entry, rests)| self.attempt((key, entry, rests), names, now)));
        all
    }

    fn connection(&self, session: &Session, names: &Names, now: Instant) -> Connection {
        let direct = session.peer().and_then(|peer| self.paths.direct(peer));
        let (state, info) = match (session.peer(), &direct) {
            (None, _) => (ConnectionState::Connecting, String::new()),
            (Some(_), Some(direct)) if direct.fixed => (
                ConnectionState::Established,
                "through NAT or a stateful filter: packets go from data port to data port".to_owned(),
            ),
            (Some(_), Some(_)) => (ConnectionState::Established, String::new()),
            (Some(peer), None) => {
                let why = silence(&self.paths.status(peer, now));
                (ConnectionState::Pending, format!("{why}{}", self.relay_text(peer)))
            }
        };
        Connection {
            outbound: session.outbound(),
            address: session.remote.to_string(),
            state,
            peer: session.peer().map(|peer| names.of(peer)),
            data: session.up.map(|up| SocketAddr::V4(direct.map_or(up.data, |direct| direct.remote))),
            info,
            retry_in_ms: None,
            mtu: session.peer().map(|peer| self.mtu_to(peer)),
            rtt_us: direct.and_then(|direct| direct.rtt).map(micros),
        }
    }

    /// MTU in bytes of containers' packets to a peer.
    fn mtu_to(&self, peer: PeerName) -> u32 {
        let theirs = self.membership.record(peer).map(|record| record.mtu).filter(|mtu| *mtu > 0);
        let theirs = theirs.map_or(u32::MAX, inner_mtu);
        let path = self.paths.active(peer).map_or(u32::MAX, |path| inner_mtu(path.path_mtu));
        self.container_mtu().min(theirs).min(path)
    }

    /// The relay that packets for `peer` go through, as an addition to a reason.
    fn relay_text(&self, peer: PeerName) -> String {
        let relay = self.paths.active(peer).map(|path| path.via).filter(|via| *via != peer);
        relay.map_or_else(String::new, |via| format!("; packets go through {}", self.called(via)))
    }

    fn attempt(
        &self,
        (key, entry, rests): (&DialKey, &DialEntry, bool),
        names: &Names,
        now: Instant,
    ) -> Option<Connection> {
        let (state, retry_in): (ConnectionState, Option<Duration>) = match entry.state {
            DialState::Connected(_) => return None,
            DialState::Dialing(_) => (ConnectionState::Connecting, None),
            DialState::Waiting(_) if rests => (ConnectionState::Retrying, None),
            DialState::Waiting(at) if entry.info.is_empty() => (ConnectionState::Connecting, Some(at.since(now))),
            DialState::Waiting(at) => (ConnectionState::Retrying, Some(at.since(now))),
            DialState::Refused => (ConnectionState::Failed, None),
        };
        let peer = entry.leads_to(key);
        let address = match (key, &entry.tried) {
            (DialKey::Target(target), _) => target.to_string(),
            (DialKey::Peer(_), Some(tried)) => tried.to_string(),
            (DialKey::Peer(peer), None) => peer.to_string(),
        };
        let mut info = entry.info.clone();
        if let Some(peer) = peer.filter(|_| !info.is_empty()) {
            info += &match self.paths.direct(peer) {
                Some(direct) => format!("; packets go direct to {}", direct.remote),
                None => self.relay_text(peer),
            };
        }
        if rests {
            let rest = "not retrying: connection limit reached, and the peer is reachable through others";
            info = if info.is_empty() { rest.to_owned() } else { format!("{info}; {rest}") };
        }
        let (peer, retry_in_ms) = (peer.map(|peer| names.of(peer)), retry_in.map(millis));
        let (data, mtu, rtt_us) = (None, None, None);
        Some(Connection { outbound: true, address, state, peer, data, info, retry_in_ms, mtu, rtt_us })
    }

    fn peer(&self, record: &PeerRecord, route: &RouteStatus, names: &Names) -> PeerStatus {
        let standby = route.standby.filter(|line| line.answers).and_then(|line| {
            Some(StandbyPath { remote: line.remote?, fixed: line.fixed, via: line.via.map(|via| names.of(via)) })
        });
        let path = self.path(record.name, route, names);
        PeerStatus { id: names.of(record.name), uid: record.uid, links: Vec::new(), path, standby }
    }

    fn path(&self, peer: PeerName, route: &RouteStatus, names: &Names) -> PathStatus {
        let Some(active) = self.paths.active(peer) else {
            return PathStatus::Unconfirmed { remote: None, why: silence(route) };
        };
        if let Some(direct) = self.paths.direct(peer).filter(|_| active.via == peer) {
            let (rtt_us, mtu) = (direct.rtt.map(micros), direct.size.map(inner_mtu));
            return PathStatus::Direct { remote: direct.remote, fixed: direct.fixed, rtt_us, mtu };
        }
        let (answers, why) = (route.active.is_some_and(|line| line.answers), silence(route));
        if answers && active.via != peer {
            return PathStatus::Relayed { via: names.of(active.via), why, mtu: Some(inner_mtu(active.path_mtu)) };
        }
        PathStatus::Unconfirmed { remote: Some(active.remote), why }
    }

    fn without_route(&self, others: &[(&PeerRecord, RouteStatus)]) -> Vec<String> {
        let route = |(record, route): &(&PeerRecord, RouteStatus)| {
            let active = route.active.filter(|line| !line.routed)?;
            Some((record.name, *active.remote?.ip()))
        };
        let mut all: Vec<_> = others.iter().filter_map(route).collect();
        let more = all.split_off(all.len().min(SHOWN)).len();
        let text = |(peer, addr)| {
            let peer = self.called(peer);
            format!("this host has no route to {addr} of peer {peer}: packets for it leave as before, if they ever did")
        };
        let more = (more > 0).then(|| format!("this host has no route to {more} more peers"));
        all.into_iter().map(text).chain(more).collect()
    }

    fn narrow_paths(&self, names: &Names) -> (Vec<NarrowPath>, usize) {
        let attached = self.endpoints.attached();
        let mut containers: Vec<SizedContainer> =
            attached.map(|(owner, a)| SizedContainer { owner: owner.to_owned(), mtu: a.mtu }).collect();
        containers.sort_by(|one, other| (Reverse(one.mtu), &one.owner).cmp(&(Reverse(other.mtu), &other.owner)));
        let largest = containers.first().map_or(0, |container| container.mtu);
        let sized = self.datapath.tunnels().map(|(peer, tunnel)| (inner_mtu(tunnel.path_mtu), peer));
        let mut narrow: Vec<(u32, PeerName)> = sized.filter(|(mtu, _)| *mtu < largest).collect();
        narrow.sort();
        let path = |(mtu, peer): &(u32, PeerName)| {
            let above = containers.partition_point(|container| container.mtu > *mtu);
            let shown = &containers[..above.min(CONTAINERS_SHOWN)];
            let more_containers = above - shown.len();
            NarrowPath { peer: names.of(*peer), mtu: *mtu, containers: shown.to_vec(), more_containers }
        };
        let shown: Vec<NarrowPath> = narrow.iter().take(SHOWN).map(path).collect();
        let more = narrow.len() - shown.len();
        (shown, more)
    }
}

/// Why packets for a peer do not go direct, or nothing when they may.
fn silence(route: &RouteStatus) -> String {
    let direct = || route.candidates.iter().filter(|line| line.via.is_none());
    let silent = direct().filter_map(|line| Some((line.silent?, line.remote?))).max();
    match (direct().next(), silent) {
        (None, _) => "no address of its data port is known".to_owned(),
        (Some(_), Some((silent, at))) => format!("no answer from data port {at} for {} s", silent.as_secs()),
        (Some(line), None) if direct().all(|line| !line.routed) => {
            format!("no route to {}", line.remote.map_or_else(String::new, |at| at.ip().to_string()))
        }
        (Some(_), None) if direct().any(|line| line.answers) => String::new(),
        (Some(_), None) => "its data port was not tried yet".to_owned(),
    }
}
