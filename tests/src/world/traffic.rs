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

use weave_common::vxlan;
use weave_ctl::proto::{io::Input, time::Instant};

use super::{
    Event, HostId, World,
    packets::{SMALL, Step},
};

/// Time between two packets of a flow.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// Time between two of the shell's looks at active tunnels.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// One in so many of them is at all tunnels.
const LOOKS_A_SECOND: u64 = 10;

/// Looks of a shell that runs for that long.
fn looks(time: Duration) -> u64 {
    u64::try_from(time.as_nanos() / LOOK_EVERY.as_nanos()).unwrap_or(0)
}

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
        let flows: Vec<(HostId, Flow)> = self.traffic.flows.iter().map(|((from, _), flow)| (*from, *flow)).collect();
        for (from, flow) in flows {
            self.send_one(from, flow);
        }
        self.check_flows();
    }

    /// One packet of a flow.
    fn send_one(&mut self, from: HostId, flow: Flow) {
        let mut steps = Vec::new();
        let _fate = self.forward_seen(from, flow.src, flow.dst, SMALL, |step| steps.push(step));
        self.note_steps(from, SMALL, steps);
    }

    /// Lets all of these hosts send the largest packets that their devices take to each other for `time`, once a second.
    pub(super) fn exchange(&mut self, among: &BTreeSet<HostId>, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            for from in among {
                let size = self.net.mtu(*from) - vxlan::OVERHEAD;
                for to in among.iter().filter(|to| *to != from) {
                    let mut steps = Vec::new();
                    let _fate = self.reach_seen(*from, *to, size, |step| steps.push(step));
                    self.note_steps(*from, size, steps);
                }
            }
            self.run(TICK);
        }
    }

    /// The programs, and what lies between hosts, note a packet that `from` sent.
    fn note_steps(&mut self, from: HostId, size: u32, steps: Vec<Step>) {
        let Some(origin) = self.hosts.get(&from).map(|host| host.name) else { return };
        let now = self.now;
        for step in steps {
            let (Step::Left { at, .. } | Step::Came(at, _)) = step;
            let Some(host) = self.hosts.get_mut(&at) else { continue };
            match step {
                Step::Left { peer, port, remote, .. } => {
                    host.kernel.note_sent(peer, size, now);
                    self.net.open(at, port, remote, now);
                }
                Step::Came(_, source) => host.kernel.note_heard(origin, source, now),
            }
            self.plan_look(at);
        }
    }

    /// The shell of a host looks at the next of its times at which there is something to see.
    pub(super) fn plan_look(&mut self, id: HostId) {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(&id).filter(|host| host.active()) else { return };
        let (all, active) = host.kernel.is_worth_a_look();
        if !all {
            return;
        }
        let next = looks(now.since(host.started)) + 1;
        let next = if active { next } else { next.next_multiple_of(LOOKS_A_SECOND) };
        let at = host.started + LOOK_EVERY * u32::try_from(next).unwrap_or(u32::MAX);
        if host.look.is_none_or(|planned| at < planned) {
            host.look = Some(at);
            self.queue.push(at, Event::Look(id, at));
        }
    }

    /// The shell tells the core what the tunnels' times show: of active ones each time, of all once a second.
    pub(super) fn look(&mut self, id: HostId, at: Instant) {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(&id).filter(|host| host.look == Some(at)) else { return };
        host.look = None;
        if !host.active() {
            return;
        }
        let (run, look) = (host.run, looks(at.since(host.started)));
        let seen = host.kernel.look(look, look.is_multiple_of(LOOKS_A_SECOND), now);
        if !seen.is_empty() {
            self.step(Event::Deliver(id, run, Input::Activity(seen)));
        }
        self.plan_look(id);
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
