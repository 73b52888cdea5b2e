//! Frames over an encrypted session.
//!
//! The plain bytes of a direction are frames one after the other: u32 length, then that many bytes. They are cut without
//! regard to frames into Noise messages: u16 length, then that many bytes of cipher text, the nonce counted from zero.
//!
//! Bounds: a Noise message is at most [`MESSAGE_MAX`] bytes, a frame [`FRAME_MAX`]. A length is checked before a byte is
//! set aside for it, and a frame under way takes no more memory than what arrived of it, doubled.
//!
//! Does not: know links; reading and writing end with the reason.

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering},
};

use snow::StatelessTransportState;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
};

use super::plain;
use crate::proto::io::{FRAME_MAX, Input, SessionId};

/// Longest Noise message, by the protocol's own definition.
const MESSAGE_MAX: usize = 65_535;
/// What encryption adds to a Noise message.
const TAG_LEN: usize = 16;
/// Most plain bytes in a Noise message.
const CHUNK_MAX: usize = MESSAGE_MAX - TAG_LEN;
/// Length of a frame's header.
const HEADER_LEN: usize = 4;
/// Frames above this are handed on only while the driver's queue is nearly empty: it counts entries, not bytes.
const SMALL: usize = 4096;

/// Why reading or writing ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    #[error("the peer closed the link")]
    Closed,
    #[error("the connection broke: {}", plain(.0))]
    Io(io::Error),
    #[error("what the peer sent does not decrypt: it was changed on the way")]
    Cipher,
    #[error("the peer sent an empty message")]
    Empty,
    #[error("the peer announced a frame of {0} bytes, more than the {FRAME_MAX} allowed")]
    Oversized(usize),
    #[error("the controller stops")]
    Stopped,
}

impl From<io::Error> for FrameError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

/// Puts frames together from the plain bytes of one direction.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    header: Vec<u8>,
    body: Vec<u8>,
}

impl Assembler {
    /// Takes bytes from the front of `plain`; returns a frame when one is whole. Call until `plain` is empty.
    pub(super) fn take(&mut self, plain: &mut &[u8]) -> Result<Option<Vec<u8>>, FrameError> {
        move_up_to(&mut self.header, HEADER_LEN, plain);
        let Ok(header) = <[u8; HEADER_LEN]>::try_from(self.header.as_slice()) else { return Ok(None) };
        let length = u32::from_be_bytes(header) as usize;
        if length > FRAME_MAX {
            return Err(FrameError::Oversized(length));
        }
        move_up_to(&mut self.body, length, plain);
        if self.body.len() < length {
            return Ok(None);
        }
        self.header.clear();
        Ok(Some(std::mem::take(&mut self.body)))
    }
}

/// Moves bytes from the front of `from` until `to` has `length`.
fn move_up_to(to: &mut Vec<u8>, length: usize, from: &mut &[u8]) {
    let (now, later) = from.split_at(from.len().min(length.saturating_sub(to.len())));
    to.extend_from_slice(now);
    *from = later;
}

/// Hands every frame that arrives to `inputs`, until something ends it.
pub(super) async fn read(
    mut stream: impl AsyncRead + Unpin,
    session: &StatelessTransportState,
    link: SessionId,
    inputs: &mpsc::Sender<Input>,
) -> FrameError {
    let mut assembler = Assembler::default();
    for nonce in 0.. {
        if let Err(error) = read_message(&mut stream, session, nonce, &mut assembler, link, inputs).await {
            return error;
        }
    }
    FrameError::Cipher // the nonces are used up, after 2^64 messages
}

async fn read_message(
    stream: &mut (impl AsyncRead + Unpin),
    session: &StatelessTransportState,
    nonce: u64,
    assembler: &mut Assembler,
    link: SessionId,
    inputs: &mpsc::Sender<Input>,
) -> Result<(), FrameError> {
    let length = usize::from(stream.read_u16().await?);
    if length <= TAG_LEN {
        return Err(FrameError::Empty);
    }
    let mut cipher = vec![0; length];
    stream.read_exact(&mut cipher).await?;
    let mut plain = vec![0; length];
    let length = session.read_message(nonce, &cipher, &mut plain).map_err(|_decrypt| FrameError::Cipher)?;
    let mut rest = &plain[..length];
    while !rest.is_empty() {
        if let Some(bytes) = assembler.take(&mut rest)? {
            hand_on(inputs, link, bytes).await?;
        }
    }
    Ok(())
}

async fn hand_on(inputs: &mpsc::Sender<Input>, link: SessionId, bytes: Vec<u8>) -> Result<(), FrameError> {
    let entries = inputs.max_capacity();
    let room = if bytes.len() > SMALL { (entries - entries / 16).max(1) } else { 1 };
    let mut permits = inputs.reserve_many(room).await.map_err(|_closed| FrameError::Stopped)?;
    permits.next().ok_or(FrameError::Stopped)?.send(Input::Frame(link, bytes));
    Ok(())
}

/// Sends every frame of `frames`, taking its length off `queued` once it is written. Ends well when nobody will add
/// more: all that was queued is written then, and the peer is told that nothing follows.
pub(super) async fn write(
    mut stream: impl AsyncWrite + Unpin,
    session: &StatelessTransportState,
    frames: &mut mpsc::Receiver<Vec<u8>>,
    queued: &AtomicUsize,
) -> Result<(), FrameError> {
    let mut nonce = 0;
    while let Some(frame) = frames.recv().await {
        let header = u32::try_from(frame.len()).map_err(|_long| FrameError::Oversized(frame.len()))?;
        let plain = [header.to_be_bytes().as_slice(), &frame].concat();
        for chunk in plain.chunks(CHUNK_MAX) {
            stream.write_all(&seal(session, nonce, chunk)?).await?;
            nonce += 1;
        }
        queued.fetch_sub(frame.len(), Ordering::Relaxed);
    }
    Ok(stream.shutdown().await?)
}

/// `chunk` as a Noise message with its length.
pub(super) fn seal(session: &StatelessTransportState, nonce: u64, chunk: &[u8]) -> Result<Vec<u8>, FrameError> {
    let mut message = vec![0; 2 + chunk.len() + TAG_LEN];
    let (length, cipher) = message.split_at_mut(2);
    let written = session.write_message(nonce, chunk, cipher).map_err(|_sealing| FrameError::Cipher)?;
    let written = u16::try_from(written).map_err(|_long| FrameError::Cipher)?;
    length.copy_from_slice(&written.to_be_bytes());
    Ok(message)
}
