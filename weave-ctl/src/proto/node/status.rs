//! Everything the core knows, put together for `status`, `ps` and `report`.

mod connections;

use std::{collections::BTreeMap, time::Duration};

use super::Node;
use crate::proto::{
    command::{IpamStatus, OwnerStatus, Status},
    ipam::{allocator::Access, ring},
    name::PeerId,
    time::Instant,
    topology,
    wire::{self, entry::PeerRecord},
};

/// What a removed peer shows.
const REMOVED: &str = "this peer was removed from the network by `rmpeer`, and its addresses may belong to others by now: \
                       `reset` it and launch it anew";

impl Node {
    /// See [`Status`].
    pub(super) fn status(&self, now: Instant) -> Status {
        let me = self.membership.me();
        let others: Vec<&PeerRecord> = self.membership.others().collect();
        Status {
            name: me.name,
            uid: me.uid,
            nickname: me.nickname.clone(),
            incarnation: me.incarnation,
            port: self.boot.port,
            encrypted: self.boot.encrypted,
            discovery: self.boot.discovery,
            container_mtu: self.container_mtu(),
            targets: self.sessions.targets().to_vec(),
            connections: self.connections(now),
            peers: self.peers(now),
            ipam: self.ipam_status(now),
            containers: self.endpoints.status(),
            narrow_paths: self.narrow_paths(),
            conn_limit: self.boot.conn_limit,
            protocol: wire::VERSIONS,
            broadcast: topology::broadcasts(me, &others),
            channels: self.membership.channels(),
            warnings: self.warnings(now),
        }
    }

    fn warnings(&self, now: Instant) -> Vec<String> {
        let shortened =
            |grace: Duration| format!("grace periods are shortened to {} s: for tests only", grace.as_secs());
        let mut warnings: Vec<String> = self.boot.test_grace.map(shortened).into_iter().collect();
        warnings.extend(self.sessions.warnings(now));
        if let Some(at) = self.topology.duplicate(self.me.name, self.me.uid) {
            let me = self.me.name;
            let text =
                format!("another peer at {at} is called {me} like this one: relaunch one of them with another --name");
            warnings.push(text);
        }
        for (name, at) in self.topology.duplicates().filter(|(name, _)| *name != self.me.name) {
            let at = at.join(" and ");
            warnings
                .push(format!("several peers are called {name}, at {at}: relaunch all but one with another --name"));
        }
        warnings.extend(self.membership.warning(now));
        warnings.extend(self.keeper.conflicts().cloned());
        warnings.extend(self.keeper.removed().then(|| REMOVED.to_owned()));
        warnings.extend(self.datapath.warnings().cloned());
        warnings.extend(self.without_route(now));
        warnings
    }

    fn ipam_status(&self, now: Instant) -> IpamStatus {
        let params = &self.boot.params;
        let mut shares: BTreeMap<PeerId, OwnerStatus> = BTreeMap::new();
        for (net, owner) in self.keeper.ring().into_iter().flat_map(ring::Ring::routes) {
            let share = shares.entry(owner).or_insert_with(|| self.share(owner, now));
            share.addresses += ring::size(net);
            share.ranges.push(net);
        }
        let own = shares.remove(&self.me);
        IpamStatus {
            state: self.ipam_state(now),
            ready: matches!(self.keeper.access(), Access::Ring(_)),
            range: params.range,
            default_subnet: params.default_subnet,
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

    fn share(&self, owner: PeerId, now: Instant) -> OwnerStatus {
        let own = owner == self.me;
        OwnerStatus {
            peer: owner.name,
            nickname: self.nickname(owner.name),
            addresses: 0,
            active: own.then(|| self.endpoints.allocator().active()),
            unreachable: !own && self.witnesses(now).alive(owner).is_none(),
            ranges: Vec::new(),
        }
    }
}
