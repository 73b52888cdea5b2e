//! What a node knows of others, from its status.

use std::collections::{BTreeMap, BTreeSet};

use weave_ctl::proto::{
    command::{Answer, Command, Status},
    name::PeerName,
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
    let links = |peer: &weave_ctl::proto::command::PeerStatus| peer.links.iter().map(|l| l.peer).collect();
    let told: BTreeMap<PeerName, BTreeSet<PeerName>> = status.peers.iter().map(|p| (p.name, links(p))).collect();
    let mut reached = BTreeSet::from([status.name]);
    let mut next = vec![status.name];
    while let Some(peer) = next.pop() {
        let both = told.get(&peer).into_iter().flatten();
        let both = both.filter(|other| told.get(other).is_some_and(|theirs| theirs.contains(&peer)));
        next.extend(both.copied().filter(|other| reached.insert(*other)));
    }
    reached.remove(&status.name);
    reached
}

#[cfg(test)]
mod tests;
