//! Frames and connections on their way between simulated hosts.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use weave_ctl::proto::io::{DialId, Direction, Input, SessionId, Target};

use super::{
    Event, HostId, World,
    conns::{Parcel, Side},
    host::Host,
    journal::Detail,
    net::{self, CONTROL_PORT, underlay},
};

/// Time for a host to answer, as the shell's.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Time for a handshake, as the shell's.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);
/// Time for what was sent before a close, as the shell's.
const CLOSE_TIME: Duration = Duration::from_secs(2);
/// First of the ports that connections come from.
const EPHEMERAL: u16 = 40000;

impl World {
    pub(super) fn connect(&mut self, from: HostId, run: u64, dial: DialId, target: &Target) {
        if self.hosts.get(&from).is_none_or(|h| h.run != run) {
            return;
        }
        match self.answering(from, target) {
            Ok(to) => self.open(from, to, dial),
            Err((after, reason)) => {
                let reason = format!("cannot connect to {target}: {reason}");
                self.at(after, Event::Deliver(from, run, Input::DialFailed(dial, reason)));
            }
        }
    }

    /// The host that answers at a target, or after what time the attempt fails and why.
    fn answering(&self, from: HostId, target: &Target) -> Result<HostId, (Duration, &'static str)> {
        let soon = Duration::from_millis(1);
        let named = target.host.strip_prefix('h').and_then(|n| n.parse::<HostId>().ok());
        let to = match (named, target.host.parse::<Ipv4Addr>()) {
            (Some(host), _) => host,
            (None, Ok(addr)) => self.net.host_at(from, addr).ok_or((CONNECT_TIME, "no answer within 5 s"))?,
            (None, Err(_)) => return Err((soon, "no such name")),
        };
        let host = self.hosts.get(&to).ok_or((soon, "no such host"))?;
        let silent = !host.kernel.on || !self.net.dialable(from, to);
        let refuses = host.node.is_none() || target.port.is_some_and(|port| port != CONTROL_PORT);
        match () {
            () if silent => Err((CONNECT_TIME, "no answer within 5 s")),
            () if refuses => Err((soon, "connection refused")),
            () if host.paused() => Err((HANDSHAKE_TIME, "no handshake within 5 s")),
            () => Ok(to),
        }
    }

    fn open(&mut self, from: HostId, to: HostId, dial: DialId) {
        let link = self.conns.open(from, to, self.now);
        self.note(|| format!("link {link} h{from} -> h{to}"));
        let source = if self.net.nat(from).translates() && from != to { net::router(from) } else { underlay(from) };
        let port = EPHEMERAL + u16::try_from(link % 20000).unwrap_or(0);
        let (a, b) = (SocketAddr::from((source, port)), SocketAddr::from((underlay(to), CONTROL_PORT)));
        let mut binding = [0; 32];
        binding[..8].copy_from_slice(&self.seed.to_be_bytes());
        binding[8..16].copy_from_slice(&link.to_be_bytes());
        let opened = |session, remote, direction| Input::SessionOpened { session, remote, direction, binding };
        self.input(to, opened(Side::Far.id(link), a, Direction::Inbound));
        if self.up(from) {
            self.input(from, opened(Side::Near.id(link), b, Direction::Outbound(dial)));
        }
    }

    pub(super) fn send(&mut self, id: HostId, link: SessionId, bytes: Vec<u8>) {
        let Some((number, side)) = self.conns.find(link, id) else { return };
        let Ok(rate) = self.conns.sent(number, side, bytes.len(), self.now) else {
            self.note(|| format!("h{id} link {number} is full"));
            return self.break_off(number, side, "the peer does not take what it is sent: too much waits for it");
        };
        self.meter.frame(id, &bytes);
        self.bound_link(id, number, rate);
        self.journal.note(Detail::Frames, self.now, || format!("h{id} link {number} sends {} bytes", bytes.len()));
        self.dispatch(number, side.other(), Parcel::Frame(bytes));
    }

    /// Puts something on its way to `side`.
    fn dispatch(&mut self, link: u64, side: Side, parcel: Parcel) {
        let at = self.now + self.delay();
        let at = self.conns.in_order(link, side, at);
        self.queue.push(at, Event::Parcel { link, side, parcel });
    }

    pub(super) fn parcel(&mut self, link: u64, side: Side, parcel: Parcel) {
        let Some((to, from)) = self.conns.hosts(link, side) else { return };
        if self.conns.stalled(link) || !self.net.control(to, from) {
            return self.conns.park(link, side, parcel, self.now);
        }
        let resumes = self.conns.resumes(link);
        if self.now < resumes {
            return self.queue.push(resumes, Event::Parcel { link, side, parcel });
        }
        if !self.conns.is_open(link, side) {
            // A kernel that knows of no such connection says so; a host without power says nothing.
            if matches!(parcel, Parcel::Frame(_)) && self.hosts.get(&to).is_some_and(|h| h.kernel.on) {
                self.dispatch(link, side.other(), Parcel::Closed("connection reset by peer".to_owned()));
            }
            return;
        }
        match parcel {
            Parcel::Frame(bytes) => {
                self.conns.taken(link, side.other(), bytes.len());
                self.input(to, Input::Frame(side.id(link), bytes));
            }
            Parcel::Closed(reason) => self.ended(link, side, reason),
        }
    }

    /// A controller closes its end: what was sent before arrives first.
    pub(super) fn close(&mut self, id: HostId, link: SessionId, reason: &str) {
        let Some((number, side)) = self.conns.find(link, id) else { return };
        self.note(|| format!("h{id} closes link {number}: {reason}"));
        self.conns.closing(number, side);
        self.dispatch(number, side.other(), Parcel::Closed("closed by the peer".to_owned()));
        let passes = self.conns.hosts(number, side).is_some_and(|(a, b)| self.net.control(a, b));
        let within = if passes { self.delay() } else { CLOSE_TIME };
        self.at(within, Event::Ended { link: number, side, reason: reason.to_owned() });
    }

    /// One end is told that its connection is gone.
    pub(super) fn ended(&mut self, link: u64, side: Side, reason: String) {
        let Some((to, _)) = self.conns.hosts(link, side).filter(|_| self.conns.is_open(link, side)) else { return };
        self.conns.close(link, side);
        self.input(to, Input::SessionClosed(side.id(link), reason));
    }

    /// Links of `id` whose both ends are open.
    #[must_use]
    pub fn links(&self, id: HostId) -> usize {
        let whole = |(link, side): &(u64, Side)| self.conns.is_open(*link, side.other());
        self.conns.links_of(id).iter().filter(|end| whole(end)).count()
    }

    /// True while the controller of `id` runs and is not stopped.
    pub(super) fn active(&self, id: HostId) -> bool {
        self.hosts.get(&id).is_some_and(Host::active)
    }
}
