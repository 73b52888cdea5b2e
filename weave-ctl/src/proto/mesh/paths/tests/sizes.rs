//! The size of a path is found, kept, and found again when it changes.

use proptest::prelude::*;

use super::*;
use PathEvent::{Changed, Up};

fn padded(net: &Net, since: Instant) -> usize {
    net.sizes(1, since).into_iter().filter(|size| *size > mtu::SMALLEST).count()
}

#[test]
fn a_hidden_limit_is_found_to_the_byte() {
    for (told, limit) in
        [(1500, 1400), (9000, 9000), (9000, 1450), (1500, 1500), (1500, 1499), (1500, 577), (1500, 576)]
    {
        let mut net = Net::pair_with_mtu(1, told);
        net.limit = limit;
        net.run_active(secs(20));
        assert_eq!(net.direct(1, 2).unwrap().path_mtu, limit, "told {told}");
        assert_eq!(net.changes(1), [Up(name(2)), Changed(name(2))], "no step on the way is told");
    }
}

/// Sizes of the questions of host 1.
fn asked(net: &Net) -> Vec<u32> {
    let mine = net.log.iter().filter(|(_, packet)| packet.sender == 1);
    let asked = mine.filter(|(_, packet)| Probe::decode(&packet.bytes).is_some_and(|p| p.kind == Kind::Request));
    asked.map(|(_, packet)| u32::from(probe::outer_len(&packet.bytes))).collect()
}

#[test]
fn an_idle_peer_is_asked_for_path_and_size_at_once() {
    let mut net = Net::pair(1);
    net.run(secs(20));
    assert_eq!(asked(&net), [1500]);
    assert_eq!(net.direct(1, 2).unwrap().path_mtu, 1500);
}

#[test]
fn a_hidden_limit_keeps_an_idle_peer_no_longer_than_a_lost_question() {
    let mut net = Net::pair(1);
    net.limit = 1400;
    net.run(SPREAD + FAST_EVERY + DELAY * 2);
    assert_eq!(asked(&net)[..2], [1500, mtu::SMALLEST]);
    assert_eq!(net.direct(1, 2).map(|direct| direct.path_mtu), Some(0));
    net.run(secs(20));
    assert_eq!(net.direct(1, 2).unwrap().path_mtu, 1400);
}

#[test]
fn where_somebody_waits_for_the_path_it_is_asked_for_alone() {
    for linked in [true, false] {
        let mut net = Net::pair(1);
        if linked {
            net.link_pair();
            net.run(secs(2));
        } else {
            net.run_active(secs(2));
        }
        assert_eq!(asked(&net)[..2], [mtu::SMALLEST, 1500]);
        assert_eq!(net.changes(1), [Up(name(2)), Changed(name(2))]);
    }
}

#[test]
fn nothing_is_published_before_it_is_measured() {
    let mut net = Net::pair(1);
    net.limit = 1400;
    assert!(net.until(secs(2), |net| net.direct(1, 2).is_some()).is_some());
    assert_eq!(net.direct(1, 2).unwrap().path_mtu, 0);
}

#[test]
fn the_smaller_of_both_hosts_is_enough() {
    for (own, peers, expected) in
        [(1500, 1400, 1400), (1400, 9000, 1400), (0, 1300, 1300), (1300, 0, 1300), (0, 0, mtu::UNTOLD)]
    {
        let mut net = Net::new(1);
        let mut one = paths(1, cookie(1), 1);
        one.set_mtu(own, net.now);
        one.set_peer(name(2), PeerFacts { mtu: peers, ..facts(2) }, net.now);
        net.hosts.insert(1, one);
        net.hosts.insert(2, paths(2, cookie(2), 2));
        let since = net.now;
        net.run(secs(5));
        assert_eq!(net.direct(1, 2).unwrap().path_mtu, expected);
        assert_eq!(padded(&net, since), 1, "one probe is enough where the hosts are right");
    }
}

#[test]
fn an_mtu_beyond_what_probes_reach_counts_as_that() {
    let mut net = Net::pair_with_mtu(1, 65_536);
    net.run(secs(5));
    assert_eq!(net.direct(1, 2).unwrap().path_mtu, mtu::LARGEST);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_limit_is_found_with_a_bounded_number_of_probes(told in 576_u32..10_000, limit in mtu::SMALLEST..10_000, seed: u8) {
        let mut net = Net::pair_with_mtu(seed, told);
        net.limit = limit;
        let since = net.now;
        net.run(secs(30));
        prop_assert_eq!(net.direct(1, 2).unwrap().path_mtu, limit.min(told).min(mtu::LARGEST));
        prop_assert!(padded(&net, since) <= 15 * mtu::TRIES as usize);
    }

    /// A lost probe may make it find less, never more.
    #[test]
    fn loss_never_makes_it_more(limit in 200_u32..1500, loss in 0_u64..300, seed: u8) {
        let mut net = Net::pair(seed);
        (net.limit, net.loss) = (limit, loss);
        for _ in 0..60 {
            net.run_active(secs(1));
            prop_assert!(net.direct(1, 2).is_none_or(|d| d.path_mtu <= limit));
        }
    }
}

#[test]
fn two_lost_probes_of_a_size_are_borne() {
    let mut net = Net::pair(2);
    let mut count = 0;
    net.lose = Box::new(move |packet| {
        let padded = packet.bytes.len() > probe::LEN;
        count += u32::from(padded);
        padded && count % mtu::TRIES != 0
    });
    net.run(secs(20));
    assert_eq!(net.direct(1, 2).unwrap().path_mtu, 1500);
}

#[test]
fn a_path_that_shrinks_is_measured_again() {
    let mut net = Net::pair(3);
    net.run_active(secs(5));
    net.changes(1);
    net.limit = 1380;
    let took = net.until(secs(60), |net| net.direct(1, 2).is_some_and(|d| d.path_mtu == 1380));
    assert!(took.is_some_and(|t| t <= VERIFY_ACTIVE + secs(15)), "{took:?}");
    assert_eq!(net.changes(1), [Changed(name(2))], "neither down nor in steps");
}

#[test]
fn without_traffic_a_link_is_enough_to_notice() {
    let mut net = Net::pair(3);
    net.link_pair();
    net.run(secs(5));
    net.limit = 1380;
    net.run(VERIFY_LINKED + secs(15));
    assert_eq!(net.direct(1, 2).unwrap().path_mtu, 1380);
}

#[test]
fn a_path_that_grows_is_noticed_at_the_next_attempt_upwards() {
    for limit in [1500, 1450, 1381] {
        let mut net = Net::pair(4);
        net.limit = 1380;
        net.run_active(secs(30));
        net.limit = limit;
        net.run_active(mtu::RAISE_EVERY.1 + secs(15));
        assert_eq!(net.direct(1, 2).unwrap().path_mtu, limit);
    }
}

#[test]
fn what_a_bad_path_lost_does_not_count_as_too_big_for_long() {
    let mut net = Net::pair(4);
    net.run_active(secs(5));
    net.limit = 300;
    net.run_active(secs(30));
    assert_eq!(net.direct(1, 2).unwrap().path_mtu, 300);
    net.limit = 100_000;
    net.run_active(secs(75));
    assert_eq!(net.direct(1, 2).unwrap().path_mtu, 1500);
}

#[test]
fn an_attempt_upwards_that_fails_costs_little() {
    let mut net = Net::pair(4);
    net.limit = 1380;
    net.run_active(secs(30));
    let since = net.now;
    net.run_active(mtu::RAISE_EVERY.1);
    let large = net.sizes(1, since).into_iter().filter(|size| *size > 1380).count();
    assert_eq!(large, 2 * mtu::TRIES as usize, "the hosts' MTU, and one byte more than known");
    assert_eq!(net.direct(1, 2).unwrap().path_mtu, 1380);
}

#[test]
fn a_changed_mtu_of_either_host_is_followed() {
    let mut net = Net::pair(5);
    net.run_active(secs(5));
    let now = net.now;
    net.host(1).set_mtu(1400, now);
    assert_eq!(net.direct(1, 2).unwrap().path_mtu, 1400, "what takes the larger takes the smaller");
    net.host(1).set_mtu(9000, now);
    net.host(1).set_peer(name(2), PeerFacts { mtu: 9000, ..facts(2) }, now);
    net.run_active(secs(5));
    assert_eq!(net.direct(1, 2).unwrap().path_mtu, 9000);
    let now = net.now;
    net.host(1).set_peer(name(2), PeerFacts { mtu: 1280, ..facts(2) }, now);
    net.run_active(secs(5));
    assert_eq!(net.direct(1, 2).unwrap().path_mtu, 1280);
}

#[test]
fn an_idle_path_is_measured_once() {
    let mut net = Net::pair(6);
    net.limit = 1400;
    net.run(secs(30));
    assert_eq!(net.direct(1, 2).unwrap().path_mtu, 1400);
    let since = net.now;
    net.run(secs(3600));
    assert_eq!(padded(&net, since), 0);
}

#[test]
fn an_active_path_is_verified_as_often_as_told() {
    let mut net = Net::pair(7);
    net.run_active(secs(5));
    let since = net.now;
    net.run_active(secs(100));
    assert_eq!(padded(&net, since), 10);
}

#[test]
fn the_answer_to_a_large_probe_is_short() {
    let mut net = Net::pair(8);
    net.host(2).remove_peer(name(1));
    net.run_active(secs(30));
    assert!(padded(&net, Instant::default()) > 0);
    let since = Instant::default();
    assert!(net.sizes(2, since).into_iter().all(|size| size == mtu::SMALLEST));
}

#[test]
fn a_path_that_was_cut_keeps_its_size() {
    let mut net = Net::pair(9);
    net.run_active(secs(5));
    // Nothing at all is answered: that says nothing about sizes.
    net.cut.insert((1, 2));
    net.run_active(secs(30));
    net.cut.clear();
    net.run_active(secs(10));
    assert_eq!(net.direct(1, 2).unwrap().path_mtu, 1500);
}

#[test]
fn a_late_answer_from_the_former_address_says_nothing_of_the_new_one() {
    let mut net = Net::pair(10);
    net.limit = 1400;
    let (first, second) = (data(2), SocketAddrV4::new(Ipv4Addr::new(10, 1, 0, 2), DATA));
    net.also.insert(*second.ip(), 2);
    let now = net.now;
    net.host(1).set_peer(name(2), PeerFacts { candidates: vec![first, second], ..facts(2) }, now);
    let is_at = |net: &Net, at| net.direct(1, 2).is_some_and(|d| d.remote == at);
    assert!(net.until(secs(2), |net| is_at(net, first)).is_some());
    net.run(millis(20));
    net.dead.insert(*first.ip());
    assert!(net.until(secs(4), |net| is_at(net, second)).is_some());

    let large = |p: &&(Instant, Packet)| p.1.to == first && u32::from(probe::outer_len(&p.1.bytes)) == 1500;
    let (sent, late) = net.log.iter().rfind(large).cloned().unwrap();
    assert!(net.now.since(sent) < SENT_FOR, "else it is too old anyway");
    let question = Probe::decode(&late.bytes).unwrap();
    let answer = Probe { kind: Kind::Reply, length: 1500, sender: name(2), receiver: name(1), ..question };
    let now = net.now;
    net.host(1).probe(first, &answer.encode(), now);
    assert_eq!(net.direct(1, 2).unwrap().path_mtu, 0);
    net.run_active(secs(20));
    assert_eq!(net.direct(1, 2).unwrap().path_mtu, 1400);
}

#[test]
fn a_path_that_takes_less_than_its_hosts_is_told_as_narrow_for_as_long_as_it_is() {
    let mut net = Net::pair(1);
    net.limit = 1300;
    net.link_pair();
    net.run(secs(30));
    assert_eq!(net.hosts[&1].narrow(name(2)), Some(1300));
    // The other host takes no more now: that is the hosts' limit, not the path's.
    net.events.clear();
    let now = net.now;
    net.host(1).set_peer(name(2), PeerFacts { mtu: 1300, ..facts(2) }, now);
    net.run(secs(30));
    assert_eq!(net.hosts[&1].narrow(name(2)), None);
    assert!(
        net.events.iter().any(|(_, n, event)| (*n, *event) == (1, PathEvent::Changed(name(2)))),
        "{:?}",
        net.events
    );
}
