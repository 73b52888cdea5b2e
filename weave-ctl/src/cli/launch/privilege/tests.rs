//! What a process may do, as the kernel tells it.

use rustix::thread::CapabilitySet;

use super::missing;

#[test]
fn what_is_missing_is_named() {
    assert_eq!(missing(CapabilitySet::all()), None);
    let without_bpf = CapabilitySet::all() - CapabilitySet::BPF;
    assert_eq!(missing(without_bpf).as_deref(), Some("CAP_BPF"));
    assert_eq!(missing(CapabilitySet::empty()).as_deref(), Some("CAP_NET_ADMIN, CAP_BPF, CAP_SYS_ADMIN"));
}
