//! Who is reached stays, who is not goes after the grace period and comes back when reached again; collisions are found
//! wherever in the mesh they are.

use super::{
    super::{
        entry::{Opener as _, RecordLink, Verify, sign_record},
        fixture::{entry, key, name, record, uid},
    },
    *,
};

fn at(seconds: u64) -> Instant {
    Instant::from_start(Duration::from_secs(seconds))
}

fn holding(records: &[PeerRecord]) -> Store {
    let mut store = Store::default();
    for record in records {
        store.offer(entry(record), &|_, _| true);
    }
    store
}

#[test]
fn a_peer_behind_others_is_reached_and_one_that_nobody_tells_of_is_forgotten_after_the_grace_period() {
    let mut store = holding(&[record(2, 1, &[1, 3]), record(3, 1, &[2]), record(4, 1, &[3])]);
    let (me, mut topology) = (record(1, 1, &[2]), Topology::new(GRACE));
    assert_eq!(topology.compute(&me, &mut store, at(0)), Changes::default());
    assert!(topology.reached(name(3)) && !topology.reached(name(4)));
    assert_eq!(topology.hop(name(3)).map(|hop| hop.via), Some(name(2)));
    // Whoever is linked to it may tell so in a moment.
    assert!(!topology.is_lost(name(4)));
    assert_eq!(topology.poll_timeout(), Some(at(0) + patience(3)));
    let lost = Changes { lost: vec![name(4)], ..Changes::default() };
    assert_eq!(topology.compute(&me, &mut store, at(0) + patience(3)), lost);
    assert!(topology.is_lost(name(4)));
    assert_eq!(topology.poll_timeout(), Some(at(0) + GRACE));
    assert_eq!(topology.compute(&me, &mut store, at(59)), Changes::default());
    assert_eq!(topology.compute(&me, &mut store, at(60)).gone, [name(4)]);
    assert_eq!(store.record(name(4)), None);
    assert_eq!(topology.poll_timeout(), None);
}

#[test]
fn shorter_grace_forgets_a_lost_peer_sooner() {
    let mut store = holding(&[record(2, 1, &[1]), record(3, 1, &[4])]);
    let (me, mut topology) = (record(1, 1, &[2]), Topology::new(Duration::from_secs(5)));
    topology.compute(&me, &mut store, at(0));
    assert_eq!(topology.compute(&me, &mut store, at(4)).gone, []);
    assert_eq!(topology.compute(&me, &mut store, at(5)).gone, [name(3)]);
}

#[test]
fn a_peer_that_was_reached_is_lost_at_once() {
    let mut store = holding(&[record(2, 1, &[1, 3]), record(3, 1, &[2])]);
    let (me, mut topology) = (record(1, 1, &[2]), Topology::new(GRACE));
    assert_eq!(topology.compute(&me, &mut store, at(0)), Changes::default());
    store.offer(entry(&record(2, 2, &[1])), &|_, _| true);
    assert_eq!(topology.compute(&me, &mut store, at(1)).lost, [name(3)]);
    assert!(topology.is_lost(name(3)));
}

#[test]
fn a_healed_partition_brings_back_the_forgotten_as_they_were() {
    let mut store = holding(&[record(2, 1, &[1]), record(3, 1, &[4]), record(4, 1, &[3])]);
    let mut topology = Topology::new(GRACE);
    topology.compute(&record(1, 1, &[2]), &mut store, at(0));
    assert_eq!(topology.compute(&record(1, 1, &[2]), &mut store, at(60)).gone, [name(3), name(4)]);
    // Peer 2 is linked to peer 3 again, whose own record, and that of peer 4 behind it, did not change.
    store.offer(entry(&record(2, 2, &[1, 3])), &|_, _| true);
    assert_eq!(topology.compute(&record(1, 1, &[2]), &mut store, at(90)).back, [name(3), name(4)]);
    assert!(store.record(name(4)).is_some() && topology.reached(name(4)));
}

#[test]
fn a_name_that_two_stores_use_is_found_wherever_they_are() {
    let rival = key(9, 1).public().uid();
    let link =
        |uid, address: &str| RecordLink { uid, address: address.to_owned(), ..record(1, 1, &[9]).links[0].clone() };
    let mut two = record(2, 1, &[1, 3]);
    two.links.push(link(uid(9), "192.0.2.90:6783"));
    let mut three = record(3, 1, &[2]);
    three.links.push(link(rival, "192.0.2.91:6783"));
    let mut store = holding(&[two, three.clone()]);
    let (me, mut topology) = (record(1, 1, &[2]), Topology::new(GRACE));
    topology.compute(&me, &mut store, at(0));
    let collisions: Vec<_> = topology.collisions().collect();
    assert_eq!(collisions.len(), 1);
    assert_eq!(collisions[0].0, name(9));
    assert!(["192.0.2.90:6783", "192.0.2.91:6783"].iter().all(|at| collisions[0].1.contains(at)), "{collisions:?}");
    assert!(topology.alive(name(9), uid(9)) && topology.alive(name(9), rival));
    assert_eq!(topology.rival(name(9), uid(9)), Some("192.0.2.91:6783"));
    // One of them leaves.
    three.links.pop();
    three.version = 2;
    store.offer(entry(&three), &|_, _| true);
    topology.compute(&me, &mut store, at(1));
    assert_eq!(topology.collisions().count(), 0);
    assert!(!topology.alive(name(9), rival));
}

#[test]
fn a_namesake_of_this_peer_is_found_far_away() {
    let rival = key(1, 1).public().uid();
    let mut three = record(3, 1, &[2]);
    three.links.push(RecordLink { uid: rival, ..record(2, 1, &[1]).links[0].clone() });
    let mut store = holding(&[record(2, 1, &[1, 3]), three]);
    let namesake = Verify.open(&sign_record(&key(1, 1), &record(1, 1, &[3]))).expect("an entry");
    store.offer(entry(&record(1, 1, &[2])), &|_, _| true);
    store.offer(namesake, &|_, _| true);
    let mut topology = Topology::new(GRACE);
    topology.compute(&record(1, 1, &[2]), &mut store, at(0));
    assert!(topology.rival(name(1), uid(1)).is_some());
}

#[test]
fn stores_that_are_gone_do_not_keep_each_other_alive() {
    // Peers 3 and 4 both lost their stores; peer 2 is linked to what came back under their names. Of each the former
    // record is held, in which they tell of each other.
    let fresh = |n| key(n, 1).public().uid();
    let mut two = record(2, 1, &[1, 3, 4]);
    two.links[1].uid = fresh(3);
    two.links[2].uid = fresh(4);
    let mut store = holding(&[two, record(3, 9, &[4]), record(4, 9, &[3])]);
    let mut topology = Topology::new(GRACE);
    topology.compute(&record(1, 1, &[2]), &mut store, at(0));
    for n in [3, 4] {
        assert!(topology.reached(name(n)));
        assert!(topology.alive(name(n), fresh(n)) && !topology.alive(name(n), uid(n)), "{n}");
    }
    assert_eq!(topology.collisions().count(), 0);
}

#[test]
fn what_changes_without_end_is_computed_less_and_less_often_up_to_a_bound() {
    let mut store = holding(&[record(2, 1, &[1, 3]), record(3, 1, &[2])]);
    let (me, mut topology, peers) = (record(1, 1, &[2]), Topology::new(GRACE), store.owners());
    let (mut now, mut pauses) = (at(10), Vec::new());
    for _ in 0..5 {
        topology.changed(peers, now);
        let due = topology.poll_timeout().expect("it is computed");
        pauses.push(due.since(now).as_nanos() / settle_time(peers).as_nanos());
        topology.compute(&me, &mut store, due);
        now = due;
    }
    assert_eq!(pauses, [1, 1, 2, 4, 4]);
    let rested = at(20);
    topology.changed(peers, rested);
    assert_eq!(topology.poll_timeout(), Some(rested + settle_time(peers)));
}
