//! Underlay devices as the XDP program must know them: the kernel tells it no more than the index.

use bytemuck::{Pod, Zeroable};

/// A device that has the XDP program. Key: [`DeviceKey`]. On a device without an entry the program passes everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Device {
    /// Its address; frames to others are none of our business.
    pub mac: [u8; 6],
    /// 1 when frames may be relayed from it and to it without the kernel's stack: it is driven natively, and every frame
    /// that comes in is whole and has all its checksums. 0 otherwise.
    pub relays: u16,
}

/// Key of [`crate::map::DEVICES`], as a named struct so that its BTF has a field name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct DeviceKey {
    /// The device's index.
    pub ifindex: u32,
}

const _: () = assert!(size_of::<Device>() == 8);
