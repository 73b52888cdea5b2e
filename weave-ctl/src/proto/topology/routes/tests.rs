//! Every connected peer is reached, broadcasts reach it once, and relays lead to it over paths that both ends report.

use proptest::prelude::*;

use super::*;
use crate::proto::{
    fixture::{name, record},
    topology::first_spare,
    wire::entry::PeerRecord,
};

type Network = BTreeMap<PeerName, PeerRecord>;

/// Records of peers 1 to `count` with these sessions and paths, reported by both ends.
fn network(count: u8, edges: &[(u8, u8)]) -> Network {
    let of = |n: u8| {
        let ends = edges.iter().filter_map(|(a, b)| if *a == n { Some(*b) } else { (*b == n).then_some(*a) });
        ends.collect::<BTreeSet<u8>>().into_iter().filter(|other| *other != n).collect::<Vec<u8>>()
    };
    (1..=count).map(|n| (name(n), record(n, 1, &of(n)))).collect()
}

fn graph(me: PeerName, network: &Network) -> Graph<'_> {
    Graph::new(&network[&me], network.values())
}

/// The first hops of `me`, whose direct paths are those that its record reports.
fn hops(network: &Network, me: PeerName) -> BTreeMap<PeerName, Vec<PeerName>> {
    let near = network[&me].paths.iter().copied().collect();
    first_hops(&graph(me, network), &near).into_iter().map(|(peer, hops)| (peer, hops.peers().to_vec())).collect()
}

#[test]
fn a_chain_is_passed_along() {
    let network = network(4, &[(1, 2), (2, 3), (3, 4)]);
    assert_eq!(hops(&network, name(1)), BTreeMap::from([(name(3), vec![name(2)]), (name(4), vec![name(2)])]));
    assert_eq!(reached(&graph(name(1), &network)).len(), 3);
    let ends = BTreeSet::from([name(1), name(3), name(4)]);
    let passed = [(name(1), vec![name(3)]), (name(3), vec![name(1)]), (name(4), vec![name(1)])];
    assert_eq!(broadcasts(&graph(name(2), &network), &ends), passed);
}

#[test]
fn first_hops_are_the_nearest_three_by_name() {
    // To 9 by 2, 3, 4 and 5 over two paths, and by 6 over three.
    let network = network(9, &[(1, 2), (1, 3), (1, 4), (1, 5), (1, 6), (2, 9), (3, 9), (4, 9), (5, 9), (6, 5)]);
    assert_eq!(hops(&network, name(1))[&name(9)], [2, 3, 4].map(name));
    // To 5 by 6, and by the others over 9: 5 itself is no relay.
    assert_eq!(hops(&network, name(1))[&name(5)], [6, 2, 3].map(name));
}

#[test]
fn a_first_hop_is_a_peer_that_answers_from_here() {
    let network = network(4, &[(1, 2), (1, 3), (2, 4), (3, 4)]);
    let near = BTreeSet::from([name(3)]);
    let hops: Vec<_> = first_hops(&graph(name(1), &network), &near);
    let of_four = hops.iter().find(|(peer, _)| *peer == name(4)).map(|(_, hops)| hops.peers().to_vec());
    assert_eq!(of_four, Some(vec![name(3)]));
}

#[test]
fn relays_that_control_reaches_come_first() {
    let mut network = network(5, &[(1, 2), (1, 3), (1, 4), (2, 5), (3, 5), (4, 3)]);
    // The controller of 2 ended: its last record stands, no session leads there.
    network.values_mut().for_each(|record| record.sessions.retain(|session| session.peer != name(2)));
    let hops = |network: &Network| {
        let near = network[&name(1)].paths.iter().copied().collect();
        let all = first_hops(&graph(name(1), network), &near);
        let (_, hops) = all.into_iter().find(|(peer, _)| *peer == name(5)).unwrap();
        hops
    };
    assert_eq!(hops(&network).split(), (&[name(3), name(4)][..], &[name(2)][..]));
    // It is better than nothing.
    for end in [3, 4] {
        network.values_mut().for_each(|record| record.sessions.retain(|session| session.peer != name(end)));
    }
    assert_eq!(hops(&network).split(), (&[][..], &[2, 3, 4].map(name)[..]));
}

#[test]
fn a_session_is_spare_where_others_lead_to_its_end() {
    let mut network = network(5, &[(1, 2), (1, 3), (3, 4), (4, 5), (1, 5)]);
    let spare = |network: &Network, among: &[u8]| {
        let others: Vec<_> = network.values().filter(|record| record.name != name(1)).collect();
        first_spare(&network[&name(1)], &others, &among.iter().map(|n| name(*n)).collect::<Vec<_>>())
    };
    assert_eq!(spare(&network, &[2, 3, 5]), Some(name(3)));
    assert_eq!(spare(&network, &[5, 3]), Some(name(5)), "the first of those given");
    assert_eq!(spare(&network, &[2]), None);
    // What another store of that name reports leads nowhere.
    network.get_mut(&name(4)).unwrap().uid = PeerUid(99);
    assert_eq!(spare(&network, &[2, 3, 5]), None);
}

#[test]
fn a_path_that_one_end_alone_reports_relays_nothing() {
    let mut network = network(3, &[(1, 2), (2, 3)]);
    network.get_mut(&name(3)).unwrap().paths.clear();
    assert_eq!(hops(&network, name(1)), BTreeMap::new());
    assert_eq!(reached(&graph(name(1), &network)).len(), 2, "control reaches it");
}

proptest! {
    #[test]
    fn following_first_hops_leads_to_every_connected_peer(
        edges in prop::collection::vec((1_u8..=12, 1_u8..=12), 0..30),
    ) {
        let network = network(12, &edges);
        let all: BTreeMap<_, _> = network.keys().map(|me| (*me, hops(&network, *me))).collect();
        for me in network.keys() {
            for to in reached(&graph(*me, &network)) {
                let (mut at, mut left) = (*me, 12);
                while at != to && left > 0 {
                    at = if network[&at].paths.contains(&to) { to } else { all[&at][&to][0] };
                    left -= 1;
                }
                prop_assert_eq!(at, to, "from {}", me);
            }
        }
    }

    #[test]
    fn a_broadcast_reaches_every_connected_peer_once(
        edges in prop::collection::vec((1_u8..=12, 1_u8..=12), 0..30),
        source in 1_u8..=12,
    ) {
        let network = network(12, &edges);
        let source = name(source);
        let mut reached_by = BTreeSet::from([source]);
        let mut queue = vec![source];
        while let Some(at) = queue.pop() {
            let passed = broadcasts(&graph(at, &network), &BTreeSet::from([source]));
            for child in passed.into_iter().flat_map(|(_, children)| children) {
                prop_assert!(reached_by.insert(child), "{child} gets it twice");
                queue.push(child);
            }
        }
        reached_by.remove(&source);
        prop_assert_eq!(reached_by.into_iter().collect::<Vec<_>>(), reached(&graph(source, &network)));
    }
}
