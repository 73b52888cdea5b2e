//! Sends the core's probes, and brings what the programs give to the controller: answers, and contacts of others.
//!
//! Probes are written, many a call, to a packet socket on the VXLAN socket device, whose egress program sends them: past
//! this host's own filters, as containers' packets are. What comes back is judged by the underlay's programs and waits in
//! two rings, so that an answer is never late because the controller was: the driver takes both before it lets the core
//! judge what is missing.
//!
//! Bounds: [`BATCH`] frames a call; as many entries a take as the rings hold. A probe that the kernel does not take is
//! lost, and told at most each [`TELL_EVERY`].
//! Does not: decide when and where to probe, or judge answers.

mod events;
mod frame;

use std::{
    io::{self, IoSlice},
    time::{Duration, Instant as Clock},
};

use aya::maps::{MapData, RingBuf};
use rustix::{
    net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg},
    time::{ClockId, clock_gettime},
};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{Interest, unix::AsyncFd};
use tracing::warn;
use weave_common::{map, probe};

use self::{
    events::{ProbeClock, contact, reply},
    frame::{Sender, frame},
};
use super::datapath::Rings;
use crate::proto::{
    io::{Input, ProbeRequest},
    name::PeerName,
    rng::Rng,
};

/// Most frames a system call.
const BATCH: usize = 64;
/// First UDP source port of probes that have none of their own, as flows have (RFC 6335), and how many there are.
const PORTS: (u16, u64) = (49152, 16384);
/// Most entries taken from a ring at once: more than it holds.
const TAKE_MAX: usize = map::REPLIES_BYTES as usize / size_of::<probe::ReplyEvent>();
/// Pause between two lines about probes that the kernel did not take.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Probes cannot be sent or received.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}, so no path could be measured: {source}")]
pub struct ProberError {
    what: &'static str,
    source: io::Error,
}

/// What the prober puts in every probe.
#[derive(Clone, Copy, Debug)]
pub struct ProberConfig {
    /// This peer.
    pub me: PeerName,
    /// Its data port.
    pub data_port: u16,
    /// Key of cookies: that which the programs have.
    pub key: [u64; 2],
    /// When the core's clock started.
    pub started: Clock,
}

/// See the head of this module.
pub struct Prober {
    socket: Socket,
    replies: AsyncFd<RingBuf<MapData>>,
    contacts: AsyncFd<RingBuf<MapData>>,
    config: ProberConfig,
    clock: ProbeClock,
    ports: Rng,
    /// Probes that the kernel did not take, and when that was last told.
    unsent: u64,
    told: Option<Clock>,
}

impl Prober {
    /// Probes leave by the VXLAN socket device with index `socket_ifindex`, which has its program already.
    ///
    /// # Errors
    /// The kernel refuses the socket or to wait for the rings.
    pub fn start(config: ProberConfig, rings: Rings, socket_ifindex: u32, rng: Rng) -> Result<Self, ProberError> {
        Ok(Self {
            socket: open(socket_ifindex)?,
            replies: waited_for(rings.replies)?,
            contacts: waited_for(rings.contacts)?,
            config,
            clock: ProbeClock { start_ns: start_ns(config.started) },
            ports: rng,
            unsent: 0,
            told: None,
        })
    }

    /// Probes leave by another VXLAN socket device from now on.
    ///
    /// # Errors
    /// The kernel refuses the socket; the former one stays.
    pub fn move_to(&mut self, socket_ifindex: u32) -> Result<(), ProberError> {
        self.socket = open(socket_ifindex)?;
        Ok(())
    }

    /// Sends probes. Those that the kernel does not take are lost.
    pub fn send(&mut self, requests: &[ProbeRequest]) {
        for batch in requests.chunks(BATCH) {
            let frames: Vec<Vec<u8>> = batch.iter().map(|request| self.frame(request)).collect();
            let parts: Vec<[IoSlice<'_>; 1]> = frames.iter().map(|frame| [IoSlice::new(frame)]).collect();
            let mut controls: Vec<_> = parts.iter().map(|_| SendAncillaryBuffer::default()).collect();
            let mut messages: Vec<_> =
                parts.iter().zip(&mut controls).map(|(part, control)| MMsgHdr::new(part, control)).collect();
            let mut at = 0;
            while at < messages.len() {
                match sendmmsg(&self.socket, &mut messages[at..], SendFlags::DONTWAIT) {
                    Ok(sent) => at += sent.max(1),
                    Err(error) => {
                        at += 1;
                        self.unsent += 1;
                        if self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                            self.told = Some(Clock::now());
                            let unsent = self.unsent;
                            warn!(
                                "the kernel did not take a probe ({error}; {unsent} since the launch): paths may look dead \
                                 that are not"
                            );
                        }
                    }
                }
            }
        }
    }

    fn frame(&mut self, request: &ProbeRequest) -> Vec<u8> {
        let ProberConfig { me, key, .. } = self.config;
        let by_flow = || PORTS.0 + self.ports.below(PORTS.1) as u16;
        let source_port = request.source_port.unwrap_or_else(by_flow);
        let clock = self.clock.to_kernel(request.sent_at);
        frame(request, &Sender { me: me.bytes(), key, source_port, clock })
    }

    /// Waits until a ring has something to take. May wake without any.
    pub async fn ready(&self) {
        tokio::select! {
            Ok(mut guard) = self.replies.readable() => guard.clear_ready(),
            Ok(mut guard) = self.contacts.readable() => guard.clear_ready(),
        }
    }

    /// Takes what the rings hold, answers first.
    pub fn take(&mut self) -> Vec<Input> {
        let (clock, data_port) = (self.clock, self.config.data_port);
        let mut inputs = drained(self.replies.get_mut(), |entry| reply(entry, clock));
        inputs.extend(drained(self.contacts.get_mut(), |entry| contact(entry, clock, data_port)));
        inputs
    }
}

/// A ring that can be waited for.
fn waited_for(ring: RingBuf<MapData>) -> Result<AsyncFd<RingBuf<MapData>>, ProberError> {
    // SAFETY: the ring owns its map's descriptor, and gives no other for as long as it lives.
    let registered = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
    registered.map_err(|error| ProberError { what: "wait for answers to probes", source: error.into() })
}

/// What `read` makes of the entries that `ring` holds.
fn drained(ring: &mut RingBuf<MapData>, read: impl Fn(&[u8]) -> Option<Input>) -> Vec<Input> {
    let mut inputs = Vec::new();
    for _ in 0..TAKE_MAX {
        let Some(entry) = ring.next() else { break };
        inputs.extend(read(&entry));
    }
    inputs
}

/// A packet socket that only sends, on one device, with the mark by which the program knows its frames.
fn open(ifindex: u32) -> Result<Socket, ProberError> {
    let failed = |source| ProberError { what: "open a packet socket on the VXLAN socket device", source };
    let socket = Socket::new(Domain::PACKET, Type::RAW, None).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    socket.set_mark(probe::MARK).map_err(failed)?;
    // SAFETY: the storage is zeroed and large enough for any address, and the length is that of what is written.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, len| {
            let link: *mut libc::sockaddr_ll = storage.cast();
            (*link).sll_family = libc::AF_PACKET as u16;
            // Protocol zero: nothing is received.
            (*link).sll_ifindex = ifindex as i32;
            *len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })
    }
    .map_err(failed)?;
    socket.bind(&address).map_err(failed)?;
    Ok(socket)
}

/// Nanoseconds of the monotonic clock at `started`.
fn start_ns(started: Clock) -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let now = Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32);
    u64::try_from(now.saturating_sub(started.elapsed()).as_nanos()).unwrap_or(u64::MAX)
}
