//! Everything the core knows, put together for `status`, `ps` and `report`.

use std::{cmp::Reverse, collections::BTreeMap, net::SocketAddr, time::Duration};

use weave_common::vxlan;

use super::Node;
use crate::proto::{
    command::{
        Connection, ConnectionState, IpamStatus, NarrowPath, OwnerStatus, PathStatus, PeerStatus, StandbyPath, Status,
    },
    ipam::{Ring, allocator::Access, ring},
    name::{PeerId, PeerName},
    session::{DialEntry, DialKey, DialState, Session},
    time::Instant,
    wire::entry::PeerRecord,
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

impl Node {
    pub(super) fn status(&self, now: Instant) -> Status {
        let (narrow_paths, more_narrow_paths) = self.narrow_paths();
        Status {
            launch: self.launch.clone(),
            params: self.params.clone(),
            nicknames: self.nicknames(),
            container_mtu: self.container_mtu(),
            targets: self.sessions.targets().to_vec(),
            connections: self.connections(now),
            peers: self.peers(now),
            ipam: self.ipam_status(now),
            containers: self.endpoints.status(now),
            narrow_paths,
            more_narrow_paths,
            channels: self.membership.channels(),
            warnings: self.warnings(now),
        }
    }

    fn warnings(&self, now: Instant) -> Vec<String> {
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
        warnings.extend(self.without_route(now));
        warnings
    }

    fn ipam_status(&self, now: Instant) -> IpamStatus {
        let mut shares: BTreeMap<PeerId, OwnerStatus> = BTreeMap::new();
        for (net, owner) in self.keeper.ring().into_iter().flat_map(Ring::routes) {
            let share = shares.entry(owner).or_insert_with(|| OwnerStatus {
                peer: owner.name,
                addresses: 0,
                active: (owner == self.me).then(|| self.endpoints.allocator().active()),
                unreachable: owner != self.me && self.witnesses(now).alive(owner).is_none(),
                ranges: Vec::new(),
            });
            share.addresses += ring::size(net);
            share.ranges.push(net);
        }
        let own = shares.remove(&self.me);
        IpamStatus {
            state: self.ipam_state(now),
            ready: matches!(self.keeper.access(), Access::Ring(_)),
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
    fn connections(&self, now: Instant) -> Vec<Connection> {
        let mut all: Vec<Connection> = self.sessions.iter().map(|session| self.connection(session, now)).collect();
        let facts = self.facts();
        let connected = self.sessions.connected();
        let attempts = self.sessions.dial_entries(&facts).into_iter().filter(|(key, entry, rests)| match key {
            // The operator named it, and may wonder why it has no session.
            DialKey::Target(_) => entry.leads_to(key).is_none_or(|peer| !connected.contains(&peer)),
            DialKey::Peer(_) => !rests,
        });
        all.extend(attempts.filter_map(|(key, entry, rests)| self.attempt(key, entry, rests, now)));
        all
    }

    fn connection(&self, session: &Session, now: Instant) -> Connection {
        let direct = session.peer().and_then(|peer| self.paths.direct(peer));
        let (state, info) = match (session.peer(), &direct) {
            (None, _) => (ConnectionState::Connecting, String::new()),
            (Some(_), Some(direct)) if direct.fixed => (
                ConnectionState::Established,
                "through NAT or a stateful filter: packets go from data port to data port".to_owned(),
            ),
            (Some(_), Some(_)) => (ConnectionState::Established, String::new()),
            (Some(peer), None) => {
                (ConnectionState::Pending, format!("{}{}", self.silence(peer, now), self.relay_text(peer)))
            }
        };
        Connection {
            outbound: session.outbound(),
            address: session.remote.to_string(),
            state,
            peer: session.peer(),
            data: session.up.map(|up| SocketAddr::V4(direct.map_or(up.data, |direct| direct.remote))),
            info,
            retry_in: None,
            mtu: session.peer().map(|peer| self.mtu_to(peer)),
            rtt: direct.and_then(|direct| direct.rtt),
        }
    }

    /// MTU in bytes of containers' packets to a peer.
    fn mtu_to(&self, peer: PeerName) -> u32 {
        let theirs = self.membership.record(peer).map(|record| record.mtu).filter(|mtu| *mtu > 0);
        let theirs = theirs.map_or(u32::MAX, inner_mtu);
        let path = self.paths.active(peer).map_or(u32::MAX, |path| inner_mtu(path.path_mtu));
        self.container_mtu().min(theirs).min(path)
    }

    /// Why packets for `peer` do not go direct, or nothing when they may.
    fn silence(&self, peer: PeerName, now: Instant) -> String {
        let status = self.paths.status(peer, now);
        let direct = || status.candidates.iter().filter(|line| line.via.is_none());
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

    /// The relay that packets for `peer` go through, as an addition to a reason.
    fn relay_text(&self, peer: PeerName) -> String {
        let relay = self.paths.active(peer).map(|path| path.via).filter(|via| *via != peer);
        relay.map_or_else(String::new, |via| format!("; packets go through {}", self.called(via)))
    }

    fn attempt(&self, key: &DialKey, entry: &DialEntry, rests: bool, now: Instant) -> Option<Connection> {
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
        Some(Connection { outbound: true, address, state, peer, data: None, info, retry_in, mtu: None, rtt: None })
    }

    /// This peer and all others known, in order of name after this one.
    fn peers(&self, now: Instant) -> Vec<PeerStatus> {
        let mut others: Vec<&PeerRecord> = self.membership.others().collect();
        others.sort_by_key(|record| record.name);
        let status = |record: &PeerRecord| {
            let (path, standby) = (self.path(record.name, now), self.standby(record.name, now));
            PeerStatus { record: record.clone(), path, standby }
        };
        std::iter::once(self.membership.me()).chain(others).map(status).collect()
    }

    fn path(&self, peer: PeerName, now: Instant) -> PathStatus {
        if peer == self.me.name {
            return PathStatus::Here;
        }
        let Some(active) = self.paths.active(peer) else {
            return PathStatus::Unconfirmed { remote: None, why: self.silence(peer, now) };
        };
        if let Some(direct) = self.paths.direct(peer).filter(|_| active.via == peer) {
            let mtu = direct.size.map(inner_mtu);
            return PathStatus::Direct { remote: direct.remote, fixed: direct.fixed, rtt: direct.rtt, mtu };
        }
        let answers = self.paths.status(peer, now).active.is_some_and(|line| line.answers);
        let why = self.silence(peer, now);
        if answers && active.via != peer {
            return PathStatus::Relayed { via: active.via, why, mtu: Some(inner_mtu(active.path_mtu)) };
        }
        PathStatus::Unconfirmed { remote: Some(active.remote), why }
    }

    fn standby(&self, peer: PeerName, now: Instant) -> Option<StandbyPath> {
        let line = self.paths.status(peer, now).standby.filter(|line| line.answers)?;
        Some(StandbyPath { remote: line.remote?, fixed: line.fixed, via: line.via })
    }

    fn without_route(&self, now: Instant) -> Vec<String> {
        let route = |record: &PeerRecord| {
            let active = self.paths.status(record.name, now).active.filter(|line| !line.routed)?;
            Some((record.name, *active.remote?.ip()))
        };
        let mut all: Vec<_> = self.membership.others().filter_map(route).collect();
        all.sort();
        let more = all.split_off(all.len().min(SHOWN)).len();
        let text = |(peer, addr)| {
            let peer = self.called(peer);
            format!("this host has no route to {addr} of peer {peer}: packets for it leave as before, if they ever did")
        };
        let more = (more > 0).then(|| format!("this host has no route to {more} more peers"));
        all.into_iter().map(text).chain(more).collect()
    }

    fn narrow_paths(&self) -> (Vec<NarrowPath>, usize) {
        let attached = self.endpoints.attached();
        let mut containers: Vec<(String, u32)> = attached.map(|(owner, a)| (owner.to_owned(), a.mtu)).collect();
        containers.sort_by(|(one, a), (other, b)| (Reverse(a), one).cmp(&(Reverse(b), other)));
        let largest = containers.first().map_or(0, |(_, mtu)| *mtu);
        let sized = self.datapath.tunnels().map(|(peer, tunnel)| (inner_mtu(tunnel.path_mtu), peer));
        let mut narrow: Vec<(u32, PeerName)> = sized.filter(|(mtu, _)| *mtu < largest).collect();
        narrow.sort();
        let path = |(mtu, peer): &(u32, PeerName)| {
            let above = containers.partition_point(|(_, own)| own > mtu);
            let shown = &containers[..above.min(CONTAINERS_SHOWN)];
            NarrowPath { peer: *peer, mtu: *mtu, containers: shown.to_vec(), more: above - shown.len() }
        };
        let shown: Vec<NarrowPath> = narrow.iter().take(SHOWN).map(path).collect();
        let more = narrow.len() - shown.len();
        (shown, more)
    }
}
