//! Containers that talk: once a second a packet from each that does, walked through the kernels' maps; and what the
//! shells tell their controllers of it.
//!
//! Bounds: one flow for each ordered pair of hosts.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::Ipv4Addr,
    time::Duration,
};

use weave_ctl::proto::{
    io::{Activity, Input},
    name::PeerName,
    time::Instant,
};

use super::{
    Event, HostId, World,
    packets::{Fate, SMALL},
};

/// Time between two packets of a flow, and between two reports of the shell.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// Two containers that talk, one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    pub(super) src: Ipv4Addr,
    pub(super) dst: Ipv4Addr,
    /// Since when they do.
    pub(super) since: Instant,
}

/// See the head of this file.
#[derive(Default)]
pub(super) struct Traffic {
    /// Pairs of hosts whose containers talk, per mille.
    share: u64,
    ticking: bool,
    pub(super) flows: BTreeMap<(HostId, HostId), Flow>,
}

impl World {
    /// Lets the containers of some pairs of hosts talk from now on: `share` per mille of all pairs.
    pub fn talk(&mut self, share: u64) {
        self.note(|| format!("{share} per mille of the pairs of hosts talk"));
        self.traffic.share = share;
        self.traffic.flows.clear();
        if !self.traffic.ticking {
            self.traffic.ticking = true;
            self.at(TICK, Event::Tick);
        }
    }

    pub(super) fn tick(&mut self) {
        self.at(TICK, Event::Tick);
        self.choose_flows();
        let mut used: BTreeMap<HostId, BTreeSet<PeerName>> = BTreeMap::new();
        let mut arrived = Vec::new();
        for ((from, _), flow) in &self.traffic.flows {
            let fate = self.forward_seen(*from, flow.src, flow.dst, SMALL, |at, peer, _| {
                used.entry(at).or_default().insert(peer);
            });
            if let (Fate::Delivered { host, .. }, Some(origin)) = (fate, self.hosts.get(from).map(|h| h.name)) {
                arrived.push((host, origin));
            }
        }
        for (id, origin) in arrived {
            self.hosts.get_mut(&id).map(|host| host.kernel.heard.insert(origin));
        }
        self.check_flows();
        for id in self.hosts.keys().copied().collect::<Vec<_>>() {
            self.tell_activity(id, &used.remove(&id).unwrap_or_default());
        }
    }

    /// What the shell sees in the tunnels' entries.
    fn tell_activity(&mut self, id: HostId, used: &BTreeSet<PeerName>) {
        let Some(host) = self.hosts.get_mut(&id) else { return };
        let heard = std::mem::take(&mut host.kernel.heard);
        let run = host.run;
        let activity = |peer: &PeerName| Activity {
            peer: *peer,
            sent: used.contains(peer),
            big: false,
            heard: heard.contains(peer),
        };
        let seen: Vec<Activity> = used.union(&heard).map(activity).collect();
        if !seen.is_empty() {
            let delay = self.delay();
            self.at(delay, Event::Deliver(id, run, Input::Activity(seen)));
        }
    }

    /// The first container of each host talks with the first of others.
    fn choose_flows(&mut self) {
        let now = self.now;
        let first = self.hosts.iter().filter_map(|(id, h)| Some((*id, *h.kernel.maps.endpoints.keys().next()?)));
        let first: Vec<(HostId, Ipv4Addr)> = first.collect();
        let mut flows = BTreeMap::new();
        for (from, src) in &first {
            for (to, dst) in &first {
                if from == to || !self.talks(*from, *to) {
                    continue;
                }
                let before = self.traffic.flows.get(&(*from, *to)).filter(|f| (f.src, f.dst) == (*src, *dst));
                let flow = before.copied().unwrap_or(Flow { src: *src, dst: *dst, since: now });
                flows.insert((*from, *to), flow);
            }
        }
        self.traffic.flows = flows;
    }

    fn talks(&self, from: HostId, to: HostId) -> bool {
        let mut hasher = DefaultHasher::new();
        (self.seed, from, to).hash(&mut hasher);
        hasher.finish() % 1000 < self.traffic.share
    }
}
