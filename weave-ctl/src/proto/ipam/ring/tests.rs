//! The ring covers the range exactly, evenly, and the same for everybody.

use proptest::prelude::*;

use super::*;

fn name(n: u8) -> PeerName {
    PeerName::from_bytes([0, 0, 0, 0, 0, n])
}

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

#[test]
fn three_seeds_get_a_third_each() {
    let ring = Ring::from_seeds(net("10.32.0.0/12"), &[name(3), name(1), name(2), name(1)]).unwrap();
    assert_eq!(ring.seeds, [name(1), name(2), name(3)]);
    let shares: Vec<u64> =
        ring.pieces().map(|(f, l, _)| u64::from(u32::from(l)) - u64::from(u32::from(f)) + 1).collect();
    assert_eq!(shares.iter().sum::<u64>(), 1 << 20);
    assert!(shares.iter().all(|s| (340_000..360_000).contains(s)), "{shares:?}");
}

#[test]
fn whole_ipv4_range_does_not_overflow() {
    let ring = Ring::from_seeds(net("0.0.0.0/0"), &[name(1), name(2)]).unwrap();
    assert_eq!(ring.owner_of(Ipv4Addr::BROADCAST), Some(name(2)));
    assert_eq!(ring.owner_of(Ipv4Addr::UNSPECIFIED), Some(name(1)));
}

#[test]
fn impossible_seed_lists() {
    assert_eq!(Ring::from_seeds(net("10.0.0.0/30"), &[]), Err(SeedError::Empty));
    let five: Vec<PeerName> = (1..=5).map(name).collect();
    assert!(matches!(Ring::from_seeds(net("10.0.0.0/30"), &five), Err(SeedError::TooSmall { .. })));
}

#[test]
fn merge_answers() {
    let range = net("10.0.0.0/16");
    let ours = Ring::from_seeds(range, &[name(1), name(2)]).unwrap();
    assert_eq!(Ring::merge(Some(&ours), range, range, &[name(2), name(1)]), Merge::Same);
    assert_eq!(Ring::merge(None, range, range, &[name(2), name(1)]), Merge::Adopt(ours.clone()));
    assert!(
        matches!(Ring::merge(Some(&ours), range, range, &[name(1)]), Merge::Conflict(t) if t.contains("seeded by different peers"))
    );
    assert!(
        matches!(Ring::merge(Some(&ours), range, net("10.1.0.0/16"), &[name(1), name(2)]), Merge::Conflict(t) if t.contains("Incompatible"))
    );
    assert!(matches!(Ring::merge(None, range, range, &[]), Merge::Conflict(_)));
}

proptest! {
    #[test]
    fn partition_of_the_range(prefix in 8_u8..=28, base: u32, names in prop::collection::btree_set(any::<u8>(), 1..=16)) {
        let range = Ipv4Net::new(Ipv4Addr::from(base), prefix).unwrap().trunc();
        let seeds: Vec<PeerName> = names.iter().copied().map(name).collect();
        let ring = Ring::from_seeds(range, &seeds).unwrap();
        // Pieces are in order, without gap or overlap, and cover the range.
        let mut next = u64::from(u32::from(range.network()));
        for (first, last, owner) in ring.pieces() {
            prop_assert_eq!(u64::from(u32::from(first)), next);
            prop_assert!(last >= first);
            prop_assert_eq!(ring.owner_of(first), Some(owner));
            prop_assert_eq!(ring.owner_of(last), Some(owner));
            next = u64::from(u32::from(last)) + 1;
        }
        prop_assert_eq!(next, u64::from(u32::from(range.broadcast())) + 1);
        // Routes say the same as the pieces, and cover the range.
        let covered: u64 = ring.routes().map(|(n, _)| size(n)).sum();
        prop_assert_eq!(covered, size(range));
        for (n, owner) in ring.routes() {
            prop_assert_eq!(ring.owner_of(n.network()), Some(owner));
            prop_assert_eq!(ring.owner_of(n.broadcast()), Some(owner));
        }
    }

    #[test]
    fn order_of_seeds_does_not_matter(mut names in prop::collection::vec(any::<u8>(), 1..8)) {
        let range = net("10.32.0.0/12");
        let one = Ring::from_seeds(range, &names.iter().copied().map(name).collect::<Vec<_>>());
        names.reverse();
        let other = Ring::from_seeds(range, &names.iter().copied().map(name).collect::<Vec<_>>());
        prop_assert_eq!(one, other);
    }
}
