//! The driver: feeds the core, carries out what it says, in the order that the core's contract asks for.
//!
//! One loop owns the core, the store and the kernel's maps. A turn: one input, drain the core, one commit of all records
//! of the batch, then everything else of the batch. A full disk is known early, and refuses what adds to the store. A failed
//! commit ends the controller before anything of that batch was sent, answered or written to the kernel; the dataplane goes
//! on.
//!
//! The driver awaits nothing but the commit, and never waits for the kernel's network lock. What asks the kernel or the network
//! (interfaces, routes, programs on devices, connections) runs in other tasks and threads and comes back as inputs; at most
//! [`JOBS_MAX`] jobs on interfaces at once. Cancelling: SIGTERM and SIGINT end the loop between two turns and leave the dataplane.

mod attach;
mod disk;
mod effects;
mod egress;
mod error;
mod host;
mod offline;
mod reconcile;
mod socket;
mod start;
mod xdp;

use std::{
    collections::{BTreeMap, VecDeque},
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{Semaphore, mpsc, oneshot},
    time::{Instant as Clock, MissedTickBehavior, interval, sleep_until},
};
use tracing::{info, warn};

use self::{attach::Attaching, offline::Devices, reconcile::Reconcile, socket::SocketStep};
pub use self::{
    error::RunError,
    offline::{teardown_offline, wipe_offline},
};
use super::{
    control::{Call, Control},
    datapath::{Datapath, Look, Worker},
    dns::{NameTable, Resolver},
    host::{Host, HostEvent, Scan},
    links::Links,
    lock::Lock,
    masquerade::Applied,
    neighbours::Neighbours,
    netns::OpenNetns,
    prober::Prober,
    slow_path::SlowPath,
    store::Store,
};
use crate::{
    config::{Dirs, LaunchConfig, flags::Xdp},
    proto::{
        command::{Answer, Refusal},
        domain::Domain,
        io::{Input, OpId, Record, RequestId, Shutdown},
        node::Node,
        time::Instant,
    },
};

/// Most jobs on interfaces at once.
const JOBS_MAX: usize = 16;
/// Threads of the runtime: the driver's own, and these for sessions and API.
const WORKERS: usize = 2;
/// Longest sleep; the core's own deadlines are shorter.
const SLEEP_MAX: Duration = Duration::from_secs(3600);
/// Time between two looks at which of the active tunnels carried packets.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// At every such look all tunnels are looked at, and what comes once a second is done.
const LOOKS_A_SECOND: u32 = 10;
/// Answers to probes of an earlier run are taken for this long.
const FORMER_KEY_FOR: Duration = Duration::from_secs(10);

/// Programs of another schema are left to work for at most this long.
const FORMER_PROGRAMS_FOR: Duration = Duration::from_secs(15);

/// A job on an interface that came to its end.
struct Finished {
    op: OpId,
    step: Step,
    result: Result<u32, String>,
}

/// What a job on an interface did.
enum Step {
    /// Made it, with its host end down: it gets its program before a packet can leave the container.
    Made {
        /// Name of the host end.
        host_if: String,
        /// What keeps containers from going out through it, where they shall.
        masquerade: Option<Applied>,
    },
    /// Removed it, for it could not get its program.
    Refused {
        /// Name of the host end.
        host_if: String,
    },
    /// Brought its host end up, or removed it: nothing is left to do.
    Last,
}

/// See the head of this file.
struct Driver {
    node: Node,
    store: Arc<Store>,
    links: Links,
    datapath: Datapath,
    /// Does what waits for the kernel's network lock.
    programs: Worker,
    attaching: Attaching,
    control: Option<Control>,
    dirs: Dirs,
    socket_device: String,
    data_port: u16,
    socket_steps: (mpsc::Sender<SocketStep>, mpsc::Receiver<SocketStep>),
    /// The VXLAN socket device is being made.
    socket_busy: bool,
    /// A sentence about a route of this host that leads into the range.
    overlap: Option<String>,
    xdp: Xdp,
    clock: Clock,
    inputs: mpsc::Receiver<Input>,
    calls: mpsc::Receiver<Call>,
    host: Host,
    slow_path: SlowPath,
    host_events: mpsc::Receiver<HostEvent>,
    finished: (mpsc::Sender<Finished>, mpsc::Receiver<Finished>),
    jobs: Arc<Semaphore>,
    replies: BTreeMap<RequestId, oneshot::Sender<Result<Answer, Refusal>>>,
    next_request: u64,
    pending: VecDeque<Input>,
    /// Underlay devices that have the program, by index: the name that was told last.
    devices: BTreeMap<u32, String>,
    /// Underlay devices that refused it, with the reason.
    /// What keeps containers from going out through this host.
    egress_blocked: Vec<String>,
    unattached: BTreeMap<u32, String>,
    /// The device by which packets to each watched address leave.
    egresses: BTreeMap<Ipv4Addr, u32>,
    /// Host ends of containers' interfaces that have the program: name and index.
    endpoints: BTreeMap<String, u32>,
    /// The underlay as the host task told it last.
    scan: Scan,
    reconcile: Reconcile,
    neighbours: Neighbours,
    prober: Prober,
    /// [`Datapath::lost_events`] as the core knows them.
    lost_events: u64,
    /// Answers to probes of an earlier run are still taken.
    former_key: bool,
    /// The disk was full when it was last looked at.
    disk_low: bool,
    /// Looks at traffic so far.
    looks: u32,
    /// Answers questions for names; and the namespace in which it does.
    resolver: Option<(Resolver, OpenNetns)>,
    /// The names that it answers, and their domain.
    names: (Arc<NameTable>, Domain),
    _locks: [Lock; 2],
}

/// Runs a controller until it is told to stop. `ready` is called when the API answers, `stopping` when it was told.
///
/// # Errors
/// One sentence: why it did not start, or why it ended.
pub fn run(config: LaunchConfig, ready: impl FnOnce(), stopping: impl FnOnce()) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    let runtime = runtime.map_err(RunError::Runtime)?;
    runtime.block_on(async {
        let signals = Signals::new().map_err(RunError::Runtime)?;
        let mut driver = Driver::start(config).await?;
        ready();
        let how = driver.turn_until_told(signals).await?;
        stopping();
        driver.end(how).await
    })
}

struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }
}

impl Driver {
    fn now(&self) -> Instant {
        Instant::from_start(self.clock.elapsed())
    }

    async fn turn_until_told(&mut self, mut signals: Signals) -> Result<Shutdown, RunError> {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let sleep = self.node.poll_timeout().map_or(SLEEP_MAX, |(at, _)| at.since(self.now()).min(SLEEP_MAX));
            let told = tokio::select! {
                _ = signals.term.recv() => Some(Shutdown::Stop),
                _ = signals.int.recv() => Some(Shutdown::Stop),
                Some(input) = self.inputs.recv() => self.input(input).await?,
                Some(call) = self.calls.recv() => self.call(call).await?,
                Some(event) = self.host_events.recv() => self.host_event(event).await?,
                Some(done) = self.finished.1.recv() => self.job_done(done).await?,
                Some(step) = self.socket_steps.1.recv() => {
                    self.socket_step(step);
                    None
                }
                Some(attached) = self.attaching.answer() => {
                    self.attached(attached);
                    None
                }
                Some(seen) = self.reconcile.seen() => self.mend(seen).await?,
                () = self.prober.ready() => self.take_events().await?,
                _ = looks.tick() => self.look().await?,
                () = sleep_until(Clock::now() + sleep) => self.timeout().await?,
            };
            if let Some(how) = told {
                return Ok(how);
            }
        }
    }

    /// Feeds one input, and what follows from it at once.
    async fn input(&mut self, input: Input) -> Result<Option<Shutdown>, RunError> {
        self.pending.push_back(input);
        while let Some(input) = self.pending.pop_front() {
            self.node.handle_input(input, self.now());
            if let Some(how) = self.drain().await? {
                return Ok(Some(how));
            }
        }
        Ok(None)
    }

    /// What arrived is told before the core judges what is missing.
    async fn timeout(&mut self) -> Result<Option<Shutdown>, RunError> {
        if let Some(how) = self.take_events().await? {
            return Ok(Some(how));
        }
        self.node.handle_timeout(self.now());
        self.drain().await
    }

    /// Does what comes with every look at traffic, and once a second.
    async fn look(&mut self) -> Result<Option<Shutdown>, RunError> {
        self.looks = (self.looks + 1) % LOOKS_A_SECOND;
        if self.looks != 0 {
            return self.look_at_traffic(Look::Active).await;
        }
        if self.former_key && self.clock.elapsed() >= FORMER_KEY_FOR {
            self.former_key = false;
            if let Err(error) = self.datapath.forget_former_key() {
                warn!("{error}; answers to probes of an earlier run are still taken");
            }
        }
        self.look_at_disk();
        self.end_former_programs();
        self.look_at_objects();
        match self.forget_callers().await? {
            None => self.look_at_traffic(Look::All).await,
            told => Ok(told),
        }
    }

    /// Tells the core of callers that went away.
    async fn forget_callers(&mut self) -> Result<Option<Shutdown>, RunError> {
        let gone: Vec<RequestId> =
            self.replies.extract_if(.., |_, waiting| waiting.is_closed()).map(|(id, _)| id).collect();
        for id in gone {
            if let Some(how) = self.input(Input::RequestGone(id)).await? {
                return Ok(Some(how));
            }
        }
        Ok(None)
    }

    async fn call(&mut self, call: Call) -> Result<Option<Shutdown>, RunError> {
        match call {
            Call::Command { command, reply } => {
                if let Some(refusal) = self.needs_room(&command) {
                    // A caller that went away needs no answer.
                    drop(reply.send(Err(refusal)));
                    return Ok(None);
                }
                self.next_request += 1;
                let id = RequestId(self.next_request);
                self.replies.insert(id, reply);
                self.input(Input::Request(id, command)).await
            }
            Call::Host { reply } => {
                // A caller that went away needs no answer.
                drop(reply.send(self.host_status()));
                Ok(None)
            }
        }
    }

    /// Programs of another version decide about packets until the tables of these lead to all owners of addresses, or
    /// [`FORMER_PROGRAMS_FOR`] is over: a peer may be away for good.
    fn end_former_programs(&mut self) {
        if !self.attaching.has_former() || !(self.node.is_mapped() || self.clock.elapsed() >= FORMER_PROGRAMS_FOR) {
            return;
        }
        self.replace_former();
    }

    /// Ends in the way that was asked for.
    async fn end(mut self, how: Shutdown) -> Result<(), RunError> {
        if let Some(control) = self.control.take() {
            control.close().await;
        }
        let host_ifs: Vec<String> = self.endpoints.keys().cloned().collect();
        let masquerade = self.node.masqueraded().is_some();
        let Self { dirs, socket_device, datapath, programs, store, links, host, slow_path, .. } = self;
        drop((datapath, store, links, host));
        tokio::task::spawn_blocking(|| programs.end()).await?;
        // It must not bring back what is removed now.
        slow_path.end().await;
        match how {
            Shutdown::Stop => info!("stopped; containers keep talking"),
            Shutdown::Teardown | Shutdown::Wipe | Shutdown::Leave => {
                let devices = Devices { endpoints: host_ifs, socket_device, masquerade };
                for line in offline::remove_dataplane(&dirs, &devices).await? {
                    info!("{line}");
                }
            }
        }
        if matches!(how, Shutdown::Wipe | Shutdown::Leave) {
            Store::wipe(&dirs.state)?;
            if how == Shutdown::Leave {
                Store::open(&dirs.state)?.0.commit(&[Record::Left])?;
            }
            warn!("reset: the store was removed; the next launch is a new peer");
        }
        Ok(())
    }
}
