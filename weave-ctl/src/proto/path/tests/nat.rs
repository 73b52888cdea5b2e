//! NAT mappings and stateful filters: announcements, challenges, proofs.

use super::{
    fixture::{ME, key},
    *,
};

const MAPPED: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 2), 30_002);

/// The last challenge that was sent, if there was one.
fn challenged(net: &Net) -> Option<(SocketAddrV4, u64)> {
    net.probes.iter().rev().find_map(|(_, probe)| match probe.kind {
        ProbeKind::Challenge(nonce) => Some((probe.to, nonce)),
        _ => None,
    })
}

fn contact(origin: PeerName, kind: ProbeKind) -> Contact {
    Contact { from: MAPPED, origin, kind }
}

fn proof(signer: u8, nonce: u64) -> ProbeKind {
    let proof = challenge::prove(&key(signer), ME, PEER, nonce, *addr(ME).ip());
    ProbeKind::Proof(nonce, Box::new(proof))
}

#[test]
fn mapping_is_used_once_its_peer_proved_it() {
    let mut net = Net::new();
    net.dead(addr(PEER));
    net.busy(PEER);
    net.run(ms(2000));
    net.contact(&contact(PEER, ProbeKind::Announce));
    net.run(ms(10));
    let (to, nonce) = challenged(&net).expect("a challenge");
    assert_eq!(to, MAPPED);
    assert!(!net.senders[&PEER].contains(MAPPED.ip()), "nothing is proven yet");
    net.contact(&contact(PEER, proof(2, nonce)));
    net.run(ms(1000));
    let path = net.paths.active(PEER).expect("a path");
    assert_eq!((path.remote, path.fixed), (MAPPED, true));
    assert!(net.senders[&PEER].contains(MAPPED.ip()));
}

#[test]
fn announcement_from_an_advertised_address_needs_no_proof() {
    let mut net = Net::new();
    net.fixed_only.insert(addr(PEER));
    net.advertise(PEER);
    let from = Contact { from: addr(PEER), origin: PEER, kind: ProbeKind::Announce };
    net.contact(&from);
    net.session(PEER);
    net.run(ms(2000));
    assert_eq!(challenged(&net), None);
    let path = net.paths.active(PEER).expect("a path");
    assert_eq!((path.remote, path.fixed), (addr(PEER), true));
}

#[test]
fn filter_that_lets_answers_in_is_passed_from_the_data_port() {
    let mut net = Net::new();
    net.fixed_only.insert(addr(PEER));
    net.busy(PEER);
    net.run(ms(3000));
    let path = net.paths.active(PEER).expect("a path");
    assert_eq!((path.remote, path.fixed), (addr(PEER), true));
    net.fixed_only.clear();
    net.run(ms(8000));
    assert!(!net.paths.active(PEER).expect("a path").fixed, "by flow is better, once it answers");
}

#[test]
fn host_behind_nat_announces_itself_to_session_peers_each_15_s() {
    let mut net = Net::new();
    net.advertise(PEER);
    net.session(PEER);
    net.run(ms(1000));
    let announced = |net: &Net| net.probes.iter().filter(|(_, probe)| probe.kind == ProbeKind::Announce).count();
    assert_eq!(announced(&net), 0, "it is reported, and not behind NAT");
    net.paths.set_behind_nat(true, net.now);
    net.run(ms(60_000));
    assert!((4..=6).contains(&announced(&net)), "{}", announced(&net));
    assert!(net.probes.iter().all(|(_, p)| p.kind != ProbeKind::Announce || p.source_port == Some(6784)));
}

#[test]
fn host_that_a_session_peer_cannot_reach_announces_itself() {
    let mut net = Net::new();
    net.advertise(PEER);
    net.session(PEER);
    net.paths.set_reported(PEER, false, net.now);
    net.run(ms(10_000));
    assert!(net.probes.iter().any(|(_, probe)| probe.kind == ProbeKind::Announce));
}

#[test]
fn challenge_is_answered_with_a_proof() {
    let mut net = Net::new();
    net.advertise(PEER);
    net.run(ms(100));
    let from = Contact { from: addr(PEER), origin: PEER, kind: ProbeKind::Challenge(5) };
    net.contact(&from);
    net.run(ms(10));
    let sent = net.probes.iter().find_map(|(_, probe)| match &probe.kind {
        ProbeKind::Proof(5, proof) => Some((probe.to, proof.clone())),
        _ => None,
    });
    let (to, sent) = sent.expect("a proof");
    assert_eq!(to, addr(PEER));
    assert_eq!(*sent, challenge::prove(&net.key, PEER, ME, 5, *addr(PEER).ip()));
}
