//! What a peer proves itself with: an Ed25519 key (RFC 8032) made with its store. The uid that tells stores of one name
//! apart is a digest of the public key, so nobody can speak for a uid without its key.
//!
//! Does not: make keys (the shell takes them from the kernel, the World from its seed), or keep a key secret in memory
//! from a process that may read this one.

use std::fmt;

use blake2::{Blake2b, Digest as _, digest::consts::U16};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

use super::name::PeerUid;

/// Length in bytes of a signature.
pub const SIGNATURE_LEN: usize = 64;

/// BLAKE2b (RFC 7693) of some bytes, with a digest of 16 bytes.
#[must_use]
pub fn digest(bytes: &[u8]) -> u128 {
    u128::from_be_bytes(Blake2b::<U16>::digest(bytes).into())
}

/// The secret half. Its bytes are stored and never told; it prints as nothing, and is overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretKey(#[serde(with = "serde_bytes")] [u8; 32]);

/// The public half, as it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PublicKey(#[serde(with = "serde_bytes")] pub [u8; 32]);

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey")
    }
}

impl SecretKey {
    /// The key of 32 bytes, which must be random and secret.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(SigningKey::from_bytes(&self.0).verifying_key().to_bytes())
    }

    /// Signs `message`: the same message always gives the same bytes.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        SigningKey::from_bytes(&self.0).sign(message).to_bytes()
    }
}

impl PublicKey {
    /// The uid that belongs to this key: BLAKE2b (RFC 7693) with a digest of 16 bytes.
    #[must_use]
    pub fn uid(&self) -> PeerUid {
        PeerUid(digest(&self.0))
    }

    /// True when `signature` is this key's for `message`. Total: arbitrary bytes are merely not a signature.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let Ok(signature) = Signature::from_slice(signature) else { return false };
        VerifyingKey::from_bytes(&self.0).is_ok_and(|key| key.verify_strict(message, &signature).is_ok())
    }
}

#[cfg(test)]
mod tests;
