//! Everything that goes wrong: on the underlay, with controllers, with hosts.
//!
//! Bounds: while a controller is paused, answers to probes wait in the kernel's rings, and frames in their connection, each
//! with a bound of its own; it is asked and told little else.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use weave_ctl::proto::{
    boot::Stored,
    io::{Input, LinkOp, Target},
    ipam::Ring,
    time::Instant,
};

use super::{
    Event, HostId, World,
    conns::{Parcel, Side},
    host::Host,
    net::{Nat, What},
    oracle::islands,
};

/// Time for which the kernel takes answers to probes of the run before, as the shell's.
const FORMER_KEY_FOR: Duration = Duration::from_secs(10);
/// Longest time before TCP tries again after a cut ended: the pause doubles with every attempt.
const RETRANSMIT_MAX: Duration = Duration::from_secs(15);

/// How unkind the network, the disks and the kernels are. Probabilities are per mille.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults {
    /// Probes lost.
    pub loss: u64,
    /// Probes sent twice.
    pub duplicate: u64,
    /// Crashes between a commit and the last of its effects.
    pub crash_after_commit: u64,
    /// Crashes before a commit.
    pub crash_before_commit: u64,
    /// Commits that take long.
    pub slow_commit: u64,
    /// Interface operations that fail.
    pub link_failure: u64,
    /// Map operations that fail.
    pub map_failure: u64,
    /// Longest delay of a packet or frame.
    pub delay_max: Duration,
}

impl Faults {
    /// No faults, a little delay.
    pub const NONE: Self = Self {
        loss: 0,
        duplicate: 0,
        crash_after_commit: 0,
        crash_before_commit: 0,
        slow_commit: 0,
        link_failure: 0,
        map_failure: 0,
        delay_max: Duration::from_millis(2),
    };
}

/// True when those of the pairs that are among these join them all.
fn are_one(among: &BTreeSet<HostId>, pairs: impl Iterator<Item = (HostId, HostId)>) -> bool {
    let pairs = pairs.filter(|(a, b)| among.contains(a) && among.contains(b));
    let all: Vec<(HostId, HostId)> = pairs.chain(among.iter().map(|id| (*id, *id))).collect();
    islands(&all).values().collect::<BTreeSet<_>>().len() <= 1
}

/// The underlay.
impl World {
    /// Changes the faults from now on.
    pub fn set_faults(&mut self, faults: Faults) {
        if self.faults != faults {
            self.note(|| format!("{faults:?}"));
            self.troubled();
        }
        self.faults = faults;
    }

    /// Something goes wrong or is mended now: what needs time after that starts to count anew.
    pub(super) fn troubled(&mut self) {
        self.troubled = self.now;
    }

    /// When something last went wrong or was mended.
    #[must_use]
    pub fn last_trouble(&self) -> Instant {
        self.troubled
    }

    /// Cuts traffic between `a` and `b`, both ways.
    pub fn cut(&mut self, a: HostId, b: HostId) {
        self.cut_what(a, b, What::All);
    }

    /// Cuts some traffic between `a` and `b`, both ways.
    pub fn cut_what(&mut self, a: HostId, b: HostId, what: What) {
        self.cut_way(a, b, what);
        self.cut_way(b, a, what);
    }

    /// Cuts some traffic from `from` to `to`. TCP makes no progress either way.
    pub fn cut_way(&mut self, from: HostId, to: HostId, what: What) {
        self.note(|| format!("cut h{from} -> h{to} {what:?}"));
        self.troubled();
        self.net.cut(from, to, what);
    }

    /// Ends the cuts between two hosts.
    pub fn mend(&mut self, a: HostId, b: HostId) {
        self.note(|| format!("mend h{a} h{b}"));
        self.troubled();
        self.net.mend(a, b);
        self.release();
    }

    /// Some traffic never passes from `from` to `to`, whatever is healed. TCP makes no progress either way.
    pub fn never(&mut self, from: HostId, to: HostId, what: What) {
        self.note(|| format!("h{from} -> h{to} never carries {what:?}"));
        self.net.never(from, to, what);
    }

    /// True when these hosts can be joined by links over which data passes, while nothing is cut or filtered.
    #[must_use]
    pub fn joinable(&self, among: &BTreeSet<HostId>) -> bool {
        let pairs = among.iter().flat_map(|a| among.iter().map(|b| (*a, *b)));
        are_one(among, pairs.filter(|(a, b)| a < b && self.net.joinable(*a, *b)))
    }

    /// True when links join these hosts.
    #[must_use]
    pub fn linked(&self, among: &BTreeSet<HostId>) -> bool {
        are_one(among, self.conns.pairs().map(|(pair, _)| pair))
    }

    /// Lets nothing pass between hosts on different sides; those that are not named are together on one more.
    pub fn partition(&mut self, sides: &[&[HostId]]) {
        self.note(|| format!("partition {sides:?} and the rest"));
        self.troubled();
        let side = |(number, hosts): (u32, &&[HostId])| hosts.iter().map(|h| (*h, number)).collect::<Vec<_>>();
        self.net.divide((0_u32..).zip(sides).flat_map(side).collect::<BTreeMap<_, _>>());
        self.release();
    }

    /// The firewall of `host` drops what comes in on these ports; connections that are open stay.
    pub fn filter(&mut self, host: HostId, what: What) {
        self.note(|| format!("filter h{host} {what:?}"));
        self.troubled();
        self.net.filter(host, what);
    }

    /// Limits outer IP packets between two hosts to `mtu` bytes.
    pub fn limit(&mut self, a: HostId, b: HostId, mtu: u32) {
        self.note(|| format!("limit h{a} h{b} {mtu}"));
        self.troubled();
        self.net.limit(a, b, mtu);
    }

    /// Ends all cuts, partitions, filters and limits, but not what the underlay never carries; disks have room again.
    pub fn heal(&mut self) {
        self.note(|| "heal".to_owned());
        self.troubled();
        self.net.heal();
        self.heal_disks();
        self.release();
    }

    /// Lets connections go on that were stalled and need not be.
    fn release(&mut self) {
        let net = &self.net;
        for (link, stalled) in self.conns.waiting(self.now, |a, b| net.control(a, b)) {
            let pause = u64::try_from(stalled.min(RETRANSMIT_MAX).as_micros()).unwrap_or(0);
            let at = self.now + Duration::from_micros(200_000 + self.rng.below(pause));
            for (side, parcel) in self.conns.resume(link, at) {
                self.queue.push(at, Event::Parcel { link, side, parcel });
            }
        }
    }
}

/// Controllers and hosts.
impl World {
    /// Kills the controller of `id`: what was not committed is gone, the kernel goes on.
    pub fn crash(&mut self, id: HostId) {
        self.cut_short(id);
        let Some(host) = self.hosts.get_mut(&id).filter(|h| h.node.is_some()) else { return };
        let begun = std::mem::take(&mut host.operations);
        host.end();
        self.note(|| format!("crash h{id}"));
        self.troubled();
        for what in begun.into_values() {
            self.finish(id, &what);
        }
        for (link, side) in self.conns.links_of(id) {
            self.conns.close(link, side);
            let (at, reason) = (self.now + self.delay(), "connection reset by peer".to_owned());
            self.queue.push(at, Event::Parcel { link, side: side.other(), parcel: Parcel::Closed(reason) });
        }
    }

    /// The kernel may finish what a controller had begun when it was killed.
    fn finish(&mut self, id: HostId, what: &LinkOp) {
        if !self.chance(500) {
            return;
        }
        if let Some(host) = self.hosts.get_mut(&id) {
            host.kernel.link_op(what);
            self.note(|| format!("h{id} {what:?}, though the controller is gone"));
            self.check_interfaces(id);
        }
    }

    /// Kills host `id` whole: its kernel forgets maps, interfaces and containers; the store stays. Nobody is told.
    pub fn power_off(&mut self, id: HostId) {
        self.cut_short(id);
        let Some(host) = self.hosts.get_mut(&id) else { return };
        host.end();
        self.meter.forget(&host.kernel.maps);
        host.kernel = host.kernel.next_boot();
        self.note(|| format!("power off h{id}"));
        self.troubled();
        for (link, side) in self.conns.links_of(id) {
            self.conns.close(link, side);
        }
        self.rebooted(id);
    }

    /// Kills host `id` whole, and its store is lost: what comes back under its name is another peer, which joins those
    /// that can be reached.
    pub fn wipe(&mut self, id: HostId) {
        self.power_off(id);
        let open = self.hosts.keys().copied().filter(|other| *other != id && self.nat(*other) == Nat::None);
        let others: Vec<HostId> = open.collect();
        let Some(host) = self.hosts.get_mut(&id) else { return };
        host.disk = Stored::default();
        host.be_newcomer(&others);
        self.note(|| format!("wipe h{id}"));
        self.wiped(id);
    }

    /// True when every host has a ring in its store.
    #[must_use]
    pub fn divided(&self) -> bool {
        self.hosts.values().all(|host| host.disk.ring.is_some())
    }

    /// What the stores of all hosts but `id` say of the ring.
    fn rings_of_others(&self, id: HostId) -> impl Iterator<Item = Option<&Ring>> + Clone {
        self.hosts.iter().filter(move |(other, _)| **other != id).map(|(_, host)| host.disk.ring.as_ref())
    }

    /// True when all stores have a ring, and those of others say of it what that of `id` does: nothing that it gave away is
    /// forgotten with its store by somebody from whom its next one may learn what it owned.
    #[must_use]
    pub fn outlived(&self, id: HostId) -> bool {
        let ring = self.hosts.get(&id).and_then(|host| host.disk.ring.as_ref());
        ring.is_some_and(|mine| self.rings_of_others(id).all(|ring| ring.is_some_and(|ring| ring.covers(mine))))
    }

    /// True when the store of `id` is empty.
    #[must_use]
    pub fn blank(&self, id: HostId) -> bool {
        self.hosts.get(&id).is_some_and(|host| host.disk.identity.is_none())
    }

    /// How many others have in their stores that the store of `id` was taken over from, and how many others there are.
    #[must_use]
    pub fn removal_known(&self, id: HostId) -> (usize, usize) {
        let Some(store) = self.hosts.get(&id).and_then(Host::store) else { return (0, 0) };
        let others = self.rings_of_others(id);
        let known = others.clone().filter(|ring| ring.is_some_and(|ring| ring.is_removed(store)));
        (known.count(), others.count())
    }

    /// Launches the controller of `id` again, from its store.
    pub fn start(&mut self, id: HostId) {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.rng.bits().to_be_bytes());
        let now = self.now;
        let Some(host) = self.hosts.get_mut(&id).filter(|h| h.node.is_none()) else { return };
        host.start(seed, self.opener.clone(), now);
        let (run, facts) = (host.run, host.facts(id));
        self.at(FORMER_KEY_FOR, Event::FormerKey(id, run));
        self.note(|| format!("start h{id}"));
        self.troubled();
        self.drain(id);
        self.step(Event::Deliver(id, run, Input::Underlay(facts)));
    }

    /// Stops the controller of `id` for `time`: connections stay, what comes in waits.
    pub fn pause(&mut self, id: HostId, time: Duration) {
        let Some(host) = self.hosts.get_mut(&id).filter(|h| h.node.is_some()) else { return };
        host.pauses += 1;
        let run = host.run;
        self.note(|| format!("pause h{id} for {time:?}"));
        self.troubled();
        self.at(time, Event::Resume(id, run));
    }

    pub(super) fn resume(&mut self, id: HostId, run: u64) {
        let Some(host) = self.hosts.get_mut(&id).filter(|h| h.run == run && h.pauses > 0) else { return };
        host.pauses = host.pauses.saturating_sub(1);
        if host.paused() {
            return;
        }
        let waited = host.held.len();
        self.note(|| format!("resume h{id}, {waited} inputs waited"));
        self.troubled();
        self.catch_up(id);
    }

    /// Takes in what came while the controller did nothing.
    pub(super) fn catch_up(&mut self, id: HostId) {
        let Some(host) = self.hosts.get_mut(&id) else { return };
        let held = std::mem::take(&mut host.held);
        host.wake = None;
        // The driver reads the rings before it looks at its timer; which other input comes first is chance.
        let from_ring = |event: &Event| {
            let Event::Deliver(_, _, input) = event else { return false };
            matches!(input, Input::ProbeReply(_) | Input::Contact(_) | Input::RepliesLost(..))
        };
        let (read, others): (Vec<_>, Vec<_>) = held.into_iter().partition(from_ring);
        read.into_iter().for_each(|event| self.step(event));
        if self.chance(500) && self.active(id) {
            self.due(id);
        }
        others.into_iter().for_each(|event| self.step(event));
        if self.active(id) {
            self.read_rings(id);
        }
        self.plan_look(id);
        self.reschedule(id);
    }

    /// Lets a paused controller go on at once.
    pub fn go_on(&mut self, id: HostId) {
        let Some(host) = self.hosts.get_mut(&id).filter(|h| h.pauses > 0) else { return };
        host.pauses = 1;
        let run = host.run;
        self.resume(id, run);
    }

    pub(super) fn hold(&mut self, id: HostId, event: Event) {
        let Some(host) = self.hosts.get_mut(&id) else { return };
        if !matches!(event, Event::Wake(..)) {
            host.held.push_back(event);
        }
    }

    /// A container vanishes from host `id`, with its interface.
    pub fn vanish(&mut self, id: HostId, container: &str) {
        let Some(host) = self.hosts.get_mut(&id) else { return };
        let Some(host_if) = host.kernel.remove_container(container) else { return };
        let run = host.run;
        self.oracle.vanished(id, container);
        self.note(|| format!("vanish h{id} {container}"));
        self.check_interfaces(id);
        let delay = self.delay();
        self.at(delay, Event::Deliver(id, run, Input::EndpointGone(host_if)));
    }

    /// How `id` is connected.
    #[must_use]
    pub fn nat(&self, id: HostId) -> Nat {
        self.net.nat(id)
    }

    /// True when `id` dials peers that it hears of.
    #[must_use]
    pub fn discovers(&self, id: HostId) -> bool {
        self.hosts.get(&id).is_some_and(|h| h.spec.discovery)
    }

    /// Most links that `id` may have.
    #[must_use]
    pub fn conn_limit(&self, id: HostId) -> usize {
        self.hosts.get(&id).map_or(0, |h| h.spec.conn_limit as usize)
    }

    /// Adds targets to those of `id`.
    pub fn connect_to(&mut self, id: HostId, targets: &[HostId]) -> u64 {
        let targets = targets.iter().map(|t| Target { host: format!("h{t}"), port: None }).collect();
        self.ask(id, weave_ctl::proto::command::Command::Connect { targets, replace: false })
    }

    /// Ends one end of a connection as its shell does by itself.
    pub(super) fn break_off(&mut self, link: u64, side: Side, reason: &str) {
        self.conns.closing(link, side);
        self.at(Duration::ZERO, Event::Ended { link, side, reason: reason.to_owned() });
        let at = self.now + self.delay();
        let parcel = Parcel::Closed("connection reset by peer".to_owned());
        self.queue.push(at, Event::Parcel { link, side: side.other(), parcel });
    }
}
