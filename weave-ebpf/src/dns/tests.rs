//! Which questions are answered here, and the parts of their answers.

extern crate std;

use std::vec::Vec;

use super::*;

fn message(bytes: &[u8]) -> ([u8; MESSAGE_MAX], u32) {
    let mut message = [0; MESSAGE_MAX];
    message[..bytes.len()].copy_from_slice(bytes);
    (message, bytes.len() as u32)
}

const WEB: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03WeB\x05weave\x05local\0\0\x01\0\x01";

fn read(bytes: &[u8]) -> Option<(NameKey, Question)> {
    let (message, len) = message(bytes);
    let mut key = NameKey { name: [1; NAME_LEN] };
    question(&message, len, &mut key).map(|question| (key, question))
}

fn with_opt(opt: &[u8]) -> Vec<u8> {
    let mut bytes = [WEB, opt].concat();
    bytes[11] = 1;
    bytes
}

#[test]
fn plain_questions_are_read() {
    let key = NameKey::of("web.weave.local").unwrap();
    assert_eq!(read(WEB), Some((key, Question { len: 33, opt: false, dnssec: false })));
    let opt = b"\0\0\x29\x10\0\0\0\0\0\0\0";
    assert_eq!(read(&with_opt(opt)), Some((key, Question { len: 33, opt: true, dnssec: false })));
    let opt = b"\0\0\x29\x10\0\0\0\x80\0\0\0";
    assert_eq!(read(&with_opt(opt)).map(|(_, question)| question.dnssec), Some(true));
    let longest = std::format!("{}.{}", "a".repeat(30), "b".repeat(31));
    let labels = NameKey::of(&longest).unwrap().name;
    let bytes = [&WEB[..12], &labels[..], &[0, 1, 0, 1]].concat();
    assert_eq!(read(&bytes).map(|(key, question)| (key.name, question.len)), Some((labels, 80)));
}

#[test]
fn anything_else_is_left_to_the_resolver() {
    let change = |at: usize, to: u8| {
        let mut bytes = WEB.to_vec();
        bytes[at] = to;
        bytes
    };
    let cases = [
        change(2, 0x81),
        change(2, 0x21),
        change(2, 0x03),
        change(3, 0x40),
        change(5, 2),
        change(7, 1),
        change(9, 1),
        change(11, 1),
        change(30, 28),
        change(32, 3),
        WEB[..32].to_vec(),
        [WEB, b"x"].concat(),
        WEB[..12].to_vec(),
        with_opt(b"\0\0\x29\x10\0\0\x01\0\0\0\0"),
        with_opt(b"\0\0\x29\x10\0\x01\0\0\0\0\0"),
        with_opt(b"\0\0\x29\x10\0\0\0\x40\0\0\0"),
        with_opt(b"\0\0\x29\x10\0\0\0\0\0\0\x04\0\x0a\0\0"),
        with_opt(b"\0\0\x2a\x10\0\0\0\0\0\0\0"),
        [&WEB[..12], &[1; 64], &[0, 0, 1, 0, 1]].concat(),
    ];
    for bytes in cases {
        assert_eq!(read(&bytes), None, "{bytes:02x?}");
    }
    // Not names that any key has: the table decides.
    let pointer = [&WEB[..12], b"\xc0\x0c\0\0\x01\0\x01"].concat();
    assert!(read(&pointer).is_none_or(|(key, _)| key.name[0] == 0xc0));
}

#[test]
fn parts_of_answers_are_as_the_resolver_writes_them() {
    let (asked, _) = message(WEB);
    assert_eq!(header(&asked, 2), [0x85, 0x80, 0, 1, 0, 2, 0, 0, 0, 0]);
    assert_eq!(record([10, 32, 0, 1], 1), *b"\xc0\x0c\0\x01\0\x01\0\0\0\x01\0\x04\x0a\x20\0\x01");
    assert_eq!(opt(true), *b"\0\0\x29\x04\xd0\0\0\x80\0\0\0");
}

#[test]
fn answers_go_back_with_correct_headers() {
    let mut h = [0; HEAD_LEN];
    h[..6].copy_from_slice(&[2; 6]);
    h[6..12].copy_from_slice(&[4; 6]);
    h[12..14].copy_from_slice(&[8, 0]);
    h[14] = 0x45;
    h[23] = 17;
    h[26..30].copy_from_slice(&[10, 32, 0, 1]);
    h[30..34].copy_from_slice(&[10, 47, 255, 254]);
    h[34..38].copy_from_slice(&[0x80, 0x01, 0, 53]);
    let head = head(&h, 49);
    assert_eq!((&head[..6], &head[6..12]), (&[4; 6][..], &[2; 6][..]));
    assert_eq!((&head[26..30], &head[30..34]), (&[10, 47, 255, 254][..], &[10, 32, 0, 1][..]));
    assert_eq!(head[34..], [0, 53, 0x80, 0x01, 0, 57, 0, 0]);
    let mut ip = [0; IPV4_LEN];
    ip.copy_from_slice(&head[14..34]);
    let sum = [ip[10], ip[11]];
    ip[10..12].fill(0);
    assert_eq!(checksum::ipv4_header(&ip).to_be_bytes(), sum);
    assert_eq!(u16::from_be_bytes([ip[2], ip[3]]), 77);
}
