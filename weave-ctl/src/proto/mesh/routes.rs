//! Who reaches whom, over which links. Pure: every peer computes the same from the same records.
//!
//! Control reaches a peer over any path of links that are told by peers which are reached themselves. Packets take only
//! links that both ends call established: breadth-first from here, neighbours in order of name, so next hops never form
//! a loop where all know the same. Broadcasts of a source follow the breadth-first tree from it, in which a peer hangs on
//! the lowest name of those before it: each is reached once.
//! A peer of which nobody hears any more may have lost its controller alone: packets for it go to those that it told of
//! last, and on from there, so that all who hold its last record agree, by way of those who still speak where there is one;
//! nothing else goes by such links.
//! Bounds: a few passes over all links, whose ends are looked up once (`graph`).

mod graph;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use self::graph::{Graph, Next};
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
/// not count: it may be gone, and have told of others that are gone with it.
#[must_use]
pub fn told<'a>(me: &'a PeerRecord, records: Records<'a>) -> Vec<&'a RecordLink> {
    let mut told: Vec<&RecordLink> = me.links.iter().collect();
    let mut asked = BTreeSet::from([me.name]);
    let mut next = 0;
    while let Some(link) = told.get(next).copied() {
        next += 1;
        // Most links lead to peers that others led to already.
        if asked.contains(&link.peer) {
            continue;
        }
        if let Some(record) = records(link.peer).filter(|record| record.uid == link.uid) {
            asked.insert(link.peer);
            told.extend(&record.links);
        }
    }
    told
}

/// All peers, but not this one, that paths of links lead to from `me`.
#[must_use]
pub fn reached<'a>(me: &'a PeerRecord, records: Records<'a>) -> BTreeSet<PeerName> {
    told(me, records).into_iter().map(|l| l.peer).filter(|p| *p != me.name).collect()
}

/// The first of `peers` that paths of links lead to from `me` also without the link to it.
#[must_use]
pub fn first_spare<'a>(
    me: &'a PeerRecord,
    records: Records<'a>,
    mut peers: impl Iterator<Item = PeerName>,
) -> Option<PeerName> {
    let graph = Graph::new(me, records, &BTreeSet::new());
    peers.find(|peer| graph.is_reached_without_its_link(*peer))
}

/// The smaller MTU of the two, where zero is unknown.
fn smaller(a: u32, b: u32) -> u32 {
    if a == 0 || b == 0 { a.max(b) } else { a.min(b) }
}

/// The next hop of packets to each peer that established links lead to, and to those of `lost` that their last records
/// lead to.
#[must_use]
pub fn next_hops<'a>(me: &'a PeerRecord, records: Records<'a>, lost: &BTreeSet<PeerName>) -> BTreeMap<PeerName, Hop> {
    let graph = Graph::new(me, records, lost);
    let mut hops = graph.hops(&|at| graph.neighbours(at));
    let missing: BTreeSet<PeerName> = lost.iter().copied().filter(|peer| !hops.contains_key(peer)).collect();
    if missing.is_empty() {
        return hops;
    }
    let mut last: BTreeMap<usize, BTreeMap<usize, u32>> = BTreeMap::new();
    for at in missing.iter().filter_map(|peer| graph.find(*peer)) {
        for (to, link) in graph.links(at).iter().filter(|(_, link)| link.established) {
            last.entry(at).or_default().insert(*to, link.path_mtu);
            last.entry(*to).or_default().insert(at, link.path_mtu);
        }
    }
    let known = |at: usize| {
        let mut all: BTreeMap<PeerName, Next> =
            graph.neighbours(at).into_iter().map(|next| (graph.name(next.to), next)).collect();
        let last = last.get(&at).into_iter().flatten();
        all.extend(last.map(|(to, mtu)| (graph.name(*to), Next { to: *to, mtu: *mtu })));
        all.into_values().collect()
    };
    // Who still speaks knows where to send to; where one that does not sends to was decided before it fell silent.
    let by_live = |at: usize| if missing.contains(&graph.name(at)) { Vec::new() } else { known(at) };
    for next in [&by_live as &dyn Fn(usize) -> Vec<Next>, &known] {
        let found = graph.hops(next).into_iter();
        let found = found.filter(|(peer, _)| missing.contains(peer) && !hops.contains_key(peer));
        hops.extend(found.collect::<Vec<_>>());
    }
    hops
}

/// To whom this peer passes on broadcasts of each of `sources`, in order of name; without those of which it passes nothing.
#[must_use]
pub fn broadcasts<'a>(
    sources: &BTreeSet<PeerName>,
    me: &'a PeerRecord,
    records: Records<'a>,
) -> Vec<(PeerName, Vec<PeerName>)> {
    let graph = Graph::new(me, records, sources);
    let next: Vec<Vec<Next>> = graph.numbers().map(|at| graph.neighbours(at)).collect();
    let children = |source: &PeerName| {
        let children = graph.find(*source).map(|at| children(&graph, &next, at)).unwrap_or_default();
        (!children.is_empty()).then_some((*source, children))
    };
    sources.iter().filter_map(children).collect()
}

fn children(graph: &Graph<'_>, next: &[Vec<Next>], source: usize) -> Vec<PeerName> {
    // For each peer how far it is, and the one that passes to it.
    let mut found: Vec<Option<(u32, usize)>> = vec![None; next.len()];
    found[source] = Some((0, source));
    let mut queue = VecDeque::from([source]);
    while let Some(at) = queue.pop_front() {
        let further = found[at].map_or(0, |(depth, _)| depth + 1);
        for Next { to, .. } in &next[at] {
            match &mut found[*to] {
                Some((depth, parent)) if *depth == further => {
                    if graph.name(at) < graph.name(*parent) {
                        *parent = at;
                    }
                }
                Some(_) => {}
                unknown => {
                    *unknown = Some((further, at));
                    queue.push_back(*to);
                }
            }
        }
    }
    let mine = |(at, found): (usize, Option<(u32, usize)>)| {
        found.is_some_and(|(_, parent)| at != source && parent == Graph::ME).then(|| graph.name(at))
    };
    let mut children: Vec<PeerName> = found.into_iter().enumerate().filter_map(mine).collect();
    children.sort();
    children
}

#[cfg(test)]
mod tests;
