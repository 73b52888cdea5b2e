//! When the datagrams of a numbered stream arrived, and what follows from that: the longest gap, and which are missing.
//!
//! Bounds: as many arrivals as the stream had. Does not: look at a clock; times are those of the receiver.

use std::{
    collections::BTreeSet,
    ops::Range,
    time::{Duration, Instant},
};

/// A datagram that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Its number, from 0, in the order of sending.
    pub number: u64,
    /// When the receiver read it.
    pub at: Instant,
}

/// What became of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Datagrams sent.
    pub sent: u64,
    /// Different ones that arrived.
    pub received: u64,
    /// That arrived more than once.
    pub duplicates: u64,
}

impl Flow {
    /// Everything arrived once.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.sent > 0 && self.received == self.sent && self.duplicates == 0
    }
}

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// Datagrams sent.
    pub sent: u64,
    /// In the order of arrival, duplicates included.
    pub arrivals: Vec<Arrival>,
}

impl Timeline {
    /// The longest time without an arrival that lies at least in part between `since` and `until`. One that began before
    /// `since` counts from its beginning; one that nothing ended lasts until `until`.
    #[must_use]
    pub fn longest_gap(&self, since: Instant, until: Instant) -> Duration {
        let times = || self.arrivals.iter().map(|arrival| arrival.at);
        let first = times().next().map_or(since, |first| first.min(since));
        let ends = times().skip(1).chain([until]);
        let pairs = std::iter::once(first).chain(times()).zip(times().take(1).chain(ends));
        let inside = pairs.filter(|(from, to)| *to > since && *from < until);
        inside.map(|(from, to)| to.min(until).saturating_duration_since(from)).max().unwrap_or_default()
    }

    /// Numbers of this range that never arrived.
    #[must_use]
    pub fn missing(&self, numbers: Range<u64>) -> Vec<u64> {
        let arrived = self.different();
        numbers.filter(|number| !arrived.contains(number)).collect()
    }

    /// The stream as counts.
    #[must_use]
    pub fn flow(&self) -> Flow {
        let received = self.different().len() as u64;
        Flow { sent: self.sent, received, duplicates: self.arrivals.len() as u64 - received }
    }

    fn different(&self) -> BTreeSet<u64> {
        self.arrivals.iter().map(|arrival| arrival.number).collect()
    }
}

#[cfg(test)]
mod tests;
