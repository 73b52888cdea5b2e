//! Reading what the kernel says of a process.

use super::mebibytes;

#[test]
fn fields_of_a_process_are_found_by_their_whole_name() {
    let status = "VmHWM:\t   20480 kB\nVmRSS:\t    1536 kB\nRssAnon:\t     512 kB\n";
    assert_eq!(mebibytes(status, "VmRSS"), Some(1.5));
    assert_eq!(mebibytes(status, "VmHWM"), Some(20.0));
    assert_eq!(mebibytes(status, "Vm"), None);
    assert_eq!(mebibytes(status, "VmPeak"), None);
}
