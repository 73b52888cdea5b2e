//! The envelope of entries and letters: bytes, and the key that signed them.

use serde::{Deserialize, Serialize};

use super::{WireError, bound};
use crate::proto::{
    cbor,
    key::{PublicKey, SIGNATURE_LEN, SecretKey},
};

#[derive(Serialize, Deserialize)]
pub(super) struct Signed {
    #[serde(rename = "k")]
    pub(super) key: PublicKey,
    #[serde(rename = "s", with = "serde_bytes")]
    pub(super) signature: Vec<u8>,
    /// Last, so that it is the end of the envelope.
    #[serde(rename = "b", with = "serde_bytes")]
    pub(super) body: Vec<u8>,
}

impl Signed {
    /// The envelope of `body`. `context` is set before what is signed, so that a signature of one kind is none of another.
    pub(super) fn write(key: &SecretKey, context: &[u8], body: Vec<u8>) -> Vec<u8> {
        let signature = key.sign(&[context, &body].concat()).to_vec();
        cbor::write(&Self { key: key.public(), signature, body })
    }

    /// The envelope in `raw`, which is not verified yet.
    pub(super) fn read(raw: &[u8]) -> Result<Self, WireError> {
        let signed: Self = super::read(raw)?;
        bound("a signature", signed.signature.len(), SIGNATURE_LEN)?;
        Ok(signed)
    }

    /// True when the signature is the key's, for this context.
    pub(super) fn is_genuine(&self, context: &[u8]) -> bool {
        self.key.verifies(&[context, &self.body].concat(), &self.signature)
    }
}
