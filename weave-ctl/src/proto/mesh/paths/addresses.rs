//! Where a peer's data port may be found.
//!
//! Three sources, in this order: the address that a link to it shows, those in its record, those its probes came from.
//! Of the last kind only the address counts, with the port that the peer tells: probes leave from another port than the
//! data port, and a host that answers there may well drop what is sent to its data port.
//!
//! Bounds: one address of a link, [`TOLD_MAX`] told, [`HEARD_MAX`] heard, one new of these each [`HEAR_EVERY`].

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use thin_vec::ThinVec;

use crate::proto::time::Instant;

/// Addresses of a record that are used.
pub const TOLD_MAX: usize = 16;
/// Addresses kept from which probes came; the newest stay.
pub const HEARD_MAX: usize = 2;
/// Shortest time between two new addresses of a peer: who knows our cookie can claim any.
pub const HEAR_EVERY: Duration = Duration::from_secs(1);

/// All of a peer.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    told: ThinVec<SocketAddrV4>,
    linked: Option<SocketAddrV4>,
    heard: ThinVec<Ipv4Addr>,
    heard_at: Option<Instant>,
}

impl Addresses {
    /// The record tells these; true when that is a change.
    pub(super) fn tell(&mut self, candidates: &[SocketAddrV4]) -> bool {
        let mut told = ThinVec::new();
        for candidate in candidates.iter().filter(|c| usable(**c)).take(TOLD_MAX) {
            if !told.contains(candidate) {
                told.push(*candidate);
            }
        }
        let changed = told != self.told;
        if changed {
            told.shrink_to_fit();
            self.told = told;
        }
        changed
    }

    /// A link showed this; true when that is a change.
    pub(super) fn observe(&mut self, at: SocketAddrV4) -> bool {
        let changed = usable(at) && self.linked != Some(at);
        if changed {
            self.linked = Some(at);
        }
        changed
    }

    /// A probe came from `from`; true when it is kept as new.
    pub(super) fn hear(&mut self, from: Ipv4Addr, now: Instant) -> bool {
        let known = self.told.iter().chain(&self.linked).any(|a| *a.ip() == from) || self.heard.contains(&from);
        let early = self.heard_at.is_some_and(|at| now < at + HEAR_EVERY);
        if known || early || !usable(SocketAddrV4::new(from, 1)) {
            return false;
        }
        if self.heard.len() >= HEARD_MAX {
            self.heard.remove(0);
        }
        self.heard.push(from);
        self.heard_at = Some(now);
        true
    }

    /// What is tried, most likely first, each once.
    pub(super) fn candidates(&self) -> Vec<SocketAddrV4> {
        let port = self.told.iter().chain(&self.linked).map(SocketAddrV4::port).next();
        let heard = self.heard.iter().rev().filter_map(|ip| Some(SocketAddrV4::new(*ip, port?)));
        let mut all = Vec::with_capacity(self.told.len() + 1 + HEARD_MAX);
        for candidate in self.linked.into_iter().chain(self.told.iter().copied()).chain(heard) {
            if !all.contains(&candidate) {
                all.push(candidate);
            }
        }
        all
    }

    /// Nothing to try.
    pub(super) fn is_empty(&self) -> bool {
        self.told.is_empty() && self.linked.is_none()
    }

    /// Where the answer to a probe from `from` goes: to the data port, which firewalls let through, where the peer tells
    /// this address; else back through whatever translated it.
    pub(super) fn answer_to(&self, from: SocketAddrV4) -> SocketAddrV4 {
        self.told.iter().find(|a| a.ip() == from.ip()).copied().unwrap_or(from)
    }
}

fn usable(addr: SocketAddrV4) -> bool {
    let ip = addr.ip();
    !(ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast()) && addr.port() > 0
}
