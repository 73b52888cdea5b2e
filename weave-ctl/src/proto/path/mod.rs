//! Measures the data paths to every peer and selects the one that packets take.
//!
//! A path is (peer, candidate). Candidates are addresses of the peer (each by flow, or fixed: from data port to data port,
//! for NAT and stateful filters) and peers that relay. Programs in the kernel answer and relay probes (BFD echo, RFC 5880
//! section 5), so an answer shows that packets pass, whatever the controllers do. Nothing else is taken for that: a path is
//! measured, never inferred.
//!
//! Files: `candidate` (liveness of one candidate), `route` (all of one peer, and the selection), `probing` (what is probed
//! when), `size` (path MTU search, RFC 8899), `challenge` (proof that an address is a peer's), `schedule` (deadlines, and
//! the rate of all probes), `timers` (every timer), `interface` (what goes in and comes out).
//!
//! Bounds: [`timers`]; rates of all peers together in `schedule`. A control trouble never removes a path: without an answer
//! the last known path stays.

mod candidate;
mod challenge;
mod interface;
mod probing;
mod route;
mod schedule;
mod size;
mod timers;

use std::{
    collections::{BTreeMap, VecDeque},
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

pub(crate) use self::interface::{Direct, PathEvent, PathLine, RouteStatus};
use self::{
    candidate::{Candidate, Env, Leg, Target, Watched, is_usable},
    challenge::{Challenge, Challenges, to_controller},
    route::PeerRoute,
    schedule::Schedule,
    timers::{ALIVE_FOR, ASK_FOR, PROBES_MAX, PROOFS_MAX, SPREAD, TICK},
};
use super::{
    boot::Installed,
    io::{Activity, Contact, Egress, ProbeKind, ProbeReply, ProbeRequest, TunnelTo},
    key::{PublicKey, SecretKey},
    name::PeerName,
    queue,
    rng::Rng,
    throttle::Budget,
    time::Instant,
};

#[derive(Debug)]
pub(crate) struct Paths {
    me: PeerName,
    key: SecretKey,
    data_port: u16,
    rng: Rng,
    own: Vec<Ipv4Addr>,
    behind_nat: bool,
    /// Most of what a network of thousands remembers.
    peers: BTreeMap<PeerName, Box<PeerRoute>>,
    egress: BTreeMap<Ipv4Addr, Watched>,
    schedule: Schedule,
    challenges: Challenges,
    proofs: Budget,
    /// How many active paths leave by a device of this MTU.
    mtus: BTreeMap<u32, u32>,
    device_mtus: Option<(u32, u32)>,
    probes: VecDeque<ProbeRequest>,
    events: VecDeque<PathEvent>,
}

impl Paths {
    /// The paths that a former run left in the kernel, and no other. `key` signs the answers to challenges.
    pub(crate) fn new(
        me: PeerName,
        key: SecretKey,
        data_port: u16,
        installed: &Installed,
        rng: Rng,
        now: Instant,
    ) -> Self {
        let mut paths = Self {
            me,
            key,
            data_port,
            rng,
            own: Vec::new(),
            behind_nat: false,
            peers: BTreeMap::new(),
            egress: BTreeMap::new(),
            schedule: Schedule::default(),
            challenges: Challenges::default(),
            proofs: Budget::full(PROOFS_MAX, PROOFS_MAX, now),
            mtus: BTreeMap::new(),
            device_mtus: None,
            probes: VecDeque::new(),
            events: VecDeque::new(),
        };
        for (addr, peer) in installed.senders() {
            paths.change(peer, now, |route| route.see(addr));
        }
        for (peer, path) in installed.tunnels().into_iter().filter(|(peer, _)| *peer != me) {
            paths.change(peer, now, |route| route.inherit(path, now));
            paths.count_mtu(None, Some(path.egress.mtu));
        }
        paths
    }

    pub(crate) fn set_own(&mut self, addrs: &[Ipv4Addr]) {
        self.own = addrs.to_vec();
    }

    /// A peer's record is new or changed: addresses of its data port, without those that this host has itself, and the
    /// largest outer IP packet in bytes that its devices take, zero when unknown.
    pub(crate) fn set_peer(&mut self, peer: PeerName, mut addrs: Vec<SocketAddrV4>, mtu: u32, now: Instant) {
        addrs.retain(|at| is_usable(*at));
        self.change(peer, now, |route| route.advertise(&addrs, mtu, now));
    }

    /// A session with the peer shows that its data port should be at this address; or there is no session any more.
    pub(crate) fn set_session(&mut self, peer: PeerName, to: Option<SocketAddrV4>, now: Instant) {
        self.change(peer, now, |route| route.set_session(to.filter(|at| is_usable(*at)), now));
    }

    /// These peers, the nearest first, lead to `peer` in the graph of reported paths, and a direct path to each answers.
    /// The `spare` ones are used while no other works: some controller on their way is not reached, and repairs nothing.
    pub(crate) fn set_relays(&mut self, peer: PeerName, (relays, spare): (&[PeerName], &[PeerName]), now: Instant) {
        self.change(peer, now, |route| route.set_relays(relays, spare));
    }

    /// The record of the peer reports a direct path to this host, or none.
    pub(crate) fn set_reported(&mut self, peer: PeerName, reported: bool, now: Instant) {
        if self.peers.get(&peer).is_some_and(|route| route.reported != reported) {
            self.change(peer, now, |route| route.reported = reported);
        }
    }

    /// Peers see this host at an address that is not its own, or none does any more.
    pub(crate) fn set_behind_nat(&mut self, behind_nat: bool, now: Instant) {
        if behind_nat != self.behind_nat {
            self.behind_nat = behind_nat;
            self.settle_all(now);
        }
    }

    /// How the host sends to an address that is watched; `None` while no usable route leads there.
    pub(crate) fn set_egress(&mut self, addr: Ipv4Addr, egress: Option<Egress>, now: Instant) {
        let Some(watched) = self.egress.get_mut(&addr).filter(|watched| watched.egress != egress) else { return };
        watched.egress = egress;
        self.send_challenges(addr, now);
        let leads_there = |route: &PeerRoute| route.candidates.iter().any(|c| c.target.address() == Some(addr));
        let users: Vec<_> = self.peers.iter().filter(|(_, route)| leads_there(route)).map(|(name, _)| *name).collect();
        for peer in users {
            self.settle(peer, now);
        }
    }

    pub(crate) fn activity(&mut self, seen: &[Activity], now: Instant) {
        for activity in seen {
            if let Some(route) = self.peers.get_mut(&activity.peer) {
                route.activity(*activity, now);
                self.settle(activity.peer, now);
            }
        }
    }

    pub(crate) fn reply(&mut self, reply: &ProbeReply, now: Instant) {
        if self.peers.get_mut(&reply.peer).is_some_and(|route| route.reply(reply, now)) {
            self.settle(reply.peer, now);
        }
    }

    /// Answers were lost on this host: what is under way counts neither as answered nor as unanswered.
    pub(crate) fn replies_lost(&mut self, now: Instant) {
        for route in self.peers.values_mut() {
            route.candidates.iter_mut().for_each(Candidate::excuse);
        }
        self.settle_all(now);
    }

    /// A probe was passed up to the controller. `key_of` has the keys of known peers.
    pub(crate) fn contact(&mut self, contact: &Contact, key_of: &dyn Fn(PeerName) -> Option<PublicKey>, now: Instant) {
        let Contact { from, origin, kind } = contact;
        if *origin == self.me || !is_usable(*from) {
            return;
        }
        match kind {
            ProbeKind::Request => self.challenge(*origin, *from, false, now),
            ProbeKind::Announce => self.announced(*origin, *from, now),
            ProbeKind::Challenge(nonce) => self.answer_challenge(*origin, *from, *nonce, now),
            ProbeKind::Proof(nonce, proof) => {
                let Some(challenge) = self.challenges.take(*origin, *nonce) else { return };
                let Challenge { to, fixed, .. } = challenge;
                self.unwatch(*to.ip());
                let met = |key| challenge.is_met(self.me, (*origin, &key), proof, &self.own, self.behind_nat);
                if key_of(*origin).is_some_and(met) {
                    let port = self.peers.get(origin).and_then(|route| route.port()).unwrap_or(self.data_port);
                    // Behind NAT the mapped port is the one; else the data port is where the record says.
                    let to = if fixed { to } else { SocketAddrV4::new(*to.ip(), port) };
                    self.change(*origin, now, |route| route.prove(to, fixed, now));
                }
            }
        }
    }

    /// Probes every candidate of the peer for some seconds: an operator asks whether it is alive.
    pub(crate) fn ask(&mut self, peer: PeerName, now: Instant) {
        self.change(peer, now, |route| {
            route.asked_until = Some(now + ASK_FOR);
            route.not_before = route.not_before.min(now);
        });
    }

    /// The peer is not in the topology any more. Its last known path stays.
    pub(crate) fn leave(&mut self, peer: PeerName, now: Instant) {
        if self.peers.contains_key(&peer) {
            self.change(peer, now, |route| {
                route.set_session(None, now);
                route.set_relays(&[], &[]);
                route.reported = false;
            });
        }
    }

    pub(crate) fn forget(&mut self, peer: PeerName) {
        let Some(route) = self.peers.remove(&peer) else { return };
        if let Some(slot) = route.slot {
            self.schedule.remove(slot, peer);
        }
        for addr in route.senders() {
            self.unwatch(addr);
        }
        self.count_mtu(route.published.map(|path| path.egress.mtu), None);
    }

    /// Does what is due, as far as the rates allow: a bounded number of turns.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        for challenge in self.challenges.expire(now) {
            self.unwatch(*challenge.to.ip());
        }
        while let Some((class, peer)) = self.schedule.pop(now) {
            let relays = self.relays_of(peer);
            let Self { peers, egress, probes, data_port, behind_nat, .. } = self;
            let env = Env { now, egress, relays: &relays, data_port: *data_port, behind_nat: *behind_nat };
            let turn = peers.get_mut(&peer).map_or_else(Vec::new, |route| {
                route.slot = None;
                probing::turn(route, &env)
            });
            self.schedule.charge(class, turn.len() as u32, now);
            turn.into_iter().for_each(|probe| push(probes, probe));
            self.settle(peer, now);
        }
    }

    /// When [`Self::handle_timeout`] has something to do. Rounded up, so that probes leave in batches.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let at = self.schedule.ready().into_iter().chain(self.challenges.expires()).min()?;
        let nanos = at.since_start().as_nanos().next_multiple_of(TICK.as_nanos());
        Some(Instant::from_start(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))))
    }

    pub(crate) fn poll_probe(&mut self) -> Option<ProbeRequest> {
        queue::pop(&mut self.probes)
    }

    pub(crate) fn poll_event(&mut self) -> Option<PathEvent> {
        queue::pop(&mut self.events)
    }

    pub(crate) fn active(&self, peer: PeerName) -> Option<TunnelTo> {
        self.peers.get(&peer)?.published
    }

    /// True while a direct path to the peer answers, and the host has a route to it.
    pub(crate) fn is_neighbour(&self, peer: PeerName) -> bool {
        self.peers.get(&peer).is_some_and(|route| route.relay_leg.is_some())
    }

    pub(crate) fn direct(&self, peer: PeerName) -> Option<Direct> {
        self.peers.get(&peer)?.direct()
    }

    /// All for which [`Self::is_neighbour`] is true.
    pub(crate) fn neighbours(&self) -> impl Iterator<Item = PeerName> {
        self.peers.iter().filter(|(_, route)| route.relay_leg.is_some()).map(|(name, _)| *name)
    }

    /// What answered last for the peer, while that is not long ago.
    pub(crate) fn answered(&self, peer: PeerName, now: Instant) -> Option<String> {
        let candidates = self.peers.get(&peer)?.candidates.iter();
        let alive = candidates.filter(|c| c.answered_within(ALIVE_FOR, now) && c.missed == 0);
        let last = alive.max_by_key(|c| c.answered_at)?;
        Some(match last.target {
            Target::Direct { to, .. } => format!("its kernel answers at {to}"),
            Target::Relay(relay) => format!("its kernel answers through {relay}"),
        })
    }

    pub(crate) fn status(&self, peer: PeerName, now: Instant) -> RouteStatus {
        let Some(route) = self.peers.get(&peer) else { return RouteStatus::default() };
        let relays = self.relays_of(peer);
        let Self { egress, data_port, behind_nat, .. } = self;
        let env = Env { now, egress, relays: &relays, data_port: *data_port, behind_nat: *behind_nat };
        let line = |candidate: &Candidate| {
            let leg = env.leg(candidate.target);
            let (remote, via, fixed) = match candidate.target {
                Target::Direct { to, fixed } => (Some(to), None, fixed),
                Target::Relay(relay) => (leg.map(|leg| leg.to), Some(relay), leg.is_some_and(|leg| leg.fixed)),
            };
            let answers = leg.is_some() && candidate.is_answering();
            let silent = candidate.is_dead().then(|| now.since(candidate.since));
            PathLine { remote, via, fixed, routed: leg.is_some(), answers, silent }
        };
        RouteStatus {
            active: route.active().map(line),
            standby: route.standby.and_then(|id| route.candidate(id)).map(line),
            candidates: route.candidates.iter().map(line).collect(),
        }
    }

    /// Changes what is known of a peer, and tells what follows: addresses that are watched, senders, paths.
    fn change(&mut self, peer: PeerName, now: Instant, change: impl FnOnce(&mut PeerRoute)) {
        if peer == self.me {
            return;
        }
        let Self { peers, rng, .. } = self;
        let route = peers.entry(peer).or_insert_with(|| {
            let spread = Duration::from_micros(rng.below(SPREAD.as_micros() as u64));
            Box::new(PeerRoute::new(peer, now + spread))
        });
        let before = route.senders();
        change(route);
        let after = route.senders();
        if before != after {
            for addr in after.difference(&before) {
                self.watch(*addr);
            }
            for addr in before.difference(&after) {
                self.unwatch(*addr);
            }
            self.events.push_back(PathEvent::Senders(peer, after));
        }
        self.settle(peer, now);
    }

    fn watch(&mut self, addr: Ipv4Addr) {
        let watched = self.egress.entry(addr).or_default();
        watched.users += 1;
        if watched.users == 1 {
            self.events.push_back(PathEvent::Watch(addr));
        }
    }

    fn unwatch(&mut self, addr: Ipv4Addr) {
        let Some(watched) = self.egress.get_mut(&addr) else { return };
        watched.users = watched.users.saturating_sub(1);
        if watched.users == 0 {
            self.egress.remove(&addr);
            self.events.push_back(PathEvent::Unwatch(addr));
        }
    }

    /// How packets leave for the relays among the candidates of `peer`.
    fn relays_of(&self, peer: PeerName) -> Vec<(PeerName, Leg)> {
        let candidates = self.peers.get(&peer).into_iter().flat_map(|route| &route.candidates);
        let relays = candidates.filter_map(|c| if let Target::Relay(relay) = c.target { Some(relay) } else { None });
        relays.filter_map(|relay| Some((relay, self.peers.get(&relay)?.relay_leg?))).collect()
    }

    fn settle_all(&mut self, now: Instant) {
        for peer in self.peers.keys().copied().collect::<Vec<_>>() {
            self.settle(peer, now);
        }
    }

    /// Selects the path of a peer anew, tells what changed, and puts the peer where it waits for its next turn.
    fn settle(&mut self, peer: PeerName, now: Instant) {
        let relays = self.relays_of(peer);
        let Self { peers, egress, schedule, data_port, behind_nat, events, .. } = self;
        let Some(route) = peers.get_mut(&peer) else { return };
        let env = Env { now, egress, relays: &relays, data_port: *data_port, behind_nat: *behind_nat };
        route.select(&env);
        if route.widen(now) {
            // What was added needs the next hops of its relays.
            return self.settle(peer, now);
        }
        let due = probing::due(route, &env);
        if route.slot != due {
            if let Some(slot) = route.slot {
                schedule.remove(slot, peer);
            }
            if let Some(slot) = due {
                schedule.insert(slot, peer);
            }
            route.slot = due;
        }
        let direct = route.direct();
        let leg = direct.and_then(|d| env.leg(Target::Direct { to: d.remote, fixed: d.fixed }));
        let leg_before = std::mem::replace(&mut route.relay_leg, leg);
        let moved = leg_before != leg;
        if leg_before.is_some() != leg.is_some() {
            events.push_back(PathEvent::Neighbour(peer));
        }
        // Without a route the last path stays in the kernel.
        let path = route.path(&env).filter(|path| route.published != Some(*path));
        if let Some(path) = path {
            let before = route.published.replace(path);
            let elsewhere = before.is_none_or(|before| (before.remote, before.via) != (path.remote, path.via));
            let why = if elsewhere { route.why.to_owned() } else { String::new() };
            events.push_back(PathEvent::Selected { peer, path, why });
            self.count_mtu(before.map(|before| before.egress.mtu), Some(path.egress.mtu));
        }
        if moved {
            let through = |route: &PeerRoute| route.candidates.iter().any(|c| c.target == Target::Relay(peer));
            let users: Vec<_> = self.peers.iter().filter(|(_, r)| through(r)).map(|(name, _)| *name).collect();
            for user in users {
                self.settle(user, now);
            }
        }
    }

    /// A path left by a device of MTU `before`, and leaves by one of MTU `after`.
    fn count_mtu(&mut self, before: Option<u32>, after: Option<u32>) {
        if before == after {
            return;
        }
        if let Some(mtu) = after {
            *self.mtus.entry(mtu).or_default() += 1;
        }
        if let Some(count) = before.and_then(|mtu| self.mtus.get_mut(&mtu)) {
            *count = count.saturating_sub(1);
        }
        self.mtus.retain(|_, count| *count > 0);
        let (smallest, largest) = (self.mtus.keys().next(), self.mtus.keys().next_back());
        let mtus = smallest.zip(largest).map(|(smallest, largest)| (*smallest, *largest));
        if mtus != self.device_mtus {
            self.device_mtus = mtus;
            self.events.push_back(PathEvent::DeviceMtus(mtus));
        }
    }

    /// The peer says that it sends from its data port, and is seen at `from`.
    fn announced(&mut self, peer: PeerName, from: SocketAddrV4, now: Instant) {
        let Some(route) = self.peers.get(&peer) else { return };
        let target = Target::Direct { to: from, fixed: true };
        let advertised = Target::Direct { to: from, fixed: false };
        if route.candidates.iter().any(|c| c.target == target) {
            // The filter is open now: no time to lose.
            return self.change(peer, now, |route| route.hurry(target, now));
        }
        if let Some(source) = route.candidates.iter().find(|c| c.target == advertised).map(|c| c.source) {
            return self.change(peer, now, |route| {
                route.add(target, source, now);
            });
        }
        self.challenge(peer, from, true, now);
    }

    /// Demands the proof that `to` is the peer's, if the peer is known.
    fn challenge(&mut self, peer: PeerName, to: SocketAddrV4, fixed: bool, now: Instant) {
        if !self.peers.contains_key(&peer) || !self.proofs.take(now) {
            return;
        }
        let challenge = Challenge { to, fixed, nonce: self.rng.bits(), at: now, sent: false };
        if self.challenges.begin(peer, challenge) {
            self.watch(*to.ip());
            self.send_challenges(*to.ip(), now);
        }
    }

    fn send_challenges(&mut self, addr: Ipv4Addr, now: Instant) {
        let Some(egress) = self.egress.get(&addr).and_then(|watched| watched.egress) else { return };
        for (peer, challenge) in self.challenges.unsent(addr) {
            challenge.sent = true;
            let kind = ProbeKind::Challenge(challenge.nonce);
            push(&mut self.probes, to_controller(peer, challenge.to, egress, self.data_port, kind, now));
        }
    }

    fn answer_challenge(&mut self, challenger: PeerName, from: SocketAddrV4, nonce: u64, now: Instant) {
        let Some(egress) = self.egress.get(from.ip()).and_then(|watched| watched.egress) else { return };
        if self.peers.contains_key(&challenger) && self.proofs.take(now) {
            let proof = Box::new(challenge::prove(&self.key, challenger, self.me, nonce, *from.ip()));
            let kind = ProbeKind::Proof(nonce, proof);
            push(&mut self.probes, to_controller(challenger, from, egress, self.data_port, kind, now));
        }
    }
}

fn push(probes: &mut VecDeque<ProbeRequest>, probe: ProbeRequest) {
    if probes.len() < PROBES_MAX {
        probes.push_back(probe);
    }
}

#[cfg(test)]
mod tests;
