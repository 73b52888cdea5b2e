//! The table that an operator sees.

use super::*;

fn row(name: &'static str, present: bool, required: bool) -> Feature {
    Feature { name, since: "5.10", present, required }
}

#[test]
fn a_missing_requirement_is_refused_with_the_whole_table() {
    let features = Features(vec![row("one", true, true), row("two", false, true), row(TCX, false, false)]);
    let text = features.require().expect_err("refused").to_string();
    assert!(text.contains("nothing was changed"), "{text}");
    assert!(text.lines().any(|line| line.contains("one") && line.ends_with("yes")), "{text}");
    assert!(text.lines().any(|line| line.contains("two") && line.ends_with("MISSING")), "{text}");
    assert!(text.lines().any(|line| line.contains(TCX) && line.ends_with("no (optional)")), "{text}");
}

#[test]
fn tcx_is_not_required() {
    let features = Features(vec![row("one", true, true), row(TCX, false, false)]);
    assert!(features.require().is_ok());
    assert!(!features.has(TCX));
    assert!(features.has("one"));
}
