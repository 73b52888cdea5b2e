//! From a TCP connection to an encrypted session.
//!
//! ```text
//! both        preface: "weave-ctl", version, flags (bit 0: password, bit 1: key)   11 bytes, not encrypted
//! initiator   u16 length, Noise_NNpsk0 message 1
//! responder   u16 length, Noise_NNpsk0 message 2; length 0: message 1 did not decrypt
//! ```
//!
//! The prefaces are the Noise prologue, initiator's first, so a change to them on the way breaks the handshake. The
//! pre-shared key is the key that all peers share, or derived from their password and range: [`Key::derive`]. Without
//! either it is zero: the session is private against onlookers, and anybody may open one.
//!
//! Does not: bound time (the caller does), or know who the peer is.

use std::{fmt, io, time::Duration};

use argon2::{Algorithm, Argon2, Params, Version};
use ipnet::Ipv4Net;
use snow::{Builder, HandshakeState, StatelessTransportState};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use super::plain;
use crate::{
    config::secret::{KEY_LEN, Secret},
    proto::io::ChannelBinding,
};

const MAGIC: &[u8; 9] = b"weave-ctl";
/// Version of everything on the connection below the frames. Version 1 derived another key from a password.
const VERSION: u8 = 2;
const FLAG_PASSWORD: u8 = 1;
const FLAG_KEY: u8 = 2;
const PREFACE_LEN: usize = MAGIC.len() + 2;

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";
/// Length of both handshake messages: an ephemeral key and the tag of an empty payload.
const MESSAGE_LEN: usize = 32 + 16;

/// Argon2id (RFC 9106): memory in KiB, passes, lanes. Once a launch.
const ARGON2_COST: (u32, u32, u32) = (64 * 1024, 3, 1);
/// Begins the salt; the range follows, as network and prefix. So who tries words from a list tries them for one range.
const SALT: &str = "weave-ctl session password 2 ";

type Preface = [u8; PREFACE_LEN];

/// What both sides must share.
#[derive(Clone)]
pub(super) struct Key {
    psk: Zeroizing<[u8; KEY_LEN]>,
    made_of: MadeOf,
    range: Ipv4Net,
}

/// What the pre-shared key comes from, as the preface says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MadeOf {
    Nothing,
    Password,
    Key,
}

impl Key {
    /// The pre-shared key of peers with this secret and range. With a password it takes some hundred milliseconds of a
    /// processor and [`ARGON2_COST`] of memory.
    pub(super) fn derive(secret: Option<&Secret>, range: Ipv4Net) -> Result<Self, argon2::Error> {
        let range = range.trunc();
        let (psk, made_of) = match secret {
            None => (Zeroizing::default(), MadeOf::Nothing),
            Some(Secret::Key(key)) => (key.clone(), MadeOf::Key),
            Some(Secret::Password(password)) => {
                let (memory, passes, lanes) = ARGON2_COST;
                let params = Params::new(memory, passes, lanes, Some(KEY_LEN))?;
                let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
                let mut psk = Zeroizing::default();
                let psk_bytes: &mut [u8; KEY_LEN] = &mut psk;
                argon2.hash_password_into(password.as_bytes(), format!("{SALT}{range}").as_bytes(), psk_bytes)?;
                (psk, MadeOf::Password)
            }
        };
        Ok(Self { psk, made_of, range })
    }

    fn preface(&self) -> Preface {
        let mut preface = [0; PREFACE_LEN];
        preface[..MAGIC.len()].copy_from_slice(MAGIC);
        preface[MAGIC.len()] = VERSION;
        preface[MAGIC.len() + 1] = match self.made_of {
            MadeOf::Nothing => 0,
            MadeOf::Password => FLAG_PASSWORD,
            MadeOf::Key => FLAG_KEY,
        };
        preface
    }

    /// The pre-shared key of Noise.
    pub(super) fn psk(&self) -> &[u8; KEY_LEN] {
        &self.psk
    }

    /// Why what the peer sent does not decrypt.
    fn differs(&self) -> HandshakeError {
        match self.made_of {
            MadeOf::Nothing => HandshakeError::Tampered,
            MadeOf::Password => HandshakeError::Password(self.range),
            MadeOf::Key => HandshakeError::Key,
        }
    }
}

impl MadeOf {
    /// Bits of later versions do not count: they are part of the prologue.
    fn of(flags: u8) -> Self {
        if flags & FLAG_KEY != 0 {
            Self::Key
        } else if flags & FLAG_PASSWORD != 0 {
            Self::Password
        } else {
            Self::Nothing
        }
    }
}

impl fmt::Display for MadeOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "neither password nor key",
            Self::Password => "a password",
            Self::Key => "a key",
        })
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
    #[error(
        "the peer has {theirs}, this one has {ours}: launch both with the same --key-file or the same --password-file"
    )]
    Secret { theirs: MadeOf, ours: MadeOf },
    #[error(
        "the peer's password differs from this one's, or its range from {0}: launch both with the same password and the \
         same --ipalloc-range"
    )]
    Password(Ipv4Net),
    #[error("the peer's key differs from this one's: launch both with the same --key-file")]
    Key,
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

impl HandshakeError {
    /// True when the other side is a peer whose secret, range or version is another, by all that shows.
    pub(super) fn is_disagreement(&self) -> bool {
        matches!(self, Self::Version(_) | Self::Secret { .. } | Self::Password(_) | Self::Key)
    }
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
    check(&theirs, key.made_of)?;
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
            if matches!(read, Err(HandshakeError::Password(_) | HandshakeError::Key | HandshakeError::Tampered)) {
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
    Builder::new(params).psk(0, key.psk())?.prologue(prologue)
}

fn check(theirs: &Preface, ours: MadeOf) -> Result<(), HandshakeError> {
    let [magic @ .., version, flags] = theirs;
    if magic != MAGIC {
        return Err(HandshakeError::Foreign);
    }
    if *version != VERSION {
        return Err(HandshakeError::Version(*version));
    }
    let theirs = MadeOf::of(*flags);
    if theirs == ours { Ok(()) } else { Err(HandshakeError::Secret { theirs, ours }) }
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
    let mut length = [0; 2];
    stream.read_exact(&mut length).await?;
    match usize::from(u16::from_be_bytes(length)) {
        0 => return Err(key.differs()),
        MESSAGE_LEN => {}
        _ => return Err(HandshakeError::Foreign),
    }
    let mut message = [0; MESSAGE_LEN];
    stream.read_exact(&mut message).await?;
    match noise.read_message(&message, &mut []) {
        Ok(_) => Ok(()),
        Err(snow::Error::Decrypt) => Err(key.differs()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
