//! Every spelling of a peer name, good and bad.

use proptest::prelude::*;

use super::*;

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
