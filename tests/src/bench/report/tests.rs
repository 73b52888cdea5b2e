//! Tables and JSON of made-up figures.

use super::{Metric, Samples, dataplane, dataplane_json, figure};

fn samples() -> Samples<Metric> {
    let mut samples = Samples::new(vec!["bare", "other"]);
    for (bare, other) in [(10.0, 4.0), (12.0, 6.0), (8.0, 5.0)] {
        samples.add(0, Metric::TcpStream, bare);
        samples.add(1, Metric::TcpStream, other);
    }
    samples
}

#[test]
fn a_row_has_medians_ratio_and_widest_spread() {
    let table = dataplane(&samples());
    let row = table.lines().find(|line| line.contains("TCP stream")).unwrap();
    let cells: Vec<&str> = row.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect();
    assert_eq!(cells, ["TCP stream", "Gbit/s", "10.0", "5.00", "0.50", "+-20 %"]);
}

#[test]
fn a_machine_slow_for_a_round_changes_no_ratio() {
    let mut samples = Samples::new(vec!["bare", "other"]);
    for (bare, other) in [(10.0, 8.0), (2.0, 1.6), (12.0, 9.6)] {
        samples.add(0, Metric::TcpStream, bare);
        samples.add(1, Metric::TcpStream, other);
    }
    assert!((samples.ratio(1, 0, Metric::TcpStream).unwrap() - 0.8).abs() < 1e-9);
    samples.add(1, Metric::TcpStream, 9.6);
    assert!((samples.ratio(1, 0, Metric::TcpStream).unwrap() - 8.8 / 10.0).abs() < 1e-9, "a round is missing");
}

#[test]
fn two_builds_are_compared_with_each_other() {
    let mut samples = Samples::new(vec!["bare", "weave-ctl", "against"]);
    for (new, old) in [(9.0, 10.0), (11.0, 10.0), (10.5, 10.0)] {
        samples.add(1, Metric::UnderlayRun, new);
        samples.add(2, Metric::UnderlayRun, old);
    }
    let table = dataplane(&samples);
    assert!(table.lines().next().unwrap().contains("weave-ctl / against"), "{table}");
    let row = table.lines().find(|line| line.contains("underlay's program")).unwrap();
    let cells: Vec<&str> = row.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect();
    let unit = "ns a run (less is better)";
    assert_eq!(cells, ["underlay's program", unit, "-", "10.5", "10.0", "-", "-", "1.050", "+-10 %"]);
    let json = dataplane_json(&samples);
    assert_eq!(json["weave-ctl"]["underlay_program_ns"]["ratio_against"], 1.05);
    assert!(json["against"]["underlay_program_ns"].get("ratio_against").is_none());
}

#[test]
fn what_was_not_measured_has_no_figure() {
    let table = dataplane(&samples());
    let row = table.lines().find(|line| line.contains("UDP of 64 bytes ")).unwrap();
    assert_eq!(row.matches(" - ").count(), 4, "{row}");
}

#[test]
fn json_keeps_every_round() {
    let json = dataplane_json(&samples());
    let other = &json["other"]["tcp_stream_gbit_per_s"];
    assert_eq!(other["rounds"].as_array().unwrap().len(), 3);
    assert_eq!(other["ratio"], 0.5);
    assert!(json["other"]["udp_64_k_per_s"]["median"].is_null());
}

#[test]
fn figures_have_three_digits() {
    assert_eq!(figure(Some(1234.4)), "1234");
    assert_eq!(figure(Some(12.34)), "12.3");
    assert_eq!(figure(Some(1.236)), "1.24");
    assert_eq!(figure(Some(0.0456)), "0.046");
}
