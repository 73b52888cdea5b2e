//! The whole core of one controller: mesh, addresses, containers and the kernel's maps, composed.
//!
//! The driver's contract is in [`super::io`]. After every input the node drains its rooms, carries events from one to
//! the other, and computes the difference of the maps; the rooms do not know each other. What concerns addresses is in
//! `addresses` (ring, election, containers), `leave` (`reset` and `rmpeer`).

mod addresses;
mod leave;
mod underlay;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use weave_common::vxlan;

use self::leave::Leaving;
use super::{
    boot::{Boot, Init, Installed, Launch, LaunchParams},
    command::{Answer, Command, Refusal},
    datapath::Datapath,
    egress::Egresses,
    election::{self, Election, Role},
    endpoints::{self, Endpoints},
    io::{Event, Input, Output, Record, RequestId, Severity, Shutdown, Target, Underlay},
    ipam::{Allocator, Keeper, board},
    mesh::{
        Mesh, MeshConfig, MeshEvent, PathTo,
        entry::{Opener, Verify},
        topology,
    },
    name::{PeerId, PeerName},
    queue,
    rng::Rng,
    time::Instant,
};

/// Most targets a peer keeps.
const TARGETS_MAX: usize = 1024;

/// See the head of this file.
#[derive(Debug)]
pub struct Node {
    pub(super) boot: BootFacts,
    pub(super) mesh: Mesh,
    pub(super) endpoints: Endpoints,
    pub(super) datapath: Datapath,
    pub(super) egresses: Egresses,
    pub(super) keeper: Keeper,
    pub(super) election: Option<Election>,
    /// Nicknames of peers that own something, also of those that are gone.
    pub(super) nicknames: BTreeMap<PeerName, String>,
    /// MTU in bytes that a new container gets.
    pub(super) mtu: u32,
    /// `None` until the shell has told.
    underlay: Option<Underlay>,
    /// Somebody waits for the ring though no container needs an address yet.
    ring_wanted: bool,
    /// The ring is another one since those who wait for addresses were last tried.
    ring_changed: bool,
    leaving: Option<Leaving>,
    out: VecDeque<Output>,
}

/// What does not change in a run.
#[derive(Clone, Debug)]
pub(super) struct BootFacts {
    pub(super) params: LaunchParams,
    pub(super) port: u16,
    pub(super) encrypted: bool,
    pub(super) discovery: bool,
    pub(super) conn_limit: u32,
    pub(super) test_grace: Option<Duration>,
}

impl BootFacts {
    fn new(params: LaunchParams, launch: &Launch) -> Self {
        Self {
            params,
            port: launch.port,
            encrypted: launch.encrypted,
            discovery: launch.discovery,
            conn_limit: launch.conn_limit,
            test_grace: launch.test_grace,
        }
    }
}

impl Node {
    /// A node that starts from `boot`, as asked by `launch`, with what the kernel holds in `installed`.
    ///
    /// Its first outputs make the boot durable; drain them before the first input.
    #[must_use]
    pub fn new(boot: Boot, launch: &Launch, installed: &Installed, seed: [u8; 32], now: Instant) -> Self {
        Self::with_opener(boot, launch, installed, seed, Arc::new(Verify), now)
    }

    /// As [`Self::new`], with another way to open what is gossiped.
    #[must_use]
    pub fn with_opener(
        boot: Boot,
        launch: &Launch,
        installed: &Installed,
        seed: [u8; 32],
        opener: Arc<dyn Opener>,
        now: Instant,
    ) -> Self {
        let Boot { identity, params, targets, ring, vote, nicknames, left, allocations, records } = boot;
        let me = PeerId { name: identity.name, uid: identity.uid };
        let allocator = Allocator::new(me, &params, allocations);
        let alone = targets.is_empty() && !left;
        let present = &installed.endpoints;
        let config = MeshConfig {
            identity,
            port: launch.port,
            discovery: launch.discovery,
            conn_limit: launch.conn_limit as usize,
            targets,
            tunnels: installed.tunnels(),
            senders: installed.senders(),
            channels: vec![board::CHANNEL, election::CHANNEL],
            opener,
        };
        let mut rng = Rng::new(seed);
        let role = match params.init {
            Init::Election(count) => Some(Role::Voter(count)),
            Init::Observer => Some(Role::Observer),
            Init::Undeclared | Init::Seeds => None,
        };
        let grace = |usual: Duration| launch.test_grace.map_or(usual, |most| most.min(usual));
        let kept_for = grace(endpoints::GRACE);
        let mut datapath = Datapath::new(&installed.maps);
        if let Some(ring) = &ring {
            datapath.set_ring(ring, me.name);
        }
        let mut election = role.map(|role| Election::new(me, params.range, role, vote, rng.fork(), now));
        if let Some(election) = election.as_mut().filter(|_| ring.is_some()) {
            election.over();
        }
        let mut node = Self {
            keeper: Keeper::new(me, params.range, ring, alone, rng.fork(), now),
            mesh: Mesh::new(config, grace(topology::GRACE), rng, now),
            endpoints: Endpoints::new(allocator, params.range, installed.adopted, present, kept_for, now),
            datapath,
            egresses: Egresses::default(),
            election,
            nicknames,
            mtu: 1500 - vxlan::OVERHEAD,
            underlay: None,
            ring_wanted: false,
            ring_changed: false,
            leaving: None,
            boot: BootFacts::new(params, launch),
            out: records.into_iter().map(Output::Persist).collect(),
        };
        node.keeper.remember(installed.host_routes());
        node.refresh_exceptions();
        let (installed, short_id) = (installed.tunnels(), node.mesh.me().short_id);
        for (peer, tunnel) in installed {
            node.egresses.set_path(peer, PathTo::installed(&tunnel, short_id));
        }
        node.settle(now);
        node
    }

    /// This peer's name.
    #[must_use]
    pub fn name(&self) -> PeerName {
        self.mesh.me().name
    }

    /// Host ends of containers' interfaces that exist.
    #[must_use]
    pub fn interfaces(&self) -> Vec<String> {
        self.endpoints.status().into_iter().filter(|c| c.attached).map(|c| c.host_if).collect()
    }

    /// Takes in something that happened.
    pub fn handle_input(&mut self, input: Input, now: Instant) {
        match input {
            Input::LinkOpened { link, remote, local: _, direction, binding } => {
                self.mesh.link_opened(link, remote, direction, binding, now);
            }
            Input::Frame { link, bytes } => self.mesh.frame(link, &bytes, now),
            Input::LinkClosed { link, reason } => self.mesh.link_closed(link, &reason, now),
            Input::DialFailed { dial, reason } => self.mesh.dial_failed(dial, &reason, now),
            Input::Probe { from, bytes } => self.mesh.probe(from, &bytes, now),
            Input::Traffic(peers) => self.mesh.traffic(&peers, now),
            Input::Request { id, command } => self.command(id, command, now),
            // What was begun is ended all the same.
            Input::RequestGone { id } => self.endpoints.request_gone(id),
            Input::Underlay(underlay) => self.underlay(underlay, now),
            Input::Egress { addr, egress } => self.egress(addr, egress, now),
            Input::LinkDone { op, result } => self.endpoints.done(op, result, now),
            Input::EndpointGone { host_if } => {
                if self.endpoints.vanished(&host_if, now) {
                    let time = self.endpoints.grace().as_secs();
                    let text = format!("the container behind {host_if} is gone; its addresses are kept for {time} s");
                    self.log(Severity::Info, text);
                }
            }
            Input::MapFailed { op, reason } => self.datapath.failed(&op, &reason, now),
        }
        self.settle(now);
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.mesh.handle_timeout(now);
        self.endpoints.handle_timeout(now);
        self.settle(now);
    }

    /// When [`Self::handle_timeout`] must be called next, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let others = [
            self.mesh.poll_timeout(),
            self.datapath.poll_timeout().map(|at| (at, "datapath retry")),
            self.endpoints.poll_timeout().map(|at| (at, "containers")),
            self.election.as_ref().and_then(Election::poll_timeout).map(|at| (at, "election")),
            self.leaving_due().map(|at| (at, "search for an heir")),
            Some((self.keeper.poll_timeout(), "ring")),
        ];
        others.into_iter().flatten().min()
    }

    /// The next thing to be done.
    pub fn poll_output(&mut self) -> Option<Output> {
        queue::pop(&mut self.out)
    }

    fn command(&mut self, id: RequestId, command: Command, now: Instant) {
        match command {
            Command::Connect { targets, replace } => self.connect(id, targets, replace, now),
            Command::Forget { targets } => self.forget(id, &targets, now),
            Command::Attach { container, addrs } => {
                self.attach(id, container, addrs);
            }
            Command::Detach { id: container, addrs } => self.endpoints.detach(id, &container, &addrs),
            Command::Status => {
                let status = Box::new(self.status(now));
                self.reply(id, Ok(Answer::Status(status)));
            }
            Command::Stop { teardown } => {
                self.reply(id, Ok(Answer::Done));
                self.out.push_back(Output::Shutdown(if teardown { Shutdown::Teardown } else { Shutdown::Stop }));
            }
            Command::Reset { force } => self.reset(id, force, now),
            Command::RemovePeer { peer, force } => self.remove_peer(id, &peer, force),
            Command::Consense => self.consense(id, now),
        }
    }

    fn connect(&mut self, id: RequestId, targets: Vec<Target>, replace: bool, now: Instant) {
        let mut all = if replace { Vec::new() } else { self.mesh.targets().to_vec() };
        for target in targets {
            if !all.contains(&target) {
                all.push(target);
            }
        }
        if all.len() > TARGETS_MAX {
            let text = format!("that would make {} targets, more than {TARGETS_MAX}; none was added", all.len());
            return self.reply(id, Err(Refusal(text)));
        }
        self.set_targets(all, now);
        self.reply(id, Ok(Answer::Done));
    }

    fn forget(&mut self, id: RequestId, targets: &[Target], now: Instant) {
        if let Some(unknown) = targets.iter().find(|t| !self.mesh.targets().contains(t)) {
            let text = format!("{unknown} is not a target (status targets lists them); nothing was forgotten");
            return self.reply(id, Err(Refusal(text)));
        }
        let left = self.mesh.targets().iter().filter(|t| !targets.contains(t)).cloned().collect();
        self.set_targets(left, now);
        self.reply(id, Ok(Answer::Done));
    }

    fn set_targets(&mut self, targets: Vec<Target>, now: Instant) {
        self.out.push_back(Output::Persist(Record::Targets(targets.clone())));
        self.mesh.set_targets(targets, now);
    }

    /// Carries events between the rooms until all are quiet, then brings the maps up to date.
    fn settle(&mut self, now: Instant) {
        while let Some(event) = self.mesh.poll_event() {
            self.mesh_event(event, now);
        }
        self.turn_addresses(now);
        while let Some(output) = self.mesh.poll_output() {
            self.out.push_back(output);
        }
        while let Some(output) = self.egresses.poll_output() {
            self.out.push_back(output);
        }
        self.datapath.set_endpoints(self.endpoints.installed());
        // Some that were gone before may own nothing only now.
        for peer in self.datapath.take_unrouted() {
            if self.mesh.record(peer).is_none() {
                self.forget_peer(peer);
            }
        }
        // Endpoints are in the maps before a caller is told that its container is attached.
        self.out.extend(self.datapath.diff(now).into_iter().map(Output::Map));
        while let Some(output) = self.endpoints.poll_output() {
            self.out.push_back(output);
        }
    }

    /// Nothing is sent any more to a peer that is gone and owns nothing.
    fn forget_peer(&mut self, peer: PeerName) {
        if self.datapath.forget_peer(peer) {
            self.mesh.forget_way(peer);
            self.egresses.remove(peer);
        }
    }

    fn mesh_event(&mut self, event: MeshEvent, now: Instant) {
        match event {
            MeshEvent::LinkUp(link) => self.keeper.link_up(link),
            MeshEvent::Way(peer, path) => self.set_path(peer, path, now),
            MeshEvent::Senders(peer, addrs) => self.datapath.set_senders(peer, &addrs),
            MeshEvent::PeerGone(peer) => {
                self.keeper.peer_gone(peer);
                self.refresh_exceptions();
                self.forget_peer(peer);
            }
            MeshEvent::Ring(link, from, message) => self.heard_ring(link, from, message, now),
            MeshEvent::RingSum(link, sum) => self.keeper.heard_sum(link, sum),
            MeshEvent::Board(from, channel, data) => self.heard_board(from, channel, &data),
            // No packet carries it.
            MeshEvent::ShortId(_) => {}
        }
    }

    fn reply(&mut self, id: RequestId, answer: Result<Answer, Refusal>) {
        self.out.push_back(Output::Reply { id, answer });
    }

    fn log(&mut self, severity: Severity, text: String) {
        self.out.push_back(Output::Event(Event { severity, text }));
    }
}
