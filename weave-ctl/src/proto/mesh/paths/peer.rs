//! What is known of the path to one peer, and what to ask it next.
//!
//! ```text
//! Trying (untested) --answer--> Up --LOST_AFTER unanswered--> Trying (down) --answer--> Up
//!        \--FAST_ROUNDS unanswered--> Trying (down)             or Up at another address that answered meanwhile
//! ```
//! Bounds: those of `addresses`, `sent` and `mtu`; a round asks each address once.
//!
//! Does not: keep deadlines or queues; [`Peer::due`] says when it wants a turn, and in which lane.

use std::{net::SocketAddrV4, time::Duration};

use super::{
    Direct, PathState,
    addresses::Addresses,
    lanes::Lane,
    mtu::{self, PathMtu},
    pauses::{
        ACTIVE_FOR, ACTIVE_RETRY, FAST_ROUNDS, LOST_AFTER, NUDGE_AFTER, RETRY_MAX, VERIFY_ACTIVE, VERIFY_LINKED, Watch,
        every, pause,
    },
    sent::{Micros, Questions, Sent},
};
use crate::proto::{
    mesh::probe::{self, Kind, Probe},
    name::PeerName,
    time::Instant,
};

/// What others are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Untested,
    Down,
    /// Works to this address, with this MTU, which is below that of the hosts or not.
    Up(SocketAddrV4, u32, bool),
}

/// A path that works.
#[derive(Clone, Copy, Debug)]
pub(super) struct Up {
    pub(super) remote: SocketAddrV4,
    rtt: Micros,
    /// The last round is not answered.
    awaiting: bool,
    missed: u32,
    /// Another address answered while this one did not.
    other: Option<(SocketAddrV4, Micros)>,
}

#[derive(Clone, Copy, Debug)]
enum Path {
    Trying {
        /// Rounds since there was a reason to hurry.
        rounds: u32,
        /// It is known not to answer.
        down: bool,
    },
    Up(Up),
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Peer {
    name: PeerName,
    nonce: u64,
    /// What requests must carry; unknown before its record.
    cookie: Option<u64>,
    /// The MTU that it tells.
    told_mtu: u16,
    /// The MTU of the route to it; zero while that is unknown. Both at most 65,535.
    egress_mtu: u16,
    pub(super) addresses: Addresses,
    pub(super) questions: Questions,
    path: Path,
    mtu: PathMtu,
    /// The path that `mtu` belongs to.
    measured: Option<SocketAddrV4>,
    linked: bool,
    active_until: Option<Instant>,
    /// The last round; the first is not before the other.
    last_round: Option<Instant>,
    not_before: Instant,
    tried: Option<SocketAddrV4>,
    quiet_since: Option<Instant>,
    /// Where it waits for its turn.
    pub(super) slot: Option<(Lane, Instant)>,
    told: Status,
}

/// What a reply is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// To nothing that was asked.
    None,
    /// To a question to a place that nothing signed told of: whoever is there may not be the peer.
    Unproven,
    /// Taken in.
    Taken,
}

/// Where probes go, who sends them, and when.
pub(super) struct Outbox<'a> {
    pub(super) me: PeerName,
    /// This host is behind a translator of addresses.
    pub(super) translated: bool,
    pub(super) now: Instant,
    /// Takes a probe.
    pub(super) send: &'a mut dyn FnMut(SocketAddrV4, Vec<u8>),
}

impl Peer {
    /// A peer of which nothing is known yet; the first round is not before `not_before`.
    pub(super) fn new(name: PeerName, nonce: u64, not_before: Instant, mtu: PathMtu) -> Self {
        Self {
            name,
            nonce,
            cookie: None,
            told_mtu: 0,
            egress_mtu: 0,
            addresses: Addresses::default(),
            questions: Questions::default(),
            path: Path::Trying { rounds: 0, down: false },
            mtu,
            measured: None,
            linked: false,
            active_until: None,
            last_round: None,
            not_before,
            tried: None,
            quiet_since: None,
            slot: None,
            told: Status::Untested,
        }
    }

    /// The path, while it works.
    pub(super) fn up(&self) -> Option<&Up> {
        match &self.path {
            Path::Up(up) => Some(up),
            Path::Trying { .. } => None,
        }
    }

    /// The path as others see it, while it works.
    pub(super) fn direct(&self) -> Option<Direct> {
        let Up { remote, rtt, .. } = *self.up()?;
        let translated = !self.addresses.is_plain(remote);
        Some(Direct { remote, translated, rtt: Some(rtt.into()), path_mtu: self.path_mtu() })
    }

    /// The measured MTU of the path; zero while unknown.
    pub(super) fn path_mtu(&self) -> u32 {
        self.mtu.measured()
    }

    /// Less passes than both hosts take.
    pub(super) fn narrow(&self) -> bool {
        self.mtu.narrow()
    }

    /// Its cookie as its record tells it.
    pub(super) fn set_cookie(&mut self, cookie: u64, now: Instant) {
        if self.cookie.replace(cookie).is_none_or(|before| before == cookie) {
            return;
        }
        match &mut self.path {
            // What was asked with the former cookie says nothing about the path.
            Path::Up(up) => {
                (up.awaiting, up.missed) = (false, 0);
                (self.last_round, self.not_before) = (None, now);
            }
            Path::Trying { .. } => self.hurry(),
        }
    }

    /// The peer tells this MTU.
    pub(super) fn set_told_mtu(&mut self, mtu: u32) {
        self.told_mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
    }

    /// The route to it takes packets of this size.
    pub(super) fn set_egress_mtu(&mut self, mtu: u32) {
        self.egress_mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
    }

    /// The largest packet that both hosts take: `default` counts while no route to the peer is known.
    pub(super) fn set_mtu_bound(&mut self, default: u32, now: Instant) {
        let own = if self.egress_mtu == 0 { default } else { self.egress_mtu.into() };
        self.mtu.set_bound(mtu::bound(own, self.told_mtu.into()), now);
    }

    /// A link to it came or went.
    pub(super) fn set_linked(&mut self, linked: bool, now: Instant) {
        if linked && !self.linked {
            self.hurry();
            self.not_before = self.not_before.min(now);
        }
        self.linked = linked;
        self.leave_opening(now);
    }

    /// It has traffic. True when it had none for a while.
    pub(super) fn traffic(&mut self, now: Instant) -> bool {
        let fresh = self.watch(now) != Watch::Active;
        self.active_until = Some(now + ACTIVE_FOR);
        if fresh {
            self.hurry();
            self.not_before = self.not_before.min(now);
        }
        fresh
    }

    /// There is a reason to try a few times quickly, when the path does not work.
    pub(super) fn hurry(&mut self) {
        if let Path::Trying { rounds, .. } = &mut self.path {
            *rounds = 0;
        }
    }

    /// The peer asked us: one more round, when the last was a while ago.
    pub(super) fn nudge(&mut self, now: Instant) {
        let quiet = self.last_round.is_some_and(|at| at + NUDGE_AFTER <= now);
        if let (true, Path::Trying { rounds, .. }) = (quiet, &mut self.path) {
            *rounds = (*rounds).min(FAST_ROUNDS - 1);
        }
    }

    /// When it wants its next turn, and in which lane; `None` when there is nothing to try.
    pub(super) fn due(&self, now: Instant) -> Option<(Lane, Instant)> {
        let (path, mut urgent) = (self.path_due(now)?, self.urgent());
        let mut at = path;
        if self.up().is_some() {
            at = at.min(self.mtu.due(self.verify(now)).unwrap_or(path));
            urgent |= self.mtu.unsettled();
        }
        let lane = match (self.watch(now), urgent) {
            (Watch::Active | Watch::Linked, _) => Lane::Watched,
            (Watch::Idle, true) => Lane::Fresh,
            (Watch::Idle, false) => Lane::Idle,
        };
        Some((lane, at))
    }

    /// Its turn: does what is due. Returns how many probes that took.
    pub(super) fn turn(&mut self, out: &mut Outbox<'_>) -> u32 {
        self.leave_opening(out.now);
        let due = self.path_due(out.now).is_some_and(|at| at <= out.now);
        let sent = if due { self.round(out) } else { 0 };
        sent + self.measure(out)
    }

    /// A reply came from `from`, which is `proven` to be the peer's or not.
    pub(super) fn answer(&mut self, reply: &Probe, from: SocketAddrV4, proven: bool, now: Instant) -> Answer {
        let asked = self.questions.get(reply.sequence, now).filter(|_| reply.nonce == self.nonce);
        let asked = asked.filter(|asked| probe::micros(asked.at) == reply.sent_micros);
        let elapsed = probe::elapsed(reply.sent_micros, now);
        let Some((asked, rtt)) = asked.zip(elapsed) else { return Answer::None };
        if !proven && !self.addresses.vouches(asked.to) {
            return if asked.to.ip() == from.ip() { Answer::Unproven } else { Answer::None };
        }
        self.questions.close(reply.sequence);
        self.quiet_since = Some(now);
        match &mut self.path {
            Path::Trying { .. } => self.come_up(asked.to, rtt, now),
            // What goes through an opening costs more, and holds no longer than the translator remembers.
            Path::Up(up) if up.remote != asked.to && self.addresses.is_better(asked.to, up.remote) => {
                self.come_up(asked.to, rtt, now);
            }
            Path::Up(up) if up.remote != asked.to => {
                let better = up.other.is_none_or(|(other, _)| !self.addresses.is_better(other, asked.to));
                if up.missed > 0 && better {
                    up.other = Some((asked.to, rtt.into()));
                }
            }
            Path::Up(up) => {
                (up.awaiting, up.missed, up.other) = (false, 0, None);
                if asked.size == mtu::SMALLEST {
                    up.rtt = rtt.into();
                    self.mtu.small_passed(asked.at);
                }
            }
        }
        self.answered_size(asked, reply, now);
        Answer::Taken
    }

    /// Where the answer to a probe from `from` goes: to the data port, which firewalls let through, where the peer tells
    /// that address or answers there itself. Else back through whatever translated it; so does a host that is behind a
    /// translator, which keeps open what it opened.
    pub(super) fn answer_to(&self, from: SocketAddrV4, translated: bool) -> SocketAddrV4 {
        let works = self.up().map(|up| up.remote).filter(|at| at.ip() == from.ip() && self.addresses.is_plain(*at));
        let data_port = self.addresses.told_at(from).or(works);
        data_port.filter(|_| !translated).unwrap_or(from)
    }

    /// What to show.
    pub(super) fn state(&self, now: Instant) -> PathState {
        match (self.direct(), self.status()) {
            (Some(direct), _) => PathState::Up(direct),
            (None, Status::Down) => {
                let silent = self.quiet_since.map_or(Duration::ZERO, |since| now.since(since));
                PathState::Down { tried: self.tried, silent }
            }
            _ => PathState::Untested,
        }
    }

    /// What others should know.
    pub(super) fn status(&self) -> Status {
        match &self.path {
            Path::Up(up) => Status::Up(up.remote, self.mtu.measured(), self.narrow()),
            Path::Trying { down: true, .. } => Status::Down,
            Path::Trying { down: false, .. } => Status::Untested,
        }
    }

    /// Others do not know yet.
    pub(super) fn has_news(&self) -> bool {
        self.told != self.status()
    }

    /// What others knew before, and what they know from now on.
    pub(super) fn tell(&mut self) -> (Status, Status) {
        let status = self.status();
        (std::mem::replace(&mut self.told, status), status)
    }

    fn watch(&self, now: Instant) -> Watch {
        if self.active_until.is_some_and(|until| now < until) {
            Watch::Active
        } else if self.linked {
            Watch::Linked
        } else {
            Watch::Idle
        }
    }

    fn verify(&self, now: Instant) -> Option<Duration> {
        match self.watch(now) {
            Watch::Active => Some(VERIFY_ACTIVE),
            Watch::Linked => Some(VERIFY_LINKED),
            Watch::Idle => None,
        }
    }

    /// Something is to be found out that does not wait until an idle peer's turn comes.
    fn urgent(&self) -> bool {
        match &self.path {
            Path::Trying { rounds, down } => *rounds < FAST_ROUNDS || !down,
            Path::Up(up) => up.awaiting,
        }
    }

    fn path_due(&self, now: Instant) -> Option<Instant> {
        self.cookie?;
        let watch = self.watch(now);
        let pause = match &self.path {
            Path::Trying { .. } if self.addresses.is_empty() => return None,
            Path::Trying { rounds, down } => pause(*rounds, *down, watch),
            Path::Up(up) if up.awaiting => up.retry(watch),
            Path::Up(_) => every(watch),
        };
        Some(self.last_round.map_or(self.not_before, |at| at + pause))
    }

    /// An opening is not kept open without traffic or a link, and what closes unseen must not be sent to.
    fn leave_opening(&mut self, now: Instant) {
        if self.watch(now) == Watch::Idle && self.up().is_some_and(|up| !self.addresses.is_plain(up.remote)) {
            self.path = Path::Trying { rounds: FAST_ROUNDS, down: true };
        }
    }

    fn round(&mut self, out: &mut Outbox<'_>) -> u32 {
        match self.path {
            Path::Trying { rounds, down: false } if rounds >= FAST_ROUNDS => {
                self.path = Path::Trying { rounds, down: true };
                // An idle peer's next round is in its own time.
                if self.watch(out.now) == Watch::Idle { 0 } else { self.ask_all(out) }
            }
            Path::Trying { .. } => self.ask_all(out),
            Path::Up(up) if !up.awaiting => self.keep_up(Up { awaiting: true, ..up }, out),
            Path::Up(up) if up.missed + 1 < LOST_AFTER => self.keep_up(Up { missed: up.missed + 1, ..up }, out),
            Path::Up(Up { other: Some((remote, rtt)), .. }) => {
                self.come_up(remote, rtt.into(), out.now);
                0
            }
            Path::Up(up) => {
                self.path = Path::Trying { rounds: 0, down: true };
                let sent = self.ask_all(out);
                self.tried = Some(up.remote);
                sent
            }
        }
    }

    fn keep_up(&mut self, up: Up, out: &mut Outbox<'_>) -> u32 {
        self.path = Path::Up(up);
        self.last_round = Some(out.now);
        let mut sent = self.ask(up.remote, mtu::SMALLEST, out);
        let mut others = Vec::new();
        if up.missed > 0 || !self.addresses.is_plain(up.remote) {
            others.append(&mut self.addresses.candidates());
        }
        if up.missed > 0 {
            others.append(&mut self.addresses.openings(out.translated));
        }
        for other in others.into_iter().filter(|other| *other != up.remote) {
            sent += self.ask(other, mtu::SMALLEST, out);
        }
        sent
    }

    fn ask_all(&mut self, out: &mut Outbox<'_>) -> u32 {
        let mut again = false;
        if let Path::Trying { rounds, .. } = &mut self.path {
            again = *rounds > 0;
            *rounds = rounds.saturating_add(1);
        }
        let watched = self.watch(out.now) != Watch::Idle;
        // Nobody waits for an idle peer's path: one answer tells it and its size together, where no size limit is hidden.
        let first = self.last_round.is_none() && !watched;
        let size = if first { self.mtu.first() } else { mtu::SMALLEST };
        self.last_round = Some(out.now);
        self.quiet_since.get_or_insert(out.now);
        let mut candidates = self.addresses.candidates();
        self.tried = candidates.first().copied();
        if again && watched {
            candidates.append(&mut self.addresses.openings(out.translated));
        }
        candidates.into_iter().map(|to| self.ask(to, size, out)).sum()
    }

    fn measure(&mut self, out: &mut Outbox<'_>) -> u32 {
        let verify = self.verify(out.now);
        let Path::Up(Up { remote, rtt, .. }) = self.path else { return 0 };
        let Some(ask) = self.mtu.ask(verify, rtt.into(), out.now) else { return 0 };
        let control = if ask.control { self.ask(remote, mtu::SMALLEST, out) } else { 0 };
        control + self.ask(remote, ask.size, out)
    }

    fn ask(&mut self, to: SocketAddrV4, size: u32, out: &mut Outbox<'_>) -> u32 {
        let Some(cookie) = self.cookie else { return 0 };
        let vouched = self.addresses.vouches(to);
        let least = if vouched { 0 } else { (probe::OUTER + probe::PROVEN_LEN) as u32 };
        let request = Probe {
            kind: Kind::Request,
            flags: if vouched { 0 } else { probe::PROVE },
            length: 0,
            cookie,
            sender: out.me,
            receiver: self.name,
            sequence: self.questions.push(to, size, out.now),
            sent_micros: probe::micros(out.now),
            nonce: self.nonce,
        };
        (out.send)(to, request.encode_padded(size.max(least)));
        1
    }

    fn come_up(&mut self, remote: SocketAddrV4, rtt: Duration, now: Instant) {
        self.path = Path::Up(Up { remote, rtt: rtt.into(), awaiting: false, missed: 0, other: None });
        self.last_round = Some(now);
        if self.measured == Some(remote) {
            self.mtu.doubt(now);
        } else {
            self.mtu.forget(now);
        }
        self.measured = Some(remote);
    }

    fn answered_size(&mut self, asked: Sent, reply: &Probe, now: Instant) {
        let whole = u32::from(reply.length) == asked.size;
        if whole && asked.size > mtu::SMALLEST && self.up().is_some_and(|up| up.remote == asked.to) {
            self.mtu.passed(asked.size, now);
        }
    }
}

impl Up {
    fn retry(&self, watch: Watch) -> Duration {
        match watch {
            Watch::Active => (Duration::from(self.rtt) * 2).clamp(ACTIVE_RETRY, RETRY_MAX),
            Watch::Linked | Watch::Idle => RETRY_MAX,
        }
    }
}
