//! Timers and bounds of path probing, with the names that RFC 5880 (BFD), RFC 8899 (DPLPMTUD) and RFC 8445 (ICE) give them.
//!
//! | timer | value | standard name |
//! |---|---|---|
//! | [`ACTIVE_EVERY`] | 3 s | BFD echo interval of a path that carries traffic |
//! | [`STANDBY_EVERY`] | 15 s | the same of the path that is next in line |
//! | [`SUSPECT_EVERY`] | 100 ms | BFD interval while the active path is suspect |
//! | [`FAST_EVERY`] | 200 ms | the same of a path that is new or about to be promoted |
//! | [`DETECT_MULT`] | 3 | BFD detection multiplier |
//! | [`SILENCE`] | 150 ms | traffic one way only for this long makes the path suspect |
//! | [`SUSPECT_AGAIN`] | 1 s | hold-down between two suspicions that a probe disproved |
//! | [`RECOVER_EVERY`], [`RECOVER_SLOWLY`] | 1 s, 3 s | probes of a dead path that is better than the active one |
//! | [`PROMOTE_AFTER`], [`PROMOTE_APART`] | 3, 200 ms | wait-to-restore of a better path |
//! | [`HOME_AFTER`] | 60 s | from a dead relayed path to the address of a peer that is out of reach |
//! | [`SESSION_EVERY`] | 10 s | a peer with a session and without traffic |
//! | [`KEEPALIVE_EVERY`] | 15 s | ICE keepalive (Tr) of a NAT mapping or of a stateful filter's entry |
//! | [`VERIFY_BIG`], [`VERIFY`] | 1 s, 60 s | DPLPMTUD CONFIRMATION_TIMER with and without large packets |
//! | [`RAISE_EVERY`] | 4 s to 60 s | DPLPMTUD PMTU_RAISE_TIMER, doubled after each search that found nothing |

use std::time::Duration;

/// Probes of the active path of a peer with traffic.
pub const ACTIVE_EVERY: Duration = Duration::from_secs(3);
/// Probes of the standby path of a peer with traffic.
pub const STANDBY_EVERY: Duration = Duration::from_secs(15);
/// Probes of active and standby path while the active one is suspect: the peer, too, sees by those that go by way of a relay
/// that something changed.
pub const SUSPECT_EVERY: Duration = Duration::from_millis(100);
/// Probes of a path that is new or about to be promoted.
pub const FAST_EVERY: Duration = Duration::from_millis(200);
/// Unanswered probes in a row after which a path is dead.
pub const DETECT_MULT: u8 = 3;
/// Shortest and longest wait for an answer; twice the round-trip time in between.
pub const REPLY_WAIT: (Duration, Duration) = (Duration::from_millis(150), Duration::from_secs(3));
/// A path is suspect when packets were sent for this long and nothing of their receiver arrived by it. Less than two looks at
/// traffic (100 ms each), whose times vary.
pub const SILENCE: Duration = Duration::from_millis(150);
/// Next suspicion after one that an answer disproved: traffic may be one way by its nature.
pub const SUSPECT_AGAIN: Duration = Duration::from_secs(1);
/// Probes of a dead path that is better than the active one, for [`RECOVER_FOR`] after it died.
pub const RECOVER_EVERY: Duration = Duration::from_secs(1);
/// See [`RECOVER_EVERY`].
pub const RECOVER_FOR: Duration = Duration::from_secs(60);
/// The same later.
pub const RECOVER_SLOWLY: Duration = Duration::from_secs(3);
/// Answers in a row that make a better path active.
pub const PROMOTE_AFTER: u8 = 3;
/// The last two of them are to probes at least this far apart.
pub const PROMOTE_APART: Duration = Duration::from_millis(200);
/// A standby path takes over only when it answered within this time.
pub const RECENT: Duration = Duration::from_millis(1200);
/// A dead relayed path of a peer that no relay leads to any more gives way to the peer's address after this time.
pub const HOME_AFTER: Duration = Duration::from_secs(60);
/// Traffic makes a peer busy for this long.
pub const BUSY_FOR: Duration = Duration::from_secs(10);
/// Probes of a peer with a session and without traffic.
pub const SESSION_EVERY: Duration = Duration::from_secs(10);
/// Probes again of a peer without traffic that missed one.
pub const QUIET_RETRY: Duration = Duration::from_secs(1);
/// Shortest pause between probes of a peer without session and traffic; the shared budget makes it longer.
pub const IDLE_EVERY: Duration = Duration::from_secs(30);
/// Announcements to peers that cannot reach this host by themselves.
pub const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);
/// The same until such a peer reports a path to this host.
pub const KEEPALIVE_FIRST: Duration = Duration::from_secs(3);
/// How often every candidate is probed while an operator asks whether the peer is alive, and for how long.
pub const ASK_EVERY: Duration = Duration::from_millis(500);
/// See [`ASK_EVERY`].
pub const ASK_FOR: Duration = Duration::from_secs(3);
/// A path counts as answered for this long after its last answer.
pub const ALIVE_FOR: Duration = Duration::from_secs(30);
/// An answer later than this is none.
pub const SENT_FOR: Duration = Duration::from_secs(5);
/// Confirmation of the path size while larger packets than Base are sent.
pub const VERIFY_BIG: Duration = Duration::from_secs(1);
/// The same otherwise.
pub const VERIFY: Duration = Duration::from_secs(60);
/// Shortest and longest pause between searches upwards, while less passes than both ends take.
pub const RAISE_EVERY: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(60));
/// New peers without a session are probed within this time, spread: all hosts learn of a new one together.
pub const SPREAD: Duration = Duration::from_millis(500);
/// Probes leave in batches: times are rounded up to this.
pub const TICK: Duration = Duration::from_millis(10);

/// Candidate addresses of a record that are used.
pub const ADVERTISED_MAX: usize = 16;
/// Relays that are candidates of one peer.
pub const RELAYS_MAX: usize = 3;
/// Proven addresses and NAT mappings of one peer; the newest stay.
pub const SEEN_MAX: usize = 4;
/// Probes of one candidate that may still be answered.
pub const SENT_MAX: usize = 24;
/// Probes that wait to be sent.
pub const PROBES_MAX: usize = 4096;
/// Challenges that wait for their proof.
pub const CHALLENGES_MAX: usize = 256;
/// Challenges and proofs at once, and in a second: a signature costs many times what a probe does.
pub const PROOFS_MAX: u32 = 64;
