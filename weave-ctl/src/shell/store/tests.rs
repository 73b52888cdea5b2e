//! Round trips, damage, and power cuts.

mod power;
mod room;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use ciborium::Value;
use proptest::prelude::*;
use redb::{Database, ReadableDatabase, TableDefinition};

use super::{FILE, KEY_SCHEMA, META, NEW_FILE, NODE, RESERVATIONS, SCHEMA, Store, StoreError, decode, encode};
use crate::proto::{
    boot::{Identity, Init, LaunchParams, Stored},
    domain::{Domain, Registered},
    election::{Accepted, Ballot, Vote},
    io::{Record, Target},
    ipam::{Ring, Share, keeper::Inherited},
    key::SecretKey,
    name::{PeerId, PeerName, PeerUid},
    reservation::{Attachment, BootId, Netns, NetnsId, Place, Reservation},
    wire::{letter::Positions, takeover::Takeover},
};

fn identity(incarnation: u64) -> Identity {
    let name = PeerName::derived([1, 2, 3, 4, 5, 6]);
    let key = SecretKey::from_bytes([9; 32]);
    Identity { name, uid: key.public().uid(), key, nickname: "h\u{f6}st".to_owned(), incarnation }
}

fn reservation(host_if: &str) -> Reservation {
    let id = NetnsId { device: 4, inode: 4_026_532_621, boot: BootId([7; 16]) };
    let attachment = Attachment {
        place: Place::Netns(Netns { path: "/run/netns/c1".to_owned(), id }),
        host_if: host_if.to_owned(),
        mtu: 1450,
        absent: true,
        unfinished: false,
    };
    let addrs = vec!["10.32.0.1/12".parse().unwrap(), "10.40.0.1/24".parse().unwrap()];
    let id = Some("reserved-1-1".to_owned());
    Reservation { addrs, since: 1 << 40, id, fixed: true, attachment: Some(attachment) }
}

fn registered() -> Registered {
    let name = |text| Domain::default().name(text).unwrap();
    Registered { follow: [name("web")].into(), fixed: [(name("a.b"), [10, 32, 0, 1].into())].into() }
}

/// One of every record, and what they make of an empty store.
fn everything() -> (Vec<Record>, Stored) {
    let name = PeerName::derived([6; 6]);
    let params = LaunchParams {
        range: "10.32.0.0/12".parse().unwrap(),
        default_subnet: "10.32.0.0/16".parse().unwrap(),
        seeds: vec![name],
        init: Init::Election(3),
        peers: vec![Target { host: "b".to_owned(), port: None }],
    };
    let targets =
        vec![Target { host: "a".to_owned(), port: None }, Target { host: "10.0.0.2".to_owned(), port: Some(7) }];
    let peer = PeerId { name, uid: PeerUid(5) };
    let ring = Ring {
        range: params.range,
        origin: vec![peer],
        shares: [("10.32.0.0".parse().unwrap(), Share { epoch: 3, ..Share::first(peer) })].into(),
        removed: [(peer, Takeover::sign(7, peer, 1, name, &SecretKey::from_bytes([6; 32])))].into(),
    };
    let ballot = Ballot { round: 2, proposer: peer };
    let accepted = Some(Accepted { ballot, origin: vec![peer] });
    let vote = Vote { promised: Some(ballot), accepted, known: vec![peer], ..Vote::new(params.range, Some(3)) };
    let nicknames = BTreeMap::from([(name, "h\u{f6}st".to_owned())]);
    let positions = Positions { first: [10, 32, 0, 0].into(), last: [10, 32, 0, 9].into(), generation: 1, epoch: 2 };
    let inherited = vec![Inherited { positions, from: peer, peers: Some([peer].into()) }];
    let records = vec![
        Record::Identity(identity(1)),
        Record::Params(params.clone()),
        Record::Targets(targets.clone()),
        Record::Ring(ring.clone()),
        Record::Vote(vote.clone()),
        Record::Nicknames(nicknames.clone()),
        Record::Inherited(inherited.clone()),
        Record::Grant([192, 168, 7, 1].into(), peer),
        Record::Grant([192, 168, 7, 2].into(), peer),
        Record::GrantGone([192, 168, 7, 1].into()),
        Record::Left,
        Record::Reservation("gone".to_owned(), reservation("wv0")),
        Record::Reservation("c1".to_owned(), reservation("wv1")),
        Record::ReservationGone("gone".to_owned()),
        Record::ReservationGone("never there".to_owned()),
        Record::Names("gone".to_owned(), registered()),
        Record::Names("c1".to_owned(), registered()),
        Record::Names("gone".to_owned(), Registered::default()),
        Record::Identity(identity(2)),
    ];
    let reservations = [("c1".to_owned(), reservation("wv1"))].into();
    let (identity, params) = (Some(identity(2)), Some(params));
    let stored = Stored {
        identity,
        params,
        targets,
        ring: Some(ring),
        vote: Some(vote),
        nicknames,
        left: true,
        grants: [([192, 168, 7, 2].into(), peer)].into(),
        inherited,
        reservations,
        names: [("c1".to_owned(), registered())].into(),
    };
    (records, stored)
}

fn open_error(dir: &Path) -> StoreError {
    Store::open(dir).err().unwrap()
}

#[test]
fn every_record_comes_back() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("a/state");
    let (store, stored) = Store::open(&dir).unwrap();
    assert_eq!(stored, Stored::default());
    store.commit(&[]).unwrap();
    let (records, expected) = everything();
    store.commit(&records).unwrap();
    drop(store);
    assert_eq!(Store::open(&dir).unwrap().1, expected);

    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(dir.clone()), mode(dir.join(FILE))), (0o700, 0o600));
    // A copy that was put back is made private again.
    fs::set_permissions(dir.join(FILE), fs::Permissions::from_mode(0o644)).unwrap();
    drop(Store::open(&dir).unwrap());
    assert_eq!(mode(dir.join(FILE)), 0o600);
    assert!(!dir.join(NEW_FILE).exists());

    Store::wipe(&dir).unwrap();
    Store::wipe(&dir).unwrap();
    Store::wipe(&root.path().join("nowhere")).unwrap();
    assert_eq!(Store::open(&dir).unwrap().1, Stored::default());
}

#[test]
fn a_store_is_open_once() {
    let root = tempfile::tempdir().unwrap();
    let first = Store::open(root.path()).unwrap();
    let error = open_error(root.path());
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("--state-dir"), "{error}");
    drop(first);
    Store::open(root.path()).unwrap();
}

/// Changes the store's file by hand, as redb sees it.
fn tamper(dir: &Path, change: impl FnOnce(&redb::WriteTransaction)) {
    let database = Database::open(dir.join(FILE)).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&transaction);
    transaction.commit().unwrap();
}

#[test]
fn a_newer_schema_is_refused_with_both_versions() {
    let root = tempfile::tempdir().unwrap();
    drop(Store::open(root.path()).unwrap());
    let set = |schema: u64| {
        tamper(root.path(), |t| drop(t.open_table(META).unwrap().insert(KEY_SCHEMA, schema).unwrap()));
    };
    set(42);
    let error = open_error(root.path());
    assert!(matches!(error, StoreError::Newer { found, .. } if found == 42), "{error}");
    assert!(error.to_string().contains("schema 42") && error.to_string().contains("knows 6"), "{error}");
    set(0);
    assert!(matches!(open_error(root.path()), StoreError::Damaged { .. }));
    set(SCHEMA);
    Store::open(root.path()).unwrap();
}

#[test]
fn records_that_do_not_read_are_named() {
    let root = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(root.path()).unwrap();
    store.commit(&everything().0).unwrap();
    drop(store);
    let good = encode(&identity(1)).unwrap();
    for bad in [b"".as_slice(), b"\xff", b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff", &[good.as_slice(), &[0]].concat()] {
        tamper(root.path(), |t| drop(t.open_table(NODE).unwrap().insert("identity", bad).unwrap()));
        let error = open_error(root.path()).to_string();
        assert!(error.contains("record \"identity\" does not read") && error.contains("move the file away"), "{error}");
    }
    tamper(root.path(), |t| {
        t.open_table(NODE).unwrap().insert("identity", good.as_slice()).unwrap();
        t.open_table(NODE).unwrap().insert("of a later version", b"".as_slice()).unwrap();
    });
    assert_eq!(Store::open(root.path()).unwrap().1.identity, Some(identity(1)));
    tamper(root.path(), |t| drop(t.open_table(RESERVATIONS).unwrap().insert("c1", b"x".as_slice()).unwrap()));
    assert!(open_error(root.path()).to_string().contains("addresses of \"c1\" do not read"));
}

#[test]
fn a_key_survives_being_closed_and_opened() {
    let root = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(root.path()).unwrap();
    store.commit(&[Record::Identity(identity(1))]).unwrap();
    drop(store);
    let again = Store::open(root.path()).unwrap().1.identity.unwrap();
    // Not as it is kept, but by what it does.
    assert_eq!(again.key.sign(b"message"), identity(1).key.sign(b"message"));
    assert!(again.key.public().verifies(b"message", &identity(1).key.sign(b"message")));
    assert_eq!(again.key.public().uid(), identity(1).uid);
}

/// The identity as CBOR sees it, with one field changed.
fn altered(field: &str, change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut whole = Value::serialized(&identity(1)).unwrap();
    let fields = whole.as_map_mut().unwrap();
    let at = fields.iter().position(|(name, _)| name.as_text() == Some(field)).unwrap();
    change(&mut fields[at].1);
    fields.retain(|(_, value)| !value.is_null());
    encode(&whole).unwrap()
}

#[test]
fn an_identity_without_its_key_is_refused_with_the_way_out() {
    let root = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(root.path()).unwrap();
    store.commit(&everything().0).unwrap();
    drop(store);
    assert_eq!(altered("key", |_| ()), encode(&identity(1)).unwrap());
    let other = SecretKey::from_bytes([8; 32]);
    let cases: [(Vec<u8>, &str); 7] = [
        (altered("key", |key| *key = Value::Null), "missing field `key`"),
        (altered("key", |key| key.as_bytes_mut().unwrap().truncate(31)), "invalid length 31"),
        (altered("key", |key| *key = Value::Text("secret".to_owned())), "record \"identity\" does not read"),
        (altered("key", |key| *key = Value::serialized(&other).unwrap()), "the uid in its record \"identity\""),
        (altered("uid", |uid| *uid = Value::Bytes(vec![7; 16])), "the uid in its record \"identity\""),
        (altered("uid", |uid| *uid = Value::from(7_u64)), "record \"identity\" does not read"),
        (altered("uid", |uid| uid.as_bytes_mut().unwrap().truncate(8)), "invalid length 8"),
    ];
    for (bytes, why) in cases {
        tamper(root.path(), |t| drop(t.open_table(NODE).unwrap().insert("identity", bytes.as_slice()).unwrap()));
        let error = open_error(root.path());
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains(why) && text.contains("move the file away to begin anew, with a new uid"),
            "{why}: {text}"
        );
    }
    Store::wipe(root.path()).unwrap();
    assert_eq!(Store::open(root.path()).unwrap().1, Stored::default());
}

#[test]
fn store_of_an_earlier_schema_is_refused_and_left_as_it_is() {
    let root = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(root.path()).unwrap();
    let (records, expected) = everything();
    store.commit(&records).unwrap();
    drop(store);
    let set = |schema: u64| {
        tamper(root.path(), |t| drop(t.open_table(META).unwrap().insert(KEY_SCHEMA, schema).unwrap()));
    };
    for schema in 1..SCHEMA {
        set(schema);
        let error = open_error(root.path());
        assert!(matches!(error, StoreError::Older { found, .. } if found == schema), "{error}");
        let text = error.to_string();
        let words = [&format!("schema {schema}"), "move the file away to begin anew", "left as it is"];
        assert!(words.iter().all(|word| text.contains(*word)), "{text}");
        assert!(matches!(open_error(root.path()), StoreError::Older { found, .. } if found == schema), "changed");
    }
    set(SCHEMA);
    assert_eq!(Store::open(root.path()).unwrap().1, expected);
}

#[test]
fn a_file_of_another_kind_is_left_as_it_is() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join(FILE);
    for content in [b"".to_vec(), b"not a database".to_vec(), vec![0; 1 << 20], vec![0xff; 5000]] {
        fs::write(&path, &content).unwrap();
        let error = open_error(root.path());
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert!(fs::read(&path).unwrap() == content);
    }
    fs::remove_file(&path).unwrap();
    let foreign = Database::create(&path).unwrap();
    let transaction = foreign.begin_write().unwrap();
    transaction.open_table(TableDefinition::<u64, u64>::new("theirs")).unwrap().insert(1, 2).unwrap();
    transaction.commit().unwrap();
    drop(foreign);
    let error = open_error(root.path());
    assert!(error.to_string().contains("it has no schema"), "{error}");
    let theirs = Database::open(&path).unwrap();
    assert!(theirs.begin_read().unwrap().open_table(TableDefinition::<u64, u64>::new("theirs")).is_ok());

    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(open_error(root.path()), StoreError::Io { .. } | StoreError::Damaged { .. }));
}

#[test]
fn a_damaged_file_is_left_as_it_is() {
    let root = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(root.path()).unwrap();
    store.commit(&everything().0).unwrap();
    drop(store);
    let path = root.path().join(FILE);
    let good = fs::read(&path).unwrap();
    for length in [1, 100, 320, 4096, good.len() / 2, good.len() - 4096, good.len() - 1] {
        fs::write(&path, &good[..length]).unwrap();
        let error = open_error(root.path());
        assert!(matches!(error, StoreError::Damaged { .. }), "{length}: {error}");
        assert!(error.to_string().contains("move the file away"), "{error}");
        assert!(fs::read(&path).unwrap() == good[..length], "{length}: changed");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_decoding_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(decode::<Identity>(&bytes));
        drop(decode::<LaunchParams>(&bytes));
        drop(decode::<Vec<Target>>(&bytes));
        drop(decode::<Ring>(&bytes));
        drop(decode::<Reservation>(&bytes));
    }

    #[test]
    fn damaged_records_never_panic(at in 0_usize..200, bit in 0_u32..8, cut in 0_usize..200) {
        let (_, stored) = everything();
        let mut bytes = encode(&stored.ring.unwrap()).unwrap();
        let length = bytes.len();
        bytes[at % length] ^= 1 << bit;
        bytes.truncate(length - cut % length);
        drop(decode::<Ring>(&bytes));
    }
}
