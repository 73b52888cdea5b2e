//! What runs came to.

use super::*;
use crate::suite::process::Counts;

fn ended(good: bool, seconds: f64, output: &str) -> Ended {
    let (passed, failed) = if good { (1, 0) } else { (0, 1) };
    Ended { counts: Counts { passed, failed, ignored: 0, seconds }, output: output.to_owned() }
}

#[test]
fn figures_are_read_from_output() {
    let told = figure("test a ... measured: relay after a cut 0.35 s").unwrap();
    assert_eq!(told, Some(("relay after a cut".to_owned(), 0.35, "s".to_owned())));
    assert_eq!(figure("measured: probes -3 kbit/s ").unwrap(), Some(("probes".to_owned(), -3.0, "kbit/s".to_owned())));
    assert_eq!(figure("what was measured").unwrap(), None);
    for bad in ["measured: relay", "measured: relay s", "measured: relay fast s", "measured: relay NaN s"] {
        assert!(figure(bad).is_err(), "{bad}");
    }
}

#[test]
fn median_is_the_middle_or_between_two() {
    assert_eq!(spread(&[]), None);
    assert_eq!(spread(&[5.0]), Some([5.0; 3]));
    assert_eq!(spread(&[9.0, 1.0, 2.0]), Some([2.0, 1.0, 9.0]));
    assert_eq!(spread(&[9.0, 1.0, 2.0, 4.0]), Some([3.0, 1.0, 9.0]));
}

#[test]
fn report_counts_runs_and_joins_figures() {
    let mut report = Report::default();
    report.add("lab_x a", &ended(true, 1.0, "measured: cut 2 s\nwords\nmeasured: cut 4 s\n")).unwrap();
    report.add("lab_x a", &ended(false, 9.0, "measured: cut 12 s\n")).unwrap();
    report.add("lab_x b", &ended(true, 3.0, "")).unwrap();
    assert!(report.add("lab_x b", &ended(true, 3.0, "measured: cut s")).is_err());
    let text = report.to_string();
    let has =
        |words: &[&str]| text.lines().any(|line| line.split_whitespace().filter(|w| *w != "|").eq(words.to_vec()));
    assert!(has(&["lab_x", "a", "1", "1", "1.000", "1.000", "1.000"]), "{text}");
    assert!(has(&["lab_x", "b", "2", "0", "3.000", "3.000", "3.000"]), "{text}");
    assert!(has(&["cut", "s", "3", "4.000", "2.000", "12.000"]), "{text}");
    assert!(text.ends_with("3 passed, 1 failed"), "{text}");
}
