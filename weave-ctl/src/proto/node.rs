//! The whole core of one controller, composed: the only place where the modules of `proto` meet.
//!
//! The driver's contract is in [`super::io`]. After every input the node carries events from one module to the others until
//! all are quiet, and then computes the difference of the kernel's maps; the modules do not know each other.
//!
//! Files: `events` (sessions, membership, topology, paths), `alive` (whether a peer is alive, and the question to all
//! peers), `remove` (`rmpeer`), `names` (names of containers), `leave` (`reset`), `addresses` (ring, election, containers), `refused` (peers
//! that send what cannot be used), `bounds` (tables that are nearly full), `status`.

mod addresses;
mod alive;
mod bounds;
mod events;
mod leave;
mod names;
mod refused;
mod remove;
mod status;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    iter,
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};

use ipnet::Ipv4Net;
use weave_common::vxlan;

use self::{alive::Queries, bounds::Bounds, events::Facts, leave::Leaving, refused::Refused, remove::Removal};
use super::{
    boot::{Boot, Init, Installed, Launch, LaunchParams, Stored},
    command::{Answer, Command, Refusal},
    datapath::Datapath,
    dns::Dns,
    election::{Election, Role, Vote},
    endpoints::{self, Endpoints, Purpose, Vanished},
    io::{Input, Output, Record, RequestId, Severity, Shutdown, Target, Underlay},
    ipam::{Allocator, Keeper},
    membership::Membership,
    name::{PeerId, PeerName},
    path::Paths,
    queue,
    requests::Requests,
    rng::Rng,
    service::Service,
    session::{Sessions, SessionsConfig},
    time::Instant,
    topology::{self, Topology},
    wire::entry::Verifier,
};

/// Smallest MTU in bytes that IPv4 hosts must accept (RFC 791).
const MTU_MIN: u32 = 576;
/// Most targets that a peer keeps.
const TARGETS_MAX: usize = 1024;
/// MTU in bytes of the underlay before the host's is known.
const MTU_DEFAULT: u32 = 1500;

/// See the head of this file.
#[derive(Debug)]
pub struct Node {
    me: PeerId,
    params: LaunchParams,
    launch: Launch,
    sessions: Sessions,
    membership: Membership,
    topology: Topology,
    paths: Paths,
    endpoints: Endpoints,
    dns: Dns,
    /// `None` when questions for names are not answered here.
    service: Option<Service>,
    datapath: Datapath,
    keeper: Keeper,
    election: Option<Election>,
    /// Nicknames of peers that own addresses, also of those that are gone.
    nicknames: BTreeMap<PeerName, String>,
    /// This host's underlay addresses.
    own_addrs: Vec<Ipv4Addr>,
    /// Subnets that are on the link of an underlay device.
    on_link: Vec<Ipv4Net>,
    /// MTU in bytes of the default route's device.
    default_mtu: u32,
    /// Smallest and largest MTU in bytes of the devices that packets for peers leave by.
    device_mtus: Option<(u32, u32)>,
    /// Peers that see this host at an address that is not its own.
    seen_elsewhere: BTreeSet<PeerName>,
    /// Peers to which this host's record reports a direct path.
    reported_paths: BTreeSet<PeerName>,
    /// A caller waits for the ring though no container needs an address yet.
    ring_wanted: bool,
    /// The ring changed since callers that wait for addresses were last tried.
    ring_changed: bool,
    leaving: Option<Leaving>,
    removals: Vec<Removal>,
    queries: Queries,
    requests: Requests,
    refused: Refused,
    /// Tables that are nearly full.
    near: Bounds,
    out: VecDeque<Output>,
}

/// The part of this peer in an election, if it was launched with one; over when there is a ring.
fn election(
    me: PeerId,
    params: &LaunchParams,
    vote: Option<Vote>,
    over: bool,
    rng: &mut Rng,
    now: Instant,
) -> Option<Election> {
    let role = match params.init {
        Init::Election(count) => Role::Voter(count),
        Init::Observer => Role::Observer,
        Init::Undeclared | Init::Seeds => return None,
    };
    let mut election = Election::new(me, params.range, role, vote, rng.fork(), now);
    if over {
        election.over();
    }
    Some(election)
}

impl Node {
    /// A node that starts from `boot`, as asked by `launch`, with what the kernel holds in `installed`.
    ///
    /// Its first outputs make the boot durable; drain them before the first input.
    #[must_use]
    pub fn new(
        boot: Boot,
        launch: &Launch,
        installed: &Installed,
        seed: [u8; 32],
        verifier: Arc<dyn Verifier>,
        now: Instant,
    ) -> Self {
        let Boot { identity, params, stored, records } = boot;
        let Stored { targets, ring, vote, nicknames, left, reservations, grants, inherited, names, .. } = stored;
        let me = PeerId { name: identity.name, uid: identity.uid };
        let allocator = Allocator::new(me, &params, reservations);
        let service = installed.service.clone().map(|netns| Service::new(allocator.service(), netns, now));
        let alone = targets.is_empty() && !left;
        let mut rng = Rng::new(seed);
        let sessions = SessionsConfig {
            me,
            key: identity.key.clone(),
            discovery: launch.discovery,
            conn_limit: launch.conn_limit as usize,
            targets,
            verifier: Arc::clone(&verifier),
        };
        let (key, data_port) = (identity.key.clone(), launch.port.saturating_add(1));
        let (request_key, ring_key) = (identity.key.clone(), identity.key.clone());
        let grace = |usual: Duration| launch.test_grace.map_or(usual, |most| most.min(usual));
        let kept_for = grace(endpoints::GRACE);
        let mut datapath = Datapath::new(&installed.maps);
        if let Some(ring) = &ring {
            datapath.set_ring(ring, me.name);
        }
        let election = election(me, &params, vote, ring.is_some(), &mut rng, now);
        let mut node = Self {
            me,
            keeper: Keeper::new(me, ring_key, params.range, ring, alone, rng.fork(), now),
            membership: Membership::new(identity, launch.port, verifier, rng.fork(), now),
            topology: Topology::new(grace(topology::GRACE)),
            paths: Paths::new(me.name, key, data_port, installed, rng.fork(), now),
            sessions: Sessions::new(sessions, rng.fork(), now),
            endpoints: Endpoints::new(allocator, params.range, installed, kept_for, now),
            dns: Dns::new(me.name, names, installed.names(), now),
            service,
            datapath,
            election,
            nicknames,
            own_addrs: Vec::new(),
            on_link: Vec::new(),
            default_mtu: MTU_DEFAULT,
            device_mtus: None,
            seen_elsewhere: BTreeSet::new(),
            reported_paths: BTreeSet::new(),
            ring_wanted: false,
            ring_changed: false,
            leaving: None,
            removals: Vec::new(),
            queries: Queries::new(rng.fork(), now),
            requests: Requests::new(me, request_key, rng.fork()),
            refused: Refused::default(),
            near: Bounds::default(),
            params,
            launch: launch.clone(),
            out: records.into_iter().map(Output::Persist).collect(),
        };
        node.keeper.restore_grants(grants, inherited);
        node.keeper.claims_mut().remember(installed.host_routes());
        node.refresh_exceptions();
        node.pump(now);
        node
    }

    /// Host ends of containers' interfaces that exist.
    #[must_use]
    pub fn interfaces(&self) -> Vec<String> {
        self.endpoints.host_ends().map(str::to_owned).collect()
    }

    /// True when the tables lead to every owner of the ring: nothing is known that is not in them.
    #[must_use]
    pub fn is_mapped(&self) -> bool {
        let Some(ring) = self.keeper.ring() else { return false };
        let tunnels: BTreeSet<PeerName> = self.datapath.tunnels().map(|(peer, _)| peer).collect();
        ring.owners().iter().all(|owner| owner.name == self.me.name || tunnels.contains(&owner.name))
    }

    /// The range whose containers go out of the network through this host; `None` when they do not.
    #[must_use]
    pub fn masqueraded(&self) -> Option<Ipv4Net> {
        self.endpoints.gateway().map(|_| self.params.range)
    }

    /// Takes in something that happened.
    pub fn handle_input(&mut self, input: Input, now: Instant) {
        let facts = Facts { membership: &self.membership, topology: &self.topology };
        match input {
            Input::SessionOpened { session, remote, direction, binding } => {
                let own = self.membership.own_entry(now);
                self.sessions.opened(session, remote, direction, binding, &own, now);
            }
            Input::Frame(session, bytes) => self.sessions.frame(session, &bytes, &facts, now),
            Input::SessionClosed(session, reason) => self.sessions.closed(session, &reason, &facts, now),
            Input::DialFailed(dial, reason) => self.sessions.dial_failed(dial, &reason, now),
            Input::ProbeReply(reply) => self.paths.reply(&reply, now),
            Input::Contact(contact) => self.paths.contact(&contact, &|peer| self.membership.key_of(peer), now),
            Input::RepliesLost(..) => self.paths.replies_lost(now),
            Input::Activity(seen) => self.paths.activity(&seen, now),
            Input::Egress(addr, egress) => self.paths.set_egress(addr, egress, now),
            Input::Request(id, command) => self.command(id, command, now),
            Input::RequestGone(id) => {
                // What was begun for a container is ended all the same.
                self.endpoints.request_gone(id);
                self.removals.retain(|removal| removal.request != id);
            }
            Input::Underlay(underlay) => self.set_underlay(&underlay, now),
            Input::LinkDone(op, result) => self.link_done(op, result, now),
            Input::EndpointGone(host_if) => {
                if self.service.as_mut().is_some_and(|service| service.vanished(&host_if, now)) {
                    // It is made again below.
                } else if let Some(what) = self.endpoints.vanished(&host_if, now) {
                    self.tell_vanished(&host_if, &what);
                }
            }
            Input::MapFailed(op, reason) => self.datapath.failed(&op, &reason, now),
        }
        self.pump(now);
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        let facts = Facts { membership: &self.membership, topology: &self.topology };
        self.sessions.handle_timeout(&facts, now);
        self.membership.handle_timeout(now);
        self.paths.handle_timeout(now);
        self.requests.handle_timeout(now);
        self.endpoints.handle_timeout(now);
        self.dns.handle_timeout(now);
        self.pump(now);
    }

    /// When [`Self::handle_timeout`] must be called next, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let all = [
            (self.sessions.poll_timeout(&self.facts()), "session"),
            (Some(self.membership.poll_timeout()), "gossip"),
            (self.topology.poll_timeout(), "topology"),
            (self.paths.poll_timeout(), "probe"),
            (self.datapath.poll_timeout(), "datapath retry"),
            (self.endpoints.poll_timeout(), "containers"),
            (self.dns.poll_timeout(), "names"),
            (self.service.as_ref().and_then(Service::poll_timeout), "service address"),
            (self.election.as_ref().and_then(Election::poll_timeout), "election"),
            (self.leaving.and_then(|leaving| leaving.due()), "reset"),
            (self.removals.iter().map(Removal::due).min(), "rmpeer"),
            (Some(self.keeper.poll_timeout()), "ring"),
            (self.requests.poll_timeout(), "request"),
        ];
        all.into_iter().filter_map(|(at, why)| Some((at?, why))).min()
    }

    /// The next thing to be done.
    pub fn poll_output(&mut self) -> Option<Output> {
        queue::pop(&mut self.out)
    }

    fn facts(&self) -> Facts<'_> {
        Facts { membership: &self.membership, topology: &self.topology }
    }

    /// Carries events between the modules until all are quiet, then brings the maps up to date.
    fn pump(&mut self, now: Instant) {
        self.pump_events(now);
        self.pump_removals(now);
        self.pump_addresses(now);
        self.pump_names(now);
        self.pump_messages(now);
        self.look_at_bounds(now);
        // Some that were gone before may own nothing only now.
        for peer in self.datapath.take_unrouted() {
            if self.membership.record(peer).is_none() {
                self.forget_peer(peer);
            }
        }
        // Endpoints are in the maps before a caller is told that its container is attached.
        self.out.extend(self.datapath.diff(now).into_iter().map(Output::Map));
        self.out.extend(iter::from_fn(|| self.endpoints.poll_output()));
    }

    /// Nothing is sent any more to a peer that is gone and owns nothing.
    fn forget_peer(&mut self, peer: PeerName) {
        if self.datapath.forget_peer(peer) {
            self.paths.forget(peer);
        }
    }

    fn set_underlay(&mut self, underlay: &Underlay, now: Instant) {
        self.default_mtu = underlay.default_mtu;
        self.on_link.clone_from(&underlay.on_link);
        if self.own_addrs != underlay.addrs {
            self.own_addrs.clone_from(&underlay.addrs);
            self.sessions.set_own_addrs(underlay.addrs.clone());
            self.paths.set_own(&underlay.addrs);
            // Where others may be found depends on the addresses that this host has itself.
            for peer in self.membership.others().map(|record| record.name).collect::<Vec<_>>() {
                self.learn(peer, now);
            }
        }
        self.refresh_mtu(now);
    }

    /// MTU in bytes of containers' interfaces: most packets then fit every path.
    fn container_mtu(&self) -> u32 {
        let smallest = self.device_mtus.map_or(self.default_mtu, |(smallest, _)| smallest);
        smallest.saturating_sub(vxlan::OVERHEAD).max(MTU_MIN)
    }

    fn refresh_mtu(&mut self, now: Instant) {
        // A smaller one would keep peers from using the path by the larger device; what is too large is found by probes.
        // Before a device is known none is named: a guess that is too small reaches containers by ICMP, and stays for minutes.
        let largest = self.device_mtus.map_or(0, |(_, largest)| largest);
        self.membership.set_place(&self.own_addrs, largest, now);
        if self.device_mtus.is_some() {
            self.endpoints.limit_mtu(self.container_mtu());
        }
    }

    fn command(&mut self, id: RequestId, command: Command, now: Instant) {
        match command {
            Command::Connect { targets, replace } => self.connect(id, targets, replace, now),
            Command::Forget(targets) => self.forget(id, &targets, now),
            Command::Reserve(owner, addrs) => self.ask_for(id, Purpose::Reserve(owner), addrs, now),
            Command::Bind { id: reserved, owner } => self.endpoints.bind(id, &reserved, &owner, now),
            Command::Attach(container, addrs) => self.attach(id, container, addrs, now),
            Command::Detach { holder, addrs, keep } => self.endpoints.detach(id, &holder, &addrs, keep),
            Command::Release(owner, addrs) => self.endpoints.release_addrs(id, &owner, &addrs),
            Command::ReleaseAbsent => self.endpoints.release_absent(id),
            Command::Containers => {
                let containers = self.endpoints.status(now);
                self.reply(id, Ok(Answer::Containers(containers)));
            }
            Command::AddName { holder, name, addrs } => self.add_name(id, holder, name, addrs, now),
            Command::RemoveName { holder, name, addrs } => self.remove_name(id, holder, name, addrs),
            Command::Names(name) => self.names(id, name),
            Command::Status => {
                let status = Box::new(self.status(now));
                self.reply(id, Ok(Answer::Status(status)));
            }
            Command::Stop { teardown } => {
                self.shut_down(id, if teardown { Shutdown::Teardown } else { Shutdown::Stop }, now);
            }
            Command::Reset { force } => self.reset(id, force, now),
            Command::RemovePeer { peer, force } => self.remove_peer(id, peer, force, now),
            Command::Consense => self.consense(id, now),
        }
    }

    fn connect(&mut self, id: RequestId, targets: Vec<Target>, replace: bool, now: Instant) {
        let before = self.sessions.targets().to_vec();
        let mut all = if replace { Vec::new() } else { before.clone() };
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
        self.reply(id, Ok(Answer::Targets(before)));
    }

    fn forget(&mut self, id: RequestId, targets: &[Target], now: Instant) {
        if let Some(unknown) = targets.iter().find(|t| !self.sessions.targets().contains(t)) {
            let text = format!("{unknown} is not a target (status targets lists them); nothing was forgotten");
            return self.reply(id, Err(Refusal(text)));
        }
        let before = self.sessions.targets().to_vec();
        let left = before.iter().filter(|t| !targets.contains(t)).cloned().collect();
        self.set_targets(left, now);
        self.reply(id, Ok(Answer::Targets(before)));
    }

    fn set_targets(&mut self, targets: Vec<Target>, now: Instant) {
        self.out.push_back(Output::Persist(Record::Targets(targets.clone())));
        self.sessions.set_targets(targets, now);
    }

    fn tell_vanished(&mut self, host_if: &str, what: &Vanished) {
        let text = match what {
            Vanished::Kept(owner) => {
                let time = self.endpoints.grace().as_secs();
                format!("{owner}, the container behind {host_if}, is gone; its addresses are kept for {time} s")
            }
            Vanished::Released(owner) => format!("{owner}, the container behind {host_if}, is gone, and released"),
            Vanished::MadeAgain(owner) => format!("the interface of {owner} was removed by others: it is made again"),
        };
        self.log(Severity::Info, text);
    }

    fn reply(&mut self, id: RequestId, answer: Result<Answer, Refusal>) {
        self.out.push_back(Output::Reply(id, answer));
    }

    fn log(&mut self, severity: Severity, text: String) {
        self.out.push_back(Output::Event(severity, text));
    }
}

#[cfg(test)]
mod tests;
