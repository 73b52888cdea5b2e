//! Whom packets are accepted from, and which way they leave, after news of several kinds.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    super::{
        entry::Verify,
        fixture::{key, name, uid},
        links::MeshConfig,
    },
    *,
};
use crate::proto::{
    boot::Identity,
    io::{DialId, Direction, LinkId, Underlay},
    rng::Rng,
};

const NOW: Instant = Instant::from_start(Duration::from_secs(1));
/// Both ends call the one link that there is so.
const LINK: LinkId = LinkId(1);

fn ip(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, n)
}

/// Peer `n`, alone, at address `n`.
fn mesh(n: u8) -> Mesh {
    let config = MeshConfig {
        identity: Identity {
            name: name(n),
            uid: uid(n),
            incarnation: 1,
            nickname: format!("host-{n}"),
            key: key(n, 0),
        },
        port: 6783,
        discovery: false,
        conn_limit: 200,
        targets: Vec::new(),
        tunnels: BTreeMap::new(),
        opener: Arc::new(Verify),
    };
    let mut mesh = Mesh::new(config, Rng::new([n; 32]), NOW);
    mesh.set_underlay(&Underlay { addrs: vec![ip(n)], mtu: 1500 }, 1450, NOW);
    mesh
}

/// Opens a link from `from` to `to`, which sees it come from `seen`.
fn link(from: &mut Mesh, to: &mut Mesh, seen: Ipv4Addr) {
    let at = (to.me.addrs[0], 6783).into();
    from.link_opened(LINK, at, Direction::Outbound(DialId(0)), [0; 32], NOW);
    to.link_opened(LINK, (seen, 40000).into(), Direction::Inbound, [0; 32], NOW);
    loop {
        let there = exchange(from, to);
        if !exchange(to, from) && !there {
            return;
        }
    }
}

/// Takes frames and probes from one to the other; false when there were none. The probes of `from` come from its link's
/// address.
fn exchange(from: &mut Mesh, to: &mut Mesh) -> bool {
    let source = to.links.get(&LINK).map(|link| link.remote.ip());
    let Some(std::net::IpAddr::V4(source)) = source else { return false };
    let mut any = false;
    while let Some(output) = from.poll_output() {
        match output {
            Output::Send { bytes, .. } => to.frame(LINK, &bytes, NOW),
            Output::Probe { bytes, .. } => to.probe(SocketAddrV4::new(source, 6783), &bytes, NOW),
            _ => continue,
        }
        any = true;
    }
    any
}

/// The addresses of peer `n` that were told last.
fn senders(mesh: &mut Mesh, n: u8) -> BTreeSet<Ipv4Addr> {
    let events: Vec<MeshEvent> = std::iter::from_fn(|| mesh.poll_event()).collect();
    let told = events.into_iter().filter_map(|event| match event {
        MeshEvent::Senders(peer, from) if peer == name(n) => Some(from),
        _ => None,
    });
    told.last().expect("addresses")
}

#[test]
fn a_translated_address_is_accepted_when_the_link_that_showed_it_is_gone() {
    let (mut open, mut behind, public) = (mesh(1), mesh(2), Ipv4Addr::new(198, 51, 100, 2));
    link(&mut behind, &mut open, public);
    assert_eq!(senders(&mut open, 2), BTreeSet::from([ip(2), public]));
    open.link_closed(LINK, "reset", NOW);
    // Nor are packets for it sent there any more.
    let through = TunnelTo { remote: SocketAddrV4::new(ip(3), 6784), short_id: 1, via: name(3), path_mtu: 0 };
    open.ways.insert(name(2), through);
    open.learn(name(2), NOW);
    assert_eq!(senders(&mut open, 2), BTreeSet::from([ip(2), public]));
}
