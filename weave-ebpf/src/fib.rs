//! Questions to the kernel's routing table, as both kinds of programs ask them.

use aya_ebpf::bindings::{BPF_FIB_LKUP_RET_FWD_DISABLED, BPF_FIB_LKUP_RET_NOT_FWDED, bpf_fib_lookup as FibLookup};
use weave_common::addr::Ip4;

/// `AF_INET`.
pub const AF_INET: u8 = 2;

/// What becomes of a packet between these addresses that came by, or would leave by, device `ifindex`?
#[inline(always)]
pub fn question(ifindex: u32, source: Ip4, destination: Ip4) -> FibLookup {
    // SAFETY: all fields are integers, for which zero is a value.
    let mut lookup: FibLookup = unsafe { core::mem::zeroed() };
    lookup.family = AF_INET;
    lookup.ifindex = ifindex;
    lookup.__bindgen_anon_3.ipv4_src = u32::from_ne_bytes(source.0);
    lookup.__bindgen_anon_4.ipv4_dst = u32::from_ne_bytes(destination.0);
    lookup
}

/// True when the answer `ret` says that the packet ends on this host rather than being routed on.
#[inline(always)]
pub const fn is_here(ret: i64) -> bool {
    ret == BPF_FIB_LKUP_RET_NOT_FWDED as i64 || ret == BPF_FIB_LKUP_RET_FWD_DISABLED as i64
}
