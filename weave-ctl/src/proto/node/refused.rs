//! Peers that send what cannot be used: counted, and named in `status` and the log.
//!
//! What is refused changes nothing, and ends no session: it may be passed on from another peer, and others need the session.
//! Bounds: [`PEERS_MAX`] peers; of more, those with the most stay.

use std::collections::BTreeMap;

use super::Node;
use crate::proto::{ids::Severity, name::PeerName, wire::clean};

/// Most peers that are counted one by one.
const PEERS_MAX: usize = 64;

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Refused {
    /// How many messages of each, and what was wrong with the last.
    peers: BTreeMap<PeerName, (u64, String)>,
}

impl Refused {
    /// Counts one; true when the log should say so: the first, and then ever more rarely.
    fn count(&mut self, from: PeerName, what: &str) -> bool {
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&from) {
            let least = self.peers.iter().min_by_key(|(_, (count, _))| *count).map(|(peer, _)| *peer);
            least.map(|peer| self.peers.remove(&peer));
        }
        let (count, last) = self.peers.entry(from).or_default();
        *count = count.saturating_add(1);
        *last = clean(what);
        count.is_power_of_two()
    }

    /// A sentence for each peer; `called` gives name and nickname.
    pub(super) fn warnings<'a>(&'a self, called: &'a dyn Fn(PeerName) -> String) -> impl Iterator<Item = String> + 'a {
        self.peers.iter().map(|(peer, (count, last))| {
            format!(
                "{count} messages of peer {} were refused and changed nothing; the last: {last}: look at that host, and \
                 `rmpeer` it when it is not to be trusted",
                called(*peer)
            )
        })
    }
}

impl Node {
    /// Peer `from` sent what no peer that keeps to the rules sends, or passed it on.
    pub(super) fn refused(&mut self, from: PeerName, what: &str) {
        if self.refused.count(from, what) {
            let text =
                format!("refused a message of peer {}, which changes nothing: {}", self.called(from), clean(what));
            self.log(Severity::Warn, text);
        }
    }
}
