//! Parts of a ring that are heard without what was told before them.

use super::*;

#[test]
fn a_change_that_is_heard_before_an_earlier_one_gives_nobody_what_the_earlier_gave() {
    let mut network = two_and_a_guest();
    network.cut.insert(id(3).name);
    network.peer(2).needs.insert(Need::Address(Ipv4Addr::new(10, 0, 0, 8)));
    network.settle();
    network.peer(2).needs.clear();
    network.cut.clear();
    // No ring was compared yet when the third, which missed that, is given the address before it.
    network.peer(3).needs.insert(Need::Address(Ipv4Addr::new(10, 0, 0, 7)));
    network.settle();
    assert_eq!(network.owned(), [126, 129, 1]);
    network.later(60);
    assert_eq!(network.ring(1), network.ring(3));
}

#[test]
fn a_new_store_neither_claims_nor_adopts_when_it_heard_a_part_alone() {
    let seeds = Ring::from_seeds(range(), &[id(1).name, id(2).name]).unwrap();
    let mut full = seeds.clone();
    let part = {
        let tokens = full.claim(id(1));
        full.part(tokens)
    };
    for stored in [Some(seeds), None] {
        let mut keeper = Keeper::new(id(2), key(id(2)), range(), stored, false, Rng::new([0; 32]), Instant::default());
        keeper.heard(SessionId(0), id(1).name, &part, false);
        assert!(matches!(keeper.access(), Access::Waiting(_)));
        keeper.heard(SessionId(0), id(1).name, &full.whole(), true);
        assert!(matches!(keeper.access(), Access::Ring(_)));
    }
}

#[test]
fn who_was_down_gives_nothing_before_it_heard_what_happened() {
    let ring = Ring::from_origin(range(), &[id(1), id(2)]).unwrap();
    let wants = [Want::Space(range()), Want::Address(Ipv4Addr::new(10, 0, 0, 9)), Want::Willing];
    for removed in [false, true] {
        let now = Instant::default();
        let mut keeper = Keeper::new(id(1), key(id(1)), range(), Some(ring.clone()), true, Rng::new([0; 32]), now);
        let allocator = Allocator::new(id(1), &params(), BTreeMap::new());
        let responses = |keeper: &mut Keeper| {
            for (want, request) in wants.into_iter().zip(1..) {
                keeper.requested(id(3), request, Request { want, owned: 0 });
            }
            keeper.turn(&allocator, BTreeSet::new(), ALL, now);
            let events = std::iter::from_fn(|| keeper.poll_event());
            events.filter(|event| matches!(event, KeeperEvent::Respond(..))).count()
        };
        assert_eq!((responses(&mut keeper), keeper.ring()), (0, Some(&ring)));
        if removed {
            let mut theirs = ring.clone();
            theirs.take_over(id(1), id(2), id(2).name, &key(id(2)));
            keeper.heard(SessionId(0), id(3).name, &theirs.whole(), true);
        } else {
            keeper.heard_sum(SessionId(0), ring.sum());
        }
        let answered = responses(&mut keeper);
        let given = keeper.ring().is_some_and(|ring| ring.owned(id(3)) > 0);
        assert_eq!((given, answered), (!removed, 3));
    }
}

#[test]
fn a_request_that_is_repeated_is_granted_once() {
    let ring = Ring::from_origin(range(), &[id(1), id(2)]).unwrap();
    let allocator = Allocator::new(id(1), &params(), BTreeMap::new());
    let (now, request) = (Instant::default(), Request { want: Want::Space(range()), owned: 0 });
    let mut stored = Some(ring);
    let mut given = BTreeSet::new();
    // Its responses are lost, and it is relaunched between two of them.
    for launch in 0..3_u64 {
        let mut keeper = Keeper::new(id(1), key(id(1)), range(), stored.clone(), true, Rng::new([0; 32]), now);
        keeper.heard_sum(SessionId(0), keeper.sum);
        for _ in 0..3 {
            keeper.requested(id(3), launch, request);
            keeper.turn(&allocator, BTreeSet::new(), ALL, now);
            while let Some(event) = keeper.poll_event() {
                match event {
                    KeeperEvent::Ring(ring) => stored = Some(ring),
                    KeeperEvent::Respond(_, _, reply) => assert_eq!(reply, Reply::Done),
                    _ => {}
                }
            }
            given.insert(stored.as_ref().map(|ring| ring.owned(id(3))));
        }
    }
    assert_eq!(given, BTreeSet::from([Some(64)]));
}

#[test]
fn requests_that_wait_are_bounded() {
    let mut keeper = Keeper::new(id(1), key(id(1)), range(), None, true, Rng::new([0; 32]), Instant::default());
    for n in 0..2 * INBOX_MAX as u64 {
        keeper.requested(id(3), n, Request { want: Want::Willing, owned: 0 });
    }
    assert_eq!(keeper.inbox.len(), INBOX_MAX);
}

#[test]
fn conflicts_that_are_remembered_are_bounded() {
    let ring = Ring::from_origin(range(), &[id(1)]).unwrap();
    let other = Ring::from_origin(range(), &[id(2)]).unwrap();
    let mut keeper = Keeper::new(id(1), key(id(1)), range(), Some(ring), true, Rng::new([0; 32]), Instant::default());
    for n in 0..2 * CONFLICTS_MAX as u8 {
        keeper.heard(SessionId(0), id(n).name, &other.whole(), true);
    }
    assert_eq!(keeper.conflicts().count(), CONFLICTS_MAX);
}

#[test]
fn a_hint_that_does_not_read_changes_nothing() {
    let mut network = two_and_a_guest();
    let before = network.peer(1).keeper.hints.clone();
    assert!(network.peer(1).keeper.heard_hint(id(2), Some(b"garbage")).is_err());
    assert_eq!(network.peer(1).keeper.hints, before);
}
