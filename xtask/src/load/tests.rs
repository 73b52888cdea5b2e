//! What is shown of bpftool's lists.

use super::ours;

#[test]
fn only_our_programs_are_shown_with_all_their_lines() {
    let shown = "3: cgroup_device  tag ab\n\txlated 504B\n42: sched_cls  name weave_underlay  tag cd\n\txlated 9B\n\
                 \tpids load(7)\n43: sched_cls  name other\n\txlated 1B";
    assert_eq!(ours(shown), "42: sched_cls  name weave_underlay  tag cd\n\txlated 9B\n\tpids load(7)");
    assert_eq!(ours(""), "");
}
