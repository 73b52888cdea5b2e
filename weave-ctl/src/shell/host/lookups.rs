//! The watched addresses: which are to be looked up, and what was last told of each. Pure.
//!
//! ```text
//! watch -----------------> wanted --take--> running --answer--> told, if it is another answer
//! change --> dirty --due-----^  ^              \--failure, after a pause--> wanted
//! change of a device -- LATER --/ all
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
const PAUSE_FACTOR: u32 = 15;
/// From a change of a device or its addresses to lookups of all that it does not concern by what is known: they differ where
/// several devices lead to one prefix, and where the kernel chooses another source.
const LATER: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    told: BTreeMap<Ipv4Addr, Told>,
    wanted: BTreeSet<Ipv4Addr>,
    running: BTreeSet<Ipv4Addr>,
    dirty: BTreeSet<Ipv4Addr>,
    /// When the dirty ones become wanted.
    due: Option<Instant>,
    /// When all become wanted.
    all_due: Option<Instant>,
    /// Begin of the round that runs.
    begun: Option<Instant>,
    /// End of the pause after the last round.
    rested: Option<Instant>,
}

/// What is known of an address.
#[derive(Debug, Default)]
struct Told {
    /// What was told; `None` when nothing yet.
    egress: Option<Option<Egress>>,
    /// The device that its route leads by, though that may make no egress.
    by: Option<u32>,
}

impl Told {
    fn leaves(&self, ifindex: u32, source: Option<Ipv4Addr>) -> bool {
        self.by == Some(ifindex) || source.is_some() && self.egress.flatten().map(|egress| egress.source) == source
    }
}

impl Lookups {
    /// Looks `addr` up now, and after changes. Tells of it even if the answer was told before.
    pub(super) fn watch(&mut self, addr: Ipv4Addr) {
        self.told.insert(addr, Told::default());
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
            Affected::Through(ifindex, source) => {
                self.all_due.get_or_insert(now + LATER);
                let concerned = self.told.iter().filter(|(_, told)| told.leaves(ifindex, source));
                self.dirty.extend(concerned.map(|(addr, _)| addr));
            }
        }
        if self.dirty.len() > before {
            let due = (now + COALESCE).max(self.rested.unwrap_or(now));
            self.due.get_or_insert(due);
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
        [self.due, self.all_due].into_iter().flatten().min()
    }

    /// The next address to look up; `None` when enough are under way.
    pub(super) fn take(&mut self, now: Instant) -> Option<Ipv4Addr> {
        if self.due.is_some_and(|due| due <= now) {
            self.due = None;
            self.wanted.append(&mut self.dirty);
        }
        if self.all_due.is_some_and(|due| due <= now) {
            self.all_due = None;
            self.wanted.extend(self.told.keys());
        }
        if self.wanted.is_empty()
            && self.running.is_empty()
            && let Some(begun) = self.begun.take()
        {
            self.rested = Some(now + (now - begun) * PAUSE_FACTOR);
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

    /// A lookup is answered; the route leads by device `by`, if there is one. True when the egress is to be told.
    pub(super) fn answered(&mut self, addr: Ipv4Addr, by: Option<u32>, egress: Option<Egress>) -> bool {
        self.running.remove(&addr);
        let Some(told) = self.told.get_mut(&addr) else { return false };
        told.by = by;
        told.egress.replace(egress) != Some(egress)
    }
}
