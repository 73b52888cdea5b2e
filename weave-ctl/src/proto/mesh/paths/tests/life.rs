//! Paths come up, bear loss, go down in time, come back, and follow their peer.

use proptest::prelude::*;

use super::*;
use PathEvent::{Changed, Down, Heard, Up};

#[test]
fn two_hosts_find_each_other_and_measure() {
    let mut net = Net::pair(1);
    assert_eq!(net.hosts[&1].state(name(2), net.now), PathState::Untested);
    net.run(secs(2));
    for (n, other) in [(1, 2), (2, 1)] {
        let direct = Direct { remote: data(other), translated: false, rtt: Some(DELAY * 2), path_mtu: 1500 };
        assert_eq!(net.direct(n, other), Some(direct));
        assert_eq!(net.hosts[&n].state(name(other), net.now), PathState::Up(direct));
        assert_eq!(net.changes(n), [Up(name(other))], "one answer tells the path and its size");
    }
}

#[test]
fn a_peer_with_a_link_is_asked_at_once() {
    let mut net = Net::pair(1);
    net.link_pair();
    net.run(DELAY * 2);
    assert!(net.direct(1, 2).is_some() && net.direct(2, 1).is_some());
}

/// Loses `lost` of each `of` unpadded questions of host 1.
fn lose_in_turns(net: &mut Net, lost: u32, of: u32) {
    let mut count = 0;
    net.lose = Box::new(move |packet| {
        let question = packet.sender == 1 && packet.bytes.len() == probe::LEN && packet.bytes[5] == 1;
        count += u32::from(question);
        question && count % of < lost
    });
}

#[test]
fn two_lost_in_a_row_are_borne_and_three_are_not() {
    for (lost, stays) in [(LOST_AFTER - 1, true), (LOST_AFTER, false)] {
        let mut net = Net::pair(2);
        net.run_active(secs(3));
        net.changes(1);
        lose_in_turns(&mut net, lost, lost + 1);
        net.run_active(secs(60));
        assert_eq!(net.changes(1).is_empty(), stays, "{lost} lost in a row");
    }
}

#[test]
fn little_loss_takes_no_path_down() {
    for seed in 0..8 {
        let mut net = Net::pair(seed);
        net.run_active(secs(3));
        net.changes(1);
        net.loss = 20;
        net.run_active(secs(300));
        let downs = net.changes(1).into_iter().filter(|e| matches!(e, Down(_))).count();
        assert_eq!(downs, 0, "seed {seed}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the phase in which it breaks.
    #[test]
    fn an_active_path_is_down_in_time_and_back_in_time(phase in 0_u64..2000, out in 5_u64..90, seed: u8) {
        let mut net = Net::pair(seed);
        net.run_active(secs(3) + millis(phase));
        net.changes(1);
        net.cut = BTreeSet::from([(1, 2), (2, 1)]);
        let took = net.until(secs(20), |net| net.direct(1, 2).is_none() && net.direct(2, 1).is_none());
        prop_assert!(took.is_some_and(|t| t <= secs(4)), "{took:?}");
        net.run_active(secs(out));
        prop_assert_eq!(net.changes(1), [Down(name(2))]);
        net.cut.clear();
        let took = net.until(secs(20), |net| net.direct(1, 2).is_some() && net.direct(2, 1).is_some());
        prop_assert!(took.is_some_and(|t| t <= DOWN_EVERY_MAX + secs(1)), "{took:?}");
        net.run_active(secs(2));
        // The MTU is known from before.
        prop_assert_eq!(net.changes(1), [Up(name(2))]);
        prop_assert_eq!(net.direct(1, 2).unwrap().path_mtu, 1500);
    }

    #[test]
    fn a_path_with_a_link_is_down_within_12_seconds(phase in 0_u64..6000, seed: u8) {
        let mut net = Net::pair(seed);
        net.link_pair();
        net.run(secs(3) + millis(phase));
        net.cut.insert((2, 1));
        net.run(secs(12));
        prop_assert_eq!(net.direct(1, 2), None);
        prop_assert_eq!(net.direct(2, 1), None);
    }
}

#[test]
fn loss_in_one_direction_takes_both_down() {
    let mut net = Net::pair(3);
    net.run_active(secs(3));
    net.cut.insert((1, 2));
    net.run_active(secs(4));
    assert_eq!((net.direct(1, 2), net.direct(2, 1)), (None, None));
    let PathState::Down { tried, silent } = net.hosts[&1].state(name(2), net.now) else { panic!("not down") };
    assert_eq!(tried, Some(data(2)));
    assert!(silent >= secs(3) && silent <= secs(6), "{silent:?}");
    assert_eq!(net.changes(1).last(), Some(&Down(name(2))));
}

#[test]
fn an_answer_from_the_control_port_does_not_make_a_closed_data_port_work() {
    let mut net = Net::pair(4);
    net.closed.insert((1, 2));
    net.run_active(secs(60));
    assert_eq!(net.direct(1, 2), None);
    assert!(net.log.iter().filter(|(_, p)| p.sender == 1).all(|(_, p)| p.to.port() == DATA));
}

#[test]
fn a_peer_that_never_answered_is_down_once() {
    let mut net = Net::pair(5);
    net.hosts.remove(&2);
    net.run(secs(3));
    assert_eq!(net.changes(1), [Down(name(2))]);
    let state = net.hosts[&1].state(name(2), net.now);
    assert!(
        matches!(state, PathState::Down { tried, silent } if tried == Some(data(2)) && silent > secs(2)),
        "{state:?}"
    );
    net.run(secs(300));
    assert_eq!(net.changes(1), []);
}

#[test]
fn an_idle_path_that_died_is_noticed_once_it_has_traffic() {
    let mut net = Net::pair(6);
    net.run(secs(3));
    net.hosts.remove(&2);
    net.run(secs(20));
    assert!(net.direct(1, 2).is_some(), "nobody asked since");
    let now = net.now;
    net.host(1).traffic(&[name(2)], now);
    net.run(secs(4));
    assert_eq!(net.direct(1, 2), None);
}

#[test]
fn an_idle_path_that_died_is_noticed_without_traffic_too() {
    let mut net = Net::pair(6);
    net.run(secs(3));
    net.hosts.remove(&2);
    net.run(secs(40));
    assert_eq!(net.direct(1, 2), None);
}

#[test]
fn traffic_that_ends_makes_the_path_idle_again() {
    let mut net = Net::pair(6);
    net.run_active(secs(5));
    net.run(ACTIVE_FOR + secs(2));
    let since = net.now;
    net.run(secs(300));
    let sent = net.sizes(1, since).len();
    // Each asks once in IDLE_EVERY and answers as often.
    assert!((15..=21).contains(&sent), "{sent}");
}

#[test]
fn a_peer_that_asks_is_asked_in_turn() {
    let mut net = Net::pair(7);
    net.hosts.remove(&2);
    net.run(secs(40));
    assert_eq!(net.direct(1, 2), None);
    let mut again = paths(2, cookie(2), 99);
    again.set_peer(name(1), facts(1), net.now);
    net.hosts.insert(2, again);
    net.run(secs(1));
    assert!(net.direct(1, 2).is_some(), "its own round would have come much later");
}

#[test]
fn the_first_address_that_answers_wins_and_the_dead_one_costs_no_time() {
    let mut net = Net::pair(8);
    let nobody = SocketAddrV4::new(Ipv4Addr::new(172, 17, 0, 1), DATA);
    let now = net.now;
    net.host(1).set_peer(name(2), PeerFacts { candidates: vec![nobody, data(2)], ..facts(2) }, now);
    net.run(SPREAD + DELAY * 2);
    assert_eq!(net.direct(1, 2).map(|d| d.remote), Some(data(2)));
    let since = net.now;
    net.run_active(secs(20));
    let strays = net.log.iter().filter(|(at, p)| *at > since && p.to == nobody).count();
    assert_eq!(strays, 0, "it sticks to what works");
}

#[test]
fn another_address_takes_over_without_a_gap() {
    let mut net = Net::pair(9);
    let (first, second) = (data(2), SocketAddrV4::new(Ipv4Addr::new(10, 1, 0, 2), DATA));
    net.also.insert(*second.ip(), 2);
    let now = net.now;
    net.host(1).set_peer(name(2), PeerFacts { candidates: vec![first, second], ..facts(2) }, now);
    net.run_active(secs(3));
    assert_eq!(net.direct(1, 2).map(|d| d.remote), Some(first));
    net.changes(1);
    net.dead.insert(*first.ip());
    net.run_active(secs(4));
    assert_eq!(
        net.direct(1, 2),
        Some(Direct { remote: second, translated: false, rtt: Some(DELAY * 2), path_mtu: 1500 })
    );
    // It is another path: its size is measured anew.
    assert_eq!(net.changes(1), [Changed(name(2)), Changed(name(2))]);
    net.dead.clear();
    net.run_active(secs(30));
    assert_eq!(net.direct(1, 2).map(|d| d.remote), Some(second), "it sticks to what works");
}

/// Two hosts, the second behind a translator that forwards that port; where it shows.
fn translated(seed: u8, forwarded: u16) -> (Net, SocketAddrV4) {
    let mut net = Net::pair(seed);
    let public = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 7), 40_000);
    net.nat.insert(2, Nat { public, forwarded });
    (net, public)
}

#[test]
fn a_peer_behind_a_translator_is_found_where_it_was_heard() {
    let (mut net, public) = translated(10, DATA);
    net.run(secs(2));
    let found = SocketAddrV4::new(*public.ip(), DATA);
    assert_eq!(net.direct(1, 2).map(|d| d.remote), Some(found), "the port is the one it tells");
    assert_eq!(net.direct(2, 1).map(|d| d.remote), Some(data(1)), "its answers found the way back");
    let heard = net.events.iter().filter(|(_, _, e)| *e == Heard(name(2), *public.ip())).count();
    assert_eq!(heard, 1);
    net.run_active(secs(30));
    let heard = net.events.iter().filter(|(_, _, e)| matches!(e, Heard(..))).count();
    assert_eq!(heard, 1, "told once");
}

#[test]
fn a_forwarded_port_is_found_where_a_link_shows_it() {
    let (mut net, public) = translated(11, 7000);
    net.run(secs(5));
    assert_eq!((net.direct(1, 2), net.direct(2, 1)), (None, None));
    let (at, now) = (SocketAddrV4::new(*public.ip(), 7000), net.now);
    net.host(1).observed(name(2), at, now);
    net.run(secs(1));
    assert_eq!(net.direct(1, 2).map(|d| d.remote), Some(at));
    net.run_active(secs(9));
    assert_eq!(net.direct(2, 1).map(|d| d.remote), Some(data(1)), "answers go where questions find it");
}

#[test]
fn through_a_translator_that_forwards_nothing_paths_use_what_it_opened() {
    let (mut net, public) = translated(14, 0);
    net.run(secs(5));
    assert_eq!((net.direct(1, 2), net.direct(2, 1)), (None, None), "nobody keeps an opening open");
    let now = net.now;
    net.host(1).observed(name(2), SocketAddrV4::new(*public.ip(), DATA), now);
    net.host(2).set_translated(true);
    net.link_pair();
    net.run(secs(4));
    let opening = |remote| Some((remote, true));
    let found = |net: &Net, n, other| net.direct(n, other).map(|d| (d.remote, d.translated));
    assert_eq!(found(&net, 1, 2), opening(public));
    assert_eq!(found(&net, 2, 1), Some((data(1), false)), "answers come in where it opened");
    // The translator gives it another port.
    let moved = SocketAddrV4::new(*public.ip(), 40_001);
    net.nat.insert(2, Nat { public: moved, forwarded: 0 });
    net.run_active(secs(10));
    assert_eq!(found(&net, 1, 2), opening(moved));
    // The port is forwarded from now on: better than any opening.
    net.nat.insert(2, Nat { public: moved, forwarded: DATA });
    net.run_active(secs(3));
    assert_eq!(found(&net, 1, 2), Some((SocketAddrV4::new(*public.ip(), DATA), false)));
    assert_eq!(found(&net, 2, 1), Some((data(1), false)), "and answers come back");
}

#[test]
fn an_opening_is_left_with_the_last_reason_to_keep_it_open() {
    let (mut net, _) = translated(15, 0);
    net.host(2).set_translated(true);
    net.run_active(secs(5));
    assert!(net.direct(1, 2).is_some_and(|d| d.translated) && net.direct(2, 1).is_some());
    net.changes(1);
    net.run(ACTIVE_FOR + secs(2));
    assert_eq!(net.direct(1, 2), None);
    assert_eq!(net.changes(1), [Down(name(2))]);
    net.link_pair();
    net.run(secs(3));
    assert!(net.direct(1, 2).is_some() && net.direct(2, 1).is_some());
    let now = net.now;
    net.host(1).set_linked(&BTreeSet::new(), now);
    assert_eq!(net.direct(1, 2), None);
}

#[test]
fn an_address_that_a_link_shows_is_used_before_the_record_comes() {
    let mut net = Net::pair(12);
    let mut one = paths(1, cookie(1), 50);
    one.observed(name(2), data(2), net.now);
    assert_eq!(one.poll_timeout(), None, "nothing can be asked without a cookie");
    one.set_peer(name(2), PeerFacts { candidates: vec![], ..facts(2) }, net.now);
    net.hosts.insert(1, one);
    net.run(secs(1));
    assert_eq!(net.direct(1, 2).map(|d| d.remote), Some(data(2)));
}

#[test]
fn a_restarted_peer_with_another_cookie_stays_up() {
    let mut net = Net::pair(13);
    net.run_active(secs(5));
    net.changes(1);
    let (new, now) = (0xdead_beef, net.now);
    let mut again = paths(2, new, 77);
    again.set_mtu(1500, now);
    net.hosts.insert(2, again);
    // Until the new record is here, what is asked is not answered.
    net.run_active(millis(1400));
    let now = net.now;
    net.host(1).set_peer(name(2), PeerFacts { cookie: new, ..facts(2) }, now);
    net.host(2).set_peer(name(1), facts(1), now);
    net.run_active(secs(20));
    assert_eq!(net.changes(1), []);
    assert!(net.direct(1, 2).is_some() && net.direct(2, 1).is_some());
    let asked =
        net.log.iter().filter(|(at, p)| *at > now && p.sender == 1).filter_map(|(_, p)| Probe::decode(&p.bytes));
    assert!(asked.filter(|p| p.kind == Kind::Request).all(|p| p.cookie == new));
}

#[test]
fn a_peer_that_is_not_known_yet_is_answered() {
    let mut net = Net::pair(14);
    let now = net.now;
    net.host(2).remove_peer(name(1));
    net.run(secs(2));
    assert!(net.direct(1, 2).is_some());
    assert_eq!(net.hosts[&2].state(name(1), now), PathState::Untested);
}

#[test]
fn a_removed_peer_leaves_nothing_behind() {
    let mut net = Net::pair(15);
    net.run_active(secs(5));
    net.changes(1);
    net.host(1).remove_peer(name(2));
    assert_eq!((net.direct(1, 2), net.hosts[&1].poll_timeout()), (None, None));
    net.run(secs(60));
    assert_eq!(net.changes(1), []);
    let now = net.now;
    net.host(1).set_peer(name(2), facts(2), now);
    net.run(secs(2));
    assert_eq!(net.changes(1), [Up(name(2))]);
}

#[test]
fn a_peer_without_addresses_costs_nothing() {
    let mut one = paths(1, cookie(1), 1);
    let now = Instant::from_start(secs(1));
    one.set_peer(name(2), PeerFacts { candidates: vec![], ..facts(2) }, now);
    assert_eq!(one.poll_timeout(), None);
    assert_eq!(one.state(name(2), now), PathState::Untested);
}

#[test]
fn a_slow_path_stays_up() {
    // Answers come later than the shortest pause before a retry, and later than three of them.
    for delay in [450, 850] {
        let mut net = Net::pair(16);
        net.delay = millis(delay);
        net.run(secs(60));
        net.changes(1);
        // No answer is on its way when the traffic begins.
        net.run_active(secs(120));
        assert_eq!(net.changes(1), []);
        assert_eq!(
            net.direct(1, 2),
            Some(Direct { remote: data(2), translated: false, rtt: Some(net.delay * 2), path_mtu: 1500 })
        );
    }
}
