//! Reached peers stay, others go after the grace period and come back when reached again; duplicate identities are found
//! wherever in the network they are.

use super::*;
use crate::proto::{
    fixture::{key, name, record, uid},
    wire::entry::ReportedSession,
};

fn at(seconds: u64) -> Instant {
    Instant::from_start(Duration::from_secs(seconds))
}

/// Peer 1 with sessions to `peers`, and the records that it holds.
struct Rig {
    me: PeerRecord,
    others: Vec<PeerRecord>,
    retained: Vec<PeerRecord>,
    topology: Topology,
}

impl Rig {
    fn new(peers: &[u8], others: Vec<PeerRecord>) -> Self {
        Self { me: record(1, 1, peers), others, retained: Vec::new(), topology: Topology::new(GRACE) }
    }

    fn is_lost(&self, peer: PeerName) -> bool {
        self.topology.lost().any(|lost| lost == peer)
    }

    fn compute(&mut self, now: Instant) -> Changes {
        let Self { me, others, retained, topology } = self;
        let near = me.paths.iter().copied().collect();
        let (others, retained): (Vec<_>, Vec<_>) = (others.iter().collect(), retained.iter().collect());
        Changes { rerouted: Vec::new(), ..topology.compute(me, &near, &others, &retained, now) }
    }
}

fn lost(peers: &[u8]) -> Changes {
    Changes { lost: peers.iter().map(|n| name(*n)).collect(), ..Changes::default() }
}

#[test]
fn a_peer_that_is_never_reached_is_dropped_after_grace() {
    let mut rig = Rig::new(&[2], vec![record(2, 1, &[1, 3]), record(3, 1, &[2]), record(4, 1, &[3])]);
    assert_eq!(rig.compute(at(0)), Changes::default());
    assert!(rig.topology.reached(name(3)) && !rig.topology.reached(name(4)));
    assert_eq!(rig.topology.first_hops(name(3)).0, [name(2)]);
    // A peer with a session to it may report that in a moment.
    assert!(!rig.is_lost(name(4)));
    assert_eq!(rig.topology.poll_timeout(), Some(at(0) + patience(4)));
    assert_eq!(rig.compute(at(0) + patience(4)), lost(&[4]));
    assert!(rig.is_lost(name(4)));
    assert_eq!(rig.topology.poll_timeout(), Some(at(0) + GRACE));
    assert_eq!(rig.compute(at(59)), Changes::default());
    assert_eq!(rig.compute(at(60)).gone, [name(4)]);
    rig.others.pop();
    assert_eq!(rig.topology.poll_timeout(), None);
}

#[test]
fn a_peer_that_was_reached_is_lost_at_once() {
    let mut rig = Rig::new(&[2], vec![record(2, 1, &[1, 3]), record(3, 1, &[2])]);
    assert_eq!(rig.compute(at(0)), Changes::default());
    rig.others[0] = record(2, 2, &[1]);
    assert_eq!(rig.compute(at(1)), lost(&[3]));
    assert!(rig.is_lost(name(3)));
}

#[test]
fn a_healed_partition_brings_dropped_peers_back() {
    let mut rig = Rig::new(&[2], vec![record(2, 1, &[1]), record(3, 1, &[4]), record(4, 1, &[3])]);
    rig.compute(at(0));
    assert_eq!(rig.compute(at(60)).gone, [name(3), name(4)]);
    rig.retained = rig.others.split_off(1);
    // Peer 2 has a session to peer 3 again, whose own record, and that of peer 4 behind it, did not change.
    rig.others = vec![record(2, 2, &[1, 3])];
    assert_eq!(rig.compute(at(90)).back, [name(3), name(4)]);
    assert!(rig.topology.reached(name(4)));
}

#[test]
fn duplicate_identities_are_found_wherever_they_are() {
    let other = key(9, 1).public().uid();
    let session = |uid, address: &str| ReportedSession {
        uid,
        address: address.to_owned(),
        ..record(1, 1, &[9]).sessions[0].clone()
    };
    let mut two = record(2, 1, &[1, 3]);
    two.sessions.push(session(uid(9), "192.0.2.90:6783"));
    let mut three = record(3, 1, &[2]);
    three.sessions.push(session(other, "192.0.2.91:6783"));
    let mut rig = Rig::new(&[2], vec![two, three]);
    rig.compute(at(0));
    let found: Vec<_> = rig.topology.duplicates().collect();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, name(9));
    assert!(["192.0.2.90:6783", "192.0.2.91:6783"].iter().all(|at| found[0].1.contains(at)), "{found:?}");
    assert!(rig.topology.alive(name(9), uid(9)) && rig.topology.alive(name(9), other));
    assert_eq!(rig.topology.duplicate(name(9), uid(9)), Some("192.0.2.91:6783"));
    // One of them leaves.
    rig.others[1].sessions.pop();
    rig.compute(at(1));
    assert_eq!(rig.topology.duplicates().count(), 0);
    assert!(!rig.topology.alive(name(9), other));
}

#[test]
fn a_namesake_of_this_peer_is_found_far_away() {
    let mut three = record(3, 1, &[2]);
    three.sessions.push(ReportedSession { uid: key(1, 1).public().uid(), ..record(2, 1, &[1]).sessions[0].clone() });
    let mut rig = Rig::new(&[2], vec![record(2, 1, &[1, 3]), three]);
    rig.compute(at(0));
    assert!(rig.topology.duplicate(name(1), uid(1)).is_some());
}

#[test]
fn former_stores_do_not_keep_each_other_alive() {
    // Peers 3 and 4 both lost their stores; peer 2 has sessions to their new ones. Of each the former record is held, in
    // which they report each other.
    let fresh = |n| key(n, 1).public().uid();
    let mut two = record(2, 1, &[1, 3, 4]);
    two.sessions[1].uid = fresh(3);
    two.sessions[2].uid = fresh(4);
    let mut rig = Rig::new(&[2], vec![two, record(3, 9, &[4]), record(4, 9, &[3])]);
    rig.compute(at(0));
    for n in [3, 4] {
        assert!(rig.topology.reached(name(n)));
        assert!(rig.topology.alive(name(n), fresh(n)) && !rig.topology.alive(name(n), uid(n)), "{n}");
    }
    assert_eq!(rig.topology.duplicates().count(), 0);
}

#[test]
fn endless_changes_are_computed_less_and_less_often() {
    let mut rig = Rig::new(&[2], vec![record(2, 1, &[1, 3]), record(3, 1, &[2])]);
    let (peers, mut now, mut pauses) = (3, at(10), Vec::new());
    for _ in 0..5 {
        rig.topology.changed(peers, now);
        let due = rig.topology.poll_timeout().expect("it is computed");
        pauses.push(due.since(now).as_nanos() / hold_down(peers).as_nanos());
        rig.compute(due);
        now = due;
    }
    assert_eq!(pauses, [1, 1, 2, 4, 4]);
    let rested = at(20);
    rig.topology.changed(peers, rested);
    assert_eq!(rig.topology.poll_timeout(), Some(rested + hold_down(peers)));
}

#[test]
fn only_peers_with_new_first_hops_are_rerouted() {
    let me = record(1, 1, &[2, 3]);
    let records = [record(2, 1, &[1, 4]), record(3, 1, &[1]), record(4, 1, &[2])];
    let mut topology = Topology::new(GRACE);
    let mut compute = |near: &[u8], others: &[PeerRecord]| {
        let near = near.iter().map(|n| name(*n)).collect();
        let others: Vec<_> = others.iter().collect();
        let changes = topology.compute(&me, &near, &others, &[], at(0));
        changes.rerouted.into_iter().collect::<BTreeSet<_>>()
    };
    let all = |peers: &[u8]| peers.iter().map(|n| name(*n)).collect::<BTreeSet<_>>();
    assert_eq!(compute(&[2, 3], &records), all(&[4]));
    assert_eq!(compute(&[2, 3], &records), all(&[]));
    let mut more = records.clone();
    more[1] = record(3, 2, &[1, 4]);
    more[2] = record(4, 2, &[2, 3]);
    // Peer 4 has a second relay; 2 and 3 are relays to each other by way of 4.
    assert_eq!(compute(&[2, 3], &more), all(&[2, 3, 4]));
    assert_eq!(compute(&[3], &more), all(&[3, 4]), "peer 2 does not answer any more");
}

#[test]
fn first_hops_of_a_peer_that_returns_are_new() {
    let [alone, joined] = [record(1, 2, &[]), record(1, 3, &[2])];
    let near = BTreeSet::from([name(2)]);
    let (two, four) = (record(2, 1, &[1, 4]), record(4, 1, &[2]));
    let mut topology = Topology::new(GRACE);
    let mut compute = |me: &PeerRecord, others: &[&PeerRecord], retained: &[&PeerRecord], now| {
        topology.compute(me, &near, others, retained, now)
    };
    compute(&joined, &[&two, &four], &[], at(0));
    compute(&alone, &[&two, &four], &[], at(1));
    assert_eq!(compute(&alone, &[&two, &four], &[], at(90)).gone, [name(2), name(4)], "the path to peer 2 answers on");
    let changes = compute(&joined, &[&two], &[&four], at(91));
    assert_eq!(changes.back, [name(4)]);
    assert!(changes.rerouted.contains(&name(4)), "{changes:?}");
}

#[test]
fn messages_take_the_shortest_path_of_sessions() {
    // 1 - 2 - 3 - 4 - 5, and 1 - 6 - 4.
    let others = [
        record(2, 1, &[1, 3]),
        record(3, 1, &[2, 4]),
        record(4, 1, &[3, 5, 6]),
        record(5, 1, &[4]),
        record(6, 1, &[1, 4]),
        record(7, 1, &[]),
    ];
    let (me, others) = (record(1, 1, &[2, 6]), others.iter().collect::<Vec<_>>());
    let hop = |peer, from: Option<u8>| next_hop(&me, &others, name(peer), from.map(name));
    assert_eq!([hop(5, None), hop(3, None), hop(6, None)], [Some(name(6)), Some(name(2)), Some(name(6))]);
    assert_eq!(hop(5, Some(6)), Some(name(2)), "not back to where it came from");
    assert_eq!([hop(7, None), hop(9, None), hop(1, None)], [None; 3], "nothing leads there");
}
