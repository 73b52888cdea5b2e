//! Peers for the tests of this room: peer `n` is called `::n` and has a key of its own.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use super::{
    Mesh, MeshConfig,
    entry::{Entry, Opener as _, PeerRecord, RecordLink, Verify, sign_record},
    topology::GRACE,
};
use crate::proto::{
    boot::Identity,
    io::{DialId, Direction, LinkId, Output, Underlay},
    key::SecretKey,
    name::{PeerName, PeerUid},
    rng::Rng,
    time::Instant,
};

/// When everything in a test that needs no time happens.
pub(super) const NOW: Instant = Instant::from_start(Duration::from_secs(1));

pub(super) fn name(n: u8) -> PeerName {
    PeerName::from_bytes([0, 0, 0, 0, 0, n])
}

/// The key of peer `n`'s store number `store`.
pub(super) fn key(n: u8, store: u8) -> SecretKey {
    let mut seed = [n; 32];
    seed[0] = store;
    SecretKey::new(&mut Rng::new(seed))
}

pub(super) fn uid(n: u8) -> PeerUid {
    key(n, 0).public().uid()
}

/// The record of peer `n`, with established links to these.
pub(super) fn record(n: u8, version: u64, links: &[u8]) -> PeerRecord {
    let link = |peer: &u8| RecordLink {
        peer: name(*peer),
        uid: uid(*peer),
        address: format!("192.0.2.{peer}:6783"),
        outbound: true,
        established: true,
        path_mtu: 0,
    };
    PeerRecord {
        name: name(n),
        uid: uid(n),
        incarnation: 1,
        version,
        nickname: format!("host-{n}"),
        short_id: u16::from(n),
        addrs: vec![ip(n)],
        control_port: 6783,
        data_port: 6784,
        mtu: 1450,
        cookie: u64::from(n),
        links: links.iter().map(link).collect(),
        narrow: Vec::new(),
    }
}

/// `record`, signed with its owner's key.
pub(super) fn raw(record: &PeerRecord) -> Vec<u8> {
    let [.., n] = record.name.bytes();
    sign_record(&key(n, 0), record)
}

pub(super) fn entry(record: &PeerRecord) -> Arc<Entry> {
    Verify.open(&raw(record)).expect("an entry")
}

/// The address of peer `n`.
pub(super) fn ip(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, n)
}

/// Peer `n`, alone and without discovery.
pub(super) fn mesh(n: u8) -> Mesh {
    relaunched(n, Vec::new())
}

/// The same, where an earlier run accepted packets from `senders`.
pub(super) fn relaunched(n: u8, senders: Vec<(Ipv4Addr, PeerName)>) -> Mesh {
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
        senders,
        channels: Vec::new(),
        opener: Arc::new(Verify),
    };
    let mut mesh = Mesh::new(config, GRACE, Rng::new([n; 32]), NOW);
    mesh.set_underlay(&Underlay { addrs: vec![ip(n)], default_mtu: 1500 }, 1450, NOW);
    mesh
}

/// Opens a link from `from`, by that attempt, to `to`, which sees it come from `seen`; both ends call it `id`.
pub(super) fn link(from: &mut Mesh, to: &mut Mesh, ids: (DialId, LinkId), seen: Ipv4Addr) {
    link_at(from, to, ids, seen, NOW);
}

/// The same at `now`.
pub(super) fn link_at(from: &mut Mesh, to: &mut Mesh, (dial, id): (DialId, LinkId), seen: Ipv4Addr, now: Instant) {
    let at = (to.me().addrs[0], 6783).into();
    from.link_opened(id, at, Direction::Outbound(dial), [0; 32], now);
    to.link_opened(id, (seen, 40000).into(), Direction::Inbound, [0; 32], now);
    pass(from, to, id, now);
}

/// Takes what waits on link `id` to the other end of it, and what follows from that, until nothing waits.
pub(super) fn pass(one: &mut Mesh, other: &mut Mesh, id: LinkId, now: Instant) {
    loop {
        let there = exchange(one, other, id, now);
        if !exchange(other, one, id, now) && !there {
            return;
        }
    }
}

/// Takes the frames of a link, and probes, from one to the other; false when there were none.
fn exchange(from: &mut Mesh, to: &mut Mesh, id: LinkId, now: Instant) -> bool {
    let source = to.links.get(&id).map(|link| link.remote.ip());
    let mut any = false;
    while let Some(output) = from.poll_output() {
        match (output, source) {
            (Output::Send { bytes, link }, _) if link == id => to.frame(id, &bytes, now),
            (Output::Probe { bytes, .. }, Some(IpAddr::V4(at))) => to.probe(SocketAddrV4::new(at, 6783), &bytes, now),
            _ => continue,
        }
        any = true;
    }
    any
}
