//! The kernel's maps as they should be, and the difference to those that are.
//!
//! The ring is the routing table: one longest-prefix entry a CIDR piece. Rules that keep traffic flowing when control is
//! in trouble: routes are left alone while there is no ring; a tunnel is changed when a better address is known and
//! removed only by [`Datapath::forget_peer`].
//! Only what changed since the last difference is looked at, so an event costs what it changes.
//! Bounds: writes that the kernel refused are tried again every [`RETRY_EVERY`]; of peers that are gone the last
//! [`GONE_MAX`] are accepted still.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    iter,
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use ipnet::Ipv4Net;
use weave_common::addr::Mac;

use super::{
    domain::DnsName,
    io::{Egress, EndpointTo, MapOp, PathKind, RouteTo, TunnelTo},
    ipam::Ring,
    name::PeerName,
    time::Instant,
};

/// Most names that one difference changes: a peer that is forgotten may have had thousands.
const NAMES_AT_ONCE: usize = 256;
/// Pause before a refused write is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// Peers that are gone and may send still, because their kernels go on relaying for others.
const GONE_MAX: usize = 256;

/// A tunnel that the kernel refused to remove.
const UNKNOWN: TunnelTo = TunnelTo {
    remote: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0),
    via: PeerName::from_bytes([0; 6]),
    kind: PathKind::Direct,
    fixed: false,
    egress: Egress { ifindex: 0, next_hop: Ipv4Addr::UNSPECIFIED, source: Ipv4Addr::UNSPECIFIED, mtu: 0 },
    path_mtu: 0,
};

/// Desired and installed content of the maps.
#[derive(Debug, Default)]
pub struct Datapath {
    want: Maps,
    /// Endpoints and routes as they are installed. Of tunnels and senders, of which there are thousands, only those are
    /// kept that may differ from what is wanted.
    have: Maps,
    /// Addresses outside the range, with the peers whose containers have them.
    exceptions: BTreeMap<Ipv4Addr, PeerName>,
    /// The host's own address in the network, when it forwards for local containers to addresses outside.
    gateway: Option<Ipv4Addr>,
    routed: bool,
    routes_changed: bool,
    /// Some peer may own nothing any more.
    owners_changed: bool,
    /// What is installed of the tunnels that changed.
    tunnels_changed: BTreeMap<PeerName, Option<TunnelTo>>,
    /// The same of senders.
    senders_changed: BTreeMap<Ipv4Addr, Option<PeerName>>,
    /// Names that changed, and their addresses now; none, and it is no name any more.
    names_changed: BTreeMap<DnsName, Vec<Ipv4Addr>>,
    /// Who sends from an address: several peers may, behind one.
    claims: BTreeSet<(Ipv4Addr, PeerName)>,
    /// The same by peer.
    claimed: BTreeSet<(PeerName, Ipv4Addr)>,
    /// Peers that are gone, whose senders are kept; the last one at the end.
    gone: VecDeque<PeerName>,
    failed: BTreeMap<String, String>,
    retry_at: Option<Instant>,
    /// Routes are left to be removed, once those that take their place were not refused, or names to be changed.
    removals_at: Option<Instant>,
}

/// The content of the maps that hold state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maps {
    /// Local containers.
    pub endpoints: BTreeMap<Ipv4Addr, EndpointTo>,
    /// The ring.
    pub routes: BTreeMap<Ipv4Net, RouteTo>,
    /// Peers.
    pub tunnels: BTreeMap<PeerName, TunnelTo>,
    /// Underlay addresses that peers send from.
    pub senders: BTreeMap<Ipv4Addr, PeerName>,
    /// Names of the domain.
    pub names: BTreeMap<DnsName, Vec<Ipv4Addr>>,
}

impl Maps {
    /// Applies one change.
    pub fn apply(&mut self, op: &MapOp) {
        match op {
            MapOp::PutEndpoint(addr, to) => drop(self.endpoints.insert(*addr, *to)),
            MapOp::DelEndpoint(addr) => drop(self.endpoints.remove(addr)),
            MapOp::PutRoute(net, to) => drop(self.routes.insert(*net, *to)),
            MapOp::DelRoute(net) => drop(self.routes.remove(net)),
            MapOp::PutTunnel(peer, tunnel) => drop(self.tunnels.insert(*peer, *tunnel)),
            MapOp::DelTunnel(peer) => drop(self.tunnels.remove(peer)),
            MapOp::PutSender(addr, peer) => drop(self.senders.insert(*addr, *peer)),
            MapOp::DelSender(addr) => drop(self.senders.remove(addr)),
            MapOp::PutName(name, addrs) => drop(self.names.insert(name.clone(), addrs.clone())),
            MapOp::DelName(name) => drop(self.names.remove(name)),
        }
    }
}

impl Datapath {
    /// Routes and sender addresses that should be in the kernel's maps.
    #[must_use]
    pub fn sizes(&self) -> (usize, usize) {
        (self.want.routes.len(), self.want.senders.len())
    }

    /// Starts from what an earlier run left in the kernel. Its tunnels stay wanted: the peers behind them are most
    /// likely there still.
    #[must_use]
    pub fn new(installed: &[MapOp]) -> Self {
        let mut have = Maps::default();
        for op in installed {
            have.apply(op);
        }
        let (tunnels, senders) = (std::mem::take(&mut have.tunnels), std::mem::take(&mut have.senders));
        // Which of them are names still, `dns` says.
        have.names.clear();
        let want = Maps { tunnels, senders, ..Maps::default() };
        let claims = want.senders.iter().map(|(addr, peer)| (*addr, *peer)).collect();
        let claimed = want.senders.iter().map(|(addr, peer)| (*peer, *addr)).collect();
        Self { want, have, claims, claimed, ..Self::default() }
    }

    /// Replaces the local containers; true when they are others than before.
    pub fn set_endpoints(&mut self, endpoints: BTreeMap<Ipv4Addr, EndpointTo>) -> bool {
        let changed = self.want.endpoints != endpoints;
        self.want.endpoints = endpoints;
        changed
    }

    /// Gives a name these addresses; with none it is no name any more.
    pub fn set_name(&mut self, name: DnsName, addrs: Vec<Ipv4Addr>) {
        self.names_changed.insert(name, addrs);
    }

    /// Replaces the routes by those of `ring`, as peer `me` sees it; exceptions and the route out of the network stay.
    pub fn set_ring(&mut self, ring: &Ring, me: PeerName) {
        let to = |owner| if owner == me { RouteTo::Local } else { RouteTo::Peer(owner) };
        self.want.routes = ring.routes().map(|(net, owner)| (net, to(owner.name))).collect();
        self.want
            .routes
            .extend(self.exceptions.iter().map(|(addr, peer)| (Ipv4Net::from(*addr), RouteTo::Peer(*peer))));
        self.want.routes.extend(self.gateway.map(|addr| (Ipv4Net::default(), RouteTo::Host(addr))));
        self.routed = true;
        (self.routes_changed, self.owners_changed) = (true, true);
    }

    /// Replaces the addresses outside the range that peers have.
    pub fn set_exceptions(&mut self, exceptions: BTreeMap<Ipv4Addr, PeerName>) {
        if self.exceptions == exceptions {
            return;
        }
        for addr in self.exceptions.keys() {
            self.want.routes.remove(&Ipv4Net::from(*addr));
        }
        self.want.routes.extend(exceptions.iter().map(|(addr, peer)| (Ipv4Net::from(*addr), RouteTo::Peer(*peer))));
        self.exceptions = exceptions;
        (self.routes_changed, self.owners_changed) = (true, true);
    }

    /// Packets of local containers to addresses outside the network go to the endpoint with this address, which is the
    /// host as a gateway, or nowhere.
    pub fn set_gateway(&mut self, addr: Option<Ipv4Addr>) {
        if self.gateway == addr {
            return;
        }
        self.gateway = addr;
        let everywhere = Ipv4Net::default();
        match addr {
            Some(addr) => self.want.routes.insert(everywhere, RouteTo::Host(addr)),
            None => self.want.routes.remove(&everywhere),
        };
        self.routes_changed = true;
    }

    /// Packets to `addr`, which is outside the range, go to `peer` from now on, or nowhere.
    pub fn set_exception(&mut self, addr: Ipv4Addr, peer: Option<PeerName>) {
        let before = match peer {
            Some(peer) => self.exceptions.insert(addr, peer),
            None => self.exceptions.remove(&addr),
        };
        if before == peer {
            return;
        }
        let net = Ipv4Net::from(addr);
        match peer {
            Some(peer) => self.want.routes.insert(net, RouteTo::Peer(peer)),
            None => self.want.routes.remove(&net),
        };
        (self.routes_changed, self.owners_changed) = (true, true);
    }

    /// Sends to `peer` this way from now on.
    pub fn set_tunnel(&mut self, peer: PeerName, tunnel: TunnelTo) {
        let before = self.want.tunnels.insert(peer, tunnel);
        self.tunnels_changed.entry(peer).or_insert(before);
    }

    /// Accepts packets from these addresses as those of `peer` from now on, and from no others as its.
    pub fn set_senders(&mut self, peer: PeerName, addrs: &BTreeSet<Ipv4Addr>) {
        self.gone.retain(|gone| *gone != peer);
        let all = self.claimed.range((peer, Ipv4Addr::UNSPECIFIED)..=(peer, Ipv4Addr::BROADCAST));
        let held: BTreeSet<Ipv4Addr> = all.map(|(_, addr)| *addr).collect();
        for addr in held.difference(addrs) {
            self.unclaim(*addr, peer);
        }
        for addr in addrs.difference(&held) {
            // Whoever is gone left the address to this one.
            for gone in self.claimants(*addr).filter(|other| self.gone.contains(other)).collect::<Vec<_>>() {
                self.unclaim(*addr, gone);
            }
            self.claims.insert((*addr, peer));
            self.claimed.insert((peer, *addr));
        }
        for addr in held.symmetric_difference(addrs) {
            self.settle_sender(*addr);
        }
    }

    fn unclaim(&mut self, addr: Ipv4Addr, peer: PeerName) {
        self.claims.remove(&(addr, peer));
        self.claimed.remove(&(peer, addr));
    }

    /// Who sends from an address, in order of name.
    fn claimants(&self, addr: Ipv4Addr) -> impl Iterator<Item = PeerName> {
        let names = [[0; 6], [0xff; 6]].map(PeerName::from_bytes);
        self.claims.range((addr, names[0])..=(addr, names[1])).map(|(_, peer)| *peer)
    }

    /// Of several peers behind one address the lowest name stands for all.
    fn settle_sender(&mut self, addr: Ipv4Addr) {
        let first = self.claimants(addr).next();
        let before = match first {
            Some(peer) => self.want.senders.insert(addr, peer),
            None => self.want.senders.remove(&addr),
        };
        self.senders_changed.entry(addr).or_insert(before);
    }

    /// Where `peer` is sent to now.
    #[must_use]
    pub fn tunnel(&self, peer: PeerName) -> Option<TunnelTo> {
        self.want.tunnels.get(&peer).copied()
    }

    /// How packets for each peer leave now.
    pub fn tunnels(&self) -> impl Iterator<Item = (PeerName, TunnelTo)> {
        self.want.tunnels.iter().map(|(peer, tunnel)| (*peer, *tunnel))
    }

    /// Stops sending to a peer that is gone for good and owns no range; false when it owns one, and is still sent to.
    /// Packets from it are accepted until [`GONE_MAX`] others are gone too: it may relay without its controller.
    pub fn forget_peer(&mut self, peer: PeerName) -> bool {
        let routed = self.want.routes.values().chain(self.have.routes.values()).any(|to| *to == RouteTo::Peer(peer));
        if !routed {
            let before = self.want.tunnels.remove(&peer);
            self.tunnels_changed.entry(peer).or_insert(before);
            self.gone.retain(|gone| *gone != peer);
            self.gone.push_back(peer);
            if let Some(first) = self.gone.front().copied().filter(|_| self.gone.len() > GONE_MAX) {
                self.set_senders(first, &BTreeSet::new());
            }
        }
        !routed
    }

    /// Peers that are sent to and own nothing any more: none but once after each change of who owns what.
    pub fn take_unrouted(&mut self) -> Vec<PeerName> {
        // What the kernel still has is removed by the next difference.
        if self.routes_changed || !std::mem::take(&mut self.owners_changed) {
            return Vec::new();
        }
        let owner = |to: &RouteTo| if let RouteTo::Peer(peer) = to { Some(*peer) } else { None };
        let routed: BTreeSet<PeerName> = self.want.routes.values().filter_map(owner).collect();
        self.want.tunnels.keys().filter(|peer| !routed.contains(peer)).copied().collect()
    }

    /// The kernel refused `op`: what it holds under that key is as before the attempt.
    pub fn failed(&mut self, op: &MapOp, reason: &str, now: Instant) {
        // Forgetting that it was written makes the next difference contain it again.
        match op {
            MapOp::PutEndpoint(addr, _) => drop(self.have.endpoints.remove(addr)),
            MapOp::PutRoute(net, _) => drop(self.have.routes.remove(net)),
            MapOp::PutTunnel(peer, _) => drop(self.tunnels_changed.insert(*peer, None)),
            MapOp::DelEndpoint(addr) => drop(self.have.endpoints.insert(*addr, EndpointTo::container(0, Mac([0; 6])))),
            MapOp::DelRoute(net) => drop(self.have.routes.insert(*net, RouteTo::Local)),
            MapOp::PutSender(addr, _) => drop(self.senders_changed.insert(*addr, None)),
            MapOp::DelTunnel(peer) => drop(self.tunnels_changed.insert(*peer, Some(UNKNOWN))),
            MapOp::DelSender(addr) => drop(self.senders_changed.insert(*addr, Some(UNKNOWN.via))),
            // What changed meanwhile is newer.
            MapOp::PutName(name, addrs) => drop(self.names_changed.entry(name.clone()).or_insert(addrs.clone())),
            MapOp::DelName(name) => drop(self.names_changed.entry(name.clone()).or_default()),
        }
        self.routes_changed |= matches!(op, MapOp::PutRoute(..) | MapOp::DelRoute(..));
        self.failed.insert(key(op), format!("the kernel refused to change {}: {reason}", key(op)));
        self.retry_at = Some(now + RETRY_EVERY);
    }

    /// Troubles to show.
    pub fn warnings(&self) -> impl Iterator<Item = &String> {
        self.failed.values()
    }

    /// When to ask for the difference again although nothing changed.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.retry_at.or(self.removals_at)
    }

    /// The changes that bring the kernel to what is wanted; they count as made unless [`Self::failed`] says otherwise.
    ///
    /// Additions come before removals, so that no packet meets a gap where a range is cut differently: routes are removed
    /// by the next difference, when the kernel refused none of those that take their place.
    pub fn diff(&mut self, now: Instant) -> Vec<MapOp> {
        if self.retry_at.is_some_and(|at| now < at) {
            return Vec::new();
        }
        (self.retry_at, self.removals_at) = (None, None);
        self.failed.clear();
        let (want, have) = (&self.want, &self.have);
        let (mut ops, mut removals) = (Vec::new(), Vec::new());
        // Whoever may answer is accepted before it is sent to.
        for (addr, have) in std::mem::take(&mut self.senders_changed) {
            match want.senders.get(&addr).copied() {
                Some(peer) if have != Some(peer) => ops.push(MapOp::PutSender(addr, peer)),
                None if have.is_some() => removals.push(MapOp::DelSender(addr)),
                _ => {}
            }
        }
        for (peer, have) in std::mem::take(&mut self.tunnels_changed) {
            match want.tunnels.get(&peer).copied() {
                Some(tunnel) if have != Some(tunnel) => ops.push(MapOp::PutTunnel(peer, tunnel)),
                None if have.is_some() => removals.push(MapOp::DelTunnel(peer)),
                _ => {}
            }
        }
        let endpoints = want.endpoints.iter().filter(|(a, e)| have.endpoints.get(a) != Some(e));
        ops.extend(endpoints.map(|(addr, to)| MapOp::PutEndpoint(*addr, *to)));
        if self.routed && std::mem::take(&mut self.routes_changed) {
            let routes = want.routes.iter().filter(|(n, to)| have.routes.get(n) != Some(to));
            let before = ops.len();
            ops.extend(routes.map(|(net, to)| MapOp::PutRoute(*net, *to)));
            let mut gone = gone(&have.routes, &want.routes).peekable();
            if ops.len() == before {
                ops.extend(gone.map(MapOp::DelRoute));
            } else if gone.peek().is_some() {
                self.routes_changed = true;
                self.removals_at = Some(now);
            }
        }
        ops.extend(gone(&have.endpoints, &want.endpoints).map(MapOp::DelEndpoint));
        ops.extend(removals);
        // Those of names whose containers are there now come after these.
        ops.extend(
            iter::from_fn(|| self.names_changed.pop_first())
                .take(NAMES_AT_ONCE)
                .map(|(name, addrs)| if addrs.is_empty() { MapOp::DelName(name) } else { MapOp::PutName(name, addrs) }),
        );
        if !self.names_changed.is_empty() {
            self.removals_at = Some(now);
        }
        for op in &ops {
            // Tunnels, senders and names are as wanted from now on.
            if let MapOp::PutEndpoint(..) | MapOp::DelEndpoint(..) | MapOp::PutRoute(..) | MapOp::DelRoute(..) = op {
                self.have.apply(op);
            }
        }
        ops
    }
}

fn gone<'a, K: Ord + Copy, V>(have: &'a BTreeMap<K, V>, want: &'a BTreeMap<K, V>) -> impl Iterator<Item = K> + 'a {
    have.keys().copied().filter(|k| !want.contains_key(k))
}

fn key(op: &MapOp) -> String {
    match op {
        MapOp::PutEndpoint(addr, _) | MapOp::DelEndpoint(addr) => format!("endpoint {addr}"),
        MapOp::PutRoute(net, _) | MapOp::DelRoute(net) => format!("route {net}"),
        MapOp::PutTunnel(peer, _) | MapOp::DelTunnel(peer) => format!("tunnel to {peer}"),
        MapOp::PutSender(addr, _) | MapOp::DelSender(addr) => format!("sender {addr}"),
        MapOp::PutName(name, _) | MapOp::DelName(name) => format!("name {name}"),
    }
}

#[cfg(test)]
mod tests;
