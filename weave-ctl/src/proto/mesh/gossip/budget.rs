//! How much a neighbour may make this peer answer.

use std::time::Duration;

use crate::proto::time::Instant;

/// Most answers to comparisons that one link can have at once.
pub const ANSWERS_MAX: u32 = 64;
/// Answers that a link is granted a second.
pub const ANSWERS_RATE: u32 = 20;
/// Time for one of them.
const GAIN: Duration = Duration::from_millis(1000 / ANSWERS_RATE as u64);

/// What a link may still be answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    left: u32,
    /// Up to then its gains are counted.
    at: Instant,
}

impl Budget {
    /// That of a new link.
    pub(super) fn full(now: Instant) -> Self {
        Self { left: ANSWERS_MAX, at: now }
    }

    /// Takes one answer; false when there is none left.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let gained = now.since(self.at).as_millis() / GAIN.as_millis();
        let missing = ANSWERS_MAX - self.left;
        match u32::try_from(gained) {
            Ok(gained) if gained < missing => {
                self.left += gained;
                self.at = self.at + GAIN * gained;
            }
            _ => *self = Self::full(now),
        }
        let granted = self.left > 0;
        self.left = self.left.saturating_sub(1);
        granted
    }
}

#[cfg(test)]
mod tests;
