//! What the programs must know of the controller's settings.

use bytemuck::{Pod, Zeroable};

/// Version of every layout in this crate. Part of the path under which maps and links are pinned.
///
/// Changed whenever a struct, a map's type, the meaning of a field or the name of a pin changes.
pub const SCHEMA: u32 = 7;

/// The one entry (key 0) of [`crate::map::CONFIG`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Config {
    /// [`SCHEMA`] once written. An array entry that nobody wrote reads as zero: the programs then pass everything
    /// that comes from the underlay and drop what comes from containers.
    pub schema: u32,
    /// VXLAN network identifier of the overlay, host byte order, 24 bits.
    pub vni: u32,
    /// UDP port of the data plane, host byte order: of data and of probes.
    pub data_port: u16,
    /// Always zero.
    pub pad: u16,
    /// Index of the VXLAN socket device, by which packets leave that the kernel's stack must cut. Zero without one: such
    /// packets are then dropped.
    pub socket_ifindex: u32,
    /// This peer's name.
    pub me: [u8; 6],
    /// Always zero.
    pub pad2: [u8; 2],
    /// The service address; zero without one.
    pub service: [u8; 4],
    /// Seconds for which answers about names may be kept, host byte order.
    pub dns_ttl: u32,
    /// [`DNS_ANSWERED`], or zero.
    pub dns: u32,
}

/// The programs answer questions for names.
pub const DNS_ANSWERED: u32 = 1;

const _: () = assert!(size_of::<Config>() == 36);
