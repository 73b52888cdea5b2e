//! Where a peer's data port may be found.
//!
//! Four sources, in this order: the address that a link to it shows, those in its record, where packets for it went
//! before, those its probes came from.
//! Of the last kind only the address counts at first, with the port that the peer tells: probes leave from another port
//! than the data port, and a host that answers there may well drop what is sent to its data port.
//!
//! Something on the way may translate addresses and let in only answers to what comes from behind it. Such a host is
//! found where its probes came from and nowhere else, and only from the port that they were sent to. So where no other
//! place answers, a host that knows that it is behind translation asks at the port that the peer's probes leave from, by
//! which the translator lets these in; and the peer asks back at exactly the address and port that it heard. These are
//! the *openings*; data takes the same way, from the same ports. A translator forgets an opening that is not used, often
//! within half a minute, so they are for peers that are asked oftener.
//!
//! Bounds: one address of a link, [`TOLD_MAX`] told, [`HEARD_MAX`] heard, one new of these each [`HEAR_EVERY`].

use std::{net::SocketAddrV4, time::Duration};

use thin_vec::ThinVec;

use super::PeerFacts;
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
    /// Where packets went before the record came.
    before: Option<SocketAddrV4>,
    /// From addresses that its record does not tell, and since when; the newest last.
    heard: ThinVec<(SocketAddrV4, Instant)>,
    /// The port that its probes leave from; zero when unknown.
    probe_port: u16,
}

/// A place from which a probe came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It is known, or comes too early after another.
    Known,
    /// Another port of an address that a link or another probe showed.
    Port,
    /// Neither record nor link nor probe showed this address.
    Address,
}

impl Addresses {
    /// The record tells this; true when that is a change.
    pub(super) fn tell(&mut self, facts: &PeerFacts) -> bool {
        let PeerFacts { candidates, before, probe_port, .. } = facts;
        let mut told = ThinVec::new();
        for candidate in candidates.iter().filter(|c| usable(**c)).take(TOLD_MAX) {
            if !told.contains(candidate) {
                told.push(*candidate);
            }
        }
        let before = before.filter(|before| usable(*before));
        let changed = told != self.told || *probe_port != self.probe_port || before != self.before;
        if changed {
            told.shrink_to_fit();
            (self.told, self.before, self.probe_port) = (told, before, *probe_port);
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

    /// A probe came from `from`.
    pub(super) fn hear(&mut self, from: SocketAddrV4, now: Instant) -> Heard {
        let told = self.told.iter().any(|at| at.ip() == from.ip()) || self.heard().any(|heard| heard == from);
        let early = self.heard.last().is_some_and(|(_, at)| now < *at + HEAR_EVERY);
        if told || early || !usable(from) {
            return Heard::Known;
        }
        let seen = self.heard().chain(self.linked).any(|at| at.ip() == from.ip());
        if self.heard.len() >= HEARD_MAX {
            self.heard.remove(0);
        }
        self.heard.push((from, now));
        if seen { Heard::Port } else { Heard::Address }
    }

    /// The newest first.
    fn heard(&self) -> impl Iterator<Item = SocketAddrV4> {
        self.heard.iter().rev().map(|(from, _)| *from)
    }

    /// The number of the data port, wherever it is.
    fn data_port(&self) -> Option<u16> {
        self.told.iter().chain(&self.linked).map(SocketAddrV4::port).next()
    }

    /// Where the data port may be, most likely first, each once.
    pub(super) fn candidates(&self) -> Vec<SocketAddrV4> {
        let port = self.data_port();
        let heard = self.heard().filter_map(|at| Some(SocketAddrV4::new(*at.ip(), port?)));
        let mut all = Vec::with_capacity(self.told.len() + 2 + HEARD_MAX);
        for candidate in self.linked.into_iter().chain(self.told.iter().copied()).chain(self.before).chain(heard) {
            if !all.contains(&candidate) {
                all.push(candidate);
            }
        }
        all
    }

    /// Openings of translators: to be tried where nothing else answers. `translated`: this host is behind one.
    pub(super) fn openings(&self, translated: bool) -> Vec<SocketAddrV4> {
        let told = if self.linked.is_some() { &[] } else { self.told.as_slice() };
        let there = self.linked.iter().chain(told).filter(|_| translated && self.probe_port > 0);
        let there = there.map(|at| SocketAddrV4::new(*at.ip(), self.probe_port));
        let mut all: Vec<SocketAddrV4> = Vec::new();
        for opening in there.chain(self.heard()) {
            if !all.contains(&opening) && !self.is_plain(opening) {
                all.push(opening);
            }
        }
        all
    }

    /// True when this is where a data port may be, and no opening.
    pub(super) fn is_plain(&self, at: SocketAddrV4) -> bool {
        let is_heard = || self.data_port() == Some(at.port()) && self.heard().any(|heard| heard.ip() == at.ip());
        [self.linked, self.before].contains(&Some(at)) || self.told.contains(&at) || is_heard()
    }

    /// True when something signed told of this place: the peer's record, or the hello of a link.
    pub(super) fn vouches(&self, at: SocketAddrV4) -> bool {
        [self.linked, self.before].contains(&Some(at)) || self.told.iter().any(|told| told.ip() == at.ip())
    }

    /// True when `one` is where a data port may be, and `other` an opening.
    pub(super) fn is_better(&self, one: SocketAddrV4, other: SocketAddrV4) -> bool {
        self.is_plain(one) && !self.is_plain(other)
    }

    /// Nothing to try.
    pub(super) fn is_empty(&self) -> bool {
        self.told.is_empty() && self.linked.is_none() && self.before.is_none()
    }

    /// The data port, as the peer tells it, at the address that a probe came from.
    pub(super) fn told_at(&self, from: SocketAddrV4) -> Option<SocketAddrV4> {
        self.told.iter().find(|told| told.ip() == from.ip()).copied()
    }
}

fn usable(addr: SocketAddrV4) -> bool {
    let ip = addr.ip();
    !(ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast()) && addr.port() > 0
}
