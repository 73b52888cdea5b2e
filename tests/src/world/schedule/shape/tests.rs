//! Networks that are drawn can be joined.

use super::*;

#[test]
fn links_suffice_for_a_tree_in_which_hosts_behind_nat_are_leaves() {
    let (open, behind) = (Nat::None, Nat::Forwarding);
    assert_eq!(links_needed(&[open]), 0);
    assert_eq!(links_needed(&[open, open, open]), 2);
    assert_eq!(links_needed(&[open, behind, behind, behind, behind, behind]), 5);
    assert_eq!(links_needed(&[open, open, behind, behind]), 2);
    assert_eq!(links_needed(&[open, open, behind, behind, behind]), 3);
    assert_eq!(links_needed(&[behind, behind]), usize::MAX, "nobody to link with");
}
