//! Tells other peers what is new here.
//!
//! An owner sends its new entries after [`GOSSIP_INTERVAL`] in which more may gather: to all its sessions while they are few
//! bytes ([`FLOOD_MAX`]), else to [`FANOUT`] of them, chosen anew each time. Peers that hold them then advertise to as many
//! how far they are with that owner, because most hold the entries already; not to a neighbour of an owner that sent them to
//! all. Nothing is sent twice: what is missed is found by comparing.
//! Bounds: [`PUSH_MAX`] bytes are sent unasked; [`PAGE_BYTES`] a message, unless one entry is larger.

use std::{collections::BTreeMap, mem, sync::Arc};

use serde_bytes::ByteBuf;

use super::{store::Store, timers::GOSSIP_INTERVAL};
use crate::proto::{
    ids::SessionId,
    name::PeerName,
    time::Instant,
    wire::{
        Delta, ENTRIES_MAX, Message, PAGE_MAX, Span, Summary, Want,
        entry::{Channel, Entry, Point, record_key},
    },
};

/// Sessions that new entries go on to.
pub(super) const FANOUT: usize = 6;
/// Most bytes of its own entries that a peer sends to all its neighbours.
pub(super) const FLOOD_MAX: usize = 1024;
/// Most bytes of entries that a peer sends unasked to one of them.
pub(super) const PUSH_MAX: usize = 16 * 1024;
/// Most bytes of entries in a message.
pub(super) const PAGE_BYTES: usize = 256 * 1024;

/// Where an entry came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// This peer made it.
    Own,
    /// It came by this session.
    Session(SessionId),
    /// Its owner sent it to all its neighbours, this peer among them.
    Flood,
}

#[derive(Debug)]
pub(super) struct Rumours {
    me: PeerName,
    /// Owners with new entries, and where the last of them came from; of floods, when all of them did.
    fresh: BTreeMap<PeerName, Source>,
    /// Up to which point this peer's own entries were sent.
    flushed: Point,
    flush_at: Option<Instant>,
}

impl Rumours {
    pub(super) fn new(me: PeerName) -> Self {
        Self { me, fresh: BTreeMap::new(), flushed: Point::ZERO, flush_at: None }
    }

    /// An entry of `owner` is new here.
    pub(super) fn note(&mut self, owner: PeerName, source: Source, now: Instant) {
        let last = self.fresh.entry(owner).or_insert(source);
        if source != Source::Flood {
            *last = source;
        }
        self.flush_at.get_or_insert(now + GOSSIP_INTERVAL);
    }

    /// When [`Self::flush`] is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.flush_at
    }

    /// Tells what is new to some of these sessions, given with the peers that they lead to: the first, where any would do.
    pub(super) fn flush(&mut self, store: &Store, order: &[(SessionId, PeerName)]) -> Vec<(SessionId, Message)> {
        self.flush_at = None;
        let mut fresh = mem::take(&mut self.fresh);
        let mut out = Vec::new();
        if let Some(delta) = self.push(store, &fresh) {
            let to = if delta.flooded { order.len() } else { FANOUT };
            out.extend(order.iter().take(to).map(|(session, _)| (*session, Message::Delta(delta.clone()))));
            fresh.remove(&self.me);
        }
        let mut adverts: BTreeMap<SessionId, Vec<Summary>> = BTreeMap::new();
        for (owner, source) in &fresh {
            let Some(summary) = store.summary(*owner) else { continue };
            let lacks = |(session, peer): &&(SessionId, PeerName)| match source {
                Source::Own => true,
                Source::Session(from) => session != from,
                Source::Flood => peer != owner && !is_neighbour(store, *owner, *peer),
            };
            for (session, _) in order.iter().filter(lacks).take(FANOUT) {
                adverts.entry(*session).or_default().push(summary);
            }
        }
        for (session, owners) in adverts {
            out.extend(advertise(session, &owners));
        }
        out
    }

    /// This peer's own entries since the last flush, if they are new and few enough.
    fn push(&mut self, store: &Store, fresh: &BTreeMap<PeerName, Source>) -> Option<Delta> {
        let own = store.summary(self.me).filter(|_| fresh.contains_key(&self.me))?;
        let since = Some(mem::replace(&mut self.flushed, own.newest));
        let mut delta = delta_of(store, &[Want { owner: self.me, uid: own.uid, since }]);
        delta.flooded = size(&delta) <= FLOOD_MAX;
        Some(delta).filter(|delta| !delta.more && size(delta) <= PUSH_MAX)
    }
}

/// Tells how far this peer is with these owners.
pub(super) fn advertise(session: SessionId, owners: &[Summary]) -> impl Iterator<Item = (SessionId, Message)> + '_ {
    owners.chunks(PAGE_MAX).map(move |owners| (session, Message::Advertise(owners.to_vec())))
}

/// Bytes of the entries.
pub(super) fn size(delta: &Delta) -> usize {
    delta.entries.iter().map(|entry| entry.len()).sum()
}

/// Whether `owner` says that it has a session to `peer`.
fn is_neighbour(store: &Store, owner: PeerName, peer: PeerName) -> bool {
    store.record(owner).is_some_and(|record| record.sessions.iter().any(|session| session.peer == peer))
}

/// What is held of this, as much as fits a message.
pub(super) fn delta_of(store: &Store, wants: &[Want]) -> Delta {
    let mut delta = Delta::default();
    let mut bytes = 0;
    for want in wants {
        let Some(held) = store.summary(want.owner).filter(|held| held.uid == want.uid) else { continue };
        let record = || store.get(&record_key(want.owner)).into_iter().collect();
        let entries: Vec<&Arc<Entry>> = want.since.map_or_else(record, |since| store.since(want.owner, since));
        let mut to = None;
        let all = entries.len();
        let mut taken = 0;
        for entry in entries {
            bytes += entry.raw.len();
            if delta.entries.len() >= ENTRIES_MAX || (bytes > PAGE_BYTES && !delta.entries.is_empty()) {
                delta.more = true;
                break;
            }
            taken += 1;
            if entry.key.channel != Channel::Peers {
                to = Some(entry.version.point);
            }
            delta.entries.push(ByteBuf::from(entry.raw.to_vec()));
        }
        let to = if taken == all { Some(held.complete) } else { to.map(|to| to.min(held.complete)) };
        if let (Some(from), Some(to)) = (want.since, to) {
            let (owner, uid, floor) = (want.owner, want.uid, store.floor(want.owner));
            delta.spans.push(Span { owner, uid, from, to, floor });
        }
        if delta.more {
            break;
        }
    }
    delta
}
