//! What dnsperf says, and questions as they are on the wire.

use super::{completed, question};

#[test]
fn answers_are_read_from_the_report() {
    let report = "Statistics:\n\n  Queries sent:         800\n  Queries completed:    799 (99.88%)\n  Queries lost:         1 (0.12%)\n";
    assert_eq!(completed(report), Some(799.0));
    assert_eq!(completed("Error: cannot bind"), None);
}

#[test]
fn questions_are_as_on_the_wire() {
    let asked = question(0x1234, "a.bc").unwrap();
    assert_eq!(asked, *b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\x02bc\0\0\x01\0\x01");
    assert!(question(1, "").is_err());
}
