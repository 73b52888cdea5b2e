//! Computes from a graph which peers are reached, by which first hops packets may be relayed, and how broadcasts spread.
//! Pure: every peer computes the same from the same records.
//!
//! Control reaches a peer over any path of sessions reported by peers that are reached themselves. Relayed packets take
//! direct paths that both ends report, by relays that control reaches if there are such: a controller that ended leaves the
//! paths of its host as they were, and what is answered over there may not find back. Broadcasts of a source follow the
//! breadth-first tree from it, in which the parent of a peer is the lowest name of those before it: each is reached once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::graph::{Graph, Lists};
use crate::proto::{
    name::{PeerName, PeerUid},
    wire::entry::ReportedSession,
};

/// Most first hops that are kept of a peer.
pub(crate) const FIRST_HOPS_MAX: usize = 3;

/// The stores that use one name, by name, each with an address.
pub(super) type Duplicates = BTreeMap<PeerName, BTreeMap<PeerUid, String>>;

/// First hops towards a peer: by relays that are all reached, then the others; nearest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FirstHops {
    len: u8,
    /// How many of them lead there by relays that are all reached.
    reached: u8,
    peers: [PeerName; FIRST_HOPS_MAX],
}

impl FirstHops {
    pub(super) fn peers(&self) -> &[PeerName] {
        &self.peers[..usize::from(self.len)]
    }

    /// Those by relays that are all reached, and the others.
    pub(super) fn split(&self) -> (&[PeerName], &[PeerName]) {
        self.peers().split_at(usize::from(self.reached))
    }

    /// False when there is no room, or `hop` is among them.
    fn push(&mut self, hop: PeerName) -> bool {
        let new = self.peers().len() < FIRST_HOPS_MAX && !self.peers().contains(&hop);
        if new {
            self.peers[usize::from(self.len)] = hop;
            self.len += 1;
        }
        new
    }
}

/// The sessions of this peer, and those that reached peers report.
fn reported<'g, 'a>(graph: &'g Graph<'a>) -> impl Iterator<Item = (usize, &'a ReportedSession)> + use<'g, 'a> {
    graph.reporters(None).into_iter().flat_map(|at| graph.sessions(at))
}

/// The store that each reached peer has sessions as, this one too, in order of name; and where several stores use one name:
/// all of them, each with an address.
pub(super) fn alive(me: PeerUid, graph: &Graph<'_>) -> (Vec<(PeerName, PeerUid)>, Duplicates) {
    let mut first: Vec<Option<PeerUid>> = vec![None; graph.numbers().len()];
    first[Graph::ME] = Some(me);
    let mut duplicates = Duplicates::new();
    for (to, session) in reported(graph) {
        let first = *first[to].get_or_insert(session.uid);
        if first != session.uid {
            let stores = duplicates.entry(session.peer).or_default();
            stores.entry(first).or_default();
            stores.entry(session.uid).or_default();
        }
    }
    if !duplicates.is_empty() {
        for (_, session) in reported(graph) {
            let stores = duplicates.get_mut(&session.peer);
            let Some(address) = stores.and_then(|all| all.get_mut(&session.uid)) else { continue };
            // An address that the store listens on serves the operator better than the port it dialled from.
            if session.outbound || address.is_empty() {
                address.clone_from(&session.address);
            }
        }
    }
    (graph.names().filter_map(|(name, at)| Some((name, first[at]?))).collect(), duplicates)
}

/// For each number whether sessions lead there; not to this peer.
fn marks(graph: &Graph<'_>) -> Vec<bool> {
    let mut found = vec![false; graph.numbers().len()];
    for (to, _) in reported(graph) {
        found[to] = true;
    }
    found[Graph::ME] = false;
    found
}

/// All peers but this one that sessions lead to, in order of name.
pub(super) fn reached(graph: &Graph<'_>) -> Vec<PeerName> {
    let found = marks(graph);
    graph.names().filter(|(_, at)| found[*at]).map(|(name, _)| name).collect()
}

/// The first hops towards each peer that paths lead to by way of another, in order of name: peers in `near`, whose direct
/// paths from here answer; those by relays that are all reached before others, nearest to the peer first, ties by name.
pub(super) fn first_hops(graph: &Graph<'_>, near: &BTreeSet<PeerName>) -> Vec<(PeerName, FirstHops)> {
    let (adjacent, reached) = (graph.adjacencies(), marks(graph));
    let mut found = hops_by(graph, &adjacent, near, &|at| reached[at]);
    found.iter_mut().for_each(|hops| hops.reached = hops.len);
    if graph.numbers().any(|at| at != Graph::ME && !reached[at]) {
        let all = hops_by(graph, &adjacent, near, &|_| true);
        for (hops, others) in found.iter_mut().zip(all) {
            others.peers().iter().for_each(|hop| _ = hops.push(*hop));
        }
    }
    graph.names().map(|(name, at)| (name, found[at])).filter(|(_, hops)| hops.len > 0).collect()
}

/// For each number the nearest first hops towards it by relays that are `wanted`.
fn hops_by(
    graph: &Graph<'_>,
    adjacent: &Lists,
    near: &BTreeSet<PeerName>,
    wanted: &dyn Fn(usize) -> bool,
) -> Vec<FirstHops> {
    let mut found = vec![FirstHops::default(); graph.numbers().len()];
    // Breadth-first, with up to three first hops a peer; within a distance in order of the first hop's name.
    let mut frontier: Vec<(PeerName, usize)> =
        near.iter().filter_map(|hop| graph.find(*hop).map(|at| (*hop, at))).collect();
    while !frontier.is_empty() {
        frontier.retain(|(_, at)| wanted(*at));
        let mut next = Vec::new();
        for (hop, at) in frontier {
            for to in adjacent.of(at).iter().copied().filter(|to| *to != Graph::ME && graph.name(*to) != hop) {
                if found[to].push(hop) {
                    next.push((hop, to));
                }
            }
        }
        next.sort_by_key(|(hop, _)| *hop);
        frontier = next;
    }
    found
}

/// The peers to which this one passes on broadcasts of each of `sources`, in order of name; sources of which it passes
/// nothing on are left out.
pub(super) fn broadcasts(graph: &Graph<'_>, sources: &BTreeSet<PeerName>) -> Vec<(PeerName, Vec<PeerName>)> {
    let adjacent = graph.adjacencies();
    let children = |source: &PeerName| {
        let children = graph.find(*source).map(|at| children(graph, &adjacent, at)).unwrap_or_default();
        (!children.is_empty()).then_some((*source, children))
    };
    sources.iter().filter_map(children).collect()
}

fn children(graph: &Graph<'_>, adjacent: &Lists, source: usize) -> Vec<PeerName> {
    // For each peer its distance and its parent.
    let mut found: Vec<Option<(u32, usize)>> = vec![None; graph.numbers().len()];
    found[source] = Some((0, source));
    let mut queue = VecDeque::from([source]);
    while let Some(at) = queue.pop_front() {
        let further = found[at].map_or(0, |(depth, _)| depth + 1);
        for to in adjacent.of(at) {
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
