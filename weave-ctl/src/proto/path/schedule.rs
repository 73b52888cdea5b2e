//! Keeps the deadlines of all peers and bounds the probes that a host sends.
//!
//! Each class of peers has a queue of deadlines, oldest first, and a rate for the probes of its peers together. Peers of a
//! crowded class wait. A turn that costs more than is left is paid by the next ones.
//! Bounds: a peer is in one queue at most, once. All operations are logarithmic in the number of peers.

use std::{collections::BTreeSet, time::Duration};

use crate::proto::{name::PeerName, time::Instant};

/// Which peers share a queue and a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Peers with traffic or with a session.
    Watched,
    /// Other peers without a measured path.
    Fresh,
    /// All others.
    Idle,
}

/// Of each class: time that one probe takes of its rate, and probes at once.
pub(super) const RATES: [(Duration, u32); 3] = [
    // 4,000 probes a second.
    (Duration::from_micros(250), 64),
    // 128 a second: 1,000 new peers are known in half a minute, 5,000 in two.
    (Duration::from_nanos(7_812_500), 32),
    (Duration::from_millis(500), 1),
];

#[derive(Debug)]
pub(super) struct Schedule([Queue; 3]);

#[derive(Debug)]
struct Queue {
    cost: Duration,
    slack: Duration,
    /// Everything granted so far is paid by then. It may lie ahead of now by the slack.
    paid: Instant,
    deadlines: BTreeSet<(Instant, PeerName)>,
}

impl Class {
    /// All, what matters most first.
    const ALL: [Self; 3] = [Self::Watched, Self::Fresh, Self::Idle];
}

impl Default for Schedule {
    fn default() -> Self {
        Self(RATES.map(|(cost, burst)| {
            let slack = cost * (burst - 1);
            Queue { cost, slack, paid: Instant::default(), deadlines: BTreeSet::new() }
        }))
    }
}

impl Schedule {
    pub(super) fn insert(&mut self, (class, at): (Class, Instant), peer: PeerName) {
        self.0[class as usize].deadlines.insert((at, peer));
    }

    pub(super) fn remove(&mut self, (class, at): (Class, Instant), peer: PeerName) {
        self.0[class as usize].deadlines.remove(&(at, peer));
    }

    /// Takes a peer whose turn it is. Its class must be charged, whatever the turn did: that ends a loop of turns.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(Class, PeerName)> {
        Class::ALL.into_iter().find_map(|class| {
            let queue = &mut self.0[class as usize];
            queue.ready().filter(|ready| *ready <= now)?;
            queue.deadlines.pop_first().map(|(_, peer)| (class, peer))
        })
    }

    /// A turn cost `probes`; a turn without any counts as one, so that turns are bounded too.
    pub(super) fn charge(&mut self, class: Class, probes: u32, now: Instant) {
        let queue = &mut self.0[class as usize];
        queue.paid = queue.paid.max(now) + queue.cost * probes.max(1);
    }

    pub(super) fn ready(&self) -> Option<Instant> {
        self.0.iter().filter_map(Queue::ready).min()
    }
}

impl Queue {
    fn ready(&self) -> Option<Instant> {
        let gate = Instant::from_start(self.paid.since_start().saturating_sub(self.slack));
        self.deadlines.first().map(|(at, _)| gate.max(*at))
    }
}

#[cfg(test)]
mod tests;
