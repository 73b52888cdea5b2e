//! Keeps the deadlines of all peers and bounds the probes that a host sends.
//!
//! Each class of peers has a queue of deadlines, oldest first, and a rate for the probes of its peers together. Peers of a
//! crowded class wait, so the cost of this host is bounded whatever the number of peers. A turn that costs more than is
//! left is paid by the next ones.
//!
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

/// Time that one probe of a watched peer takes of the class: 4,000 probes a second.
pub(super) const WATCHED_COST: Duration = Duration::from_micros(250);
/// Probes of watched peers at once.
pub(super) const WATCHED_BURST: u32 = 64;
/// The same for fresh ones: 128 probes a second, so 1,000 new peers are known in half a minute, 5,000 in two.
pub(super) const FRESH_COST: Duration = Duration::from_nanos(7_812_500);
/// Probes of fresh peers at once.
pub(super) const FRESH_BURST: u32 = 32;
/// The same for idle ones: two probes a second.
pub(super) const IDLE_COST: Duration = Duration::from_millis(500);
/// Probes of idle peers at once.
pub(super) const IDLE_BURST: u32 = 1;

/// All queues.
#[derive(Debug)]
pub(super) struct Schedule([Queue; 3]);

#[derive(Debug)]
struct Queue {
    cost: Duration,
    slack: Duration,
    /// Everything granted so far is paid by then. It may lie ahead of now by the slack.
    paid: Instant,
    deadlines: BTreeSet<(Instant, PeerName)>,
    /// The first deadline: it is asked for at every input, and finding it among thousands costs.
    next: Option<Instant>,
}

impl Class {
    /// All, what matters most first.
    const ALL: [Self; 3] = [Self::Watched, Self::Fresh, Self::Idle];
}

impl Default for Schedule {
    fn default() -> Self {
        Self([
            Queue::new(WATCHED_COST, WATCHED_BURST),
            Queue::new(FRESH_COST, FRESH_BURST),
            Queue::new(IDLE_COST, IDLE_BURST),
        ])
    }
}

impl Schedule {
    /// Puts `peer` into a class.
    pub(super) fn insert(&mut self, (class, at): (Class, Instant), peer: PeerName) {
        let queue = &mut self.0[class as usize];
        queue.deadlines.insert((at, peer));
        queue.next = Some(queue.next.map_or(at, |next| next.min(at)));
    }

    /// Takes `peer` out of a class again.
    pub(super) fn remove(&mut self, (class, at): (Class, Instant), peer: PeerName) {
        let queue = &mut self.0[class as usize];
        queue.deadlines.remove(&(at, peer));
        queue.look(at);
    }

    /// Takes a peer whose turn it is. Its class must be charged, whatever the turn did: that ends a loop of turns.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(Class, PeerName)> {
        Class::ALL.into_iter().find_map(|class| {
            let queue = &mut self.0[class as usize];
            queue.ready().filter(|ready| *ready <= now)?;
            let (at, peer) = queue.deadlines.pop_first()?;
            queue.look(at);
            Some((class, peer))
        })
    }

    /// A turn cost `probes`; a turn without any counts as one, so that turns are bounded too.
    pub(super) fn charge(&mut self, class: Class, probes: u32, now: Instant) {
        let queue = &mut self.0[class as usize];
        queue.paid = queue.paid.max(now) + queue.cost * probes.max(1);
    }

    /// When the next turn is.
    pub(super) fn ready(&self) -> Option<Instant> {
        self.0.iter().filter_map(Queue::ready).min()
    }
}

impl Queue {
    fn new(cost: Duration, burst: u32) -> Self {
        Self { cost, slack: cost * (burst - 1), paid: Instant::default(), deadlines: BTreeSet::new(), next: None }
    }

    fn ready(&self) -> Option<Instant> {
        let gate = Instant::from_start(self.paid.since_start().saturating_sub(self.slack));
        self.next.map(|at| gate.max(at))
    }

    /// The deadline `at` is gone.
    fn look(&mut self, at: Instant) {
        if self.next == Some(at) {
            self.next = self.deadlines.first().map(|(at, _)| *at);
        }
    }
}

#[cfg(test)]
mod tests;
