//! Every timer of the sessions between controllers, in one table. Names as in BGP (RFC 4271, sections 8 and 10), whose
//! sessions have the same life.
//!
//! | timer | value | in RFC 4271 | meaning |
//! |---|---|---|---|
//! | [`OPEN_WAIT`] | 10 s | HoldTimer in OpenSent | time for the other side to send its handshake |
//! | [`KEEPALIVE`] | 5 s | KeepaliveTime | a ping is sent this often |
//! | [`HOLD`] | 16 s | HoldTime | a session on which nothing arrives for so long is closed |
//! | [`CONNECT_RETRY_MIN`] | 0.5 s | ConnectRetryTime | first pause after a failed attempt; each is half as long again |
//! | [`CONNECT_RETRY_MAX`] | 30 s | the same | longest pause |
//! | [`CONNECT_RETRY_FULL`] | 600 s | IdleHoldTime | longest pause where sessions end soon and the peer is reached: it is full |
//! | [`STABLE_AFTER`] | 20 s | DampPeerOscillations | a session that lived so long resets the pause |
//! | [`DISCOVERY_SPREAD`] | 0.2 s | jitter, section 10 | discovered peers are dialled within this time, spread |
//! | [`DISCOVERY_RETRY`] | 2 s | | pause before more peers are chosen while sessions are missing |
//! | [`REFUSAL_SHOWN`] | 300 s | | time for which `status` shows a refused duplicate identity |

use std::time::Duration;

pub(super) const OPEN_WAIT: Duration = Duration::from_secs(10);
pub(super) const KEEPALIVE: Duration = Duration::from_secs(5);
pub(super) const HOLD: Duration = Duration::from_secs(16);
pub(super) const CONNECT_RETRY_MIN: Duration = Duration::from_millis(500);
pub(super) const CONNECT_RETRY_MAX: Duration = Duration::from_secs(30);
pub(super) const CONNECT_RETRY_FULL: Duration = Duration::from_secs(600);
pub(super) const STABLE_AFTER: Duration = Duration::from_secs(20);
pub(super) const DISCOVERY_SPREAD: Duration = Duration::from_millis(200);
pub(super) const DISCOVERY_RETRY: Duration = Duration::from_secs(2);
pub(super) const REFUSAL_SHOWN: Duration = Duration::from_secs(300);
