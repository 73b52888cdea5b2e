//! Carries what records, sessions and topology show of peers to `path`, and the paths that it selects to the kernel's maps.

use std::{collections::BTreeMap, net::SocketAddrV4};

use super::Node;
use crate::proto::{
    boot::Installed,
    ids::Severity,
    io::{Contact, Output, PathKind, TunnelTo},
    name::PeerName,
    path::{ActivePath, Advertised, PathEvent},
    time::Instant,
    wire::entry::{PeerRecord, ReportedSession},
};

/// The paths that an earlier run left in the kernel.
pub(super) fn inherited(installed: &Installed) -> BTreeMap<PeerName, ActivePath> {
    let path = |to: TunnelTo| {
        let TunnelTo { remote, via, fixed, egress, path_mtu, .. } = to;
        ActivePath { remote, via, fixed, egress, size: path_mtu }
    };
    installed.tunnels().into_iter().map(|(peer, to)| (peer, path(to))).collect()
}

fn tunnel(peer: PeerName, path: ActivePath) -> TunnelTo {
    let kind: PathKind = path.kind(peer);
    let ActivePath { remote, via, fixed, egress, size } = path;
    TunnelTo { remote, via, kind, fixed, egress, path_mtu: size }
}

impl Node {
    /// The record of `peer` is new, or gives other addresses.
    pub(super) fn learn(&mut self, peer: PeerName, now: Instant) {
        let Some(record) = self.membership.record(peer) else { return };
        // Every host may have the same bridge of its container engine.
        let addrs = record.addrs.iter().filter(|addr| !self.own_addrs.contains(addr));
        let addrs = addrs.map(|addr| SocketAddrV4::new(*addr, record.data_port)).collect();
        let advertised = Advertised { addrs, mtu: record.mtu };
        self.paths.set_peer(peer, &advertised, now);
        self.reports_changed(peer, now);
    }

    /// The record of `peer` may report other sessions and paths.
    pub(super) fn reports_changed(&mut self, peer: PeerName, now: Instant) {
        let me = self.me.name;
        let reported = self.membership.record(peer).is_some_and(|record| record.paths.contains(&me));
        self.paths.set_reported(peer, reported, now);
        self.refresh_nat(peer, now);
        self.topology.changed(self.membership.known(), now);
        self.sessions.look_for_peers(now);
    }

    /// Looks at which address `peer` sees this host: one that is not its own belongs to a NAT.
    pub(super) fn refresh_nat(&mut self, peer: PeerName, now: Instant) {
        let seen = self.membership.record(peer).and_then(|record| self.seen_by(record));
        let elsewhere = seen.is_some_and(|seen| !self.own_addrs.is_empty() && !self.own_addrs.contains(seen.ip()));
        let changed = if elsewhere { self.seen_elsewhere.insert(peer) } else { self.seen_elsewhere.remove(&peer) };
        if changed {
            self.paths.set_behind_nat(!self.seen_elsewhere.is_empty(), now);
        }
    }

    fn seen_by(&self, record: &PeerRecord) -> Option<SocketAddrV4> {
        let inbound = record.sessions.iter().find(|session| session.peer == self.me.name && !session.outbound)?;
        inbound.address.parse().ok()
    }

    /// Puts sessions, and direct paths that answer, into this peer's record. A path to a peer whose session ended is reported
    /// until it does not answer any more: the kernel there may go on without its controller, and others relay by it.
    pub(super) fn report_adjacencies(&mut self, now: Instant) {
        let up = self.sessions.iter().filter_map(|session| Some((session, session.up?)));
        let sessions: BTreeMap<PeerName, ReportedSession> = up
            .map(|(session, up)| {
                let (peer, uid, outbound) = (up.id.name, up.id.uid, session.outbound());
                (peer, ReportedSession { peer, uid, address: session.remote.to_string(), outbound })
            })
            .collect();
        self.reported_paths.extend(self.sessions.connected());
        self.reported_paths.retain(|peer| self.paths.is_neighbour(*peer));
        let paths = self.reported_paths.iter().copied().collect();
        self.membership.set_adjacencies(sessions.into_values().collect(), paths, now);
    }

    pub(super) fn path_event(&mut self, event: PathEvent, now: Instant) {
        match event {
            PathEvent::Selected { peer, path, why } => {
                if !why.is_empty() {
                    let through =
                        if path.via == peer { String::new() } else { format!("through {} ", self.called(path.via)) };
                    let text = format!("packets for {} go {through}to {}: {why}", self.called(peer), path.remote);
                    self.log(Severity::Info, text);
                }
                self.datapath.set_tunnel(peer, tunnel(peer, path));
            }
            PathEvent::Senders(peer, addrs) => self.datapath.set_senders(peer, &addrs),
            PathEvent::Neighbour(_) => {
                self.report_adjacencies(now);
                self.topology.changed(self.membership.known(), now);
            }
            PathEvent::Watch(addr) => self.out.push_back(Output::Watch(addr)),
            PathEvent::Unwatch(addr) => self.out.push_back(Output::Unwatch(addr)),
            PathEvent::DeviceMtus(mtus) => {
                self.device_mtus = mtus;
                self.refresh_mtu(now);
            }
        }
    }

    /// A probe was passed up that only a controller answers.
    pub(super) fn contact(&mut self, contact: &Contact, now: Instant) {
        let Some(claim) = self.paths.contact(contact, now) else { return };
        if self.membership.key_of(claim.peer).is_some_and(|key| claim.is_signed_by(&key)) {
            self.paths.proven(&claim, now);
        }
    }
}
