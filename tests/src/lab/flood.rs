//! Datagrams to a host's data port that no peer would send, at a steady rate, and what they cost its controller.
//!
//! ```text
//!   VXLAN (8): flags, VNI   inner Ethernet (14): receiver, origin, EtherType   probe (24), see [`Probe`]
//! ```
//! The bytes are written here once more, apart from the code under test: a witness of its own.
//!
//! Bounds: one thread a flood; it ends with its handle.

use std::{
    net::{Ipv4Addr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};

use super::{Host, measure::process_seconds, traffic::within};

/// The data port.
pub const DATA_PORT: u16 = 6784;
/// Network identifier of containers' packets.
pub const VNI_DATA: u32 = 0x77_6576;
/// Network identifier of probes.
pub const VNI_PROBE: u32 = 0xff_fffe;
/// EtherType of probes.
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];
/// Datagrams sent without a pause.
const BURST: u32 = 50;

/// Flags of a probe.
pub mod flag {
    /// An answer.
    pub const REPLY: u8 = 1;
    /// A controller's demand of a signed proof.
    pub const CHALLENGE: u8 = 2;
    /// Such a proof.
    pub const PROOF: u8 = 4;
    /// A request that the controller sees as well.
    pub const ANNOUNCE: u8 = 8;
}

/// A probe, with the fields that a forger chooses.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// Name of the peer that it is for.
    pub receiver: [u8; 6],
    /// Name of the peer that it says to come from.
    pub origin: [u8; 6],
    /// See [`flag`].
    pub flags: u8,
    /// Changes the cookie and the path's number, so that no two are alike.
    pub salt: u64,
}

impl Probe {
    /// The payload of a UDP datagram.
    #[must_use]
    pub fn bytes(self) -> Vec<u8> {
        let salt = self.salt.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        let tail: &[u8] = &[0; 68];
        let ends = [self.receiver, self.origin].concat();
        let head = [&ends[..], &ETHERTYPE, &[1, self.flags, 0, 0], &salt[..2], &[0, 74], &salt, &salt].concat();
        let signed = self.flags & (flag::CHALLENGE | flag::PROOF) != 0;
        vxlan(VNI_PROBE, &[&head[..], if signed { tail } else { &[] }].concat())
    }
}

/// `inner` after a VXLAN header of network `vni`.
#[must_use]
pub fn vxlan(vni: u32, inner: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = vni.to_be_bytes();
    [&[0x08, 0, 0, 0, a, b, c, 0], inner].concat()
}

/// Bytes without sense, the same for the same number.
#[must_use]
pub fn garbage(salt: u64, length: usize) -> Vec<u8> {
    let byte = |n: u64| (salt.wrapping_add(n).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8;
    (0..length as u64).map(byte).collect()
}

/// The name under which host `n` is launched, as it stands in packets.
#[must_use]
pub fn name(n: usize) -> [u8; 6] {
    [0, 0, 0, 0, 0, n as u8]
}

/// A thread that sends.
pub struct Flood {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<u64>,
}

impl Flood {
    /// Sends `rate` datagrams a second from a namespace to the data port at `to`; `speech` makes the payload of each.
    ///
    /// # Errors
    /// When no socket can be had.
    pub fn start(
        from: &str,
        to: Ipv4Addr,
        rate: u32,
        speech: impl Fn(u64) -> Vec<u8> + Send + 'static,
    ) -> Result<Self> {
        let socket = within(from, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let sender = thread::spawn(move || {
            let (start, mut sent) = (Instant::now(), 0_u64);
            while !stopping.load(Ordering::Relaxed) {
                for _ in 0..BURST {
                    // A full queue, or an ICMP error of an earlier one, is no reason to stop.
                    socket.send_to(&speech(sent), (to, DATA_PORT)).ok();
                    sent += 1;
                }
                let due = start + Duration::from_secs_f64(sent as f64 / f64::from(rate));
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            sent
        });
        Ok(Self { stop, sender })
    }

    /// Ends it; how many were sent.
    ///
    /// # Errors
    /// When the thread panicked.
    pub fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.sender.join().map_err(|e| anyhow!("the sender panicked: {e:?}"))
    }
}

/// Processor time that a host's controller has used so far, in user space and in the kernel.
///
/// # Errors
/// When no controller runs.
pub fn controller_time(host: &Host) -> Result<Duration> {
    Ok(Duration::from_secs_f64(process_seconds(host.pid()?)?))
}
