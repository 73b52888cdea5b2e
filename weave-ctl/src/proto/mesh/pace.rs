//! How often a peer tells a new version of its record, and works out who reaches whom.
//!
//! Each version goes to all peers, who take changes in once in [`settle_time`]: more often says nothing sooner. While there
//! are changes again and again the pause is doubled, up to [`DOUBLINGS_MAX`] times, as OSPF's routers throttle both the
//! origination of a link state and the computation of shortest paths; after a rest of two pauses the next one is at once.

use std::time::Duration;

use super::topology::settle_time;
use crate::proto::time::Instant;

/// Most doublings of the pause.
pub(super) const DOUBLINGS_MAX: u32 = 2;

/// The longest pause.
#[must_use]
pub(super) fn longest(peers: usize) -> Duration {
    settle_time(peers) * (1 << DOUBLINGS_MAX)
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last: Instant,
    doublings: u32,
}

impl Pace {
    /// The last one was now.
    pub(super) fn new(now: Instant) -> Self {
        Self { last: now, doublings: 0 }
    }

    /// When the next one may be, in a mesh of `peers`.
    pub(super) fn next(&self, peers: usize) -> Instant {
        self.last + self.pause(peers)
    }

    /// One is now.
    pub(super) fn step(&mut self, peers: usize, now: Instant) {
        let rested = now >= self.last + self.pause(peers) * 2;
        self.doublings = if rested { 0 } else { (self.doublings + 1).min(DOUBLINGS_MAX) };
        self.last = now;
    }

    fn pause(&self, peers: usize) -> Duration {
        // Alone there is nobody to be spared.
        if peers <= 1 { Duration::ZERO } else { settle_time(peers) * (1 << self.doublings) }
    }
}

#[cfg(test)]
mod tests;
