//! A simulated host: the real core, a disk that keeps what was committed, and a kernel.

use std::{
    collections::{BTreeMap, VecDeque},
    net::Ipv4Addr,
    sync::Arc,
};

use ipnet::Ipv4Net;
use weave_ctl::proto::{
    boot::{self, Init, Launch, SecretKind, Stored},
    domain::{DnsName, Domain},
    io::{Input, LinkOp, OpId, Output, Record, Target, Underlay},
    key::SecretKey,
    name::{PeerId, PeerName},
    node::Node,
    rng::Rng,
    time::Instant,
    wire::entry::Verifier,
};

use super::{
    Event, HostId,
    kernel::Kernel,
    net::{BRIDGE, CONTROL_PORT, MTU, Nat, underlay},
};

/// How a host is launched and connected.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Its peer's name; `None` for the usual one of its number.
    pub name: Option<PeerName>,
    /// Its nickname; `None` for the usual one of its number.
    pub nickname: Option<String>,
    /// Names that the range is divided among; none for a peer that adopts the ring.
    pub seeds: Vec<PeerName>,
    /// How the range is divided where there are no seeds.
    pub init: Init,
    /// Hosts that it is told of.
    pub targets: Vec<HostId>,
    /// False with `--no-discovery`.
    pub discovery: bool,
    /// `--conn-limit`.
    pub conn_limit: u32,
    /// How it is connected.
    pub nat: Nat,
    /// MTU in bytes of its underlay device.
    pub mtu: u32,
    /// It has a container engine's bridge, with the address that all such bridges have.
    pub bridge: bool,
    /// The range of the network.
    pub range: Ipv4Net,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            name: None,
            nickname: None,
            seeds: Vec::new(),
            init: Init::Undeclared,
            targets: Vec::new(),
            discovery: true,
            conn_limit: 200,
            nat: Nat::None,
            mtu: MTU,
            bridge: false,
            range: Ipv4Net::new_assert(Ipv4Addr::new(10, 32, 0, 0), 24),
        }
    }
}

/// The usual name of a host's peer.
#[must_use]
pub fn name(host: HostId) -> PeerName {
    let [high, low] = host.to_be_bytes();
    PeerName::from_bytes([0, 0, 0, 0, high, low])
}

/// One host.
pub(super) struct Host {
    pub(super) name: PeerName,
    pub(super) node: Option<Node>,
    /// Runs of the controller so far: what was meant for an earlier one is lost.
    pub(super) run: u64,
    pub(super) wake: Option<Instant>,
    /// When this run began.
    pub(super) started: Instant,
    /// When the shell looks at traffic next.
    pub(super) look: Option<Instant>,
    /// Lost entries of the kernel's rings that the core was told of.
    pub(super) lost_told: u64,
    /// How often the controller was woken at one point in time.
    pub(super) woken: (Instant, u32),
    /// What waits while the controller is stopped, and how often it was stopped and not continued.
    pub(super) held: VecDeque<Event>,
    pub(super) pauses: u32,
    /// A batch whose commit is under way: the controller waits for it.
    pub(super) committing: Option<Vec<Output>>,
    /// The disk takes no commit.
    pub(super) full: bool,
    /// Interface operations that were asked for and are not carried out yet.
    pub(super) operations: BTreeMap<OpId, LinkOp>,
    pub(super) disk: Stored,
    pub(super) kernel: Kernel,
    pub(super) spec: Spec,
    launch: Launch,
}

impl Host {
    pub(super) fn new(id: HostId, spec: Spec) -> Self {
        let name = spec.name.unwrap_or(name(id));
        let launch = Launch {
            name: Some(name),
            nickname: spec.nickname.clone().unwrap_or_else(|| format!("h{id}")),
            range: Some(spec.range),
            default_subnet: None,
            init: if spec.seeds.is_empty() { spec.init } else { Init::Seeds },
            seeds: spec.seeds.clone(),
            targets: spec.targets.iter().map(|t| Target { host: format!("h{t}"), port: None }).collect(),
            discovery: spec.discovery,
            conn_limit: spec.conn_limit,
            port: CONTROL_PORT,
            secret: SecretKind::None,
            test_grace: None,
            dns_domain: Domain::default(),
        };
        Self {
            name,
            node: None,
            run: 0,
            wake: None,
            started: Instant::default(),
            look: None,
            lost_told: 0,
            woken: (Instant::default(), 0),
            held: VecDeque::new(),
            pauses: 0,
            committing: None,
            full: false,
            operations: BTreeMap::new(),
            disk: Stored::default(),
            kernel: Kernel::default(),
            spec,
            launch,
        }
    }

    /// From now on it is launched as whoever lost a store should be: to join `others`, whatever it was before.
    pub(super) fn be_newcomer(&mut self, others: &[HostId]) {
        self.launch.seeds.clear();
        self.launch.init = Init::Observer;
        self.launch.targets = others.iter().map(|t| Target { host: format!("h{t}"), port: None }).collect();
    }

    /// The store of its peer, once there is one.
    pub(super) fn store(&self) -> Option<PeerId> {
        self.disk.identity.as_ref().map(|identity| PeerId { name: identity.name, uid: identity.uid })
    }

    /// True while the controller exists but does nothing.
    pub(super) fn paused(&self) -> bool {
        self.pauses > 0 || self.committing.is_some()
    }

    /// True while the controller runs and is not stopped.
    pub(super) fn active(&self) -> bool {
        self.node.is_some() && !self.paused()
    }

    /// What the shell finds out about the underlay.
    pub(super) fn facts(&self, id: HostId) -> Underlay {
        let bridge = self.spec.bridge.then_some(BRIDGE);
        let addrs = bridge.into_iter().chain([underlay(id)]).collect();
        Underlay { addrs, default_mtu: self.spec.mtu, ..Underlay::default() }
    }

    /// Starts the core from the disk and what the kernel holds.
    ///
    /// # Panics
    /// When the core refuses its own store.
    pub(super) fn start(&mut self, seed: [u8; 32], verifier: Arc<dyn Verifier>, now: Instant) {
        self.run += 1;
        (self.wake, self.look, self.started) = (None, None, now);
        let mut rng = Rng::new(seed);
        self.kernel.begin_run([rng.bits(), rng.bits()]);
        self.lost_told = self.kernel.lost;
        let boot = boot::resume(self.disk.clone(), &self.launch, None, SecretKey::from_bytes(rng.bytes()))
            .expect("a store resumes");
        self.node = Some(Node::new(boot, &self.launch, &self.kernel.installed(), seed, verifier, now));
    }

    /// The shell looks again before it tells that an interface is gone.
    pub(super) fn is_outdated(&self, input: &Input) -> bool {
        matches!(input, Input::EndpointGone(host_if) if self.kernel.interfaces.contains_key(host_if))
    }

    /// Names of its containers that are there, by what its disk says.
    pub(super) fn names(&self) -> Vec<(DnsName, Ipv4Addr)> {
        let there = |owner: &String| {
            let held = self.disk.reservations.get(owner)?;
            self.kernel.interfaces.contains_key(held.host_if()?).then_some(&held.addrs)
        };
        let mut names = Vec::new();
        for (owner, registered) in &self.disk.names {
            let Some(addrs) = there(owner) else { continue };
            names.extend(registered.fixed.iter().cloned());
            let follow = registered.follow.iter();
            names.extend(follow.flat_map(|name| addrs.iter().map(|net| (name.clone(), net.addr()))));
        }
        names
    }

    /// The controller is no more.
    pub(super) fn end(&mut self) {
        self.node = None;
        self.run += 1;
        self.wake = None;
        self.held.clear();
        self.pauses = 0;
        self.committing = None;
        self.operations.clear();
    }

    /// One commit: every record of the batch, or none. Owners that were absent since a reboot, and gave way.
    pub(super) fn commit(&mut self, batch: &[Output]) -> Vec<String> {
        let mut gave_way = Vec::new();
        for output in batch {
            let Output::Persist(record) = output else { continue };
            match record.clone() {
                Record::Identity(identity) => self.disk.identity = Some(identity),
                Record::Params(params) => self.disk.params = Some(params),
                Record::Targets(targets) => self.disk.targets = targets,
                Record::Ring(ring) => self.disk.ring = Some(ring),
                Record::Vote(vote) => self.disk.vote = Some(vote),
                Record::Nicknames(nicknames) => self.disk.nicknames = nicknames,
                Record::Grant(addr, holder) => drop(self.disk.grants.insert(addr, holder)),
                Record::GrantGone(addr) => drop(self.disk.grants.remove(&addr)),
                Record::Inherited(all) => self.disk.inherited = all,
                Record::Left => self.disk.left = true,
                Record::Names(owner, names) if names.is_empty() => drop(self.disk.names.remove(&owner)),
                Record::Names(owner, names) => drop(self.disk.names.insert(owner, names)),
                Record::Reservation(owner, held) => drop(self.disk.reservations.insert(owner, held)),
                Record::ReservationGone(owner) => {
                    let held = self.disk.reservations.remove(&owner);
                    if held.and_then(|held| held.attachment).is_some_and(|attachment| attachment.absent) {
                        gave_way.push(owner);
                    }
                }
            }
        }
        gave_way
    }
}
