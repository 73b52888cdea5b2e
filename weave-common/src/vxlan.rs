//! VXLAN (RFC 7348), and the network identifier of the probes that share its port.

/// Overlay network identifier of user traffic.
pub const VNI: u32 = 0x77_65_76;
/// Identifier under which the controllers' probes travel on the data port. Never user traffic.
pub const PROBE_VNI: u32 = 0xff_ff_fe;

/// `I` flag: the network identifier is valid.
pub const FLAG_VNI: u8 = 0x08;

/// Length of the VXLAN header.
pub const HEADER_LEN: usize = 8;
/// What encapsulation adds to an inner IP packet: outer IPv4, UDP, VXLAN, inner Ethernet.
pub const OVERHEAD: u32 = 20 + 8 + HEADER_LEN as u32 + 14;

/// A VXLAN header for network `vni`.
#[must_use]
pub const fn header(vni: u32) -> [u8; HEADER_LEN] {
    let [_, v0, v1, v2] = vni.to_be_bytes();
    [FLAG_VNI, 0, 0, 0, v0, v1, v2, 0]
}

/// The network identifier of `header`, or `None` when its `I` flag is not set.
#[must_use]
#[inline(always)]
pub const fn vni(header: &[u8; HEADER_LEN]) -> Option<u32> {
    if header[0] & FLAG_VNI == 0 {
        return None;
    }
    Some(u32::from_be_bytes([0, header[4], header[5], header[6]]))
}
