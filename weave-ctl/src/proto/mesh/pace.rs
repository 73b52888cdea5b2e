//! How often a peer may tell a new version of its record.
//!
//! Each version goes to all peers, who take changes in once in [`settle_time`]: more often says nothing sooner. While a
//! record goes on changing the pause is doubled, up to [`DOUBLINGS_MAX`] times, as OSPF's routers are throttled that
//! originate the same link state again and again; once it rested for two pauses the next change is told at once.

use std::time::Duration;

use super::topology::settle_time;
use crate::proto::time::Instant;

/// Most doublings of the pause.
pub(super) const DOUBLINGS_MAX: u32 = 2;

/// Longest time for which a change may wait to be told.
#[must_use]
pub(super) fn longest(peers: usize) -> Duration {
    settle_time(peers) * (1 << DOUBLINGS_MAX)
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Pace {
    published: Instant,
    doublings: u32,
}

impl Pace {
    /// Nothing was told yet.
    pub(super) fn new(now: Instant) -> Self {
        Self { published: now, doublings: 0 }
    }

    /// When the next version may be told, in a mesh of `peers`.
    pub(super) fn next(&self, peers: usize) -> Instant {
        self.published + self.pause(peers)
    }

    /// A version is told.
    pub(super) fn publish(&mut self, peers: usize, now: Instant) {
        let rested = now >= self.published + self.pause(peers) * 2;
        self.doublings = if rested { 0 } else { (self.doublings + 1).min(DOUBLINGS_MAX) };
        self.published = now;
    }

    fn pause(&self, peers: usize) -> Duration {
        // Alone there is nobody to be spared.
        if peers <= 1 { Duration::ZERO } else { settle_time(peers) * (1 << self.doublings) }
    }
}

#[cfg(test)]
mod tests;
