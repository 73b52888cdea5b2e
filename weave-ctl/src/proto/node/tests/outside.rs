//! What no peer that keeps to the rules sends, and addresses that no container is given.

use super::*;
use crate::proto::{command::AddrRequest, wire::RingMessage};

#[test]
fn underlay_addresses_are_given_to_no_container() {
    let mut net = Net::new(2, &[1, 2]);
    net.connect(1, 2);
    net.answer(&[(1, 2)]);
    net.run(Duration::from_secs(5));
    let on_link = vec!["198.51.100.9/24".parse().unwrap()];
    net.at(1).handle_input(Input::Underlay(Underlay { addrs: vec![ip(1)], on_link, default_mtu: 1500 }), NOW);
    let never = [ip(1), ip(2), Ipv4Addr::new(198, 51, 100, 77), Ipv4Addr::new(127, 0, 0, 5)];
    for (request, addr) in never.into_iter().enumerate() {
        let asked = vec![AddrRequest::Fixed(addr, Some(24))];
        net.ask(1, request as u64, Command::Attach(container("c"), asked));
        net.deliver();
        let (_, reply) = net.replies.pop().expect("refused at once");
        let why = reply.expect_err("refused").0;
        assert!(why.contains("given to no container") && why.contains(&addr.to_string()), "{why}");
    }
}

#[test]
fn a_peer_that_sends_nonsense_is_named_in_status() {
    let mut net = Net::new(2, &[1, 2]);
    net.connect(1, 2);
    net.answer(&[(1, 2)]);
    net.run(Duration::from_secs(2));
    let part = net.at(1).keeper.ring().expect("a ring").whole();
    let (now, session) = (net.now, net.at(1).sessions.to(name(2)).map(|_| SessionId(0)).expect("a session"));
    let owner = id(2);
    let shares = vec![(part.range.network(), (0, u64::MAX, owner, owner))];
    let (range, origin) = (part.range, part.origin);
    let message = RingMessage { range, origin, shares, limits: vec![], removed: vec![], whole: true };
    for _ in 0..3 {
        net.at(1).ring_received(session, name(2), message.clone(), now);
        net.at(1).pump(now);
    }
    net.deliver();
    let warnings = net.at(1).status(now).status.warnings;
    let named = |text: &String| text.contains("3 messages") && text.contains("host-2") && text.contains("epoch");
    assert!(warnings.iter().any(named), "{warnings:?}");
    assert!(net.log.iter().filter(|line| line.contains("refused a message")).count() == 2, "{:?}", net.log);
}
