//! Everybody is reached, once, without loops, over links that both ends vouch for.

use proptest::prelude::*;

use super::{
    super::{
        entry::PeerRecord,
        fixture::{name, record},
    },
    *,
};

/// Records of peers 1 to `count` with these links, told by both ends.
fn mesh(count: u8, links: &[(u8, u8)]) -> BTreeMap<PeerName, PeerRecord> {
    let of = |n: u8| {
        let ends = links.iter().filter_map(|(a, b)| if *a == n { Some(*b) } else { (*b == n).then_some(*a) });
        ends.collect::<BTreeSet<u8>>().into_iter().filter(|other| *other != n).collect::<Vec<u8>>()
    };
    (1..=count).map(|n| (name(n), record(n, 1, &of(n)))).collect()
}

fn graph(me: u8, mesh: &BTreeMap<PeerName, PeerRecord>) -> Graph<'_> {
    Graph::new(&mesh[&name(me)], mesh.values())
}

fn hops(mesh: &BTreeMap<PeerName, PeerRecord>, me: u8) -> BTreeMap<PeerName, Hop> {
    next_hops(&graph(me, mesh)).hops.into_iter().collect()
}

/// As what is told leads to them, or was told last.
fn all_hops(me: u8, mesh: &BTreeMap<PeerName, PeerRecord>) -> BTreeMap<PeerName, Hop> {
    let NextHops { hops, last } = next_hops(&graph(me, mesh));
    hops.into_iter().chain(last).collect()
}

fn children_of(source: PeerName, me: &PeerRecord, mesh: &BTreeMap<PeerName, PeerRecord>) -> Vec<PeerName> {
    let of = broadcasts(&Graph::new(me, mesh.values()), &BTreeSet::from([source]));
    of.into_iter().flat_map(|(_, children)| children).collect()
}

#[test]
fn a_chain_is_passed_along() {
    let mesh = mesh(4, &[(1, 2), (2, 3), (3, 4)]);
    let hops = hops(&mesh, 1);
    assert_eq!(hops.values().map(|h| (h.via, h.hops)).collect::<Vec<_>>(), [(name(2), 1), (name(2), 2), (name(2), 3)]);
    assert_eq!(reached(&graph(1, &mesh)).len(), 3);
    let ends = BTreeSet::from([name(1), name(3), name(4)]);
    let passed = [(name(1), vec![name(3)]), (name(3), vec![name(1)]), (name(4), vec![name(1)])];
    assert_eq!(broadcasts(&graph(2, &mesh), &ends), passed);
}

#[test]
fn a_link_is_spare_where_others_lead_to_its_end() {
    let mut mesh = mesh(5, &[(1, 2), (1, 3), (3, 4), (4, 5), (1, 5)]);
    let spare = |mesh: &BTreeMap<PeerName, PeerRecord>, among: &[u8]| {
        first_spare(&graph(1, mesh), among.iter().map(|n| name(*n)))
    };
    assert_eq!(spare(&mesh, &[2, 3, 5]), Some(name(3)));
    assert_eq!(spare(&mesh, &[2]), None);
    // What another store of that name tells leads nowhere.
    mesh.get_mut(&name(4)).unwrap().uid = crate::proto::name::PeerUid(99);
    assert_eq!(spare(&mesh, &[2, 3, 5]), None);
}

#[test]
fn a_link_that_only_one_end_vouches_for_carries_no_packets() {
    let mut mesh = mesh(3, &[(1, 2), (2, 3)]);
    mesh.insert(name(3), record(3, 1, &[]));
    assert_eq!(hops(&mesh, 1).keys().copied().collect::<Vec<_>>(), [name(2)]);
    assert_eq!(reached(&graph(1, &mesh)).len(), 2, "control reaches it");
    let mut pending = record(3, 1, &[2]);
    pending.links[0].established = false;
    mesh.insert(name(3), pending);
    assert_eq!(hops(&mesh, 1).len(), 1);
    // Another store under the name of peer 3 is not the one that peer 2 is linked to.
    let mut other = record(3, 1, &[2]);
    other.uid = crate::proto::name::PeerUid(1);
    mesh.insert(name(3), other);
    assert_eq!(hops(&mesh, 1).len(), 1);
}

#[test]
fn a_relay_that_leaves_the_links_takes_no_more_than_its_straight_path_does() {
    let mut mesh = mesh(4, &[(1, 2), (2, 3), (3, 4)]);
    for link in mesh.values_mut().flat_map(|record| &mut record.links) {
        link.path_mtu = 1500;
    }
    mesh.get_mut(&name(2)).unwrap().narrow = vec![(name(4), 1300)];
    let mtus = |me| hops(&mesh, me).into_iter().map(|(peer, hop)| (peer, hop.path_mtu)).collect::<Vec<_>>();
    assert_eq!(mtus(1), [(name(2), 1500), (name(3), 1500), (name(4), 1300)]);
    assert_eq!(mtus(3), [(name(1), 1500), (name(2), 1500), (name(4), 1500)]);
}

#[test]
fn a_lost_peer_is_sent_to_by_those_that_it_told_of_last_and_nothing_else_goes_through_it() {
    // Peer 3 was between 2 and 4, and beside 5; nobody hears of it any more, but 1 to 2 to 5 to 4 holds together.
    let mut mesh = mesh(5, &[(1, 2), (2, 5), (5, 4)]);
    mesh.insert(name(3), record(3, 7, &[2, 4]));
    let all = |me| all_hops(me, &mesh);
    assert_eq!([1, 5].map(|me| all(me)[&name(3)].via), [name(2), name(2)]);
    assert_eq!([2, 4].map(|me| all(me)[&name(3)].via), [name(3), name(3)]);
    assert_eq!(all(2)[&name(4)].via, name(5), "what lives is not sought through what is lost");
}

#[test]
fn who_speaks_is_sent_to_by_way_of_who_is_lost_where_there_is_no_other() {
    // Peer 4 is heard of over links on which data does not pass.
    let mut mesh = mesh(4, &[(1, 2), (2, 3), (3, 4)]);
    let last = |mesh: &BTreeMap<PeerName, PeerRecord>, me| {
        let last = next_hops(&graph(me, mesh)).last;
        last.into_iter().map(|(peer, hop)| (peer, hop.via)).collect::<Vec<_>>()
    };
    assert_eq!(last(&mesh, 1), [], "there is another");
    for n in [2, 4] {
        mesh.get_mut(&name(n)).expect("a record").links.retain(|link| link.peer != name(3));
    }
    assert_eq!(last(&mesh, 1), [3, 4].map(|n| (name(n), name(2))));
    assert_eq!(last(&mesh, 2), [3, 4].map(|n| (name(n), name(3))));
    assert_eq!(last(&mesh, 4), [1, 2, 3].map(|n| (name(n), name(3))));
}

#[test]
fn few_who_do_not_speak_are_passed_rather_than_few_links() {
    // To 6 by way of 2 and 3, of whom nobody hears any more, or by way of 4, 5 and then 7, of whom nobody hears either.
    let mut mesh = mesh(7, &[(1, 4), (4, 5)]);
    for (n, links) in [(2, vec![1, 3]), (3, vec![2, 6]), (7, vec![5, 6]), (6, vec![3, 7])] {
        mesh.insert(name(n), record(n, 1, &links));
    }
    let via = |me, mesh: &BTreeMap<PeerName, PeerRecord>| all_hops(me, mesh)[&name(6)].via;
    assert_eq!([1, 4, 5].map(|me| via(me, &mesh)), [4, 5, 7].map(name));
    mesh.get_mut(&name(7)).expect("a record").links.clear();
    mesh.insert(name(6), record(6, 1, &[3]));
    assert_eq!([1, 4, 5].map(|me| via(me, &mesh)), [2, 1, 4].map(name));
}

#[test]
fn two_lost_peers_in_a_row_are_still_sent_to() {
    let mut mesh = mesh(1, &[]);
    mesh.insert(name(2), record(2, 1, &[1, 3]));
    mesh.insert(name(3), record(3, 1, &[2]));
    let hops = all_hops(1, &mesh);
    assert_eq!(hops.values().map(|hop| (hop.via, hop.hops)).collect::<Vec<_>>(), [(name(2), 1), (name(2), 2)]);
}

#[test]
fn a_lost_peer_is_sent_to_by_way_of_those_who_still_speak() {
    // Peer 4 told of 2, which is lost as well and may send to it by way of this one, and of 3, which is not.
    let mut mesh = mesh(4, &[(1, 3), (2, 4), (3, 4)]);
    mesh.insert(name(2), record(2, 1, &[1, 4]));
    mesh.get_mut(&name(3)).unwrap().links.retain(|link| link.peer == name(1));
    let hops = all_hops(1, &mesh);
    assert_eq!(hops[&name(4)], Hop { via: name(3), hops: 2, path_mtu: 0 });
}

#[test]
fn the_smallest_mtu_on_the_way_counts() {
    let mut mesh = mesh(3, &[(1, 2), (2, 3)]);
    let mut set = |n: u8, at: usize, mtu| mesh.get_mut(&name(n)).expect("a record").links[at].path_mtu = mtu;
    set(1, 0, 1500);
    set(2, 1, 1400);
    set(3, 0, 9000);
    let hops = hops(&mesh, 1);
    assert_eq!((hops[&name(2)].path_mtu, hops[&name(3)].path_mtu), (1500, 1400));
}

proptest! {
    #[test]
    fn next_hops_lead_to_everybody_who_is_connected(links in prop::collection::vec((1_u8..=12, 1_u8..=12), 0..30)) {
        let mesh = mesh(12, &links);
        let all: BTreeMap<PeerName, BTreeMap<PeerName, Hop>> = (1..=12).map(|n| (name(n), hops(&mesh, n))).collect();
        for (from, reached) in &all {
            prop_assert_eq!(
                reached.keys().copied().collect::<Vec<_>>(),
                super::reached(&Graph::new(&mesh[from], mesh.values()))
            );
            for (to, hop) in reached {
                let (mut at, mut left) = (*from, hop.hops);
                while at != *to {
                    prop_assert!(left > 0, "{from} to {to} takes more hops than told");
                    at = all[&at][to].via;
                    left -= 1;
                }
                prop_assert_eq!(left, 0);
            }
        }
    }

    #[test]
    fn a_broadcast_reaches_everybody_who_is_connected_once(
        links in prop::collection::vec((1_u8..=12, 1_u8..=12), 0..30),
        source in 1_u8..=12,
    ) {
        let mesh = mesh(12, &links);
        let source = name(source);
        let mut heard = BTreeSet::from([source]);
        let mut queue = vec![source];
        while let Some(at) = queue.pop() {
            for child in children_of(source, &mesh[&at], &mesh) {
                prop_assert!(heard.insert(child), "{child} hears it twice");
                queue.push(child);
            }
        }
        heard.remove(&source);
        let reached = super::reached(&Graph::new(&mesh[&source], mesh.values()));
        prop_assert_eq!(heard.into_iter().collect::<Vec<_>>(), reached);
    }
}
