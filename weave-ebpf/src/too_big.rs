//! From a container, larger than the path to its peer: answered with ICMP, or left to the kernel's stack to be cut.
//!
//! With DF set the container is told the size that fits (RFC 792, RFC 1191 section 4), from the destination's address, as
//! a router on the path would tell it; at most one message in [`weave_common::endpoint::ICMP_STEP_NS`] and address. With DF
//! clear the VXLAN socket device takes the packet: the stack encapsulates it and cuts the outer packet. A super-packet is
//! judged, by the caller, by the segments that it will be cut into.
//!
//! Not answered, and dropped: a fragment with DF set and an offset, for which no socket would be found, and an ICMP error
//! (RFC 1122 section 3.2.2).

use weave_common::{
    addr::Ip4,
    checksum,
    wire::{IPPROTO_ICMP, IPV4_LEN, OUTER_TTL},
};

use crate::parse::Ipv4;

/// Bytes of the packet that the message repeats: the longest IPv4 header and 20 more, where ports, sequence number and
/// checksum of TCP stand. The kernel refuses to cut off a checksum that is still to be filled in.
pub const QUOTE_LEN: usize = 80;
/// IPv4 and ICMP headers of the message.
pub const HEADERS_LEN: usize = IPV4_LEN + ICMP_LEN;
/// Smallest size that is told: RFC 791 asks every host for it. A path that takes less is none.
pub const MTU_MIN: u32 = 68;

const ICMP_LEN: usize = 8;
/// Destination unreachable: fragmentation needed and DF set.
const TYPE_CODE: [u8; 2] = [3, 4];
/// Internetwork control (RFC 1812 section 5.3.2), as the kernel's own messages have it.
const TOS: u8 = 0xc0;
const DF: u16 = 0x4000;
const OFFSET: u16 = 0x1fff;

/// What becomes of a packet that is larger than its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its sender is told.
    Answer,
    /// The kernel's stack cuts it.
    SlowPath,
    /// Neither can be done.
    Drop,
}

/// The fate of a packet by its header.
#[must_use]
#[inline(always)]
pub const fn fate(ip: &Ipv4) -> Fate {
    if ip.fragment & DF == 0 {
        Fate::SlowPath
    } else if ip.fragment & OFFSET == 0 {
        Fate::Answer
    } else {
        Fate::Drop
    }
}

/// True for the types of ICMP messages that are about another packet.
#[must_use]
#[inline(always)]
pub const fn is_icmp_error(ip: &Ipv4, first_byte: u8) -> bool {
    ip.protocol == IPPROTO_ICMP && matches!(first_byte, 3 | 4 | 5 | 11 | 12)
}

/// IPv4 and ICMP headers of the message that tells the sender of `ip` that `mtu` bytes fit; its ICMP checksum is zero.
#[must_use]
#[inline(always)]
pub fn headers(ip: &Ipv4, mtu: u32) -> [u8; HEADERS_LEN] {
    const TOTAL: [u8; 2] = ((HEADERS_LEN + QUOTE_LEN) as u16).to_be_bytes();
    let (Ip4(s), Ip4(d)) = (ip.destination, ip.source);
    let [m0, m1] = if mtu > u16::MAX as u32 { [0xff; 2] } else { (mtu as u16).to_be_bytes() };
    let words = [
        u16::from_be_bytes([0x45, TOS]),
        u16::from_be_bytes(TOTAL),
        u16::from_be_bytes([OUTER_TTL, IPPROTO_ICMP]),
        u16::from_be_bytes([s[0], s[1]]),
        u16::from_be_bytes([s[2], s[3]]),
        u16::from_be_bytes([d[0], d[1]]),
        u16::from_be_bytes([d[2], d[3]]),
    ];
    // That of a header of zeros is all ones.
    let [c0, c1] = checksum::update_words(u16::MAX, [0; 7], words).to_be_bytes();
    [
        0x45,
        TOS,
        TOTAL[0],
        TOTAL[1],
        0,
        0,
        0,
        0,
        OUTER_TTL,
        IPPROTO_ICMP,
        c0,
        c1,
        s[0],
        s[1],
        s[2],
        s[3],
        d[0],
        d[1],
        d[2],
        d[3],
        TYPE_CODE[0],
        TYPE_CODE[1],
        0,
        0,
        0,
        0,
        m0,
        m1,
    ]
}

#[cfg(target_arch = "bpf")]
mod live {
    use weave_common::{
        addr::{Ip4, Mac},
        config::Config,
        counters::Counter,
        drop::DropReason,
        endpoint::EndpointKey,
        wire::{ETH_LEN, IPV4_LEN, OUTER_TTL, Push},
    };

    use super::{Fate, HEADERS_LEN, ICMP_LEN, MTU_MIN, QUOTE_LEN, fate, headers, is_icmp_error};
    use crate::{
        Outcome, maps,
        packet::{Packet, Tunnel},
        parse::{self, IP_AT, Ipv4, MACS_LEN},
    };

    /// Offset of the ICMP checksum in the frame.
    const CHECKSUM_AT: usize = IP_AT + IPV4_LEN + 2;

    /// Does what can be done for a packet that is larger than the path of `way`.
    ///
    /// # Errors
    /// [`DropReason::TooBig`] when nothing can be, [`DropReason::Kernel`] when a helper refuses.
    #[inline(always)]
    pub fn handle(packet: &Packet, ip: &Ipv4, way: &maps::Way, config: &Config) -> Result<Outcome, DropReason> {
        match fate(ip) {
            Fate::Answer => answer(packet, ip, way.tunnel().inner_mtu),
            Fate::SlowPath => slow_path(packet, way, config),
            Fate::Drop => Err(DropReason::TooBig),
        }
    }

    /// Makes the packet the ICMP message about itself and sends it back into the container.
    #[inline(always)]
    fn answer(packet: &Packet, ip: &Ipv4, mtu: u32) -> Result<Outcome, DropReason> {
        const SIZE: u32 = (ETH_LEN + HEADERS_LEN + QUOTE_LEN) as u32;
        let macs = packet.read::<MACS_LEN>(0).ok_or(DropReason::Malformed)?;
        let kind = packet.byte(IP_AT as u32 + ip.header_len).ok_or(DropReason::Malformed)?;
        let quoted = (ETH_LEN + QUOTE_LEN) as u32;
        if mtu < MTU_MIN || packet.frame_len() < quoted || is_icmp_error(ip, kind) {
            return Err(DropReason::TooBig);
        }
        if !maps::may_answer_too_big(EndpointKey::new(ip.source)) {
            return Err(DropReason::TooBig);
        }
        packet.truncate(quoted)?;
        packet.make_room(HEADERS_LEN as u32, SIZE)?;
        let [t0, t1, t2, t3, t4, t5, f0, f1, f2, f3, f4, f5] = macs;
        let macs = parse::macs(Mac([f0, f1, f2, f3, f4, f5]), Mac([t0, t1, t2, t3, t4, t5]));
        packet.write(0, &macs).ok_or(DropReason::Malformed)?;
        packet.write(IP_AT, &headers(ip, mtu)).ok_or(DropReason::Malformed)?;
        let sum = packet.checksum::<{ ICMP_LEN + QUOTE_LEN }>(IP_AT + IPV4_LEN).ok_or(DropReason::Malformed)?;
        packet.write(CHECKSUM_AT, &sum).ok_or(DropReason::Malformed)?;
        packet.redirect(packet.ifindex())?;
        Ok(Outcome::Redirected { counter: Counter::IcmpTooBig, bytes: SIZE })
    }

    /// Leaves the packet to the VXLAN socket device.
    #[inline(always)]
    fn slow_path(packet: &Packet, way: &maps::Way, config: &Config) -> Result<Outcome, DropReason> {
        let Push { outer, ethernet, .. } = &way.tunnel().push;
        // The device sends to its own port alone.
        if config.socket_ifindex == 0 || outer.destination_port() != config.data_port {
            return Err(DropReason::TooBig);
        }
        let bytes = packet.frame_len();
        packet.write(0, ethernet).ok_or(DropReason::Malformed)?;
        packet.set_tunnel(Tunnel { vni: config.vni, remote: Ip4(outer.destination()), ttl: OUTER_TTL })?;
        way.note_sent(bytes - ETH_LEN as u32);
        packet.redirect(config.socket_ifindex)?;
        Ok(Outcome::Redirected { counter: Counter::SlowPath, bytes })
    }
}

#[cfg(target_arch = "bpf")]
pub use live::handle;

#[cfg(test)]
mod tests;
