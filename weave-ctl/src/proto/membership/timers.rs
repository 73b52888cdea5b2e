//! Every timer of membership, in one table. Names as in SWIM and in OSPF (RFC 2328), which spread records in the same manner.
//!
//! | timer | value | name there | meaning |
//! |---|---|---|---|
//! | [`PUBLISH_AFTER`] | 20 ms | MinLSInterval, its first step | changes of the own record gather; then the throttle |
//! | [`GOSSIP_INTERVAL`] | 50 ms | SWIM: gossip interval | new entries gather before they are passed on |
//! | [`ANTI_ENTROPY`] | 3 s | push-pull interval | mean time between two comparisons of digests |
//! | [`ANTI_ENTROPY_BUSY`] | 1 s | the same | mean time within [`BUSY_FOR`] after something new |
//! | [`BUSY_FOR`] | 5 s | | time for which something counts as new |
//! | [`REQUEST_RETRY`] | 0.5 s | RxmtInterval | time before another peer is asked for the same entry |
//! | [`RETAINED_FOR`] | 600 s | MaxAge | time for which entries of a forgotten peer are retained |
//! | [`RECOVERY_PAUSE`] | 1 s | RFC 2328, section 13.4 | pause before the own record continues from a higher version |
//! | [`COPY_SHOWN`] | 300 s | | time for which `status` shows that another controller uses a copy of this store |

use std::time::Duration;

/// Time in which changes of this peer's own record gather.
pub const PUBLISH_AFTER: Duration = Duration::from_millis(20);
/// Time in which new entries gather.
pub const GOSSIP_INTERVAL: Duration = Duration::from_millis(50);
/// Mean time between two comparisons; in a large network two hold-downs, where that is longer.
pub const ANTI_ENTROPY: Duration = Duration::from_secs(3);
/// The same within [`BUSY_FOR`] after something new.
pub const ANTI_ENTROPY_BUSY: Duration = Duration::from_secs(1);
/// Time for which something counts as new.
pub const BUSY_FOR: Duration = Duration::from_secs(5);
/// Longest time for which others are not asked for an entry that one peer was asked for.
pub const REQUEST_RETRY: Duration = Duration::from_millis(500);
/// Time for which the entries of a forgotten owner are retained.
pub const RETAINED_FOR: Duration = Duration::from_secs(600);
/// Pause before the own record continues from a higher version; doubles each time, up to 7 times.
pub const RECOVERY_PAUSE: Duration = Duration::from_secs(1);
/// Time for which a copy of this store is shown, and after which recovery starts from the first pause again.
pub const COPY_SHOWN: Duration = Duration::from_secs(300);
