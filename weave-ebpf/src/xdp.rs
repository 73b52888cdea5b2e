//! On an underlay device before the kernel makes a packet of a frame: drops what cannot be ours, relays where it can.
//!
//! Decides as `decap` and `relay` do, from the same tables and with the same reasons and counters, and only ever what
//! they would decide. Whatever it cannot do itself passes untouched, and they do it: probes, deliveries, frames of which
//! the headers are not in the first buffer, frames longer than the path (which a device may have merged), neighbours that
//! the kernel does not know, and devices not fit for it ([`weave_common::device::Device::relays`]).
//!
//! Never delivers: a frame has no checksum state, and one that was merged could not be told from one that was not.

use weave_common::{
    config::Config,
    counters::Counter,
    drop::DropReason,
    endpoint::EndpointKey,
    tunnel::SenderKey,
    vxlan::{self, HEADER_LEN},
    wire::{ETH_LEN, IPV4_LEN, PUSH_LEN},
};

use crate::{
    decap::{Class, classify, length_agrees},
    frame::Frame,
    maps,
    parse::{self, ENCAPSULATED_MIN, INNER_AT, IP_AT, OUTER_UDP_LEN, Outer, Port, VXLAN_AT},
    relay,
};

/// What becomes of a frame that is not dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// On to the kernel's stack, as it came.
    Pass,
    /// Out of the device that it came by.
    Transmit {
        /// Counted under this.
        counter: Counter,
        /// Length of the inner frame.
        bytes: u32,
    },
    /// Out of another device, as a helper was told.
    Redirect {
        /// Counted under this.
        counter: Counter,
        /// Length of the inner frame.
        bytes: u32,
    },
}

/// Decides what becomes of a frame.
///
/// # Errors
/// Why it is dropped.
#[inline(always)]
pub fn from_wire(frame: &Frame) -> Result<Decision, DropReason> {
    let Some(config) = maps::config() else { return Ok(Decision::Pass) };
    let Some(header) = frame.read::<OUTER_UDP_LEN>(0) else { return Ok(Decision::Pass) };
    let Some(outer) = parse::outer(&header, config) else { return Ok(Decision::Pass) };
    let Some(device) = maps::device(frame.ifindex()) else { return Ok(Decision::Pass) };
    let for_host = header[..6] == device.mac;
    if !for_host || !maps::is_local(outer.destination) {
        return Ok(Decision::Pass);
    }
    let available = frame.frame_len() - IP_AT as u32;
    if available > u32::from(u16::MAX) {
        // Merged, and longer than its header can tell.
        return Ok(Decision::Pass);
    }
    if !length_agrees(&outer, available, false) {
        return match outer.port {
            Port::Data => Err(DropReason::Malformed),
            Port::Answer => Ok(Decision::Pass),
        };
    }
    let Some(network) = frame.read::<HEADER_LEN>(VXLAN_AT) else { return Ok(Decision::Pass) };
    match classify(&network, outer.port, config)? {
        Class::Probe | Class::Foreign => Ok(Decision::Pass),
        Class::Data => data(frame, &header, &outer, config, device.relays != 0),
    }
}

/// Decides what becomes of a frame of the overlay.
#[inline(always)]
fn data(
    frame: &Frame,
    header: &[u8; OUTER_UDP_LEN],
    outer: &Outer,
    config: &Config,
    relays: bool,
) -> Result<Decision, DropReason> {
    let sender = maps::sender(SenderKey::new(outer.source)).ok_or(DropReason::UnknownSender)?;
    if frame.frame_len() < ENCAPSULATED_MIN as u32 {
        return Err(DropReason::Malformed);
    }
    let Some(inner) = frame.read::<{ ETH_LEN + IPV4_LEN }>(INNER_AT) else { return Ok(Decision::Pass) };
    let available = frame.frame_len() - (INNER_AT + ETH_LEN) as u32;
    let (names, ip) = (parse::names(&inner), parse::inner(&inner, available, false)?);
    if maps::endpoint(EndpointKey::new(ip.destination)).is_some() {
        return Ok(Decision::Pass);
    }
    let (renamed, way) = relay::next(config, &names, &ip)?;
    relay::check(outer, sender.peer, way.tunnel())?;
    let fits = outer.total_len <= way.tunnel().inner_mtu.saturating_add(vxlan::OVERHEAD);
    if !relays || !fits {
        return Ok(Decision::Pass);
    }
    let decision = to_next(frame, header, &way)?;
    if decision != Decision::Pass {
        maps::note_heard(names.origin, outer.source, Some(sender.peer));
        way.note_sent(outer.total_len.saturating_sub(vxlan::OVERHEAD));
        if let Some(name) = renamed {
            frame.write(INNER_AT, &name).ok_or(DropReason::Malformed)?;
        }
    }
    Ok(decision)
}

/// Sends a frame on, when it is known how.
#[inline(always)]
fn to_next(frame: &Frame, header: &[u8; OUTER_UDP_LEN], way: &maps::Way) -> Result<Decision, DropReason> {
    let tunnel = way.tunnel();
    let same = tunnel.ifindex == frame.ifindex();
    if !same && maps::device(tunnel.ifindex).is_none_or(|device| device.relays == 0) {
        return Ok(Decision::Pass);
    }
    let Some(macs) = frame.macs(tunnel) else { return Ok(Decision::Pass) };
    let (counter, bytes) = (Counter::Relay, frame.frame_len() - PUSH_LEN as u32);
    frame.write(0, &macs).ok_or(DropReason::Malformed)?;
    let to = &tunnel.push.outer;
    frame.write(relay::REWRITE_AT, &relay::rewritten(header, to, to.source_port())).ok_or(DropReason::Malformed)?;
    if same {
        return Ok(Decision::Transmit { counter, bytes });
    }
    frame.redirect(tunnel.ifindex)?;
    Ok(Decision::Redirect { counter, bytes })
}
