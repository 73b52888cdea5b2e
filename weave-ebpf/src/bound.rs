//! Bounds that the compiler leaves for the verifier.
//!
//! The compiler leaves out a comparison or a mask that it knows to change nothing. The verifier may not know that: the one of
//! Linux 6.1 forgets the bound of a value that was compared after it had been spilled to the stack.

use core::ptr;

/// The same value, of which the compiler knows nothing: what it is compared with next is compared.
#[inline(always)]
pub fn hidden(value: u32) -> u32 {
    // SAFETY: a reference is valid for a read.
    unsafe { ptr::read_volatile(&raw const value) }
}
