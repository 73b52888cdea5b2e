//! ARP for IPv4 over Ethernet (RFC 826): requests of containers are answered in place.
//!
//! A container believes every neighbour to be on its link; the answer is derived from the address, so nothing is asked
//! of any other host. Where the host is the gateway out of the network, that holds for addresses outside it too. Left
//! unanswered: an address of the asker itself (duplicate address detection must find nobody), and an address of this host's
//! ranges that no container holds.

use weave_common::{
    addr::{Ip4, Mac},
    wire::{ETH_LEN, ETHERTYPE_ARP, ETHERTYPE_IPV4},
};

/// Length of an ARP message for IPv4 over Ethernet.
pub const ARP_LEN: usize = 28;
/// Length of a frame that carries one.
pub const FRAME_LEN: usize = ETH_LEN + ARP_LEN;

/// Hardware type.
const ETHERNET: u16 = 1;
/// Length of a hardware address and of a protocol address.
const LENGTHS: u16 = 0x0604;
const OP_REQUEST: u16 = 1;
const OP_REPLY: u16 = 2;

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// MAC of who asks.
    pub sender_mac: Mac,
    /// Address of who asks.
    pub sender: Ip4,
    /// Address that is asked for.
    pub target: Ip4,
}

/// Reads a request, or `None` when the message is anything else or asks for its sender's own address.
#[must_use]
#[inline(always)]
pub fn request(message: &[u8; ARP_LEN]) -> Option<Request> {
    let m = message;
    let word = |at: usize| u16::from_be_bytes([m[at], m[at + 1]]);
    if word(0) != ETHERNET || word(2) != ETHERTYPE_IPV4 || word(4) != LENGTHS || word(6) != OP_REQUEST {
        return None;
    }
    let sender = Ip4([m[14], m[15], m[16], m[17]]);
    let target = Ip4([m[24], m[25], m[26], m[27]]);
    if sender == target {
        return None;
    }
    Some(Request { sender_mac: Mac([m[8], m[9], m[10], m[11], m[12], m[13]]), sender, target })
}

/// The whole frame that answers `request`.
#[must_use]
#[inline(always)]
pub fn reply(request: &Request) -> [u8; FRAME_LEN] {
    let (to, from) = (request.sender_mac.0, Mac::of_container(request.target.0).0);
    let mut frame = [0; FRAME_LEN];
    frame[0..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&from);
    frame[12..14].copy_from_slice(&ETHERTYPE_ARP.to_be_bytes());
    frame[14..16].copy_from_slice(&ETHERNET.to_be_bytes());
    frame[16..18].copy_from_slice(&ETHERTYPE_IPV4.to_be_bytes());
    frame[18..20].copy_from_slice(&LENGTHS.to_be_bytes());
    frame[20..22].copy_from_slice(&OP_REPLY.to_be_bytes());
    frame[22..28].copy_from_slice(&from);
    frame[28..32].copy_from_slice(&request.target.0);
    frame[32..38].copy_from_slice(&to);
    frame[38..42].copy_from_slice(&request.sender.0);
    frame
}

#[cfg(target_arch = "bpf")]
mod live {
    use weave_common::{
        addr::Ip4, counters::Counter, drop::DropReason, endpoint::EndpointKey, route::ROUTE_PEER, wire::ETH_LEN,
    };

    use super::{ARP_LEN, FRAME_LEN, reply, request};
    use crate::{
        Outcome, maps,
        packet::Packet,
        parse,
        source::{self, Source},
    };

    /// Answers the ARP request in `packet` out of the interface that it came from.
    ///
    /// # Errors
    /// [`DropReason::Malformed`] when it is cut off, [`DropReason::SourceAddress`] when the asker is not who it says,
    /// [`DropReason::Arp`] when there is nothing to answer.
    #[inline(always)]
    pub fn answer(packet: &Packet) -> Result<Outcome, DropReason> {
        if !packet.pull(FRAME_LEN as u32) {
            return Err(DropReason::Malformed);
        }
        let message = packet.read::<ARP_LEN>(ETH_LEN).ok_or(DropReason::Malformed)?;
        let request = request(&message).ok_or(DropReason::Arp)?;
        if request.sender.0 == [0; 4] {
            return Err(DropReason::Arp);
        }
        let ifindex = packet.ifindex();
        // A host asks from the address that its packet will have, which may be one outside the network.
        let asker = source::check(request.sender, ifindex)?;
        let known = match maps::endpoint(EndpointKey::new(request.target)) {
            Some(holder) => holder.ifindex != ifindex,
            None => asker == Source::Own && reachable(request.target, ifindex),
        };
        if !known {
            return Err(DropReason::Arp);
        }
        packet.write(0, &reply(&request)).ok_or(DropReason::Malformed)?;
        packet.redirect(ifindex)?;
        Ok(Outcome::Redirected { counter: Counter::ArpReply, bytes: FRAME_LEN as u32 })
    }

    /// True when the container behind `ifindex` reaches `addr` on a peer, or outside the network through the host.
    #[inline(always)]
    fn reachable(addr: Ip4, ifindex: u32) -> bool {
        let Some(route) = maps::route(addr) else { return false };
        let outside = || maps::gateway_by(route).is_some_and(|host| host.ifindex != ifindex);
        route.kind == ROUTE_PEER || (parse::is_routable(addr) && outside())
    }
}

#[cfg(target_arch = "bpf")]
pub use live::answer;

#[cfg(test)]
mod tests;
