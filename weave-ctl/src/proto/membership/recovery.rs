//! Sequence recovery of this peer's own record (RFC 2328, section 13.4).
//!
//! Others hold newer entries signed with this peer's key than it made in this run: its store was restored from a backup, or
//! another controller runs with a copy of it. They ignore what this peer says until its version is higher, so it continues
//! from the highest version received. Of two controllers with one store each does, again and again: less and less often,
//! and both warn.
//! Bounds: the pause doubles with each time, from [`RECOVERY_PAUSE`] up to [`DOUBLINGS_MAX`] times.

use std::time::Duration;

use super::timers::{COPY_SHOWN, RECOVERY_PAUSE};
use crate::proto::time::Instant;

/// Most doublings of the pause.
pub(super) const DOUBLINGS_MAX: u32 = 7;
/// Recoveries that are more than a restored store needs.
pub(super) const SUSPICIOUS: u32 = 3;

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    pub(super) times: u32,
    last: Instant,
    /// All own entries are to be signed anew.
    pending: bool,
}

impl Recovery {
    /// A higher version was received: when to publish one above it. `None` while that is pending.
    pub(super) fn begin(&mut self, now: Instant) -> Option<Duration> {
        if self.pending {
            return None;
        }
        if now.since(self.last) >= COPY_SHOWN {
            self.times = 0;
        }
        let pause = RECOVERY_PAUSE * (1 << self.times.min(DOUBLINGS_MAX));
        *self = Self { times: self.times.saturating_add(1), last: now, pending: true };
        Some(pause)
    }

    /// The record was published; true when all other own entries must be, too.
    pub(super) fn finish(&mut self) -> bool {
        std::mem::take(&mut self.pending)
    }

    /// The warning about a copy of this store.
    pub(super) fn warning(&self, now: Instant) -> Option<String> {
        let text = "another controller uses this one's name and key, so its store is a copy: stop one of the two, and \
                    launch it with an empty --state-dir";
        (self.times >= SUSPICIOUS && now.since(self.last) < COPY_SHOWN).then(|| text.to_owned())
    }
}
