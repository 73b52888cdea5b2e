//! Whom packets are accepted from, and which way they leave, after news of several kinds.

mod short_ids;

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use super::{
    super::{
        fixture::{NOW, entry, ip, key, link, link_at, mesh, name, pass, raw, record, relaunched},
        links::PUBLISH_AFTER,
        probe::{Kind, Probe},
        topology::settle_time,
    },
    *,
};
use crate::proto::io::{DialId, LinkId, Underlay};

/// The addresses of peer `n` that were told last.
fn senders(mesh: &mut Mesh, n: u8) -> BTreeSet<Ipv4Addr> {
    let events: Vec<MeshEvent> = std::iter::from_fn(|| mesh.poll_event()).collect();
    let mut told = events.into_iter().filter_map(|event| match event {
        MeshEvent::Senders(peer, from) if peer == name(n) => Some(from),
        _ => None,
    });
    told.next_back().expect("addresses")
}

/// The way of peer 1 to the address of peer `n`.
fn straight(n: u8) -> PathTo {
    PathTo { remote: SocketAddrV4::new(ip(n), 6784), short_id: 1, via: name(n), translated: false, path_mtu: 0 }
}

#[test]
fn a_translated_address_is_accepted_when_the_link_that_showed_it_is_gone() {
    let (mut open, mut behind, public) = (mesh(1), mesh(2), Ipv4Addr::new(198, 51, 100, 2));
    link(&mut behind, &mut open, (DialId(0), LinkId(1)), public);
    assert_eq!(senders(&mut open, 2), BTreeSet::from([ip(2), public]));
    open.link_closed(LinkId(1), "reset", NOW);
    // Nor are packets for it sent there any more.
    open.ways.insert(name(2), Way { tunnel: straight(3), worked: false, adjacent: false });
    open.learn(name(2), NOW);
    assert_eq!(senders(&mut open, 2), BTreeSet::from([ip(2), public]));
}

#[test]
fn where_an_earlier_run_accepted_packets_from_they_are_accepted_until_others_were_heard() {
    let public = Ipv4Addr::new(198, 51, 100, 2);
    let (mut one, mut two) = (relaunched(1, vec![(public, name(2)), (ip(2), name(2))]), mesh(2));
    link(&mut two, &mut one, (DialId(0), LinkId(1)), ip(2));
    assert_eq!(senders(&mut one, 2), BTreeSet::from([ip(2), public]));
    let heard: Vec<Ipv4Addr> = (1..=HEARD_MAX as u8).map(|n| Ipv4Addr::new(203, 0, 113, n)).collect();
    heard.iter().for_each(|addr| one.path_event(PathEvent::Heard(name(2), *addr), NOW));
    assert_eq!(senders(&mut one, 2), heard.into_iter().chain([ip(2)]).collect(), "the newest");
}

#[test]
fn where_a_forgotten_peer_was_found_is_remembered_until_the_way_to_it_is_forgotten() {
    let public = Ipv4Addr::new(198, 51, 100, 2);
    for way_too in [false, true] {
        let (mut open, mut behind) = (mesh(1), mesh(2));
        link(&mut behind, &mut open, (DialId(0), LinkId(1)), public);
        open.link_closed(LinkId(1), "reset", NOW);
        while !std::iter::from_fn(|| open.poll_event()).any(|event| event == MeshEvent::PeerGone(name(2))) {
            let (due, _) = open.poll_timeout().expect("it is forgotten some time");
            open.handle_timeout(due);
        }
        if way_too {
            open.forget_way(name(2));
        }
        behind.link_closed(LinkId(1), "reset", NOW);
        behind.set_underlay(&Underlay { addrs: vec![ip(2)], default_mtu: 1400 }, 1350, NOW);
        link(&mut behind, &mut open, (DialId(1), LinkId(2)), ip(2));
        assert_eq!(senders(&mut open, 2).contains(&public), !way_too);
    }
}

#[test]
fn narrow_paths_are_told_of_peers_without_a_link() {
    let (mut one, mut two) = (mesh(1), mesh(2));
    link(&mut two, &mut one, (DialId(0), LinkId(1)), ip(2));
    one.narrow = BTreeMap::from([(name(2), 1300), (name(3), 1400)]);
    one.touch(NOW);
    one.handle_timeout(NOW + PUBLISH_AFTER + settle_time(2));
    assert_eq!(one.me.narrow, [(name(3), 1400)]);
    assert_eq!(one.record(name(1)).map(|record| &record.narrow), Some(&one.me.narrow));
}

#[test]
fn an_address_that_this_host_gets_too_is_no_place_of_another() {
    let (mut one, mut two, bridge) = (mesh(1), mesh(2), Ipv4Addr::new(172, 17, 0, 1));
    two.set_underlay(&Underlay { addrs: vec![ip(2), bridge], default_mtu: 1500 }, 1450, NOW);
    two.handle_timeout(NOW + PUBLISH_AFTER + settle_time(2));
    link(&mut two, &mut one, (DialId(0), LinkId(1)), ip(2));
    assert_eq!(one.paths.addresses(name(2)), BTreeSet::from([ip(2), bridge]));
    one.set_underlay(&Underlay { addrs: vec![ip(1), bridge], default_mtu: 1500 }, 1450, NOW);
    assert_eq!(one.paths.addresses(name(2)), BTreeSet::from([ip(2)]));
}

#[test]
fn a_record_that_tells_of_other_links_alone_changes_no_address_and_one_of_another_address_does() {
    let (mut one, mut two) = (mesh(1), mesh(2));
    link(&mut two, &mut one, (DialId(0), LinkId(1)), ip(2));
    while one.poll_event().is_some() {}
    let mut record = one.record(name(2)).expect("a record").clone();
    let hear = |one: &mut Mesh, record: &PeerRecord| {
        let before = one.record(name(2)).cloned();
        one.hear_record(record, before.as_ref(), NOW);
        std::iter::from_fn(|| one.poll_event()).filter(|event| matches!(event, MeshEvent::Senders(..))).count()
    };
    record.links.clear();
    assert_eq!(hear(&mut one, &record), 0);
    record.addrs.push(ip(9));
    assert_eq!(hear(&mut one, &record), 1);
}

#[test]
fn a_refused_name_is_shown_for_a_while_although_nothing_else_happens() {
    let mut one = mesh(1);
    one.collisions.insert(name(2), ("two peers are called ::2".to_owned(), NOW));
    let soon = NOW + (COLLISION_SHOWN - Duration::from_millis(1));
    assert_eq!(one.warnings(soon), ["two peers are called ::2"]);
    assert_eq!(one.warnings(NOW + COLLISION_SHOWN), Vec::<String>::new());
}

#[test]
fn a_relay_that_lost_its_link_alone_relays_still_and_one_that_tells_of_silence_does_not() {
    let (mut one, relay) = (mesh(1), name(2));
    let tell = |one: &mut Mesh, version, established| {
        let links: &[u8] = if established == Some(true) { &[1, 3] } else { &[1] };
        let mut told = record(2, version, links);
        if established == Some(false) {
            told = record(2, version, &[1, 3]);
            told.links[1].established = false;
        }
        one.gossip.store_mut().offer(entry(&told), &|_, _| true);
    };
    for (says, adjacent) in [(None, false), (Some(true), true), (None, true), (Some(false), false), (None, false)] {
        let version = one.gossip.store().record(relay).map_or(1, |told| told.version + 1);
        tell(&mut one, version, says);
        let adjacent_now = one.is_adjacent(relay, name(3));
        one.ways.insert(name(3), Way { tunnel: straight(2), worked: false, adjacent: adjacent_now });
        assert_eq!(adjacent_now, adjacent, "it says {says:?}");
    }
}

/// A peer that tells nothing but an address that this host has itself cannot be tried at all.
#[test]
fn a_peer_that_cannot_be_tried_goes_through_whoever_is_linked_to_it() {
    let mut one = mesh(1);
    let mut relays = [mesh(2), mesh(4)];
    for (relay, n) in relays.iter_mut().zip([2, 4]) {
        let start = NOW + Duration::from_millis(500 * n);
        link_at(&mut one, relay, (DialId(n), LinkId(n)), ip(1), start);
        for now in (1..=5).map(|n| start + Duration::from_millis(100) * n) {
            one.handle_timeout(now);
            relay.handle_timeout(now);
            pass(&mut one, relay, LinkId(n), now);
        }
    }
    let cookies = relays.map(|relay| relay.me().cookie);
    let tell = |one: &mut Mesh, version, links: [&[u8]; 3]| {
        let mut records = [(2, 2, links[0]), (4, 4, links[1]), (3, 2, links[2])]
            .map(|(n, from, links)| (record(n, version, links), from));
        (records[0].0.cookie, records[1].0.cookie, records[2].0.addrs) = (cookies[0], cookies[1], vec![ip(1)]);
        for (record, from) in records {
            let entry = one.gossip.open(&raw(&record)).expect("an entry");
            one.gossip.introduce(LinkId(from), entry, &|_, _| true, NOW);
        }
        for n in 1..=10 {
            one.handle_timeout(NOW + Duration::from_secs(version - 997) + Duration::from_millis(100) * n);
        }
        one.ways.get(&name(3)).map(|way| way.tunnel.via)
    };
    assert_eq!(tell(&mut one, 1000, [&[1, 3], &[1], &[2]]), Some(name(2)));
    assert_eq!(tell(&mut one, 1001, [&[1], &[1, 3], &[4]]), Some(name(4)));
}

/// A peer with a link to 2 whose data port answers; the cookie of 2, and when that is so.
fn linked_to_2(start: Instant) -> (Mesh, u64, Instant) {
    let (mut one, mut two) = (mesh(1), mesh(2));
    link_at(&mut one, &mut two, (DialId(2), LinkId(2)), ip(1), start);
    let mut now = start;
    for _ in 1..=5 {
        now = now + Duration::from_millis(100);
        one.handle_timeout(now);
        two.handle_timeout(now);
        pass(&mut one, &mut two, LinkId(2), now);
    }
    (one, two.me().cookie, now)
}

/// Records with established links to these, that of 2 first, which `cookie` is told by.
fn records(cookie: u64, version: u64, told: [(u8, &[u8]); 3]) -> [PeerRecord; 3] {
    let mut records = told.map(|(n, links)| record(n, version, links));
    records[0].cookie = cookie;
    records
}

/// 2 tells these records, and a second passes; over whom packets for 3 go then.
fn tell(one: &mut Mesh, records: impl IntoIterator<Item = PeerRecord>, now: Instant) -> Option<PeerName> {
    for record in records {
        let entry = one.gossip.open(&raw(&record)).expect("an entry");
        one.gossip.introduce(LinkId(2), entry, &|_, _| true, now);
    }
    for n in 1..=10 {
        one.handle_timeout(now + Duration::from_millis(100) * n);
    }
    one.ways.get(&name(3)).map(|way| way.tunnel.via)
}

/// 2 sends on to 4, which has a link to 3; then nobody hears of 4 any more, and its kernel may go on.
#[test]
fn a_straight_way_that_worked_once_is_disproved_by_time_in_which_others_reach_the_peer() {
    for (relayed, via) in [(Duration::from_secs(20), 3), (DISPROVED_AFTER, 2)] {
        let (mut one, cookie, now) = linked_to_2(NOW + DISPROVED_AFTER);
        let records = |version, links: [&[u8]; 3]| {
            let mut records = records(cookie, version, [(2, links[0]), (3, links[1]), (4, links[2])]);
            // Data does not pass between 2 and 3.
            let links = records[..2].iter_mut().flat_map(|told| &mut told.links);
            links.filter(|link| [2, 3].map(name).contains(&link.peer)).for_each(|link| link.established = false);
            records
        };
        tell(&mut one, records(1000, [&[1, 3, 4], &[2, 4], &[2, 3]]), now);
        let later = now + Duration::from_secs(1);
        one.ways.insert(name(3), Way { tunnel: straight(2), worked: false, adjacent: false });
        one.worked.insert(name(3), straight(3));
        one.refresh_way(name(3), later);
        let since = one.relayed.get_mut(&name(3)).expect("it is relayed");
        *since = later.since_start().checked_sub(relayed).map(Instant::from_start).expect("that much time");
        let told = tell(&mut one, records(1001, [&[1, 3], &[2], &[2, 3]]), later);
        assert_eq!(told, Some(name(via)), "{relayed:?}");
    }
}

/// What 3 told last leads to it by way of 2, whose own word does not.
#[test]
fn a_straight_way_that_worked_is_kept_to_whom_nobody_hears_of_any_more() {
    for (worked, via) in [(true, 3), (false, 2)] {
        let (mut one, cookie, now) = linked_to_2(NOW);
        let records = [PeerRecord { cookie, ..record(2, 1000, &[1]) }, record(3, 1000, &[2])];
        tell(&mut one, records, now);
        one.ways.insert(name(3), Way { tunnel: straight(3), worked, adjacent: false });
        tell(&mut one, [], now + Duration::from_secs(1));
        assert!(one.is_down(name(3)), "nobody answers");
        // As when 2 was heard of since.
        one.doubts.over(name(3));
        one.refresh_way(name(3), now + Duration::from_secs(2));
        assert_eq!(one.ways[&name(3)].tunnel.via, name(via), "it worked: {worked}");
    }
}

/// 2 relays to 3 until it loses its link to it; what 3 told last leads over 5, of whom nobody hears either.
#[test]
fn a_relay_that_answers_and_lost_its_link_alone_is_kept_whatever_else_was_told_last() {
    for (answers, via) in [(true, 2), (false, 5)] {
        let (mut one, cookie, now) = linked_to_2(NOW);
        one.ways.insert(name(3), Way { tunnel: straight(2), worked: false, adjacent: false });
        let told = tell(&mut one, records(cookie, 1000, [(2, &[1, 3]), (3, &[2]), (5, &[])]), now);
        assert_eq!(told, Some(name(2)));
        one.ways.insert(name(5), Way { tunnel: straight(5), worked: true, adjacent: false });
        if !answers {
            one.paths.remove_peer(name(2));
        }
        let last = records(cookie, 1001, [(2, &[1]), (3, &[5]), (5, &[1, 3])]);
        let told = tell(&mut one, last, now + Duration::from_secs(1));
        assert_eq!(told, Some(name(via)), "2 answers: {answers}");
    }
}

/// 3 fell silent before this run of the controller, and told last of a link to here: others send by way of here.
#[test]
fn whom_the_last_links_lead_to_is_sent_to_where_it_tells_when_no_way_there_worked_yet() {
    for (linked_to, via) in [(1, 3), (2, 2)] {
        let (mut one, cookie, now) = linked_to_2(NOW);
        one.ways.insert(name(3), Way { tunnel: straight(2), worked: false, adjacent: false });
        let mut records = records(cookie, 1000, [(2, &[1, 3]), (3, &[linked_to]), (5, &[])]);
        records[0].links.iter_mut().filter(|link| link.peer == name(3)).for_each(|link| link.established = false);
        assert_eq!(tell(&mut one, records, now), Some(name(via)), "linked to {linked_to}");
        assert_eq!(one.ways[&name(3)].tunnel.remote, SocketAddrV4::new(ip(via), 6784));
    }
}

#[test]
fn a_claim_is_true_when_its_peer_signed_it_and_was_asked_from_here() {
    let mut one = mesh(1);
    one.gossip.store_mut().offer(entry(&record(2, 1, &[])), &|_, _| true);
    let reply = Probe {
        kind: Kind::Reply,
        flags: 0,
        length: 160,
        cookie: 0,
        sender: name(2),
        receiver: name(1),
        sequence: 7,
        sent_micros: 8,
        nonce: 9,
    };
    let claim = |seen, signed_by: u8, sender| {
        let bytes = Probe { sender, ..reply }.encode_proven(seen, &key(signed_by, 0));
        let reply = Probe::decode(&bytes).expect("a probe");
        Claim { from: SocketAddrV4::new(ip(9), 6783), reply, proof: reply.proof(&bytes).expect("a proof") }
    };
    assert!(one.is_true(&claim(ip(1), 2, name(2))));
    assert!(!one.is_true(&claim(ip(3), 2, name(2))), "asked by another");
    assert!(!one.is_true(&claim(ip(1), 3, name(2))), "signed by another");
    assert!(!one.is_true(&claim(ip(1), 4, name(4))), "of nobody known");
    let honest = claim(ip(1), 2, name(2));
    let other = Claim { reply: Probe { sequence: 8, ..honest.reply }, ..honest };
    assert!(!one.is_true(&other), "for another question");
}
