//! What is probed next of one peer, and when: BFD-like rates for the paths of a busy peer, little for all others.
//!
//! The role of a candidate decides: docs/protocol.md, section 4.7.
//! Bounds: a turn sends each candidate one probe, and up to two padded ones for the path size.

use std::time::Duration;

use super::{
    candidate::{Candidate, Env, Leg, Liveness, Source, Target},
    route::{ANNOUNCEMENT, PeerRoute},
    schedule::Class,
    size::{SMALLEST, SizeSearch},
    timers::{
        ACTIVE_EVERY, ASK_EVERY, FAST_EVERY, IDLE_EVERY, KEEPALIVE_EVERY, KEEPALIVE_FIRST, QUIET_RETRY, RECOVER_EVERY,
        RECOVER_FOR, RECOVER_SLOWLY, SESSION_EVERY, STANDBY_EVERY, SUSPECT_EVERY, VERIFY, VERIFY_BIG,
    },
};
use crate::proto::{
    io::{ProbeKind, ProbeRequest},
    time::Instant,
};

/// Larger packets were sent within this time: the path size is confirmed often.
const BIG_FOR: Duration = Duration::from_secs(2);

/// What a candidate is for its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Active,
    Standby,
    Better,
    Other,
}

/// When the peer wants its next turn, and of which class it is; `None` when there is nothing to probe.
pub(super) fn due(route: &PeerRoute, env: &Env<'_>) -> Option<(Class, Instant)> {
    let probes = route.candidates.iter().filter_map(|c| probe_due(route, c, env));
    let expiries = route.candidates.iter().filter_map(Candidate::expires);
    let size_due = |c: &Candidate| c.size.as_ref().map_or(Some(env.now), |size| size.due(verify(route, c, env)));
    let sizes = measured(route, env.now).filter(|c| env.leg(c.target).is_some()).filter_map(size_due);
    let announcement = announcement(route, env).map(|(at, _)| at);
    let at = probes.chain(expiries).chain(sizes).chain(announcement).min()?;
    let class = if !route.is_quiet(env.now) {
        Class::Watched
    } else if is_fresh(route) {
        Class::Fresh
    } else {
        Class::Idle
    };
    Some((class, at))
}

/// True when something is to be found out of a quiet peer that does not wait for its turn among all idle ones.
fn is_fresh(route: &PeerRoute) -> bool {
    let unknown = route.active().is_none_or(|active| active.liveness == Liveness::Untested || active.missed > 0);
    unknown || route.candidates.iter().any(|c| c.is_answering() && role(route, c) == Role::Better)
}

pub(super) fn turn(route: &mut PeerRoute, env: &Env<'_>) -> Vec<ProbeRequest> {
    for candidate in &mut route.candidates {
        candidate.expire(env.now);
    }
    route.select(env);
    let due = route.candidates.iter().filter(|c| probe_due(route, c, env).is_some_and(|at| at <= env.now));
    let due: Vec<(u16, Leg)> = due.filter_map(|c| Some((c.id, env.leg(c.target)?))).collect();
    let mut probes: Vec<_> = due.into_iter().map(|(id, leg)| probe(route, id, &leg, SMALLEST, env)).collect();
    measure(route, env, &mut probes);
    if let Some((_, leg)) = announcement(route, env).filter(|(at, _)| *at <= env.now) {
        route.announced_at = Some(env.now);
        let leg = Leg { fixed: true, ..leg };
        probes.push(request(route, ANNOUNCEMENT, &leg, ProbeKind::Announce, SMALLEST, env));
    }
    probes
}

fn role(route: &PeerRoute, candidate: &Candidate) -> Role {
    if Some(candidate.id) == route.active {
        Role::Active
    } else if route.is_better(candidate) {
        Role::Better
    } else if Some(candidate.id) == route.standby {
        Role::Standby
    } else {
        Role::Other
    }
}

/// When the candidate is probed next; `None` while it is not.
fn probe_due(route: &PeerRoute, candidate: &Candidate, env: &Env<'_>) -> Option<Instant> {
    env.leg(candidate.target)?;
    let every = interval(route, candidate, env)?;
    Some(candidate.probed_at.map_or(route.not_before, |at| at + every))
}

fn interval(route: &PeerRoute, candidate: &Candidate, env: &Env<'_>) -> Option<Duration> {
    let role = role(route, candidate);
    if route.is_asked(env.now) {
        return Some(ASK_EVERY);
    }
    let failed = route.active().is_none_or(|active| active.is_dead() || env.leg(active.target).is_none());
    // No path is known to work: any of them may.
    let standby = route.standby.and_then(|id| route.candidate(id)).is_some_and(Candidate::is_answering);
    let considered = role != Role::Other || (failed && !standby);
    if route.is_busy(env.now) {
        return considered.then(|| busy_interval(route, candidate, role, env.now));
    }
    if role == Role::Standby && !failed {
        return None;
    }
    let untested = candidate.liveness == Liveness::Untested;
    considered.then_some(match (route.session, untested) {
        (_, true) => FAST_EVERY,
        // It is about to be promoted.
        _ if matches!(role, Role::Better | Role::Standby) && candidate.is_answering() => FAST_EVERY,
        _ if candidate.missed > 0 && candidate.is_answering() => QUIET_RETRY,
        (true, _) => SESSION_EVERY,
        (false, _) => IDLE_EVERY,
    })
}

fn busy_interval(route: &PeerRoute, candidate: &Candidate, role: Role, now: Instant) -> Duration {
    match (candidate.liveness, role) {
        (Liveness::Untested, _) => FAST_EVERY,
        (Liveness::Dead, _) if now.since(candidate.since) < RECOVER_FOR => RECOVER_EVERY,
        (Liveness::Dead, _) => RECOVER_SLOWLY,
        (Liveness::Answering, Role::Active) if route.is_suspect() => SUSPECT_EVERY,
        (Liveness::Answering, Role::Standby) if route.is_failing(now) => SUSPECT_EVERY,
        (Liveness::Answering, Role::Active) => ACTIVE_EVERY,
        (Liveness::Answering, Role::Standby) => STANDBY_EVERY,
        // It is about to be promoted, or no path is known to work.
        (Liveness::Answering, Role::Better | Role::Other) => FAST_EVERY,
    }
}

fn probe(route: &mut PeerRoute, id: u16, leg: &Leg, size: u32, env: &Env<'_>) -> ProbeRequest {
    let probe = request(route, id, leg, ProbeKind::Request, size, env);
    if let Some(candidate) = route.candidate_mut(id) {
        candidate.sent(size, probe.sent_at);
    }
    probe
}

fn request(route: &mut PeerRoute, path_id: u16, leg: &Leg, kind: ProbeKind, size: u32, env: &Env<'_>) -> ProbeRequest {
    let (source_port, sent_at) = (leg.fixed.then_some(env.data_port), route.stamp(env.now));
    ProbeRequest { to: leg.to, egress: leg.egress, source_port, receiver: route.name, path_id, kind, size, sent_at }
}

/// Candidates whose size is searched for: the active and the standby path of a peer that is not quiet.
fn measured(route: &PeerRoute, now: Instant) -> impl Iterator<Item = &Candidate> {
    let wanted = [route.active, route.standby].into_iter().flatten().filter(move |_| !route.is_quiet(now));
    wanted.filter_map(|id| route.candidate(id)).filter(|candidate| candidate.is_answering())
}

/// How often a confirmed size is confirmed again.
fn verify(route: &PeerRoute, candidate: &Candidate, env: &Env<'_>) -> Option<Duration> {
    let active = Some(candidate.id) == route.active;
    let big = route.big_at.is_some_and(|at| env.now.since(at) <= BIG_FOR);
    match active {
        true if big => Some(VERIFY_BIG),
        true if !route.is_quiet(env.now) => Some(VERIFY),
        _ => None,
    }
}

fn measure(route: &mut PeerRoute, env: &Env<'_>, probes: &mut Vec<ProbeRequest>) {
    let wanted: Vec<_> = measured(route, env.now)
        .filter_map(|c| Some((c.id, env.leg(c.target)?, verify(route, c, env), c.rtt().unwrap_or_default())))
        .collect();
    for (id, leg, verify, rtt) in wanted {
        let bound = route.bound(&leg);
        let Some(candidate) = route.candidate_mut(id) else { continue };
        let search = candidate.size.get_or_insert_with(|| Box::new(SizeSearch::new(bound, env.now)));
        search.set_bound(bound, env.now);
        let Some(ask) = search.ask(verify, rtt, env.now) else { continue };
        if ask.control {
            probes.push(probe(route, id, &leg, SMALLEST, env));
        }
        probes.push(probe(route, id, &leg, ask.size, env));
    }
}

/// When the peer is shown where this host sends from, and by which leg: a NAT or a stateful filter in front of this host
/// lets in only answers to what left it.
fn announcement(route: &PeerRoute, env: &Env<'_>) -> Option<(Instant, Leg)> {
    let needed = env.behind_nat || (route.session && !route.reported);
    if !needed || route.is_quiet(env.now) {
        return None;
    }
    let direct = route.candidates.iter().filter(|c| matches!(c.target, Target::Direct { .. }));
    let usable = direct.filter_map(|c| Some((c.source, c.id, env.leg(c.target)?)));
    let (.., leg) =
        usable.filter(|(source, ..)| *source != Source::Stale).min_by_key(|(source, id, _)| (*source, *id))?;
    let every = if route.session && !route.reported { KEEPALIVE_FIRST } else { KEEPALIVE_EVERY };
    Some((route.announced_at.map_or(route.not_before, |at| at + every), leg))
}
