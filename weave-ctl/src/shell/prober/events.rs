//! What the programs give to the controller, as inputs of the core: pure.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use weave_common::probe::{self, ContactEvent, Fields, ReplyEvent};

use crate::proto::{
    io::{Contact, Input, ProbeKind, ProbeReply},
    name::PeerName,
    time::Instant,
};

/// The core's clock on the kernel's.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProbeClock {
    /// Nanoseconds of the monotonic clock at which the core's clock started.
    pub(super) start_ns: u64,
}

impl ProbeClock {
    pub(super) fn to_kernel(self, at: Instant) -> u64 {
        self.start_ns.saturating_add(at.since_start().as_nanos() as u64)
    }

    /// `None` for a moment before the core's clock started.
    fn of_core(self, at_ns: u64) -> Option<Instant> {
        at_ns.checked_sub(self.start_ns).map(|nanos| Instant::from_start(Duration::from_nanos(nanos)))
    }
}

/// An answer; `None` when it is to a probe of an earlier run, or no entry of this layout.
pub(super) fn reply(entry: &[u8], clock: ProbeClock) -> Option<Input> {
    let event: ReplyEvent = bytemuck::try_pod_read_unaligned(entry).ok()?;
    let fields = Fields::read(&event.probe)?;
    Some(Input::ProbeReply(ProbeReply {
        peer: PeerName::from_bytes(fields.origin),
        path_id: fields.path,
        sent_at: clock.of_core(fields.clock)?,
        received_at: clock.of_core(event.arrival.at_ns)?,
        size: fields.size,
        hops: fields.request_hops,
    }))
}

/// A contact; `None` when it came before this run, or is no entry of this layout. One that came by the VXLAN socket device
/// has no source port: it is taken to come from `data_port`, as almost all of those do.
pub(super) fn contact(entry: &[u8], clock: ProbeClock, data_port: u16) -> Option<Input> {
    let event: ContactEvent = bytemuck::try_pod_read_unaligned(entry).ok()?;
    let fields = Fields::read(&event.probe)?;
    clock.of_core(event.arrival.at_ns)?;
    let nonce = fields.cookie;
    let kind = if fields.flags & probe::PROOF != 0 {
        ProbeKind::Proof(nonce, Box::new(event.proof))
    } else if fields.flags & probe::CHALLENGE != 0 {
        ProbeKind::Challenge(nonce)
    } else if fields.flags & probe::ANNOUNCE != 0 {
        ProbeKind::Announce
    } else {
        ProbeKind::Request
    };
    let port = if event.arrival.source_port == 0 { data_port } else { event.arrival.source_port };
    let from = SocketAddrV4::new(Ipv4Addr::from(event.arrival.source), port);
    Some(Input::Contact(Contact { from, origin: PeerName::from_bytes(fields.origin), kind }))
}

#[cfg(test)]
mod tests;
