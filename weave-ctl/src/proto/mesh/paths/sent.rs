//! Questions to one peer that may still be answered.
//!
//! Bounds: [`SENT_MAX`] questions, each for [`SENT_FOR`].

use std::{net::SocketAddrV4, time::Duration};

use thin_vec::ThinVec;

use crate::proto::time::Instant;

/// Questions kept; the oldest are given up. Four rounds to all addresses of a peer fit.
pub const SENT_MAX: usize = 80;
/// An answer later than this is none.
pub const SENT_FOR: Duration = Duration::from_secs(5);

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    /// Its number.
    pub(super) sequence: u64,
    /// When.
    pub(super) at: Instant,
    /// To where.
    pub(super) to: SocketAddrV4,
    /// Bytes of the outer IP packet.
    pub(super) size: u32,
}

/// A round-trip time in microseconds, up to an hour: there are thousands of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Micros(u32);

impl From<Duration> for Micros {
    fn from(time: Duration) -> Self {
        Self(u32::try_from(time.as_micros()).unwrap_or(u32::MAX))
    }
}

impl From<Micros> for Duration {
    fn from(Micros(micros): Micros) -> Self {
        Self::from_micros(micros.into())
    }
}

/// All of a peer.
#[derive(Debug, Default)]
pub(super) struct Questions {
    open: ThinVec<Sent>,
    sequence: u64,
}

impl Questions {
    /// Notes a question; returns its number.
    pub(super) fn push(&mut self, to: SocketAddrV4, size: u32, now: Instant) -> u64 {
        self.forget_old(now);
        if self.open.len() >= SENT_MAX {
            self.open.remove(0);
        }
        self.sequence += 1;
        if self.open.is_empty() {
            // Most are answered before there is another.
            self.open.reserve_exact(1);
        }
        self.open.push(Sent { sequence: self.sequence, at: now, to, size });
        self.sequence
    }

    /// The question of this number, if it may still be answered.
    pub(super) fn get(&self, sequence: u64, now: Instant) -> Option<Sent> {
        let index = self.open.binary_search_by_key(&sequence, |s| s.sequence).ok()?;
        self.open.get(index).copied().filter(|s| now.since(s.at) <= SENT_FOR)
    }

    /// It was answered.
    pub(super) fn close(&mut self, sequence: u64) {
        if let Ok(index) = self.open.binary_search_by_key(&sequence, |s| s.sequence) {
            self.open.remove(index);
        }
        if self.open.is_empty() {
            // Thousands of idle peers have none most of the time.
            self.open = ThinVec::new();
        }
    }

    /// How many are open.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    fn forget_old(&mut self, now: Instant) {
        let old = self.open.iter().take_while(|s| now.since(s.at) > SENT_FOR).count();
        self.open.drain(..old);
    }
}
