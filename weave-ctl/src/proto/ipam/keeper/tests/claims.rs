//! An address outside the range is on one container: whichever peers want it, whatever becomes of the one that decides.

use super::*;

/// An address whose position is of peer `of`, in the ring of peers 1 and 2.
fn decided_by(of: u8) -> Ipv4Addr {
    let ring = ring(&[id(1), id(2)]);
    let mut all = (1..=254).map(|n| Ipv4Addr::new(192, 168, 7, n));
    all.find(|addr| ring.owner_of(position(range(), *addr)) == Some(id(of))).unwrap()
}

impl Network {
    fn want(&mut self, n: u8, addr: Ipv4Addr) {
        self.peer(n).needs.insert(Need::Claim(addr));
    }

    /// Peers with a container that has `addr`: at most one ever, but for those that were removed.
    fn on(&self, addr: Ipv4Addr) -> Vec<u8> {
        let has = |peer: &&Peer| peer.allocator.holder(addr).is_some();
        self.peers.values().filter(has).map(|peer| peer.keeper.me.name.bytes()[5]).collect()
    }

    /// Why peer `n` did not get the address.
    fn why(&mut self, n: u8) -> String {
        std::mem::take(&mut self.peer(n).denied).into_iter().map(|(_, why)| why).collect()
    }

    /// Lets some peers want `addr`; how that ended for each.
    fn contest(&mut self, peers: &[u8], addr: Ipv4Addr) -> Vec<String> {
        peers.iter().for_each(|n| self.want(*n, addr));
        self.later(20);
        assert!(self.on(addr).len() <= 1, "on {:?}", self.on(addr));
        peers.iter().for_each(|n| assert!(self.peer(*n).needs.is_empty(), "{n} waits for ever"));
        peers.iter().map(|n| self.why(*n)).collect()
    }

    /// The container of peer `n` is gone.
    fn give_up(&mut self, n: u8, addr: Ipv4Addr) {
        assert!(self.peer(n).allocator.remove(&addr.to_string()).is_some());
        self.later(3);
    }

    fn take_over_from(&mut self, n: u8, by: u8) {
        self.peer(by).keeper.remove(&BTreeSet::from([id(n)]), id(by));
        self.settle();
    }
}

#[test]
fn of_several_that_want_an_address_at_once_one_has_it() {
    for of in [1, 2] {
        for wanting in [&[1, 2][..], &[1, 3], &[2, 3], &[1, 2, 3]] {
            let mut network = two_and_a_guest();
            let addr = decided_by(of);
            let why = network.contest(wanting, addr);
            let [winner] = network.on(addr)[..] else { panic!("{why:?}") };
            for (n, why) in wanting.iter().zip(why) {
                let told = why.contains(&id(winner).name.to_string()) && why.contains("has address");
                assert_eq!(told, *n != winner, "{n} of {wanting:?}: {why}");
            }
            assert_eq!(network.peer(of).grants, BTreeMap::from([(addr, id(winner))]), "durable");
        }
    }
}

#[test]
fn a_grant_is_answered_again_to_its_holder_alone() {
    let mut network = two_and_a_guest();
    let addr = decided_by(1);
    network.contest(&[3], addr);
    network.peer(3).allocator.remove(&addr.to_string());
    // The entry says that it is gone, but a container wants it again before the holder is asked.
    network.contest(&[3], addr);
    assert_eq!(network.on(addr), [3]);
}

#[test]
fn in_a_partition_the_side_of_the_peer_that_decides_has_it() {
    let mut network = two_and_a_guest();
    let addr = decided_by(1);
    network.cut.extend([1, 2, 3].map(|n| id(n).name));
    let why = network.contest(&[2, 3], addr);
    assert!(why.iter().all(|why| why.contains(&id(1).name.to_string()) && why.contains("out of reach")), "{why:?}");
    assert_eq!(network.contest(&[1], addr), [""]);
    network.cut.clear();
    let why = network.contest(&[2, 3], addr);
    assert!(why.iter().all(|why| why.contains("has address")), "{why:?}");
    // The holder is cut off: nobody else gets it.
    let other = decided_by(2);
    network.contest(&[3], other);
    network.cut.insert(id(3).name);
    let why = network.contest(&[1, 2], other);
    assert!(why.iter().all(|why| why.contains(&id(3).name.to_string()) && why.contains("out of reach")), "{why:?}");
}

#[test]
fn what_a_holder_gave_up_can_be_had_again() {
    let mut network = two_and_a_guest();
    let addr = decided_by(1);
    network.contest(&[3], addr);
    network.give_up(3, addr);
    assert!(network.peer(1).grants.is_empty(), "released");
    assert_eq!(network.contest(&[2], addr), [""]);
    // The release is not heard: it is made up for when another wants the address, or later.
    for wait in [0, 40] {
        let mut network = two_and_a_guest();
        network.contest(&[3], addr);
        network.cut.insert(id(3).name);
        network.give_up(3, addr);
        assert_eq!(network.peer(1).grants.len(), 1);
        network.cut.clear();
        network.link_all();
        network.later(wait);
        assert_eq!(network.contest(&[2], addr), [""]);
    }
}

#[test]
fn a_range_that_moves_takes_its_grants_along() {
    let addr = decided_by(1);
    // One position is given away.
    let mut network = two_and_a_guest();
    network.contest(&[2], addr);
    network.peer(3).needs.insert(Need::Address(position(range(), addr)));
    network.later(5);
    network.peer(3).needs.clear();
    assert_eq!((network.peer(3).grants.clone(), network.peer(3).inherited.clone()), ([(addr, id(2))].into(), vec![]));
    assert!(network.peer(1).grants.is_empty(), "forgotten where it was");
    assert!(network.contest(&[1, 3], addr).iter().all(|why| why.contains("has address")));
    // All of it is handed over.
    let mut network = two_and_a_guest();
    network.contest(&[3], addr);
    let now = network.now;
    network.peer(1).keeper.hand_over(id(2), now);
    network.settle();
    assert_eq!(network.peer(1).left, Some(Ok(())));
    assert_eq!((network.peer(2).grants.clone(), network.peer(2).inherited.clone()), ([(addr, id(3))].into(), vec![]));
    network.cut.insert(id(1).name);
    assert!(network.contest(&[2], addr)[0].contains("has address"));
}

#[test]
fn nothing_is_granted_before_the_former_owner_answered() {
    let addr = decided_by(1);
    let mut network = two_and_a_guest();
    network.contest(&[2], addr);
    network.peer(3).needs.insert(Need::Address(position(range(), addr)));
    // The range moved, and the one that gave it is cut off at once.
    network.turn(3);
    network.turn(1);
    network.cut.extend([1, 2].map(|n| id(n).name));
    network.peer(3).needs.clear();
    network.settle();
    assert_eq!(network.peer(3).inherited.len(), 1);
    network.relaunch(3);
    assert!(network.contest(&[3], addr)[0].contains("has not heard"), "what happened while it was down");
    network.rejoin(2);
    network.later(2);
    let why = network.contest(&[3], addr);
    assert!(why[0].contains(&id(1).name.to_string()) && why[0].contains("waits"), "{why:?}");
    network.rejoin(1);
    network.later(5);
    assert!(network.contest(&[3], addr)[0].contains("has address"));
}

#[test]
fn a_successor_grants_nothing_before_it_heard_of_all() {
    let addr = decided_by(1);
    let mut network = two_and_a_guest();
    network.contest(&[3], addr);
    // The one that decided is dead, and the holder is cut off.
    network.cut.extend([1, 3].map(|n| id(n).name));
    network.take_over_from(1, 2);
    let why = network.contest(&[2], addr);
    let holder = id(3).name.to_string();
    assert!(why[0].contains(&holder) && why[0].contains("waits for"), "{why:?}");
    network.relaunch(2);
    let why = network.contest(&[2], addr);
    assert!(why[0].contains(&holder) && why[0].contains("waits for"), "after a relaunch: {why:?}");
    // It is back.
    let mut back = network;
    back.rejoin(3);
    back.later(20);
    assert_eq!((back.peer(2).inherited.clone(), back.peer(2).grants.clone()), (vec![], [(addr, id(3))].into()));
    assert!(back.contest(&[2], addr)[0].contains("has address"));
}

#[test]
fn a_removed_peer_is_not_waited_for_and_has_nothing() {
    let addr = decided_by(1);
    let mut network = two_and_a_guest();
    network.contest(&[3], addr);
    network.cut.extend([1, 3].map(|n| id(n).name));
    network.take_over_from(1, 2);
    let counted_on = |network: &mut Network, n| network.peer(2).keeper.counted_on(id(n).name).collect::<BTreeSet<_>>();
    assert_eq!((counted_on(&mut network, 1), counted_on(&mut network, 3)), ([].into(), [id(3)].into()));
    network.take_over_from(3, 2);
    assert_eq!(counted_on(&mut network, 3), [].into(), "it is removed once");
    network.peer(3).allocator.remove(&addr.to_string());
    assert!(network.contest(&[2], addr)[0].contains("try again"));
    network.later(10);
    assert_eq!(network.contest(&[2], addr), [""]);
    // A holder that is removed has nothing either.
    let mut network = two_and_a_guest();
    network.contest(&[3], addr);
    network.cut.insert(id(3).name);
    network.take_over_from(3, 2);
    network.peer(3).allocator.remove(&addr.to_string());
    assert!(network.peer(1).grants.is_empty());
    assert_eq!(network.contest(&[2], addr), [""]);
}

#[test]
fn a_peer_that_left_has_nothing() {
    let addr = decided_by(1);
    let mut network = two_and_a_guest();
    network.contest(&[3], addr);
    network.peer(3).allocator.remove(&addr.to_string());
    network.peer(3).keeper.depart();
    network.settle();
    network.cut.insert(id(3).name);
    assert!(network.peer(1).grants.is_empty());
    assert_eq!(network.contest(&[2], addr), [""]);
}

#[test]
fn no_kill_at_a_write_point_grants_an_address_twice() {
    let addr = decided_by(1);
    for killed in [1, 2, 3] {
        for point in 0..12 {
            for committed in [false, true] {
                let mut network = two_and_a_guest();
                network.crash = Some((id(killed).name, point, committed));
                [2, 3].iter().for_each(|n| network.want(*n, addr));
                network.later(3);
                network.peer(3).needs.insert(Need::Address(position(range(), addr)));
                network.later(3);
                network.peer(3).needs.remove(&Need::Address(position(range(), addr)));
                let why = network.contest(&[1, 2, 3], addr);
                let told = format!("{killed} at {point}, {committed}: {why:?}");
                assert_eq!(network.on(addr).len(), 1, "{told}");
                let now = network.now;
                network.peer(1).keeper.hand_over(id(2), now);
                network.later(12);
                network.contest(&[2, 3], addr);
                assert_eq!(network.on(addr).len(), 1, "{told}");
            }
        }
    }
}
