//! The one place with pointers into a frame that XDP sees, and with the helpers that read or change one.
//!
//! As in `packet`: reads copy, writes are compared with the end of the frame's first buffer at that moment.

use aya_ebpf::{
    bindings::{BPF_FIB_LOOKUP_OUTPUT, bpf_fib_lookup as FibLookup, xdp_action::XDP_REDIRECT, xdp_md},
    helpers::generated as helpers,
};
use weave_common::{addr::Ip4, drop::DropReason, tunnel::Tunnel};

use crate::{packet::AF_INET, parse::MACS_LEN};

/// The frame that a program runs on.
pub struct Frame {
    md: *mut xdp_md,
}

impl Frame {
    /// The frame of a program's context.
    #[inline(always)]
    pub const fn new(md: *mut xdp_md) -> Self {
        Self { md }
    }

    /// Length of the frame with all its buffers.
    #[inline(always)]
    pub fn frame_len(&self) -> u32 {
        // SAFETY: the kernel passes a valid context and keeps it so for the program's run.
        unsafe { helpers::bpf_xdp_get_buff_len(self.md) as u32 }
    }

    /// Index of the device that the frame came by.
    #[inline(always)]
    pub fn ifindex(&self) -> u32 {
        // SAFETY: as in `frame_len`.
        unsafe { (*self.md).ingress_ifindex }
    }

    /// Start of `len` bytes at `offset`, or `None` when they are not all in the first buffer.
    #[inline(always)]
    fn at(&self, offset: usize, len: usize) -> Option<*mut u8> {
        // SAFETY: as in `frame_len`.
        let (data, end) = unsafe { ((*self.md).data as usize, (*self.md).data_end as usize) };
        if data + offset + len > end { None } else { Some((data + offset) as *mut u8) }
    }

    /// A copy of `N` bytes at `offset`, or `None` when they are not all in the first buffer.
    #[inline(always)]
    pub fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        // SAFETY: `at` has compared with the buffer's end; `[u8; N]` has no alignment.
        self.at(offset, N).map(|from| unsafe { *from.cast::<[u8; N]>() })
    }

    /// Overwrites `N` bytes at `offset`, or `None` when they are not all in the first buffer.
    #[inline(always)]
    pub fn write<const N: usize>(&self, offset: usize, bytes: &[u8; N]) -> Option<()> {
        // SAFETY: as in `read`.
        self.at(offset, N).map(|to| unsafe { *to.cast::<[u8; N]>() = *bytes })
    }

    /// Destination and source MAC of a frame that leaves by `tunnel`. `None` when the kernel does not know the neighbour
    /// now, would send by another way, or does not forward.
    #[inline(always)]
    pub fn macs(&self, tunnel: &Tunnel) -> Option<[u8; MACS_LEN]> {
        let ip = &tunnel.push.outer.ipv4;
        let source = Ip4([ip[12], ip[13], ip[14], ip[15]]);
        // SAFETY: all fields are integers, for which zero is a value.
        let mut question: FibLookup = unsafe { core::mem::zeroed() };
        question.family = AF_INET;
        question.ifindex = tunnel.ifindex;
        question.__bindgen_anon_3.ipv4_src = u32::from_ne_bytes(source.0);
        question.__bindgen_anon_4.ipv4_dst = u32::from_ne_bytes(tunnel.next_hop);
        let len = size_of_val(&question) as i32;
        // SAFETY: the helper reads and writes `len` bytes at `question`.
        let ret = unsafe { helpers::bpf_fib_lookup(self.md.cast(), &raw mut question, len, BPF_FIB_LOOKUP_OUTPUT) };
        // SAFETY: the helper has written an IPv4 address there, or left ours.
        let next_hop = unsafe { question.__bindgen_anon_4.ipv4_dst };
        if ret != 0 || question.ifindex != tunnel.ifindex || next_hop != u32::from_ne_bytes(tunnel.next_hop) {
            return None;
        }
        let ([t0, t1, t2, t3, t4, t5], [f0, f1, f2, f3, f4, f5]) = (question.dmac, question.smac);
        Some([t0, t1, t2, t3, t4, t5, f0, f1, f2, f3, f4, f5])
    }

    /// Sends the frame out of device `ifindex`, as it is when the program ends.
    ///
    /// # Errors
    /// [`DropReason::Kernel`] when the helper refuses.
    #[inline(always)]
    pub fn redirect(&self, ifindex: u32) -> Result<(), DropReason> {
        // SAFETY: plain integers.
        let verdict = unsafe { helpers::bpf_redirect(ifindex, 0) };
        if verdict == i64::from(XDP_REDIRECT) { Ok(()) } else { Err(DropReason::Kernel) }
    }
}
