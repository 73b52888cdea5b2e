//! Peers for the tests of this room: peer `n` is called `::n` and has a key of its own.

use std::{net::Ipv4Addr, sync::Arc};

use super::entry::{Entry, Opener as _, PeerRecord, RecordLink, Verify, sign_record};
use crate::proto::{
    key::SecretKey,
    name::{PeerName, PeerUid},
    rng::Rng,
};

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
        addrs: vec![Ipv4Addr::new(192, 0, 2, n)],
        control_port: 6783,
        data_port: 6784,
        mtu: 1450,
        cookie: u64::from(n),
        links: links.iter().map(link).collect(),
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
