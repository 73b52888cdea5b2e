//! Everything the core knows, put together for `status`, `ps` and `report`.

use std::collections::BTreeMap;

use super::{
    command::{IpamStatus, OwnerStatus, Status},
    ipam::ring,
    name::PeerName,
    node::Node,
    time::Instant,
};

impl Node {
    /// See [`Status`].
    pub(super) fn status(&self, now: Instant) -> Status {
        let me = self.mesh.me();
        let mut warnings = self.mesh.warnings();
        warnings.extend(self.conflict.clone());
        warnings.extend(self.datapath.warnings().cloned());
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
            conn_limit: self.boot.conn_limit,
            protocol: super::mesh::wire::VERSIONS,
            broadcast: self.mesh.broadcast(),
            channels: self.mesh.channels(),
            warnings,
        }
    }

    fn ipam_status(&self) -> IpamStatus {
        let me = self.name();
        let params = &self.boot.params;
        let mut shares: BTreeMap<PeerName, OwnerStatus> = BTreeMap::new();
        for (net, owner) in self.ring.iter().flat_map(ring::Ring::routes) {
            let share = shares.entry(owner).or_insert_with(|| self.share(owner, me));
            share.addresses += ring::size(net);
            share.ranges.push(net);
        }
        let own = shares.remove(&me);
        let state = match (&self.ring, &own) {
            (None, _) => "awaiting a ring: relaunch with --seed, or connect to a peer that has one",
            (Some(_), None) => "ready, but this peer owns no addresses: its name is not among the seeds",
            (Some(_), Some(_)) => "ready",
        };
        IpamStatus {
            state: state.to_owned(),
            ready: self.ring.is_some(),
            range: params.range,
            default_subnet: params.default_subnet,
            owners: own.into_iter().chain(shares.into_values()).collect(),
        }
    }

    fn share(&self, owner: PeerName, me: PeerName) -> OwnerStatus {
        let own = owner == me;
        let nickname = self.mesh.nickname(owner);
        OwnerStatus {
            peer: owner,
            nickname,
            addresses: 0,
            active: own.then(|| self.endpoints.allocator().active()),
            unreachable: !own && !self.mesh.reached(owner),
            ranges: Vec::new(),
        }
    }
}
