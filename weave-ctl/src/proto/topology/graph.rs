//! Peers, their sessions and their paths by numbers: with thousands of peers looking names up is most of the work, so each
//! end of a session or path is looked up once, and a question to a graph costs a few passes over arrays.

use foldhash::fast::FixedState;
use indexmap::IndexMap;

use crate::proto::{
    name::PeerName,
    wire::entry::{PeerRecord, ReportedSession},
};

/// A list for each number, one after the other.
#[derive(Default)]
pub(super) struct Lists {
    items: Vec<usize>,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Lists {
    /// The items so far are those of the next number.
    fn end(&mut self) {
        self.ends.push(self.items.len());
    }

    pub(super) fn of(&self, number: usize) -> &[usize] {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.items[start..self.ends[number]]
    }
}

pub(super) struct Graph<'a> {
    /// By number. Hashes that are the same in every run give the same order in every run.
    nodes: IndexMap<PeerName, Option<&'a PeerRecord>, FixedState>,
    /// All numbers in order of name.
    by_name: Vec<usize>,
    /// For each session of each peer, the number of its end.
    ends: Lists,
}

impl<'a> Graph<'a> {
    /// The number of this peer.
    pub(super) const ME: usize = 0;

    /// `me`, the `others`, and all ends of their sessions, whichever store those are of.
    pub(super) fn new(me: &'a PeerRecord, others: impl Iterator<Item = &'a PeerRecord>) -> Self {
        let mut graph = Self { nodes: IndexMap::default(), by_name: Vec::new(), ends: Lists::default() };
        for record in std::iter::once(me).chain(others) {
            graph.nodes.entry(record.name).or_insert(Some(record));
        }
        for at in 0..graph.nodes.len() {
            for session in graph.reports(at) {
                let end = graph.nodes.entry(session.peer);
                graph.ends.items.push(end.index());
                end.or_insert(None);
            }
            graph.ends.end();
        }
        // Peers that only others report have no sessions.
        graph.ends.ends.resize(graph.nodes.len(), graph.ends.items.len());
        let mut by_name: Vec<usize> = graph.numbers().collect();
        by_name.sort_unstable_by_key(|at| graph.name(*at));
        graph.by_name = by_name;
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

    fn reports(&self, at: usize) -> &'a [ReportedSession] {
        self.record(at).map_or(&[], |record| &record.sessions)
    }

    /// The sessions that a peer reports, each with the number of its end.
    pub(super) fn sessions(&self, at: usize) -> impl Iterator<Item = (usize, &'a ReportedSession)> {
        self.ends.of(at).iter().copied().zip(self.reports(at))
    }

    /// True when the record held of the session's end is of the very store that the session leads to.
    fn is_same_store(&self, (to, session): (usize, &ReportedSession)) -> bool {
        self.record(to).is_some_and(|record| record.uid == session.uid)
    }

    /// The peers to which each peer has a path that both report, in order of name.
    pub(super) fn adjacencies(&self) -> Lists {
        let paths = |at: usize| {
            let names = self.record(at).map_or(&[][..], |record| &record.paths);
            names.iter().filter_map(|name| self.find(*name))
        };
        // By counting: for each peer, those that report a path to it, in order of name.
        let mut reporters = Lists { items: Vec::new(), ends: vec![0; self.nodes.len()] };
        self.numbers().flat_map(paths).for_each(|to| reporters.ends[to] += 1);
        let mut sum = 0;
        for end in &mut reporters.ends {
            // Each is where its list begins, until the list is filled.
            (*end, sum) = (sum, sum + *end);
        }
        reporters.items = vec![0; sum];
        for from in &self.by_name {
            for to in paths(*from) {
                reporters.items[reporters.ends[to]] = *from;
                reporters.ends[to] += 1;
            }
        }
        let mut adjacent = Lists::default();
        let mut mine: Vec<Option<usize>> = vec![None; self.nodes.len()];
        for at in self.numbers() {
            paths(at).for_each(|to| mine[to] = Some(at));
            let both = reporters.of(at).iter().filter(|from| mine[**from].take_if(|of| *of == at).is_some());
            adjacent.items.extend(both);
            adjacent.end();
        }
        adjacent
    }

    /// The peers whose reports count, in the order in which sessions lead to them: this peer, and all whose very stores are
    /// led to by sessions of peers that count. Reports of another store of such a name do not: it may be gone, with the
    /// peers that it reports.
    /// The sessions of this peer to `left_out` do not count.
    pub(super) fn reporters(&self, left_out: Option<usize>) -> Vec<usize> {
        let mut found = vec![false; self.nodes.len()];
        found[Self::ME] = true;
        let mut reporters = vec![Self::ME];
        let mut next = 0;
        while let Some(at) = reporters.get(next).copied() {
            next += 1;
            for end in self.sessions(at).filter(|(to, _)| at != Self::ME || left_out != Some(*to)) {
                if !found[end.0] && self.is_same_store(end) {
                    found[end.0] = true;
                    reporters.push(end.0);
                }
            }
        }
        reporters
    }

    /// The first peer on a shortest path of sessions to `peer`, the lowest by name of several; none goes by way of `from`.
    pub(super) fn next_hop(&self, peer: PeerName, from: Option<PeerName>) -> Option<PeerName> {
        let target = self.find(peer)?;
        let mut first: Vec<Option<usize>> = vec![None; self.nodes.len()];
        let mut near: Vec<usize> = self.sessions(Self::ME).map(|(to, _)| to).collect();
        near.retain(|at| *at != Self::ME && from != Some(self.name(*at)));
        near.sort_by_key(|at| self.name(*at));
        near.iter().for_each(|at| first[*at] = Some(*at));
        let mut next = 0;
        while let (None, Some(at)) = (first[target], near.get(next).copied()) {
            next += 1;
            for (to, _) in self.sessions(at) {
                if to != Self::ME && from != Some(self.name(to)) && first[to].is_none() {
                    first[to] = first[at];
                    near.push(to);
                }
            }
        }
        first[target].map(|at| self.name(at))
    }

    /// True when sessions lead to `peer` also without those that this host has to it.
    pub(super) fn is_reached_without_its_session(&self, peer: PeerName) -> bool {
        let Some(peer) = self.find(peer) else { return false };
        let elsewhere = self.reporters(Some(peer)).into_iter().filter(|at| *at != Self::ME && *at != peer);
        elsewhere.flat_map(|at| self.sessions(at)).any(|(to, _)| to == peer)
    }
}
