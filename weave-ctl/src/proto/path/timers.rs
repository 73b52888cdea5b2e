//! Timers and bounds of path probing, in one table; names as in RFC 5880 (BFD), RFC 8899 (DPLPMTUD) and RFC 8445 (ICE).
//!
//! | timer | value | standard name | meaning |
//! |---|---|---|---|
//! | [`ACTIVE_EVERY`] | 3 s | BFD echo interval | active path of a peer with traffic |
//! | [`STANDBY_EVERY`] | 15 s | the same | standby path of a peer with traffic |
//! | [`SUSPECT_EVERY`] | 100 ms | BFD interval | both while the active one is suspect: the peer, too, sees that something changed |
//! | [`FAST_EVERY`] | 200 ms | the same | a path that is new or about to be promoted |
//! | [`DETECT_MULT`] | 3 | BFD detection multiplier | unanswered probes in a row after which a path is dead |
//! | [`REPLY_WAIT`] | 150 ms to 3 s | BFD detection time of one interval | wait for an answer: twice the round-trip time |
//! | [`SILENCE`] | 150 ms | | sent for so long, nothing arrived: suspect; less than two looks at traffic (100 ms each, varying) |
//! | [`SUSPECT_AGAIN`] | 1 s | hold-down | after a suspicion that an answer disproved: traffic may be one way by its nature |
//! | [`RECOVER_EVERY`] | 1 s | | a dead path that is better than the active one, for [`RECOVER_FOR`] (60 s) after it died |
//! | [`RECOVER_SLOWLY`] | 3 s | | the same later |
//! | [`PROMOTE_AFTER`] | 3 | wait-to-restore | answers in a row that make a better path active, |
//! | [`PROMOTE_APART`] | 200 ms | the same | the last two of them to probes at least this far apart |
//! | [`RECENT`] | 1.2 s | | a standby path takes over only when it answered within this time |
//! | [`HOME_AFTER`] | 60 s | | a dead relayed path of a peer that no relay leads to any more gives way to the peer's address |
//! | [`BUSY_FOR`] | 10 s | | traffic makes a peer busy for so long |
//! | [`SESSION_EVERY`] | 10 s | | a peer with a session and without traffic |
//! | [`QUIET_RETRY`] | 1 s | | a peer without traffic that missed a probe |
//! | [`IDLE_EVERY`] | 30 s | | at least, a peer without session and traffic; the shared budget makes it longer |
//! | [`KEEPALIVE_EVERY`] | 15 s | ICE keepalive (Tr) | announcements to peers that cannot reach this host by themselves |
//! | [`KEEPALIVE_FIRST`] | 3 s | the same | the same until such a peer reports a path to this host |
//! | [`ASK_EVERY`] | 500 ms | | every candidate while an operator asks whether the peer is alive, for [`ASK_FOR`] (3 s) |
//! | [`ALIVE_FOR`] | 30 s | | a path counts as answered for so long after its last answer |
//! | [`SENT_FOR`] | 5 s | | an answer later than this is none; a challenge without proof is given up |
//! | [`VERIFY_BIG`] | 1 s | DPLPMTUD CONFIRMATION_TIMER | the path size while packets larger than Base are sent |
//! | [`VERIFY`] | 60 s | the same | the same otherwise |
//! | [`RAISE_EVERY`] | 4 s to 60 s | DPLPMTUD PMTU_RAISE_TIMER | doubled after each search that found nothing |
//! | [`SPREAD`] | 500 ms | jitter | new peers are probed within this time, spread: all hosts learn of a new one together |
//! | [`TICK`] | 10 ms | | times are rounded up to this: probes leave in batches |

use std::time::Duration;

pub(super) const ACTIVE_EVERY: Duration = Duration::from_secs(3);
pub(super) const STANDBY_EVERY: Duration = Duration::from_secs(15);
pub(super) const SUSPECT_EVERY: Duration = Duration::from_millis(100);
pub(super) const FAST_EVERY: Duration = Duration::from_millis(200);
pub(super) const DETECT_MULT: u8 = 3;
pub(super) const REPLY_WAIT: (Duration, Duration) = (Duration::from_millis(150), Duration::from_secs(3));
pub(super) const SILENCE: Duration = Duration::from_millis(150);
pub(super) const SUSPECT_AGAIN: Duration = Duration::from_secs(1);
pub(super) const RECOVER_EVERY: Duration = Duration::from_secs(1);
pub(super) const RECOVER_FOR: Duration = Duration::from_secs(60);
pub(super) const RECOVER_SLOWLY: Duration = Duration::from_secs(3);
pub(super) const PROMOTE_AFTER: u8 = 3;
pub(super) const PROMOTE_APART: Duration = Duration::from_millis(200);
pub(super) const RECENT: Duration = Duration::from_millis(1200);
pub(super) const HOME_AFTER: Duration = Duration::from_secs(60);
pub(super) const BUSY_FOR: Duration = Duration::from_secs(10);
pub(super) const SESSION_EVERY: Duration = Duration::from_secs(10);
pub(super) const QUIET_RETRY: Duration = Duration::from_secs(1);
pub(super) const IDLE_EVERY: Duration = Duration::from_secs(30);
pub(super) const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);
pub(super) const KEEPALIVE_FIRST: Duration = Duration::from_secs(3);
pub(super) const ASK_EVERY: Duration = Duration::from_millis(500);
pub(super) const ASK_FOR: Duration = Duration::from_secs(3);
pub(super) const ALIVE_FOR: Duration = Duration::from_secs(30);
pub(super) const SENT_FOR: Duration = Duration::from_secs(5);
pub(super) const VERIFY_BIG: Duration = Duration::from_secs(1);
pub(super) const VERIFY: Duration = Duration::from_secs(60);
pub(super) const RAISE_EVERY: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(60));
pub(super) const SPREAD: Duration = Duration::from_millis(500);
pub(super) const TICK: Duration = Duration::from_millis(10);

/// Candidate addresses of a record that are used.
pub(super) const ADVERTISED_MAX: usize = 16;
/// Relays that are candidates of one peer.
pub(super) const RELAYS_MAX: usize = 3;
/// Proven addresses and NAT mappings of one peer; the newest stay.
pub(super) const SEEN_MAX: usize = 4;
/// Probes of one candidate that may still be answered.
pub(super) const SENT_MAX: usize = 24;
/// Probes that wait to be sent.
pub(super) const PROBES_MAX: usize = 4096;
/// Challenges that wait for their proof.
pub(super) const CHALLENGES_MAX: usize = 256;
/// Challenges and proofs at once, and in a second: a signature costs many times what a probe does.
pub(super) const PROOFS_MAX: u32 = 64;
