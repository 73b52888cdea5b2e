//! Names as keys, and back.

extern crate std;

use std::{string::String, vec::Vec};

use super::*;

fn back(key: &NameKey) -> String {
    let labels: Vec<String> = key.labels().map(|label| String::from_utf8(label.to_vec()).unwrap()).collect();
    labels.join(".")
}

#[test]
fn names_are_keys_in_lower_case() {
    let key = NameKey::of("Web.weave.LOCAL").unwrap();
    assert_eq!(key.name[..17], *b"\x03web\x05weave\x05local\0");
    assert_eq!(key, NameKey::of("web.weave.local").unwrap());
    assert_eq!(back(&key), "web.weave.local");
}

#[test]
fn only_names_that_fit_are_keys() {
    let long = "x".repeat(62);
    assert!(NameKey::of(&long).is_some());
    assert!(NameKey::of(&"x".repeat(63)).is_none(), "no room for the end");
    assert!(NameKey::of("").is_none() && NameKey::of("a..b").is_none());
    let name = std::format!("{}.{}", "a".repeat(30), "b".repeat(31));
    assert_eq!(NameKey::of(&name).map(|key| back(&key)).as_deref(), Some(&name[..]));
    assert!(NameKey::of(&std::format!("{name}c")).is_none());
}
