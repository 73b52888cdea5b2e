//! What is published of this peer, how often, and from which version on.

use std::time::Duration;

use super::*;
use crate::proto::{
    fixture::{NOW, entry, ip, key, name, record, uid},
    throttle::hold_down,
    wire::entry::Verify,
};

fn membership(n: u8, incarnation: u64) -> Membership {
    let key = key(n, 0);
    let identity = Identity { name: name(n), uid: uid(n), incarnation, nickname: format!("host-{n}"), key };
    let mut membership = Membership::new(identity, 6783, Arc::new(Verify), Rng::new([n; 32]), NOW);
    membership.set_place(&[ip(n)], 1500, NOW);
    membership
}

/// `one` has sessions to these.
fn connect(one: &mut Membership, peers: &[u8], now: Instant) {
    let PeerRecord { sessions, paths, .. } = record(1, 1, peers);
    one.set_adjacencies(sessions, paths, now);
}

fn published(of: &Membership) -> &PeerRecord {
    of.record(of.me().name).expect("a record")
}

/// Lets time pass for two peers with a session to each other.
fn run(one: &mut Membership, other: &mut Membership, from: Instant, time: Duration) {
    let mut now = from;
    while now.since(from) < time {
        now = now + Duration::from_millis(10);
        one.handle_timeout(now);
        other.handle_timeout(now);
        loop {
            let there: Vec<_> = std::iter::from_fn(|| one.poll_send()).collect();
            let back: Vec<_> = std::iter::from_fn(|| other.poll_send()).collect();
            if there.is_empty() && back.is_empty() {
                break;
            }
            there.into_iter().for_each(|(session, message)| other.message(session, message, &|_, _| true, now));
            back.into_iter().for_each(|(session, message)| one.message(session, message, &|_, _| true, now));
        }
    }
}

/// A session between two peers, in which each has the other's record.
fn meet(one: &mut Membership, other: &mut Membership, session: u64, now: Instant) {
    let (own, theirs) = (one.own_entry(now), other.own_entry(now));
    let open = |raw: &[u8]| one.gossip.verifier.open(raw).expect("an entry");
    let (own, theirs) = (open(&own), open(&theirs));
    one.session_up(SessionId(session), theirs, true, now);
    other.session_up(SessionId(session), own, false, now);
}

#[test]
fn many_changes_within_the_hold_down_are_published_once() {
    let mut one = membership(1, 1);
    one.own_entry(NOW);
    for n in 2..=20 {
        one.gossip.hold(entry(&record(n, 1, &[])), Source::Session(SessionId(1)), false, &|_, _| false, NOW);
        connect(&mut one, &(2..=n).collect::<Vec<u8>>(), NOW);
        one.handle_timeout(NOW + timers::PUBLISH_AFTER);
    }
    let before = published(&one).point.1;
    assert!(before <= 3, "{before} versions, the first with all addresses");
    one.handle_timeout(NOW + hold_down(20) * 4);
    assert_eq!((published(&one).point.1, published(&one).sessions.len()), (before + 1, 19));
}

#[test]
fn a_change_after_a_while_is_published_at_once() {
    let mut one = membership(1, 1);
    connect(&mut one, &[2], NOW);
    let later = NOW + Duration::from_secs(10);
    one.handle_timeout(later);
    let before = published(&one).point.1;
    let later = later + Duration::from_secs(10);
    connect(&mut one, &[], later);
    one.handle_timeout(later + timers::PUBLISH_AFTER);
    assert_eq!((published(&one).point.1, published(&one).sessions.len()), (before + 1, 0));
}

#[test]
fn a_handshake_does_not_publish_the_end_of_a_session() {
    let mut one = membership(1, 1);
    connect(&mut one, &[2], NOW);
    let later = NOW + Duration::from_secs(10);
    one.handle_timeout(later);
    // Superseded by another session to the same peer, which is being opened.
    connect(&mut one, &[], later);
    one.own_entry(later);
    assert_eq!(published(&one).sessions.len(), 1);
    one.handle_timeout(later + timers::PUBLISH_AFTER + hold_down(2));
    assert_eq!(published(&one).sessions.len(), 0);
}

#[test]
fn a_handshake_publishes_new_addresses() {
    let mut one = membership(1, 1);
    one.set_place(&[ip(1), ip(9)], 1400, NOW);
    one.own_entry(NOW);
    assert_eq!((published(&one).addrs.len(), published(&one).mtu), (2, 1400));
}

#[test]
fn a_session_that_came_and_went_is_not_published() {
    let mut one = membership(1, 1);
    connect(&mut one, &[2], NOW);
    let now = NOW + Duration::from_secs(10);
    one.handle_timeout(now);
    let before = published(&one).point.1;
    connect(&mut one, &[2, 3], now);
    connect(&mut one, &[2], now);
    one.handle_timeout(now + Duration::from_secs(10));
    assert_eq!(published(&one).point.1, before);
}

#[test]
fn a_record_that_moved_is_told_from_one_that_did_not() {
    let mut one = membership(1, 1);
    let mut receive = |record: &PeerRecord| {
        one.gossip.hold(entry(record), Source::Session(SessionId(1)), false, &|_, _| true, NOW);
        std::iter::from_fn(|| one.poll_event()).find_map(|event| match event {
            MembershipEvent::Moved(_) => Some(true),
            MembershipEvent::Reports(_) => Some(false),
            _ => None,
        })
    };
    assert_eq!(receive(&record(2, 1, &[3])), Some(true), "the first");
    assert_eq!(receive(&record(2, 2, &[])), Some(false), "other sessions");
    assert_eq!(receive(&record(2, 2, &[])), None);
    let moved = PeerRecord { addrs: vec![ip(2), ip(9)], ..record(2, 3, &[]) };
    assert_eq!(receive(&moved), Some(true));
}

#[test]
fn a_restored_peer_brings_its_channels_back() {
    let (mut one, mut two) = (membership(1, 1), membership(2, 1));
    two.set_entry(Channel::Space, "", Some(&[7]), NOW);
    meet(&mut two, &mut one, 1, NOW);
    run(&mut two, &mut one, NOW, Duration::from_secs(1));
    one.forget(name(2), NOW);
    assert!(one.record(name(2)).is_none());
    while one.poll_event().is_some() {}
    one.restore(name(2));
    let events: Vec<_> = std::iter::from_fn(|| one.poll_event()).collect();
    let entry = one.gossip.store.of(name(2)).nth(1).cloned().expect("its entry");
    assert_eq!(events, [MembershipEvent::Moved(name(2)), MembershipEvent::Entry(entry)]);
}

/// Peer 1, which holds what peer 2 said in its launch number 5.
fn former() -> Membership {
    let (mut one, mut two) = (membership(1, 1), membership(2, 5));
    meet(&mut two, &mut one, 1, NOW);
    run(&mut two, &mut one, NOW, Duration::from_secs(1));
    one.session_down(SessionId(1));
    assert_eq!(one.record(name(2)).map(|record| record.point.0), Some(5));
    one
}

#[test]
fn a_restored_store_continues_from_the_newest_version() {
    let mut one = former();
    let mut two = membership(2, 1);
    two.me.nickname = "restored".to_owned();
    two.set_entry(Channel::Space, "", Some(&[1]), NOW);
    meet(&mut two, &mut one, 2, NOW);
    run(&mut two, &mut one, NOW, Duration::from_secs(10));
    let held = one.record(name(2)).expect("a record");
    assert_eq!((held, held.point.0), (two.me(), 5));
    assert!(one.gossip.store.of(name(2)).any(|entry| entry.key.channel == Channel::Space), "its channels, too");
    assert_eq!((two.warning(NOW), two.recovery.times), (None, 1));
}

#[test]
fn a_copy_with_the_same_version_is_outdone() {
    // Of two entries with one version the higher digest wins: the other is as good as not published.
    let (mut one, mut copies) = (membership(1, 1), [membership(2, 1), membership(2, 1)]);
    copies[1].me.nickname = "copy".to_owned();
    for copy in &mut copies {
        copy.own_entry(NOW);
    }
    assert_eq!(copies[0].me.point.1, copies[1].me.point.1);
    copies.sort_by_key(|copy| copy.gossip.store.get(&record_key(name(2))).map(|entry| entry.version));
    let [lower, higher] = &mut copies;
    meet(higher, &mut one, 1, NOW);
    one.session_down(SessionId(1));
    meet(lower, &mut one, 2, NOW);
    run(lower, &mut one, NOW, Duration::from_secs(10));
    assert_eq!(one.record(name(2)), Some(lower.me()));
}

#[test]
fn copies_of_a_store_warn_and_publish_ever_more_rarely() {
    let (mut one, mut copies) = (membership(1, 1), [membership(2, 1), membership(2, 1)]);
    copies[1].me.nickname = "copy".to_owned();
    let mut now = NOW;
    for turn in 0..40 {
        // One of them has the session, then the other.
        let copy = &mut copies[turn % 2];
        let session = 10 + turn as u64;
        meet(copy, &mut one, session, now);
        run(copy, &mut one, now, Duration::from_secs(6));
        now = now + Duration::from_secs(6);
        copy.session_down(SessionId(session));
        one.session_down(SessionId(session));
    }
    for copy in &copies {
        assert!(copy.warning(now).is_some_and(|text| text.contains("copy")), "{:?}", copy.recovery);
        let bounds = SUSPICIOUS..=2 + DOUBLINGS_MAX;
        assert!(bounds.contains(&copy.recovery.times), "{:?}", copy.recovery);
    }
}

#[test]
fn entries_of_an_earlier_launch_show_no_copy() {
    let (mut one, mut former) = (membership(1, 1), membership(2, 1));
    former.set_entry(Channel::Space, "", Some(&[1]), NOW);
    meet(&mut former, &mut one, 1, NOW);
    run(&mut former, &mut one, NOW, Duration::from_secs(1));
    assert_eq!(one.gossip.store.of(name(2)).count(), 2);
    one.session_down(SessionId(1));
    let mut two = membership(2, 2);
    meet(&mut two, &mut one, 2, NOW);
    run(&mut two, &mut one, NOW, Duration::from_secs(10));
    assert_eq!((two.recovery.times, two.me().point.0), (0, 2));
}
