//! Hosts with real `Paths` on a small network in virtual time: delay, loss, cuts, closed ports, size limits, NAT.

mod forged;
mod life;
mod scale;
mod sizes;

use std::collections::{BTreeMap, BTreeSet};

use super::*;

pub(super) const DATA: u16 = 6784;
/// Probes leave from here, and what is sent here does not pass the data path.
pub(super) const CONTROL: u16 = 6783;
pub(super) const DELAY: Duration = Duration::from_millis(5);

pub(super) fn name(n: u8) -> PeerName {
    PeerName::from_bytes([0, 0, 0, 0, 0, n])
}

pub(super) fn ip(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, n)
}

pub(super) fn data(n: u8) -> SocketAddrV4 {
    SocketAddrV4::new(ip(n), DATA)
}

pub(super) fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(super) fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(super) fn cookie(n: u8) -> u64 {
    0xc000 + u64::from(n)
}

pub(super) fn key(n: u8) -> SecretKey {
    SecretKey::new(&mut Rng::new([n; 32]))
}

pub(super) fn facts(n: u8) -> PeerFacts {
    PeerFacts { cookie: cookie(n), candidates: vec![data(n)], before: None, probe_port: CONTROL, mtu: 1500 }
}

pub(super) fn paths(n: u8, cookie: u64, seed: u8) -> Paths {
    Paths::new(name(n), cookie, key(n), Rng::new([seed; 32]))
}

/// A datagram on its way.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) sender: u8,
    pub(super) from: SocketAddrV4,
    pub(super) to: SocketAddrV4,
    pub(super) bytes: Vec<u8>,
}

/// A host behind a translator: all it sends leaves from `public`, where only answers come in; a port is forwarded to its
/// data port.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nat {
    pub(super) public: SocketAddrV4,
    pub(super) forwarded: u16,
}

pub(super) struct Net {
    pub(super) now: Instant,
    pub(super) hosts: BTreeMap<u8, Paths>,
    /// Further addresses of hosts.
    pub(super) also: BTreeMap<Ipv4Addr, u8>,
    pub(super) dead: BTreeSet<Ipv4Addr>,
    pub(super) nat: BTreeMap<u8, Nat>,
    /// Whom hosts behind translators sent to.
    opened: BTreeSet<(u8, SocketAddrV4)>,
    /// Nothing goes from the first to the second.
    pub(super) cut: BTreeSet<(u8, u8)>,
    /// The same for the data port of the second alone.
    pub(super) closed: BTreeSet<(u8, u8)>,
    /// Packets in a thousand that are lost.
    pub(super) loss: u64,
    /// What else is lost.
    pub(super) lose: Box<dyn FnMut(&Packet) -> bool>,
    /// Largest outer packet.
    pub(super) limit: u32,
    /// Of each packet.
    pub(super) delay: Duration,
    pub(super) events: Vec<(Instant, u8, PathEvent)>,
    pub(super) log: Vec<(Instant, Packet)>,
    wire: BTreeMap<(Instant, u64), Packet>,
    number: u64,
    rng: Rng,
}

impl Net {
    pub(super) fn new(seed: u8) -> Self {
        Self {
            now: Instant::from_start(secs(1000)),
            hosts: BTreeMap::new(),
            also: BTreeMap::new(),
            dead: BTreeSet::new(),
            nat: BTreeMap::new(),
            opened: BTreeSet::new(),
            cut: BTreeSet::new(),
            closed: BTreeSet::new(),
            loss: 0,
            lose: Box::new(|_| false),
            limit: 100_000,
            delay: DELAY,
            events: Vec::new(),
            log: Vec::new(),
            wire: BTreeMap::new(),
            number: 0,
            rng: Rng::new([seed ^ 0xff; 32]),
        }
    }

    /// Two hosts, 1 and 2, that know each other.
    pub(super) fn pair(seed: u8) -> Self {
        Self::pair_with_mtu(seed, 1500)
    }

    pub(super) fn pair_with_mtu(seed: u8, mtu: u32) -> Self {
        let mut net = Self::new(seed);
        for (n, other) in [(1, 2), (2, 1)] {
            let mut host = paths(n, cookie(n), seed.wrapping_add(n));
            host.set_mtu(mtu, net.now);
            host.set_peer(name(other), PeerFacts { mtu, ..facts(other) }, net.now);
            net.hosts.insert(n, host);
        }
        net
    }

    pub(super) fn host(&mut self, n: u8) -> &mut Paths {
        self.hosts.get_mut(&n).unwrap()
    }

    pub(super) fn link_pair(&mut self) {
        let now = self.now;
        self.host(1).set_linked(&BTreeSet::from([name(2)]), now);
        self.host(2).set_linked(&BTreeSet::from([name(1)]), now);
    }

    pub(super) fn direct(&self, n: u8, other: u8) -> Option<Direct> {
        self.hosts[&n].direct(name(other))
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.drain();
            let timers = self.hosts.values().filter_map(Paths::poll_timeout);
            let next = timers.chain(self.wire.keys().next().map(|(at, _)| *at)).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            while let Some(((at, _), _)) = self.wire.first_key_value() {
                if *at > self.now {
                    break;
                }
                let (_, packet) = self.wire.pop_first().unwrap();
                self.arrive(packet);
            }
            for host in self.hosts.values_mut() {
                host.handle_timeout(self.now);
                assert!(host.poll_timeout().is_none_or(|at| at > self.now), "spins");
            }
        }
        self.now = end;
    }

    /// Lets time pass while 1 and 2 have traffic for each other, told about each second.
    pub(super) fn run_active(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            let now = self.now;
            self.host(1).traffic(&[name(2)], now);
            self.host(2).traffic(&[name(1)], now);
            self.run(end.since(now).min(secs(1)));
        }
    }

    /// Lets time pass with traffic until `what`, at most `limit`; returns how long that took.
    pub(super) fn until(&mut self, limit: Duration, what: impl Fn(&Self) -> bool) -> Option<Duration> {
        let start = self.now;
        while self.now.since(start) <= limit {
            if what(self) {
                return Some(self.now.since(start));
            }
            self.run_active(millis(10));
        }
        None
    }

    /// What host `n` was told of its peers since the last call, without addresses heard.
    pub(super) fn changes(&mut self, n: u8) -> Vec<PathEvent> {
        let (mine, others) = std::mem::take(&mut self.events).into_iter().partition(|(_, host, _)| *host == n);
        self.events = others;
        let mine: Vec<(Instant, u8, PathEvent)> = mine;
        mine.into_iter().map(|(_, _, e)| e).filter(|e| !matches!(e, PathEvent::Heard(..))).collect()
    }

    /// Sizes of the outer packets that `n` sent since `since`.
    pub(super) fn sizes(&self, n: u8, since: Instant) -> Vec<u32> {
        let mine = self.log.iter().filter(|(at, p)| *at >= since && p.sender == n);
        mine.map(|(_, p)| u32::from(probe::outer_len(&p.bytes))).collect()
    }

    fn drain(&mut self) {
        for n in self.hosts.keys().copied().collect::<Vec<_>>() {
            while let Some(event) = self.host(n).poll_event() {
                self.events.push((self.now, n, event));
            }
            while let Some((to, bytes)) = self.host(n).poll_probe() {
                let from = self.nat.get(&n).map_or(SocketAddrV4::new(ip(n), CONTROL), |nat| nat.public);
                self.send(Packet { sender: n, from, to, bytes });
            }
        }
    }

    pub(super) fn send(&mut self, packet: Packet) {
        self.log.push((self.now, packet.clone()));
        let lost = self.rng.below(1000) < self.loss || (self.lose)(&packet);
        if !lost && u32::from(probe::outer_len(&packet.bytes)) <= self.limit {
            self.number += 1;
            self.wire.insert((self.now + self.delay, self.number), packet);
        }
    }

    fn arrive(&mut self, packet: Packet) {
        if self.nat.contains_key(&packet.sender) {
            self.opened.insert((packet.sender, packet.to));
        }
        let Some((to, port)) = self.find(packet.from, packet.to).filter(|_| !self.dead.contains(packet.to.ip())) else {
            return;
        };
        let way = (packet.sender, to);
        if self.cut.contains(&way) || (port == DATA && self.closed.contains(&way)) {
            return;
        }
        let now = self.now;
        if let Some(host) = self.hosts.get_mut(&to) {
            let claim = host.probe(packet.from, &packet.bytes, now);
            let proven = |claim: &Claim| {
                let [.., sender] = claim.reply.sender.bytes();
                claim.proof.seen == ip(to) && claim.reply.is_proven(&claim.proof, &key(sender).public())
            };
            if let Some(claim) = claim.filter(proven) {
                host.proven(&claim, now);
            }
        }
    }

    /// Who is reached at `addr`, and on which port of its own.
    fn find(&self, from: SocketAddrV4, addr: SocketAddrV4) -> Option<(u8, u16)> {
        if let Some((n, nat)) = self.nat.iter().find(|(_, nat)| nat.public.ip() == addr.ip()) {
            return match addr.port() {
                port if port == nat.forwarded => Some((*n, DATA)),
                port if port == nat.public.port() => self.opened.contains(&(*n, from)).then_some((*n, CONTROL)),
                _ => None,
            };
        }
        let n = self.also.get(addr.ip()).copied().or_else(|| self.hosts.keys().copied().find(|n| ip(*n) == *addr.ip()));
        n.filter(|n| !self.nat.contains_key(n)).map(|n| (n, addr.port()))
    }
}

#[test]
fn what_is_known_of_a_path_is_small() {
    assert!(size_of::<Peer>() <= 256, "{}", size_of::<Peer>());
}
