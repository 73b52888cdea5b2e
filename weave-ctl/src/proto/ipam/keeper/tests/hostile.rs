//! Messages that no peer that keeps to the rules sends: after each of them this peer owns its share, `rmpeer` takes every
//! range back, and `reset` hands all of them over.

use super::*;
use crate::proto::{
    ipam::{
        Share,
        ring::{ENTRIES_MAX, GENERATIONS_AHEAD_MAX, TAKEOVERS_MAX},
    },
    wire::takeover::Takeover,
};

/// The peer that sends them.
const ROGUE: u8 = 9;

fn start() -> Ring {
    // Large enough for as many ranges as a ring may have.
    Ring::from_origin(wide(), &[id(1), id(2)]).unwrap()
}

fn wide() -> Ipv4Net {
    net("10.0.0.0/16")
}

fn strangers() -> impl Iterator<Item = PeerId> {
    (0..).map(|n: u32| {
        let [.., a, b, c, d] = n.to_be_bytes();
        PeerId { name: PeerName::from_bytes([7, 7, a, b, c, d]), uid: PeerUid(u128::from(n) + 1) }
    })
}

fn tokens(step: usize) -> impl Iterator<Item = Ipv4Addr> {
    wide().hosts().step_by(step)
}

fn signed(peer: PeerId, generation: u64) -> Takeover {
    Takeover::sign(start().network(), peer, generation, id(ROGUE).name, &key(id(ROGUE)))
}

fn forged(peer: PeerId, generation: u64) -> Takeover {
    Takeover { by: id(2).name, ..signed(peer, generation) }
}

/// With these shares, each of a token of its own, from the first on.
fn of(shares: impl IntoIterator<Item = Share>) -> Part {
    Part { shares: tokens(1).zip(shares).collect(), ..start().whole() }
}

fn share(generation: u64, epoch: u64, owner: PeerId) -> Share {
    Share { generation, epoch, ..Share::first(owner) }
}

/// All of the range is this.
fn all_is(share: Share) -> Part {
    Part { shares: vec![(wide().network(), share)], ..start().whole() }
}

/// Each with what it is, and whether it is refused: what is not is of the rules, as far as one peer can see.
fn table() -> Vec<(&'static str, bool, Part)> {
    let rogue = id(ROGUE);
    let two = [id(1), id(2)];
    let stranger = strangers().next().unwrap();
    let with = |removed: Vec<Takeover>, part: Part| Part { removed, ..part };
    let last = u64::MAX;
    vec![
        ("the last epoch", true, all_is(share(0, last, rogue))),
        ("the last epoch, of each owner", true, of(two.map(|owner| share(0, last, owner)))),
        ("the last generation", true, all_is(share(last, last, rogue))),
        ("the last generation, signed", true, with(vec![signed(id(1), last)], all_is(share(last, 0, rogue)))),
        ("an epoch that leaves no room", true, all_is(share(0, last - 2, rogue))),
        ("a generation without a takeover", true, all_is(share(1, 0, rogue))),
        (
            "a generation far ahead",
            true,
            with(vec![signed(id(1), GENERATIONS_AHEAD_MAX + 1)], all_is(share(GENERATIONS_AHEAD_MAX + 1, 0, rogue))),
        ),
        ("everything, to a stranger", true, all_is(share(0, 2, stranger))),
        ("everything, to itself", true, all_is(share(0, 7, rogue))),
        ("each address to another stranger", true, of(strangers().take(ENTRIES_MAX).map(|id| share(0, 2, id)))),
        ("8193 peers", true, of(strangers().take(ENTRIES_MAX + 1).map(|id| share(0, 2, id)))),
        ("8193 founders", true, Part { origin: strangers().take(ENTRIES_MAX + 1).collect(), ..start().whole() }),
        ("8193 limits", true, Part { limits: tokens(1).take(ENTRIES_MAX + 1).collect(), ..start().whole() }),
        ("other founders", false, Part { origin: vec![rogue], ..start().whole() }),
        ("another range", false, Part { range: net("10.0.0.0/15"), ..start().whole() }),
        ("addresses of no range", true, Part { shares: vec![(ip(11), share(0, 1, rogue))], ..start().whole() }),
        ("an owner without a store", true, all_is(share(0, 1, PeerId::of_any_store(id(1).name)))),
        ("a removed list of everybody, forged", true, with(two.map(|id| forged(id, 1)).into(), start().whole())),
        ("this peer is removed, forged", true, with(vec![forged(id(1), 1)], all_is(share(1, 0, rogue)))),
        (
            "too many takeovers",
            true,
            with(strangers().take(TAKEOVERS_MAX + 1).map(|id| signed(id, 1)).collect(), start().whole()),
        ),
        (
            "takeovers from strangers, all there may be",
            false,
            with(
                strangers().take(TAKEOVERS_MAX).map(|id| signed(id, GENERATIONS_AHEAD_MAX)).collect(),
                start().whole(),
            ),
        ),
        ("a ring cut to pieces", true, Part { shares: pieces(false), ..start().whole() }),
        ("the other peer's range cut to pieces", false, Part { shares: pieces(true), ..start().whole() }),
        ("the highest epoch that is let in", false, of_second(share(0, 1 << 32, id(2)))),
        ("the other peer's range, to a stranger", false, of_second(share(0, 2, stranger))),
    ]
}

fn ip(first: u8) -> Ipv4Addr {
    Ipv4Addr::new(first, 0, 0, 1)
}

fn of_second(share: Share) -> Part {
    Part { shares: vec![(Ipv4Addr::new(10, 0, 128, 0), share)], ..start().whole() }
}

/// As many ranges as a ring may have, each unlike the next one.
fn pieces(of_second: bool) -> Vec<(Ipv4Addr, Share)> {
    let skipped = if of_second { 0x8000 } else { 0 };
    let owners: Vec<PeerId> = strangers().take(3).collect();
    let all = tokens(1).skip(skipped).take(ENTRIES_MAX - 2).zip(owners.into_iter().cycle());
    all.map(|(token, stranger)| (token, share(0, 2, stranger))).collect()
}

fn network() -> Network {
    let mut network = Network::new(&[]);
    for n in [1, 2, 4] {
        network.add_of(id(n), wide(), Some(start()).filter(|_| n != 4), true);
    }
    network.link_all();
    network.settle();
    network
}

#[test]
fn no_message_makes_a_ring_that_cannot_be_mended() {
    for (what, refused, part) in table() {
        let mut network = network();
        let before = network.ring(1).clone();
        for n in [1, 2, 4] {
            network.peer(n).keeper.heard(SessionId(0), id(ROGUE).name, &part, true);
        }
        network.settle();
        let counted = network.peer(1).log.iter().any(|line| line.contains("a ring that cannot be"));
        let kept = !refused || network.ring(1).as_ref().map(Ring::owners) == before.as_ref().map(Ring::owners);
        assert_eq!((counted, kept), (refused, true), "{what}");
        assert!(network.peer(1).keeper.owned() >= 1 << 15, "{what}: its share is its own");
        // `rmpeer` of every other owner: all is this peer's, and all agree.
        network.cut.insert(id(2).name);
        let owners = network.peer(1).keeper.ring().unwrap().owners();
        for owner in owners.into_iter().filter(|owner| *owner != id(1)) {
            network.peer(1).keeper.remove(&BTreeSet::from([owner]), id(1));
        }
        network.settle();
        assert_eq!(network.peer(1).keeper.owned(), 1 << 16, "{what}: what was taken over");
        assert_eq!(network.ring(1), network.ring(4), "{what}: others know");
        // `reset`: the peer that is left has everything.
        let now = network.now;
        network.peer(1).keeper.hand_over(id(4), now);
        network.settle();
        assert_eq!(network.peer(1).left, Some(Ok(())), "{what}: it leaves");
        assert_eq!(network.peer(4).keeper.owned(), 1 << 16, "{what}: what was handed over");
        let ranges = network.ring(4).as_ref().unwrap().shares.len();
        assert!(ranges < 8, "{what}: the ring has room again, with {ranges} ranges");
    }
}

#[test]
fn signed_removal_of_everybody_can_be_begun_anew_from() {
    let mut network = network();
    let removed = [1, 2, 4].map(|n| signed(id(n), 1)).to_vec();
    let part = Part { removed, ..start().whole() };
    network.peer(1).keeper.heard(SessionId(0), id(ROGUE).name, &part, true);
    network.settle();
    let name = id(ROGUE).name.to_string();
    assert!(network.peer(1).log.iter().any(|line| line.contains(&name) && line.contains("rmpeer")), "named");
    // One of them is reset and joins as another store: it takes over from all others.
    let ring = network.ring(2).clone();
    network.add_of(store(1, 77), wide(), ring, true);
    for n in [1, 2, 4] {
        network.peer(1).keeper.remove(&BTreeSet::from([id(n)]), store(1, 77));
    }
    network.cut.clear();
    network.settle();
    assert_eq!(network.peer(1).keeper.owned(), 1 << 16);
    assert!(matches!(network.peer(1).keeper.access(), Access::Ring(_)));
}

#[test]
fn a_peer_that_begins_adopts_no_nonsense() {
    for (what, part) in
        [("epoch", all_is(share(0, u64::MAX, id(ROGUE)))), ("generation", all_is(share(u64::MAX, 0, id(2))))]
    {
        let mut network = network();
        network.add_of(id(5), wide(), None, false);
        network.peer(5).keeper.heard(SessionId(0), id(ROGUE).name, &part, true);
        assert!(network.peer(5).keeper.ring().is_none(), "{what}");
        network.link_all();
        network.settle();
        assert_eq!(network.ring(5), network.ring(1), "{what}");
    }
}
