//! Every spelling of a peer name, good and bad.

use proptest::prelude::*;

use super::*;
use crate::proto::cbor;

#[test]
fn shorthand() {
    let cases = [
        ("::3", "00:00:00:00:00:03"),
        ("::", "00:00:00:00:00:00"),
        ("1::", "01:00:00:00:00:00"),
        ("a:b::f", "0a:0b:00:00:00:0f"),
        ("1:2:3:4:5:6", "01:02:03:04:05:06"),
        ("AA:bb:cc:dd:ee:ff", "aa:bb:cc:dd:ee:ff"),
        ("1:2:3:4:5::", "01:02:03:04:05:00"),
    ];
    for (text, printed) in cases {
        assert_eq!(text.parse::<PeerName>().map(|n| n.to_string()), Ok(printed.to_owned()), "{text}");
    }
}

#[test]
fn refused() {
    for text in [
        "",
        ":",
        ":::",
        "1",
        "1:2:3:4:5",
        "1:2:3:4:5:6:7",
        "1:2:3::4:5:6",
        "1::2::3",
        "+1::",
        "123::",
        "g::",
        "1: 2::",
        ":1:2:3:4:5",
    ] {
        assert!(text.parse::<PeerName>().is_err(), "{text:?}");
    }
}

#[test]
fn derived_is_locally_administered_unicast() {
    assert_eq!(PeerName::derived([0xff; 6]).bytes()[0] & 3, 2);
    assert_eq!(PeerName::derived([0x01; 6]).bytes()[0] & 3, 2);
}

#[test]
fn uid_is_bytes_in_cbor_and_hexadecimal_text_in_json() {
    let (uid, text) = (PeerUid(0x0123_4567_89ab_cdef_0011_2233_4455_6677), "0123456789abcdef0011223344556677");
    let bytes = cbor::write(&uid);
    // A byte string of 16 (RFC 8949, section 3.1).
    assert_eq!((bytes[0], &bytes[1..]), (0x50, uid_bytes(uid).as_slice()));
    assert_eq!(cbor::read(&bytes), Ok(uid));
    assert_eq!(serde_json::to_string(&uid).ok(), Some(format!("\"{text}\"")));
    assert_eq!(serde_json::from_str(&format!("\"{text}\"")).ok(), Some(uid));
    assert_eq!((uid.to_string().as_str(), format!("{uid:?}").as_str()), (text, text));
    for small in [0x41, 0x4f, 0x51] {
        let mut other = vec![small];
        other.extend_from_slice(&[7; 17][..usize::from(small & 0x1f)]);
        assert!(cbor::read::<PeerUid>(&other).is_err(), "{other:?}");
    }
    assert!(cbor::read::<PeerUid>(&cbor::write(&7_u64)).is_err(), "a uid of an earlier version");
}

fn uid_bytes(uid: PeerUid) -> [u8; 16] {
    uid.0.to_be_bytes()
}

#[test]
fn uid_has_exactly_32_hexadecimal_digits() {
    for text in ["", "1", "+123456789abcdef0011223344556677", "0123456789abcdef001122334455667", "0x"] {
        assert!(text.parse::<PeerUid>().is_err(), "{text:?}");
    }
    assert!("g123456789abcdef0011223344556677".parse::<PeerUid>().is_err());
    assert_eq!("FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF".parse(), Ok(PeerUid(u128::MAX)));
}

#[test]
fn identity_has_no_padding() {
    assert_eq!(size_of::<PeerId>(), 8 + 16);
}

proptest! {
    #[test]
    fn names_are_ordered_and_equal_as_their_bytes(one: [u8; 6], other: [u8; 6], same in 0..=6_usize) {
        let mut alike = other;
        alike[..same].copy_from_slice(&one[..same]);
        for (one, other) in [(one, other), (one, alike), (alike, one)] {
            let names = PeerName::from_bytes(one).cmp(&PeerName::from_bytes(other));
            prop_assert_eq!(names, one.cmp(&other));
            prop_assert_eq!(PeerName::from_bytes(one) == PeerName::from_bytes(other), one == other);
        }
    }

    #[test]
    fn printed_form_parses(bytes: [u8; 6]) {
        let name = PeerName::from_bytes(bytes);
        prop_assert_eq!(name.to_string().parse::<PeerName>(), Ok(name));
    }

    #[test]
    fn any_text_is_answered(text in ".{0,24}") {
        let _total = text.parse::<PeerName>();
    }
}
