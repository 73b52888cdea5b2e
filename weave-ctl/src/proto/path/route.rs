//! All of one peer: its candidate paths, the active and the standby one, and what is probed next.
//!
//! Selection: docs/protocol.md, section 4.6. A better path takes over once it is steady ([`Candidate::is_steady`]); a dead
//! one is left at once when another answered recently; without an answer the last known path stays.
//!
//! Bounds: [`ADVERTISED_MAX`] addresses by flow and as many fixed, [`SEEN_MAX`] proven ones, [`RELAYS_MAX`] relays.
//! Does not: keep deadlines or queues; `probing` says when it wants a turn, and of which class it is.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use thin_vec::ThinVec;

use super::{
    Direct,
    candidate::{Candidate, Env, Leg, Source, Target},
    size,
    timers::{ADVERTISED_MAX, BUSY_FOR, HOME_AFTER, RECENT, RELAYS_MAX, SEEN_MAX, SILENCE, SUSPECT_AGAIN},
};
use crate::proto::{
    io::{Activity, PathKind, ProbeReply, TunnelTo},
    name::PeerName,
    time::Instant,
};

#[derive(Debug, Default)]
pub(super) struct PeerRoute {
    pub(super) name: PeerName,
    pub(super) candidates: ThinVec<Candidate>,
    next_id: u16,
    pub(super) active: Option<u16>,
    pub(super) standby: Option<u16>,
    /// Largest outer IP packet in bytes that the peer says it takes; zero when unknown.
    mtu: u32,
    pub(super) session: bool,
    /// The peer's record lists a direct path to this host.
    pub(super) reported: bool,
    /// Each with [`Source::Advertised`], or [`Source::Stale`] when it is a spare one.
    relays: ThinVec<(PeerName, Source)>,
    /// Addresses that its packets come from beside those of the candidates.
    pub(super) seen: ThinVec<Ipv4Addr>,
    sent_at: Option<Instant>,
    pub(super) big_at: Option<Instant>,
    heard_at: Option<Instant>,
    /// Since when the active path is suspect because nothing of the peer arrives.
    suspected_at: Option<Instant>,
    pub(super) asked_until: Option<Instant>,
    pub(super) announced_at: Option<Instant>,
    pub(super) not_before: Instant,
    /// Where it waits for its turn.
    pub(super) slot: Option<(super::schedule::Class, Instant)>,
    /// The path that others use for it.
    pub(super) published: Option<TunnelTo>,
    /// Why the active path was selected last.
    pub(super) why: &'static str,
    /// There is an active path, and nothing can be sent by it now: no route leads there, or the relay is out of reach.
    stranded: bool,
    /// The active path was only guessed: it was selected because nothing was known.
    guessed: bool,
    /// How packets that the peer relays leave, while a direct path to it answers.
    pub(super) relay_leg: Option<Leg>,
    /// Time stamp of the last probe: each has its own.
    stamp: Instant,
}

/// Shortest time between probes that announcements cause.
const HURRY_AFTER: Duration = Duration::from_millis(500);

/// Why a path is selected of which nothing is known, or that answers alone.
const GUESS: &str = "no other path is known to work";

/// How good a path is, the best first.
fn rank(candidate: &Candidate) -> (u8, u8) {
    match candidate.target {
        Target::Direct { fixed: false, .. } => (0, 0),
        Target::Direct { fixed: true, .. } => (1, 0),
        Target::Relay(_) if candidate.source == Source::Stale => (3, candidate.hops),
        Target::Relay(_) => (2, candidate.hops),
    }
}

impl PeerRoute {
    pub(super) fn new(name: PeerName, not_before: Instant) -> Self {
        Self { name, not_before, ..Self::default() }
    }

    /// A time stamp at `now` that no other probe of the peer has.
    pub(super) fn stamp(&mut self, now: Instant) -> Instant {
        self.stamp = now.max(self.stamp + Duration::from_nanos(1));
        self.stamp
    }

    pub(super) fn candidate(&self, id: u16) -> Option<&Candidate> {
        self.candidates.iter().find(|c| c.id == id)
    }

    pub(super) fn candidate_mut(&mut self, id: u16) -> Option<&mut Candidate> {
        self.candidates.iter_mut().find(|c| c.id == id)
    }

    pub(super) fn active(&self) -> Option<&Candidate> {
        self.active.and_then(|id| self.candidate(id))
    }

    pub(super) fn advertise(&mut self, addrs: &[SocketAddrV4], mtu: u32, now: Instant) {
        self.mtu = mtu;
        let addrs = &addrs[..addrs.len().min(ADVERTISED_MAX)];
        for candidate in &mut self.candidates {
            let Target::Direct { to, .. } = candidate.target else { continue };
            match candidate.source {
                Source::Advertised if !addrs.contains(&to) => candidate.source = Source::Stale,
                Source::Stale if addrs.contains(&to) => candidate.source = Source::Advertised,
                _ => {}
            }
        }
        for to in addrs {
            self.add(Target::Direct { to: *to, fixed: false }, Source::Advertised, now);
        }
        self.prune();
    }

    /// A session shows that the data port should be at `to`; or there is no session any more.
    pub(super) fn set_session(&mut self, to: Option<SocketAddrV4>, now: Instant) {
        for candidate in self.candidates.iter_mut().filter(|c| c.source == Source::Session) {
            // The handshake proved it, and it may outlive the session.
            candidate.source = Source::Proven;
        }
        if let Some(to) = to {
            self.add(Target::Direct { to, fixed: false }, Source::Session, now);
        }
        if to.is_some() && !self.session {
            self.not_before = self.not_before.min(now);
        }
        self.session = to.is_some();
    }

    /// These peers may relay, the nearest first; the spare ones while no other works.
    pub(super) fn set_relays(&mut self, relays: &[PeerName], spare: &[PeerName]) {
        let with = |source| move |relay: &PeerName| (*relay, source);
        let relays = relays.iter().map(with(Source::Advertised)).chain(spare.iter().map(with(Source::Stale)));
        self.relays = relays.take(RELAYS_MAX).collect();
        for candidate in &mut self.candidates {
            let Target::Relay(relay) = candidate.target else { continue };
            let known = self.relays.iter().find(|(other, _)| *other == relay);
            candidate.source = known.map_or(Source::Stale, |(_, source)| *source);
        }
        self.prune();
    }

    /// The peer proved that it sends from `to`: a NAT mapping, or the address of a data port.
    pub(super) fn prove(&mut self, to: SocketAddrV4, fixed: bool, now: Instant) {
        self.see(*to.ip());
        let proven = |c: &Candidate| c.source == Source::Proven && Some(c.id) != self.active;
        if self.candidates.iter().filter(|c| proven(c)).count() >= SEEN_MAX
            && let Some(oldest) = self.candidates.iter().position(proven)
        {
            self.candidates.remove(oldest);
        }
        self.add(Target::Direct { to, fixed }, Source::Proven, now);
    }

    pub(super) fn see(&mut self, addr: Ipv4Addr) {
        self.seen.retain(|other| *other != addr);
        self.seen.push(addr);
        if self.seen.len() > SEEN_MAX {
            self.seen.remove(0);
        }
    }

    pub(super) fn inherit(&mut self, path: TunnelTo, now: Instant) {
        let target = if path.via == self.name {
            Target::Direct { to: path.remote, fixed: path.fixed }
        } else {
            Target::Relay(path.via)
        };
        self.active = Some(self.add(target, Source::Stale, now));
        self.why = "as the former run of the controller left it";
        self.published = Some(path);
    }

    /// The data port that the peer advertises, or that a session shows.
    pub(super) fn port(&self) -> Option<u16> {
        let by_flow = |c: &Candidate| match c.target {
            Target::Direct { to, fixed: false } => Some((c.source, to.port())),
            _ => None,
        };
        self.candidates.iter().filter_map(by_flow).min().map(|(_, port)| port)
    }

    /// A candidate is worth a probe at once.
    pub(super) fn hurry(&mut self, target: Target, now: Instant) {
        let quiet = |c: &&mut Candidate| c.probed_at.is_some_and(|at| now.since(at) >= HURRY_AFTER);
        if let Some(candidate) =
            self.candidates.iter_mut().find(|c| c.target == target && !c.is_answering()).filter(quiet)
        {
            candidate.probed_at = None;
        }
        self.not_before = self.not_before.min(now);
    }

    /// Adds a candidate, or notes a better source of one that is known; its index.
    pub(super) fn add(&mut self, target: Target, source: Source, now: Instant) -> u16 {
        if let Some(known) = self.candidates.iter_mut().find(|c| c.target == target) {
            known.source = known.source.min(source);
            return known.id;
        }
        let id = (0..u16::MAX)
            .map(|n| self.next_id.wrapping_add(n))
            .find(|id| *id != ANNOUNCEMENT && self.candidates.iter().all(|c| c.id != *id));
        let id = id.unwrap_or_default();
        self.next_id = id.wrapping_add(1);
        self.candidates.push(Candidate::new(target, source, id, now));
        id
    }

    /// Adds the candidates that are worth probing only now; true when there are any.
    pub(super) fn widen(&mut self, now: Instant) -> bool {
        let before = self.candidates.len();
        let quiet = self.is_quiet(now);
        if !quiet {
            let dead = self.candidates.iter().filter(|c| c.is_dead()).filter_map(|c| match c.target {
                // A stateful filter lets in what comes from the port that it saw packets leave to.
                Target::Direct { to, fixed: false } => Some((to, c.source)),
                _ => None,
            });
            for (to, source) in dead.collect::<Vec<_>>() {
                self.add(Target::Direct { to, fixed: true }, source, now);
            }
        }
        if !quiet || self.stranded || !self.active().is_some_and(Candidate::is_answering) {
            for at in 0..self.relays.len() {
                let (relay, source) = self.relays[at];
                self.add(Target::Relay(relay), source, now);
            }
        }
        self.candidates.len() > before
    }

    /// Drops candidates that nothing speaks for any more; the active one stays.
    fn prune(&mut self) {
        let (active, relays) = (self.active, self.relays.clone());
        self.candidates.retain(|c| {
            let wanted = match c.target {
                Target::Direct { .. } => c.source != Source::Stale,
                Target::Relay(relay) => relays.iter().any(|(other, _)| *other == relay),
            };
            wanted || Some(c.id) == active
        });
    }

    pub(super) fn activity(&mut self, activity: Activity, now: Instant) {
        let note = |seen: bool, at: &mut Option<Instant>| {
            if seen {
                *at = Some(now);
            }
        };
        note(activity.sent, &mut self.sent_at);
        note(activity.big, &mut self.big_at);
        note(activity.heard, &mut self.heard_at);
        let silent = self.heard_at.is_none_or(|at| now.since(at) >= SILENCE);
        let again = self.suspected_at.is_none_or(|at| now.since(at) >= SUSPECT_AGAIN);
        // A peer that sends by another path may have lost this one, also where nothing is to be sent at the moment.
        let turned = activity.elsewhere && self.is_busy(now);
        if (activity.sent || turned) && silent && again && !self.is_suspect() {
            self.suspected_at = Some(now);
        }
        if activity.sent || turned {
            self.not_before = self.not_before.min(now);
        }
    }

    pub(super) fn is_busy(&self, now: Instant) -> bool {
        let last = self.sent_at.max(self.heard_at.filter(|_| self.sent_at.is_some()));
        last.is_some_and(|at| now.since(at) < BUSY_FOR)
    }

    /// It has neither traffic nor a session, and no operator asks.
    pub(super) fn is_quiet(&self, now: Instant) -> bool {
        !self.is_busy(now) && !self.session && !self.is_asked(now)
    }

    pub(super) fn is_asked(&self, now: Instant) -> bool {
        self.asked_until.is_some_and(|until| now < until)
    }

    /// The active path may be broken: a probe is unanswered, or nothing of the peer arrives.
    pub(super) fn is_suspect(&self) -> bool {
        self.active().is_some_and(|active| {
            let unanswered = |at: Instant| active.answered_at.is_none_or(|answered| answered < at);
            active.missed > 0 || self.suspected_at.is_some_and(unanswered)
        })
    }

    /// The standby path may be needed at any moment: a probe of the active path is unanswered, or packets of the peer came
    /// until a moment ago. Traffic that is one way by its nature is no reason.
    pub(super) fn is_failing(&self, now: Instant) -> bool {
        let stopped = self.is_suspect() && self.heard_at.is_some_and(|at| now.since(at) < SUSPECT_AGAIN);
        stopped || self.active().is_some_and(|active| active.missed > 0)
    }

    pub(super) fn reply(&mut self, reply: &ProbeReply, now: Instant) -> bool {
        self.candidate_mut(reply.path_id).is_some_and(|candidate| candidate.reply(reply, now))
    }

    pub(super) fn is_better(&self, candidate: &Candidate) -> bool {
        self.active().is_none_or(|active| rank(candidate) < rank(active))
    }

    /// Selects the active path anew, then the standby path.
    pub(super) fn select(&mut self, env: &Env<'_>) {
        let usable = |c: &&Candidate| env.leg(c.target).is_some();
        let best = |c: &&Candidate| (rank(c), c.source, c.rtt(), c.id);
        let others = || self.candidates.iter().filter(|c| Some(c.id) != self.active).filter(usable);
        let active = self.active().filter(usable);
        let selected = match active {
            Some(active) if active.is_answering() => {
                let better = others().filter(|c| c.is_steady() && rank(c) < rank(active)).min_by_key(best);
                better.map(|c| (c.id, "it answers, and is better than the path before"))
            }
            Some(active) if !active.is_dead() => {
                let better = others().filter(|c| c.is_answering() && rank(c).0 <= rank(active).0).min_by_key(best);
                // Nothing measures an idle pair soon: a relay that is known only now is a better guess.
                let unknown = self.guessed && active.answered_at.is_none() && active.target.address().is_some();
                let relay = |c: &&Candidate| unknown && matches!(c.target, Target::Relay(_));
                better.map(|c| (c.id, "it answers")).or_else(|| self.first(env).filter(relay).map(|c| (c.id, GUESS)))
            }
            Some(_) => {
                // It answered a moment ago, and has missed nothing since.
                let recent = |c: &&Candidate| c.is_answering() && c.missed == 0 && c.answered_within(RECENT, env.now);
                let next = others().filter(recent).min_by_key(best);
                let next = next.map(|c| (c.id, "the path before does not answer any more"));
                next.or_else(|| self.home(env).map(|c| (c.id, "nothing answers, and no relay leads there any more")))
            }
            None => {
                let answering = others().filter(|c| c.is_answering()).min_by_key(best);
                // A guess is not worth the last path: its route or its relay is out of reach, or not known yet.
                let next = answering.or_else(|| self.first(env).filter(|_| self.active.is_none()));
                next.map(|c| (c.id, GUESS))
            }
        };
        self.stranded = self.active.is_some() && active.is_none() && selected.is_none();
        if let Some((id, why)) = selected {
            (self.active, self.why, self.guessed) = (Some(id), why, why == GUESS);
        }
        let others = self.candidates.iter().filter(|c| Some(c.id) != self.active && !c.is_dead()).filter(usable);
        // What breaks the active path mostly breaks another port at the same address, too.
        let address = self.active().and_then(|active| active.target.address());
        let alike = |c: &Candidate| address.is_some() && c.target.address() == address;
        self.standby = others.min_by_key(|c| (alike(c), !c.is_answering(), best(c))).map(|c| c.id);
    }

    /// The path to begin with: where a session shows the peer, else by relay, else where its record says.
    fn first(&self, env: &Env<'_>) -> Option<&Candidate> {
        let usable = || self.candidates.iter().filter(|c| env.leg(c.target).is_some());
        let session = usable().find(|c| c.source == Source::Session);
        let relay = || usable().find(|c| matches!(c.target, Target::Relay(_)));
        session.or_else(relay).or_else(|| usable().min_by_key(|c| (c.source, rank(c), c.id)))
    }

    /// The address to return to from a dead relayed path of a peer that is out of every controller's reach: its last relays
    /// may send to one another in a circle. An address that never answered is worth less than they are.
    fn home(&self, env: &Env<'_>) -> Option<&Candidate> {
        let active = self.active().filter(|active| matches!(active.target, Target::Relay(_)))?;
        let left = !self.session && self.relays.is_empty() && env.now.since(active.since) >= HOME_AFTER;
        let direct = self.candidates.iter().filter(|c| c.target.address().is_some() && c.answered_at.is_some());
        direct.filter(|c| left && env.leg(c.target).is_some()).min_by_key(|c| (rank(c), c.source, c.id))
    }

    /// The largest outer IP packet in bytes that both ends of a leg take.
    pub(super) fn bound(&self, leg: &Leg) -> u32 {
        size::bound(leg.egress.mtu, self.mtu)
    }

    /// The active path as packets take it.
    pub(super) fn path(&self, env: &Env<'_>) -> Option<TunnelTo> {
        let active = self.active()?;
        let leg @ Leg { to: remote, fixed, egress } = env.leg(active.target)?;
        let (via, kind) = match active.target {
            Target::Relay(relay) => (relay, PathKind::Relayed),
            Target::Direct { .. } => (self.name, if fixed { PathKind::Fixed } else { PathKind::Direct }),
        };
        let bound = self.bound(&leg);
        let path_mtu = active.size.as_ref().map_or(bound, |size| size.size().min(bound));
        Some(TunnelTo { remote, via, kind, fixed, egress, path_mtu })
    }

    /// The direct path, while it answers: the active one, or one that is about to become active.
    pub(super) fn direct(&self) -> Option<Direct> {
        let direct = |c: &&Candidate| c.is_answering() && matches!(c.target, Target::Direct { .. });
        let active = self.active().filter(direct);
        let candidate = active.or_else(|| self.candidates.iter().filter(direct).min_by_key(|c| (rank(c), c.id)))?;
        let Target::Direct { to, fixed } = candidate.target else { return None };
        let size = candidate.size.as_ref().and_then(|size| size.confirmed());
        Some(Direct { remote: to, fixed, rtt: candidate.rtt(), size })
    }

    /// Addresses that its packets may come from.
    pub(super) fn senders(&self) -> BTreeSet<Ipv4Addr> {
        let direct = self.candidates.iter().filter_map(|c| c.target.address());
        direct.chain(self.seen.iter().copied()).collect()
    }
}

/// Index that no candidate has: of probes that nobody waits for an answer to.
pub(super) const ANNOUNCEMENT: u16 = u16::MAX;
