//! What is as it should be when nothing is cut and time has passed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

use ipnet::Ipv4Net;
use weave_common::vxlan;
use weave_ctl::proto::{domain::DnsName, io::RouteTo, name::PeerName};

use crate::world::{
    HostId, World,
    packets::{Fate, SMALL, Why},
};

/// The bound on convergence: time after the last trouble within which everything is as it should be. The longest pause of
/// the dialer with its jitter, that between probes of idle pairs, and what a handshake and some rounds of gossip take.
pub const SETTLE: Duration = Duration::from_secs(100);
/// Time within which packets pass that are as large as the sender's device takes, or their sender is told: a path is measured
/// once there is traffic (docs/limitations.md, L41).
pub(super) const TOLD: Duration = Duration::from_secs(5);
/// Time within which both ends of a connection have judged each other's hello, when nothing is in trouble.
const HELLO: Duration = Duration::from_secs(1);

impl World {
    /// What is wrong with the network now, given that nothing is cut and it had time to settle: nothing, when all is well.
    #[must_use]
    pub fn unsettled(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        let everybody: BTreeSet<HostId> = self.hosts.keys().copied().collect();
        wrong.extend(self.unreached(&everybody));
        // Nothing is elected before an address is needed.
        let divided = self.hosts.values().any(|host| host.disk.ring.is_some());
        wrong.extend(self.speechless());
        for (id, host) in &self.hosts {
            if host.node.is_none() {
                wrong.push(format!("h{id} is not running"));
            }
            let maps = &host.kernel.maps;
            for (other, them) in self.hosts.iter().filter(|(other, _)| *other != id) {
                if !maps.tunnels.contains_key(&them.name) {
                    wrong.push(format!("h{id} has no tunnel to h{other}"));
                }
            }
            let inside = maps.routes.keys().filter(|net| host.spec.range.contains(*net));
            let covered: u64 = inside.map(|n| 1_u64 << (32 - n.prefix_len())).sum();
            let whole = 1_u64 << (32 - host.spec.range.prefix_len());
            if covered != whole && divided {
                wrong.push(format!("h{id} routes {covered} of {whole} addresses"));
            }
            wrong.extend(self.stale_claims(*id));
            wrong.extend(self.wrong_names(*id));
            let specs = host.kernel.interfaces.values().map(|(_, spec)| spec);
            let interfaces: BTreeSet<Ipv4Addr> = specs.flat_map(|s| s.addrs.iter().map(Ipv4Net::addr)).collect();
            let endpoints: BTreeSet<Ipv4Addr> = maps.endpoints.keys().copied().collect();
            if interfaces != endpoints {
                wrong.push(format!("h{id}: interfaces {interfaces:?} but endpoints {endpoints:?}"));
            }
        }
        wrong
    }

    /// Addresses outside the range that a host still sends to another, which gives them to no container any more: an entry
    /// that was deleted, and came back or never went.
    fn stale_claims(&self, id: HostId) -> Vec<String> {
        let host = &self.hosts[&id];
        let outside = host.kernel.maps.routes.iter().filter(|(net, _)| !host.spec.range.contains(*net));
        let claimed = outside.filter_map(|(net, to)| match to {
            RouteTo::Peer(peer) => Some((net.addr(), *peer)),
            _ => None,
        });
        let has = |addr: &Ipv4Addr, peer: &PeerName| {
            let them = self.hosts.values().find(|them| them.name == *peer);
            // A container that is gone since a reboot keeps its addresses.
            let mut given = them.into_iter().flat_map(|them| them.disk.reservations.values()).flat_map(|a| &a.addrs);
            given.any(|given| given.addr() == *addr)
        };
        let stale = claimed.filter(|(addr, peer)| !has(addr, peer));
        stale.map(|(addr, peer)| format!("h{id} sends {addr} to {peer}, which it gave to no container")).collect()
    }

    /// Names that a host holds and no peer gives, or does not hold; a peer that was removed knows only its own (L13).
    fn wrong_names(&self, id: HostId) -> Vec<String> {
        if self.oracle.addresses.gave_up(id) {
            return Vec::new();
        }
        let mut expected: BTreeMap<DnsName, BTreeSet<Ipv4Addr>> = BTreeMap::new();
        let peers = self.hosts.iter().filter(|(peer, _)| !self.oracle.addresses.gave_up(**peer));
        for (name, addr) in peers.flat_map(|(_, peer)| peer.names()) {
            expected.entry(name).or_default().insert(addr);
        }
        let held = &self.hosts[&id].kernel.maps.names;
        let held: BTreeMap<DnsName, BTreeSet<Ipv4Addr>> =
            held.iter().map(|(name, addrs)| (name.clone(), addrs.iter().copied().collect())).collect();
        let names: BTreeSet<&DnsName> = expected.keys().chain(held.keys()).collect();
        let differ = names.into_iter().filter(|name| expected.get(*name) != held.get(*name));
        differ
            .map(|name| format!("h{id}: {name} is {:?}, and should be {:?}", held.get(name), expected.get(name)))
            .collect()
    }

    /// Pairs of hosts among these of which one does not reach the other: by a small packet; or, once the largest that devices
    /// take were sent for [`TOLD`], by such a one, while its sender is not told that it is too big.
    #[must_use]
    pub fn unreached(&mut self, among: &BTreeSet<HostId>) -> Vec<String> {
        let pairs = || among.iter().flat_map(|from| among.iter().map(move |to| (*from, *to))).filter(|(a, b)| a != b);
        let small = pairs().filter(|(from, to)| !self.reach(*from, *to, SMALL).is_delivered());
        let wrong: Vec<String> = small.map(|(from, to)| self.explain(from, to, SMALL)).collect();
        if !wrong.is_empty() {
            return wrong;
        }
        self.exchange(among, TOLD);
        let large = pairs().filter_map(|(from, to)| {
            let size = self.net.mtu(from) - vxlan::OVERHEAD;
            match self.reach(from, to, size) {
                Fate::Delivered { .. } => None,
                Fate::Lost { at, why: Why::TooBig } if at == from => None,
                Fate::Lost { .. } => Some(self.explain(from, to, size)),
            }
        });
        large.collect()
    }

    /// Containers, one of each host, that do not reach one of another.
    fn speechless(&self) -> Vec<String> {
        let first = self.hosts.iter().filter_map(|(id, h)| Some((*id, *h.kernel.maps.endpoints.keys().next()?)));
        let first: Vec<(HostId, Ipv4Addr)> = first.collect();
        let pairs = first.iter().flat_map(|one| first.iter().map(move |other| (one, other)));
        let fates = pairs.map(|((from, src), (_, dst))| (src, dst, self.forward(*from, *src, *dst, SMALL)));
        fates
            .filter(|(.., fate)| !fate.is_delivered())
            .map(|(src, dst, fate)| format!("{src} to {dst}: {fate}"))
            .collect()
    }

    /// Hosts that have more links than they may. A connection is one once its hellos had time to be judged.
    #[must_use]
    pub fn crowded(&self) -> BTreeMap<HostId, usize> {
        let mut links: BTreeMap<HostId, usize> = BTreeMap::new();
        let judged = self.conns.pairs().filter(|(_, since)| self.now.since(*since) >= HELLO);
        for ((one, other), _) in judged {
            *links.entry(one).or_default() += 1;
            *links.entry(other).or_default() += 1;
        }
        links.retain(|id, links| *links > self.conn_limit(*id));
        links
    }
}
