//! What the kernels' programs do to a probe: answer it, relay it, or pass it up; no controller has a part in that.
//!
//! As `weave-ebpf/src/probe/live.rs`, in its order of checks: taken is what comes to the data port, and what comes from one
//! as an answer or a challenge; a request of a known sender is answered to where it came from; a probe for another peer goes on
//! by this host's own table for that peer, never back, at most [`HOPS_MAX`] times; answers with the right cookie, contacts
//! and announcements wait in the rings for the shell, which reads them before it lets the core judge what is missing.
//!
//! Bounds: as the programs'. Does not: lose a reply between ring and core, but with its controller.

use std::net::{Ipv4Addr, SocketAddrV4};

use weave_common::probe::{
    self, ANNOUNCE, CHALLENGE, Fields, HOPS_MAX, PACKET_LEN, PORT_MIN, PROOF, PROOF_LEN, REPLY, cookie,
};
use weave_ctl::proto::{
    io::{Contact, Egress, Input, ProbeKind, ProbeReply, ProbeRequest},
    name::PeerName,
    time::Instant,
};

use super::{
    Event, HostId, World,
    journal::Detail,
    net::{BRIDGE, DATA_PORT, FLOW_PORT, Passed, Stop, underlay},
};

/// Ports of the dynamic range that probes by flow leave from.
const FLOW_PORTS: u64 = (u16::MAX - FLOW_PORT) as u64;

/// A probe on its way.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    fields: Fields,
    proof: Option<Box<[u8; PROOF_LEN]>>,
    /// Where it was sent to, as its sender sees it.
    to: SocketAddrV4,
    /// Length in bytes of the outer IP packet.
    size: u32,
}

fn nanos(at: Instant) -> u64 {
    u64::try_from(at.since_start().as_nanos()).unwrap_or(u64::MAX)
}

impl World {
    /// How a host sends to an address: every address but its own is behind its one device.
    pub(super) fn egress(&self, id: HostId, addr: Ipv4Addr) -> Option<Egress> {
        let own = addr == underlay(id) || (addr == BRIDGE && self.hosts.get(&id).is_some_and(|h| h.spec.bridge));
        (!own).then(|| Egress { ifindex: 1, next_hop: addr, source: underlay(id), mtu: self.net.mtu(id) })
    }

    /// A controller sends a probe, as the shell writes it.
    pub(super) fn send_probe(&mut self, id: HostId, request: ProbeRequest) {
        let Some(host) = self.hosts.get(&id) else { return };
        let ProbeRequest { to, source_port, receiver, path_id, kind, size, sent_at, .. } = request;
        let (key, clock) = (host.kernel.keys.current, nanos(sent_at));
        let own = cookie(key, receiver.bytes(), path_id, clock);
        let (flags, cookie, proof) = match kind {
            ProbeKind::Request => (0, own, None),
            ProbeKind::Announce => (ANNOUNCE, own, None),
            ProbeKind::Challenge(nonce) => (CHALLENGE, nonce, None),
            ProbeKind::Proof(nonce, proof) => (PROOF, nonce, Some(proof)),
        };
        let content = if flags & (CHALLENGE | PROOF) == 0 { 0 } else { PROOF_LEN };
        let fields = Fields {
            receiver: receiver.bytes(),
            origin: host.name.bytes(),
            flags,
            hops: 0,
            request_hops: 0,
            path: path_id,
            size: 0,
            cookie,
            clock,
        };
        let by_flow = 1 + u16::try_from(self.rng.below(FLOW_PORTS)).unwrap_or(0);
        let port = source_port.unwrap_or(FLOW_PORT + by_flow);
        let size = size.max((PACKET_LEN + content) as u32);
        self.send_from(id, port, Probe { fields, proof, to, size });
    }

    /// Puts a probe on the underlay, from a port of this host.
    fn send_from(&mut self, from: HostId, port: u16, probe: Probe) {
        self.net.open(from, port, probe.to, self.now);
        let passed = self.net.packet((from, port), probe.to, probe.size, self.now);
        self.carry_probe(from, passed, probe);
    }

    fn carry_probe(&mut self, from: HostId, passed: Result<Passed, Stop>, probe: Probe) {
        self.meter.probe(from, probe.size);
        let to = probe.to;
        let passed = match passed {
            Ok(passed) => passed,
            Err(why) => {
                return self.journal.note(Detail::Frames, self.now, || format!("h{from} probe to {to} lost: {why}"));
            }
        };
        let lost = self.chance(self.faults.loss);
        self.journal.note(Detail::Frames, self.now, || {
            let (lost, receiver) = (if lost { " lost" } else { "" }, PeerName::from_bytes(probe.fields.receiver));
            format!("h{from} probe for {receiver} to {to} (h{}) {} bytes{lost}", passed.host, probe.size)
        });
        if lost {
            return;
        }
        let probe = Box::new(probe);
        if self.chance(self.faults.duplicate) {
            let delay = self.delay();
            self.at(delay, Event::Probe { passed, probe: probe.clone() });
        }
        let delay = self.delay();
        self.at(delay, Event::Probe { passed, probe });
    }

    /// A probe arrives at a host.
    pub(super) fn probe_arrives(&mut self, passed: Passed, probe: &Probe) {
        let Passed { host: at, port, source } = passed;
        let now = self.now;
        let Some(host) = self.hosts.get_mut(&at).filter(|h| h.kernel.on && h.kernel.loaded) else { return };
        let (kernel, fields) = (&mut host.kernel, &probe.fields);
        let is_answer = source.port() == DATA_PORT && fields.flags & (REPLY | CHALLENGE) != 0;
        if port != DATA_PORT && !is_answer {
            // The host's stack has no use for it.
            return;
        }
        let known = kernel.maps.senders.contains_key(source.ip());
        let origin = PeerName::from_bytes(fields.origin);
        if fields.receiver != host.name.bytes() {
            if port == DATA_PORT && known {
                kernel.note_heard(origin, *source.ip(), now);
                self.relay_probe(at, source, probe);
                self.plan_look(at);
            }
            return;
        }
        if fields.flags & REPLY != 0 {
            if !fields.is_genuine(&kernel.keys) {
                return;
            }
            kernel.note_heard(origin, *source.ip(), now);
            kernel.give_reply(reply(fields, now));
        } else if fields.flags & (CHALLENGE | PROOF) != 0 || !known {
            kernel.give_contact(contact(probe, source), now);
        } else {
            if source.port() < PORT_MIN || !kernel.may_echo(*source.ip(), now) {
                return;
            }
            kernel.note_heard(origin, *source.ip(), now);
            if fields.flags & ANNOUNCE != 0 {
                kernel.give_contact(contact(probe, source), now);
            }
            let size = PACKET_LEN as u32;
            let answer = fields.answer(u16::try_from(probe.size).unwrap_or(u16::MAX));
            self.net.keep_open(at, port, source, now);
            let passed = self.net.answer(at, probe.to, source, size, now);
            self.carry_probe(at, passed, Probe { fields: answer, proof: None, to: source, size });
        }
        self.plan_look(at);
        if self.active(at) {
            self.read_rings(at);
        }
    }

    /// Sends a probe on by this host's table for its receiver.
    fn relay_probe(&mut self, at: HostId, from: SocketAddrV4, probe: &Probe) {
        let Some(host) = self.hosts.get(&at) else { return };
        let maps = &host.kernel.maps;
        let Some(tunnel) = maps.tunnels.get(&PeerName::from_bytes(probe.fields.receiver)).copied() else { return };
        let back = tunnel.remote.ip() == from.ip() || maps.senders.get(from.ip()) == Some(&tunnel.via);
        if back || probe.fields.hops >= HOPS_MAX || probe.size > tunnel.path_mtu {
            return;
        }
        let fields = Fields { hops: probe.fields.hops + 1, ..probe.fields };
        self.send_from(at, DATA_PORT, Probe { fields, to: tunnel.remote, ..probe.clone() });
    }

    /// The shell tells the core what waits in the rings: answers first.
    pub(super) fn read_rings(&mut self, id: HostId) {
        let Some(host) = self.hosts.get_mut(&id).filter(|h| h.node.is_some()) else { return };
        let (run, started) = (host.run, host.started);
        let replies = std::mem::take(&mut host.kernel.replies);
        let contacts = std::mem::take(&mut host.kernel.contacts);
        let lost = host.kernel.lost - host.lost_told;
        host.lost_told = host.kernel.lost;
        // What was sent before this run, or came before it, is of no use to it.
        let replies = replies.into_iter().filter(|reply| reply.sent_at >= started).map(Input::ProbeReply);
        let contacts = contacts.into_iter().filter(|(came, _)| *came >= started).map(|(_, c)| Input::Contact(c));
        let lost = (lost > 0).then_some(Input::RepliesLost(lost));
        for input in replies.chain(contacts).chain(lost) {
            self.step(Event::Deliver(id, run, input));
        }
    }

    /// The kernel takes answers to probes of the run before no more.
    pub(super) fn forget_former_key(&mut self, id: HostId, run: u64) {
        if let Some(host) = self.hosts.get_mut(&id).filter(|h| h.run == run) {
            host.kernel.keys.former = probe::ProbeKeys::default().former;
        }
    }
}

/// What the core gets of an answer.
fn reply(fields: &Fields, now: Instant) -> ProbeReply {
    ProbeReply {
        peer: PeerName::from_bytes(fields.origin),
        path_id: fields.path,
        sent_at: Instant::from_start(std::time::Duration::from_nanos(fields.clock)),
        received_at: now,
        size: fields.size,
        hops: fields.request_hops,
    }
}

/// What the core gets of a probe that only a controller judges.
fn contact(probe: &Probe, from: SocketAddrV4) -> Contact {
    let Fields { flags, cookie: nonce, origin, .. } = probe.fields;
    let kind = if flags & PROOF != 0 {
        ProbeKind::Proof(nonce, probe.proof.clone().unwrap_or_else(|| Box::new([0; PROOF_LEN])))
    } else if flags & CHALLENGE != 0 {
        ProbeKind::Challenge(nonce)
    } else if flags & ANNOUNCE != 0 {
        ProbeKind::Announce
    } else {
        ProbeKind::Request
    };
    Contact { from, origin: PeerName::from_bytes(origin), kind }
}
