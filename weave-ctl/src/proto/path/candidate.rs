//! One candidate path to a peer: where it leads, how packets leave for it, whether it answers, and how large they may be.
//! States: docs/protocol.md, section 4.5.
//!
//! A probe is unanswered when no answer came within [`Candidate::wait`]. Padded probes show size and liveness; that they
//! are unanswered shows neither.
//!
//! Bounds: [`SENT_MAX`] probes that may still be answered, each for [`SENT_FOR`].

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use thin_vec::ThinVec;

use super::{
    size::{self, SizeSearch},
    timers::{DETECT_MULT, PROMOTE_AFTER, PROMOTE_APART, REPLY_WAIT, SENT_FOR, SENT_MAX},
};
use crate::proto::{
    io::{Egress, ProbeReply},
    name::PeerName,
    time::Instant,
};

/// Where a candidate leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    /// To an address of the peer.
    Direct {
        /// Its data port, or a NAT mapping of it.
        to: SocketAddrV4,
        /// All packets leave from this host's data port.
        fixed: bool,
    },
    /// To a peer that relays.
    Relay(PeerName),
}

impl Target {
    /// The peer's address of a direct candidate.
    pub(super) fn address(self) -> Option<Ipv4Addr> {
        if let Self::Direct { to, .. } = self { Some(*to.ip()) } else { None }
    }
}

/// How the address of a direct candidate became known, the most reliable first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// A session shows it.
    Session,
    /// The peer's record advertises it.
    Advertised,
    /// The peer proved that it sends from there.
    Proven,
    /// A former run of the controller sent there, or the record does not advertise it any more.
    Stale,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Liveness {
    Untested,
    Answering,
    Dead,
}

/// A probe that may still be answered.
#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Instant,
    /// Without padding: that it is unanswered counts.
    small: bool,
    /// It was waited for long enough; a late answer is one all the same.
    late: bool,
}

#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) target: Target,
    pub(super) source: Source,
    /// Its index in probes.
    pub(super) id: u16,
    pub(super) liveness: Liveness,
    /// Unanswered small probes in a row.
    pub(super) missed: u8,
    /// Relays that the last answered request passed.
    pub(super) hops: u8,
    /// Answers in a row.
    streak: u8,
    /// Round-trip time in microseconds of the last small probe; zero before the first.
    rtt: u32,
    /// Last and last but one probe that was answered, by the time of sending.
    answered: [Option<Instant>; 2],
    /// When the last answer came.
    pub(super) answered_at: Option<Instant>,
    /// When the last small probe was sent.
    pub(super) probed_at: Option<Instant>,
    /// Since when it has its liveness.
    pub(super) since: Instant,
    sent: ThinVec<Sent>,
    pub(super) size: Option<Box<SizeSearch>>,
}

impl Candidate {
    pub(super) fn new(target: Target, source: Source, id: u16, now: Instant) -> Self {
        Self {
            target,
            source,
            id,
            liveness: Liveness::Untested,
            missed: 0,
            hops: 0,
            streak: 0,
            rtt: 0,
            answered: [None; 2],
            answered_at: None,
            probed_at: None,
            since: now,
            sent: ThinVec::new(),
            size: None,
        }
    }

    /// Round-trip time of the last small probe that was answered.
    pub(super) fn rtt(&self) -> Option<Duration> {
        (self.rtt > 0).then(|| Duration::from_micros(self.rtt.into()))
    }

    /// How long the answer to a probe is waited for: BFD's detection time of one interval.
    pub(super) fn wait(&self) -> Duration {
        (Duration::from_micros(self.rtt.into()) * 2).clamp(REPLY_WAIT.0, REPLY_WAIT.1)
    }

    pub(super) fn is_answering(&self) -> bool {
        self.liveness == Liveness::Answering
    }

    pub(super) fn is_dead(&self) -> bool {
        self.liveness == Liveness::Dead
    }

    /// True when it is steady enough to take the place of a path that works.
    pub(super) fn is_steady(&self) -> bool {
        let apart =
            self.answered[0].zip(self.answered[1]).is_some_and(|(last, before)| last.since(before) >= PROMOTE_APART);
        self.is_answering() && self.missed == 0 && self.streak >= PROMOTE_AFTER && apart
    }

    /// True when the last answer came within `time`.
    pub(super) fn answered_within(&self, time: Duration, now: Instant) -> bool {
        self.answered_at.is_some_and(|at| now.since(at) <= time)
    }

    /// A probe of `size` leaves now.
    pub(super) fn sent(&mut self, size: u32, now: Instant) {
        let small = size <= size::SMALLEST;
        if small {
            self.probed_at = Some(now);
        }
        if self.sent.len() >= SENT_MAX {
            self.sent.remove(0);
        }
        if self.sent.is_empty() {
            // Most are answered before the next one leaves.
            self.sent.reserve_exact(1);
        }
        self.sent.push(Sent { at: now, small, late: false });
    }

    /// When a probe that is under way counts as unanswered.
    pub(super) fn expires(&self) -> Option<Instant> {
        let wait = self.wait();
        self.sent.iter().find(|sent| sent.small && !sent.late).map(|sent| sent.at + wait)
    }

    /// Counts probes that are unanswered by now. True when the candidate just died.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let (wait, answered) = (self.wait(), self.answered[0]);
        let mut missed = self.missed;
        for sent in self.sent.iter_mut().filter(|sent| sent.small && !sent.late && now >= sent.at + wait) {
            sent.late = true;
            // Loss of a probe before one that was answered shows a lossy path, not a dead one.
            if answered.is_none_or(|answered| sent.at > answered) {
                missed = missed.saturating_add(1);
            }
        }
        self.sent.retain(|sent| now.since(sent.at) <= SENT_FOR);
        self.free();
        if missed > self.missed {
            (self.missed, self.streak) = (missed, 0);
        }
        if self.missed >= DETECT_MULT && !self.is_dead() {
            (self.liveness, self.since) = (Liveness::Dead, now);
            return true;
        }
        false
    }

    /// Outstanding probes say nothing: answers were lost on this host.
    pub(super) fn excuse(&mut self) {
        self.sent = ThinVec::new();
    }

    /// An answer came. False when it answers no probe that is still waited for: then it changes nothing.
    pub(super) fn reply(&mut self, reply: &ProbeReply, now: Instant) -> bool {
        let late = now.since(reply.sent_at) > SENT_FOR;
        let Some(at) = self.sent.iter().position(|sent| sent.at == reply.sent_at).filter(|_| !late) else {
            return false;
        };
        let sent = self.sent.remove(at);
        self.free();
        if sent.small {
            let rtt = reply.received_at.since(reply.sent_at).as_micros();
            self.rtt = u32::try_from(rtt).unwrap_or(u32::MAX).max(1);
            self.hops = reply.hops;
        }
        self.answered = [Some(sent.at), self.answered[0]];
        (self.answered_at, self.missed) = (Some(now), 0);
        self.streak = self.streak.saturating_add(1);
        if !self.is_answering() {
            (self.liveness, self.since, self.streak) = (Liveness::Answering, now, 1);
            if let Some(size) = &mut self.size {
                size.verify(now);
            }
        }
        if let Some(size) = &mut self.size {
            if sent.small {
                size.small_passed(sent.at);
            } else {
                size.passed(reply.size.into(), now);
            }
        }
        true
    }

    /// Candidates are many, and most have nothing under way.
    fn free(&mut self) {
        if self.sent.is_empty() {
            self.sent = ThinVec::new();
        }
    }
}

/// How a packet by some candidate leaves this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leg {
    pub(super) to: SocketAddrV4,
    pub(super) fixed: bool,
    pub(super) egress: Egress,
}

/// What a peer's turn needs of the rest of this host: the clock, routes to addresses, next hops of relays.
pub(super) struct Env<'a> {
    pub(super) now: Instant,
    /// Answers of the host's routing table, for the addresses that are watched.
    pub(super) egress: &'a BTreeMap<Ipv4Addr, Watched>,
    /// Relays to which a direct path answers, of those that are candidates of the peer at hand.
    pub(super) relays: &'a [(PeerName, Leg)],
    pub(super) data_port: u16,
    /// Others see this host at an address that is not its own.
    pub(super) behind_nat: bool,
}

/// An address whose route is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Watched {
    /// Candidates that need it.
    pub(super) users: u32,
    /// The answer, once there is one.
    pub(super) egress: Option<Egress>,
}

impl Env<'_> {
    /// How packets to `target` leave; nothing while no route leads there, or no direct path to the relay answers.
    pub(super) fn leg(&self, target: Target) -> Option<Leg> {
        match target {
            Target::Direct { to, fixed } => {
                let egress = self.egress.get(to.ip())?.egress?;
                Some(Leg { to, fixed, egress })
            }
            Target::Relay(relay) => self.relays.iter().find(|(name, _)| *name == relay).map(|(_, leg)| *leg),
        }
    }
}

/// Packets can be sent there.
pub(super) fn is_usable(at: SocketAddrV4) -> bool {
    let ip = at.ip();
    !(ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast()) && at.port() > 0
}

#[cfg(test)]
mod tests;
