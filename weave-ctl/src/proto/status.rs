//! Everything the core knows, put together for `status`, `ps` and `report`.

use std::collections::BTreeMap;

use super::{
    command::{IpamStatus, OwnerStatus, Status},
    ipam::{allocator::Access, ring},
    name::{PeerId, PeerName},
    node::Node,
    time::Instant,
};

/// What a peer that was removed is told.
const REMOVED: &str = "this peer was removed from the network by `rmpeer`, and its addresses may be others' by now: \
                       `reset` it and launch it anew";

impl Node {
    /// See [`Status`].
    pub(super) fn status(&self, now: Instant) -> Status {
        let me = self.mesh.me();
        let shortened = self
            .boot
            .test_grace
            .map(|grace| format!("grace periods are shortened to {} s: for tests only", grace.as_secs()));
        let mut warnings: Vec<String> = shortened.into_iter().chain(self.mesh.warnings(now)).collect();
        warnings.extend(self.keeper.conflicts().cloned());
        warnings.extend(self.keeper.removed().then(|| REMOVED.to_owned()));
        warnings.extend(self.datapath.warnings().cloned());
        warnings.extend(self.unreachable());
        Status {
            name: me.name,
            uid: me.uid,
            nickname: me.nickname.clone(),
            short_id: me.short_id,
            incarnation: me.incarnation,
            port: self.boot.port,
            encrypted: self.boot.encrypted,
            discovery: self.boot.discovery,
            container_mtu: self.mtu,
            targets: self.mesh.targets().to_vec(),
            connections: self.mesh.connections(now),
            peers: self.mesh.peers(now),
            ipam: self.ipam_status(),
            containers: self.endpoints.status(),
            narrow_paths: self.narrow_paths(),
            conn_limit: self.boot.conn_limit,
            protocol: super::mesh::wire::VERSIONS,
            broadcast: self.mesh.broadcast(),
            channels: self.mesh.channels(),
            warnings,
        }
    }

    fn ipam_status(&self) -> IpamStatus {
        let me = PeerId { name: self.name(), uid: self.mesh.me().uid };
        let params = &self.boot.params;
        let mut shares: BTreeMap<PeerId, OwnerStatus> = BTreeMap::new();
        for (net, owner) in self.keeper.ring().into_iter().flat_map(ring::Ring::routes) {
            let share = shares.entry(owner).or_insert_with(|| self.share(owner, me));
            share.addresses += ring::size(net);
            share.ranges.push(net);
        }
        let own = shares.remove(&me);
        IpamStatus {
            state: self.ipam_state(),
            ready: matches!(self.keeper.access(), Access::Ring(_)),
            range: params.range,
            default_subnet: params.default_subnet,
            owners: own.into_iter().chain(shares.into_values()).collect(),
        }
    }

    /// How address management stands, in a few words.
    pub(super) fn ipam_state(&self) -> String {
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
                let me = self.name();
                let others: Vec<PeerName> = ring.owners().into_iter().map(|id| id.name).filter(|n| *n != me).collect();
                let reachable = others.iter().any(|peer| self.mesh.reached(*peer));
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

    fn share(&self, owner: PeerId, me: PeerId) -> OwnerStatus {
        let own = owner == me;
        let current = self.mesh.record(owner.name).is_none_or(|record| owner.uid == record.uid || owner.uid.0 == 0);
        let alive = own || (self.mesh.reached(owner.name) && current && owner.name != me.name);
        OwnerStatus {
            peer: owner.name,
            nickname: self.nickname(owner.name),
            addresses: 0,
            active: own.then(|| self.endpoints.allocator().active()),
            unreachable: !alive,
            ranges: Vec::new(),
        }
    }
}
