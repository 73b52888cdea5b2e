//! Throttles what each change makes all peers do: signing a new record, and computing the topology.
//!
//! A new version of a record goes to all peers, which take changes in once in a [`hold_down`]: more often serves nothing.
//! While changes go on, the pause doubles up to [`DOUBLINGS_MAX`] times, as routers back off both the origination of a link
//! state (RFC 2328, MinLSInterval) and the computation of shortest paths (RFC 8405); after a rest of two pauses the next
//! change is taken in at once.

use std::time::Duration;

use super::time::Instant;

/// Most doublings of the pause.
pub const DOUBLINGS_MAX: u32 = 2;

/// Time from a change to the computation that it is part of (RFC 8405: INITIAL_SPF_DELAY), in a network of `peers`.
#[must_use]
pub fn hold_down(peers: usize) -> Duration {
    Duration::from_millis(50 + peers as u64 / 2)
}

/// The longest pause (RFC 8405: LONG_SPF_DELAY).
#[must_use]
pub fn longest(peers: usize) -> Duration {
    hold_down(peers) * (1 << DOUBLINGS_MAX)
}

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Throttle {
    last: Instant,
    doublings: u32,
}

impl Throttle {
    /// The last change was taken in at `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { last: now, doublings: 0 }
    }

    /// When the next change may be taken in.
    #[must_use]
    pub fn next(&self, peers: usize) -> Instant {
        self.last + self.pause(peers)
    }

    /// A change is taken in.
    pub fn step(&mut self, peers: usize, now: Instant) {
        let rested = now >= self.last + self.pause(peers) * 2;
        self.doublings = if rested { 0 } else { (self.doublings + 1).min(DOUBLINGS_MAX) };
        self.last = now;
    }

    fn pause(&self, peers: usize) -> Duration {
        // A peer that is alone spares no other.
        if peers <= 1 { Duration::ZERO } else { hold_down(peers) * (1 << self.doublings) }
    }
}

#[cfg(test)]
mod tests;
