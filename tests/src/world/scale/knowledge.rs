//! What a node knows of others, from the snapshot for its status.

use std::collections::{BTreeMap, BTreeSet};

use weave_ctl::proto::{
    command::{Answer, Command},
    name::PeerName,
    status::Snapshot,
    wire::entry::PeerRecord,
};

use crate::world::{HostId, World};

impl World {
    /// The snapshot for the status of a controller that runs and is not stopped.
    pub fn status(&mut self, id: HostId) -> Option<Box<Snapshot>> {
        let request = self.ask(id, Command::Status);
        match self.answers.remove(&request) {
            Some(Ok(Answer::Status(snapshot))) => Some(snapshot),
            _ => None,
        }
    }
}

/// Peers that the teller reaches over links that both ends tell; without itself.
pub(super) fn reached(snapshot: &Snapshot) -> BTreeSet<PeerName> {
    let links = |record: &PeerRecord| record.sessions.iter().map(|session| session.peer).collect();
    let others = snapshot.records.iter().filter_map(|entry| entry.record());
    let told: BTreeMap<PeerName, BTreeSet<PeerName>> =
        others.chain([&snapshot.me]).map(|record| (record.name, links(record))).collect();
    let me = snapshot.me.name;
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
