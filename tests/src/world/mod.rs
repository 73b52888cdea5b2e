//! The World: whole networks of real cores on one virtual clock, one seeded network and simulated disks and kernels.
//!
//! One thread, ordered collections, one generator: a seed gives one trace. Modules: `clock` (the queue), `host` (core and
//! disk), `kernel` (maps, interfaces, rings), `net` (what the underlay lets pass), `conns` and `wires` (TCP), `probes` (what kernels do to a probe), `effects` (the driver's contract),
//! `disk` (its commits), `faults` (everything that goes wrong), `packets` (what the kernels' maps do to a packet),
//! `traffic` (containers that talk), `oracle` (what must hold, after every event and when the network had time),
//! `journal` (the readable log), `schedule` (what a seed makes happen), `seeds` (many of them), `scale` (thousands of
//! nodes), `opener` (what all nodes share).
//! Bounds: [`EVENTS_MAX`] events in one call of [`World::run`]; a paused controller's inputs as in `faults`.

mod clock;
mod conns;
mod disk;
mod effects;
pub mod faults;
mod host;
pub mod journal;
mod kernel;
pub mod meter;
pub mod net;
mod opener;
pub mod oracle;
pub mod packets;
mod probes;
pub mod scale;
pub mod schedule;
pub mod seeds;
mod traffic;
mod wires;

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};

use clock::Queue;
use conns::{Conns, Parcel, Side};
use host::Host;
use journal::{Detail, Journal};
use net::{Net, Passed};
use probes::Probe;
use weave_ctl::proto::{
    command::{Answer, Command, Container, Holder, NameRequest, Refusal},
    io::{DialId, Input, OpId, RequestId, Target},
    name::PeerName,
    reservation::{Netns, NetnsId, Place},
    rng::Rng,
    time::Instant,
};

pub use faults::Faults;
pub use host::{Spec, name};
pub use net::underlay;

/// Most events in one call of [`World::run`]: a network that needs more does not come to rest.
pub const EVENTS_MAX: u64 = 20_000_000;
/// Most times that a controller wants to be woken at one point in time.
const WAKES_MAX: u32 = 1000;
/// Lines of the log in a failure's message.
const TAIL: usize = 60;

/// Number of a host, from 1.
pub type HostId = u16;

#[derive(Clone, Debug)]
enum Event {
    /// At that time, unless the controller wants to be woken at another by now.
    Wake(HostId, Instant),
    /// For the controller of that run.
    Deliver(HostId, u64, Input),
    /// Arrives at a host's kernel, whatever its controller does.
    Probe {
        passed: Passed,
        probe: Box<Probe>,
    },
    /// The shell of that run looks at the tunnels' times, if it wants to do so at that time by now.
    Look(HostId, Instant),
    FormerKey(HostId, u64),
    Parcel {
        link: u64,
        side: Side,
        parcel: Parcel,
    },
    /// What this end's own shell tells of the connection, whatever passes on the wire.
    Ended {
        link: u64,
        side: Side,
        reason: String,
    },
    Connect {
        from: HostId,
        run: u64,
        dial: DialId,
        target: Target,
    },
    LinkOp(HostId, u64, OpId),
    Restart(HostId),
    Resume(HostId, u64),
    Committed(HostId, u64),
    Tick,
}

/// See the head of this file.
pub struct World {
    seed: u64,
    now: Instant,
    rng: Rng,
    queue: Queue<Event>,
    hosts: BTreeMap<HostId, Host>,
    by_name: BTreeMap<PeerName, HostId>,
    net: Net,
    conns: Conns,
    faults: Faults,
    troubled: Instant,
    traffic: traffic::Traffic,
    journal: Journal,
    trace: DefaultHasher,
    answers: BTreeMap<u64, Result<Answer, Refusal>>,
    next_request: u64,
    oracle: oracle::Oracle,
    meter: meter::Meter,
    opener: Arc<opener::Shared>,
    events: u64,
    /// Entries that hosts were made to say.
    said: u64,
    write_points: u64,
    kill_at: Option<u64>,
}

/// The container of the namespace that is called `name`.
#[must_use]
pub fn named(name: &str) -> Container {
    let inode = name.bytes().fold(7, |hash: u64, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
    let netns = Netns { path: format!("/run/netns/{name}"), id: NetnsId { inode, ..NetnsId::default() } };
    Container { owner: name.to_owned(), chosen: false, place: Place::Netns(netns), names: NameRequest::default() }
}

/// The request that takes all addresses of `owner` away.
#[must_use]
pub fn detach(owner: &str) -> Command {
    Command::Detach { holder: Holder { owner: owner.to_owned(), netns: None }, addrs: vec![], keep: false }
}

impl World {
    /// An empty world that keeps the end of its log.
    #[must_use]
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self::logged(seed, faults, Journal::new(Detail::Events, None))
    }

    /// An empty world with this log.
    #[must_use]
    pub fn logged(seed: u64, faults: Faults, journal: Journal) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        Self {
            seed,
            now: Instant::default(),
            rng: Rng::new(bytes),
            queue: Queue::default(),
            hosts: BTreeMap::new(),
            by_name: BTreeMap::new(),
            net: Net::default(),
            conns: Conns::default(),
            faults,
            troubled: Instant::default(),
            traffic: traffic::Traffic::default(),
            journal,
            trace: DefaultHasher::new(),
            answers: BTreeMap::new(),
            next_request: 0,
            oracle: oracle::Oracle::default(),
            meter: meter::Meter::default(),
            opener: Arc::default(),
            events: 0,
            said: 0,
            write_points: 0,
            kill_at: None,
        }
    }

    /// Adds a host and launches its controller with the usual names of `seeds`, and `targets`.
    pub fn launch(&mut self, id: HostId, seeds: &[HostId], targets: &[HostId]) {
        let seeds = seeds.iter().map(|s| name(*s)).collect();
        self.launch_as(id, Spec { seeds, targets: targets.to_vec(), ..Spec::default() });
    }

    /// Adds a host and launches its controller.
    pub fn launch_as(&mut self, id: HostId, spec: Spec) {
        self.net.place(id, spec.nat, spec.mtu);
        let host = Host::new(id, spec);
        self.by_name.insert(host.name, id);
        self.hosts.insert(id, host);
        self.start(id);
    }

    /// Time since the world began.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Events so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// What was counted.
    #[must_use]
    pub fn meter(&self) -> &meter::Meter {
        &self.meter
    }

    /// Counts messages and bytes from now on.
    pub fn count_anew(&mut self) {
        self.meter.reset();
    }

    /// All events and log lines so far, as one number.
    #[must_use]
    pub fn trace(&self) -> u64 {
        let mut hasher = self.trace.clone();
        self.journal.hash().hash(&mut hasher);
        hasher.finish()
    }

    /// The last `n` lines of the log, for a failure's message.
    #[must_use]
    pub fn tail(&self, n: usize) -> String {
        let now = self.now.since_start();
        format!("seed {} at {:.6} s\n{}", self.seed, now.as_secs_f64(), self.journal.tail(n))
    }

    /// Ends the run because `invariant` does not hold.
    ///
    /// # Panics
    /// Always; the first line of the message names the invariant and says what is wrong.
    pub fn fail(&self, invariant: &str, wrong: &str) -> ! {
        panic!("{invariant}: {wrong}\n{}", self.tail(TAIL));
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        self.journal.note(Detail::Events, self.now, line);
    }

    fn at(&mut self, delay: Duration, event: Event) {
        self.queue.push(self.now + delay, event);
    }

    fn delay(&mut self) -> Duration {
        let max = u64::try_from(self.faults.delay_max.as_micros()).unwrap_or(1);
        Duration::from_micros(50 + self.rng.below(max))
    }

    fn chance(&mut self, per_mille: u64) -> bool {
        per_mille > 0 && self.rng.below(1000) < per_mille
    }

    /// A number below `bound`, for schedules.
    pub fn pick(&mut self, bound: u64) -> u64 {
        self.rng.below(bound)
    }

    /// The name of the peer on host `id`.
    #[must_use]
    pub fn peer(&self, id: HostId) -> PeerName {
        self.hosts.get(&id).map(|host| host.name).unwrap_or_default()
    }

    /// True while the controller of `id` runs, paused or not.
    #[must_use]
    pub fn up(&self, id: HostId) -> bool {
        self.hosts.get(&id).is_some_and(|h| h.node.is_some())
    }

    /// Asks the controller of `id`; the answer is picked up by [`Self::answer`].
    pub fn ask(&mut self, id: HostId, command: Command) -> u64 {
        self.next_request += 1;
        let request = self.next_request;
        self.note(|| format!("ask h{id} #{request} {command:?}"));
        if self.up(id) {
            self.oracle.asked(request, id, &command);
        }
        let run = self.hosts.get(&id).map_or(0, |h| h.run);
        self.step(Event::Deliver(id, run, Input::Request(RequestId(request), command)));
        request
    }

    /// Attaches `container` on host `id`.
    pub fn attach(&mut self, id: HostId, container: &str) -> u64 {
        self.ask(id, Command::Attach(named(container), vec![]))
    }

    /// The controller of `id` gives a name to an address that is no container's, or takes it away.
    pub fn name(&mut self, id: HostId, name: &str, there: bool) {
        let (name, addrs) = (Some(name.to_owned()), vec![Ipv4Addr::new(192, 0, 2, 1)]);
        let add = Command::AddName { holder: None, name: name.clone(), addrs: addrs.clone() };
        let command = if there { add } else { Command::RemoveName { holder: None, name, addrs } };
        self.said += 1;
        self.ask(id, command);
    }

    /// How many names the kernel of `id` has.
    #[must_use]
    pub fn named(&self, id: HostId) -> usize {
        self.hosts.get(&id).map_or(0, |host| host.kernel.maps.names.len())
    }

    /// The answer to a request, once it is there.
    #[must_use]
    pub fn answer(&self, request: u64) -> Option<&Result<Answer, Refusal>> {
        self.answers.get(&request)
    }

    /// Lets `time` pass.
    ///
    /// # Panics
    /// When an invariant breaks, or the network does not come to rest.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let most = self.events + EVENTS_MAX;
        while let Some((at, event)) = self.queue.pop(end) {
            self.now = self.now.max(at);
            self.events += 1;
            if self.events > most {
                self.fail("rest", "the world does not come to rest");
            }
            self.step(event);
        }
        self.now = end;
    }

    /// The host whose controller an event is for.
    fn receiver(&self, event: &Event) -> Option<HostId> {
        match event {
            Event::Wake(id, _) | Event::Deliver(id, ..) | Event::LinkOp(id, ..) => Some(*id),
            Event::Connect { from, .. } => Some(*from),
            Event::Parcel { link, side, .. } | Event::Ended { link, side, .. } => {
                self.conns.hosts(*link, *side).map(|(host, _)| host)
            }
            Event::Probe { .. }
            | Event::Look(..)
            | Event::FormerKey(..)
            | Event::Restart(_)
            | Event::Resume(..)
            | Event::Committed(..)
            | Event::Tick => None,
        }
    }

    fn step(&mut self, event: Event) {
        let receiver = self.receiver(&event);
        (self.now.since_start(), std::mem::discriminant(&event), receiver).hash(&mut self.trace);
        if let Some(id) = receiver.filter(|id| self.hosts.get(id).is_some_and(Host::paused)) {
            return self.hold(id, event);
        }
        match event {
            Event::Wake(id, at) => self.wake(id, at),
            Event::Deliver(id, run, input) => {
                if self.hosts.get(&id).is_some_and(|h| h.run == run && !h.is_outdated(&input)) {
                    self.input(id, input);
                }
            }
            Event::Probe { passed, probe } => self.probe_arrives(passed, &probe),
            Event::Look(id, at) => self.look(id, at),
            Event::FormerKey(id, run) => self.forget_former_key(id, run),
            Event::Parcel { link, side, parcel } => self.parcel(link, side, parcel),
            Event::Ended { link, side, reason } => self.ended(link, side, reason),
            Event::Connect { from, run, dial, target } => self.connect(from, run, dial, &target),
            Event::LinkOp(host, run, op) => self.link_op(host, run, op),
            Event::Restart(id) => self.start(id),
            Event::Resume(id, run) => self.resume(id, run),
            Event::Committed(id, run) => self.committed(id, run),
            Event::Tick => self.tick(),
        }
    }

    /// Wakes a controller whose time has come; one that is not due any more is asked when it is.
    fn wake(&mut self, id: HostId, at: Instant) {
        let Some(host) = self.hosts.get_mut(&id).filter(|h| h.wake == Some(at)) else { return };
        host.wake = None;
        self.due(id);
    }

    /// Does what is due, if something is: what waits in the rings is told before the core judges what is missing.
    fn due(&mut self, id: HostId) {
        let now = self.now;
        self.read_rings(id);
        if !self.active(id) {
            // A commit of what was told is under way, or the controller is gone.
            return;
        }
        let Some(host) = self.hosts.get_mut(&id) else { return };
        let Some(node) = &mut host.node else { return };
        if node.poll_timeout().is_none_or(|(at, _)| at > now) {
            return self.reschedule(id);
        }
        node.handle_timeout(now);
        host.woken = if host.woken.0 == now { (now, host.woken.1 + 1) } else { (now, 1) };
        if host.woken.1 > WAKES_MAX {
            let why = host.node.as_ref().and_then(weave_ctl::proto::node::Node::poll_timeout);
            self.fail("rest", &format!("h{id} wants to be woken again and again: {why:?}"));
        }
        self.drain(id);
    }

    fn reschedule(&mut self, id: HostId) {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(&id) else { return };
        let Some((at, _)) = host.node.as_ref().and_then(weave_ctl::proto::node::Node::poll_timeout) else { return };
        let at = at.max(now);
        if host.wake.is_none_or(|w| at < w) {
            host.wake = Some(at);
            self.queue.push(at, Event::Wake(id, at));
        }
    }

    fn input(&mut self, id: HostId, input: Input) {
        let Some(node) = self.hosts.get_mut(&id).and_then(|h| h.node.as_mut()) else { return };
        node.handle_input(input, self.now);
        self.drain(id);
    }
}
