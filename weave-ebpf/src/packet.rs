//! The one place with pointers into a packet, and with the helpers that read or change one; `frame` is its like for XDP.
//!
//! Pointers into a packet never leave this module: reads copy, and every access compares with the packet's end as it is
//! at that moment, so no pointer outlives a helper that moves the data.

use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_CSUM_LEVEL_DEC, BPF_F_ADJ_ROOM_ENCAP_L2_ETH, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4,
        BPF_F_ADJ_ROOM_ENCAP_L4_UDP, BPF_F_ADJ_ROOM_FIXED_GSO, BPF_F_ADJ_ROOM_NO_CSUM_RESET, BPF_F_RECOMPUTE_CSUM,
        BPF_F_ZERO_CSUM_TX, TC_ACT_REDIRECT, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC, bpf_redir_neigh,
    },
    helpers::generated as helpers,
};
use weave_common::{
    addr::{Ip4, Mac},
    checksum,
    drop::DropReason,
    endpoint::{ENDPOINT_HOST, Endpoint},
    wire::{ETH_LEN, ETHERTYPE_IPV4, OUTER_TTL, PUSH_LEN, Push},
};

use crate::{bound::hidden, parse};

/// `AF_INET`.
pub const AF_INET: u8 = 2;

/// `PACKET_HOST`: addressed to this host.
const PACKET_HOST: u32 = 0;
/// Version 4, five words of header.
const PLAIN_IPV4: u8 = 0x45;
/// Low bits of a VLAN tag: the VLAN's number.
const VLAN_ID_MASK: u32 = 0x0fff;
/// Shift of the inner MAC header's length in `bpf_skb_adjust_room`'s flags.
const ENCAP_L2_SHIFT: u64 = 56;

/// Super-packets keep their segment size, and the stack learns where the inner headers are.
const PUSH_FLAGS: u64 = BPF_F_ADJ_ROOM_FIXED_GSO as u64
    | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 as u64
    | BPF_F_ADJ_ROOM_ENCAP_L4_UDP as u64
    | BPF_F_ADJ_ROOM_ENCAP_L2_ETH as u64
    | ((ETH_LEN as u64) << ENCAP_L2_SHIFT);
/// As above; what GRO or the device verified of the inner checksum stays verified.
const POP_FLAGS: u64 = BPF_F_ADJ_ROOM_FIXED_GSO as u64 | BPF_F_ADJ_ROOM_NO_CSUM_RESET as u64;

/// What the kernel's VXLAN device says of the packet that a frame came in.
#[derive(Clone, Copy)]
pub struct Tunnel {
    /// Network identifier.
    pub vni: u32,
    /// Outer source.
    pub remote: Ip4,
    /// Hop limit of the outer header as it arrived.
    pub ttl: u8,
}

impl Tunnel {
    /// From this host to `remote`, in network 0.
    #[inline(always)]
    pub const fn to(remote: Ip4) -> Self {
        Self { vni: 0, remote, ttl: OUTER_TTL }
    }
}

/// The start of the kernel's `struct bpf_tunnel_key`, which all kernels accept; later ones append to it.
#[derive(Default)]
#[repr(C)]
struct TunnelKey {
    id: u32,
    /// Host byte order; IPv6 fills all of it, IPv4 the first word.
    remote: [u32; 4],
    tos: u8,
    ttl: u8,
    ext: u16,
    label: u32,
}

/// The packet that a program runs on.
pub struct Packet {
    skb: *mut __sk_buff,
}

impl Packet {
    /// The packet of a program's context.
    #[inline(always)]
    pub const fn new(skb: *mut __sk_buff) -> Self {
        Self { skb }
    }

    /// Length of the frame with all its fragments.
    #[inline(always)]
    pub fn frame_len(&self) -> u32 {
        // SAFETY: the kernel passes a valid context and keeps it so for the program's run.
        unsafe { (*self.skb).len }
    }

    /// Index of the device that the program is attached to.
    #[inline(always)]
    pub fn ifindex(&self) -> u32 {
        // SAFETY: as in `frame_len`.
        unsafe { (*self.skb).ifindex }
    }

    /// Payload of each segment that a super-packet stands for; zero for an ordinary packet.
    #[inline(always)]
    pub fn gso_size(&self) -> u32 {
        // SAFETY: as in `frame_len`.
        unsafe { (*self.skb).gso_size }
    }

    /// True when the frame was addressed to this host's MAC.
    #[inline(always)]
    pub fn is_for_host(&self) -> bool {
        // SAFETY: as in `frame_len`.
        unsafe { (*self.skb).pkt_type == PACKET_HOST }
    }

    /// The mark that the sender put on the packet.
    #[inline(always)]
    pub fn mark(&self) -> u32 {
        // SAFETY: as in `frame_len`.
        unsafe { (*self.skb).mark }
    }

    /// Takes the mark off.
    #[inline(always)]
    pub fn clear_mark(&self) {
        // SAFETY: as in `frame_len`; programs of traffic control may write this field.
        unsafe { (*self.skb).mark = 0 };
    }

    /// Number of the VLAN that the frame is tagged with.
    #[inline(always)]
    pub fn vlan_id(&self) -> Option<u32> {
        // SAFETY: as in `frame_len`.
        unsafe { ((*self.skb).vlan_present != 0).then(|| (*self.skb).vlan_tci & VLAN_ID_MASK) }
    }

    /// Hash of the packet's flow.
    #[inline(always)]
    pub fn flow_hash(&self) -> u32 {
        // SAFETY: as in `frame_len`.
        unsafe { helpers::bpf_get_hash_recalc(self.skb) }
    }

    /// Start of the first `len` bytes after `offset`, or `None` when they are not all there.
    #[inline(always)]
    fn at(&self, offset: usize, len: usize) -> Option<*mut u8> {
        // SAFETY: as in `frame_len`.
        let (data, end) = unsafe { ((*self.skb).data as usize, (*self.skb).data_end as usize) };
        if data + offset + len > end { None } else { Some((data + offset) as *mut u8) }
    }

    /// Makes the first `len` bytes readable; false when the packet is shorter.
    #[inline(always)]
    pub fn pull(&self, len: u32) -> bool {
        // SAFETY: as in `frame_len`.
        self.at(0, len as usize).is_some()
            || (self.frame_len() >= len && unsafe { helpers::bpf_skb_pull_data(self.skb, len) } == 0)
    }

    /// A copy of `N` bytes at `offset`, or `None` when they have not been pulled.
    #[inline(always)]
    pub fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        // SAFETY: `at` has compared with the packet's end; `[u8; N]` has no alignment.
        self.at(offset, N).map(|from| unsafe { *from.cast::<[u8; N]>() })
    }

    /// Overwrites `N` bytes at `offset`, or `None` when they have not been pulled.
    #[inline(always)]
    pub fn write<const N: usize>(&self, offset: usize, bytes: &[u8; N]) -> Option<()> {
        // SAFETY: as in `read`; the kernel has made the pulled part private to this packet.
        self.at(offset, N).map(|to| unsafe { *to.cast::<[u8; N]>() = *bytes })
    }

    /// The byte at `offset`, pulled or not.
    #[inline(always)]
    pub fn byte(&self, offset: u32) -> Option<u8> {
        let mut byte = 0_u8;
        // SAFETY: the helper writes one byte to a place that holds one.
        let ret = unsafe { helpers::bpf_skb_load_bytes(self.skb.cast(), offset, (&raw mut byte).cast(), 1) };
        if ret == 0 { Some(byte) } else { None }
    }

    /// Copies `N` bytes at `offset`, pulled or not, to `to`; false when they are not all there.
    #[inline(always)]
    pub fn load<const N: usize>(&self, offset: u32, to: *mut [u8; N]) -> bool {
        // SAFETY: the helper writes `N` bytes at `to`, which has them.
        unsafe { helpers::bpf_skb_load_bytes(self.skb.cast(), offset, to.cast(), N as u32) == 0 }
    }

    /// Copies `len` bytes at `offset`, 1 to `N`, pulled or not, to the start of `to`; false when they are not all there.
    #[inline(always)]
    pub fn load_some<const N: usize>(&self, offset: u32, to: *mut [u8; N], len: u32) -> bool {
        const { assert!(N.is_power_of_two()) };
        if len == 0 || len > N as u32 {
            return false;
        }
        let len = (hidden(len - 1) & (N as u32 - 1)) + 1;
        // SAFETY: the helper writes `len` bytes at `to`, which has `N`.
        unsafe { helpers::bpf_skb_load_bytes(self.skb.cast(), offset, to.cast(), len) == 0 }
    }

    /// Overwrites `N` bytes at `offset`, pulled or not.
    ///
    /// # Errors
    /// [`DropReason::Kernel`] when the helper refuses.
    #[inline(always)]
    pub fn put<const N: usize>(&self, offset: u32, bytes: &[u8; N]) -> Result<(), DropReason> {
        // SAFETY: the helper reads `N` bytes at `bytes`.
        accepted(unsafe { helpers::bpf_skb_store_bytes(self.skb, offset, bytes.as_ptr().cast(), N as u32, 0) })
    }

    /// What the VXLAN device that the packet came by says of it.
    #[inline(always)]
    pub fn tunnel(&self) -> Option<Tunnel> {
        let mut key = TunnelKey::default();
        let (to, len) = ((&raw mut key).cast(), size_of::<TunnelKey>() as u32);
        // SAFETY: the helper writes `len` bytes at `key`.
        let ret = unsafe { helpers::bpf_skb_get_tunnel_key(self.skb, to, len, 0) };
        if ret == 0 {
            Some(Tunnel { vni: key.id, remote: Ip4(key.remote[0].to_be_bytes()), ttl: key.ttl })
        } else {
            None
        }
    }

    /// Tells the VXLAN device that the frame will leave by what to encapsulate it in. The outer packet may be cut.
    ///
    /// # Errors
    /// [`DropReason::Kernel`] when the helper refuses.
    #[inline(always)]
    pub fn set_tunnel(&self, tunnel: Tunnel) -> Result<(), DropReason> {
        let remote = [u32::from_be_bytes(tunnel.remote.0), 0, 0, 0];
        let mut key = TunnelKey { id: tunnel.vni, remote, ttl: tunnel.ttl, ..TunnelKey::default() };
        let (from, len) = ((&raw mut key).cast(), size_of::<TunnelKey>() as u32);
        // SAFETY: the helper reads `len` bytes at `key`.
        accepted(unsafe { helpers::bpf_skb_set_tunnel_key(self.skb, from, len, u64::from(BPF_F_ZERO_CSUM_TX)) })
    }

    /// Gives the frame `len` bytes: cuts it off, or adds zeros. A super-packet becomes an ordinary packet.
    ///
    /// # Errors
    /// [`DropReason::Kernel`] when the helper refuses.
    #[inline(always)]
    pub fn truncate(&self, len: u32) -> Result<(), DropReason> {
        // SAFETY: plain integers.
        accepted(unsafe { helpers::bpf_skb_change_tail(self.skb, len, 0) })
    }

    /// Makes room for `len` bytes behind the Ethernet header of an ordinary packet, and makes what is then the first
    /// `head` bytes readable.
    ///
    /// # Errors
    /// [`DropReason::Kernel`] when a helper refuses.
    #[inline(always)]
    pub fn make_room(&self, len: u32, head: u32) -> Result<(), DropReason> {
        // SAFETY: plain integers.
        accepted(unsafe { helpers::bpf_skb_adjust_room(self.skb, len as i32, BPF_ADJ_ROOM_MAC, 0) })?;
        if self.pull(head) { Ok(()) } else { Err(DropReason::Kernel) }
    }

    /// The Internet checksum of `N` bytes at `offset`, as it stands in a header; `None` when they have not been pulled.
    /// `N` is a multiple of 4, at most 512.
    #[inline(always)]
    pub fn checksum<const N: usize>(&self, offset: usize) -> Option<[u8; 2]> {
        const { assert!(N.is_multiple_of(4) && N <= 512, "what the helper takes") };
        let from = self.at(offset, N)?;
        // SAFETY: `at` has compared with the packet's end; the helper reads `N` bytes.
        let sum = unsafe { helpers::bpf_csum_diff(core::ptr::null_mut(), 0, from.cast(), N as u32, 0) };
        // The helper sums 16-bit words as they lie in memory.
        Some((!checksum::fold(sum as u32)).to_ne_bytes())
    }

    /// Overwrites `N` bytes at `offset`, and corrects what the device told of the packet's checksum.
    ///
    /// # Errors
    /// [`DropReason::Kernel`] when the helper refuses.
    #[inline(always)]
    pub fn store<const N: usize>(&self, offset: usize, bytes: &[u8; N]) -> Result<(), DropReason> {
        let (from, flags) = (bytes.as_ptr().cast(), u64::from(BPF_F_RECOMPUTE_CSUM));
        // SAFETY: the helper reads `N` bytes at `from`.
        accepted(unsafe { helpers::bpf_skb_store_bytes(self.skb, offset as u32, from, N as u32, flags) })
    }

    /// True when what should be a frame begins with an IPv4 header without options. No frame to this host's MAC begins so:
    /// as the first byte of an address it would make that a group's.
    #[inline(always)]
    pub fn is_bare_ipv4(&self) -> bool {
        // Two bytes: the compiler turns the bound of a single one into what verifiers do not take for a bound.
        self.read::<2>(0).is_some_and(|[first, _]| first == PLAIN_IPV4)
    }

    /// Puts an Ethernet header without addresses before a packet that has none.
    ///
    /// # Errors
    /// [`DropReason::Kernel`] when the helper refuses.
    #[inline(always)]
    pub fn put_ethernet(&self) -> Result<(), DropReason> {
        // SAFETY: plain integers.
        accepted(unsafe { helpers::bpf_skb_change_head(self.skb, ETH_LEN as u32, 0) })?;
        self.write(ETH_LEN - 2, &ETHERTYPE_IPV4.to_be_bytes()).ok_or(DropReason::Kernel)
    }

    /// Makes room for `push` behind the Ethernet header and writes it there.
    ///
    /// # Errors
    /// [`DropReason::Kernel`] when a helper refuses.
    #[inline(always)]
    pub fn push(&self, push: &Push) -> Result<(), DropReason> {
        // SAFETY: plain integers.
        accepted(unsafe { helpers::bpf_skb_adjust_room(self.skb, PUSH_LEN as i32, BPF_ADJ_ROOM_MAC, PUSH_FLAGS) })?;
        let from = core::ptr::from_ref(push).cast();
        // SAFETY: `push` has at least PUSH_LEN bytes.
        accepted(unsafe { helpers::bpf_skb_store_bytes(self.skb, ETH_LEN as u32, from, PUSH_LEN as u32, 0) })
    }

    /// Takes off what [`Packet::push`] put there.
    ///
    /// # Errors
    /// [`DropReason::Kernel`] when a helper refuses.
    #[inline(always)]
    pub fn pop(&self) -> Result<(), DropReason> {
        // SAFETY: plain integers.
        accepted(unsafe { helpers::bpf_skb_adjust_room(self.skb, -(PUSH_LEN as i32), BPF_ADJ_ROOM_MAC, POP_FLAGS) })?;
        // The outermost verified checksum was the outer UDP one, now gone. Refused when nothing was verified: fine.
        // SAFETY: plain integers.
        let _refused = unsafe { helpers::bpf_csum_level(self.skb, u64::from(BPF_CSUM_LEVEL_DEC)) };
        Ok(())
    }

    /// Hands the frame to a container, or to this host where it is the container, as if it came from its neighbour `source`.
    ///
    /// # Errors
    /// [`DropReason::Kernel`] when a helper refuses.
    #[inline(always)]
    pub fn deliver(&self, endpoint: &Endpoint, source: Ip4) -> Result<(), DropReason> {
        let macs = parse::macs(endpoint.mac(), Mac::of_container(source.0));
        self.write(0, &macs).ok_or(DropReason::Malformed)?;
        if !self.is_for_host() {
            // SAFETY: plain integers. Kernels before 6.15 leave the type as the host's stack saw it.
            accepted(unsafe { helpers::bpf_skb_change_type(self.skb, PACKET_HOST) })?;
        }
        if endpoint.has(ENDPOINT_HOST) {
            // Out of the host end, and so in by the other end in this namespace, where a mark would stay.
            self.clear_mark();
            return self.redirect(endpoint.ifindex);
        }
        // SAFETY: plain integers.
        redirected(unsafe { helpers::bpf_redirect_peer(endpoint.ifindex, 0) })
    }

    /// Sends the frame out of device `ifindex`.
    ///
    /// # Errors
    /// [`DropReason::Kernel`] when the helper refuses.
    #[inline(always)]
    pub fn redirect(&self, ifindex: u32) -> Result<(), DropReason> {
        // SAFETY: plain integers.
        redirected(unsafe { helpers::bpf_redirect(ifindex, 0) })
    }

    /// Sends the packet out of device `ifindex` to the neighbour `next_hop` (network byte order).
    ///
    /// # Errors
    /// [`DropReason::Kernel`] when the helper refuses.
    #[inline(always)]
    pub fn redirect_neigh(&self, ifindex: u32, next_hop: u32) -> Result<(), DropReason> {
        // SAFETY: all fields are integers, for which zero is a value.
        let mut neighbour: bpf_redir_neigh = unsafe { core::mem::zeroed() };
        neighbour.nh_family = u32::from(AF_INET);
        neighbour.__bindgen_anon_1.ipv4_nh = next_hop;
        let len = size_of::<bpf_redir_neigh>() as i32;
        // SAFETY: the helper reads `len` bytes at `neighbour`.
        redirected(unsafe { helpers::bpf_redirect_neigh(ifindex, &raw mut neighbour, len, 0) })
    }

    /// Sends the packet out of device `ifindex` to the neighbour that the host's routes name for its destination.
    ///
    /// # Errors
    /// [`DropReason::Kernel`] when the helper refuses.
    #[inline(always)]
    pub fn redirect_routed(&self, ifindex: u32) -> Result<(), DropReason> {
        // SAFETY: without parameters the helper reads none.
        redirected(unsafe { helpers::bpf_redirect_neigh(ifindex, core::ptr::null_mut(), 0, 0) })
    }
}

/// Zero is a helper's yes.
#[inline(always)]
const fn accepted(ret: i64) -> Result<(), DropReason> {
    if ret == 0 { Ok(()) } else { Err(DropReason::Kernel) }
}

/// A redirecting helper answers with a verdict.
#[inline(always)]
const fn redirected(verdict: i64) -> Result<(), DropReason> {
    if verdict == TC_ACT_REDIRECT as i64 { Ok(()) } else { Err(DropReason::Kernel) }
}
