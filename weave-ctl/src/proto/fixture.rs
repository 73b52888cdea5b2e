//! Peers for tests of several modules: peer `n` is called `::n` and has a key, an address and a record of its own.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use super::{
    key::SecretKey,
    name::{PeerId, PeerName, PeerUid},
    time::Instant,
    wire::entry::{
        Channel, Entry, EntryKey, PeerRecord, Point, ReportedSession, Verifier as _, Verify, sign, sign_record,
    },
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
    SecretKey::from_bytes(seed)
}

pub(super) fn uid(n: u8) -> PeerUid {
    key(n, 0).public().uid()
}

pub(super) fn id(n: u8) -> PeerId {
    PeerId { name: name(n), uid: uid(n) }
}

/// The address of peer `n`.
pub(super) fn ip(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, n)
}

/// The record of peer `n`, with sessions and direct paths to these.
pub(super) fn record(n: u8, sequence: u64, peers: &[u8]) -> PeerRecord {
    let session = |peer: &u8| ReportedSession {
        peer: name(*peer),
        uid: uid(*peer),
        address: format!("192.0.2.{peer}:6783"),
        outbound: true,
    };
    PeerRecord {
        name: name(n),
        uid: uid(n),
        point: Point(1, sequence),
        nickname: format!("host-{n}"),
        addrs: vec![ip(n)],
        control_port: 6783,
        data_port: 6784,
        mtu: 1500,
        floor: Point(1, 0),
        sessions: peers.iter().map(session).collect(),
        paths: peers.iter().map(|peer| name(*peer)).collect(),
    }
}

/// `record`, signed with its owner's key.
pub(super) fn raw(record: &PeerRecord) -> Vec<u8> {
    let [.., n] = record.name.bytes();
    sign_record(&key(n, 0), record)
}

/// An entry of peer `n` that is no record; without a value its tombstone.
pub(super) fn other(n: u8, channel: Channel, key_: &str, sequence: u64, value: Option<&[u8]>) -> Arc<Entry> {
    let under = EntryKey { owner: name(n), channel, key: key_.into() };
    Verify.open(&sign(&key(n, 0), under, Point(1, sequence), value)).expect("an entry")
}

pub(super) fn entry(record: &PeerRecord) -> Arc<Entry> {
    Verify.open(&raw(record)).expect("an entry")
}
