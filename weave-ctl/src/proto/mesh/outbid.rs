//! This peer's own word, newer than what it says now: it was said by an earlier run of a store that was set back since (a
//! restored disk, a machine that was rolled back), or is being said by another controller with a copy of the store.
//!
//! Nobody would take in what this peer says until it launched oftener than before, so it goes on from the newest that it
//! hears of. Of two controllers with one store each does, again and again: less and less often, and both warn.
//! Bounds: from [`FIRST_PAUSE`] on the pause doubles with each time, up to [`DOUBLINGS_MAX`] times.

use std::time::Duration;

use super::{hello::COLLISION_SHOWN, links::Mesh, wire::Stamp};
use crate::proto::{io::Severity, time::Instant};

/// Before this peer speaks again for the first time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Most doublings of it.
const DOUBLINGS_MAX: u32 = 7;
/// So often is more than a store that was set back needs.
const SUSPICIOUS: u32 = 3;

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Outbid {
    times: u32,
    last: Instant,
    /// Its record, and what it says beside, is to be said again.
    pending: bool,
}

impl Mesh {
    /// Others hold what this peer's store said under `stamp`, and not in this run.
    pub(super) fn go_on_from(&mut self, stamp: Stamp, now: Instant) {
        let newer = (stamp.incarnation, stamp.version);
        (self.me.incarnation, self.me.version) = newer.max((self.me.incarnation, self.me.version));
        self.board_version = self.board_version.max(stamp.version);
        let Outbid { times, last, pending } = &mut self.outbid;
        if *pending {
            return;
        }
        if now.since(*last) >= COLLISION_SHOWN {
            *times = 0;
        }
        let pause = FIRST_PAUSE * (1 << (*times).min(DOUBLINGS_MAX));
        (*times, *last, *pending) = (times.saturating_add(1), now, true);
        self.publish_at = Some(now + pause);
        let text =
            "others hold a newer record of this peer than it told in this run: its store is an older one, or a copy";
        self.log(Severity::Warn, text.to_owned());
    }

    /// The record is told: so must be what else there is to say.
    pub(super) fn say_again(&mut self, now: Instant) {
        if !std::mem::take(&mut self.outbid.pending) {
            return;
        }
        for entry in self.gossip.store().of(self.me.name).cloned().collect::<Vec<_>>() {
            if let (Some(channel), Some(data)) = (self.gossip.reader(&entry.key.channel), entry.data()) {
                self.say(channel, data, now);
            }
        }
    }

    /// What to show of a store that two controllers seem to have.
    pub(super) fn copied(&self, now: Instant) -> Option<String> {
        let Outbid { times, last, .. } = self.outbid;
        let text = "another controller speaks with this one's name and key, so its store is a copy: stop one of the two, \
                    and launch it with an empty --state-dir";
        (times >= SUSPICIOUS && now.since(last) < COLLISION_SHOWN).then(|| text.to_owned())
    }
}

#[cfg(test)]
mod tests;
