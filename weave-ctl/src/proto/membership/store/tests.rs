//! Newer replaces older; another store takes over only a name that is not in use; forgotten entries do not come back by
//! themselves.

use proptest::prelude::*;

use super::*;
use crate::proto::{
    fixture::{entry, key, name, record, uid},
    wire::entry::{Verifier as _, Verify, sign, sign_record},
};

const NOBODY: &dyn Fn(PeerName, PeerUid) -> bool = &|_, _| false;
const ALL: &dyn Fn(PeerName, PeerUid) -> bool = &|_, _| true;

fn later(n: u8, channel: &str, version: u64) -> Arc<Entry> {
    Verify.open(&sign(&key(n, 0), name(n), channel, (1, version), vec![1])).expect("an entry")
}

fn other_store(n: u8, version: u64) -> Arc<Entry> {
    Verify.open(&sign_record(&key(n, 1), &record(n, version, &[]))).expect("an entry")
}

#[test]
fn versions_only_increase_and_incarnations_count_first() {
    let mut store = Store::default();
    assert_eq!(store.offer(entry(&record(1, 5, &[])), ALL), Offer::New);
    assert_eq!(store.offer(entry(&record(1, 5, &[])), ALL), Offer::Old);
    assert_eq!(store.offer(entry(&record(1, 4, &[])), ALL), Offer::Old);
    let restarted = PeerRecord { incarnation: 2, ..record(1, 1, &[]) };
    assert_eq!(store.offer(entry(&restarted), ALL), Offer::New);
    assert_eq!(store.offer(entry(&record(1, 99, &[])), ALL), Offer::Old);
    assert_eq!(store.record(name(1)), Some(&restarted));
    assert_eq!(store.owners(), 1);
}

#[test]
fn another_store_takes_over_a_name_that_is_not_in_use() {
    let mut store = Store::default();
    assert_eq!(store.offer(entry(&record(1, 5, &[])), ALL), Offer::New);
    assert_eq!(store.offer(other_store(1, 9), ALL), Offer::Duplicate);
    assert_eq!(store.record(name(1)).map(|r| r.uid), Some(uid(1)));
    assert_eq!(store.offer(other_store(1, 1), NOBODY), Offer::New);
    assert_ne!(store.record(name(1)).map(|r| r.uid), Some(uid(1)));
    assert_eq!(store.owners(), 1);
}

#[test]
fn entries_of_other_channels_follow_the_record() {
    let mut store = Store::default();
    assert_eq!(store.offer(later(1, "later", 1), ALL), Offer::Orphan);
    store.offer(entry(&record(1, 1, &[])), ALL);
    assert_eq!(store.offer(later(1, "later", 1), ALL), Offer::New);
    assert_eq!(store.of(name(1)).count(), 2);
    for n in 2..CHANNELS_MAX {
        assert_eq!(store.offer(later(1, &format!("channel {n}"), 1), ALL), Offer::New);
    }
    assert_eq!(store.offer(later(1, "one more", 1), ALL), Offer::Full);
    store.offer(other_store(1, 1), NOBODY);
    assert_eq!(store.of(name(1)).count(), 1, "the entries of the former store went with it");
}

#[test]
fn a_forgotten_owner_comes_back_by_a_new_version_or_reached() {
    let mut store = Store::default();
    let old = entry(&record(1, 5, &[]));
    store.offer(Arc::clone(&old), ALL);
    store.offer(later(1, "later", 1), ALL);
    let before = store.digest();
    store.forget(name(1), Instant::default());
    assert_eq!((store.owners(), store.digest()), (0, 0));
    assert_eq!(store.offer(Arc::clone(&old), ALL), Offer::Old);
    assert!(store.restore(name(1)));
    assert_eq!((store.owners(), store.digest()), (1, before));
    store.forget(name(1), Instant::default());
    assert_eq!(store.offer(entry(&record(1, 6, &[])), ALL), Offer::New);
    assert_eq!(store.of(name(1)).count(), 2);
    store.forget(name(1), Instant::default());
    store.expire(Instant::from_start(RETAINED_FOR));
    assert!(!store.restore(name(1)));
    assert_eq!(store.offer(old, ALL), Offer::New, "it is not retained any more");
}

proptest! {
    #[test]
    fn entries_in_any_order_give_the_same_digests(order in Just((0_usize..24).collect::<Vec<_>>()).prop_shuffle()) {
        let entries: Vec<_> = (0..24_u8).map(|n| entry(&record(n % 6, u64::from(n / 6), &[n % 5]))).collect();
        let (mut a, mut b) = (Store::default(), Store::default());
        for entry in &entries {
            a.offer(Arc::clone(entry), ALL);
        }
        for at in order {
            b.offer(Arc::clone(&entries[at]), ALL);
        }
        prop_assert_eq!(a.digests(), b.digests());
        prop_assert_eq!(a.digest(), b.digest());
        prop_assert_eq!(a.iter().count(), 6);
        prop_assert_eq!(a.bytes, a.iter().map(|e| e.raw.len()).sum::<usize>());
    }
}
