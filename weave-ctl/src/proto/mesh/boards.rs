//! Channels that other rooms speak in: what each peer has to say there, whole, signed and gossiped as its record is.

use super::{
    entry::{Entry, sign},
    links::{Mesh, MeshEvent},
};
use crate::proto::{
    io::{LinkId, Severity},
    name::{PeerId, PeerName},
    time::Instant,
};

impl Mesh {
    /// Says `data` in `channel`, instead of what this peer said there before.
    pub fn say(&mut self, channel: &'static str, data: Vec<u8>, now: Instant) {
        self.board_version += 1;
        let version = (self.me.incarnation, self.board_version);
        let raw = sign(&self.key, self.me.name, channel, version, data);
        match self.gossip.open(&raw) {
            Ok(entry) => self.gossip.publish(entry, now),
            Err(error) => self.log(Severity::Warn, format!("what is to be said in {channel} cannot be told: {error}")),
        }
    }

    /// What was said in `channel` could not be used: it is counted there, and changes nothing else.
    pub fn channel_error(&mut self, channel: &str, what: &str) {
        self.gossip.error(channel, what);
    }

    /// Passes an entry on to the room that reads its channel.
    pub(super) fn heard(&mut self, entry: &Entry) {
        let Some(channel) = self.gossip.reader(&entry.key.channel) else { return };
        let Some(data) = entry.data() else { return };
        let from = PeerId { name: entry.key.owner, uid: entry.uid };
        self.events.push_back(MeshEvent::Board(from, channel, data));
    }

    /// Passes everything on that `peer` said.
    pub(super) fn heard_again(&mut self, peer: PeerName) {
        for entry in self.gossip.store().of(peer).cloned().collect::<Vec<_>>() {
            self.heard(&entry);
        }
    }

    /// Peers of whom something is known.
    pub fn known(&self) -> impl Iterator<Item = PeerName> + '_ {
        self.gossip.store().records().map(|record| record.name)
    }

    /// True when this store is known to be alive.
    #[must_use]
    pub fn alive(&self, id: PeerId) -> bool {
        self.topology.alive(id.name, id.uid)
    }

    /// A link past the hello, at random.
    pub fn any_link(&mut self) -> Option<LinkId> {
        let up: Vec<LinkId> = self.links.iter().filter(|(_, link)| link.up.is_some()).map(|(id, _)| *id).collect();
        let at = self.rng.below(up.len() as u64);
        up.get(usize::try_from(at).unwrap_or(0)).copied()
    }
}
