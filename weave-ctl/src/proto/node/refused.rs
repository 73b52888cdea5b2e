//! Messages and requests of peers that were not carried out: counted by the peer that they came from, and shown in `status`.
//!
//! What is refused changes nothing, and ends no session: it may be passed on from another peer, and others need the session.
//! The peers between do not read a letter: what they drop of it counts for the peer that passed it on. What becomes of this
//! peer's own requests counts for itself.
//! Bounds: [`PEERS_MAX`] peers are counted one by one, of more those with the most; [`SHOWN`] of them are shown.

use std::{cmp::Reverse, collections::BTreeMap};

use super::Node;
use crate::proto::{
    ids::Severity,
    name::PeerName,
    requests::MessageError,
    status::{Names, RefusedStatus},
    time::Instant,
    wire::clean,
};

/// Most peers that are counted one by one.
const PEERS_MAX: usize = 64;
/// Most peers that are shown.
const SHOWN: usize = 16;

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Refused {
    peers: BTreeMap<PeerName, Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    malformed: u64,
    over_bound: u64,
    no_next_hop: u64,
    expired: u64,
    /// What was wrong with the last, and when that was.
    last: (String, Instant),
    /// The same of the last malformed one.
    last_malformed: String,
}

impl Counts {
    fn all(&self) -> u64 {
        [self.malformed, self.over_bound, self.no_next_hop, self.expired].into_iter().fold(0, u64::saturating_add)
    }
}

impl Refused {
    /// Counts one; how many of its kind there are now.
    fn count(&mut self, from: PeerName, error: MessageError, what: &str, now: Instant) -> u64 {
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&from) {
            let least = self.peers.iter().min_by_key(|(_, counts)| counts.all()).map(|(peer, _)| *peer);
            least.map(|peer| self.peers.remove(&peer));
        }
        let counts = self.peers.entry(from).or_default();
        counts.last = (clean(what), now);
        let count = match error {
            MessageError::Malformed => {
                counts.last_malformed.clone_from(&counts.last.0);
                &mut counts.malformed
            }
            MessageError::OverBound => &mut counts.over_bound,
            MessageError::NoNextHop => &mut counts.no_next_hop,
            MessageError::Expired => &mut counts.expired,
        };
        *count = count.saturating_add(1);
        *count
    }

    /// The peers with the latest, and how many more there are.
    pub(super) fn status(&self, names: &Names, now: Instant) -> (Vec<RefusedStatus>, usize) {
        let mut all: Vec<(&PeerName, &Counts)> = self.peers.iter().collect();
        all.sort_by_key(|(_, counts)| Reverse(counts.last.1));
        let status = |(peer, counts): &(&PeerName, &Counts)| RefusedStatus {
            id: names.of(**peer),
            malformed: counts.malformed,
            over_bound: counts.over_bound,
            no_next_hop: counts.no_next_hop,
            expired: counts.expired,
            last: counts.last.0.clone(),
            last_s: now.since(counts.last.1).as_secs(),
        };
        (all.iter().take(SHOWN).map(status).collect(), all.len().saturating_sub(SHOWN))
    }

    /// A sentence for each peer that sends what cannot be used; `called` gives name and nickname.
    pub(super) fn warnings(&self, called: &dyn Fn(PeerName) -> String) -> Vec<String> {
        let mut all: Vec<_> = self.peers.iter().filter(|(_, counts)| counts.malformed > 0).collect();
        all.sort_by_key(|(_, counts)| Reverse(counts.malformed));
        let more = all.len().saturating_sub(SHOWN);
        let sentence = |(peer, counts): &(&PeerName, &Counts)| {
            let Counts { malformed, last_malformed, .. } = counts;
            format!(
                "{malformed} messages of peer {} were refused and changed nothing; the last: {last_malformed}: look at \
                 that host, and `rmpeer` it when it is not to be trusted",
                called(**peer)
            )
        };
        let more = (more > 0).then(|| format!("messages of {more} more peers were refused and changed nothing"));
        all.iter().take(SHOWN).map(sentence).chain(more).collect()
    }
}

impl Node {
    /// Peer `from` sent what no peer that keeps to the rules sends, or passed it on. The log says so the first time, and then
    /// ever more rarely.
    pub(super) fn refused(&mut self, from: PeerName, what: &str, now: Instant) {
        if self.refused.count(from, MessageError::Malformed, what, now).is_power_of_two() {
            let text =
                format!("refused a message of peer {}, which changes nothing: {}", self.called(from), clean(what));
            self.log(Severity::Warn, text);
        }
    }

    /// A message of peer `from` was not carried out though nothing is wrong with it.
    pub(super) fn dropped(&mut self, from: PeerName, error: MessageError, what: &str, now: Instant) {
        self.refused.count(from, error, what, now);
    }
}
