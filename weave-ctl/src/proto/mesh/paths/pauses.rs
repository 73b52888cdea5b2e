//! How often a peer is asked, and when it is given up.
//!
//! Does not: keep time; `peer` does what these say, `lanes` keeps the rates that all peers share.

use std::time::Duration;

/// Pause between probes of a path with traffic.
pub const ACTIVE_EVERY: Duration = Duration::from_secs(1);
/// Pause between probes of a peer with a link and without traffic.
pub const LINKED_EVERY: Duration = Duration::from_secs(5);
/// Shortest pause between probes of any other peer.
pub const IDLE_EVERY: Duration = Duration::from_secs(30);
/// A probe that is not answered by then is sent again, on a path with traffic.
pub const ACTIVE_RETRY: Duration = Duration::from_millis(500);
/// The same on other paths, and the longest on a slow one: twice its round-trip time is waited otherwise.
pub const RETRY_MAX: Duration = Duration::from_secs(2);
/// A path is down after so many unanswered probes in a row: with traffic 1.5 to 2.5 s after it broke, with a link 6 to
/// 11 s.
pub const LOST_AFTER: u32 = 3;
/// Pause between the first rounds to a peer that does not answer.
pub const FAST_EVERY: Duration = Duration::from_millis(250);
/// So many of them; then it is down.
pub const FAST_ROUNDS: u32 = 4;
/// Longest pause between rounds to a watched peer that is down. The first is the double of [`FAST_EVERY`], each further
/// the double of the one before.
pub const DOWN_EVERY_MAX: Duration = Duration::from_secs(5);
/// A peer that is down and asks us is asked in turn, if it was not within this time.
pub const NUDGE_AFTER: Duration = Duration::from_secs(1);
/// Traffic makes a path active for this long.
pub const ACTIVE_FOR: Duration = Duration::from_secs(10);
/// Pause between checks of the measured MTU, with traffic.
pub const VERIFY_ACTIVE: Duration = Duration::from_secs(10);
/// The same without traffic, with a link.
pub const VERIFY_LINKED: Duration = Duration::from_secs(60);

/// How closely a peer is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watch {
    /// It has traffic.
    Active,
    /// It has a link.
    Linked,
    /// Neither.
    Idle,
}

/// Pause between rounds to a peer that answers.
pub(super) fn every(watch: Watch) -> Duration {
    match watch {
        Watch::Active => ACTIVE_EVERY,
        Watch::Linked => LINKED_EVERY,
        Watch::Idle => IDLE_EVERY,
    }
}

/// Pause after so many rounds that were not answered, of a peer that is `down` or not known to be.
pub(super) fn pause(rounds: u32, down: bool, watch: Watch) -> Duration {
    let Some(slow) = rounds.checked_sub(FAST_ROUNDS) else { return FAST_EVERY };
    if down && watch == Watch::Idle {
        return IDLE_EVERY;
    }
    (FAST_EVERY * 2).saturating_mul(1 << slow.min(8)).min(DOWN_EVERY_MAX)
}
