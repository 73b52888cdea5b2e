//! The kernel's counters, and what is said of them.

use super::*;

const TEXT: &str = "\
entries  allocs   destroys hash_grows unresolved_discards table_fulls
00000002 00000002 00000000 00000000   00000000            0000000a
00000002 00000000 00000000 00000000   00000000            00000110
";

#[test]
fn table_fulls_is_summed_over_all_cpus() {
    assert_eq!(table_fulls(TEXT), Some(0x11a));
    let other_order = "table_fulls entries\n0000000b 00000001\n";
    assert_eq!(table_fulls(other_order), Some(11));
}

#[test]
fn counters_of_another_shape_tell_nothing() {
    for text in ["", "entries allocs\n00000001 00000002\n", "entries table_fulls\n00000001\n", "table_fulls\nmany\n"] {
        assert_eq!(table_fulls(text), None, "{text:?}");
    }
}

#[test]
fn running_kernel_tells_its_counter() {
    assert!(read().is_some(), "none of {FILES:?} has {COLUMN}");
}

#[test]
fn warning_says_how_often_the_table_was_full_since_the_launch() {
    let times = read().expect("a counter");
    assert_eq!(Neighbours { before: Some(times + 1) }.warning(), None, "the counter began anew");
    assert_eq!(Neighbours { before: None }.warning(), None);
    if times > 0 {
        let said = Neighbours { before: Some(0) }.warning().expect("a warning");
        assert!(said.contains(&format!("full {times} times")), "{said}");
    }
}
