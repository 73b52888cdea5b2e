//! Probes of the data path: small datagrams to peers' data ports.
//!
//! The data port belongs to the anchor, so probes leave from the control port's number, and the underlay's program passes
//! those that arrive on the data port up to it. They carry a VXLAN header with a network identifier of their own.
//!
//! One task reads. Anybody may send here, so a datagram is dropped when it is not a probe, is longer than
//! [`PROBE_MAX`], or finds the driver's queue half full: probes never keep out what matters more.
//!
//! Does not: know who sent a probe or what is in it; the core checks.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use rustix::net::sockopt::{Ipv4PathMtuDiscovery, set_ip_mtu_discover};
use socket2::SockRef;
use tokio::{
    net::UdpSocket,
    sync::mpsc::{self, error::TrySendError},
    task::AbortHandle,
    time::sleep,
};
use weave_common::vxlan::{self, HEADER_LEN, PROBE_VNI};

use crate::proto::io::Input;

/// Longest probe in bytes, after the VXLAN header: enough to fill any usual jumbo frame.
pub const PROBE_MAX: usize = 9600;
/// Time before the next attempt when the socket gives an error.
const PAUSE: Duration = Duration::from_millis(100);

/// Why there are no probes.
#[derive(Debug, thiserror::Error)]
pub enum ProbesError {
    /// Somebody has the port.
    #[error(
        "UDP port {port}, from which the data path is probed, is in use: stop what holds it (ss -ulpn shows it), or launch \
         with another --port"
    )]
    PortInUse {
        /// The port.
        port: u16,
    },
    /// The kernel refused.
    #[error("cannot open UDP port {port} for probes of the data path: {source}")]
    Socket {
        /// The port.
        port: u16,
        /// Why not.
        source: io::Error,
    },
}

/// The socket that probes go through. Dropping it ends the task that reads.
pub struct Probes {
    socket: Arc<UdpSocket>,
    reading: AbortHandle,
}

impl Probes {
    /// Receives probes on `port` from now on; they go to `inputs`.
    ///
    /// # Errors
    ///
    /// The port is taken, or the kernel refused.
    pub async fn start(port: u16, inputs: mpsc::Sender<Input>) -> Result<Self, ProbesError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => ProbesError::PortInUse { port },
            _ => ProbesError::Socket { port, source },
        };
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).await.map_err(failed)?;
        // Undivided, whatever size the host's routes (our own for narrow paths, too) say: a probe is to find out.
        set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::PROBE).map_err(|e| failed(e.into()))?;
        let socket = Arc::new(socket);
        let reading = tokio::spawn(read(Arc::clone(&socket), inputs)).abort_handle();
        Ok(Self { socket, reading })
    }

    /// Sends a probe, undivided. Never waits: what the host cannot send now, or not in one piece, is lost.
    pub fn send(&self, to: SocketAddrV4, bytes: &[u8]) {
        let packet = [vxlan::header(PROBE_VNI, 0).as_slice(), bytes].concat();
        // Not through the runtime, which would refuse until it has seen the socket writable.
        if let Err(error) = SockRef::from(&*self.socket).send_to(&packet, &to.into()) {
            tracing::trace!(%to, "probe not sent: {error}");
        }
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

async fn read(socket: Arc<UdpSocket>, inputs: mpsc::Sender<Input>) {
    // One byte more than allowed, so that what is too long shows.
    let mut buffer = vec![0; HEADER_LEN + PROBE_MAX + 1];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, SocketAddr::V4(from))) => {
                if !hand_on(&inputs, from, &buffer[..length]) {
                    return;
                }
            }
            Ok((_, SocketAddr::V6(_))) => {}
            Err(error) => {
                tracing::debug!("probes: {error}");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Gives a probe to the driver, or drops it. False when the driver is gone.
fn hand_on(inputs: &mpsc::Sender<Input>, from: SocketAddrV4, packet: &[u8]) -> bool {
    let Some(bytes) = payload(packet) else { return true };
    if inputs.capacity() <= inputs.max_capacity() / 2 {
        return !inputs.is_closed();
    }
    match inputs.try_reserve() {
        Ok(permit) => permit.send(Input::Probe { from, bytes: bytes.to_vec() }),
        Err(TrySendError::Full(())) => {}
        Err(TrySendError::Closed(())) => return false,
    }
    true
}

/// What follows the VXLAN header of a probe.
fn payload(packet: &[u8]) -> Option<&[u8]> {
    let (header, bytes) = packet.split_first_chunk::<HEADER_LEN>()?;
    (vxlan::vni(header) == Some(PROBE_VNI) && bytes.len() <= PROBE_MAX).then_some(bytes)
}

#[cfg(test)]
mod tests;
