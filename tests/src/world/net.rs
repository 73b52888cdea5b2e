//! The simulated underlay: who has which address, and what passes between two hosts.
//!
//! TCP (control) and UDP (data) are cut apart from each other, data one way at a time. A cut of TCP in either direction
//! stalls a connection both ways, so it is kept for the pair. What an underlay never carries is kept apart from what is
//! cut for a while. A host behind NAT can dial out and nobody can dial it. Its packets come from the router's address and
//! from a port there for each of its own (another one for the data port, the same for those of flows), which leads back to
//! that port for those to whom the host has sent from it within [`OPEN_FOR`]: from the very address and port that it sent to
//! (RFC 4787 calls that address and port-dependent filtering). The data port is reached by its own number only where the
//! router forwards it. A host behind a stateful filter keeps its address and ports, and is reached likewise.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use weave_ctl::proto::time::Instant;

use super::HostId;

/// TCP port of every host's control plane.
pub const CONTROL_PORT: u16 = 6783;
/// UDP port of every host's data plane.
pub const DATA_PORT: u16 = 6784;
/// An address that every host has on a device of its own, as container engines make it. Packets to it stay where they are.
pub const BRIDGE: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 1);
/// MTU in bytes of hosts and paths without a limit.
pub const MTU: u32 = 1500;
/// The port that flows of containers' packets leave from: the first of the dynamic range. Probes by flow leave from others.
pub const FLOW_PORT: u16 = 49152;
/// How long NAT lets answers in: Linux's time for an exchange of a few packets, `nf_conntrack_udp_timeout`.
pub const OPEN_FOR: Duration = Duration::from_secs(30);
/// Entries of NATs and filters that are kept before old ones are removed, at least.
const SWEEP_MIN: usize = 64;
/// First of the ports that NAT maps data ports to.
const MAPPED_DATA: u16 = 30000;

/// Number of a host and pair of hosts in order.
fn pair(a: HostId, b: HostId) -> (HostId, HostId) {
    (a.min(b), a.max(b))
}

/// The address of a host on its own underlay device.
#[must_use]
pub fn underlay(host: HostId) -> Ipv4Addr {
    let [high, low] = host.to_be_bytes();
    Ipv4Addr::new(192, 168, high, low)
}

/// Address of the router of a host behind NAT.
#[must_use]
pub fn router(host: HostId) -> Ipv4Addr {
    let [high, low] = host.to_be_bytes();
    Ipv4Addr::new(198, 18, high, low)
}

/// How a host is connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Nat {
    /// Everybody reaches it.
    #[default]
    None,
    /// Behind a router that forwards its data port.
    Forwarding,
    /// Behind a router that forwards nothing: packets reach it only as answers, at mapped ports.
    Closed,
    /// Behind a filter that lets in answers only; its address is its own.
    Stateful,
}

impl Nat {
    /// True when others see another address than the host's own.
    #[must_use]
    pub fn translates(self) -> bool {
        matches!(self, Self::Forwarding | Self::Closed)
    }
}

/// A packet that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Passed {
    /// Who receives it.
    pub(super) host: HostId,
    /// At which port of its own.
    pub(super) port: u16,
    /// Whom it comes from, as the receiver sees it.
    pub(super) source: SocketAddrV4,
}

/// What a cut stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// UDP: probes and containers' packets.
    Data,
    /// TCP: links and attempts at them.
    Control,
    /// Both.
    All,
}

/// Why the underlay does not carry a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// The way is cut in this direction.
    Cut,
    /// The receiver's firewall takes no packets on that port.
    Filtered,
    /// Larger than the path, or than the sender's device.
    TooBig,
    /// Nobody has that address, or not where the sender is.
    NoHost,
    /// The host is there, but takes no such packets on that port.
    NoPort,
    /// Its NAT or filter lets in only answers to what it sent lately.
    Shut,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cut => "the way is cut",
            Self::Filtered => "the port is filtered",
            Self::TooBig => "larger than the path",
            Self::NoHost => "nobody has that address there",
            Self::NoPort => "nobody listens on that port",
            Self::Shut => "its NAT or filter lets in answers only",
        })
    }
}

/// Pairs of hosts between which something does not pass.
#[derive(Default)]
struct Cuts {
    /// From, to.
    data: BTreeSet<(HostId, HostId)>,
    /// Pairs in order.
    control: BTreeSet<(HostId, HostId)>,
}

impl Cuts {
    fn add(&mut self, from: HostId, to: HostId, what: What) {
        if what != What::Control {
            self.data.insert((from, to));
        }
        if what != What::Data {
            self.control.insert(pair(from, to));
        }
    }

    fn remove(&mut self, a: HostId, b: HostId) {
        self.data.remove(&(a, b));
        self.data.remove(&(b, a));
        self.control.remove(&pair(a, b));
    }

    fn stop_data(&self, from: HostId, to: HostId) -> bool {
        self.data.contains(&(from, to))
    }

    fn stop_control(&self, a: HostId, b: HostId) -> bool {
        self.control.contains(&pair(a, b))
    }
}

/// See the head of this file.
#[derive(Default)]
pub(super) struct Net {
    /// What is broken until it is mended.
    cuts: Cuts,
    /// What this underlay never carries.
    gaps: Cuts,
    /// Sides of a partition; hosts that are not named are together on one more.
    sides: BTreeMap<HostId, u32>,
    data_filtered: BTreeSet<HostId>,
    control_filtered: BTreeSet<HostId>,
    limits: BTreeMap<(HostId, HostId), u32>,
    natted: BTreeMap<HostId, Nat>,
    /// To which addresses a port of a host behind NAT or a filter sent, and when last.
    opened: BTreeMap<(HostId, u16, SocketAddrV4), Instant>,
    /// Old ones of these are removed when there are more than this: a look at all of them for each packet costs most of a run.
    sweep_at: usize,
    mtus: BTreeMap<HostId, u32>,
}

impl Net {
    /// Says how a host is connected; for its whole life.
    pub(super) fn place(&mut self, host: HostId, nat: Nat, mtu: u32) {
        if nat != Nat::None {
            self.natted.insert(host, nat);
        }
        if mtu != MTU {
            self.mtus.insert(host, mtu);
        }
    }

    pub(super) fn nat(&self, host: HostId) -> Nat {
        self.natted.get(&host).copied().unwrap_or_default()
    }

    /// MTU in bytes of a host's own device.
    pub(super) fn mtu(&self, host: HostId) -> u32 {
        self.mtus.get(&host).copied().unwrap_or(MTU)
    }

    pub(super) fn cut(&mut self, from: HostId, to: HostId, what: What) {
        self.cuts.add(from, to, what);
    }

    /// As [`Self::cut`], for good: nothing mends it.
    pub(super) fn never(&mut self, from: HostId, to: HostId, what: What) {
        self.gaps.add(from, to, what);
    }

    /// Ends the cuts between two hosts.
    pub(super) fn mend(&mut self, a: HostId, b: HostId) {
        self.cuts.remove(a, b);
    }

    /// True when two hosts can have a link over which data passes both ways, while nothing is cut or filtered.
    pub(super) fn joinable(&self, a: HostId, b: HostId) -> bool {
        let gaps = self.gaps.stop_data(a, b) || self.gaps.stop_data(b, a) || self.gaps.stop_control(a, b);
        let behind = self.natted.contains_key(&a) && self.natted.contains_key(&b);
        !gaps && !behind
    }

    /// Puts hosts on sides between which nothing passes.
    pub(super) fn divide(&mut self, sides: BTreeMap<HostId, u32>) {
        self.sides = sides;
    }

    pub(super) fn filter(&mut self, host: HostId, what: What) {
        if what != What::Control {
            self.data_filtered.insert(host);
        }
        if what != What::Data {
            self.control_filtered.insert(host);
        }
    }

    /// Limits the outer IP packets between two hosts, in bytes.
    pub(super) fn limit(&mut self, a: HostId, b: HostId, mtu: u32) {
        self.limits.insert(pair(a, b), mtu);
    }

    /// Ends everything but gaps and NAT.
    pub(super) fn heal(&mut self) {
        let Self { gaps, natted, opened, mtus, .. } = std::mem::take(self);
        *self = Self { gaps, natted, opened, mtus, ..Self::default() };
    }

    fn apart(&self, a: HostId, b: HostId) -> bool {
        !self.sides.is_empty() && self.sides.get(&a) != self.sides.get(&b)
    }

    /// True when segments of a TCP connection between two hosts pass both ways.
    pub(super) fn control(&self, a: HostId, b: HostId) -> bool {
        !self.apart(a, b) && !self.cuts.stop_control(a, b) && !self.gaps.stop_control(a, b)
    }

    /// True when a connection from one to the other can come about.
    pub(super) fn dialable(&self, from: HostId, to: HostId) -> bool {
        from == to || (self.control(from, to) && !self.control_filtered.contains(&to) && !self.natted.contains_key(&to))
    }

    /// True when the hosts' data ports reach each other, both ways.
    pub(super) fn data_both_ways(&self, a: HostId, b: HostId) -> bool {
        self.data(a, b).is_ok() && self.data(b, a).is_ok()
    }

    /// Whether packets pass to where the other takes those of containers.
    fn data(&self, from: HostId, to: HostId) -> Result<(), Stop> {
        self.udp(from, to)?;
        if self.data_filtered.contains(&to) {
            return Err(Stop::Filtered);
        }
        // Neither can send first to where the other lets it in.
        let both_behind = matches!(self.nat(to), Nat::Closed) && self.nat(from) != Nat::None;
        let both_shut = self.nat(to) == Nat::Stateful && matches!(self.nat(from), Nat::Closed);
        if both_behind || both_shut { Err(Stop::NoPort) } else { Ok(()) }
    }

    fn udp(&self, from: HostId, to: HostId) -> Result<(), Stop> {
        if self.apart(from, to) || self.cuts.stop_data(from, to) || self.gaps.stop_data(from, to) {
            return Err(Stop::Cut);
        }
        Ok(())
    }

    /// Largest outer IP packet in bytes between two hosts.
    pub(super) fn path_mtu(&self, a: HostId, b: HostId) -> u32 {
        let limit = self.limits.get(&pair(a, b)).copied().unwrap_or(u32::MAX);
        limit.min(self.mtu(a)).min(self.mtu(b))
    }

    /// The host at an address, as seen from `from`.
    pub(super) fn host_at(&self, from: HostId, addr: Ipv4Addr) -> Option<HostId> {
        let [first, second, high, low] = addr.octets();
        let host = HostId::from_be_bytes([high, low]);
        match (first, second) {
            (192, 168) => (host == from || !self.nat(host).translates()).then_some(host),
            (198, 18) => self.nat(host).translates().then_some(host),
            _ => (addr == BRIDGE).then_some(from),
        }
    }

    /// A port of a host sends there now, which the NAT or the filter in front of it remembers.
    pub(super) fn open(&mut self, from: HostId, port: u16, to: SocketAddrV4, now: Instant) {
        if self.natted.contains_key(&from) {
            if self.opened.len() > self.sweep_at {
                self.opened.retain(|_, at| now.since(*at) < OPEN_FOR);
                self.sweep_at = 2 * self.opened.len() + SWEEP_MIN;
            }
            self.opened.insert((from, port, to), now);
        }
    }

    /// An answer leaves `port` of a host by what let its request in: that stays open.
    pub(super) fn keep_open(&mut self, from: HostId, port: u16, to: SocketAddrV4, now: Instant) {
        if let Some(at) = self.opened.get_mut(&(from, port, to)) {
            *at = (*at).max(now);
        }
    }

    /// Where a packet from a port of its own comes from, as others see it.
    fn source(&self, from: HostId, port: u16) -> SocketAddrV4 {
        match self.nat(from) {
            Nat::None | Nat::Stateful => SocketAddrV4::new(underlay(from), port),
            _ if port == DATA_PORT => SocketAddrV4::new(router(from), MAPPED_DATA + from),
            Nat::Forwarding | Nat::Closed => SocketAddrV4::new(router(from), port),
        }
    }

    /// The port of `host` that a packet from `source` to `to` is let in to.
    fn entrance(&self, host: HostId, source: SocketAddrV4, to: SocketAddrV4, now: Instant) -> Result<u16, Stop> {
        let nat = self.nat(host);
        if nat == Nat::None || *to.ip() == underlay(host) && nat.translates() {
            return Ok(to.port());
        }
        let port = match to.port() {
            DATA_PORT if nat == Nat::Forwarding => return Ok(DATA_PORT),
            port if nat == Nat::Stateful => port,
            port if port == MAPPED_DATA + host => DATA_PORT,
            port if port >= FLOW_PORT => port,
            _ => return Err(Stop::NoPort),
        };
        let open = self.opened.get(&(host, port, source)).is_some_and(|at| now.since(*at) < OPEN_FOR);
        if open { Ok(port) } else { Err(Stop::Shut) }
    }

    /// Sends a packet of `len` bytes, outer IP header included, from `port` at `now`: what became of it.
    pub(super) fn packet(
        &self,
        (from, port): (HostId, u16),
        to: SocketAddrV4,
        len: u32,
        now: Instant,
    ) -> Result<Passed, Stop> {
        self.carry(from, self.source(from, port), to, len, now)
    }

    /// The same of an answer to a packet that was sent to `source`: it comes from there, whatever lies between.
    pub(super) fn answer(
        &self,
        from: HostId,
        source: SocketAddrV4,
        to: SocketAddrV4,
        len: u32,
        now: Instant,
    ) -> Result<Passed, Stop> {
        self.carry(from, source, to, len, now)
    }

    fn carry(
        &self,
        from: HostId,
        source: SocketAddrV4,
        to: SocketAddrV4,
        len: u32,
        now: Instant,
    ) -> Result<Passed, Stop> {
        if len > self.mtu(from) {
            return Err(Stop::TooBig);
        }
        let host = self.host_at(from, *to.ip()).ok_or(Stop::NoHost)?;
        if host == from {
            // Packets to an address of this host never leave it, and no peer sends from there.
            return Err(Stop::NoHost);
        }
        let port = self.entrance(host, source, to, now)?;
        self.udp(from, host)?;
        if port == DATA_PORT && self.data_filtered.contains(&host) {
            return Err(Stop::Filtered);
        }
        if len > self.path_mtu(from, host) {
            return Err(Stop::TooBig);
        }
        if port != DATA_PORT && port < FLOW_PORT {
            return Err(Stop::NoPort);
        }
        Ok(Passed { host, port, source })
    }
}

#[cfg(test)]
mod tests;
