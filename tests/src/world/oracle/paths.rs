//! What packets do: nothing that worked stops for trouble of controllers alone, packets find another way in time, and
//! nothing goes round in circles.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

use ipnet::Ipv4Net;
use weave_ctl::proto::{
    io::{MapOp, RouteTo},
    time::Instant,
};

use super::SETTLE;
use crate::world::{
    HostId, World,
    net::Stop,
    packets::{Fate, SMALL, Why},
};

/// Time after the last trouble within which packets that are being sent find a path, where one is left (docs/limitations.md,
/// L7: hosts notice at different times that a path ended).
pub const REPAIR: Duration = Duration::from_secs(10);

/// What was seen of paths.
#[derive(Default)]
pub(in crate::world) struct Paths {
    /// Pairs of containers that must keep working: the sender's host, the sender, the receiver.
    guarded: Option<BTreeSet<(HostId, Ipv4Addr, Ipv4Addr)>>,
    /// Those of them that do not, and since when.
    broken: BTreeMap<(HostId, Ipv4Addr, Ipv4Addr), Instant>,
    /// Pairs of hosts that a link joins over which data passes both ways, and since when.
    joined: BTreeMap<(HostId, HostId), Instant>,
    /// Pairs of hosts between which packets found no way, though there was one, when that was looked at last.
    wayless: BTreeSet<(HostId, HostId)>,
}

#[cfg(test)]
impl Paths {
    pub(super) fn joined(&self) -> Vec<(HostId, HostId)> {
        self.joined.keys().copied().collect()
    }
}

impl World {
    /// From now on every pair of containers that works must keep working, whatever befalls controllers.
    pub fn guard(&mut self) {
        self.note(|| "from here on what works must keep working".to_owned());
        self.oracle.paths.guarded = Some(BTreeSet::new());
        self.extend_guard();
    }

    /// Ends what [`Self::guard`] began.
    pub fn unguard(&mut self) {
        self.oracle.paths.guarded = None;
        self.oracle.paths.broken.clear();
    }

    /// Adds pairs that work now.
    fn extend_guard(&mut self) {
        let Some(mut guarded) = self.oracle.paths.guarded.take() else { return };
        let all: Vec<(HostId, Ipv4Addr)> =
            self.hosts.iter().flat_map(|(id, h)| h.kernel.maps.endpoints.keys().map(|addr| (*id, *addr))).collect();
        for (from, src) in &all {
            for (_, dst) in all.iter().filter(|(to, _)| to != from) {
                if self.forward(*from, *src, *dst, SMALL).is_delivered() {
                    guarded.insert((*from, *src, *dst));
                }
            }
        }
        self.oracle.paths.guarded = Some(guarded);
    }

    /// The containers of `id` are gone with their host.
    pub(in crate::world) fn forget_guarded(&mut self, id: HostId) {
        let of = |addr: Ipv4Addr| {
            let ring = self.hosts.get(&id).and_then(|h| h.disk.ring.as_ref());
            ring.and_then(|r| r.owner_of(addr)).map(|owner| owner.name) == self.hosts.get(&id).map(|h| h.name)
        };
        let Some(mut guarded) = self.oracle.paths.guarded.clone() else { return };
        guarded.retain(|(from, _, dst)| *from != id && !of(*dst));
        self.oracle.paths.guarded = Some(guarded);
    }

    /// Before a change is made: what control trouble may never do.
    pub(in crate::world) fn check_lasting(&self, id: HostId, op: &MapOp) {
        let Some(host) = self.hosts.get(&id) else { return };
        let (maps, ring) = (&host.kernel.maps, host.disk.ring.as_ref());
        // The route of a piece of the durable ring.
        let route = |net: &Ipv4Net| {
            let owner =
                ring.and_then(|ring| ring.routes().find(|(piece, _)| piece == net)).map(|(_, owner)| owner.name);
            owner.map(|owner| if owner == host.name { RouteTo::Local } else { RouteTo::Peer(owner) })
        };
        let wrong = match op {
            MapOp::DelRoute(net) => route(net).map(|_| format!("route {net} is removed")),
            MapOp::PutRoute(net, to) if host.spec.range.contains(net) => {
                (route(net) != Some(*to)).then(|| format!("route {net} is set to {to:?}, {:?} by the ring", route(net)))
            }
            MapOp::DelTunnel(peer) => {
                let owns = maps.routes.values().any(|to| *to == RouteTo::Peer(*peer));
                (owns && maps.tunnels.contains_key(peer)).then(|| format!("the tunnel to {peer} is removed"))
            }
            _ => None,
        };
        if let Some(wrong) = wrong {
            self.fail("paths outlive trouble", &format!("h{id}: {wrong}"));
        }
    }

    /// Once a second: every guarded pair works, but for a moment in which hosts hear at different times that a controller
    /// does not answer any more.
    fn check_guarded(&mut self) {
        let Some(guarded) = self.oracle.paths.guarded.take() else { return };
        let mut broken = BTreeMap::new();
        for pair @ (from, src, dst) in &guarded {
            let fate = self.forward(*from, *src, *dst, SMALL);
            let here = self.hosts.get(from).is_some_and(|h| h.kernel.maps.endpoints.contains_key(src));
            let there = self.hosts.values().any(|h| h.kernel.maps.endpoints.contains_key(dst));
            // NAT that forwards nothing shuts when nobody asks any more: a host behind it whose controller stands still, or
            // hears of nobody, is found only while it sends itself (L22).
            let shut = matches!(fate, Fate::Lost { why: Why::Underlay(Stop::Shut), .. });
            if fate.is_delivered() || !here || !there || shut {
                continue;
            }
            let since = self.oracle.paths.broken.get(pair).copied().unwrap_or(self.now);
            if self.now.since(since) >= REPAIR {
                self.fail("paths outlive trouble", &format!("{src} on h{from} does not reach {dst} any more: {fate}"));
            }
            broken.insert(*pair, since);
        }
        self.oracle.paths.broken = broken;
        self.oracle.paths.guarded = Some(guarded);
    }

    /// Once a second: packets that are being sent arrive, if there was time to find a way and there is one; but for a moment
    /// in which hosts hear at different times of a session that makes another path better. While probes are lost by chance a
    /// path may change for no other reason (L6); loops are judged once the tables had time to agree (L7). Packets for the
    /// addresses of a peer that was removed go to the peer that has them now (L13).
    pub(in crate::world) fn check_flows(&mut self) {
        self.extend_guard();
        self.check_guarded();
        self.look_who_is_joined();
        let quiet = self.now.since(self.troubled);
        let before = std::mem::take(&mut self.oracle.paths.wayless);
        if self.faults.loss > 0 || quiet < REPAIR {
            return;
        }
        let islands = self.islands();
        let mut wayless = BTreeSet::new();
        for ((from, to), flow) in self.traffic.flows.iter().filter(|((_, to), _)| !self.oracle.addresses.gave_up(*to)) {
            let fate = self.forward(*from, flow.src, flow.dst, SMALL);
            let joined = islands.get(from).is_some_and(|island| islands.get(to) == Some(island));
            if joined && !fate.is_delivered() && self.now.since(flow.since) >= REPAIR {
                if before.contains(&(*from, *to)) {
                    let wrong = format!("no way for {quiet:?}: {}", self.explain(*from, *to, SMALL));
                    self.fail("packets find another way", &wrong);
                }
                wayless.insert((*from, *to));
            }
            if quiet >= SETTLE && matches!(fate, Fate::Lost { why: Why::Ttl, .. }) {
                self.fail("no loop", &self.explain(*from, *to, SMALL));
            }
        }
        self.oracle.paths.wayless = wayless;
    }

    /// Pairs with a session over which data passes both ways: others do not report their path (L40).
    fn look_who_is_joined(&mut self) {
        let before = std::mem::take(&mut self.oracle.paths.joined);
        let passes = |a, b| self.active(a) && self.active(b) && self.net.control(a, b) && self.net.data_both_ways(a, b);
        let pairs = self.conns.pairs().map(|(pair, _)| pair).filter(|(a, b)| a != b && passes(*a, *b));
        let joined = pairs.map(|pair| (pair, before.get(&pair).copied().unwrap_or(self.now))).collect();
        self.oracle.paths.joined = joined;
    }

    /// For each host the lowest number among those that it is joined with, over others too, for long enough.
    fn islands(&self) -> BTreeMap<HostId, HostId> {
        let old = |since: Instant| self.now.since(since) >= REPAIR;
        let joined = self.oracle.paths.joined.iter().filter(|(_, since)| old(**since));
        let pairs: Vec<(HostId, HostId)> = joined.map(|(pair, _)| *pair).collect();
        islands(&pairs)
    }
}

/// For each host in a pair the lowest number of those that pairs lead to from it.
pub(in crate::world) fn islands(pairs: &[(HostId, HostId)]) -> BTreeMap<HostId, HostId> {
    let mut lowest: BTreeMap<HostId, HostId> = pairs.iter().flat_map(|(a, b)| [(*a, *a), (*b, *b)]).collect();
    loop {
        let before = lowest.clone();
        for (a, b) in pairs {
            let low = lowest[a].min(lowest[b]);
            lowest.extend([(*a, low), (*b, low)]);
        }
        if lowest == before {
            return lowest;
        }
    }
}
