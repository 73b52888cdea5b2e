//! Who reaches whom, over which links. Pure: every peer computes the same from the same records.
//!
//! Control reaches a peer over any path of links that are told by peers which are reached themselves. Packets take only
//! links that both ends call established: breadth-first from here, neighbours in order of name, so next hops never form
//! a loop where all know the same. Broadcasts of a source follow the breadth-first tree from it, in which a peer hangs on
//! the lowest name of those before it: each is reached once.
//! A peer of which nobody hears any more may have lost its controller alone: packets for it go to those that it told of
//! last, and on from there, so that all who hold its last record agree, by way of those who still speak where there is one;
//! nothing else goes by such links.
//! Bounds: one pass over all links.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::entry::{PeerRecord, RecordLink};
use crate::proto::name::PeerName;

/// Finds the record of a peer.
pub type Records<'a> = &'a dyn Fn(PeerName) -> Option<&'a PeerRecord>;

/// The first hop towards a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The neighbour.
    pub via: PeerName,
    /// Links on the way.
    pub hops: u32,
    /// Smallest outer MTU in bytes that was measured on the way, over links and where it may leave them; zero when none was.
    pub path_mtu: u32,
}

/// The links of `me`, and those told by all whose very stores they lead to. What another store of such a name tells does
/// not count: it may be gone, and have told of others that are gone with it. `without` leaves out one of its own links.
#[must_use]
pub fn told<'a>(me: &'a PeerRecord, records: Records<'a>, without: Option<PeerName>) -> Vec<&'a RecordLink> {
    let mut told: Vec<&RecordLink> = me.links.iter().filter(|l| Some(l.peer) != without).collect();
    let mut asked = BTreeSet::from([me.name]);
    let mut next = 0;
    while let Some(link) = told.get(next).copied() {
        next += 1;
        let record = records(link.peer).filter(|record| record.uid == link.uid);
        if let Some(record) = record.filter(|_| asked.insert(link.peer)) {
            told.extend(&record.links);
        }
    }
    told
}

/// All peers, but not this one, that paths of links lead to from `me`; `without` leaves out one of its own.
#[must_use]
pub fn reached<'a>(me: &'a PeerRecord, records: Records<'a>, without: Option<PeerName>) -> BTreeSet<PeerName> {
    told(me, records, without).into_iter().map(|l| l.peer).filter(|p| *p != me.name).collect()
}

/// The smaller MTU of the two, where zero is unknown.
fn smaller(a: u32, b: u32) -> u32 {
    if a == 0 || b == 0 { a.max(b) } else { a.min(b) }
}

/// Neighbours of `from` over established, symmetric links, in order of name, with the MTU of the link.
fn neighbours(from: &PeerRecord, me: &PeerRecord, records: Records<'_>) -> BTreeMap<PeerName, u32> {
    let record = |peer: PeerName| if peer == me.name { Some(me) } else { records(peer) };
    let both = |link: &RecordLink| {
        let other = record(link.peer)?;
        let back = other.links.iter().find(|l| l.peer == from.name && l.established)?;
        (link.established && other.uid == link.uid).then(|| (link.peer, smaller(link.path_mtu, back.path_mtu)))
    };
    from.links.iter().filter_map(both).collect()
}

/// The next hop of packets to each peer that established links lead to, and to those of `lost` that their last records
/// lead to.
#[must_use]
pub fn next_hops(me: &PeerRecord, records: Records<'_>, lost: &BTreeSet<PeerName>) -> BTreeMap<PeerName, Hop> {
    let mut hops = BTreeMap::new();
    let live = |record: &PeerRecord| neighbours(record, me, records);
    breadth_first(&mut hops, me, records, &live);
    let missing: BTreeSet<PeerName> = lost.iter().copied().filter(|peer| !hops.contains_key(peer)).collect();
    if missing.is_empty() {
        return hops;
    }
    let mut last: BTreeMap<PeerName, BTreeMap<PeerName, u32>> = BTreeMap::new();
    for record in missing.iter().filter_map(|peer| records(*peer)) {
        for link in record.links.iter().filter(|link| link.established) {
            last.entry(record.name).or_default().insert(link.peer, link.path_mtu);
            last.entry(link.peer).or_default().insert(record.name, link.path_mtu);
        }
    }
    let known = |record: &PeerRecord| {
        let mut all = neighbours(record, me, records);
        all.extend(last.get(&record.name).into_iter().flatten());
        all
    };
    // Who still speaks knows where to send to; where one that does not sends to was decided before it fell silent.
    let by_live = |record: &PeerRecord| if missing.contains(&record.name) { BTreeMap::new() } else { known(record) };
    for next in [&by_live as Next<'_>, &known] {
        let mut all = BTreeMap::new();
        breadth_first(&mut all, me, records, next);
        let found = all.into_iter().filter(|(peer, _)| missing.contains(peer) && !hops.contains_key(peer));
        hops.extend(found.collect::<Vec<_>>());
    }
    hops
}

/// The peers next to one, with the MTU of the links to them.
type Next<'a> = &'a dyn Fn(&PeerRecord) -> BTreeMap<PeerName, u32>;

/// Fills in the first hop to each peer that `next` leads to from `me`.
fn breadth_first(hops: &mut BTreeMap<PeerName, Hop>, me: &PeerRecord, records: Records<'_>, next: Next<'_>) {
    // For each peer the one before it, and the MTU of the links up to it.
    let mut before: BTreeMap<PeerName, (PeerName, u32)> = BTreeMap::new();
    let mut queue = VecDeque::from([me.name]);
    while let Some(at) = queue.pop_front() {
        let here = hops.get(&at).copied();
        let until = before.get(&at).map_or(0, |(_, mtu)| *mtu);
        let Some(record) = (if at == me.name { Some(me) } else { records(at) }) else { continue };
        for (peer, mtu) in next(record) {
            if peer == me.name || hops.contains_key(&peer) {
                continue;
            }
            let mtu = smaller(until, mtu);
            before.insert(peer, (at, mtu));
            let path_mtu = smaller(mtu, narrowest(peer, me, records, &before));
            let hop = match here {
                Some(Hop { via, hops, .. }) => Hop { via, hops: hops + 1, path_mtu },
                None => Hop { via: peer, hops: 1, path_mtu },
            };
            hops.insert(peer, hop);
            queue.push_back(peer);
        }
    }
}

/// The smallest MTU of the straight paths to `peer` by which those on the way to it may relay, instead of by the links;
/// zero when none is known.
fn narrowest(
    peer: PeerName,
    me: &PeerRecord,
    records: Records<'_>,
    before: &BTreeMap<PeerName, (PeerName, u32)>,
) -> u32 {
    let back = |at: &PeerName| before.get(at).map(|(at, _)| *at).filter(|at| *at != me.name);
    let relays = std::iter::successors(back(&peer), back).filter_map(records);
    let narrow = relays.flat_map(|relay| &relay.narrow).filter(|(to, _)| *to == peer);
    narrow.fold(0, |least, (_, mtu)| smaller(least, *mtu))
}

/// To whom this peer passes on broadcasts of `source`, in order of name.
#[must_use]
pub fn broadcast_children(source: PeerName, me: &PeerRecord, records: Records<'_>) -> Vec<PeerName> {
    let record = |peer: PeerName| if peer == me.name { Some(me) } else { records(peer) };
    let mut depth: BTreeMap<PeerName, u32> = BTreeMap::from([(source, 0)]);
    let mut parent: BTreeMap<PeerName, PeerName> = BTreeMap::new();
    let mut queue = VecDeque::from([source]);
    while let Some(at) = queue.pop_front() {
        let Some(from) = record(at) else { continue };
        let next = depth.get(&at).map_or(0, |d| d + 1);
        for peer in neighbours(from, me, records).into_keys() {
            if *depth.entry(peer).or_insert_with(|| {
                queue.push_back(peer);
                next
            }) == next
            {
                parent.entry(peer).and_modify(|p| *p = at.min(*p)).or_insert(at);
            }
        }
    }
    parent.into_iter().filter(|(_, parent)| *parent == me.name).map(|(peer, _)| peer).collect()
}

#[cfg(test)]
mod tests;
