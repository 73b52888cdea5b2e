//! Only the owner's key makes an entry; unknown parts are carried along; anything else is refused without harm.

use ciborium::Value;
use proptest::prelude::*;

use super::*;
use crate::proto::fixture::{key, name, other, raw, record};

#[test]
fn an_entry_survives_the_trip() {
    let record = record(3, 7, &[1, 2]);
    let bytes = raw(&record);
    let entry = Verify.open(&bytes).expect("an entry");
    assert_eq!(entry.record(), Some(&record));
    assert_eq!((&entry.key, entry.uid), (&record_key(name(3)), record.uid));
    assert_eq!(entry.raw[..], bytes);
    assert_eq!(Verify.peek(&bytes), Ok((entry.key.clone(), entry.uid, entry.version)));
    assert_eq!(entry.version.point, Point(1, 7));
}

#[test]
fn a_peer_cannot_sign_for_another() {
    // Peer 2 signs a record of peer 3 with its own key: it is a record of another store, never of peer 3's.
    let forged = Verify.open(&sign_record(&key(2, 0), &record(3, 9, &[]))).expect("an entry");
    assert_ne!(forged.uid, record(3, 9, &[]).uid);
    // It takes the public key of peer 3 as well: the signature does not verify.
    let mut signed: Signed = super::super::read(&sign_record(&key(2, 0), &record(3, 9, &[]))).expect("signed");
    signed.key = key(3, 0).public();
    assert!(matches!(Verify.open(&cbor::write(&signed)), Err(WireError::Malformed(_))));
    // A changed body does not either.
    let mut signed: Signed = super::super::read(&raw(&record(3, 9, &[]))).expect("signed");
    let last = signed.body.len() - 1;
    signed.body[last] ^= 1;
    assert!(matches!(Verify.open(&cbor::write(&signed)), Err(WireError::Malformed(_))));
}

#[test]
fn unknown_fields_and_channels_are_carried_along() {
    let mut data: Value = super::super::read(&cbor::write(&record(3, 1, &[]))).expect("a value");
    let Value::Map(fields) = &mut data else { panic!("a record is a map") };
    fields.push((Value::Text("colour".into()), Value::Text("red".into())));
    let bytes = sign(&key(3, 0), record_key(name(3)), Point(1, 1), Some(&cbor::write(&data)));
    let entry = Verify.open(&bytes).expect("an entry");
    assert_eq!(entry.record(), Some(&record(3, 1, &[])));
    assert_eq!(entry.raw[..], bytes);
    let later = other(3, Channel::from(SmolStr::from("later")), "any", 1, Some(&[0xff; 9]));
    assert_eq!((later.value(), later.key.channel.name()), (Some(&[0xff; 9][..]), "later"));
}

#[test]
fn a_record_that_cannot_be_read_is_kept_apart() {
    let broken = Verify.open(&sign(&key(3, 0), record_key(name(3)), Point(1, 2), Some(&[0xff; 9]))).expect("an entry");
    assert!(matches!(broken.content, Content::Unreadable(_)), "{broken:?}");
    let long = PeerRecord { addrs: vec![Ipv4Addr::LOCALHOST; ADDRS_MAX + 1], ..record(3, 1, &[]) };
    assert_eq!(
        Verify.open(&raw(&long)).expect("an entry").content,
        Content::Unreadable(Box::new("a message beyond the bound on addresses".into()))
    );
    assert_eq!(Verify.open(&vec![0; ENTRY_MAX + 1]), Err(WireError::TooLong("an entry")));
}

#[test]
fn values_are_the_end_of_entries_and_tombstones_have_none() {
    let claim = other(3, Channel::Claims, "192.0.2.1", 4, Some(b"x"));
    assert_eq!((claim.value(), claim.is_tombstone()), (Some(&b"x"[..]), false));
    let empty = other(3, Channel::Claims, "192.0.2.1", 5, Some(b""));
    assert_eq!((empty.value(), empty.is_tombstone()), (Some(&b""[..]), false));
    let gone = other(3, Channel::Claims, "192.0.2.1", 6, None);
    assert_eq!((gone.value(), gone.is_tombstone(), &gone.key), (None, true, &claim.key));
    let last = |raw: &[u8]| Verify.open(raw).map_err(|e| e.to_string());
    let trailing = [&claim.raw[..], &[0]].concat();
    assert!(last(&trailing).is_err(), "bytes after the value");
}

#[test]
fn keys_and_values_have_bounds() {
    let secret = key(3, 0);
    let under = |channel, key: String| EntryKey { owner: name(3), channel, key: key.into() };
    let open = |key, value: Option<&[u8]>| Verify.open(&sign(&secret, key, Point(1, 1), value)).map(|_| ());
    assert_eq!(open(under(Channel::Claims, "k".repeat(KEY_MAX)), Some(&[0; VALUE_MAX])), Ok(()));
    let long = under(Channel::Claims, "k".repeat(KEY_MAX + 1));
    assert_eq!(open(long, Some(&[])), Err(WireError::TooLong("a key")));
    let large = [0; VALUE_MAX + 1];
    assert_eq!(open(under(Channel::Election, String::new()), Some(&large)), Ok(()), "it names all voters");
    assert_eq!(open(under(Channel::Space, String::new()), Some(&large)), Err(WireError::TooLong("a value")));
    let channel = Channel::from(SmolStr::from("x".repeat(CHANNEL_MAX + 1)));
    assert_eq!(open(under(channel, String::new()), None), Err(WireError::TooLong("the name of a channel")));
    // A record has no key and is never deleted: `forget` does that.
    assert!(open(under(Channel::Peers, "k".into()), Some(&[])).is_err());
    assert!(open(under(Channel::Peers, String::new()), None).is_err());
}

#[test]
fn text_from_outside_is_printable() {
    let evil = PeerRecord { nickname: "a\u{1b}[2Jb\n".repeat(50), ..record(1, 1, &[]) };
    let entry = Verify.open(&raw(&evil)).expect("an entry");
    let nickname = &entry.record().expect("a record").nickname;
    assert!(nickname.len() <= 2 * super::super::NICKNAME_MAX && !nickname.contains(char::is_control));
}

#[test]
fn a_proof_is_of_one_connection_and_one_side() {
    let (ours, other) = ([1; 32], [2; 32]);
    let proof = identity_proof(&key(1, 0), &ours, true);
    let public = key(1, 0).public();
    assert!(is_identity_proven(&public, &ours, true, &proof));
    assert!(!is_identity_proven(&public, &ours, false, &proof), "sent back to where it came from");
    assert!(!is_identity_proven(&public, &other, true, &proof), "of another connection");
    assert!(!is_identity_proven(&key(2, 0).public(), &ours, true, &proof), "of another peer");
}

proptest! {
    #[test]
    fn opening_is_total(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        prop_assert!(Verify.open(&bytes).is_err());
    }

    #[test]
    fn damage_is_never_an_entry_of_the_same_store(at in 0_usize..1000, with: u8) {
        let mut bytes = raw(&record(1, 1, &[2, 3]));
        let at = at % bytes.len();
        prop_assume!(bytes[at] != with);
        bytes[at] = with;
        if let Ok(entry) = Verify.open(&bytes) {
            prop_assert_eq!(entry.record(), Some(&record(1, 1, &[2, 3])), "only the CBOR around it may be written otherwise");
        }
    }
}
