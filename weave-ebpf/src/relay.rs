//! From a peer to another: the outer header is rewritten towards the next hop, all else stays as it is.
//!
//! A packet that the underlay's program sees is never decapsulated: the inner Ethernet header keeps the names of receiver and
//! origin, by the former of which it is relayed, the UDP source port keeps the flow, unless the path asks for another. The hop limit of the outer header bounds how far it goes, and no
//! peer sends it back to where it came from.
//!
//! A packet with a UDP checksum is refused, because no peer makes one.
//!
//! Packets that were merged on arrival leave merged, and are cut by the stack or the device. Their transport header, as the
//! stack has noted it, is the inner one, which no helper can mend: a device that cuts tunnelled packets itself and looks
//! there for the outer one must be told not to (`ethtool -K DEVICE tx-udp_tnl-segmentation off`).

use weave_common::{
    addr::{Ip4, PeerKey},
    checksum,
    drop::DropReason,
    tunnel::Tunnel,
    wire::{ETH_LEN, OuterHeader},
};

use crate::parse::{OUTER_UDP_LEN, Outer};

/// Offset in the frame of what is rewritten: from the IP flags to the UDP destination port.
pub const REWRITE_AT: usize = ETH_LEN + FLAGS_AT;
/// Its length.
pub const REWRITE_LEN: usize = OUTER_UDP_LEN - 4 - REWRITE_AT;

/// Offsets in the IP header.
const FLAGS_AT: usize = 6;
const CHECKSUM_AT: usize = 10;
/// Do not fragment, and nothing else.
const DF: u16 = 0x4000;

/// Where a packet came from: outer source address and hop limit, and the peer whose address that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Outer source address.
    pub source: Ip4,
    /// Hop limit of the outer header.
    pub ttl: u8,
    /// The peer that sends from that address.
    pub peer: PeerKey,
}

/// Checks that a packet from `origin` may leave by `tunnel`.
///
/// # Errors
/// [`DropReason::RelayBack`] when it would go back to where it came from, [`DropReason::TtlExhausted`] when it has gone
/// far enough.
#[inline(always)]
pub fn may_leave(origin: &Origin, tunnel: &Tunnel) -> Result<(), DropReason> {
    if tunnel.via == origin.peer || tunnel.push.outer.destination() == origin.source.0 {
        Err(DropReason::RelayBack)
    } else if origin.ttl <= 1 {
        Err(DropReason::TtlExhausted)
    } else {
        Ok(())
    }
}

/// Checks that a packet that came with the headers `outer` from the peer `from` may leave by `tunnel` as it is.
///
/// # Errors
/// [`DropReason::Malformed`] when it carries a UDP checksum; else as [`may_leave`].
#[inline(always)]
pub fn check(outer: &Outer, from: PeerKey, tunnel: &Tunnel) -> Result<(), DropReason> {
    if outer.checksum != 0 {
        return Err(DropReason::Malformed);
    }
    may_leave(&Origin { source: outer.source, ttl: outer.ttl, peer: from }, tunnel)
}

/// What stands at [`REWRITE_AT`] once a frame that begins with `header` is addressed as `to` says, one hop further. Its
/// hop limit must be above zero. The source port becomes `source_port`; zero keeps it.
#[must_use]
#[inline(always)]
pub fn rewritten(header: &[u8; OUTER_UDP_LEN], to: &OuterHeader, source_port: u16) -> [u8; REWRITE_LEN] {
    let old = |at: usize| u16::from_be_bytes([header[ETH_LEN + at], header[ETH_LEN + at + 1]]);
    let address = |at: usize| u16::from_be_bytes([to.ipv4[at], to.ipv4[at + 1]]);
    let hop = old(FLAGS_AT + 2).wrapping_sub(0x0100);
    let sum = checksum::update_words(
        old(CHECKSUM_AT),
        [old(FLAGS_AT), old(FLAGS_AT + 2), old(12), old(14), old(16), old(18)],
        [DF, hop, address(12), address(14), address(16), address(18)],
    );
    let ([f0, f1], [h0, h1], [s0, s1], ip) = (DF.to_be_bytes(), hop.to_be_bytes(), sum.to_be_bytes(), &to.ipv4);
    let [p0, p1] = if source_port == 0 { [header[34], header[35]] } else { source_port.to_be_bytes() };
    [
        f0, f1, h0, h1, s0, s1, ip[12], ip[13], ip[14], ip[15], ip[16], ip[17], ip[18], ip[19], p0, p1, to.udp[2],
        to.udp[3],
    ]
}

#[cfg(target_arch = "bpf")]
mod live {
    use weave_common::{
        addr::{Ip4, PeerKey},
        config::Config,
        counters::Counter,
        drop::DropReason,
        vxlan,
        wire::{ETH_LEN, NAME_LEN, PUSH_LEN},
    };

    use super::{Origin, REWRITE_AT, check, may_leave, rewritten};
    use crate::{
        Outcome,
        encap::largest,
        maps,
        packet::{Packet, Tunnel},
        parse::{INNER_AT, Ipv4, Names, OUTER_UDP_LEN, Outer},
    };

    /// The next hop of a data frame that no container here is for: towards the receiver that it names, or, when that is this
    /// peer, from which the range has moved, towards the owner, whose name it then gets.
    ///
    /// # Errors
    /// Why there is none.
    #[inline(always)]
    pub fn next(config: &Config, names: &Names, ip: &Ipv4) -> Result<(Option<[u8; NAME_LEN]>, maps::Way), DropReason> {
        if names.receiver != config.me {
            return Ok((None, maps::way_to(names.receiver)?));
        }
        let (owner, way) = maps::owner(ip.destination)?;
        Ok((Some(owner.name), way))
    }

    /// Sends a packet from the peer `from` on.
    ///
    /// # Errors
    /// Why it is dropped.
    #[inline(always)]
    pub fn to_next(
        packet: &Packet,
        outer: &Outer,
        from: PeerKey,
        config: &Config,
        (names, ip): (&Names, &Ipv4),
    ) -> Result<Outcome, DropReason> {
        let (renamed, way) = next(config, names, ip)?;
        let tunnel = way.tunnel();
        check(outer, from, tunnel)?;
        let len = outer.total_len.saturating_sub(vxlan::OVERHEAD);
        let largest = largest(packet, (INNER_AT + ETH_LEN) as u32, ip, len)?;
        if largest > tunnel.inner_mtu {
            return Err(DropReason::TooBig);
        }
        let bytes = packet.frame_len() - PUSH_LEN as u32;
        let header = packet.read::<OUTER_UDP_LEN>(0).ok_or(DropReason::Malformed)?;
        let to = &tunnel.push.outer;
        packet.store(REWRITE_AT, &rewritten(&header, to, to.source_port()))?;
        if let Some(name) = renamed {
            packet.store(INNER_AT, &name)?;
        }
        way.note_sent(largest);
        packet.redirect_neigh(tunnel.ifindex, u32::from_ne_bytes(tunnel.next_hop))?;
        Ok(Outcome::Redirected { counter: Counter::Relay, bytes })
    }

    /// Sends a data frame that the VXLAN socket device took off the data port on by the same device: the kernel's stack
    /// encapsulates it, and cuts it where it must.
    ///
    /// # Errors
    /// Why it is dropped; [`DropReason::NoTunnel`] also for a peer at another port than the device's.
    #[inline(always)]
    pub fn by_socket(
        packet: &Packet,
        config: &Config,
        origin: &Origin,
        (names, ip): (&Names, &Ipv4),
    ) -> Result<Outcome, DropReason> {
        let (renamed, way) = next(config, names, ip)?;
        let tunnel = way.tunnel();
        may_leave(origin, tunnel)?;
        let bytes = packet.frame_len();
        if let Some(name) = renamed {
            packet.write(0, &name).ok_or(DropReason::Malformed)?;
        }
        out_of_socket(packet, config, &way, (config.vni, origin.ttl - 1))?;
        way.note_sent(bytes - ETH_LEN as u32);
        Ok(Outcome::Redirected { counter: Counter::Relay, bytes })
    }

    /// Hands the frame to the VXLAN socket device that it came by, for the next hop of `way`.
    ///
    /// # Errors
    /// [`DropReason::NoTunnel`] for a peer at another port than the device's, [`DropReason::Kernel`] when a helper refuses.
    #[inline(always)]
    pub fn out_of_socket(
        packet: &Packet,
        config: &Config,
        way: &maps::Way,
        (vni, ttl): (u32, u8),
    ) -> Result<(), DropReason> {
        let outer = &way.tunnel().push.outer;
        if outer.destination_port() != config.data_port {
            return Err(DropReason::NoTunnel);
        }
        packet.set_tunnel(Tunnel { vni, remote: Ip4(outer.destination()), ttl })?;
        packet.redirect(packet.ifindex())
    }
}

#[cfg(target_arch = "bpf")]
pub use live::{by_socket, next, out_of_socket, to_next};

#[cfg(test)]
mod tests;
