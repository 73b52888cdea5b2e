//! When a neighbour may relay where a straight path fell silent.

use std::{net::SocketAddrV4, time::Duration};

use super::{
    super::{
        fixture::{NOW, ip, link, mesh, name},
        paths::PathState,
    },
    *,
};
use crate::proto::io::{DialId, Output};

/// Carries everything between three peers, where link `mn` leads from peer `m` to `n`, but no probe between 1 and 3.
fn carry(peers: &mut [Mesh; 3], now: Instant) {
    for from in 1..=3_u8 {
        peers[usize::from(from) - 1].handle_timeout(now);
    }
    let mut quiet = 0;
    while quiet < 3 {
        quiet += 1;
        for from in 1..=3_u8 {
            while let Some(output) = peers[usize::from(from) - 1].poll_output() {
                quiet = 0;
                match output {
                    Output::Send { link, bytes } => {
                        let ends = [link.0 / 10, link.0 % 10];
                        let other = ends.into_iter().find(|end| *end != u64::from(from)).expect("another end");
                        peers[other as usize - 1].frame(link, &bytes, now);
                    }
                    Output::Probe { to, bytes } => {
                        let other = to.ip().octets()[3];
                        if from + other != 4 {
                            peers[usize::from(other) - 1].probe(SocketAddrV4::new(ip(from), 6784), &bytes, now);
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

/// Peer 1 of a triangle when it finds the data port of peer 3 silent, and has heard of nobody for a while.
fn silent() -> (Mesh, Instant) {
    let mut peers = [mesh(1), mesh(2), mesh(3)];
    let [one, two, three] = &mut peers;
    link(two, three, (DialId(0), LinkId(23)), ip(2));
    link(two, one, (DialId(1), LinkId(12)), ip(2));
    link(three, one, (DialId(0), LinkId(13)), ip(3));
    for turn in 1..16 {
        carry(&mut peers, NOW + Duration::from_millis(50) * turn);
    }
    let [mut one, ..] = peers;
    let mut now = NOW;
    while !matches!(one.paths.state(name(3), now), PathState::Down { .. }) {
        now = one.poll_timeout().expect("something goes on").0;
        one.handle_timeout(now);
    }
    (one, now)
}

fn via(mesh: &Mesh, peer: u8) -> Option<PeerName> {
    mesh.ways.get(&name(peer)).map(|way| way.tunnel.via)
}

#[test]
fn a_neighbour_relays_only_once_it_was_heard_from_after_the_path_fell_silent() {
    let (mut one, now) = silent();
    let hop = one.topology.hop(name(3)).map(|hop| hop.via);
    assert_eq!((hop, via(&one, 3)), (Some(name(2)), Some(name(3))), "a relay is known, and left alone");
    let wanted = std::iter::from_fn(|| one.poll_output()).filter_map(|output| match output {
        Output::Send { link: LinkId(12), bytes } => Message::decode(&bytes).ok(),
        _ => None,
    });
    let want = Message::Want(vec![Key { owner: name(2), channel: PEERS.into() }]);
    assert_eq!(wanted.filter(|message| *message == want).count(), 1, "it is asked once");
    one.frame(LinkId(12), &Message::Ping.encode(), now + Duration::from_millis(1));
    assert_eq!(via(&one, 3), Some(name(2)));
}

#[test]
fn a_relay_that_is_gone_is_not_waited_for() {
    let (mut one, now) = silent();
    one.link_closed(LinkId(12), "reset", now);
    assert!(one.doubts.asked.is_empty());
}
