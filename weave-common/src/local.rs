//! This host's own underlay addresses: what tells a packet that ends here from one that the host routes on.

use bytemuck::{Pod, Zeroable};

use crate::addr::Ip4;

/// An IPv4 address of this host. Key: [`LocalKey`]. Written by the controller, which follows the host's devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Local {
    /// Index of the device that has the address.
    pub ifindex: u32,
}

/// Key of [`crate::map::LOCALS`], as a named struct so that its BTF has a field name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct LocalKey {
    /// The address.
    pub addr: [u8; 4],
}

impl LocalKey {
    /// The key of `addr`.
    #[must_use]
    #[inline(always)]
    pub const fn new(addr: Ip4) -> Self {
        Self { addr: addr.0 }
    }
}

const _: () = assert!(size_of::<Local>() == 4);
const _: () = assert!(size_of::<LocalKey>() == 4);
