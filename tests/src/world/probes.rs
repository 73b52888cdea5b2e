//! What the kernels' programs do to a probe: answer it, relay it, or pass it up; no controller has a part in that.
//!
//! As `weave-ebpf`: a request of a known sender is answered to where it came from; a probe for another peer goes on by this
//! host's own table for that peer, never back, at most [`HOPS_MAX`] times; what is for controllers, and the first contact of an
//! unknown sender, is passed up. An answer enters the controller only if it was asked in that run.
//!
//! Bounds: [`HOPS_MAX`] relays a probe. Does not: bound the rate of answers, which no schedule comes near.

use std::net::{Ipv4Addr, SocketAddrV4};

use weave_ctl::proto::{
    io::{Contact, ContactKind, Egress, Input, ProbeKind, ProbeReply, ProbeRequest},
    name::PeerName,
    path::SMALLEST,
    time::Instant,
};

use super::{
    Event, HostId, World,
    journal::Detail,
    net::{BRIDGE, DATA_PORT, FLOW_PORT, Passed, underlay},
};

/// Relays that a probe may pass.
const HOPS_MAX: u8 = 8;

/// A probe on its way.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    receiver: PeerName,
    origin: PeerName,
    kind: Kind,
    path_id: u16,
    /// The asking controller's clock, and its run: stands for the cookie.
    sent_at: Instant,
    run: u64,
    /// Length in bytes of the outer IP packet.
    size: u32,
    hops: u8,
}

#[derive(Clone, Debug)]
enum Kind {
    Asked(ProbeKind),
    Answer { size: u32, hops: u8 },
}

impl World {
    /// How a host sends to an address: every address but its own is behind its one device.
    pub(super) fn egress(&self, id: HostId, addr: Ipv4Addr) -> Option<Egress> {
        let own = addr == underlay(id) || (addr == BRIDGE && self.hosts.get(&id).is_some_and(|h| h.spec.bridge));
        (!own).then(|| Egress { ifindex: 1, next_hop: addr, source: underlay(id), mtu: self.net.mtu(id) })
    }

    /// A controller sends a probe.
    pub(super) fn send_probe(&mut self, id: HostId, run: u64, request: ProbeRequest) {
        let Some(origin) = self.hosts.get(&id).map(|host| host.name) else { return };
        let ProbeRequest { to, source_port, receiver, path_id, kind, size, sent_at, .. } = request;
        let probe = Probe { receiver, origin, kind: Kind::Asked(kind), path_id, sent_at, run, size, hops: 0 };
        self.carry_probe(id, source_port.unwrap_or(FLOW_PORT), to, probe);
    }

    /// Puts a probe on the underlay.
    fn carry_probe(&mut self, from: HostId, port: u16, to: SocketAddrV4, probe: Probe) {
        self.meter.probe(from, probe.size);
        self.net.open(from, port, to, self.now);
        let Passed { host, source, .. } = match self.net.packet((from, port), to, probe.size, self.now) {
            Ok(passed) => passed,
            Err(why) => {
                return self.journal.note(Detail::Frames, self.now, || format!("h{from} probe to {to} lost: {why}"));
            }
        };
        let lost = self.chance(self.faults.loss);
        self.journal.note(Detail::Frames, self.now, || {
            let lost = if lost { " lost" } else { "" };
            format!("h{from} probe for {} to {to} (h{host}) {} bytes{lost}", probe.receiver, probe.size)
        });
        if lost {
            return;
        }
        if self.chance(self.faults.duplicate) {
            let delay = self.delay();
            self.at(delay, Event::Probe { at: host, from: source, probe: Box::new(probe.clone()) });
        }
        let delay = self.delay();
        self.at(delay, Event::Probe { at: host, from: source, probe: Box::new(probe) });
    }

    /// A probe arrives at a host.
    pub(super) fn probe_arrives(&mut self, at: HostId, from: SocketAddrV4, probe: &Probe) {
        let Some(host) = self.hosts.get_mut(&at).filter(|h| h.kernel.on && h.kernel.loaded) else { return };
        let known = host.kernel.maps.senders.contains_key(from.ip());
        if probe.receiver != host.name {
            if known {
                self.relay_probe(at, from, probe);
            }
            return;
        }
        let (me, run) = (host.name, host.run);
        if known {
            host.kernel.heard.insert(probe.origin);
        }
        match &probe.kind {
            Kind::Answer { size, hops } => {
                let size = u16::try_from(*size).unwrap_or(u16::MAX);
                let Probe { origin: peer, path_id, sent_at, .. } = *probe;
                let reply = ProbeReply { peer, path_id, sent_at, received_at: self.now, size, hops: *hops };
                if probe.run == run {
                    host.kernel.heard.insert(probe.origin);
                    self.step(Event::Deliver(at, run, Input::ProbeReply(reply)));
                }
            }
            Kind::Asked(kind) => {
                let asks = matches!(kind, ProbeKind::Request | ProbeKind::Announce);
                if asks && known {
                    let answer = Kind::Answer { size: probe.size, hops: probe.hops };
                    let probe =
                        Probe { receiver: probe.origin, origin: me, kind: answer, size: SMALLEST, hops: 0, ..*probe };
                    self.carry_probe(at, DATA_PORT, from, probe);
                }
                let kind = match kind {
                    ProbeKind::Request if known => return,
                    ProbeKind::Request => ContactKind::Request,
                    ProbeKind::Announce => ContactKind::Announce,
                    ProbeKind::Challenge { nonce } => ContactKind::Challenge { nonce: *nonce },
                    ProbeKind::Proof { nonce, proof } => ContactKind::Proof { nonce: *nonce, proof: proof.clone() },
                };
                let contact = Contact { from, origin: probe.origin, kind };
                self.step(Event::Deliver(at, run, Input::Contact(contact)));
            }
        }
    }

    /// Sends a probe on by this host's table for its receiver.
    fn relay_probe(&mut self, at: HostId, from: SocketAddrV4, probe: &Probe) {
        let Some(host) = self.hosts.get(&at) else { return };
        let maps = &host.kernel.maps;
        let Some(tunnel) = maps.tunnels.get(&probe.receiver).copied() else { return };
        let back = tunnel.remote.ip() == from.ip() || maps.senders.get(from.ip()) == Some(&tunnel.via);
        if back || probe.hops >= HOPS_MAX || probe.size > tunnel.path_mtu {
            return;
        }
        let probe = Probe { hops: probe.hops + 1, ..probe.clone() };
        self.carry_probe(at, DATA_PORT, tunnel.remote, probe);
    }
}
