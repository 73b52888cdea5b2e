//! Opened once, and never instead of being verified.

use weave_ctl::proto::{
    key::SecretKey,
    name::PeerName,
    wire::entry::{Channel, EntryKey, Point, sign},
};

use super::*;

fn raw(version: u64) -> Vec<u8> {
    let key = SecretKey::from_bytes([1; 32]);
    let under = EntryKey { owner: PeerName::from_bytes([0, 0, 0, 0, 0, 1]), channel: Channel::Space, key: "".into() };
    sign(&key, under, Point(1, version), Some(&[]))
}

#[test]
fn all_share_what_was_opened_once() {
    let shared = Shared::default();
    let one = shared.open(&raw(1)).unwrap();
    assert!(Arc::ptr_eq(&one, &shared.open(&raw(1)).unwrap()));
    assert!(!Arc::ptr_eq(&one, &shared.open(&raw(2)).unwrap()));
    assert_eq!(shared.peek(&raw(1)).unwrap(), Verify.peek(&raw(1)).unwrap());
    assert_eq!(shared.peek(&raw(3)).unwrap(), Verify.peek(&raw(3)).unwrap(), "not opened yet");
}

#[test]
fn a_forgery_is_refused_however_often_it_comes() {
    let shared = Shared::default();
    let _held = shared.open(&raw(1)).unwrap();
    let mut forged = raw(1);
    *forged.last_mut().unwrap() ^= 1;
    assert!(shared.open(&forged).is_err() && shared.open(&forged).is_err());
}

#[test]
fn what_nobody_holds_is_let_go() {
    let shared = Shared::default();
    let held = shared.open(&raw(1)).unwrap();
    drop(shared.open(&raw(2)).unwrap());
    shared.opened().prune();
    assert_eq!(shared.opened().entries.len(), 1);
    drop(held);
    shared.opened().prune();
    assert_eq!(shared.opened().entries.len(), 0);
}
