//! Many entries of many peers: what each costs on the wire and in memory, how long all take to be known from nothing and after
//! half of the peers were away, and what one more costs.
//!
//! The entries are names of addresses that are no container's, so that each is read, kept and told to the kernel too.
//! The first peer has [`MANY`] of them, all others have the same number. What an entry costs on the wire is what all peers
//! sent, sessions and idle traffic included, over the number of entries that peers took in.

use std::{
    fmt,
    time::{Duration, Instant},
};

use super::report::{mib, resident, time};
use crate::world::{
    Faults, HostId, Spec, World,
    journal::{Detail, Journal},
    name,
};

/// Entries of the first peer.
const MANY: usize = 4000;
/// How often it is looked who holds what.
const STEP: Duration = Duration::from_secs(1);
/// Time within which all must be known.
const KNOWN_MAX: Duration = Duration::from_secs(60);
/// Most bytes on the wire for an entry that a peer takes in.
const WIRE_MAX: f64 = 256.0;
/// Most bytes of memory for an entry.
const MEMORY_MAX: f64 = 512.0;
/// Most bytes on the wire that one more entry costs each peer: docs/limitations.md, L47.
const MORE_MAX: f64 = 2048.0;
/// Longest wait of a phase.
const LIMIT: Duration = Duration::from_secs(300);
/// Time over which one more entry is counted, and as long before it what is sent without.
const WINDOW: Duration = Duration::from_secs(20);

/// What to run.
pub struct Plan {
    /// Peers.
    pub peers: HostId,
    /// Entries of all of them.
    pub entries: usize,
    /// How long half of the peers are away.
    pub away: Duration,
    /// Bytes that this thread has allocated and not freed.
    pub live: fn() -> i64,
}

/// What spreading some entries took.
#[derive(Clone, Copy, Debug, Default)]
struct Spread {
    /// Until all held all; `None` when that took too long.
    took: Option<Duration>,
    /// Bytes sent for each entry that a peer took in.
    wire: f64,
}

/// The figures.
#[derive(Clone, Debug)]
pub struct Report {
    peers: HostId,
    entries: usize,
    start: Spread,
    away: Spread,
    /// Bytes that one more entry of the first peer costs each peer.
    more: f64,
    /// Bytes of memory for an entry, in one peer's core.
    memory: f64,
    resident: u64,
    wall: Duration,
}

struct Stage<'a> {
    world: World,
    plan: &'a Plan,
    /// Entries of each peer but the first.
    each: usize,
    began: Instant,
    tell: &'a mut dyn FnMut(&str),
}

/// Runs it; `tell` hears of each phase as it ends.
///
/// # Panics
/// When an invariant of the World breaks.
pub fn run(plan: &Plan, tell: &mut dyn FnMut(&str)) -> Report {
    let world = World::logged(1, Faults::NONE, Journal::new(Detail::Off, None));
    let each = plan.entries.saturating_sub(MANY) / usize::from(plan.peers - 1);
    let mut stage = Stage { world, plan, each, began: Instant::now(), tell };
    let bare = stage.weigh_one();
    stage.world = World::logged(1, Faults::NONE, Journal::new(Detail::Off, None));
    let start = stage.start();
    let more = stage.one_more();
    let away = stage.away();
    let resident = resident();
    let full = stage.weigh();
    let entries = stage.held();
    let memory = (full - bare) as f64 / entries as f64;
    Report { peers: plan.peers, entries, start, away, more, memory, resident, wall: stage.began.elapsed() }
}

impl Stage<'_> {
    fn tell(&mut self, what: &str) {
        let virtual_time = self.world.now().since_start().as_secs_f64();
        let wall = self.began.elapsed().as_secs_f64();
        let events = self.world.events() as f64 / 1e6;
        (self.tell)(&format!(
            "{wall:>8.1} s of wall time, {virtual_time:>6.1} s virtual, {events:>6.1} million events: {what}"
        ));
    }

    fn of(&self, id: HostId) -> usize {
        if id == 1 { MANY.min(self.plan.entries) } else { self.each }
    }

    /// Entries of all.
    fn held(&self) -> usize {
        (1..=self.plan.peers).map(|id| self.of(id)).sum()
    }

    fn launch_all(&mut self) {
        let peers = self.plan.peers;
        for id in 1..=peers {
            let targets = [1 + id % peers, 1 + (id * 7 + 3) % peers].into_iter().filter(|t| *t != id).collect();
            let spec = Spec { seeds: (1..=peers).map(name).collect(), targets, ..Spec::default() };
            self.world.launch_as(id, spec);
        }
    }

    /// Bytes of one peer's core that knows all others and holds no entries but their records.
    fn weigh_one(&mut self) -> i64 {
        self.launch_all();
        self.world.run(WINDOW * 2);
        let bytes = self.weigh();
        self.tell(&format!("a peer without entries weighs {:.2} MiB", mib(bytes.unsigned_abs())));
        bytes
    }

    /// Bytes that are freed when the last peer's core goes, with all that it shared with others.
    fn weigh(&mut self) -> i64 {
        for host in self.world.hosts.values_mut().skip(1) {
            host.node = None;
        }
        self.world.opener.forget();
        let before = (self.plan.live)();
        if let Some(host) = self.world.hosts.values_mut().next() {
            host.node = None;
        }
        before - (self.plan.live)()
    }

    fn say(&mut self, id: HostId, number: usize, value: bool) {
        self.world.name(id, &format!("container-{number}.of-{id}"), value);
    }

    /// Runs until each of these peers holds as many entries.
    fn spread(&mut self, expected: &[(HostId, usize)], new: usize) -> Spread {
        let start = self.world.now();
        let mut left = expected.to_vec();
        while !left.is_empty() && self.world.now().since(start) < LIMIT {
            self.world.run(STEP);
            left.retain(|(id, held)| self.world.named(*id) != *held);
        }
        let took = left.is_empty().then(|| self.world.now().since(start));
        Spread { took, wire: self.sent() as f64 / new as f64 }
    }

    /// Bytes on links of all peers since it was counted anew.
    fn sent(&self) -> u64 {
        self.world.meter().sent().map(|(_, sent)| sent.frames.bytes).sum()
    }

    fn start(&mut self) -> Spread {
        self.launch_all();
        for id in 1..=self.plan.peers {
            for number in 0..self.of(id) {
                self.say(id, number, true);
            }
        }
        let all = self.held();
        let expected: Vec<_> = (1..=self.plan.peers).map(|id| (id, all)).collect();
        let spread = self.spread(&expected, all * usize::from(self.plan.peers));
        self.tell(&format!("from nothing, {spread}"));
        spread
    }

    fn one_more(&mut self) -> f64 {
        self.world.run(LIMIT);
        let window = |stage: &mut Self, more: Option<usize>| -> u64 {
            stage.world.meter.reset();
            if let Some(number) = more {
                stage.say(1, number, true);
            }
            stage.world.run(WINDOW);
            stage.world.meter().sent().map(|(_, sent)| sent.gossip.bytes).sum()
        };
        let idle = window(self, None);
        let number = self.of(1);
        let more = window(self, Some(number)).saturating_sub(idle) as f64 / f64::from(self.plan.peers);
        self.say(1, number, false);
        self.world.run(WINDOW);
        self.tell(&format!("one more of {number} entries costs each peer {more:.0} bytes"));
        more
    }

    /// Half of the peers are away, for longer than anything is retained. On both sides some is deleted and some is new.
    fn away(&mut self) -> Spread {
        let peers = self.plan.peers;
        let side: Vec<HostId> = (1..=peers / 2).collect();
        self.world.partition(&[&side]);
        self.world.run(self.plan.away / 2);
        for id in 1..=peers {
            let (of, changed) = (self.of(id), self.of(id) / 10);
            for number in 0..changed {
                self.say(id, number, false);
                self.say(id, of + number, true);
            }
        }
        self.world.run(self.plan.away / 2);
        self.tell("half of the peers were away");
        let all = self.held();
        let expected: Vec<_> = (1..=peers).map(|id| (id, all)).collect();
        let missing: usize = expected.iter().map(|(id, _)| all - self.world.named(*id).min(all)).sum();
        self.world.meter.reset();
        self.world.heal();
        let spread = self.spread(&expected, missing);
        self.tell(&format!("after half was away, {missing} entries missing in all, {spread}"));
        // Nothing deleted comes back later either.
        self.world.run(LIMIT);
        for (id, held) in expected {
            let named = self.world.named(id);
            if named != held {
                self.world.fail("deleted stays deleted", &format!("h{id} holds {named} names, not {held}"));
            }
        }
        spread
    }
}

impl Report {
    /// What is not as it must be; nothing when all is well.
    #[must_use]
    pub fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (what, spread) in [("from nothing", self.start), ("after half was away", self.away)] {
            if spread.took.is_none_or(|took| took > KNOWN_MAX) {
                wrong.push(format!("{what}: known after {}, must be {} s", time(spread.took), KNOWN_MAX.as_secs()));
            }
            if spread.wire >= WIRE_MAX {
                wrong.push(format!("{what}: {:.0} bytes on the wire for an entry, may {WIRE_MAX:.0}", spread.wire));
            }
        }
        if self.memory >= MEMORY_MAX {
            wrong.push(format!("{:.0} bytes of memory for an entry, may {MEMORY_MAX:.0}", self.memory));
        }
        if self.more >= MORE_MAX {
            wrong.push(format!("one more costs each peer {:.0} bytes, may {MORE_MAX:.0}", self.more));
        }
        wrong
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "known after {}, {:.0} bytes on the wire for an entry", time(self.took), self.wire)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [
            ("from nothing", self.start.to_string()),
            ("after half of the peers was away", self.away.to_string()),
            ("one more entry, for each peer", format!("{:.0} bytes on the wire", self.more)),
            ("memory", format!("{:.0} bytes for an entry; the process {:.1} MiB", self.memory, mib(self.resident))),
            ("wall time", format!("{:.1} s", self.wall.as_secs_f64())),
        ];
        writeln!(f, "{} entries of {} peers", self.entries, self.peers)?;
        rows.iter().try_for_each(|(what, figure)| writeln!(f, "  {what:<36} {figure}"))
    }
}
