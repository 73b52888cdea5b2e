//! Reading the kernel's own count of processor time.

use super::kernel;

#[test]
fn neither_idle_nor_programs_own_time_is_the_kernels() {
    let stat = "cpu  100 20 300 99999 5555 40 60 7 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
    assert_eq!(kernel(stat), Some(4.0));
    assert_eq!(kernel("cpu0 1 1 1 1 1 1 1\n"), None);
    assert_eq!(kernel("cpu  1 2 3\n"), None);
}
