//! The watched addresses: which are to be looked up, and what was last told of each. Pure.
//!
//! ```text
//! watch -----------------> wanted --take--> running --answer--> told, if it is another answer
//! change --> dirty --due-----^                 \--failure, after a pause--> wanted
//! ```
//! A change that comes while a lookup runs makes the address dirty again, so the last answer is never older than the last
//! change. Bounds: an address is in each set once.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

use tokio::time::Instant;

use super::cache::Affected;
use crate::proto::io::Egress;

/// Changes within this time of the first are looked at together.
pub(super) const COALESCE: Duration = Duration::from_millis(50);
/// Lookups that run at once.
pub(super) const LOOKUPS_MAX: usize = 16;
/// A round of lookups that took long is followed by a pause of so many times its length, so that a host whose routes
/// never rest costs a bounded share of a core.
const PAUSE_FACTOR: u32 = 4;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    /// What was told of each; `None` when nothing yet.
    told: BTreeMap<Ipv4Addr, Option<Option<Egress>>>,
    wanted: BTreeSet<Ipv4Addr>,
    running: BTreeSet<Ipv4Addr>,
    dirty: BTreeSet<Ipv4Addr>,
    /// When the dirty ones become wanted.
    due: Option<Instant>,
    /// Begin of the round that runs, and length of the last.
    begun: Option<Instant>,
    took: Duration,
}

impl Lookups {
    /// Looks `addr` up now, and after changes. Tells of it even if the answer was told before.
    pub(super) fn watch(&mut self, addr: Ipv4Addr) {
        self.told.insert(addr, None);
        self.wanted.insert(addr);
    }

    /// Forgets `addr`.
    pub(super) fn unwatch(&mut self, addr: Ipv4Addr) {
        self.told.remove(&addr);
        self.wanted.remove(&addr);
        self.dirty.remove(&addr);
    }

    /// The answers for these addresses may be others now.
    pub(super) fn affected(&mut self, affected: Affected, now: Instant) {
        let before = self.dirty.len();
        match affected {
            Affected::None => return,
            Affected::All => self.dirty.extend(self.told.keys()),
            Affected::Prefix(net) => {
                self.dirty.extend(self.told.range(net.network()..=net.broadcast()).map(|(addr, _)| addr));
            }
        }
        if self.dirty.len() > before {
            let pause = COALESCE.max(self.took * PAUSE_FACTOR);
            self.due.get_or_insert(now + pause);
        }
    }

    /// A lookup came to nothing: it is tried again at `at`.
    pub(super) fn failed(&mut self, addr: Ipv4Addr, at: Instant) {
        self.running.remove(&addr);
        if self.told.contains_key(&addr) {
            self.dirty.insert(addr);
            self.due.get_or_insert(at);
        }
    }

    /// When [`Self::take`] has something that it does not have now.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The next address to look up; `None` when enough are under way.
    pub(super) fn take(&mut self, now: Instant) -> Option<Ipv4Addr> {
        if self.due.is_some_and(|due| due <= now) {
            self.due = None;
            self.wanted.append(&mut self.dirty);
        }
        if self.wanted.is_empty() && self.running.is_empty() {
            self.took = self.begun.take().map_or(self.took, |begun| now - begun);
        }
        if self.running.len() >= LOOKUPS_MAX {
            return None;
        }
        // One that is under way waits: two answers could come in the wrong order.
        let next = self.wanted.iter().find(|addr| !self.running.contains(addr)).copied()?;
        self.wanted.remove(&next);
        self.running.insert(next);
        self.begun.get_or_insert(now);
        Some(next)
    }

    /// A lookup is answered. True when that is to be told.
    pub(super) fn answered(&mut self, addr: Ipv4Addr, egress: Option<Egress>) -> bool {
        self.running.remove(&addr);
        let Some(told) = self.told.get_mut(&addr) else { return false };
        told.replace(egress) != Some(egress)
    }
}
