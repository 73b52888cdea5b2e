//! Peers and the links that they tell, by numbers: with thousands of peers looking names up is most of the work.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Hop, Records, smaller};
use crate::proto::{
    mesh::entry::{PeerRecord, RecordLink},
    name::PeerName,
};

/// A peer next to another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Next {
    /// Its number.
    pub(super) to: usize,
    /// MTU of the link; zero when it is not known.
    pub(super) mtu: u32,
}

/// One peer.
struct Node<'a> {
    name: PeerName,
    record: Option<&'a PeerRecord>,
    links: Vec<(usize, &'a RecordLink)>,
}

/// See the head of this file.
pub(super) struct Graph<'a> {
    nodes: Vec<Node<'a>>,
    numbers: BTreeMap<PeerName, usize>,
}

impl<'a> Graph<'a> {
    /// The number of this peer.
    pub(super) const ME: usize = 0;

    /// All that links lead to from `me` and from `others`, whichever store they are of.
    pub(super) fn new(me: &'a PeerRecord, records: Records<'a>, others: &BTreeSet<PeerName>) -> Self {
        let mut graph = Self { nodes: Vec::new(), numbers: BTreeMap::new() };
        graph.add(me.name, Some(me));
        for name in others {
            if !graph.numbers.contains_key(name) {
                graph.add(*name, records(*name));
            }
        }
        let mut at = 0;
        while let Some(record) = graph.nodes.get(at).map(|node| node.record) {
            let links = record.map_or(&[][..], |record| &record.links);
            let known = links.iter().map(|link| (graph.number(link.peer, records), link)).collect();
            graph.nodes[at].links = known;
            at += 1;
        }
        graph
    }

    fn number(&mut self, name: PeerName, records: Records<'a>) -> usize {
        match self.numbers.get(&name) {
            Some(number) => *number,
            None => self.add(name, records(name)),
        }
    }

    fn add(&mut self, name: PeerName, record: Option<&'a PeerRecord>) -> usize {
        let number = self.nodes.len();
        self.numbers.insert(name, number);
        self.nodes.push(Node { name, record, links: Vec::new() });
        number
    }

    pub(super) fn numbers(&self) -> std::ops::Range<usize> {
        0..self.nodes.len()
    }

    pub(super) fn name(&self, at: usize) -> PeerName {
        self.nodes[at].name
    }

    pub(super) fn find(&self, name: PeerName) -> Option<usize> {
        self.numbers.get(&name).copied()
    }

    pub(super) fn links(&self, at: usize) -> &[(usize, &'a RecordLink)] {
        &self.nodes[at].links
    }

    /// Neighbours over established, symmetric links, in order of name.
    pub(super) fn neighbours(&self, at: usize) -> Vec<Next> {
        let both = |(to, link): &(usize, &RecordLink)| {
            let other = &self.nodes[*to];
            let back = other.links.iter().find(|(back, l)| *back == at && l.established)?;
            let very = other.record.is_some_and(|record| record.uid == link.uid);
            very.then(|| Next { to: *to, mtu: smaller(link.path_mtu, back.1.path_mtu) })
        };
        let established = self.nodes[at].links.iter().filter(|(_, link)| link.established);
        let mut neighbours: Vec<Next> = established.filter_map(both).collect();
        neighbours.sort_by_key(|next| self.nodes[next.to].name);
        neighbours.dedup_by_key(|next| next.to);
        neighbours
    }

    /// The first hop to each peer that `next` leads to from this one.
    pub(super) fn hops(&self, next: &dyn Fn(usize) -> Vec<Next>) -> BTreeMap<PeerName, Hop> {
        let mut hops: Vec<Option<Hop>> = vec![None; self.nodes.len()];
        // For each peer the one before it, and the MTU of the links up to it.
        let mut before: Vec<(usize, u32)> = vec![(0, 0); self.nodes.len()];
        let mut queue = VecDeque::from([Self::ME]);
        while let Some(at) = queue.pop_front() {
            for Next { to, mtu } in next(at) {
                if to == Self::ME || hops[to].is_some() {
                    continue;
                }
                let mtu = smaller(before[at].1, mtu);
                before[to] = (at, mtu);
                let path_mtu = smaller(mtu, self.narrowest(to, &before));
                hops[to] = Some(match hops[at] {
                    Some(Hop { via, hops, .. }) => Hop { via, hops: hops + 1, path_mtu },
                    None => Hop { via: self.nodes[to].name, hops: 1, path_mtu },
                });
                queue.push_back(to);
            }
        }
        let named = self.nodes.iter().map(|node| node.name).zip(hops);
        named.filter_map(|(name, hop)| Some((name, hop?))).collect()
    }

    /// The smallest MTU of the straight paths to `peer` by which those on the way to it may relay, instead of by the links;
    /// zero when none is known.
    fn narrowest(&self, peer: usize, before: &[(usize, u32)]) -> u32 {
        let back = |at: &usize| Some(before[*at].0).filter(|at| *at != Self::ME);
        let relays = std::iter::successors(back(&peer), back).filter_map(|at| self.nodes[at].record);
        let name = self.nodes[peer].name;
        let narrow = relays.flat_map(|relay| &relay.narrow).filter(|(to, _)| *to == name);
        narrow.fold(0, |least, (_, mtu)| smaller(least, *mtu))
    }

    /// True when links lead to `peer` from here, told by the very stores that they lead to, also without those that lead to
    /// it straight from here.
    pub(super) fn is_reached_without_its_link(&self, peer: PeerName) -> bool {
        let Some(peer) = self.find(peer) else { return false };
        let mut asked = vec![false; self.nodes.len()];
        asked[Self::ME] = true;
        let mut queue: VecDeque<usize> = VecDeque::from([Self::ME]);
        while let Some(at) = queue.pop_front() {
            for (to, link) in self.nodes[at].links.iter().filter(|(to, _)| at != Self::ME || *to != peer) {
                if *to == peer {
                    return true;
                }
                let very = self.nodes[*to].record.is_some_and(|record| record.uid == link.uid);
                if very && !std::mem::replace(&mut asked[*to], true) {
                    queue.push_back(*to);
                }
            }
        }
        false
    }
}
