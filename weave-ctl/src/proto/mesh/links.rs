//! The mesh of this peer: its links, and what comes and goes over them.
//!
//! An unreadable message is counted and skipped: it closes a link only before the hello. This peer's own record is
//! signed anew [`PUBLISH_AFTER`] after something in it changed, as often as [`super::pace`] allows.
//! Bounds: `--conn-limit` links past the hello, the shell's limit before; what is sent goes into the shell's bounded
//! queues; [`NONCES_MAX`] nonces of former links and [`COLLISIONS_MAX`] collisions are remembered.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use super::{
    dialer::{Around, Dialer, End},
    doubts::Doubts,
    entry::{ADDRS_MAX, NARROW_MAX, Opener, PeerRecord, RECORD_LINKS_MAX, RecordLink, sign_record},
    gossip::Gossip,
    link::Link,
    outbid::Outbid,
    pace::Pace,
    paths::Paths,
    topology::Topology,
    ways::{PathTo, Way},
    wire::{self, Hello, Message, RingMessage},
};
use crate::proto::{
    boot::Identity,
    io::{Binding, DialId, Direction, Event, LinkId, Output, Severity, Target, TunnelTo, Underlay},
    key::SecretKey,
    name::{PeerId, PeerName},
    queue,
    rng::Rng,
    time::Instant,
};

/// Time in which changes of this peer's own record gather.
pub const PUBLISH_AFTER: Duration = Duration::from_millis(20);
/// Nonces of links that are remembered, to know a link to oneself.
pub(super) const NONCES_MAX: usize = 256;
/// Refused names that are remembered.
pub(super) const COLLISIONS_MAX: usize = 64;

/// What the mesh is made from.
#[derive(Clone, Debug)]
pub struct MeshConfig {
    /// This peer.
    pub identity: Identity,
    /// TCP port of the control plane.
    pub port: u16,
    /// Dial peers heard of.
    pub discovery: bool,
    /// Most links.
    pub conn_limit: usize,
    /// Whom to dial first.
    pub targets: Vec<Target>,
    /// How packets left for peers in an earlier run.
    pub tunnels: BTreeMap<PeerName, TunnelTo>,
    /// From where packets of peers were accepted then.
    pub senders: Vec<(Ipv4Addr, PeerName)>,
    /// Gossip channels that others in this peer read.
    pub channels: Vec<&'static str>,
    /// Opens what is gossiped.
    pub opener: Arc<dyn Opener>,
}

/// What the rest of the core must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MeshEvent {
    /// A link to a peer is up.
    LinkUp(LinkId),
    /// Packets for a peer leave this way from now on.
    Way(PeerName, PathTo),
    /// A peer sends from these underlay addresses.
    Senders(PeerName, BTreeSet<Ipv4Addr>),
    /// A peer is forgotten.
    PeerGone(PeerName),
    /// A neighbour told its ring, or a part of it.
    Ring(LinkId, PeerName, RingMessage),
    /// A neighbour told the sum of its ring.
    RingSum(LinkId, u64),
    /// A peer has something new to say in a channel.
    Board(PeerId, &'static str, Vec<u8>),
    /// This peer had to choose another short id.
    ShortId(u16),
}

/// See the head of this file.
#[derive(Debug)]
pub struct Mesh {
    pub(super) me: PeerRecord,
    pub(super) key: SecretKey,
    pub(super) raw: Arc<[u8]>,
    pub(super) publish_at: Option<Instant>,
    pace: Pace,
    pub(super) links: BTreeMap<LinkId, Link>,
    /// No link needs anything before.
    pub(super) links_due: Option<Instant>,
    /// Peers whose links are past the hello.
    linked: BTreeSet<PeerName>,
    pub(super) gossip: Gossip,
    pub(super) topology: Topology,
    pub(super) paths: Paths,
    pub(super) ways: BTreeMap<PeerName, Way>,
    /// The last straight ways that worked, of peers that are sent to another way now.
    pub(super) worked: BTreeMap<PeerName, PathTo>,
    /// Since when packets for peers that are heard of go over established links, while they do.
    pub(super) relayed: BTreeMap<PeerName, Instant>,
    /// Peers whose ways may depend on other peers.
    pub(super) unsteady: BTreeSet<PeerName>,
    /// Peers that ended their last link themselves: when, and the version of their record then.
    pub(super) ended: BTreeMap<PeerName, (Instant, (u64, u64))>,
    pub(super) doubts: Doubts,
    pub(super) outbid: Outbid,
    pub(super) heard_from: BTreeMap<PeerName, Vec<Ipv4Addr>>,
    /// Peers that see this host at an address that is not its own.
    pub(super) translated_for: BTreeSet<PeerName>,
    /// Straight paths on which less passes than both hosts take.
    pub(super) narrow: BTreeMap<PeerName, u32>,
    pub(super) dialer: Dialer,
    pub(super) discovery: bool,
    pub(super) conn_limit: usize,
    pub(super) rng: Rng,
    pub(super) nonces: VecDeque<u64>,
    pub(super) collisions: BTreeMap<PeerName, (String, Instant)>,
    pub(super) unreadable: u64,
    /// Versions of what this peer told in channels.
    pub(super) board_version: u64,
    pub(super) out: VecDeque<Output>,
    pub(super) events: VecDeque<MeshEvent>,
}

/// Links that are wanted to peers heard of, in a mesh of `peers` others: all of them in a small one, and as many as keep
/// a large one in few hops of each other. Those who come later dial as many again: most peers end up with twice as many.
fn links_wanted(peers: usize, limit: usize) -> usize {
    let log = usize::BITS - peers.leading_zeros();
    limit.min(5 + log as usize)
}

impl Mesh {
    /// A mesh of one; `grace` is the time from a peer's last path to its being forgotten.
    #[must_use]
    pub fn new(config: MeshConfig, grace: Duration, mut rng: Rng, now: Instant) -> Self {
        let MeshConfig { identity, port, discovery, conn_limit, targets, tunnels, senders, channels, opener } = config;
        let [.., high, low] = identity.name.bytes();
        let me = PeerRecord {
            name: identity.name,
            uid: identity.uid,
            incarnation: identity.incarnation,
            version: 0,
            nickname: wire::clean(&identity.nickname),
            // The same at every launch, so that a relaunch rewrites no tunnel.
            short_id: u16::from_be_bytes([high, low]),
            addrs: Vec::new(),
            control_port: port,
            data_port: port.saturating_add(1),
            mtu: 0,
            cookie: rng.bits(),
            links: Vec::new(),
            narrow: Vec::new(),
        };
        let mut dialer = Dialer::default();
        dialer.set_targets(targets, now);
        let mut fork = || Rng::new(std::array::from_fn(|_| rng.bits() as u8));
        // A straight way that an earlier run left is the best that is known of it.
        let ways = tunnels
            .into_iter()
            .map(|(peer, tunnel)| {
                let tunnel = PathTo::installed(&tunnel, me.short_id);
                (peer, Way { tunnel, worked: tunnel.via == peer, adjacent: false })
            })
            .collect();
        let mut heard_from: BTreeMap<PeerName, Vec<Ipv4Addr>> = BTreeMap::new();
        senders.into_iter().for_each(|(addr, peer)| heard_from.entry(peer).or_default().push(addr));
        let mut mesh = Self {
            paths: Paths::new(me.name, me.cookie, identity.key.clone(), fork()),
            gossip: Gossip::new(me.name, channels, opener, fork(), now),
            me,
            key: identity.key,
            raw: Arc::from([]),
            publish_at: None,
            pace: Pace::new(now),
            links: BTreeMap::new(),
            links_due: None,
            linked: BTreeSet::new(),
            topology: Topology::new(grace),
            ways,
            worked: BTreeMap::new(),
            relayed: BTreeMap::new(),
            unsteady: BTreeSet::new(),
            ended: BTreeMap::new(),
            doubts: Doubts::default(),
            outbid: Outbid::default(),
            heard_from,
            translated_for: BTreeSet::new(),
            narrow: BTreeMap::new(),
            dialer,
            discovery,
            conn_limit,
            rng,
            nonces: VecDeque::new(),
            collisions: BTreeMap::new(),
            unreadable: 0,
            board_version: 0,
            out: VecDeque::new(),
            events: VecDeque::new(),
        };
        mesh.publish(now);
        mesh
    }

    /// The next thing to be done.
    pub fn poll_output(&mut self) -> Option<Output> {
        queue::pop(&mut self.out)
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<MeshEvent> {
        queue::pop(&mut self.events)
    }

    /// This peer's own record.
    #[must_use]
    pub fn me(&self) -> &PeerRecord {
        &self.me
    }

    /// The record of another peer.
    #[must_use]
    pub fn record(&self, peer: PeerName) -> Option<&PeerRecord> {
        self.gossip.store().record(peer)
    }

    /// True while a path of links reaches `peer`.
    #[must_use]
    pub fn reached(&self, peer: PeerName) -> bool {
        self.topology.reached(peer)
    }

    /// The targets, in the order given.
    #[must_use]
    pub fn targets(&self) -> &[Target] {
        self.dialer.targets()
    }

    /// Peers whose links are past the hello.
    #[must_use]
    pub fn linked(&self) -> &BTreeSet<PeerName> {
        &self.linked
    }

    /// A link is past the hello, or one that was is gone.
    pub(super) fn relink(&mut self, now: Instant) {
        self.linked = self.links.values().filter_map(|l| l.up.as_ref()).map(|up| up.peer).collect();
        self.paths.set_linked(&self.linked, now);
    }

    /// Makes `targets` the targets.
    pub fn set_targets(&mut self, targets: Vec<Target>, now: Instant) {
        self.dialer.set_targets(targets, now);
        self.settle(now);
    }

    /// The host's addresses or MTUs changed. `inner_mtu` is the largest inner IP packet in bytes that this host receives:
    /// peers read it as their bound.
    pub fn set_underlay(&mut self, underlay: &Underlay, inner_mtu: u32, now: Instant) {
        let addrs: Vec<_> = underlay.addrs.iter().copied().take(ADDRS_MAX).collect();
        self.paths.set_mtu(underlay.default_mtu, now);
        if self.me.mtu != inner_mtu {
            self.me.mtu = inner_mtu;
            self.touch(now);
        }
        if self.me.addrs != addrs {
            self.dialer.set_own(addrs.clone());
            self.me.addrs = addrs;
            self.touch(now);
            // Where others may be found depends on what this host has itself.
            for peer in self.others().map(|record| record.name).collect::<Vec<_>>() {
                self.learn(peer, now);
            }
        }
        self.settle(now);
    }

    /// The route to where `peer` is sent to directly takes outer IP packets of at most `mtu` bytes.
    pub fn set_egress_mtu(&mut self, peer: PeerName, mtu: u32, now: Instant) {
        self.paths.set_egress_mtu(peer, mtu, now);
        self.settle(now);
    }

    /// Containers, or peers that relay through this host, sent to these peers.
    pub fn traffic(&mut self, peers: &[PeerName], now: Instant) {
        // What is relayed depends on the way to the one that relays.
        let vias = peers.iter().filter_map(|peer| self.ways.get(peer)).map(|way| way.tunnel.via);
        let active: BTreeSet<PeerName> = peers.iter().copied().chain(vias).collect();
        let active: Vec<PeerName> = active.into_iter().collect();
        self.paths.traffic(&active, now);
        self.settle(now);
    }

    /// A link is open: say hello.
    pub fn link_opened(
        &mut self,
        id: LinkId,
        remote: SocketAddr,
        direction: Direction,
        binding: Binding,
        now: Instant,
    ) {
        if let Direction::Outbound(dial) = direction {
            self.dialer.opened(dial, id);
        }
        let link = Link::new(remote, direction, binding, self.rng.bits(), now);
        self.nonces.truncate(NONCES_MAX - 1);
        self.nonces.push_front(link.nonce);
        // Who says hello is to be found. Links are told of when they are settled: one may take another's place right now.
        let told = self.gossip.store().record(self.me.name);
        if told.is_none_or(|told| (&told.addrs, told.mtu) != (&self.me.addrs, self.me.mtu)) {
            self.publish(now);
        }
        let (min_version, max_version) = wire::VERSIONS;
        let proof = super::entry::hello_proof(&self.key, &binding, link.outbound());
        let (nonce, entry) = (link.nonce, self.raw.to_vec());
        self.look_at_links(link.poll_timeout());
        self.links.insert(id, link);
        let hello = Hello { min_version, max_version, features: Vec::new(), nonce, entry, proof };
        self.send(id, &Message::Hello(Box::new(hello)));
        self.settle(now);
    }

    /// A link is gone.
    pub fn link_closed(&mut self, id: LinkId, reason: &str, now: Instant) {
        // One that this peer closes is not among them any more.
        if let Some(peer) = self.remove_link(id, reason, now) {
            self.ended_its_last_link(peer, now);
        }
        self.settle(now);
    }

    /// The peer whose last link that was, if it was one.
    fn remove_link(&mut self, id: LinkId, reason: &str, now: Instant) -> Option<PeerName> {
        let link = self.links.remove(&id)?;
        self.gossip.link_down(id);
        let peer = link.up.as_ref().map(|up| up.peer);
        self.relink(now);
        // A duplicate that went changes nothing for the peer: another link to it stays.
        let lost = peer.filter(|p| !self.linked.contains(p));
        let end = End { lived: now.since(link.since), reached: peer.is_some_and(|p| self.topology.reached(p)), reason };
        self.dialer.closed(id, lost, &end, now, &mut self.rng);
        if let Some(peer) = lost {
            self.doubts.unlinked(peer);
            self.log(Severity::Info, format!("link to {peer} at {} is gone: {reason}", link.remote));
            self.refresh_way(peer, now);
            self.look_for_peers(now);
        }
        if peer.is_some() {
            self.touch(now);
        }
        lost
    }

    /// An attempt failed.
    pub fn dial_failed(&mut self, dial: DialId, reason: &str, now: Instant) {
        self.dialer.failed(dial, reason, now, &mut self.rng);
        self.settle(now);
    }

    /// A frame came.
    pub fn frame(&mut self, id: LinkId, bytes: &[u8], now: Instant) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.heard = now;
        let from = link.up.as_ref().map(|up| up.peer);
        let up = from.is_some();
        match Message::decode(bytes) {
            Ok(message) => self.message(id, up, message, now),
            Err(error) if up => {
                self.unreadable += 1;
                self.log(Severity::Warn, format!("skipped {error} from link {}", id.0));
            }
            Err(error) => self.close(id, &format!("the other side sent {error}"), now),
        }
        self.settle(now);
        if let Some(from) = from {
            self.relay_spoke(from, now);
        }
    }

    fn message(&mut self, id: LinkId, up: bool, message: Message, now: Instant) {
        match message {
            Message::Bye(reason) => self.close(id, &format!("refused by the other side: {reason}"), now),
            Message::Hello(hello) if !up => self.hello(id, &hello, now),
            Message::Hello(_) => self.unreadable += 1,
            _ if !up => self.close(id, "the other side did not begin with hello", now),
            Message::Ring(ring) => {
                let from = self.links.get(&id).and_then(|link| link.up.as_ref()).map(|up| up.peer);
                self.events.extend(from.map(|from| MeshEvent::Ring(id, from, ring)));
            }
            Message::RingSum(sum) => self.events.push_back(MeshEvent::RingSum(id, sum)),
            Message::Ping | Message::Unknown(_) => {}
            gossip => {
                let topology = &self.topology;
                self.gossip.message(id, gossip, &|peer, uid| topology.alive(peer, uid), now);
            }
        }
    }

    /// A probe came on the data port.
    pub fn probe(&mut self, from: SocketAddrV4, bytes: &[u8], now: Instant) {
        if let Some(claim) = self.paths.probe(from, bytes, now)
            && self.is_true(&claim)
        {
            self.paths.proven(&claim, now);
        }
        self.settle(now);
    }

    pub(super) fn around(&self) -> Around<'_> {
        let others = self.gossip.store().owners().saturating_sub(1);
        Around {
            me: self.me.name,
            linked: &self.linked,
            wanted: (links_wanted(others, self.conn_limit), self.conn_limit),
            topology: &self.topology,
        }
    }

    /// This peer's record changed: sign and tell it soon.
    pub(super) fn touch(&mut self, now: Instant) {
        let at = (now + PUBLISH_AFTER).max(self.pace.next(self.gossip.store().owners()));
        self.publish_at.get_or_insert(at);
    }

    pub(super) fn publish(&mut self, now: Instant) {
        self.publish_at = None;
        self.look_at_own_links();
        // A link that came and went, or a change that was taken back, is nothing to tell all peers of.
        let told = self.gossip.store().record(self.me.name);
        if told.is_some_and(|told| *told == self.me) {
            return;
        }
        self.pace.step(self.gossip.store().owners(), now);
        self.me.version += 1;
        self.raw = sign_record(&self.key, &self.me).into();
        match self.gossip.open(&self.raw) {
            Ok(entry) => self.gossip.publish(entry, now),
            Err(error) => self.log(Severity::Warn, format!("this peer's own record cannot be told: {error}")),
        }
        self.topology.changed(self.gossip.store().owners(), now);
        self.say_again(now);
    }

    /// Puts into this peer's record what links it has.
    fn look_at_own_links(&mut self) {
        let up = self.links.values().filter_map(|link| link.up.as_ref().map(|up| (link, up)));
        let mut links: BTreeMap<PeerName, RecordLink> = BTreeMap::new();
        for (link, up) in up {
            let direct = self.paths.direct(up.peer);
            let record = RecordLink {
                peer: up.peer,
                uid: up.uid,
                address: link.remote.to_string(),
                outbound: link.outbound(),
                established: direct.is_some(),
                path_mtu: direct.map_or(0, |direct| direct.path_mtu),
            };
            links.insert(up.peer, record);
        }
        let narrow = self.narrow.iter().filter(|(peer, _)| !links.contains_key(peer));
        self.me.narrow = narrow.map(|(peer, mtu)| (*peer, *mtu)).take(NARROW_MAX).collect();
        self.me.links = links.into_values().take(RECORD_LINKS_MAX).collect();
    }

    pub(super) fn close(&mut self, id: LinkId, reason: &str, now: Instant) {
        self.out.push_back(Output::Close { link: id, reason: reason.to_owned() });
        self.remove_link(id, reason, now);
    }

    pub(super) fn dial(&mut self, now: Instant) {
        let wanted = self.around().wanted;
        let around = Around { me: self.me.name, linked: &self.linked, wanted, topology: &self.topology };
        let due = self.dialer.due(around, self.gossip.store(), now, &mut self.rng);
        self.out.extend(due.into_iter().map(|(dial, target)| Output::Dial { dial, target }));
    }

    pub(super) fn log(&mut self, severity: Severity, text: String) {
        self.out.push_back(Output::Event(Event { severity, text }));
    }
}

#[cfg(test)]
mod tests;
