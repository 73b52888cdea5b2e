//! What the log says of failed handshakes.

use super::*;

#[test]
fn reason_of_a_failed_handshake_is_new_once() {
    let failures = Failures::default();
    let addr = |n: u16| SocketAddrV4::new(Ipv4Addr::LOCALHOST, n);
    assert!(failures.is_new(addr(1), "one") && !failures.is_new(addr(1), "one"));
    assert!(failures.is_new(addr(1), "other") && failures.is_new(addr(2), "other"));
    failures.all().remove(&addr(1));
    assert!(failures.is_new(addr(1), "other"), "it was well in between");
    for n in 1..=200 {
        failures.is_new(addr(n), "all");
    }
    assert_eq!(failures.all().len(), FAILURES_MAX);
    assert!(!failures.is_new(addr(200), "all"));
}
