//! The packet tables on this host's kernel.

use weave_ctl::shell::datapath::object::OBJECT;
use weave_tests::packets;

/// Instructions that the verifier may walk in any program; the kernel's own bound is a million.
const VERIFIER_BUDGET: u32 = 20_000;

#[test]
#[ignore = "needs root and BPF"]
fn every_row_holds() {
    let results = packets::run_all(OBJECT);
    assert!(results.len() > 30, "only {} rows ran", results.len());
    let failed: Vec<_> =
        results.iter().filter_map(|(name, result)| result.as_ref().err().map(|e| format!("{name}: {e}"))).collect();
    assert!(failed.is_empty(), "{} of {} failed:\n{}", failed.len(), results.len(), failed.join("\n"));
}

#[test]
#[ignore = "needs root and BPF"]
fn every_program_loads_within_the_budget() {
    let counts = packets::verify_all(OBJECT).expect("loads");
    assert_eq!(counts.len(), 6);
    for (name, count) in counts {
        println!("{name}: {count:?} instructions verified");
        assert!(count.is_none_or(|count| count > 0 && count < VERIFIER_BUDGET), "{name}: {count:?}");
    }
}

#[test]
#[ignore = "needs root and BPF"]
fn every_kind_of_packet_has_its_cost() {
    // More runs than a ring holds answers, so that none is measured against a full one.
    let costs = packets::cost::measure(OBJECT, 4000).expect("measured");
    for cost in costs {
        let mut nanoseconds = cost.nanoseconds;
        nanoseconds.sort_by(f64::total_cmp);
        let median = nanoseconds[nanoseconds.len() / 2];
        println!("{}: {median:.0} ns", cost.title);
        assert!(nanoseconds.len() == 4000 && median > 0.0, "{}: {median}", cost.title);
    }
}
