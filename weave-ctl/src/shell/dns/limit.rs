//! Bounds what each source may ask.
//!
//! Bounds: [`SOURCES_MAX`] sources; one more takes the place of another, each in turn, which then begins with all its
//! questions again. So each keeps its place until as many others have come.

use std::{net::IpAddr, time::Instant};

use indexmap::IndexMap;

/// Questions that a source may ask a second.
const RATE: u32 = 1000;
/// Questions that it may ask at once.
const BURST: u32 = 1000;
/// Sources of which it is known what they asked.
const SOURCES_MAX: usize = 8192;

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Questions left, in nanoseconds of filling.
    tokens: u64,
    at: Instant,
}

/// Token buckets, one a source.
#[derive(Debug, Default)]
pub(super) struct Limit {
    sources: IndexMap<IpAddr, Bucket>,
    /// Place of the source that goes next.
    next: usize,
}

/// Nanoseconds in which one token comes.
const STEP: u64 = 1_000_000_000 / RATE as u64;
const FULL: u64 = STEP * BURST as u64;

impl Limit {
    /// True when `source` may ask one more question.
    pub(super) fn takes(&mut self, source: IpAddr, now: Instant) -> bool {
        if self.sources.len() >= SOURCES_MAX && !self.sources.contains_key(&source) {
            // The source that came last takes this place, and keeps it until it is its turn again.
            self.sources.swap_remove_index(self.next);
            self.next = (self.next + 1) % (SOURCES_MAX - 1);
        }
        let bucket = self.sources.entry(source).or_insert(Bucket { tokens: FULL, at: now });
        let passed = u64::try_from(now.saturating_duration_since(bucket.at).as_nanos()).unwrap_or(u64::MAX);
        bucket.tokens = bucket.tokens.saturating_add(passed).min(FULL);
        bucket.at = now;
        let enough = bucket.tokens >= STEP;
        if enough {
            bucket.tokens -= STEP;
        }
        enough
    }
}

#[cfg(test)]
mod tests;
