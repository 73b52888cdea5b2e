//! Token buckets: how often a program does what others can make it do.

use bytemuck::{Pod, Zeroable};

/// What is left of a burst, and since when it is refilled. Zero everywhere is a full bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Bucket {
    /// Tokens left.
    pub tokens: u32,
    /// Always zero.
    pub pad: u32,
    /// Moment, in nanoseconds of the monotonic clock, up to which tokens were added.
    pub filled_ns: u64,
}

/// How fast and how far a bucket fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds a token.
    pub step_ns: u64,
    /// Most tokens at once.
    pub burst: u32,
}

/// Answers to the probes of one sender: 10,000 a second, 1,000 at once.
pub const ECHO: Rate = Rate { step_ns: 100_000, burst: 1000 };
/// Probes that go up to the controller and are no answers: 64 a second, 64 at once.
pub const CONTACT: Rate = Rate { step_ns: 1_000_000_000 / 64, burst: 64 };

/// Questions for names that the resolver gets from one address of a container: 1,000 a second, 1,000 at once.
pub const QUESTIONS: Rate = Rate { step_ns: 1_000_000, burst: 1000 };

impl Bucket {
    /// A full one.
    pub const FULL: Self = Self { tokens: 0, pad: 0, filled_ns: 0 };

    /// The bucket after one token was taken at `now_ns`; `None` when there is none.
    ///
    /// A clock that stood still or went back adds nothing.
    #[must_use]
    #[inline(always)]
    pub const fn take(self, now_ns: u64, rate: Rate) -> Option<Self> {
        let steps = now_ns.saturating_sub(self.filled_ns) / rate.step_ns;
        let (tokens, filled_ns) = if steps >= rate.burst as u64 {
            (rate.burst, now_ns)
        } else {
            let tokens = self.tokens + steps as u32;
            (if tokens > rate.burst { rate.burst } else { tokens }, self.filled_ns + steps * rate.step_ns)
        };
        if tokens == 0 {
            return None;
        }
        Some(Self { tokens: tokens - 1, pad: 0, filled_ns })
    }
}

const _: () = assert!(size_of::<Bucket>() == 16);

#[cfg(test)]
mod tests;
