//! What is a question, and the answer byte by byte.

use super::*;

const QUESTION: [u8; ARP_LEN] =
    [0, 1, 8, 0, 6, 4, 0, 1, 2, 3, 4, 5, 6, 7, 10, 32, 0, 1, 0, 0, 0, 0, 0, 0, 10, 32, 0, 2];

#[test]
fn a_request_is_read() {
    let expected =
        Request { sender_mac: Mac([2, 3, 4, 5, 6, 7]), sender: Ip4([10, 32, 0, 1]), target: Ip4([10, 32, 0, 2]) };
    assert_eq!(request(&QUESTION), Some(expected));
}

#[test]
fn anything_else_is_not_a_request() {
    for (at, byte) in [(0, 1), (1, 6), (2, 0x86), (4, 8), (5, 16), (7, 2), (27, 1)] {
        let mut message = QUESTION;
        message[at] = byte;
        assert_eq!(request(&message), None, "byte {at} = {byte:#x}");
    }
}

#[test]
fn the_reply() {
    let frame = reply(&request(&QUESTION).expect("a request"));
    let expected = [
        2, 3, 4, 5, 6, 7, 0x0a, 0x77, 10, 32, 0, 2, 8, 6, 0, 1, 8, 0, 6, 4, 0, 2, 0x0a, 0x77, 10, 32, 0, 2, 10, 32, 0,
        2, 2, 3, 4, 5, 6, 7, 10, 32, 0, 1,
    ];
    assert_eq!(frame, expected);
}
