//! The simulated kernel of a host: maps, interfaces, and what the programs keep beside them. It outlives the controller.
//!
//! As `weave-ebpf`: times of tunnels in steps of [`TIME_STEP_NS`], a bucket of answers a sender and one of contacts, keys of
//! cookies, and two rings that hold what the controller has not read, of as many entries as the real ones have room for.
//! Bounds: the rings'; an entry that finds no room is lost and counted.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::Ipv4Addr,
    time::Duration,
};

use weave_common::{
    bucket::{self, Bucket},
    map::{CONTACTS_BYTES, REPLIES_BYTES},
    probe::{ContactEvent, ProbeKeys, ReplyEvent},
    tunnel::{BIG, TIME_STEP_NS},
    vxlan,
};
use weave_ctl::proto::{
    boot::Installed,
    datapath::Maps,
    io::{Activity, Contact, EndpointSpec, LinkOp, MapOp, ProbeReply},
    name::PeerName,
    reservation::BootId,
    time::Instant,
};

/// What the kernel puts before each entry of a ring.
const RING_HEADER: usize = 8;
/// Answers that the ring holds.
pub(super) const REPLIES_MAX: usize = REPLIES_BYTES as usize / (RING_HEADER + size_of::<ReplyEvent>());
/// Contacts that the ring holds.
pub(super) const CONTACTS_MAX: usize = CONTACTS_BYTES as usize / (RING_HEADER + size_of::<ContactEvent>());
/// Looks without packets after which the shell does not take a tunnel for active any more.
const QUIET_LOOKS: u64 = 30;

/// A time in a tunnel's entry.
#[derive(Clone, Copy, Default)]
struct Mark {
    at: Option<Instant>,
    /// The controller was told of it.
    told: bool,
}

impl Mark {
    fn set(&mut self, now: Instant) {
        if self.at.is_none_or(|at| now.since(at) >= Duration::from_nanos(TIME_STEP_NS)) {
            *self = Self { at: Some(now), told: false };
        }
    }

    /// True when the controller was not told of it yet; from now on it was.
    fn news(&mut self) -> bool {
        self.at.is_some() && !std::mem::replace(&mut self.told, true)
    }

    /// Nothing depends on it any more.
    fn is_over(&self, now: Instant) -> bool {
        self.at.is_none_or(|at| self.told && now.since(at) >= Duration::from_nanos(TIME_STEP_NS))
    }
}

/// The times of a tunnel's entry.
#[derive(Clone, Copy, Default)]
struct Times {
    sent: Mark,
    big: Mark,
    heard: Mark,
    elsewhere: Mark,
}

/// What outlives the controller and ends with the host.
#[derive(Default)]
pub(super) struct Kernel {
    /// The host has power.
    pub(super) on: bool,
    /// Times that it had before.
    boots: u64,
    /// A controller ran since power came: the programs are there.
    pub(super) loaded: bool,
    pub(super) maps: Maps,
    /// Interfaces by the name of the host end.
    pub(super) interfaces: BTreeMap<String, (u32, EndpointSpec)>,
    next_index: u32,
    pub(super) keys: ProbeKeys,
    /// Of senders that asked; a sender without an entry has all tokens.
    echo: BTreeMap<Ipv4Addr, Bucket>,
    contact: Bucket,
    pub(super) replies: VecDeque<ProbeReply>,
    pub(super) contacts: VecDeque<(Instant, Contact)>,
    /// Entries that found no room in their ring.
    pub(super) lost: u64,
    /// Only those that are not told, or too young to be written again.
    times: BTreeMap<PeerName, Times>,
    /// Tunnels that the shell takes for active, each with the look at which it had packets last.
    active: BTreeMap<PeerName, u64>,
}

fn nanos(now: Instant) -> u64 {
    u64::try_from(now.since_start().as_nanos()).unwrap_or(u64::MAX)
}

impl Kernel {
    /// What is left of it when the host has power again.
    pub(super) fn next_boot(&self) -> Self {
        Self { boots: self.boots + 1, ..Self::default() }
    }

    /// Carries out a change of the maps.
    pub(super) fn apply(&mut self, op: &MapOp) {
        match op {
            MapOp::PutSender(addr, _) | MapOp::DelSender(addr) => drop(self.echo.remove(addr)),
            MapOp::DelTunnel(peer) => {
                self.times.remove(peer);
                self.active.remove(peer);
            }
            _ => {}
        }
        self.maps.apply(op);
    }

    /// Carries out an operation on interfaces; the index of the host end, or zero.
    pub(super) fn link_op(&mut self, op: &LinkOp) -> u32 {
        match op {
            LinkOp::Ensure(spec) => {
                self.next_index += 1;
                let index = self.interfaces.get(&spec.host_if).map_or(self.next_index, |(i, _)| *i);
                self.interfaces.insert(spec.host_if.clone(), (index, spec.clone()));
                index
            }
            LinkOp::SetMtu { host_if, place, mtu } => {
                let interface = self.interfaces.get_mut(host_if).filter(|(_, spec)| spec.place == *place);
                interface.map_or(0, |(index, spec)| {
                    spec.mtu = *mtu;
                    *index
                })
            }
            LinkOp::Remove { host_if, .. } => {
                self.interfaces.remove(host_if);
                0
            }
        }
    }

    /// Removes the interface of a container that is gone; the name of its host end.
    pub(super) fn remove_container(&mut self, container: &str) -> Option<String> {
        let netns = format!("/run/netns/{container}");
        let (host_if, _) = self.interfaces.iter().find(|(_, (_, s))| s.place.path() == Some(&netns))?;
        let host_if = host_if.clone();
        self.interfaces.remove(&host_if);
        Some(host_if)
    }

    /// What a controller that starts finds.
    pub(super) fn installed(&self) -> Installed {
        let Maps { endpoints, routes, tunnels, senders, names } = &self.maps;
        let endpoints_ops = endpoints.iter().map(|(addr, to)| MapOp::PutEndpoint(*addr, *to));
        let routes = routes.iter().map(|(net, to)| MapOp::PutRoute(*net, *to));
        let tunnels = tunnels.iter().map(|(peer, tunnel)| MapOp::PutTunnel(*peer, *tunnel));
        let senders = senders.iter().map(|(addr, peer)| MapOp::PutSender(*addr, *peer));
        let names = names.iter().map(|(name, addrs)| MapOp::PutName(name.clone(), addrs.clone()));
        Installed {
            // Containers ask nothing here.
            service: None,
            // As the shell judges: empty maps prove no earlier run.
            adopted: self.maps != Maps::default(),
            maps: endpoints_ops.chain(routes).chain(tunnels).chain(senders).chain(names).collect(),
            endpoints: self.interfaces.iter().map(|(n, (i, _))| (n.clone(), *i)).collect(),
            boot: BootId(u128::from(self.boots).to_be_bytes()),
            // The clock of all hosts begins with the World.
            unix_start: 0,
        }
    }

    /// A data packet leaves by the tunnel to `peer`, with an inner IP packet of this length.
    pub(super) fn note_sent(&mut self, peer: PeerName, inner: u32, now: Instant) {
        if self.maps.tunnels.contains_key(&peer) {
            let times = self.times.entry(peer).or_default();
            times.sent.set(now);
            if inner > BIG - vxlan::OVERHEAD {
                times.big.set(now);
            }
        }
    }

    /// A packet of `peer` arrived, from where packets for it go first or from elsewhere.
    pub(super) fn note_heard(&mut self, peer: PeerName, source: Ipv4Addr, now: Instant) {
        let Some(tunnel) = self.maps.tunnels.get(&peer) else { return };
        let expected = *tunnel.remote.ip() == source || self.maps.senders.get(&source) == Some(&tunnel.via);
        let times = self.times.entry(peer).or_default();
        if expected { &mut times.heard } else { &mut times.elsewhere }.set(now);
    }

    /// True when the sender at this address may have one more answer; takes it.
    pub(super) fn may_echo(&mut self, addr: Ipv4Addr, now: Instant) -> bool {
        let left = self.echo.get(&addr).copied().unwrap_or_default().take(nanos(now), bucket::ECHO);
        left.map(|left| self.echo.insert(addr, left)).is_some()
    }

    /// Gives an answer to the controller.
    pub(super) fn give_reply(&mut self, reply: ProbeReply) {
        if self.replies.len() < REPLIES_MAX {
            self.replies.push_back(reply);
        } else {
            self.lost += 1;
        }
    }

    /// Gives a contact to the controller, if one more may go up.
    pub(super) fn give_contact(&mut self, contact: Contact, now: Instant) {
        let Some(left) = self.contact.take(nanos(now), bucket::CONTACT) else { return };
        self.contact = left;
        if self.contacts.len() < CONTACTS_MAX {
            self.contacts.push_back((now, contact));
        } else {
            self.lost += 1;
        }
    }

    /// What the shell's look number `look` shows: at active tunnels, or at all.
    pub(super) fn look(&mut self, look: u64, all: bool, now: Instant) -> Vec<Activity> {
        let active: BTreeSet<PeerName> = self.active.keys().copied().collect();
        let mut seen = Vec::new();
        for (peer, times) in self.times.iter_mut().filter(|(peer, _)| all || active.contains(peer)) {
            let (sent, big) = (times.sent.news(), times.big.news());
            let (heard, elsewhere) = (times.heard.news(), times.elsewhere.news());
            let activity = Activity { peer: *peer, sent, big, heard, elsewhere };
            if sent || heard || elsewhere {
                seen.push(activity);
                self.active.insert(*peer, look);
            }
        }
        self.active.retain(|_, last| look - *last < QUIET_LOOKS);
        self.times.retain(|_, t| ![t.sent, t.big, t.heard, t.elsewhere].iter().all(|mark| mark.is_over(now)));
        seen
    }

    /// Something is to be seen at the next look at all tunnels, and at the next one at active ones.
    pub(super) fn is_worth_a_look(&self) -> (bool, bool) {
        (!self.times.is_empty(), self.times.keys().any(|peer| self.active.contains_key(peer)))
    }

    /// A controller starts: the shell's memory of what it saw is new.
    pub(super) fn begin_run(&mut self, key: [u64; 2]) {
        (self.on, self.loaded) = (true, true);
        self.keys = ProbeKeys { current: key, former: self.keys.current };
        self.active.clear();
        self.times.clear();
    }
}
