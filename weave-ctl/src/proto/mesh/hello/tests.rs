//! Who is let in: with which version, by which of two links, and when there is no room.

mod duplicates;

use std::collections::BTreeSet;

use super::{
    super::{
        entry::hello_proof,
        fixture::{NOW, entry, ip, key, link, mesh, name, raw, record},
        links::PUBLISH_AFTER,
        topology::settle_time,
    },
    *,
};
use crate::proto::io::{DialId, Direction, Output, Target};

/// Peer 1 with room for two links, both taken, of which it was told to dial the one to `named`; peer 3 is behind peer 2
/// as well.
fn full(named: &[u8]) -> Mesh {
    let mut mesh = linked(named);
    for told in [record(2, 9, &[1, 3]), record(3, 9, &[1, 2])] {
        mesh.gossip.store_mut().offer(entry(&told), &|_, _| true);
    }
    mesh
}

/// The same, but nothing joins peers 2 and 3 beside this one.
fn linked(named: &[u8]) -> Mesh {
    let mut mesh = self::mesh(1);
    mesh.conn_limit = 2;
    let targets = named.iter().map(|n| Target { host: ip(*n).to_string(), port: None });
    mesh.set_targets(targets.collect(), NOW);
    let dials: Vec<(DialId, Target)> = std::iter::from_fn(|| mesh.poll_output())
        .filter_map(|output| if let Output::Dial { dial, target } = output { Some((dial, target)) } else { None })
        .collect();
    for n in [2, 3] {
        let dial = dials.iter().find(|(_, target)| target.host == ip(n).to_string());
        let dial = dial.map_or(DialId(u64::MAX), |(dial, _)| *dial);
        link(&mut mesh, &mut self::mesh(n), (dial, LinkId(u64::from(n))), ip(1));
    }
    mesh.handle_timeout(NOW + PUBLISH_AFTER + settle_time(3));
    mesh
}

fn judged(mesh: &Mesh, n: u8) -> Verdict {
    mesh.judge((ip(n), 40000).into(), (1, 2), &record(n, 1, &[]))
}

#[test]
fn a_link_that_can_be_spared_makes_room_for_a_peer_that_nobody_else_reaches() {
    for (named, spared) in [(&[][..], 2), (&[2], 3), (&[3], 2), (&[2, 3], 2)] {
        let mesh = full(named);
        assert_eq!(*mesh.linked(), BTreeSet::from([2, 3].map(name)));
        let verdict = judged(&mesh, 4);
        assert!(
            matches!(&verdict, Verdict::Instead(links, _) if *links == [LinkId(spared)]),
            "told to dial {named:?}: {verdict:?}"
        );
    }
}

#[test]
fn a_peer_for_which_there_is_no_room_is_made_known() {
    let mut mesh = linked(&[]);
    assert_eq!(judged(&mesh, 4), Verdict::Full);
    link(&mut self::mesh(4), &mut mesh, (DialId(0), LinkId(4)), ip(4));
    assert_eq!(*mesh.linked(), BTreeSet::from([2, 3].map(name)));
    assert!(mesh.record(name(4)).is_some(), "peers with room may dial it");
}

/// What peer 1 makes of a hello of peer 2 that offers these versions: that of the link, or why there is none.
fn negotiated((min_version, max_version): (u16, u16)) -> Result<u16, String> {
    let (mut mesh, id, binding) = (self::mesh(1), LinkId(1), [7; 32]);
    mesh.link_opened(id, (ip(2), 40000).into(), Direction::Inbound, binding, NOW);
    while mesh.poll_output().is_some() {}
    let (entry, proof) = (raw(&record(2, 1, &[])), hello_proof(&key(2, 0), &binding, true));
    let hello = Hello { min_version, max_version, features: Vec::new(), nonce: 5, entry, proof };
    mesh.frame(id, &Message::Hello(Box::new(hello)).encode(), NOW);
    if let Some(up) = mesh.links.get(&id).and_then(|link| link.up.as_ref()) {
        return Ok(up.version);
    }
    assert!(!mesh.links.contains_key(&id) && mesh.record(name(2)).is_none(), "nothing of it is kept");
    let (mut told, mut closed) = (None, None);
    while let Some(output) = mesh.poll_output() {
        match output {
            Output::Send { bytes, .. } => told = Message::decode(&bytes).ok(),
            Output::Close { reason, .. } => closed = Some(reason),
            _ => {}
        }
    }
    let reason = closed.expect("it is closed");
    assert_eq!(told, Some(Message::Bye(reason.clone())), "the other side is told why");
    Err(reason)
}

#[test]
fn the_newest_version_that_both_speak_is_taken_and_a_refusal_names_both_ranges() {
    assert_eq!(wire::VERSIONS, (1, 1), "what is expected below");
    for theirs in [(0, 1), (1, 1), (1, 7), (0, u16::MAX)] {
        assert_eq!(negotiated(theirs), Ok(1), "{theirs:?}");
    }
    // The last one is upside down.
    for (min, max) in [(0, 0), (2, 9), (3, 1)] {
        let text = format!("remote version range [{min},{max}] is incompatible with ours [1,1]: upgrade the older one");
        assert_eq!(negotiated((min, max)), Err(text));
    }
}

#[test]
fn of_two_links_to_a_peer_its_later_launch_decides_and_then_the_lower_nonces() {
    let mut mesh = self::mesh(1);
    link(&mut mesh, &mut self::mesh(2), (DialId(0), LinkId(2)), ip(1));
    let judged = |incarnation, nonce| {
        let them = PeerRecord { incarnation, ..record(2, 1, &[]) };
        mesh.judge((ip(2), 40000).into(), (nonce, nonce), &them)
    };
    let instead = Verdict::Instead(vec![LinkId(2)], "superseded by another link to the same peer");
    let refused = Verdict::Refuse(format!("another link to {} is kept", name(2)));
    let cases = [(1, 0, &instead), (1, u64::MAX, &refused), (2, u64::MAX, &instead), (0, 0, &refused)];
    for (incarnation, nonce, verdict) in cases {
        assert_eq!(judged(incarnation, nonce), *verdict, "launch {incarnation}, nonces {nonce}");
    }
}
