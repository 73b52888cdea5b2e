//! Peers and the links that they tell, by numbers: with thousands of peers looking names up is most of the work, so each end
//! of a link is looked up once, and what is asked of a graph costs a few passes over arrays.

use std::collections::BTreeMap;

use foldhash::fast::FixedState;
use indexmap::IndexMap;

use super::{Hop, smaller};
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

/// A list for each number, one after the other.
pub(super) struct Lists<T> {
    items: Vec<T>,
    /// Where each begins; one more than there are lists.
    starts: Vec<usize>,
}

impl<T> Lists<T> {
    fn new() -> Self {
        Self { items: Vec::new(), starts: vec![0] }
    }

    /// The items so far are those of the next number.
    fn end(&mut self) {
        self.starts.push(self.items.len());
    }

    pub(super) fn of(&self, number: usize) -> &[T] {
        &self.items[self.starts[number]..self.starts[number + 1]]
    }
}

/// See the head of this file.
pub struct Graph<'a> {
    /// By number. Hashes that are the same in every run give the same order in every run.
    nodes: IndexMap<PeerName, Option<&'a PeerRecord>, FixedState>,
    /// All numbers in order of name.
    by_name: Vec<usize>,
    /// For each link of each peer, the number of its end.
    ends: Lists<usize>,
}

impl<'a> Graph<'a> {
    /// The number of this peer.
    pub(super) const ME: usize = 0;

    /// `me`, the `others`, and all that their links lead to, whichever store that is of.
    #[must_use]
    pub fn new(me: &'a PeerRecord, others: impl Iterator<Item = &'a PeerRecord>) -> Self {
        let mut graph = Self { nodes: IndexMap::default(), by_name: Vec::new(), ends: Lists::new() };
        for record in std::iter::once(me).chain(others) {
            graph.nodes.entry(record.name).or_insert(Some(record));
        }
        for at in 0..graph.nodes.len() {
            for link in graph.links(at) {
                let end = graph.nodes.entry(link.peer);
                graph.ends.items.push(end.index());
                end.or_insert(None);
            }
            graph.ends.end();
        }
        // Those who only others tell of have no links.
        graph.ends.starts.resize(graph.nodes.len() + 1, graph.ends.items.len());
        graph.by_name = graph.numbers().collect();
        graph.by_name.sort_unstable_by_key(|at| graph.nodes.get_index(*at).map(|(name, _)| *name));
        graph
    }

    pub(super) fn numbers(&self) -> std::ops::Range<usize> {
        0..self.nodes.len()
    }

    /// All names in order, each with its number.
    pub(super) fn names(&self) -> impl Iterator<Item = (PeerName, usize)> {
        self.by_name.iter().map(|at| (self.name(*at), *at))
    }

    pub(super) fn name(&self, at: usize) -> PeerName {
        self.nodes.get_index(at).map(|(name, _)| *name).unwrap_or_default()
    }

    pub(super) fn find(&self, name: PeerName) -> Option<usize> {
        self.nodes.get_index_of(&name)
    }

    fn record(&self, at: usize) -> Option<&'a PeerRecord> {
        self.nodes.get_index(at).and_then(|(_, record)| *record)
    }

    fn links(&self, at: usize) -> &'a [RecordLink] {
        self.record(at).map_or(&[], |record| &record.links)
    }

    /// The links that a peer tells, each with the number of its end.
    pub(super) fn ends(&self, at: usize) -> impl Iterator<Item = (usize, &'a RecordLink)> {
        self.ends.of(at).iter().copied().zip(self.links(at))
    }

    /// True when the record held of the link's end is of the very store that it leads to.
    fn is_very(&self, (to, link): (usize, &RecordLink)) -> bool {
        self.record(to).is_some_and(|record| record.uid == link.uid)
    }

    /// Established links by the peer that they lead to: who tells of them, and their MTU; in order of name.
    fn told_of(&self) -> Lists<Next> {
        let established = |at: usize| self.ends(at).filter(|(_, link)| link.established);
        let mut starts = vec![0; self.nodes.len() + 1];
        for (to, _) in self.numbers().flat_map(established) {
            starts[to + 1] += 1;
        }
        for at in self.numbers() {
            starts[at + 1] += starts[at];
        }
        let mut items = vec![Next { to: Self::ME, mtu: 0 }; starts[self.nodes.len()]];
        let mut free = starts.clone();
        for from in self.by_name.iter().copied() {
            for (to, link) in established(from) {
                items[free[to]] = Next { to: from, mtu: link.path_mtu };
                free[to] += 1;
            }
        }
        Lists { items, starts }
    }

    /// Each peer's neighbours over established, symmetric links, in order of name.
    pub(super) fn neighbours(&self) -> Lists<Next> {
        let told_of = self.told_of();
        let mut near = Lists::new();
        // The link of the peer at hand to each other, if it has one.
        let mut mine: Vec<Option<(usize, u32)>> = vec![None; self.nodes.len()];
        for at in self.numbers() {
            for end in self.ends(at).filter(|end| end.1.established && self.is_very(*end)) {
                let (to, link) = end;
                if mine[to].is_none_or(|(of, _)| of != at) {
                    mine[to] = Some((at, link.path_mtu));
                }
            }
            for back in told_of.of(at) {
                if let Some((_, mtu)) = mine[back.to].take_if(|(of, _)| *of == at) {
                    near.items.push(Next { to: back.to, mtu: smaller(mtu, back.mtu) });
                }
            }
            near.end();
        }
        near
    }

    /// Those whose links count, in the order in which links lead to them: this peer, and all whose very stores are led to by
    /// links of those that count. What another store of such a name tells does not: it may be gone, and have told of others
    /// that are gone with it.
    pub(super) fn asked(&self) -> Vec<usize> {
        self.asked_but(|_| false)
    }

    /// True when links lead to `peer` from here, told by the very stores that they lead to, also without those that lead to
    /// it straight from here.
    pub(super) fn is_reached_without_its_link(&self, peer: PeerName) -> bool {
        let Some(peer) = self.find(peer) else { return false };
        let asked = self.asked_but(|to| to == peer);
        let elsewhere = asked.into_iter().filter(|at| *at != Self::ME && *at != peer);
        elsewhere.flat_map(|at| self.ends(at)).any(|(to, _)| to == peer)
    }

    /// As [`Self::asked`], without the links of this peer to those that are `left_out`.
    fn asked_but(&self, left_out: impl Fn(usize) -> bool) -> Vec<usize> {
        let mut found = vec![false; self.nodes.len()];
        found[Self::ME] = true;
        let mut asked = vec![Self::ME];
        let mut next = 0;
        while let Some(at) = asked.get(next).copied() {
            next += 1;
            for end in self.ends(at).filter(|(to, _)| at != Self::ME || !left_out(*to)) {
                if !found[end.0] && self.is_very(end) {
                    found[end.0] = true;
                    asked.push(end.0);
                }
            }
        }
        asked
    }

    /// The first hop to each number that `next` leads to from this one, past as few `silent` ones as can be, over as few
    /// links as can be.
    pub(super) fn hops<'n>(
        &self,
        next: impl Fn(usize) -> &'n [Next],
        silent: impl Fn(usize) -> bool,
    ) -> Vec<Option<Hop>> {
        let mut hops: Vec<Option<Hop>> = vec![None; self.nodes.len()];
        // For each peer the one before it, and the MTU of the links up to it.
        let mut before: Vec<(usize, u32)> = vec![(0, 0); self.nodes.len()];
        // Whose neighbours are to be looked at, by how many silent ones and links are on the way to them.
        let mut frontier = BTreeMap::from([((0, 0), vec![Self::ME])]);
        while let Some(((passed, far), found)) = frontier.pop_first() {
            let ends = found.into_iter().flat_map(|at| next(at).iter().map(move |next| (at, *next)));
            for (at, Next { to, mtu }) in ends {
                if to == Self::ME || hops[to].is_some() {
                    continue;
                }
                let mtu = smaller(before[at].1, mtu);
                before[to] = (at, mtu);
                let path_mtu = smaller(mtu, self.narrowest(to, &before));
                hops[to] = Some(match hops[at] {
                    Some(Hop { via, hops, .. }) => Hop { via, hops: hops + 1, path_mtu },
                    None => Hop { via: self.name(to), hops: 1, path_mtu },
                });
                frontier.entry((passed + u32::from(silent(to)), far + 1)).or_default().push(to);
            }
        }
        hops
    }

    /// The smallest MTU of the straight paths to `peer` by which those on the way to it may relay, instead of by the links;
    /// zero when none is known.
    fn narrowest(&self, peer: usize, before: &[(usize, u32)]) -> u32 {
        let back = |at: &usize| Some(before[*at].0).filter(|at| *at != Self::ME);
        let relays = std::iter::successors(back(&peer), back).filter_map(|at| self.record(at));
        let name = self.name(peer);
        let narrow = relays.flat_map(|relay| &relay.narrow).filter(|(to, _)| *to == name);
        narrow.fold(0, |least, (_, mtu)| smaller(least, *mtu))
    }
}
