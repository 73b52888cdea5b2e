//! Counting, on this CPU's own slots.

use weave_common::{counters::Counter, drop::DropReason};

use crate::maps::{COUNTERS, DROPS};

/// Counts a packet dropped for `reason`.
#[inline(always)]
pub fn dropped(reason: DropReason) {
    if let Some(slot) = DROPS.get_ptr_mut(reason as u32) {
        // SAFETY: the slot is this CPU's; a program that interrupts this one can at most lose one count.
        unsafe { *slot += 1 };
    }
}

/// Counts a packet of `bytes` under `counter`.
#[inline(always)]
pub fn passed(counter: Counter, bytes: u32) {
    if let Some(slot) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: as in `dropped`.
        unsafe {
            (*slot).packets += 1;
            (*slot).bytes += u64::from(bytes);
        }
    }
}
