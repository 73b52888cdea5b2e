//! Reading what iperf3 says.

use super::{Metric, stream_figures};

#[test]
fn processor_time_is_the_kernels_and_both_ends_own() {
    let report = r#"{"end": {
        "sum_received": {"seconds": 2.0, "bytes": 1e9, "bits_per_second": 4e9},
        "cpu_utilization_percent": {"host_user": 10.0, "host_system": 70.0, "remote_user": 15.0}
    }}"#;
    assert_eq!(stream_figures(report, 1.5).unwrap(), [(Metric::TcpStream, 4.0), (Metric::CpuPerGbit, 0.25)]);
}

#[test]
fn a_report_without_figures_is_no_measurement() {
    assert!(stream_figures("iperf3: error", 1.0).is_err());
    assert!(stream_figures(r#"{"end": {}}"#, 1.0).is_err());
}
