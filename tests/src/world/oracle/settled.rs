//! What is as it should be when nothing is cut and time has passed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

use ipnet::Ipv4Net;
use weave_common::vxlan;
use weave_ctl::proto::command::Status;

use crate::world::{
    HostId, World,
    packets::{Fate, SMALL, Why},
};

/// The bound on convergence: time after the last trouble within which everything is as it should be. The longest pause of
/// the dialer with its jitter, that between probes of idle pairs, and what a handshake and some rounds of gossip take.
pub const SETTLE: Duration = Duration::from_secs(100);
/// Time within which both ends of a connection have judged each other's hello, when nothing is in trouble.
const HELLO: Duration = Duration::from_secs(1);

impl World {
    /// What is wrong with the network now, given that nothing is cut and it had time to settle: nothing, when all is well.
    /// Controllers are asked for their status.
    #[must_use]
    pub fn unsettled(&mut self) -> Vec<String> {
        let mut wrong = self.misnumbered();
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
            let specs = host.kernel.interfaces.values().map(|(_, spec)| spec);
            let interfaces: BTreeSet<Ipv4Addr> = specs.flat_map(|s| s.addrs.iter().map(Ipv4Net::addr)).collect();
            let endpoints: BTreeSet<Ipv4Addr> = maps.endpoints.keys().copied().collect();
            if interfaces != endpoints {
                wrong.push(format!("h{id}: interfaces {interfaces:?} but endpoints {endpoints:?}"));
            }
        }
        wrong
    }

    /// Short ids that two hosts have.
    fn misnumbered(&mut self) -> Vec<String> {
        let ids: Vec<HostId> = self.hosts.keys().copied().collect();
        let told = ids.into_iter().filter_map(|id| Some((id, self.status(id)?)));
        let told: Vec<(HostId, Box<Status>)> = told.collect();
        same_short_ids(&told)
    }

    /// Pairs of hosts among these of which one does not reach the other: by a small packet, or by the largest that a
    /// container may send without being told that it is too big.
    #[must_use]
    pub fn unreached(&self, among: &BTreeSet<HostId>) -> Vec<String> {
        let mut wrong = Vec::new();
        for from in among {
            let largest = self.net.mtu(*from) - vxlan::OVERHEAD;
            for to in among.iter().filter(|to| *to != from) {
                if !self.reach(*from, *to, SMALL).is_delivered() {
                    wrong.push(self.explain(*from, *to, SMALL));
                    continue;
                }
                match self.reach(*from, *to, largest) {
                    Fate::Delivered { .. } => {}
                    Fate::Lost { at, why: Why::TooBig } if at == *from => {}
                    Fate::Lost { .. } => wrong.push(self.explain(*from, *to, largest)),
                }
            }
        }
        wrong
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

/// Pairs of those that told their status that know each other and have the same short id.
pub(super) fn same_short_ids(told: &[(HostId, Box<Status>)]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (at, (id, one)) in told.iter().enumerate() {
        let same = told[at + 1..].iter().filter(|(_, other)| other.short_id == one.short_id);
        let same = same.filter(|(_, other)| knows(one, other) && knows(other, one));
        wrong.extend(same.map(|(other, _)| format!("h{id} and h{other} have the short id {}", one.short_id)));
    }
    wrong
}

fn knows(one: &Status, other: &Status) -> bool {
    one.peers.iter().any(|peer| peer.name == other.name)
}
