//! The whole core of one controller: mesh, addresses, containers and the kernel's maps, composed.
//!
//! The driver's contract is in [`super::io`]. After every input the node drains its rooms, carries events from one to
//! the other, and computes the difference of the maps; the rooms do not know each other.

use std::{collections::VecDeque, sync::Arc};

use weave_common::vxlan;

use super::{
    boot::{Boot, Installed, Launch, LaunchParams},
    command::{Answer, Command, Refusal},
    datapath::Datapath,
    endpoints::Endpoints,
    io::{Event, Input, MapOp, Output, Record, RequestId, Severity, Shutdown, Target, Underlay},
    ipam::{Allocator, Ring, ring::Merge},
    mesh::{
        Mesh, MeshConfig, MeshEvent,
        entry::{Opener, Verify},
        wire::{Message, RingMessage},
    },
    name::PeerName,
    rng::Rng,
    time::Instant,
};

/// Most targets a peer keeps.
const TARGETS_MAX: usize = 1024;
/// Smallest MTU in bytes that IPv4 hosts must accept (RFC 791).
const MTU_MIN: u32 = 576;

/// See the head of this file.
#[derive(Debug)]
pub struct Node {
    pub(super) boot: BootFacts,
    pub(super) mesh: Mesh,
    pub(super) endpoints: Endpoints,
    pub(super) datapath: Datapath,
    pub(super) ring: Option<Ring>,
    pub(super) conflict: Option<String>,
    pub(super) mtu: u32,
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
        let Boot { identity, params, targets, ring, allocations, records } = boot;
        let allocator = Allocator::new(identity.name, &params, allocations);
        let tunnels = installed.maps.iter().filter_map(|op| match op {
            MapOp::PutTunnel { peer, tunnel } => Some((*peer, *tunnel)),
            _ => None,
        });
        let config = MeshConfig {
            identity,
            port: launch.port,
            discovery: launch.discovery,
            conn_limit: launch.conn_limit as usize,
            targets,
            tunnels: tunnels.collect(),
            opener,
        };
        let mut node = Self {
            mesh: Mesh::new(config, Rng::new(seed), now),
            endpoints: Endpoints::new(allocator, params.range, installed.adopted, &installed.endpoints),
            datapath: Datapath::new(&installed.maps),
            ring: None,
            conflict: None,
            mtu: 1500 - vxlan::OVERHEAD,
            boot: BootFacts {
                params,
                port: launch.port,
                encrypted: launch.encrypted,
                discovery: launch.discovery,
                conn_limit: launch.conn_limit,
            },
            out: records.into_iter().map(Output::Persist).collect(),
        };
        if let Some(ring) = ring {
            node.set_ring(ring);
        }
        node.datapath.set_short_id(node.mesh.me().short_id);
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
            // An answer to a caller that went away is dropped by the shell; what was begun is ended.
            Input::RequestGone { id: _ } => {}
            Input::Underlay(underlay) => self.underlay(&underlay, now),
            Input::LinkDone { op, result } => self.endpoints.done(op, result),
            Input::EndpointGone { host_if } => {
                if self.endpoints.vanished(&host_if) {
                    self.log(Severity::Info, format!("the container behind {host_if} is gone; its addresses are free"));
                }
            }
            Input::MapFailed { op, reason } => self.datapath.failed(&op, &reason, now),
        }
        self.settle(now);
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.mesh.handle_timeout(now);
        self.settle(now);
    }

    /// When [`Self::handle_timeout`] must be called next, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let datapath = self.datapath.poll_timeout().map(|at| (at, "datapath retry"));
        [self.mesh.poll_timeout(), datapath].into_iter().flatten().min()
    }

    /// The next thing to be done.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn command(&mut self, id: RequestId, command: Command, now: Instant) {
        match command {
            Command::Connect { targets, replace } => self.connect(id, targets, replace, now),
            Command::Forget { targets } => self.forget(id, &targets, now),
            Command::Attach { container, addrs } => {
                self.endpoints.attach(id, &container, &addrs, self.ring.as_ref(), self.mtu);
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
            Command::Reset { force: _ } => {
                // The share of a seed follows from its name: relaunched under it, this peer has the same one again. Its
                // containers lose their interfaces before the store is wiped, so no address of it stays in use.
                self.reply(id, Ok(Answer::Done));
                self.out.push_back(Output::Shutdown(Shutdown::Wipe));
            }
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

    fn underlay(&mut self, underlay: &Underlay, now: Instant) {
        self.mtu = underlay.mtu.saturating_sub(vxlan::OVERHEAD).max(MTU_MIN);
        self.mesh.set_underlay(underlay, self.mtu, now);
    }

    /// Carries events between the rooms until all are quiet, then brings the maps up to date.
    fn settle(&mut self, now: Instant) {
        while let Some(event) = self.mesh.poll_event() {
            self.mesh_event(event);
        }
        while let Some(output) = self.mesh.poll_output() {
            self.out.push_back(output);
        }
        self.datapath.set_endpoints(self.endpoints.installed());
        // Endpoints are in the maps before a caller is told that its container is attached.
        self.out.extend(self.datapath.diff(now).into_iter().map(Output::Map));
        while let Some(output) = self.endpoints.poll_output() {
            self.out.push_back(output);
        }
    }

    fn mesh_event(&mut self, event: MeshEvent) {
        match event {
            MeshEvent::LinkUp(link) => {
                if let Some(ring) = &self.ring {
                    let message = ring_message(ring);
                    self.mesh.send(link, &message);
                }
            }
            MeshEvent::Way(peer, tunnel) => self.datapath.set_tunnel(peer, tunnel),
            MeshEvent::Senders(peer, addrs) => self.datapath.set_senders(peer, &addrs),
            MeshEvent::PeerGone(peer) => {
                if self.datapath.forget_peer(peer) {
                    self.mesh.forget_way(peer);
                }
            }
            MeshEvent::Ring(link, message) => self.merge(link, &message),
            MeshEvent::ShortId(short_id) => self.datapath.set_short_id(short_id),
        }
    }

    fn merge(&mut self, from: super::io::LinkId, message: &RingMessage) {
        match Ring::merge(self.ring.as_ref(), self.boot.params.range, message.range, &message.seeds) {
            Merge::Same => self.conflict = None,
            Merge::Adopt(ring) => {
                self.log(Severity::Info, format!("adopted the ring of {} seeds", ring.seeds.len()));
                self.mesh.tell_all(&ring_message(&ring), Some(from));
                self.out.push_back(Output::Persist(Record::Ring(ring.clone())));
                self.set_ring(ring);
            }
            Merge::Conflict(text) => {
                if self.conflict.as_ref() != Some(&text) {
                    self.log(Severity::Warn, format!("{text}; this peer keeps its own ring, links and traffic go on"));
                }
                self.conflict = Some(text);
            }
        }
    }

    fn set_ring(&mut self, ring: Ring) {
        self.datapath.set_ring(&ring, self.mesh.me().name);
        self.ring = Some(ring);
    }

    fn reply(&mut self, id: RequestId, answer: Result<Answer, Refusal>) {
        self.out.push_back(Output::Reply { id, answer });
    }

    fn log(&mut self, severity: Severity, text: String) {
        self.out.push_back(Output::Event(Event { severity, text }));
    }
}

fn ring_message(ring: &Ring) -> Message {
    Message::Ring(RingMessage { range: ring.range, seeds: ring.seeds.clone() })
}
