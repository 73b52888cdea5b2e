//! A made-up underlay for one set of paths: routes, addresses that answer, relays that pass, sizes that fit.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;
use crate::proto::io::MapOp;

pub(super) const ME: PeerName = PeerName::from_bytes([0, 0, 0, 0, 0, 1]);
pub(super) const PEER: PeerName = PeerName::from_bytes([0, 0, 0, 0, 0, 2]);
pub(super) const RELAY: PeerName = PeerName::from_bytes([0, 0, 0, 0, 0, 3]);
pub(super) const OTHER_RELAY: PeerName = PeerName::from_bytes([0, 0, 0, 0, 0, 4]);
/// Time from a probe to its answer.
pub(super) const RTT: Duration = Duration::from_millis(2);
/// Time between two looks of the shell at the traffic.
const LOOK: Duration = Duration::from_millis(100);

pub(super) fn name(n: u16) -> PeerName {
    let [a, b] = n.to_be_bytes();
    PeerName::from_bytes([0, 0, 0, 0, a, b])
}

/// The key of peer `n`: this one is number 1, [`PEER`] number 2.
pub(super) fn key(n: u8) -> SecretKey {
    SecretKey::from_bytes([n; 32])
}

pub(super) fn addr(peer: PeerName) -> SocketAddrV4 {
    let [.., a, b] = peer.bytes();
    SocketAddrV4::new(Ipv4Addr::new(192, 168, a, b), 6784)
}

pub(super) fn egress(to: SocketAddrV4, mtu: u32) -> Egress {
    Egress { ifindex: 2, next_hop: *to.ip(), source: *addr(ME).ip(), mtu }
}

/// See the head of this file.
pub(super) struct Net {
    pub(super) paths: Paths,
    pub(super) now: Instant,
    pub(super) key: SecretKey,
    /// MTU of the routes that there are not by default (1500); zero: none.
    routes: BTreeMap<Ipv4Addr, u32>,
    /// Outer destinations that carry nothing.
    dead: BTreeSet<SocketAddrV4>,
    /// Relays that do not pass on what is for this peer.
    broken: BTreeSet<(PeerName, PeerName)>,
    /// Addresses that answer only probes from data port to data port.
    pub(super) fixed_only: BTreeSet<SocketAddrV4>,
    /// Largest outer packet to an address.
    pub(super) limits: BTreeMap<SocketAddrV4, u32>,
    /// Peers with traffic both ways, to this host only, or from this host only.
    pub(super) traffic: BTreeMap<PeerName, Traffic>,
    replies: VecDeque<(Instant, ProbeReply)>,
    pub(super) probes: Vec<(Instant, ProbeRequest)>,
    pub(super) selected: Vec<(Instant, PeerName, TunnelTo)>,
    pub(super) senders: BTreeMap<PeerName, BTreeSet<Ipv4Addr>>,
    pub(super) watched: BTreeSet<Ipv4Addr>,
    pub(super) neighbours: BTreeSet<PeerName>,
    pub(super) device_mtu: Option<u32>,
    pub(super) total: u64,
    pub(super) small: u64,
    /// Peers to which nothing passes, while their own packets arrive.
    one_way: BTreeSet<PeerName>,
    /// Peers whose packets come by another path than the active one.
    pub(super) elsewhere: BTreeSet<PeerName>,
    /// Probes lost, of a hundred.
    pub(super) loss: u64,
    /// Answers do not reach the core.
    pub(super) withhold: bool,
    rng: Rng,
    look: Instant,
}

/// Traffic with a peer, as containers make it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Traffic {
    pub(super) out: bool,
    pub(super) back: bool,
    pub(super) big: bool,
}

impl Net {
    pub(super) fn new() -> Self {
        Self::with(Installed::default())
    }

    pub(super) fn inheriting(peer: PeerName, path: TunnelTo) -> Self {
        Self::with(Installed { maps: vec![MapOp::PutTunnel(peer, path)], ..Installed::default() })
    }

    fn with(installed: Installed) -> Self {
        let now = Instant::from_start(Duration::from_secs(1));
        let key = key(1);
        let mut paths = Paths::new(ME, key.clone(), 6784, &installed, Rng::new([9; 32]), now);
        paths.set_own(&[*addr(ME).ip()]);
        Self {
            paths,
            now,
            key,
            routes: BTreeMap::new(),
            dead: BTreeSet::new(),
            broken: BTreeSet::new(),
            fixed_only: BTreeSet::new(),
            limits: BTreeMap::new(),
            traffic: BTreeMap::new(),
            replies: VecDeque::new(),
            probes: Vec::new(),
            selected: Vec::new(),
            senders: BTreeMap::new(),
            watched: BTreeSet::new(),
            neighbours: BTreeSet::new(),
            device_mtu: None,
            total: 0,
            small: 0,
            one_way: BTreeSet::new(),
            elsewhere: BTreeSet::new(),
            loss: 0,
            withhold: false,
            rng: Rng::new([3; 32]),
            look: now,
        }
    }

    /// A probe was passed up; the only peer whose key is known is [`PEER`].
    pub(super) fn contact(&mut self, contact: &Contact) {
        self.paths.contact(contact, &|peer| (peer == PEER).then(|| key(2).public()), self.now);
    }

    pub(super) fn advertise(&mut self, peer: PeerName) {
        self.paths.set_peer(peer, vec![addr(peer)], 0, self.now);
        self.drain();
    }

    pub(super) fn session(&mut self, peer: PeerName) {
        self.paths.set_session(peer, Some(addr(peer)), self.now);
        self.paths.set_reported(peer, true, self.now);
        self.drain();
    }

    /// A peer with a session, to which a direct path answers.
    pub(super) fn join_relay(&mut self, peer: PeerName) {
        self.advertise(peer);
        self.session(peer);
        self.run(Duration::from_millis(1000));
        assert!(self.paths.direct(peer).is_some());
    }

    /// Traffic both ways.
    pub(super) fn busy(&mut self, peer: PeerName) {
        self.traffic.insert(peer, Traffic { out: true, back: true, big: false });
        self.advertise(peer);
    }

    pub(super) fn dead(&mut self, at: SocketAddrV4) {
        self.dead.insert(at);
    }

    /// From now on nothing passes to the address of a peer, while its own packets arrive.
    pub(super) fn one_way(&mut self, peer: PeerName) {
        self.dead(addr(peer));
        self.one_way.insert(peer);
    }

    pub(super) fn revive(&mut self, at: SocketAddrV4) {
        self.dead.remove(&at);
    }

    pub(super) fn break_relay(&mut self, relay: PeerName, peer: PeerName) {
        self.broken.insert((relay, peer));
    }

    pub(super) fn no_route(&mut self, to: SocketAddrV4) {
        self.routes.insert(*to.ip(), 0);
    }

    pub(super) fn route(&mut self, to: SocketAddrV4, mtu: u32) {
        self.routes.insert(*to.ip(), mtu);
        self.paths.set_egress(*to.ip(), Some(egress(to, mtu)), self.now);
        self.drain();
    }

    /// Probes for a peer so far.
    pub(super) fn sent_to(&self, peer: PeerName) -> usize {
        self.probes.iter().filter(|(_, probe)| probe.receiver == peer).count()
    }

    /// Whether packets by the active path reach the peer.
    pub(super) fn passes(&self, peer: PeerName) -> bool {
        let Some(path) = self.paths.active(peer) else { return false };
        self.carries(path.remote, path.fixed, peer, 100)
    }

    fn carries(&self, to: SocketAddrV4, fixed: bool, peer: PeerName, size: u32) -> bool {
        let fits = self.limits.get(&to).is_none_or(|limit| size <= *limit);
        let relay = to != addr(peer) && self.broken.iter().any(|(relay, other)| addr(*relay) == to && *other == peer);
        fits && !relay && !self.dead.contains(&to) && (fixed || !self.fixed_only.contains(&to))
    }

    /// Lets `time` pass.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.drain();
            let reply = self.replies.front().map(|(at, _)| *at);
            let next = [self.paths.poll_timeout(), reply, Some(self.look)].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            if let Some((_, reply)) = self.replies.pop_front_if(|(at, _)| *at <= next) {
                self.paths.reply(&reply, self.now);
            } else if self.look <= self.now {
                self.look = self.look + LOOK;
                self.look_at_traffic();
            } else {
                self.paths.handle_timeout(self.now);
            }
        }
        self.now = end;
    }

    /// What the shell reads from the kernel's tables.
    fn look_at_traffic(&mut self) {
        let seen = self.traffic.iter().map(|(peer, traffic)| {
            let arrives = self.one_way.contains(peer) || !self.dead.contains(&addr(*peer));
            let back = traffic.back && arrives;
            let relayed = self.paths.active(*peer).is_some_and(|path| path.via != *peer && self.passes(*peer));
            let elsewhere = self.elsewhere.contains(peer);
            let heard = !elsewhere && (back || (traffic.back && relayed));
            Activity { peer: *peer, sent: traffic.out, big: traffic.big, heard, elsewhere }
        });
        let seen: Vec<Activity> = seen.collect();
        self.paths.activity(&seen, self.now);
    }

    fn drain(&mut self) {
        loop {
            while let Some(event) = self.paths.poll_event() {
                self.event(event);
            }
            let Some(probe) = self.paths.poll_probe() else { return };
            self.total += 1;
            self.small += u64::from(probe.size <= SMALLEST);
            let lost = self.withhold || self.rng.below(100) < self.loss;
            if !lost
                && self.carries(probe.to, probe.source_port.is_some(), probe.receiver, probe.size)
                && matches!(probe.kind, ProbeKind::Request)
            {
                let reply = ProbeReply {
                    peer: probe.receiver,
                    path_id: probe.path_id,
                    sent_at: probe.sent_at,
                    received_at: self.now + RTT,
                    size: u16::try_from(probe.size).unwrap_or(u16::MAX),
                    hops: u8::from(probe.to != addr(probe.receiver)),
                };
                self.replies.push_back((self.now + RTT, reply));
            }
            self.probes.push((self.now, probe));
        }
    }

    fn event(&mut self, event: PathEvent) {
        match event {
            PathEvent::Selected { peer, path, .. } => self.selected.push((self.now, peer, path)),
            PathEvent::Senders(peer, addrs) => drop(self.senders.insert(peer, addrs)),
            PathEvent::Neighbour(peer) => {
                if !self.neighbours.remove(&peer) {
                    self.neighbours.insert(peer);
                }
            }
            PathEvent::Watch(ip) => {
                self.watched.insert(ip);
                let mtu = self.routes.get(&ip).copied().unwrap_or(1500);
                let route = (mtu > 0).then(|| egress(SocketAddrV4::new(ip, 0), mtu));
                self.paths.set_egress(ip, route, self.now);
            }
            PathEvent::Unwatch(ip) => drop(self.watched.remove(&ip)),
            PathEvent::DeviceMtus(mtus) => self.device_mtu = mtus.map(|(smallest, _)| smallest),
        }
    }
}
