//! Peers that leave hand everything to one that stays, and forget nothing before it has said so.

use super::*;

#[test]
fn leaving_ends_when_the_heir_has_said_so() {
    let mut network = two_and_a_guest();
    let heir = {
        let peers = Peers { reached: &|_| true, alive: &|_| false };
        network.peers[&id(1).name].keeper.heir(peers)
    };
    assert_eq!(heir, Some(id(2)), "one that owns something before one that does not");
    let now = network.now;
    network.peer(1).keeper.hand_over(id(2), now);
    assert!(matches!(network.peer(1).keeper.access(), Access::Leaving));
    network.settle();
    assert_eq!(network.peer(1).left, Some(Ok(())));
    assert_eq!(network.owned(), [0, 256, 0]);
}

#[test]
fn two_that_leave_to_each_other_leave_to_one_that_stays() {
    let mut network = two_and_a_guest();
    let now = network.now;
    network.peer(1).keeper.hand_over(id(2), now);
    network.peer(2).keeper.hand_over(id(1), now);
    network.settle();
    assert_eq!([1, 2].map(|n| network.peer(n).left.clone()), [Some(Ok(())), Some(Ok(()))]);
    assert_eq!(network.owned(), [0, 0, 256]);
}

#[test]
fn an_heir_that_is_leaving_itself_is_none() {
    let mut network = two_and_a_guest();
    let now = network.now;
    network.peer(2).keeper.hand_over(id(3), now);
    network.peer(2).keeper.turn(&Allocator::new(id(2), &params(), BTreeMap::new()), BTreeSet::new(), ALL, now);
    let hint = std::iter::from_fn(|| network.peer(2).keeper.poll_event()).find_map(|event| match event {
        KeeperEvent::Hint(bytes) => Some(bytes),
        _ => None,
    });
    assert_eq!(network.peer(1).keeper.heir(ALL), Some(id(2)));
    network.peer(1).keeper.heard_hint(id(2), hint.as_deref()).unwrap();
    assert_eq!(network.peer(1).keeper.heir(ALL), Some(id(3)));
}

#[test]
fn willing_heir_that_leaves_hands_on_what_it_gets() {
    let mut network = two_and_a_guest();
    let now = network.now;
    network.peer(1).keeper.hand_over(id(2), now);
    network.turn(1);
    // The second says that it is willing, and is told to leave before it gets anything.
    network.turn(2);
    network.peer(2).keeper.hand_over(id(3), now);
    for n in [2, 3, 2, 3, 2] {
        network.turn(n);
    }
    assert_eq!(network.peer(2).left, None, "somebody counts on it");
    network.settle();
    assert_eq!([1, 2].map(|n| network.peer(n).left.clone()), [Some(Ok(())), Some(Ok(()))]);
    assert_eq!(network.owned(), [0, 0, 256]);
}

#[test]
fn a_hand_over_without_a_word_is_not_forgotten() {
    let mut network = two_and_a_guest();
    let now = network.now;
    network.peer(1).keeper.hand_over(id(2), now);
    for n in [1, 2, 1] {
        network.turn(n);
    }
    network.cut.insert(id(2).name);
    network.later(13);
    let left = network.peer(1).left.take().unwrap().unwrap_err();
    assert!(left.contains("did not say") && left.contains("rmpeer"), "{left}");
    assert!(network.peer(1).keeper.owned() == 0 && network.peer(1).keeper.unconfirmed());
    network.cut.clear();
    network.link_all();
    let now = network.now;
    network.peer(1).keeper.hand_over(id(2), now);
    network.later(2);
    assert_eq!(network.peer(1).left, Some(Ok(())));
    assert!(!network.peer(1).keeper.unconfirmed());
    assert_eq!(network.owned(), [0, 256, 0]);
}

#[test]
fn an_heir_that_is_gone_or_silent_is_not_waited_for() {
    let mut network = two_and_a_guest();
    network.cut.insert(id(2).name);
    let now = network.now;
    network.peer(1).keeper.hand_over(id(2), now);
    network.settle();
    assert_eq!(network.peer(1).left, Some(Ok(())), "gone");

    let mut network = two_and_a_guest();
    network.peer(2).keeper.ring = None;
    network.peer(2).keeper.hints.clear();
    network.peer(2).keeper.inbox.clear();
    let now = network.now;
    network.peer(1).keeper.hand_over(id(2), now);
    network.later(4);
    assert_eq!(network.peer(1).left, Some(Ok(())), "not willing, or silent");
    assert_eq!(network.owned()[0], 0);
}

#[test]
fn without_a_word_of_the_heir_leaving_fails_in_bounded_time() {
    let mut network = two_and_a_guest();
    network.cut.extend([2, 3].map(|n| id(n).name));
    let now = network.now;
    network.peer(1).keeper.hand_over(id(2), now);
    network.later(9);
    assert_eq!(network.peer(1).left, None);
    network.later(3);
    let left = network.peer(1).left.clone().unwrap().unwrap_err();
    assert!(left.contains("did not say") && left.contains("reset --force"), "{left}");
}
