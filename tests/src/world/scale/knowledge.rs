//! What a node knows of others, from its status.

use std::collections::{BTreeMap, BTreeSet};

use weave_ctl::proto::{
    command::{Answer, Command, Status},
    name::PeerName,
    wire::entry::PeerRecord,
};

use crate::world::{HostId, World};

impl World {
    /// The status of a controller that runs and is not stopped.
    pub fn status(&mut self, id: HostId) -> Option<Box<Status>> {
        let request = self.ask(id, Command::Status);
        match self.answers.remove(&request) {
            Some(Ok(Answer::Status(status))) => Some(status),
            _ => None,
        }
    }
}

/// Peers that the teller reaches over links that both ends tell; without itself.
pub(super) fn reached(status: &Status) -> BTreeSet<PeerName> {
    let links = |record: &PeerRecord| record.sessions.iter().map(|session| session.peer).collect();
    let told: BTreeMap<PeerName, BTreeSet<PeerName>> =
        status.peers.iter().map(|peer| (peer.record.name, links(&peer.record))).collect();
    let me = status.peers[0].record.name;
    let mut reached = BTreeSet::from([me]);
    let mut next = vec![me];
    while let Some(peer) = next.pop() {
        let both = told.get(&peer).into_iter().flatten();
        let both = both.filter(|other| told.get(other).is_some_and(|theirs| theirs.contains(&peer)));
        next.extend(both.copied().filter(|other| reached.insert(*other)));
    }
    reached.remove(&me);
    reached
}

#[cfg(test)]
mod tests;
