//! Newer replaces older; another store takes over only a name that is not in use; forgotten entries do not come back by
//! themselves.

use proptest::prelude::*;

use super::*;
use crate::proto::{
    fixture::{entry, key, name, other, record, uid},
    wire::entry::{Verifier as _, Verify, sign_record},
};

const NOBODY: &dyn Fn(PeerName, PeerUid) -> bool = &|_, _| false;
const ALL: &dyn Fn(PeerName, PeerUid) -> bool = &|_, _| true;

fn claim(n: u8, key: &str, sequence: u64) -> Arc<Entry> {
    other(n, Channel::Claims, key, sequence, Some(&[1]))
}

fn deleted(n: u8, key: &str, sequence: u64) -> Arc<Entry> {
    other(n, Channel::Claims, key, sequence, None)
}

impl Store {
    fn takes(&mut self, entry: Arc<Entry>) -> Offer {
        self.offer(entry, false, ALL)
    }

    fn take_all(&mut self, entries: &[Arc<Entry>]) {
        for entry in entries {
            assert_eq!(self.takes(Arc::clone(entry)), Offer::New);
        }
    }
}

/// The record of peer 1 with this floor.
fn floored(sequence: u64, floor: u64) -> Arc<Entry> {
    entry(&PeerRecord { floor: Point(1, floor), ..record(1, sequence, &[]) })
}

fn span(from: u64, to: u64, floor: u64) -> Span {
    let point = |sequence| if sequence == 0 { Point::ZERO } else { Point(1, sequence) };
    Span { owner: name(1), uid: uid(1), from: point(from), to: point(to), floor: Point(1, floor) }
}

fn named(entries: &[&Arc<Entry>]) -> BTreeSet<EntryKey> {
    entries.iter().map(|entry| entry.key.clone()).collect()
}

fn other_store(n: u8, version: u64) -> Arc<Entry> {
    Verify.open(&sign_record(&key(n, 1), &record(n, version, &[]))).expect("an entry")
}

#[test]
fn versions_only_increase_and_incarnations_count_first() {
    let mut store = Store::default();
    assert_eq!(store.offer(entry(&record(1, 5, &[])), false, ALL), Offer::New);
    assert_eq!(store.offer(entry(&record(1, 5, &[])), false, ALL), Offer::Old);
    assert_eq!(store.offer(entry(&record(1, 4, &[])), false, ALL), Offer::Old);
    let restarted = PeerRecord { point: Point(2, 1), ..record(1, 1, &[]) };
    assert_eq!(store.offer(entry(&restarted), false, ALL), Offer::New);
    assert_eq!(store.offer(entry(&record(1, 99, &[])), false, ALL), Offer::Old);
    assert_eq!(store.record(name(1)), Some(&restarted));
    assert_eq!(store.owners(), 1);
}

#[test]
fn another_store_takes_over_a_name_that_is_not_in_use() {
    let mut store = Store::default();
    assert_eq!(store.offer(entry(&record(1, 5, &[])), false, ALL), Offer::New);
    assert_eq!(store.offer(other_store(1, 9), false, ALL), Offer::Duplicate);
    assert_eq!(store.record(name(1)).map(|r| r.uid), Some(uid(1)));
    assert_eq!(store.offer(other_store(1, 1), false, NOBODY), Offer::New);
    assert_ne!(store.record(name(1)).map(|r| r.uid), Some(uid(1)));
    assert_eq!(store.owners(), 1);
}

#[test]
fn other_entries_follow_the_record_of_their_store() {
    let mut store = Store::default();
    assert_eq!(store.takes(claim(1, "a", 1)), Offer::Orphan);
    store.takes(entry(&record(1, 2, &[])));
    assert_eq!(store.takes(claim(1, "a", 1)), Offer::New);
    assert_eq!(store.takes(claim(1, "b", 3)), Offer::New);
    assert_eq!(store.takes(claim(1, "a", 1)), Offer::Old);
    assert_eq!(store.of(name(1)).count(), 3);
    store.offer(other_store(1, 1), false, NOBODY);
    assert_eq!(store.of(name(1)).count(), 1, "the entries of the former store went with it");
    let gone: Vec<&str> = store.dropped.iter().map(|entry| &*entry.key.key).collect();
    assert_eq!(gone, ["a", "b"], "readers of their channels are told");
}

#[test]
fn entries_of_an_owner_have_a_bound() {
    let mut store = Store::default();
    store.takes(entry(&record(1, 1, &[])));
    let full = |store: &mut Store, n: u64| store.takes(claim(1, &n.to_string(), n + 2));
    // Signing is what takes time here.
    let one = claim(1, "1", 3);
    let held = &mut store.buckets[bucket(name(1))][0].1;
    held.others = std::iter::repeat_n(one, ENTRIES_MAX - 2).collect();
    assert_eq!((full(&mut store, 5), full(&mut store, 6)), (Offer::New, Offer::Full));
}

#[test]
fn what_is_above_a_point_comes_in_order_the_record_first() {
    let mut store = Store::default();
    store.takes(entry(&record(1, 4, &[])));
    store.take_all(&[claim(1, "c", 2), claim(1, "b", 3), claim(1, "a", 5)]);
    let above = |sequence| {
        let entries = store.since(name(1), Point(1, sequence));
        entries.iter().map(|entry| entry.version.point.1).collect::<Vec<u64>>()
    };
    assert_eq!((above(0), above(2), above(5)), (vec![4, 2, 3, 5], vec![4, 3, 5], vec![]));
}

#[test]
fn spans_show_up_to_which_point_everything_is_held() {
    let mut store = Store::default();
    let (record, a, c) = (entry(&record(1, 1, &[])), claim(1, "a", 2), claim(1, "c", 4));
    store.take_all(&[Arc::clone(&record), Arc::clone(&a), Arc::clone(&c)]);
    let complete = |store: &Store| store.summary(name(1)).map(|s| s.complete);
    assert!(!store.span(&span(2, 4, 0), &named(&[&c])), "what is below it may be missing");
    assert_eq!(complete(&store), Some(Point::ZERO));
    assert!(!store.span(&span(0, 3, 0), &named(&[&record, &a])));
    assert_eq!(complete(&store), Some(Point(1, 3)));
    assert!(store.span(&span(2, 99, 0), &named(&[&c])), "no further than what is held");
    assert_eq!(complete(&store), Some(Point(1, 4)));
}

#[test]
fn tombstones_up_to_the_floor_go_and_nothing_comes_back() {
    let mut store = Store::default();
    let a = claim(1, "a", 2);
    store.take_all(&[floored(1, 0), Arc::clone(&a), deleted(1, "a", 3)]);
    assert!(store.span(&span(0, 3, 0), &BTreeSet::new()));
    assert_eq!((store.of(name(1)).count(), store.takes(Arc::clone(&a))), (2, Offer::Old));
    let before = store.bytes;
    store.takes(floored(4, 3));
    assert_eq!(store.of(name(1)).count(), 1);
    assert!(store.bytes < before);
    // A peer that was away offers it, with and without a span.
    assert_eq!(store.takes(Arc::clone(&a)), Offer::Old);
    assert_eq!(store.takes(deleted(1, "a", 3)), Offer::Old);
    store.span(&span(0, 2, 0), &named(&[&a]));
    assert_eq!(store.of(name(1)).count(), 1);
    assert_eq!(store.summary(name(1)).map(|s| s.complete), Some(Point(1, 3)));
}

#[test]
fn a_peer_that_was_away_drops_what_was_deleted_meanwhile() {
    let mut store = Store::default();
    let (a, b, c) = (claim(1, "a", 2), claim(1, "b", 3), claim(1, "c", 4));
    store.take_all(&[floored(1, 0), Arc::clone(&a), Arc::clone(&b), Arc::clone(&c)]);
    assert!(store.span(&span(0, 4, 0), &named(&[&a, &b, &c])));
    // Meanwhile "a" was deleted and "b" changed, and nobody keeps a tombstone any more.
    let (record, b) = (floored(9, 8), claim(1, "b", 7));
    store.takes(Arc::clone(&record));
    assert_eq!(store.summary(name(1)).map(|s| s.complete), Some(Point::ZERO), "everything is asked for");
    assert_eq!(store.of(name(1)).count(), 4, "and nothing goes before it is known");
    assert_eq!(store.offer(Arc::clone(&b), true, ALL), Offer::New);
    assert!(!store.span(&span(0, 4, 8), &named(&[&record, &c])), "a first page");
    assert_eq!(store.of(name(1)).count(), 4);
    assert!(store.span(&span(4, 9, 8), &named(&[&b])));
    let gone: Vec<&str> = store.dropped.iter().map(|entry| &*entry.key.key).collect();
    assert_eq!(gone, ["a"]);
    let held: Vec<&str> = store.of(name(1)).skip(1).map(|entry| &*entry.key.key).collect();
    assert_eq!(held, ["b", "c"]);
}

#[test]
fn a_forgotten_owner_comes_back_by_a_new_version_or_reached() {
    let mut store = Store::default();
    let old = entry(&record(1, 5, &[]));
    store.offer(Arc::clone(&old), false, ALL);
    store.takes(claim(1, "a", 1));
    let before = store.digest();
    store.forget(name(1), Instant::default());
    assert_eq!((store.owners(), store.digest()), (0, 0));
    assert_eq!(store.offer(Arc::clone(&old), false, ALL), Offer::Old);
    assert!(store.restore(name(1)));
    assert_eq!((store.owners(), store.digest()), (1, before));
    store.forget(name(1), Instant::default());
    assert_eq!(store.offer(entry(&record(1, 6, &[])), false, ALL), Offer::New);
    assert_eq!(store.of(name(1)).count(), 2);
    store.forget(name(1), Instant::default());
    store.expire(Instant::from_start(RETAINED_FOR));
    assert!(!store.restore(name(1)));
    assert_eq!(store.offer(old, false, ALL), Offer::New, "it is not retained any more");
}

proptest! {
    #[test]
    fn entries_in_any_order_give_the_same_digests(order in Just((0_usize..24).collect::<Vec<_>>()).prop_shuffle()) {
        let entries: Vec<_> = (0..24_u8).map(|n| entry(&record(n % 6, u64::from(n / 6), &[n % 5]))).collect();
        let (mut a, mut b) = (Store::default(), Store::default());
        for entry in &entries {
            a.offer(Arc::clone(entry), false, ALL);
        }
        for at in order {
            b.offer(Arc::clone(&entries[at]), false, ALL);
        }
        prop_assert_eq!(a.digests(), b.digests());
        prop_assert_eq!(a.digest(), b.digest());
        prop_assert_eq!(a.iter().count(), 6);
        prop_assert_eq!(a.bytes, a.iter().map(|e| e.raw.len()).sum::<usize>());
    }
}

#[test]
fn entries_of_former_launches_end_with_the_floor() {
    let mut store = Store::default();
    let old = claim(1, "old", 2);
    store.take_all(&[entry(&record(1, 1, &[])), Arc::clone(&old)]);
    let relaunched = |sequence, floor| entry(&PeerRecord { point: Point(2, sequence), floor, ..record(1, 1, &[]) });
    store.takes(relaunched(1, Point::ZERO));
    assert_eq!(store.of(name(1)).count(), 2, "it may say it anew");
    store.takes(relaunched(2, Point(2, 0)));
    assert_eq!((store.of(name(1)).count(), store.dropped.len()), (1, 1));
    assert_eq!(store.offer(old, true, ALL), Offer::Old, "whoever names it");
}

#[test]
fn what_may_be_deleted_is_not_named() {
    let mut store = Store::default();
    let (a, b) = (claim(1, "a", 2), claim(1, "b", 9));
    store.take_all(&[floored(1, 0), Arc::clone(&a), Arc::clone(&b), floored(10, 8)]);
    let sent: Vec<&str> = store.since(name(1), Point::ZERO).iter().map(|entry| &*entry.key.key).collect();
    assert_eq!(sent, ["", "b"], "a may have been deleted by now");
    store.span(&span(0, 8, 8), &named(&[&a]));
    let sent: Vec<&str> = store.since(name(1), Point::ZERO).iter().map(|entry| &*entry.key.key).collect();
    assert_eq!(sent, ["", "a", "b"], "it was not");
}
