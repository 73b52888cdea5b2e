//! What passes between two hosts.

use super::*;

const NOW: Instant = Instant::from_start(Duration::from_secs(100));

/// A packet of a flow.
fn packet(net: &Net, from: HostId, to: SocketAddrV4, len: u32) -> Result<Passed, Stop> {
    net.packet((from, FLOW_PORT), to, len, NOW)
}

fn to(host: HostId) -> SocketAddrV4 {
    SocketAddrV4::new(underlay(host), DATA_PORT)
}

#[test]
fn data_is_cut_one_way_and_control_for_the_pair() {
    let mut net = Net::default();
    net.cut(1, 2, What::Data);
    assert_eq!(packet(&net, 1, to(2), 100), Err(Stop::Cut));
    let source = SocketAddrV4::new(underlay(2), FLOW_PORT);
    assert_eq!(packet(&net, 2, to(1), 100), Ok(Passed { host: 1, port: DATA_PORT, source }));
    assert!(net.control(1, 2) && !net.data_both_ways(2, 1));
    net.cut(2, 1, What::Control);
    assert!(!net.control(1, 2) && !net.dialable(1, 2) && net.dialable(3, 2));
    net.mend(2, 1);
    assert!(net.dialable(1, 2) && net.data_both_ways(1, 2));
}

#[test]
fn a_partition_divides_everything_and_heals() {
    let mut net = Net::default();
    net.divide(BTreeMap::from([(1, 1), (3, 2)]));
    for (a, b, passes) in [(1, 2, false), (2, 4, true), (1, 3, false), (1, 1, true)] {
        assert_eq!(net.control(a, b), passes, "{a} {b}");
        assert_eq!(packet(&net, a, to(b), 100).is_ok(), passes && a != b, "{a} {b}");
    }
    net.heal();
    assert!(net.data_both_ways(1, 3));
}

#[test]
fn what_never_passes_is_not_healed() {
    let mut net = Net::default();
    net.never(1, 2, What::Data);
    net.never(1, 3, What::Control);
    assert!(net.joinable(2, 3) && !net.joinable(2, 1) && !net.joinable(3, 1));
    net.cut(2, 3, What::All);
    net.mend(1, 2);
    net.heal();
    assert!(net.data_both_ways(2, 3) && net.control(2, 3));
    assert_eq!(packet(&net, 1, to(2), 100), Err(Stop::Cut));
    assert!(packet(&net, 2, to(1), 100).is_ok() && net.control(1, 2));
    assert!(!net.dialable(1, 3) && net.data_both_ways(1, 3));
}

#[test]
fn a_packet_beyond_the_path_is_lost() {
    let mut net = Net::default();
    net.place(4, Nat::None, 1400);
    net.limit(2, 1, 1450);
    assert_eq!(packet(&net, 1, to(2), 1451), Err(Stop::TooBig));
    assert!(packet(&net, 2, to(1), 1450).is_ok());
    assert_eq!(packet(&net, 1, to(3), 1501), Err(Stop::TooBig));
    assert_eq!(packet(&net, 1, to(4), 1401), Err(Stop::TooBig));
}

#[test]
fn behind_nat_a_host_answers_and_is_never_dialled() {
    let mut net = Net::default();
    net.place(3, Nat::Forwarding, MTU);
    net.place(4, Nat::Closed, MTU);
    for host in [3, 4] {
        let sent = packet(&net, host, to(1), 100).unwrap();
        assert_eq!((sent.host, *sent.source.ip()), (1, router(host)));
        let back = |net: &Net, from, at| net.packet((1, from), sent.source, 100, at).map(|b| (b.host, b.port));
        net.open(host, FLOW_PORT, SocketAddrV4::new(underlay(1), FLOW_PORT), NOW);
        assert_eq!(back(&net, DATA_PORT, NOW), Err(Stop::Shut), "it sent to another port");
        net.open(host, DATA_PORT, to(1), NOW);
        assert_eq!(back(&net, DATA_PORT, NOW), Err(Stop::Shut), "it sent from another port");
        net.open(host, FLOW_PORT, to(1), NOW);
        assert_eq!(back(&net, DATA_PORT, NOW), Ok((host, FLOW_PORT)));
        assert_eq!(back(&net, FLOW_PORT + 1, NOW), Err(Stop::Shut), "from another port");
        assert_eq!(back(&net, DATA_PORT, NOW + OPEN_FOR), Err(Stop::Shut), "too late");
        assert_eq!(packet(&net, 1, to(host), 100), Err(Stop::NoHost), "a private address");
        assert!(net.dialable(host, 1) && !net.dialable(1, host));
        let fixed = net.packet((host, DATA_PORT), to(1), 100, NOW).unwrap().source;
        assert_eq!(
            net.packet((1, DATA_PORT), fixed, 100, NOW).map(|b| b.port),
            Ok(DATA_PORT),
            "from data port to data port"
        );
    }
    let data = |host| packet(&net, 1, SocketAddrV4::new(router(host), DATA_PORT), 100).map(|p| (p.host, p.port));
    assert_eq!((data(3), data(4)), (Ok((3, DATA_PORT)), Err(Stop::NoPort)));
    assert!(net.data_both_ways(1, 3) && net.data_both_ways(1, 4) && !net.data_both_ways(3, 4));
    net.heal();
    assert!(!net.dialable(1, 3), "no fault");
}

#[test]
fn a_stateful_filter_lets_in_answers_at_the_ports_that_asked() {
    let mut net = Net::default();
    net.place(2, Nat::Stateful, MTU);
    assert_eq!(packet(&net, 1, to(2), 100), Err(Stop::Shut));
    net.open(2, DATA_PORT, to(1), NOW);
    assert_eq!(packet(&net, 1, to(2), 100), Err(Stop::Shut), "from another port than it sent to");
    assert_eq!(net.packet((1, DATA_PORT), to(2), 100, NOW).map(|p| p.port), Ok(DATA_PORT));
    net.keep_open(2, DATA_PORT, to(1), NOW + OPEN_FOR / 2);
    net.keep_open(2, FLOW_PORT, to(1), NOW);
    let late = NOW + OPEN_FOR;
    assert!(net.packet((1, DATA_PORT), to(2), 100, late).is_ok());
    let flow = SocketAddrV4::new(underlay(2), FLOW_PORT);
    assert_eq!(net.packet((1, DATA_PORT), flow, 100, NOW), Err(Stop::Shut), "an answer opens nothing");
}

#[test]
fn an_answer_comes_from_where_the_request_was_sent() {
    let mut net = Net::default();
    net.place(3, Nat::Forwarding, MTU);
    let asked = SocketAddrV4::new(router(3), DATA_PORT);
    let asker = packet(&net, 1, asked, 100).unwrap();
    assert_eq!((asker.host, asker.port), (3, DATA_PORT));
    let answer = net.answer(3, asked, asker.source, 74, NOW);
    assert_eq!(answer, Ok(Passed { host: 1, port: FLOW_PORT, source: asked }));
    let own = net.packet((3, DATA_PORT), asker.source, 74, NOW).unwrap().source;
    assert_ne!(own, asked, "what is no answer comes from a port of the router");
}

#[test]
fn a_filter_stops_what_comes_in() {
    let mut net = Net::default();
    net.filter(2, What::Data);
    assert_eq!(packet(&net, 1, to(2), 100), Err(Stop::Filtered));
    assert!(packet(&net, 2, to(1), 100).is_ok() && net.dialable(1, 2));
    net.filter(2, What::Control);
    assert!(!net.dialable(1, 2) && net.dialable(2, 1) && net.control(1, 2), "connections that are open stay");
}

#[test]
fn packets_to_the_bridge_stay_where_they_are() {
    let net = Net::default();
    assert_eq!(packet(&net, 1, SocketAddrV4::new(BRIDGE, DATA_PORT), 100), Err(Stop::NoHost));
}
