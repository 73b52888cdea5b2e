//! What a peer's turn needs of the rest of this host: the clock, routes to addresses, next hops of relays.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
};

use super::candidate::Target;
use crate::proto::{io::Egress, name::PeerName, time::Instant};

/// How a packet by some candidate leaves this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leg {
    /// Outer destination.
    pub(super) to: SocketAddrV4,
    /// From this host's data port.
    pub(super) fixed: bool,
    pub(super) egress: Egress,
}

/// See the head of this file.
pub(super) struct Env<'a> {
    pub(super) now: Instant,
    /// Answers of the host's routing table, for the addresses that are watched.
    pub(super) egress: &'a BTreeMap<Ipv4Addr, Watched>,
    /// Relays to which a direct path answers, of those that are candidates of the peer at hand.
    pub(super) relays: &'a [(PeerName, Leg)],
    /// UDP data port of this host.
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
