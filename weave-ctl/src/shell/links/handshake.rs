//! From a TCP connection to an encrypted session.
//!
//! ```text
//! both        preface: "weave-ctl", version, flags (bit 0: a password is set)      11 bytes, not encrypted
//! initiator   u16 length, Noise_NNpsk0 message 1
//! responder   u16 length, Noise_NNpsk0 message 2; length 0: message 1 did not decrypt
//! ```
//!
//! The prefaces are the Noise prologue, initiator's first, so a change to them on the way breaks the handshake. Without a
//! password the pre-shared key is zero: the link is private against onlookers, and anybody may open one.
//!
//! Does not: bound time (the caller does), or know who the peer is.

use std::{io, time::Duration};

use argon2::{Algorithm, Argon2, Params, Version};
use snow::{Builder, HandshakeState, StatelessTransportState};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::plain;
use crate::proto::io::ChannelBinding;

const MAGIC: &[u8; 9] = b"weave-ctl";
/// Version of everything on the link below the frames.
const VERSION: u8 = 1;
const FLAG_PASSWORD: u8 = 1;
const PREFACE_LEN: usize = MAGIC.len() + 2;

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";
const KEY_LEN: usize = 32;
/// Length of both handshake messages: an ephemeral key and the tag of an empty payload.
const MESSAGE_LEN: usize = 32 + 16;

/// Argon2id: memory in KiB, passes, lanes. Once a launch.
const ARGON2_COST: (u32, u32, u32) = (8 * 1024, 2, 1);
/// The same for every network: peers have nothing to agree on a salt with before they know each other.
const SALT: &[u8] = b"weave-ctl link password v1";

type Preface = [u8; PREFACE_LEN];

/// What both sides must share.
#[derive(Clone)]
pub(super) struct Key {
    psk: [u8; KEY_LEN],
    password: bool,
}

impl Key {
    /// The key of `password`. Takes some ten milliseconds and [`ARGON2_COST`] of memory.
    pub(super) fn derive(password: Option<&str>) -> Result<Self, argon2::Error> {
        let mut psk = [0; KEY_LEN];
        if let Some(password) = password {
            let (memory, passes, lanes) = ARGON2_COST;
            let params = Params::new(memory, passes, lanes, Some(KEY_LEN))?;
            let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
            argon2.hash_password_into(password.as_bytes(), SALT, &mut psk)?;
        }
        Ok(Self { psk, password: password.is_some() })
    }

    fn preface(&self) -> Preface {
        let mut preface = [0; PREFACE_LEN];
        preface[..MAGIC.len()].copy_from_slice(MAGIC);
        preface[MAGIC.len()] = VERSION;
        preface[MAGIC.len() + 1] = u8::from(self.password) * FLAG_PASSWORD;
        preface
    }
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("it does not speak weave-ctl's protocol: is that the control port of a peer?")]
    Foreign,
    #[error(
        "the peer speaks version {0} of the link protocol, this one version {VERSION}: run the same weave-ctl on both"
    )]
    Version(u8),
    #[error("the peer has a password, this one has none: launch both with the same --password")]
    PeerHasPassword,
    #[error("this peer has a password, the other has none: launch both with the same --password")]
    PeerHasNone,
    #[error("the peer's password differs from this one's: launch both with the same --password")]
    Password,
    #[error("what the peer sent was changed on the way")]
    Tampered,
    #[error("the peer closed the connection during the handshake")]
    Closed,
    #[error("the peer did not finish the handshake within {0:?}")]
    Slow(Duration),
    #[error("the connection broke during the handshake: {}", plain(.0))]
    Io(io::Error),
    #[error("the cipher failed: {0}")]
    Noise(snow::Error),
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

impl From<snow::Error> for HandshakeError {
    fn from(error: snow::Error) -> Self {
        Self::Noise(error)
    }
}

/// Which side this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Initiator,
    Responder,
}

/// What a handshake yields.
pub(super) struct Session {
    pub(super) cipher: StatelessTransportState,
    pub(super) binding: ChannelBinding,
}

impl Session {
    fn of(noise: HandshakeState) -> Result<Self, HandshakeError> {
        let mut binding = ChannelBinding::default();
        binding.copy_from_slice(noise.get_handshake_hash());
        Ok(Self { cipher: noise.into_stateless_transport_mode()?, binding })
    }
}

/// Turns `stream` into a session.
pub(super) async fn shake<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    key: &Key,
    role: Role,
) -> Result<Session, HandshakeError> {
    let ours = key.preface();
    stream.write_all(&ours).await?;
    let mut theirs: Preface = [0; PREFACE_LEN];
    stream.read_exact(&mut theirs).await?;
    check(&theirs, key.password)?;
    match role {
        Role::Initiator => {
            let prologue = [ours, theirs].concat();
            let mut noise = builder(key, &prologue)?.build_initiator()?;
            write_message(stream, &mut noise).await?;
            read_message(stream, &mut noise, key).await?;
            Session::of(noise)
        }
        Role::Responder => {
            let prologue = [theirs, ours].concat();
            let mut noise = builder(key, &prologue)?.build_responder()?;
            let read = read_message(stream, &mut noise, key).await;
            if matches!(read, Err(HandshakeError::Password | HandshakeError::Tampered)) {
                stream.write_all(&0_u16.to_be_bytes()).await?;
            }
            read?;
            write_message(stream, &mut noise).await?;
            Session::of(noise)
        }
    }
}

fn builder<'a>(key: &'a Key, prologue: &'a [u8]) -> Result<Builder<'a>, snow::Error> {
    let params = PATTERN.parse()?;
    Builder::new(params).psk(0, &key.psk)?.prologue(prologue)
}

fn check(theirs: &Preface, password: bool) -> Result<(), HandshakeError> {
    let [magic @ .., version, flags] = theirs;
    if magic != MAGIC {
        return Err(HandshakeError::Foreign);
    }
    if *version != VERSION {
        return Err(HandshakeError::Version(*version));
    }
    match (flags & FLAG_PASSWORD != 0, password) {
        (true, false) => Err(HandshakeError::PeerHasPassword),
        (false, true) => Err(HandshakeError::PeerHasNone),
        _ => Ok(()),
    }
}

async fn write_message(
    stream: &mut (impl AsyncWrite + Unpin),
    noise: &mut HandshakeState,
) -> Result<(), HandshakeError> {
    let mut bytes = [0; 2 + MESSAGE_LEN];
    let (length, message) = bytes.split_at_mut(2);
    let written = noise.write_message(&[], message)?;
    length.copy_from_slice(&(MESSAGE_LEN as u16).to_be_bytes());
    debug_assert_eq!(written, MESSAGE_LEN);
    Ok(stream.write_all(&bytes).await?)
}

async fn read_message(
    stream: &mut (impl AsyncRead + Unpin),
    noise: &mut HandshakeState,
    key: &Key,
) -> Result<(), HandshakeError> {
    let differs = || if key.password { HandshakeError::Password } else { HandshakeError::Tampered };
    let mut length = [0; 2];
    stream.read_exact(&mut length).await?;
    match usize::from(u16::from_be_bytes(length)) {
        0 => return Err(differs()),
        MESSAGE_LEN => {}
        _ => return Err(HandshakeError::Foreign),
    }
    let mut message = [0; MESSAGE_LEN];
    stream.read_exact(&mut message).await?;
    match noise.read_message(&message, &mut []) {
        Ok(_) => Ok(()),
        Err(snow::Error::Decrypt) => Err(differs()),
        Err(error) => Err(error.into()),
    }
}
