//! Sessions, attempts at sessions, peers and paths, as operators see them.

use std::{cmp::Reverse, net::SocketAddr, time::Duration};

use weave_common::vxlan;

use crate::proto::{
    command::{Connection, ConnectionState, NarrowPath, NarrowPaths, PathStatus, PeerLink, PeerStatus, StandbyPath},
    name::PeerName,
    node::Node,
    session::{DialEntry, DialKey, DialState, Session},
    time::Instant,
    wire::entry::PeerRecord,
};

/// Most narrow paths that are named, and most containers with each.
const NARROW_SHOWN: usize = 16;
const CONTAINERS_SHOWN: usize = 8;
/// Most peers without a route that are named.
const UNROUTED_SHOWN: usize = 16;

/// MTU in bytes of containers' packets on a path that takes outer IP packets of `size` bytes.
fn inner_mtu(size: u32) -> u32 {
    size.saturating_sub(vxlan::OVERHEAD)
}

impl Node {
    /// Sessions first, then attempts that are no session yet.
    pub(super) fn connections(&self, now: Instant) -> Vec<Connection> {
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
            peer: session.peer().map(|peer| (peer, self.nickname(peer))),
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
        let path = self.paths.active(peer).map_or(u32::MAX, |path| inner_mtu(path.size));
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
            (Some(line), None) if direct().all(|line| line.state == "no route") => {
                format!("no route to {}", line.remote.map_or_else(String::new, |at| at.ip().to_string()))
            }
            (Some(_), None) if direct().any(|line| line.state == "answers") => String::new(),
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
        Some(Connection {
            outbound: true,
            address,
            state,
            peer: peer.map(|p| (p, self.nickname(p))),
            data: None,
            info,
            retry_in,
            mtu: None,
            rtt: None,
        })
    }

    /// This peer and all others known, in order of name after this one.
    pub(super) fn peers(&self, now: Instant) -> Vec<PeerStatus> {
        let mut others: Vec<&PeerRecord> = self.membership.others().collect();
        others.sort_by_key(|record| record.name);
        std::iter::once(self.membership.me()).chain(others).map(|record| self.peer(record, now)).collect()
    }

    fn peer(&self, record: &PeerRecord, now: Instant) -> PeerStatus {
        let links = record.sessions.iter().map(|session| PeerLink {
            peer: session.peer,
            nickname: self.nickname(session.peer),
            address: session.address.clone(),
            outbound: session.outbound,
            established: record.paths.contains(&session.peer),
        });
        PeerStatus {
            name: record.name,
            nickname: record.nickname.clone(),
            uid: record.uid,
            links: links.collect(),
            path: self.path(record.name, now),
            standby: self.standby(record.name, now),
        }
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
        let status = self.paths.status(peer, now);
        let answers =
            status.active.and_then(|at| status.candidates.get(at)).is_some_and(|line| line.state == "answers");
        let why = self.silence(peer, now);
        if answers && active.via != peer {
            let via = (active.via, self.nickname(active.via));
            return PathStatus::Relayed { via, why, mtu: Some(inner_mtu(active.size)) };
        }
        PathStatus::Unconfirmed { remote: Some(active.remote), why }
    }

    fn standby(&self, peer: PeerName, now: Instant) -> Option<StandbyPath> {
        let mut status = self.paths.status(peer, now);
        let line = status.candidates.swap_remove(status.standby?);
        let via = line.via.map(|via| (via, self.nickname(via)));
        (line.state == "answers").then_some(StandbyPath { remote: line.remote?, fixed: line.fixed, via })
    }

    /// Peers to whose active path this host has no route.
    pub(super) fn without_route(&self, now: Instant) -> Vec<String> {
        let route = |record: &PeerRecord| {
            let status = self.paths.status(record.name, now);
            let active = status.candidates.get(status.active?).filter(|line| line.state == "no route")?;
            Some((record.name, *active.remote?.ip()))
        };
        let mut all: Vec<_> = self.membership.others().filter_map(route).collect();
        all.sort();
        let more = all.split_off(all.len().min(UNROUTED_SHOWN)).len();
        let text = |(peer, addr)| {
            let peer = self.called(peer);
            format!("this host has no route to {addr} of peer {peer}: packets for it leave as before, if they ever did")
        };
        let more = (more > 0).then(|| format!("this host has no route to {more} more peers"));
        all.into_iter().map(text).chain(more).collect()
    }

    /// Paths that take less than some containers may send.
    pub(super) fn narrow_paths(&self) -> NarrowPaths {
        let attached = self.endpoints.status().into_iter().filter(|container| container.attached);
        let mut containers: Vec<(String, u32)> = attached.map(|container| (container.id, container.mtu)).collect();
        containers.sort_by(|(one, a), (other, b)| (Reverse(a), one).cmp(&(Reverse(b), other)));
        let largest = containers.first().map_or(0, |(_, mtu)| *mtu);
        let sized = self.datapath.tunnels().map(|(peer, tunnel)| (inner_mtu(tunnel.path_mtu), peer));
        let mut narrow: Vec<(u32, PeerName)> = sized.filter(|(mtu, _)| *mtu < largest).collect();
        narrow.sort();
        let path = |(mtu, peer): &(u32, PeerName)| {
            let above = containers.partition_point(|(_, own)| own > mtu);
            let shown = &containers[..above.min(CONTAINERS_SHOWN)];
            NarrowPath {
                peer: *peer,
                nickname: self.nickname(*peer),
                mtu: *mtu,
                containers: shown.to_vec(),
                more: above - shown.len(),
            }
        };
        let shown: Vec<NarrowPath> = narrow.iter().take(NARROW_SHOWN).map(path).collect();
        NarrowPaths { more: narrow.len() - shown.len(), shown }
    }
}
