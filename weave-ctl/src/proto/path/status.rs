//! Paths as operators see them.

use std::{net::SocketAddrV4, time::Duration};

use super::{
    Paths,
    candidate::{Candidate, Liveness, Target},
    route::PeerRoute,
};
use crate::proto::{name::PeerName, time::Instant};

/// All candidate paths to a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteStatus {
    /// The path that packets take: its place among the candidates.
    pub active: Option<usize>,
    /// The path that is next in line, likewise.
    pub standby: Option<usize>,
    /// Why the active path was selected.
    pub why: &'static str,
    /// Every candidate.
    pub candidates: Vec<PathLine>,
}

/// One candidate path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathLine {
    /// Outer destination; `None` for a relay to which no direct path answers.
    pub remote: Option<SocketAddrV4>,
    /// The relay; `None` for a direct path.
    pub via: Option<PeerName>,
    /// From data port to data port.
    pub fixed: bool,
    /// `answers`, `no answer`, `not tried` or `no route`.
    pub state: &'static str,
    /// Round-trip time of the last probe without padding.
    pub rtt: Option<Duration>,
    /// Relays that the last probe passed.
    pub hops: u8,
    /// Confirmed size in bytes of the outer IP packet.
    pub size: Option<u32>,
    /// Time since it does not answer any more.
    pub silent: Option<Duration>,
}

impl Paths {
    /// The candidate paths to a peer.
    #[must_use]
    pub fn status(&self, peer: PeerName, now: Instant) -> RouteStatus {
        let Some(route) = self.peers.get(&peer) else { return RouteStatus::default() };
        let place = |id: Option<u16>| route.candidates.iter().position(|c| Some(c.id) == id);
        RouteStatus {
            active: place(route.active),
            standby: place(route.standby),
            why: route.why,
            candidates: route.candidates.iter().map(|c| self.line(route, c, now)).collect(),
        }
    }

    fn line(&self, route: &PeerRoute, candidate: &Candidate, now: Instant) -> PathLine {
        let (remote, via, fixed, routed) = match candidate.target {
            Target::Direct { to, fixed } => {
                (Some(to), None, fixed, self.egress.get(to.ip()).is_some_and(|watched| watched.egress.is_some()))
            }
            Target::Relay(relay) => {
                let leg = self.peers.get(&relay).and_then(|relay| relay.relay_leg);
                (leg.map(|leg| leg.to), Some(relay), leg.is_some_and(|leg| leg.fixed), leg.is_some())
            }
        };
        let state = match candidate.liveness {
            _ if !routed => "no route",
            Liveness::Untested => "not tried",
            Liveness::Answering => "answers",
            Liveness::Dead => "no answer",
        };
        let size = candidate.size.as_ref().filter(|_| candidate.is_answering() || Some(candidate.id) == route.active);
        PathLine {
            remote,
            via,
            fixed,
            state,
            rtt: candidate.rtt(),
            hops: candidate.hops,
            size: size.and_then(|size| size.confirmed()),
            silent: candidate.is_dead().then(|| now.since(candidate.since)),
        }
    }
}
