//! The ring covers the range exactly, evenly, and the same for everybody; merging it is a join.

use proptest::prelude::*;

use super::*;
use crate::proto::name::PeerUid;

fn key(n: u8) -> SecretKey {
    SecretKey::from_bytes([n; 32])
}

fn name(n: u8) -> PeerName {
    PeerName::from_bytes([0, 0, 0, 0, 0, n])
}

fn id(n: u8) -> PeerId {
    PeerId { name: name(n), uid: PeerUid(u128::from(n)) }
}

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

fn addr(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn ring(peers: &[u8]) -> Ring {
    Ring::from_origin(net("10.0.0.0/24"), &peers.iter().copied().map(id).collect::<Vec<_>>()).unwrap()
}

#[test]
fn three_seeds_get_a_third_each() {
    let ring = Ring::from_seeds(net("10.32.0.0/12"), &[name(3), name(1), name(2), name(1)]).unwrap();
    assert_eq!(ring.origin, [1, 2, 3].map(|n| PeerId::of_any_store(name(n))));
    let shares: Vec<u64> = ring.pieces().map(|(first, last, _)| span(first, last)).collect();
    assert_eq!(shares.iter().sum::<u64>(), 1 << 20);
    assert!(shares.iter().all(|s| (340_000..360_000).contains(s)), "{shares:?}");
}

#[test]
fn whole_ipv4_range_does_not_overflow() {
    let ring = Ring::from_origin(net("0.0.0.0/0"), &[id(1), id(2)]).unwrap();
    assert_eq!(ring.owner_of(Ipv4Addr::BROADCAST), Some(id(2)));
    assert_eq!(ring.owner_of(Ipv4Addr::UNSPECIFIED), Some(id(1)));
    assert_eq!(ring.owned(id(1)) + ring.owned(id(2)), 1 << 32);
}

#[test]
fn impossible_seed_lists() {
    assert_eq!(Ring::from_seeds(net("10.0.0.0/30"), &[]), Err(SeedError::Empty));
    let five: Vec<PeerName> = (1..=5).map(name).collect();
    assert!(matches!(Ring::from_seeds(net("10.0.0.0/30"), &five), Err(SeedError::TooSmall { .. })));
}

#[test]
fn a_seed_is_claimed_by_one_store() {
    let mut ring = Ring::from_seeds(net("10.0.0.0/24"), &[name(1), name(2)]).unwrap();
    assert!(ring.unclaimed(name(1)));
    assert_eq!(ring.owned(id(1)), 0);
    assert_eq!(ring.claim(id(1)), [addr("10.0.0.0")]);
    assert!(!ring.unclaimed(name(1)) && ring.unclaimed(name(2)));
    assert_eq!(ring.owned(id(1)), 128);
    // Another store of that name has nothing to claim.
    assert!(ring.claim(PeerId { uid: PeerUid(9), ..id(1) }).is_empty());
}

#[test]
fn a_piece_is_given_and_the_rest_is_kept() {
    let mut ring = ring(&[1, 2]);
    let changed = ring.give(addr("10.0.0.32"), addr("10.0.0.63"), id(1), id(3));
    assert_eq!(changed, [addr("10.0.0.32"), addr("10.0.0.64")]);
    assert_eq!(ring.owner_of(addr("10.0.0.31")), Some(id(1)));
    assert_eq!(ring.owner_of(addr("10.0.0.32")), Some(id(3)));
    assert_eq!(ring.owner_of(addr("10.0.0.63")), Some(id(3)));
    assert_eq!(ring.owner_of(addr("10.0.0.64")), Some(id(1)));
    assert_eq!((ring.owned(id(1)), ring.owned(id(3))), (96, 32));
    // What it does not own whole, it does not give.
    assert!(ring.give(addr("10.0.0.60"), addr("10.0.0.70"), id(1), id(4)).is_empty());
    // Given on, and back again.
    ring.give(addr("10.0.0.32"), addr("10.0.0.63"), id(3), id(1));
    assert_eq!(ring.owned(id(1)), 128);
    assert_eq!(ring.pieces().count(), 2, "pieces of one owner are one piece");
}

#[test]
fn whoever_is_taken_over_from_owns_nothing_whatever_it_says() {
    let mut ours = ring(&[1, 2]);
    let mut theirs = ours.clone();
    ours.take_over(id(2), id(1), name(1), &key(1));
    // Meanwhile, apart, the one that is thought dead goes on.
    theirs.give(addr("10.0.0.128"), addr("10.0.0.255"), id(2), id(3));
    theirs.give(addr("10.0.0.128"), addr("10.0.0.255"), id(3), id(2));
    ours.merge(&theirs.whole()).unwrap();
    theirs.merge(&ours.whole()).unwrap();
    assert_eq!(ours, theirs);
    assert_eq!(theirs.owned(id(2)), 0);
    assert!(theirs.is_removed(id(2)));
}

#[test]
fn what_is_split_after_it_was_taken_over_stays_taken_over() {
    let mut ours = ring(&[1, 2]);
    let mut theirs = ours.clone();
    ours.take_over(id(2), id(1), name(1), &key(1));
    // Meanwhile, apart, the one that is thought dead gives from the middle: tokens that nobody else has.
    theirs.give(addr("10.0.0.160"), addr("10.0.0.191"), id(2), id(3));
    ours.merge(&theirs.whole()).unwrap();
    assert_eq!(ours.owned(id(1)), 256);
    theirs.merge(&ours.whole()).unwrap();
    assert_eq!(ours, theirs);
}

#[test]
fn a_part_tells_of_no_more_than_it_is_of() {
    let mut giver = ring(&[1, 2]);
    let (before, tokens) = (giver.clone(), giver.give(addr("10.0.0.8"), addr("10.0.0.8"), id(1), id(2)));
    assert_eq!(tokens, [addr("10.0.0.8"), addr("10.0.0.9")]);
    let tokens = giver.give(addr("10.0.0.7"), addr("10.0.0.7"), id(1), id(3));
    let part = giver.part(tokens);
    assert_eq!((&part.limits[..], part.is_whole()), (&[addr("10.0.0.8")][..], false));
    // Who missed the first learns of the second alone.
    let mut late = before.clone();
    late.merge(&part).unwrap();
    assert_eq!((late.owned(id(3)), late.owned(id(1)), late.owned(id(2))), (1, 127, 128));
    late.merge(&giver.whole()).unwrap();
    assert_eq!(late, giver);
    assert!(giver.whole().is_whole() && giver.whole().limits.is_empty());
}

#[test]
fn merge_answers() {
    let mut ours = ring(&[1, 2]);
    let before = ours.clone();
    assert_eq!(ours.merge(&ring(&[1, 2]).whole()), Ok(vec![]));
    let other = ours.merge(&ring(&[1]).whole()).unwrap_err().to_string();
    assert!(other.contains("seeded by different peers"), "{other}");
    let elsewhere = Ring::from_origin(net("10.1.0.0/24"), &[id(1), id(2)]).unwrap();
    let other = ours.merge(&elsewhere.whole()).unwrap_err().to_string();
    assert!(other.contains("Incompatible IP allocation ranges"), "{other}");
    assert_eq!(ours, before);
    assert_eq!(Ring::adopt(net("10.0.0.0/24"), &before.whole()), Ok(before.clone()));
    assert!(matches!(Ring::adopt(net("10.1.0.0/24"), &before.whole()), Err(Conflict::Range { .. })));
    let empty = Part { origin: vec![], ..before.whole() };
    assert!(matches!(Ring::adopt(net("10.0.0.0/24"), &empty), Err(Conflict::Impossible(_))));
    let unordered = Part { origin: vec![id(2), id(1)], ..before.whole() };
    assert!(matches!(Ring::adopt(net("10.0.0.0/24"), &unordered), Err(Conflict::Impossible(_))));
}

#[test]
fn a_ring_does_not_grow_beyond_its_bound() {
    let mut ours = Ring::from_origin(net("10.0.0.0/16"), &[id(1)]).unwrap();
    let shares = (0..ENTRIES_MAX as u32 + 1)
        .map(|n| (Ipv4Addr::from(0x0a00_0000 + n), Share { epoch: u64::from(n), ..Share::first(id(2)) }));
    let part = Part { shares: shares.collect(), ..ours.whole() };
    assert!(matches!(ours.merge(&part), Err(Conflict::Impossible(_))));
    assert_eq!(ours.shares.len(), 1);
}

/// A few peers, each with its own view, that give and take over at random.
fn views(ops: &[(u8, u8, u8, u8)]) -> Vec<Ring> {
    let mut views: Vec<Ring> = (0..3).map(|_| ring(&[1, 2, 3])).collect();
    for (who, what, at, length) in ops {
        let (me, other) = (id(1 + who % 3), id(1 + (who + 1 + what % 2) % 3));
        let view = &mut views[usize::from(who % 3)];
        let first = Ipv4Addr::from(0x0a00_0000 + u32::from(*at));
        let last = Ipv4Addr::from(0x0a00_0000 + u32::from(at.saturating_add(*length)));
        match what % 8 {
            0 => drop(view.take_over(other, me, me.name, &key(1 + who % 3))),
            1 => drop(view.hand_over(me, other)),
            _ => drop(view.give(first, last, me, other)),
        }
    }
    views
}

fn merged(mut into: Ring, from: &Ring) -> Ring {
    into.merge(&from.whole()).unwrap();
    into
}

proptest! {
    #[test]
    fn partition_of_the_range(prefix in 8_u8..=28, base: u32, names in prop::collection::btree_set(any::<u8>(), 1..=16)) {
        let range = Ipv4Net::new(Ipv4Addr::from(base), prefix).unwrap().trunc();
        let peers: Vec<PeerId> = names.iter().copied().map(id).collect();
        let ring = Ring::from_origin(range, &peers).unwrap();
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

    #[test]
    fn merging_is_a_join(ops in prop::collection::vec((0_u8..3, any::<u8>(), any::<u8>(), 0_u8..64), 0..24)) {
        let views = views(&ops);
        let [a, b, c] = &views[..] else { unreachable!() };
        prop_assert_eq!(merged(a.clone(), a), a.clone());
        let (ab, ba) = (merged(a.clone(), b), merged(b.clone(), a));
        prop_assert_eq!(&ab, &ba);
        prop_assert_eq!(ab.sum(), ba.sum());
        prop_assert_eq!(merged(ab.clone(), c), merged(a.clone(), &merged(b.clone(), c)));
        // Parts in any order come to the same as the whole.
        let mut piecewise = a.clone();
        for token in b.shares.keys().rev() {
            piecewise.merge(&b.part([*token])).unwrap();
        }
        prop_assert_eq!(piecewise, ab);
    }

    #[test]
    fn without_takeovers_no_two_peers_own_an_address_in_their_own_views(
        ops in prop::collection::vec((0_u8..3, 2_u8..8, any::<u8>(), 0_u8..64, any::<bool>()), 0..40),
    ) {
        let mut views: Vec<Ring> = (0..3).map(|_| ring(&[1, 2, 3])).collect();
        for (who, what, at, length, tell) in ops {
            let (me, other) = (usize::from(who), usize::from((who + 1 + what % 2) % 3));
            let first = Ipv4Addr::from(0x0a00_0000 + u32::from(at));
            let last = Ipv4Addr::from(0x0a00_0000 + u32::from(at.saturating_add(length)));
            let (from, to) = (id(1 + who), id(1 + u8::try_from(other).unwrap()));
            views[me].give(first, last, from, to);
            if tell {
                let part = views[me].whole();
                views[other].merge(&part).unwrap();
            }
            let mut owned: Vec<(Ipv4Addr, Ipv4Addr)> =
                (0..3).flat_map(|n| views[n].owned_by(id(1 + u8::try_from(n).unwrap())).collect::<Vec<_>>()).collect();
            owned.sort();
            prop_assert!(owned.windows(2).all(|pair| pair[0].1 < pair[1].0), "{:?}", owned);
        }
    }

    #[test]
    fn any_part_is_merged_or_refused(
        tokens in prop::collection::vec((any::<u32>(), any::<u64>(), any::<u8>(), any::<u128>()), 0..40),
        limits in prop::collection::vec(any::<u32>(), 0..8),
        removed in prop::collection::vec(any::<u128>(), 0..4),
    ) {
        let mut ours = ring(&[1, 2]);
        let owner = |n: u8, uid: u128| PeerId { name: name(n), uid: PeerUid(uid) };
        let shares = tokens.iter().map(|(t, e, n, u)| (Ipv4Addr::from(*t), Share { epoch: *e, ..Share::first(owner(*n, *u)) }));
        let inside = tokens.iter().map(|(t, e, n, u)| (Ipv4Addr::from(0x0a00_0000 + t % 256), Share { epoch: *e, ..Share::first(owner(*n, *u)) }));
        let part = Part {
            shares: shares.chain(inside).collect(),
            limits: limits.iter().map(|n| Ipv4Addr::from(0x0a00_0000 + n % 512)).collect(),
            removed: removed.iter().map(|uid| Takeover::sign(0, owner(1, *uid), 1, name(1), &key(1))).collect(),
            ..ours.whole()
        };
        ours.merge(&part).unwrap();
        let covered: u64 = ours.routes().map(|(n, _)| size(n)).sum();
        prop_assert_eq!(covered, 256);
        prop_assert_eq!(ours.merge(&part), Ok(vec![]), "told again, nothing is new");
    }
}
