//! How often somebody else may make this peer do what costs: so many times at once, and then at a rate.

use std::time::Duration;

use super::time::Instant;

/// What may still be done.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    most: u32,
    /// Time in which one more is gained.
    gain: Duration,
    left: u32,
    /// Up to then its gains are counted.
    at: Instant,
}

impl Budget {
    /// `most` at once, and `rate` a second, which is above zero.
    #[must_use]
    pub fn full(most: u32, rate: u32, now: Instant) -> Self {
        Self { most, gain: Duration::from_secs(1) / rate, left: most, at: now }
    }

    /// Takes one; false when there is none left.
    pub fn take(&mut self, now: Instant) -> bool {
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
