//! Timers of requests for addresses and of leaving.
//!
//! | timer | value | meaning |
//! |---|---|---|
//! | [`ASK_WAIT`] | 3 s | one peer is asked for so long before another is |
//! | [`ASK_PAUSE`] | 2 s | pause when no peer could be asked |
//! | [`CLAIM_WAIT`] | 6 s | time in which the peer that decides about an address outside the range answers |
//! | [`HEIR_WAIT`] | 10 s | time in which an heir says that it has everything |
//! | [`PROMISED_FOR`] | 13 s | a peer that said it takes over stays for so long, unless it said earlier that it has everything |

use std::time::Duration;

pub(super) const ASK_WAIT: Duration = Duration::from_secs(3);
pub(super) const ASK_PAUSE: Duration = Duration::from_secs(2);
pub(super) const CLAIM_WAIT: Duration = Duration::from_secs(6);
pub(super) const HEIR_WAIT: Duration = Duration::from_secs(10);
pub(super) const PROMISED_FOR: Duration = Duration::from_secs(13);
