//! What others may cause by sending what they like.

use super::*;

fn contact(n: u16, kind: ProbeKind) -> Contact {
    let [a, b] = n.to_be_bytes();
    Contact { from: SocketAddrV4::new(Ipv4Addr::new(203, 0, a, b), 6784), origin: PEER, kind }
}

#[test]
fn forged_replies_move_no_path() {
    let mut net = Net::new();
    net.join_relay(RELAY);
    net.paths.set_relays(PEER, (&[RELAY], &[]), net.now);
    net.dead(addr(PEER));
    net.busy(PEER);
    net.run(ms(5000));
    let before = net.paths.active(PEER);
    for path_id in 0..50 {
        for back in 0..50 {
            let sent_at = Instant::from_start(net.now.since_start().saturating_sub(ms(back)));
            let reply = ProbeReply { peer: PEER, path_id, sent_at, received_at: net.now, size: 1500, hops: 0 };
            net.paths.reply(&reply, net.now);
        }
    }
    net.run(ms(100));
    assert_eq!(net.paths.active(PEER), before);
}

#[test]
fn flood_of_contacts_costs_a_bounded_number_of_challenges() {
    let mut net = Net::new();
    net.advertise(PEER);
    net.run(ms(5000));
    let before = net.total;
    for n in 0..10_000 {
        net.contact(&contact(n, ProbeKind::Request));
        net.contact(&contact(n, ProbeKind::Announce));
        net.contact(&contact(n, ProbeKind::Challenge(1)));
    }
    net.run(ms(100));
    assert!(net.total - before <= 4, "{} probes", net.total - before);
    assert!(net.watched.len() <= 2, "{:?}", net.watched);
    net.run(ms(10_000));
    assert_eq!(net.watched.len(), 1, "what nobody proved is forgotten");
}

#[test]
fn proof_without_a_challenge_proves_nothing() {
    let mut net = Net::new();
    net.advertise(PEER);
    net.run(ms(100));
    let proof = ProbeKind::Proof(1, Box::new([0; 68]));
    net.contact(&contact(1, proof));
    assert_eq!(net.senders[&PEER], BTreeSet::from([*addr(PEER).ip()]));
}

#[test]
fn peer_that_is_not_known_is_not_challenged() {
    let mut net = Net::new();
    net.contact(&contact(1, ProbeKind::Announce));
    net.run(ms(100));
    assert_eq!(net.total, 0);
}
