//! Every timer of membership, in one table. Names as in SWIM and in OSPF (RFC 2328), which spread records likewise.
//!
//! | timer | value | name there | meaning |
//! |---|---|---|---|
//! | [`PUBLISH_AFTER`] | 20 ms | MinLSInterval, its first step | changes of the own record gather; then the throttle |
//! | [`GOSSIP_INTERVAL`] | 50 ms | SWIM: gossip interval | new entries gather before they are passed on |
//! | [`ANTI_ENTROPY`] | 3 s | push-pull interval | mean time between two comparisons, or two hold-downs |
//! | [`ANTI_ENTROPY_BUSY`] | 1 s | the same | mean time within [`BUSY_FOR`] after something new |
//! | [`BUSY_FOR`] | 5 s | | time for which something counts as new |
//! | [`REQUEST_RETRY`] | 0.5 s | RxmtInterval | time before another peer is asked for the same entry |
//! | [`DOUBT_PAUSE`] | 30 s | | least time between two requests for everything of an owner of which copies differ |
//! | [`FLOOR_AFTER`] | 5 s | | after a launch what this peer said in earlier ones is gone |
//! | [`TOMBSTONES_FOR`] | 3600 s | | time for which tombstones are kept; peers that were away longer ask for everything |
//! | [`RETAINED_FOR`] | 600 s | MaxAge | time for which entries of a forgotten peer are retained |
//! | [`RECOVERY_PAUSE`] | 1 s | RFC 2328, section 13.4 | pause before the own record continues from a higher version; doubles up to 7 times |
//! | [`COPY_SHOWN`] | 300 s | | `status` shows a copy of this store for so long; recovery then starts from the first pause |

use std::time::Duration;

pub(super) const PUBLISH_AFTER: Duration = Duration::from_millis(20);
pub(super) const GOSSIP_INTERVAL: Duration = Duration::from_millis(50);
pub(super) const ANTI_ENTROPY: Duration = Duration::from_secs(3);
pub(super) const ANTI_ENTROPY_BUSY: Duration = Duration::from_secs(1);
pub(super) const BUSY_FOR: Duration = Duration::from_secs(5);
pub(super) const REQUEST_RETRY: Duration = Duration::from_millis(500);
pub(super) const DOUBT_PAUSE: Duration = Duration::from_secs(30);
pub(super) const FLOOR_AFTER: Duration = Duration::from_secs(5);
pub(super) const TOMBSTONES_FOR: Duration = Duration::from_secs(3600);
pub(super) const RETAINED_FOR: Duration = Duration::from_secs(600);
pub(super) const RECOVERY_PAUSE: Duration = Duration::from_secs(1);
pub(super) const COPY_SHOWN: Duration = Duration::from_secs(300);
