//! Rule `readme`: each numbered invariant of the README names what guards it, and that exists.
//!
//! The section is `## Invariants`; an item ends in `Checked by:` and names in backquotes: a test function, or
//! `tidy: RULE`.

use super::{Finding, RULES, Source};

const SECTION: &str = "## Invariants";
const GUARDS: &str = "Checked by:";

/// `tests` are the functions in test files.
pub(super) fn check(readme: &Source, tests: &[String]) -> Vec<Finding> {
    let finding = |item: &str, message: String| Finding {
        rule: "readme",
        place: readme.path.clone(),
        item: item.to_owned(),
        message,
    };
    let items = items(&readme.text);
    if items.is_empty() {
        return vec![finding("", format!("has no numbered items in `{SECTION}`"))];
    }
    let mut findings = Vec::new();
    for (number, item) in (1..).zip(&items) {
        if !item.starts_with(&format!("{number}. ")) {
            findings.push(finding("", format!("invariant {number} has another number")));
        }
        let Some((_, guards)) = item.split_once(GUARDS) else {
            findings.push(finding("", format!("invariant {number} says nothing after `{GUARDS}`")));
            continue;
        };
        let guards: Vec<&str> = guards.split('`').skip(1).step_by(2).collect();
        if guards.is_empty() {
            findings.push(finding("", format!("invariant {number} names no guard in backquotes")));
        }
        for guard in guards {
            let exists = match guard.strip_prefix("tidy: ") {
                Some(rule) => RULES.contains(&rule),
                None => tests.iter().any(|test| Some(test.as_str()) == guard.rsplit("::").next()),
            };
            if !exists {
                findings.push(finding(guard, format!("invariant {number} names `{guard}`, which is no test")));
            }
        }
    }
    findings
}

/// Numbered items of the section, each on one line.
fn items(text: &str) -> Vec<String> {
    let section = text.lines().skip_while(|line| *line != SECTION).skip(1).take_while(|line| !line.starts_with("## "));
    let mut items: Vec<String> = Vec::new();
    for line in section {
        if line.starts_with(|char: char| char.is_ascii_digit()) {
            items.push(line.to_owned());
        } else if let Some(item) = items.last_mut()
            && line.starts_with(' ')
        {
            item.push(' ');
            item.push_str(line.trim());
        }
    }
    items
}
