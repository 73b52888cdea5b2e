//! Worked examples and the agreement of both ways to the same checksum.

use super::*;

/// The header of RFC 1071's usual worked example.
const HEADER: [u8; 20] = [
    0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0x00, 0x00, 0xc0, 0xa8, 0x00, 0x01, 0xc0, 0xa8, 0x00,
    0xc7,
];

#[test]
fn known_header() {
    assert_eq!(ipv4_header(&HEADER), 0xb861);
}

#[test]
fn update_agrees_with_recomputing() {
    let mut header = HEADER;
    header[2..4].copy_from_slice(&[0, 0]);
    let base = ipv4_header(&header);
    for len in [0_u16, 1, 20, 0x73, 1500, 9000, 0xfffe, 0xffff] {
        header[2..4].copy_from_slice(&len.to_be_bytes());
        assert_eq!(update(base, 0, len), ipv4_header(&header), "length {len}");
    }
}

#[test]
fn words_in_one_go_agree_with_recomputing() {
    let base = ipv4_header(&HEADER);
    let word = |header: &[u8; 20], at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    for new in [[0_u16; 4], [0xffff; 4], [0x4000, 0x3f11, 0xc0a8, 1], [0xffff, 0, 0x1234, 0xfedc]] {
        let mut header = HEADER;
        for (at, value) in [6, 8, 12, 14].into_iter().zip(new) {
            header[at..at + 2].copy_from_slice(&value.to_be_bytes());
        }
        let old = [6, 8, 12, 14].map(|at| word(&HEADER, at));
        assert_eq!(update_words(base, old, new), ipv4_header(&header), "{new:04x?}");
    }
    assert_eq!(update_words(base, [], []), base);
}
