//! Only the key's owner writes a letter; anything else is refused without harm.

use proptest::prelude::*;

use super::*;
use crate::proto::fixture::{id, key, name};

fn letter(content: Content) -> Letter {
    Letter { from: id(1), to: name(2), id: 7, content }
}

fn responses() -> Vec<Content> {
    let addr = Ipv4Addr::new(192, 168, 7, 7);
    let grants = Grants { grants: vec![(addr, id(3)); GRANTS_MAX], more: true, peers: vec![id(4); GRANTS_MAX] };
    let replies =
        [Reply::Done, Reply::Refused("no".to_owned()), Reply::Grants(grants), Reply::Claims(vec![addr; CLAIMS_MAX])];
    replies.map(Content::Response).into_iter().chain([request()]).collect()
}

fn request() -> Content {
    Content::Request(Request { want: Want::Space("10.32.0.0/12".parse().expect("a subnet")), owned: 5 })
}

#[test]
fn a_letter_survives_the_trip() {
    for content in responses() {
        let sent = letter(content.clone()).sign(&key(1, 0));
        assert_eq!((sent.to, sent.hops), (name(2), HOPS_MAX));
        assert_eq!(Letter::open(&sent.letter), Ok(letter(content)));
    }
}

#[test]
fn a_peer_cannot_write_for_another() {
    let forged = letter(request()).sign(&key(3, 0));
    assert_ne!(Letter::open(&forged.letter).expect("a letter of another store").from, id(1));
    let mut changed = letter(request()).sign(&key(1, 0)).letter;
    let last = changed.len() - 1;
    changed[last] ^= 1;
    assert!(Letter::open(&changed).is_err());
}

#[test]
fn letters_have_bounds() {
    assert_eq!(Letter::open(&[0; LETTER_MAX + 1]), Err(WireError::TooLong("a letter")));
    let long = letter(Content::Response(Reply::Refused("x\n".repeat(REASON_MAX)))).sign(&key(1, 0));
    let opened = Letter::open(&long.letter).expect("a letter");
    assert_eq!(opened.content, Content::Response(Reply::Refused("x".repeat(REASON_MAX))));
}

proptest! {
    #[test]
    fn opening_a_letter_is_total(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Letter::open(&bytes).is_err());
    }
}
