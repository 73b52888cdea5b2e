//! Spellings of a target.

use super::*;

#[test]
fn targets_print_as_written() {
    for text in ["10.0.0.1", "10.0.0.1:6783", "host-1", "a.b.example:1", "under_score", "host."] {
        assert_eq!(text.parse::<Target>().map(|t| t.to_string()), Ok(text.to_owned()));
    }
}

#[test]
fn bad_targets() {
    for text in [
        "",
        ":",
        ":6783",
        "10.0.0",
        "10.0.0.256",
        "1.2.3.4:0",
        "1.2.3.4:65536",
        "h:p",
        "a b",
        "-h",
        "a..b",
        "[::1]:3",
        "h:1:2",
    ] {
        assert!(text.parse::<Target>().is_err(), "{text:?}");
    }
}
