//! UDP super-packets: what a socket with `UDP_SEGMENT` hands to the kernel in one piece, as QUIC does, and the datagrams
//! that a plain socket gets of it.
//!
//! Bounds: one super-packet at a time, of at most [`BYTES_MAX`]; a receiver waits [`QUIET`] for the next datagram.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::traffic::{set_segment, within};

/// Most bytes that UDP carries over IPv4.
pub const BYTES_MAX: usize = 65535 - 28;
/// Nothing more is under way when nothing came for so long.
const QUIET: Duration = Duration::from_millis(500);
/// Room for what arrives while the receiver has no processor.
const RECEIVE_BUFFER: usize = 8 << 20;

/// A sender with `UDP_SEGMENT` and a plain receiver.
pub struct SuperPackets {
    sender: UdpSocket,
    receiver: UdpSocket,
    to: SocketAddrV4,
}

/// What arrived of one super-packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// Datagrams.
    pub datagrams: usize,
    /// Bytes in them.
    pub bytes: usize,
    /// Datagrams of another length than they were to have, or with wrong bytes.
    pub wrong: usize,
}

impl SuperPackets {
    /// A pair of sockets.
    ///
    /// # Errors
    /// When no socket can be had.
    pub fn between(from: &str, to: &str, address: Ipv4Addr) -> Result<Self> {
        let receiver = within(to, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?;
        receiver.set_read_timeout(Some(QUIET))?;
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&receiver, RECEIVE_BUFFER)?;
        let to = SocketAddrV4::new(address, receiver.local_addr()?.port());
        let sender = within(from, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?;
        Ok(Self { sender, receiver, to })
    }

    /// Sends `bytes` as one super-packet, to be cut into datagrams of `segment` bytes; what arrives of it.
    ///
    /// # Errors
    /// When the kernel refuses it, or a socket fails.
    pub fn send(&self, bytes: usize, segment: u16) -> Result<Arrived> {
        ensure!(bytes <= BYTES_MAX, "{bytes} bytes are more than UDP carries");
        set_segment(&self.sender, segment)?;
        let sent: Vec<u8> = (0..bytes).map(pattern).collect();
        self.sender.send_to(&sent, self.to).context("send a super-packet")?;
        let mut arrived = Arrived::default();
        let mut buffer = vec![0; BYTES_MAX];
        while arrived.bytes < bytes {
            match self.receiver.recv(&mut buffer) {
                Ok(length) => {
                    // Datagrams of one sender stay in order, so the position tells what is to be in them.
                    let expected = usize::from(segment).min(bytes - arrived.bytes);
                    let right = buffer[..length].iter().zip(arrived.bytes..).all(|(byte, at)| *byte == pattern(at));
                    arrived.wrong += usize::from(length != expected || !right);
                    arrived.datagrams += 1;
                    arrived.bytes += length;
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Err(e) => return Err(e).context("receive a datagram"),
            }
        }
        Ok(arrived)
    }
}

impl Arrived {
    /// All of a super-packet of `bytes` bytes in datagrams of `segment`.
    #[must_use]
    pub fn is_all_of(&self, bytes: usize, segment: u16) -> bool {
        *self == Self { datagrams: bytes.div_ceil(usize::from(segment)), bytes, wrong: 0 }
    }
}

fn pattern(at: usize) -> u8 {
    // A period that no segment size divides.
    (at % 251) as u8
}
