//! Bounds how often costly work is done: what each change makes all peers do ([`Throttle`]: signing a new record, computing
//! the topology), and what others ask for ([`Budget`]).
//!
//! A new version of a record goes to all peers, which take changes in once in a [`hold_down`]: more often serves nothing.
//! While changes go on, the pause doubles up to [`DOUBLINGS_MAX`] times, as routers back off both the origination of a link
//! state (RFC 2328, MinLSInterval) and the computation of shortest paths (RFC 8405); after a rest of two pauses the next
//! change is taken in at once.

use std::time::Duration;

use super::time::Instant;

/// Most doublings of the pause.
pub(crate) const DOUBLINGS_MAX: u32 = 2;

/// Time from a change to the computation that it is part of (RFC 8405: INITIAL_SPF_DELAY), in a network of `peers`.
pub(crate) fn hold_down(peers: usize) -> Duration {
    Duration::from_millis(50 + peers as u64 / 2)
}

/// The longest pause (RFC 8405: LONG_SPF_DELAY).
pub(crate) fn longest(peers: usize) -> Duration {
    hold_down(peers) * (1 << DOUBLINGS_MAX)
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    last: Instant,
    doublings: u32,
}

impl Throttle {
    /// The last change was taken in at `now`.
    pub(crate) fn new(now: Instant) -> Self {
        Self { last: now, doublings: 0 }
    }

    /// When the next change may be taken in.
    pub(crate) fn next(&self, peers: usize) -> Instant {
        self.last + self.pause(peers)
    }

    /// A change is taken in.
    pub(crate) fn step(&mut self, peers: usize, now: Instant) {
        let rested = now >= self.last + self.pause(peers) * 2;
        self.doublings = if rested { 0 } else { (self.doublings + 1).min(DOUBLINGS_MAX) };
        self.last = now;
    }

    fn pause(&self, peers: usize) -> Duration {
        // A peer that is alone spares no other.
        if peers <= 1 { Duration::ZERO } else { hold_down(peers) * (1 << self.doublings) }
    }
}

/// How often others may make this peer do what costs: so many times at once, and then at a rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    most: u32,
    /// Time in which one more is gained.
    gain: Duration,
    left: u32,
    /// Up to then its gains are counted.
    at: Instant,
}

impl Budget {
    /// `most` at once, and `rate` a second, which is above zero.
    pub(crate) fn full(most: u32, rate: u32, now: Instant) -> Self {
        Self { most, gain: Duration::from_secs(1) / rate, left: most, at: now }
    }

    /// Takes one; false when there is none left.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let gained = now.since(self.at).as_nanos() / self.gain.as_nanos();
        match u32::try_from(gained) {
            Ok(gained) if gained < self.most - self.left => {
                self.left += gained;
                self.at = self.at + self.gain * gained;
            }
            _ => (self.left, self.at) = (self.most, now),
        }
        let granted = self.left > 0;
        self.left = self.left.saturating_sub(1);
        granted
    }
}

#[cfg(test)]
mod tests;
