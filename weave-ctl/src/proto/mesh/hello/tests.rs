//! Who is let in when there is no room.

use std::collections::BTreeSet;

use super::{
    super::{
        fixture::{NOW, entry, ip, link, mesh, name, record},
        links::PUBLISH_AFTER,
        topology::settle_time,
    },
    *,
};
use crate::proto::io::{DialId, Output, Target};

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
