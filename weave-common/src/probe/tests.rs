//! The layout byte by byte, the keyed value, and what an answer is.

use super::*;

const ASKED: [u8; 6] = [2, 0, 0, 0, 0, 7];
const KEY: [u64; 2] = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
const REQUEST: Fields = Fields {
    receiver: ASKED,
    origin: [2, 0, 0, 0, 0, 1],
    flags: ANNOUNCE,
    hops: 2,
    request_hops: 0,
    path: 0x1234,
    size: 0,
    cookie: 0x0102_0304_0506_0708,
    clock: 0x1112_1314_1516_1718,
};

#[test]
fn layout_is_as_documented() {
    let bytes = Fields { request_hops: 5, size: 0x0578, ..REQUEST }.write();
    let expected = [
        2, 0, 0, 0, 0, 7, 2, 0, 0, 0, 0, 1, 0x88, 0xb5, 1, 8, 2, 5, 0x12, 0x34, 0x05, 0x78, 1, 2, 3, 4, 5, 6, 7, 8,
        0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18,
    ];
    assert_eq!(bytes, expected);
    assert_eq!(Fields::read(&bytes), Some(Fields { request_hops: 5, size: 0x0578, ..REQUEST }));
}

#[test]
fn other_frames_and_versions_are_no_probes() {
    for at in [at::ETHERTYPE, at::ETHERTYPE + 1, at::VERSION] {
        let mut bytes = REQUEST.write();
        bytes[at] ^= 0x10;
        assert_eq!(Fields::read(&bytes), None, "byte {at}");
    }
}

#[test]
fn siphash_gives_the_published_vector() {
    // The vector of 16 bytes 0..15 with the key 0..15, from the tests of the Rust library.
    let words = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
    assert_eq!(siphash13(KEY, words).to_le_bytes(), [0x66, 0x8b, 0x90, 0x7d, 0x1a, 0xdd, 0x4f, 0xcc]);
    // The same bytes as name, path and clock.
    let (name, path, clock) = ([0, 1, 2, 3, 4, 5], 0x0607, 0x0809_0a0b_0c0d_0e0f);
    assert_eq!(cookie(KEY, name, path, clock), siphash13(KEY, words));
}

#[test]
fn answer_goes_back_and_keeps_what_is_the_origins() {
    let answer = REQUEST.answer(1400);
    let expected = Fields {
        receiver: REQUEST.origin,
        origin: ASKED,
        flags: ANNOUNCE | REPLY,
        hops: 0,
        request_hops: 2,
        size: 1400,
        ..REQUEST
    };
    assert_eq!(answer, expected);
}

#[test]
fn answers_are_genuine_under_either_key_and_no_other() {
    let other = [KEY[0] ^ 1, KEY[1]];
    let request = Fields { cookie: cookie(KEY, ASKED, REQUEST.path, REQUEST.clock), ..REQUEST };
    let answer = request.answer(74);
    let none = [0; 2];
    for (current, former, genuine) in [
        (KEY, none, true),
        (other, KEY, true),
        (KEY, other, true),
        (other, none, false),
        (none, other, false),
        (none, none, false),
    ] {
        assert_eq!(answer.is_genuine(&ProbeKeys { current, former }), genuine, "{current:x?} {former:x?}");
    }
    let keys = ProbeKeys { current: KEY, former: none };
    for forged in [
        Fields { origin: [2, 0, 0, 0, 0, 8], ..answer },
        Fields { path: answer.path ^ 1, ..answer },
        Fields { clock: answer.clock ^ 1, ..answer },
        Fields { cookie: answer.cookie ^ 1, ..answer },
    ] {
        assert!(!forged.is_genuine(&keys), "{forged:?}");
    }
    // What relays and receivers fill in is not covered.
    assert!(Fields { hops: 3, request_hops: 7, size: 9000, ..answer }.is_genuine(&keys));
}

#[test]
fn no_key_accepts_nothing_even_what_a_zero_key_would_make() {
    let answer = Fields { cookie: cookie([0; 2], ASKED, REQUEST.path, REQUEST.clock), ..REQUEST }.answer(74);
    assert!(!answer.is_genuine(&ProbeKeys::default()));
}
