//! Time as the core knows it: an argument.

use std::{fmt, num::NonZeroU64, ops::Add, time::Duration};

/// A point on the monotonic clock of whoever drives the core, as the time since that clock's own start, in nanoseconds: up
/// to 584 years, and the end of them for all that is later.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(
    /// One more than the nanoseconds: thousands of peers have many points in time, some of which may be none.
    NonZeroU64,
);

impl Instant {
    /// The point `since_start` after the clock's start.
    #[must_use]
    pub const fn from_start(since_start: Duration) -> Self {
        let nanos = since_start.as_nanos();
        let nanos = if nanos < u64::MAX as u128 { nanos as u64 } else { u64::MAX - 1 };
        Self(NonZeroU64::MIN.saturating_add(nanos))
    }

    /// Time since the clock's start.
    #[must_use]
    pub const fn since_start(self) -> Duration {
        Duration::from_nanos(self.0.get() - 1)
    }

    /// Time from `earlier` to this point; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }
}

impl Default for Instant {
    fn default() -> Self {
        Self::from_start(Duration::ZERO)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.since_start().fmt(f)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests;
