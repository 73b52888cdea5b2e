//! Who reaches whom, over which links. Pure: every peer computes the same from the same records.
//!
//! Control reaches a peer over any path of links that are told by peers which are reached themselves. Packets take only
//! links that both ends call established: breadth-first from here, neighbours in order of name, so next hops never form
//! a loop where all know the same. Broadcasts of a source follow the breadth-first tree from it, in which a peer hangs on
//! the lowest name of those before it: each is reached once.
//! A peer that data does not reach over established links may have lost its controller alone: packets for it go to those
//! that it told of last, and on from there, so that all who hold its last record agree, by way of as few as can be of those
//! who do not speak. By such links goes nothing else that has another way.
//! Bounds: a few passes over all links, whose ends are looked up once ([`Graph`]).

mod graph;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use self::graph::Graph;
use self::graph::{Lists, Next};
use super::entry::RecordLink;
use crate::proto::name::{PeerName, PeerUid};

/// The stores that use one name, by name, each with an address.
pub type Rivals = BTreeMap<PeerName, BTreeMap<PeerUid, String>>;

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

/// The links of this peer, and those told by all whose very stores they lead to, as far as they lead.
fn told<'g, 'a>(graph: &'g Graph<'a>) -> impl Iterator<Item = (usize, &'a RecordLink)> + use<'g, 'a> {
    graph.asked().into_iter().flat_map(|at| graph.ends(at))
}

/// The store that each peer is linked to as, this one and all that paths of links lead to, in order of name; and where that
/// are several under one name: all of them, each with an address that it is linked at.
#[must_use]
pub fn alive(me: PeerUid, graph: &Graph<'_>) -> (Vec<(PeerName, PeerUid)>, Rivals) {
    let mut first: Vec<Option<PeerUid>> = vec![None; graph.numbers().len()];
    // Seen by others or not: this peer lives.
    first[Graph::ME] = Some(me);
    let mut rivals = Rivals::new();
    for (to, link) in told(graph) {
        let first = *first[to].get_or_insert(link.uid);
        if first != link.uid {
            let stores = rivals.entry(link.peer).or_default();
            stores.entry(first).or_default();
            stores.entry(link.uid).or_default();
        }
    }
    if !rivals.is_empty() {
        for (_, link) in told(graph) {
            let Some(address) = rivals.get_mut(&link.peer).and_then(|all| all.get_mut(&link.uid)) else { continue };
            // An address that the store itself listens on says more than the port it dialled from.
            if link.outbound || address.is_empty() {
                address.clone_from(&link.address);
            }
        }
    }
    (graph.names().filter_map(|(name, at)| Some((name, first[at]?))).collect(), rivals)
}

/// All peers, but not this one, that paths of links lead to, in order of name.
#[must_use]
pub fn reached(graph: &Graph<'_>) -> Vec<PeerName> {
    let mut found = vec![false; graph.numbers().len()];
    for (to, _) in told(graph) {
        found[to] = true;
    }
    found[Graph::ME] = false;
    graph.names().filter(|(_, at)| found[*at]).map(|(name, _)| name).collect()
}

/// The first of `peers` that paths of links lead to also without the link to it.
#[must_use]
pub fn first_spare(graph: &Graph<'_>, mut peers: impl Iterator<Item = PeerName>) -> Option<PeerName> {
    peers.find(|peer| graph.is_reached_without_its_link(*peer))
}

/// The smaller MTU of the two, where zero is unknown.
pub(super) fn smaller(a: u32, b: u32) -> u32 {
    if a == 0 || b == 0 { a.max(b) } else { a.min(b) }
}

/// Next hops of packets, in order of name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NextHops {
    /// To each peer that established links lead to.
    pub hops: Vec<(PeerName, Hop)>,
    /// To others, over links too that were told of last by those to whom no established ones lead.
    pub last: Vec<(PeerName, Hop)>,
}

/// The next hops of packets.
#[must_use]
pub fn next_hops(graph: &Graph<'_>) -> NextHops {
    let near = graph.neighbours();
    let hops = graph.hops(|at| near.of(at), |_| false);
    let silent: Vec<bool> = graph.numbers().map(|at| at != Graph::ME && hops[at].is_none()).collect();
    let mut last = Vec::new();
    if silent.contains(&true) {
        let known = with_last_links(graph, &near, &silent);
        // Who still speaks knows where to send to; where one that does not sends to was decided before it fell silent.
        let by_last = graph.hops(|at| &known[at], |at| silent[at]);
        let others = graph.names().filter(|(_, at)| silent[*at]);
        last = others.filter_map(|(name, at)| Some((name, by_last[at]?))).collect();
    }
    NextHops { hops: graph.names().filter_map(|(name, at)| Some((name, hops[at]?))).collect(), last }
}

/// The neighbours of each peer in order of name, with those to which the `silent` told of established links last.
fn with_last_links(graph: &Graph<'_>, near: &Lists<Next>, silent: &[bool]) -> Vec<Vec<Next>> {
    let mut known: Vec<Vec<Next>> = graph.numbers().map(|at| near.of(at).to_vec()).collect();
    for at in graph.numbers().filter(|at| silent[*at]) {
        for (to, link) in graph.ends(at).filter(|(_, link)| link.established) {
            known[at].push(Next { to, mtu: link.path_mtu });
            known[to].push(Next { to: at, mtu: link.path_mtu });
        }
    }
    for all in &mut known {
        // Of several what was told last counts.
        all.reverse();
        all.sort_by_key(|next| graph.name(next.to));
        all.dedup_by_key(|next| next.to);
    }
    known
}

/// To whom this peer passes on broadcasts of each of `sources`, in order of name; without those of which it passes nothing.
#[must_use]
pub fn broadcasts(graph: &Graph<'_>, sources: &BTreeSet<PeerName>) -> Vec<(PeerName, Vec<PeerName>)> {
    let near = graph.neighbours();
    let children = |source: &PeerName| {
        let children = graph.find(*source).map(|at| children(graph, &near, at)).unwrap_or_default();
        (!children.is_empty()).then_some((*source, children))
    };
    sources.iter().filter_map(children).collect()
}

fn children(graph: &Graph<'_>, near: &Lists<Next>, source: usize) -> Vec<PeerName> {
    // For each peer how far it is, and the one that passes to it.
    let mut found: Vec<Option<(u32, usize)>> = vec![None; graph.numbers().len()];
    found[source] = Some((0, source));
    let mut queue = VecDeque::from([source]);
    while let Some(at) = queue.pop_front() {
        let further = found[at].map_or(0, |(depth, _)| depth + 1);
        for Next { to, .. } in near.of(at) {
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
