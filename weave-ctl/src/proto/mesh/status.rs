//! The mesh as operators see it.

use std::net::SocketAddr;

use weave_common::vxlan;

use super::{
    dialer::{Entry, State, Whom},
    entry::PeerRecord,
    link::Link,
    links::Mesh,
    paths::PathState,
    routes::{self, Graph},
};
use crate::proto::{
    command::{ChannelStatus, Connection, ConnectionState, PathStatus, PeerLink, PeerStatus},
    name::PeerName,
    time::Instant,
};

/// Most sources whose broadcasts are shown.
const SOURCES_SHOWN: usize = 256;

/// MTU of containers' packets on a path, where zero is unknown.
fn inner_mtu(path_mtu: u32) -> Option<u32> {
    (path_mtu > 0).then(|| path_mtu.saturating_sub(vxlan::OVERHEAD))
}

impl Mesh {
    /// The nickname of `peer`, or nothing.
    #[must_use]
    pub fn nickname(&self, peer: PeerName) -> String {
        if peer == self.me.name {
            return self.me.nickname.clone();
        }
        self.record(peer).map_or_else(String::new, |r| r.nickname.clone())
    }

    /// What is gossiped, by channel.
    #[must_use]
    pub fn channels(&self) -> Vec<ChannelStatus> {
        self.gossip.channels()
    }

    /// To whom this peer passes on broadcasts of each source that is reached.
    #[must_use]
    pub fn broadcast(&self) -> Vec<(PeerName, Vec<PeerName>)> {
        let graph = Graph::new(&self.me, self.gossip.store().records());
        let others = self.others().map(|record| record.name).take(SOURCES_SHOWN);
        routes::broadcasts(&graph, &others.chain([self.me.name]).collect())
    }

    pub(super) fn others(&self) -> impl Iterator<Item = &PeerRecord> {
        self.gossip.store().records().filter(|r| r.name != self.me.name)
    }

    /// Links first, then attempts that are no link yet.
    #[must_use]
    pub fn connections(&self, now: Instant) -> Vec<Connection> {
        let linked = self.linked();
        let mut all: Vec<Connection> = self.links.values().map(|l| self.connection(l, now)).collect();
        let around = self.around();
        let attempts = self.dialer.entries().filter(|(whom, entry)| match whom {
            // The operator named it, and may wonder why it is not linked.
            Whom::Target(_) => entry.leads_to(whom).is_none_or(|peer| !linked.contains(&peer)),
            Whom::Peer(_) => !around.rests(whom, entry),
        });
        all.extend(attempts.filter_map(|(whom, entry)| self.attempt(whom, entry, around.rests(whom, entry), now)));
        all
    }

    fn connection(&self, link: &Link, now: Instant) -> Connection {
        let up = link.up.as_ref();
        let direct = up.and_then(|up| self.paths.direct(up.peer));
        let state = match (up, &direct) {
            (None, _) => ConnectionState::Connecting,
            (Some(_), Some(_)) => ConnectionState::Established,
            (Some(_), None) => ConnectionState::Pending,
        };
        let info = match (up, &direct) {
            (Some(_), Some(direct)) if direct.translated => {
                "behind address translation: packets go between the ports of the probes".to_owned()
            }
            (None, _) | (_, Some(_)) => String::new(),
            (Some(up), None) => format!("{}{}", self.silence(up.peer, now), self.way_text(up.peer)),
        };
        Connection {
            outbound: link.outbound(),
            address: link.remote.to_string(),
            state,
            peer: up.map(|up| (up.peer, self.nickname(up.peer))),
            data: up.map(|up| SocketAddr::V4(direct.as_ref().map_or(up.data, |direct| direct.remote))),
            info,
            retry_in: None,
            mtu: up.and_then(|up| self.record(up.peer)).map(|r| {
                let way = || self.ways.get(&r.name).map(|way| way.tunnel.path_mtu);
                let measured = direct.as_ref().map(|direct| direct.path_mtu).or_else(way).and_then(inner_mtu);
                r.mtu.min(self.me.mtu).min(measured.unwrap_or(u32::MAX))
            }),
            rtt: direct.and_then(|direct| direct.rtt),
        }
    }

    /// Why packets for `peer` do not go straight, or nothing when they do.
    fn silence(&self, peer: PeerName, now: Instant) -> String {
        match self.paths.state(peer, now) {
            PathState::Up { .. } => String::new(),
            PathState::Untested => "its data port was not tried yet".to_owned(),
            PathState::Down { tried: Some(at), silent } => {
                format!("no answer from data port {at} for {} s", silent.as_secs())
            }
            PathState::Down { tried: None, .. } => "no address of its data port is known".to_owned(),
        }
    }

    /// How packets for `peer` leave, as an addition to a reason.
    fn way_text(&self, peer: PeerName) -> String {
        match self.ways.get(&peer).map(|way| way.tunnel) {
            Some(way) if way.via != peer => format!("; packets go through {}({})", way.via, self.nickname(way.via)),
            _ => String::new(),
        }
    }

    fn attempt(&self, whom: &Whom, entry: &Entry, rests: bool, now: Instant) -> Option<Connection> {
        let (state, retry_in) = match entry.state {
            State::Linked(_) => return None,
            State::Dialing(_) => (ConnectionState::Connecting, None),
            State::Waiting(_) if rests => (ConnectionState::Retrying, None),
            State::Waiting(at) if entry.info.is_empty() => (ConnectionState::Connecting, Some(at.since(now))),
            State::Waiting(at) => (ConnectionState::Retrying, Some(at.since(now))),
            State::Refused => (ConnectionState::Failed, None),
        };
        let peer = entry.leads_to(whom);
        let address = match (whom, &entry.tried) {
            (Whom::Target(target), _) => target.to_string(),
            (Whom::Peer(_), Some(tried)) => tried.to_string(),
            (Whom::Peer(peer), None) => peer.to_string(),
        };
        let straight = peer.filter(|_| !entry.info.is_empty()).and_then(|peer| self.paths.direct(peer));
        let info = match (straight, peer) {
            (Some(direct), _) => format!("{}; packets go straight to {}", entry.info, direct.remote),
            (None, Some(peer)) if !entry.info.is_empty() => format!("{}{}", entry.info, self.way_text(peer)),
            _ => entry.info.clone(),
        };
        let rest = "not tried again while there is no room for a link and others lead there";
        let info = if rests && info.is_empty() {
            rest.to_owned()
        } else if rests {
            format!("{info}; {rest}")
        } else {
            info
        };
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
    #[must_use]
    pub fn peers(&self, now: Instant) -> Vec<PeerStatus> {
        let mut others: Vec<&PeerRecord> = self.others().collect();
        others.sort_by_key(|record| record.name);
        std::iter::once(&self.me).chain(others).map(|r| self.peer(r, now)).collect()
    }

    fn peer(&self, record: &PeerRecord, now: Instant) -> PeerStatus {
        let links = record.links.iter().map(|l| PeerLink {
            peer: l.peer,
            nickname: self.nickname(l.peer),
            address: l.address.clone(),
            outbound: l.outbound,
            established: l.established,
        });
        PeerStatus {
            name: record.name,
            nickname: record.nickname.clone(),
            uid: record.uid,
            short_id: record.short_id,
            links: links.collect(),
            path: self.path(record.name, now),
        }
    }

    fn path(&self, peer: PeerName, now: Instant) -> PathStatus {
        if peer == self.me.name {
            return PathStatus::Here;
        }
        if let Some(direct) = self.paths.direct(peer) {
            return PathStatus::Direct { remote: direct.remote, rtt: direct.rtt, mtu: inner_mtu(direct.path_mtu) };
        }
        let why = self.silence(peer, now);
        match self.ways.get(&peer).map(|way| way.tunnel) {
            Some(way) if way.via != peer => {
                PathStatus::Relayed { via: (way.via, self.nickname(way.via)), why, mtu: inner_mtu(way.path_mtu) }
            }
            way => PathStatus::Unconfirmed { remote: way.map(|way| way.remote), why },
        }
    }
}

#[cfg(test)]
mod tests;
