//! Thousands of nodes in one process: what they cost when idle, and how long a join, a leave, a cut and its healing take to
//! be known.
//!
//! Each node is told of two or three random others and may find the rest by itself. Times are virtual and are those at
//! which it was noticed, in steps of [`STEP`]. Who knows of a join is read from all kernels' maps; who knows of a leave or
//! a cut from the status of [`SAMPLES`] nodes: over links that both ends tell, who reaches whom.
//! Bounds: a phase that does not end within [`LIMIT`] is told as such. What the figures must be is in `report`.

pub mod entries;
mod knowledge;
mod report;

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use ipnet::Ipv4Net;

pub use self::report::Report;
use self::{
    knowledge::reached,
    report::{Cost, Memory},
};
use super::{
    Faults, HostId, Spec, World,
    journal::{Detail, Journal},
    name,
};

/// How often it is looked who knows.
const STEP: Duration = Duration::from_millis(100);
/// Nodes whose status is asked for.
const SAMPLES: usize = 8;
/// Longest wait of a phase.
const LIMIT: Duration = Duration::from_secs(200);
/// Time within which all nodes are launched.
const LAUNCHES: Duration = Duration::from_secs(10);
/// Shortest time for the start to calm down.
const CALM: Duration = Duration::from_secs(60);
/// The same for each node: all others are asked first, at a bounded rate, for their path and its MTU.
const CALM_EACH: Duration = Duration::from_millis(12);
/// Time over which idle traffic is counted.
const IDLE: Duration = Duration::from_secs(60);
/// Time over which the cost of a join is counted.
const WINDOW: Duration = Duration::from_secs(20);
/// Shortest time of a cut.
const CUT: Duration = Duration::from_secs(40);
/// Nodes among which the range is divided.
const SEEDS: HostId = 16;

/// What to run.
pub struct Plan {
    /// Nodes at the start; one more joins.
    pub nodes: HostId,
    /// Of the generator.
    pub seed: u64,
    /// Bytes that this thread has allocated and not freed.
    pub live: fn() -> i64,
}

/// Runs a network of many nodes; `tell` hears of each phase as it ends.
pub fn run(plan: &Plan, tell: &mut dyn FnMut(&str)) -> Report {
    let world = World::logged(plan.seed, Faults::NONE, Journal::new(Detail::Off, None));
    let (nodes, report) = (plan.nodes, Report::new(plan.nodes));
    let mut stage = Stage { world, nodes, report, began: Instant::now(), live: plan.live, tell };
    stage.gather();
    stage.idle();
    stage.join();
    stage.leave();
    stage.cut();
    stage.weigh();
    stage.report
}

struct Stage<'a> {
    world: World,
    nodes: HostId,
    report: Report,
    began: Instant,
    /// As in [`Plan`].
    live: fn() -> i64,
    tell: &'a mut dyn FnMut(&str),
}

impl Stage<'_> {
    fn tell(&mut self, what: &str) {
        let line = format!(
            "{:>8.1} s of wall time, {:>6.1} s virtual, {:>6.1} million events, {:>6.0} MiB in use: {what}",
            self.began.elapsed().as_secs_f64(),
            self.world.now().since_start().as_secs_f64(),
            self.world.events() as f64 / 1e6,
            (self.live)() as f64 / f64::from(1 << 20),
        );
        (self.tell)(&line);
        self.report.wall = self.began.elapsed();
    }

    /// Runs until `done`; how long it took, or `None` when it took too long.
    fn until(&mut self, step: Duration, mut done: impl FnMut(&mut World) -> bool) -> Option<Duration> {
        let start = self.world.now();
        while !done(&mut self.world) {
            if self.world.now().since(start) >= LIMIT {
                return None;
            }
            self.world.run(step);
        }
        Some(self.world.now().since(start))
    }

    /// Lets time pass. Each step may take as many events as the World allows: in a minute of thousands of nodes there are more.
    fn pass(&mut self, time: Duration) {
        let end = self.world.now() + time;
        while self.world.now() < end {
            self.world.run(STEP.min(end.since(self.world.now())));
        }
    }

    fn launch(&mut self, id: HostId, known: HostId) {
        let others = 2 + self.world.pick(2);
        let mut any = || 1 + HostId::try_from(self.world.pick(u64::from(known))).unwrap_or(0);
        let targets = (0..others).map(|_| any()).filter(|target| *target != id).collect();
        let seeds = (1..=SEEDS.min(self.nodes)).map(name).collect();
        let range = Ipv4Net::new_assert(Ipv4Addr::new(10, 32, 0, 0), 12);
        self.world.launch_as(id, Spec { seeds, targets, range, ..Spec::default() });
    }

    fn gather(&mut self) {
        for id in 1..=self.nodes {
            self.launch(id, self.nodes);
            self.world.run(LAUNCHES / u32::from(self.nodes));
        }
        let all = usize::from(self.nodes) * usize::from(self.nodes - 1);
        self.report.gathered = self.until(STEP, |world| world.meter().tunnels() == all);
        self.tell("all know all");
        self.pass(CALM.max(CALM_EACH * u32::from(self.nodes)));
        self.tell("calm");
    }

    fn idle(&mut self) {
        self.world.meter.reset();
        self.pass(IDLE);
        self.report.idle = Cost::of(&self.world, IDLE);
        let links = (1..=self.nodes).map(|id| self.world.links(id));
        self.report.links = report::Spread::of(links);
        let what = format!("idle traffic counted: {}", self.report.idle);
        self.tell(&what);
    }

    fn join(&mut self) {
        let (new, before) = (self.nodes + 1, usize::from(self.nodes));
        self.world.meter.reset();
        let start = self.world.now();
        self.launch(new, self.nodes);
        let (mut known, mut knows) = (None, None);
        self.until(STEP, |world| {
            let time = world.now().since(start);
            if world.meter().tunnels_to(name(new)) == before {
                known.get_or_insert(time);
            }
            if world.hosts.get(&new).is_some_and(|h| h.kernel.maps.tunnels.len() == before) {
                knows.get_or_insert(time);
            }
            known.is_some() && knows.is_some()
        });
        (self.report.join, self.report.newcomer) = (known, knows);
        let left = WINDOW.saturating_sub(self.world.now().since(start));
        self.pass(left);
        self.report.joined = Cost::of(&self.world, self.world.now().since(start));
        let [known, knows] = [known, knows].map(report::time);
        let cost = self.report.joined;
        let what = format!("a node joined: known everywhere after {known}, knows everybody after {knows}: {cost}");
        self.tell(&what);
    }

    /// Waits until each of the samples reaches as many others as `want` says.
    fn until_known(&mut self, samples: &[HostId], want: impl Fn(HostId) -> usize) -> Option<Duration> {
        let mut left = samples.to_vec();
        self.until(STEP, |world| {
            // One that does not know yet says for all that it is not time.
            while let Some(id) = left.last().copied() {
                if world.status(id).is_none_or(|status| reached(&status).len() != want(id)) {
                    return false;
                }
                left.pop();
            }
            true
        })
    }

    fn samples(&mut self) -> Vec<HostId> {
        let any = |_| 1 + HostId::try_from(self.world.pick(u64::from(self.nodes))).unwrap_or(0);
        (0..SAMPLES).map(any).collect()
    }

    fn leave(&mut self) {
        let (gone, others) = (self.nodes + 1, usize::from(self.nodes) - 1);
        let samples = self.samples();
        let start = self.world.now();
        self.world.crash(gone);
        self.report.leave = self.until_known(&samples, |_| others);
        let what = format!("a node is known to have left after {}", report::time(self.report.leave));
        self.tell(&what);
        let since = self.world.now().since(start);
        let forgotten = self.until(STEP, |world| world.meter().tunnels_to(name(gone)) == 0);
        self.report.forgotten = forgotten.map(|more| since + more);
        let what = format!("a node that left is forgotten after {}", report::time(self.report.forgotten));
        self.tell(&what);
    }

    fn cut(&mut self) {
        let half = self.nodes / 2;
        let sides = move |nodes: HostId, id: HostId| usize::from(if id <= half { half } else { nodes - half }) - 1;
        let (nodes, samples) = (self.nodes, self.samples());
        let side: Vec<HostId> = (1..=half).collect();
        let start = self.world.now();
        self.world.partition(&[&side]);
        self.report.cut = self.until_known(&samples, |id| sides(nodes, id));
        let what = format!("a cut of half is known after {}", report::time(self.report.cut));
        self.tell(&what);
        let left = CUT.saturating_sub(self.world.now().since(start));
        self.pass(left);
        self.world.heal();
        self.report.healed = self.until_known(&samples, |_| usize::from(nodes) - 1);
        let what = format!("its healing is known after {}", report::time(self.report.healed));
        self.tell(&what);
    }

    /// Weighs one node: what is freed when the last one goes, with all that it shared with others.
    fn weigh(&mut self) {
        let resident = report::resident();
        for host in self.world.hosts.values_mut().skip(1) {
            host.node = None;
        }
        self.world.opener.forget();
        let before = (self.live)();
        if let Some(host) = self.world.hosts.values_mut().next() {
            host.node = None;
        }
        let node = u64::try_from(before - (self.live)()).unwrap_or(0);
        self.report.memory = Memory { node, resident };
        self.tell("weighed");
    }
}
