//! What becomes of probes: on an underlay device, and on the VXLAN socket device in both directions.

use weave_common::{
    addr::Ip4,
    config::Config,
    counters::Counter,
    drop::DropReason,
    probe::{
        self, ANNOUNCE, Arrival, CHALLENGE, Fields, HOPS_MAX, LEN, PACKET_LEN, PORT_MIN, PROOF, PROOF_LEN, Probe,
        REPLY, at,
    },
    tunnel::{Sender, SenderKey},
    vxlan::{self, HEADER_LEN},
    wire::{ETH_LEN, ETHERTYPE_IPV4, PUSH_LEN},
};

use super::{ANSWER_LEN, Kind, answer, kind};
use crate::{
    Outcome, maps,
    packet::{Packet, Tunnel},
    parse::{INNER_AT, OUTER_UDP_LEN, Outer, Port, VXLAN_AT},
    relay::{self, Origin},
    stats,
};

/// Length of a frame with the shortest probe.
const FRAME_LEN: u32 = (INNER_AT + LEN) as u32;
/// Outer headers of a frame that the VXLAN socket device has taken them from.
const TAKEN: u32 = PUSH_LEN as u32 - ETH_LEN as u32;

/// A probe that is for this peer.
struct Received<'a> {
    packet: &'a Packet,
    /// Offset of the probe in the frame.
    at: usize,
    bytes: Probe,
    probe: Fields,
    source: Ip4,
    source_port: u16,
    /// Length of the outer IP packet.
    outer_len: u16,
    /// Length of the inner frame, as it is counted.
    counted: u32,
}

/// Decides what becomes of a probe that arrived on an underlay device; `bare` when it came without an Ethernet header.
///
/// # Errors
/// Why it is dropped.
#[inline(always)]
pub fn from_underlay(packet: &Packet, outer: &Outer, config: &Config, bare: bool) -> Result<Outcome, DropReason> {
    let answered = outer.port == Port::Answer;
    // What a frame is padded with is no part of the packet.
    let whole = packet.gso_size() == 0 && outer.total_len >= PACKET_LEN as u32 && packet.pull(FRAME_LEN);
    let bytes = if whole { packet.read::<LEN>(INNER_AT) } else { None };
    let Some((bytes, probe)) = bytes.and_then(|bytes| Some((bytes, Fields::read(&bytes)?))) else {
        return if answered { Ok(Outcome::NotOurs) } else { Err(DropReason::Malformed) };
    };
    if probe.receiver != config.me {
        return if answered { Ok(Outcome::NotOurs) } else { send_on(packet, outer, config, &probe) };
    }
    if answered && probe.flags & (REPLY | CHALLENGE) == 0 {
        return Ok(Outcome::NotOurs);
    }
    let Outer { source, source_port, total_len, checksum, .. } = *outer;
    let counted = packet.frame_len() - PUSH_LEN as u32;
    let (at, outer_len) = (INNER_AT, total_len as u16);
    let received = Received { packet, at, bytes, probe, source, source_port, outer_len, counted };
    match kind(probe.flags) {
        Kind::Reply => received.give_reply(),
        Kind::Contact => received.give_contact(),
        Kind::Request => {
            let Some(sender) = maps::sender_entry(SenderKey::new(source)) else { return received.give_contact() };
            if source_port < PORT_MIN {
                return Err(DropReason::LowPort);
            }
            if checksum != 0 {
                return Err(DropReason::Malformed);
            }
            // SAFETY: the entry was found in this run.
            if !unsafe { maps::may_echo(sender) } {
                return Err(DropReason::EchoLimit);
            }
            received.announce(sender);
            echo(packet, &probe, bare)?;
            Ok(Outcome::Redirected { counter: Counter::Echo, bytes: counted })
        }
    }
}

/// Makes the packet the answer to the request in it, and sends it out of the device that it came by.
#[inline(always)]
fn echo(packet: &Packet, request: &Fields, bare: bool) -> Result<(), DropReason> {
    let header = packet.read::<OUTER_UDP_LEN>(0).ok_or(DropReason::Malformed)?;
    let vxlan = packet.read::<HEADER_LEN>(VXLAN_AT).ok_or(DropReason::Malformed)?;
    if packet.frame_len() > ANSWER_LEN as u32 {
        packet.truncate(ANSWER_LEN as u32)?;
    }
    if !packet.pull(ANSWER_LEN as u32) {
        return Err(DropReason::Kernel);
    }
    packet.write(0, &answer(&header, &vxlan, request)).ok_or(DropReason::Malformed)?;
    let device = packet.ifindex();
    if bare { packet.redirect_routed(device) } else { packet.redirect(device) }
}

/// Sends a probe on towards the peer that it names.
#[inline(always)]
fn send_on(packet: &Packet, outer: &Outer, config: &Config, probe: &Fields) -> Result<Outcome, DropReason> {
    let sender = maps::sender(SenderKey::new(outer.source)).ok_or(DropReason::UnknownSender)?;
    maps::note_heard(probe.origin, outer.source, Some(sender.peer));
    let way = maps::way_to(probe.receiver)?;
    let tunnel = way.tunnel();
    relay::check(outer, sender.peer, tunnel)?;
    if probe.hops >= HOPS_MAX {
        return Err(DropReason::TtlExhausted);
    }
    if outer.total_len > tunnel.inner_mtu.saturating_add(vxlan::OVERHEAD) {
        return Err(DropReason::TooBig);
    }
    let bytes = packet.frame_len() - PUSH_LEN as u32;
    let header = packet.read::<OUTER_UDP_LEN>(0).ok_or(DropReason::Malformed)?;
    // Not the port that it came from: the answer must come back by this host.
    packet.store(relay::REWRITE_AT, &relay::rewritten(&header, &tunnel.push.outer, config.data_port))?;
    packet.store(INNER_AT + at::HOPS, &[probe.hops + 1])?;
    packet.redirect_neigh(tunnel.ifindex, u32::from_ne_bytes(tunnel.next_hop))?;
    Ok(Outcome::Redirected { counter: Counter::ProbeRelay, bytes })
}

/// Decides what becomes of a probe that the VXLAN socket device took off the data port.
///
/// # Errors
/// Why it is dropped.
#[inline(always)]
pub fn from_socket(packet: &Packet, tunnel: &Tunnel, config: &Config) -> Result<Outcome, DropReason> {
    if packet.gso_size() != 0 || !packet.pull(LEN as u32) {
        return Err(DropReason::Malformed);
    }
    let bytes = packet.read::<LEN>(0).ok_or(DropReason::Malformed)?;
    let probe = Fields::read(&bytes).ok_or(DropReason::Malformed)?;
    let counted = packet.frame_len();
    let outer_len = counted + TAKEN;
    let sender = maps::sender_entry(SenderKey::new(tunnel.remote));
    if probe.receiver != config.me {
        // SAFETY: the kernel keeps an entry's memory for the program's run; the controller never changes its peer's name.
        let peer = unsafe { (*sender.ok_or(DropReason::UnknownSender)?).peer };
        maps::note_heard(probe.origin, tunnel.remote, Some(peer));
        let way = maps::way_to(probe.receiver)?;
        relay::may_leave(&Origin { source: tunnel.remote, ttl: tunnel.ttl, peer }, way.tunnel())?;
        if probe.hops >= HOPS_MAX {
            return Err(DropReason::TtlExhausted);
        }
        if outer_len > way.tunnel().inner_mtu.saturating_add(vxlan::OVERHEAD) {
            return Err(DropReason::TooBig);
        }
        packet.write(at::HOPS, &[probe.hops + 1]).ok_or(DropReason::Malformed)?;
        relay::out_of_socket(packet, config, &way, (vxlan::PROBE_VNI, tunnel.ttl - 1))?;
        return Ok(Outcome::Redirected { counter: Counter::ProbeRelay, bytes: counted });
    }
    let (source, outer_len) = (tunnel.remote, outer_len as u16);
    let received = Received { packet, at: 0, bytes, probe, source, source_port: 0, outer_len, counted };
    match kind(probe.flags) {
        Kind::Reply => received.give_reply(),
        Kind::Contact => received.give_contact(),
        Kind::Request => {
            let Some(sender) = sender else { return received.give_contact() };
            // SAFETY: the entry was found in this run.
            if !unsafe { maps::may_echo(sender) } {
                return Err(DropReason::EchoLimit);
            }
            received.announce(sender);
            if packet.frame_len() > LEN as u32 {
                packet.truncate(LEN as u32)?;
            }
            if !packet.pull(LEN as u32) {
                return Err(DropReason::Kernel);
            }
            packet.write(0, &probe.answer(outer_len).write()).ok_or(DropReason::Malformed)?;
            packet.set_tunnel(Tunnel { vni: vxlan::PROBE_VNI, ..Tunnel::to(source) })?;
            packet.redirect(packet.ifindex())?;
            Ok(Outcome::Redirected { counter: Counter::Echo, bytes: counted })
        }
    }
}

impl Received<'_> {
    #[inline(always)]
    fn arrival(&self) -> Arrival {
        Arrival {
            source: self.source.0,
            source_port: self.source_port,
            outer_len: self.outer_len,
            ifindex: self.packet.ifindex(),
            pad: [0; 4],
            at_ns: maps::now(),
        }
    }

    /// Gives an answer to the controller.
    #[inline(always)]
    fn give_reply(&self) -> Result<Outcome, DropReason> {
        if !maps::keys().is_some_and(|keys| self.probe.is_genuine(keys)) {
            return Err(DropReason::BadCookie);
        }
        maps::note_heard(self.probe.origin, self.source, None);
        let mut slot = maps::reply_slot().ok_or(DropReason::RingFull)?;
        slot.write(probe::ReplyEvent { arrival: self.arrival(), probe: self.bytes, pad: [0; 2] });
        slot.submit(0);
        Ok(Outcome::Taken { counter: Counter::ProbeReply, bytes: self.counted })
    }

    /// Gives a contact to the controller.
    #[inline(always)]
    fn give_contact(&self) -> Result<Outcome, DropReason> {
        if !maps::may_contact() {
            return Err(DropReason::ContactRefused);
        }
        let mut slot = maps::contact_slot().ok_or(DropReason::ContactRefused)?;
        let event = slot.as_mut_ptr();
        // SAFETY: the slot has room for an event, and is this program's alone until it is submitted.
        unsafe {
            (&raw mut (*event).arrival).write(self.arrival());
            (&raw mut (*event).probe).write(self.bytes);
            (&raw mut (*event).proof).write([0; PROOF_LEN]);
            (&raw mut (*event).pad).write([0; 6]);
        }
        if self.probe.flags & PROOF != 0 {
            // SAFETY: as above.
            let proof = unsafe { &raw mut (*event).proof };
            let whole = usize::from(self.outer_len) >= PACKET_LEN + PROOF_LEN;
            if !whole || !self.packet.load((self.at + LEN) as u32, proof) {
                slot.discard(0);
                return Err(DropReason::Malformed);
            }
        }
        slot.submit(0);
        Ok(Outcome::Taken { counter: Counter::Contact, bytes: self.counted })
    }

    /// Notes that the origin was heard, and gives a copy of an announcement to the controller; one that cannot be given is
    /// counted, and the request is answered all the same.
    #[inline(always)]
    fn announce(&self, sender: *const Sender) {
        // SAFETY: the kernel keeps an entry's memory for the program's run; the controller never changes its peer's name.
        let peer = unsafe { (*sender).peer };
        maps::note_heard(self.probe.origin, self.source, Some(peer));
        if self.probe.flags & ANNOUNCE == 0 {
            return;
        }
        match self.give_contact() {
            Ok(_) => stats::passed(Counter::Contact, self.counted),
            Err(reason) => stats::dropped(reason),
        }
    }
}

/// Decides what becomes of a frame that leaves by the VXLAN socket device: a probe that the controller wrote is sent, whole
/// as it is behind the frame's own Ethernet header, whose addresses say by which device and to which neighbour. All else
/// passes.
///
/// # Errors
/// [`DropReason::Malformed`] when what the controller wrote is no such frame, [`DropReason::Kernel`] when a helper refuses.
#[inline(always)]
pub fn to_network(packet: &Packet) -> Result<Outcome, DropReason> {
    if packet.mark() != probe::MARK {
        return Ok(Outcome::NotOurs);
    }
    let frame_len = packet.frame_len();
    if frame_len < FRAME_LEN {
        return Err(DropReason::Malformed);
    }
    let h = packet.read::<ETH_LEN>(0).ok_or(DropReason::Malformed)?;
    if u16::from_be_bytes([h[12], h[13]]) != ETHERTYPE_IPV4 {
        return Err(DropReason::Malformed);
    }
    packet.clear_mark();
    let (next_hop, device) = ([h[2], h[3], h[4], h[5]], [h[8], h[9], h[10], h[11]]);
    packet.redirect_neigh(u32::from_ne_bytes(device), u32::from_ne_bytes(next_hop))?;
    Ok(Outcome::Redirected { counter: Counter::ProbeSent, bytes: frame_len - PUSH_LEN as u32 })
}
