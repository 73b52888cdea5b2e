//! Bounds that come near: a warning in `status` and one line in the log while 70 % of a table or more are used, and another
//! when it is full.
//!
//! ```text
//! fine --70 %--> near --100 %--> full
//!   ^____60 %_____|_____90 %______|
//! ```
//! Looked at every [`EVERY`] while anything happens at all, as it does each second or so in a network. The table of bounds is
//! [`Node::bounds`].

use std::{collections::BTreeMap, time::Duration};

use weave_common::map;

use super::{Node, TARGETS_MAX};
use crate::proto::{
    ids::Severity,
    ipam::{
        allocator::CLAIMS_MAX,
        keeper::GRANTS_MAX,
        ring::{ENTRIES_MAX, TAKEOVERS_MAX},
    },
    time::Instant,
};

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(2);

/// A table and its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    /// What is in the table.
    what: &'static str,
    used: usize,
    most: usize,
    /// What happens when it is full, and what to do.
    then: &'static str,
}

impl Bound {
    fn is_above(&self, percent: usize) -> bool {
        self.used.saturating_mul(100) >= self.most.saturating_mul(percent)
    }

    fn level(&self, before: Level) -> Level {
        let (near, full) = match before {
            Level::Fine => (70, 100),
            Level::Near => (60, 100),
            Level::Full => (60, 90),
        };
        if self.is_above(full) {
            Level::Full
        } else if self.is_above(near) {
            Level::Near
        } else {
            Level::Fine
        }
    }

    fn text(&self, level: Level) -> String {
        let Self { what, used, most, then } = self;
        let how = if level == Level::Full { "no more fit" } else { "the table is nearly full" };
        format!("{used} of {most} {what}: {how}; {then}")
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    #[default]
    Fine,
    Near,
    Full,
}

/// How far each table was used when last looked at.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    levels: BTreeMap<&'static str, Level>,
    at: Instant,
}

impl Bounds {
    /// Lines for the log: of tables that are used more than before.
    fn look(&mut self, bounds: &[Bound]) -> Vec<String> {
        let mut lines = Vec::new();
        for bound in bounds {
            let before = self.levels.get(bound.what).copied().unwrap_or_default();
            let level = bound.level(before);
            self.levels.insert(bound.what, level);
            lines.extend((level > before).then(|| bound.text(level)));
        }
        lines
    }

    /// A sentence for each table that is nearly full, or full.
    pub(super) fn warnings(&self, bounds: &[Bound]) -> Vec<String> {
        let level = |bound: &Bound| bound.level(self.levels.get(bound.what).copied().unwrap_or_default());
        bounds.iter().filter(|bound| level(bound) > Level::Fine).map(|bound| bound.text(level(bound))).collect()
    }
}

impl Node {
    /// All tables that may become full in operation.
    pub(super) fn bounds(&self) -> Vec<Bound> {
        let bound = |what, used, most, then| Bound { what, used, most, then };
        let ring = self.keeper.ring();
        let [(entries, entries_max), (bytes, bytes_max)] = self.membership.sizes();
        let (routes, senders) = self.datapath.sizes();
        let allocator = self.endpoints.allocator();
        let [(names, names_max), (own_names, own_names_max)] = self.dns.sizes();
        vec![
            bound("peers", self.membership.known(), map::TUNNELS_MAX as usize, "further peers are ignored"),
            bound(
                "ranges of the ring",
                ring.map_or(0, |ring| ring.shares.len()),
                ENTRIES_MAX,
                "then no peer gives addresses to another: `reset` or `rmpeer` of a peer with many ranges makes room",
            ),
            bound("names of containers", names, names_max, "further names of other peers are not served here"),
            bound("names of this host's containers", own_names, own_names_max, "further names are refused"),
            bound(
                "removed peers",
                ring.map_or(0, |ring| ring.removed.len()),
                TAKEOVERS_MAX,
                "then the earliest are forgotten, and one of them that returns is not told that it was removed",
            ),
            bound("targets", self.sessions.targets().len(), TARGETS_MAX, "`forget` those that are not needed"),
            bound("routes", routes, map::ROUTES_MAX as usize, "containers behind others are not reached"),
            bound("sender addresses", senders, map::SENDERS_MAX as usize, "packets from others are dropped"),
            bound("entries of this peer", entries, entries_max, "others are not told of more"),
            bound("bytes of entries", bytes, bytes_max, "what others say further is not kept here"),
            bound(
                "addresses of containers",
                usize::try_from(allocator.active()).unwrap_or(usize::MAX),
                map::ENDPOINTS_MAX as usize,
                "further containers get none on this host",
            ),
            bound(
                "addresses outside the range on this host",
                allocator.exceptions().count(),
                CLAIMS_MAX,
                "further containers get none of them on this host",
            ),
            bound(
                "addresses outside the range that this peer decides about",
                self.keeper.grant_count(),
                GRANTS_MAX,
                "it grants no others",
            ),
        ]
    }

    /// Says once in the log what comes near its bound.
    pub(super) fn look_at_bounds(&mut self, now: Instant) {
        if now < self.near.at {
            return;
        }
        let bounds = self.bounds();
        self.near.at = now + EVERY;
        for line in self.near.look(&bounds) {
            self.log(Severity::Warn, line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(used: usize) -> Vec<Bound> {
        vec![Bound { what: "peers", used, most: 1000, then: "wait" }]
    }

    #[test]
    fn a_bound_is_told_once_on_each_level() {
        let mut bounds = Bounds::default();
        let said = |bounds: &mut Bounds, n| {
            let lines = bounds.look(&used(n));
            (lines.len(), bounds.warnings(&used(n)).len())
        };
        assert_eq!(said(&mut bounds, 699), (0, 0));
        assert_eq!(said(&mut bounds, 700), (1, 1));
        assert_eq!([705, 690, 650, 710].map(|n| said(&mut bounds, n)), [(0, 1); 4], "neither twice nor back and forth");
        assert_eq!(said(&mut bounds, 1000), (1, 1));
        assert_eq!([999, 1000, 910].map(|n| said(&mut bounds, n)), [(0, 1); 3]);
        assert_eq!(said(&mut bounds, 590), (0, 0));
        assert_eq!(said(&mut bounds, 700), (1, 1), "and again when it was fine between");
        let text = bounds.warnings(&used(1000)).concat();
        assert!(text.contains("1000 of 1000 peers") && text.contains("no more fit"), "{text}");
    }
}
