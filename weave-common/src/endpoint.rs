//! Local containers: the exact-match table that is looked up before any route.

use bytemuck::{Pod, Zeroable};

use crate::{
    addr::{Ip4, Mac},
    bucket::Bucket,
};

/// A container on this host. Key: its overlay address ([`Ip4`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Endpoint {
    /// Index of the veth's host end; what the container sends arrives there, and nowhere else.
    pub ifindex: u32,
    /// MAC of the container's end: the one derived from the first of its addresses. Not a [`Mac`], whose only field would
    /// show as `__0` in dumps.
    pub mac: [u8; 6],
    /// [`ENDPOINT_HOST`], [`ENDPOINT_GATEWAY`], [`ENDPOINT_SERVICE`]; the other bits are zero.
    pub flags: u16,
    /// Always zero.
    pub pad4: [u8; 4],
    /// When an ICMP "fragmentation needed" was last sent to this address, in nanoseconds of the monotonic clock; zero when
    /// none ever was. Written by the programs, in place; an entry that the controller replaces begins at zero again.
    pub icmp_ns: u64,
    /// Questions for names that the resolver still gets from this address ([`crate::bucket::QUESTIONS`]). As above.
    pub questions: Bucket,
}

/// The container is the host itself: both ends of the veth are in this namespace, and frames are delivered out of its host
/// end. (`bpf_redirect_peer` delivers to another namespace alone, `net/core/filter.c`.)
pub const ENDPOINT_HOST: u16 = 1;
/// With [`ENDPOINT_HOST`]: local containers reach what is outside the network through the host, which may forward the
/// answers, from addresses outside the network, to them.
pub const ENDPOINT_GATEWAY: u16 = 2;

/// Questions for names are answered there: reached by containers of this host alone, with DNS and echo, and it reaches them
/// alone.
pub const ENDPOINT_SERVICE: u16 = 4;

/// Least time between two ICMP "fragmentation needed" to one address of a container, in nanoseconds.
pub const ICMP_STEP_NS: u64 = 1_000_000;

impl Endpoint {
    /// The endpoint behind host interface `ifindex`, whose container's interface has `mac`.
    #[must_use]
    pub const fn new(ifindex: u32, mac: Mac) -> Self {
        Self { ifindex, mac: mac.0, flags: 0, pad4: [0; 4], icmp_ns: 0, questions: Bucket::FULL }
    }

    /// True when all of these flags are set.
    #[must_use]
    #[inline(always)]
    pub const fn has(&self, flags: u16) -> bool {
        self.flags & flags == flags
    }

    /// MAC of the container's end.
    #[must_use]
    #[inline(always)]
    pub const fn mac(&self) -> Mac {
        Mac(self.mac)
    }
}

/// Key of [`crate::map::ENDPOINTS`], as a named struct so that its BTF has a field name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct EndpointKey {
    /// The container's overlay address.
    pub addr: [u8; 4],
}

impl EndpointKey {
    /// The key of the container at `addr`.
    #[must_use]
    #[inline(always)]
    pub const fn new(addr: Ip4) -> Self {
        Self { addr: addr.0 }
    }
}

const _: () = assert!(size_of::<Endpoint>() == 40);
