//! What a peer publishes of its addresses beside the ring: how much it has left, and that it leaves. A hint of whom to ask.

use serde::{Deserialize, Serialize};

use crate::proto::cbor;

/// See the head of this file. Unknown fields are ignored, missing ones have defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hint {
    /// Free addresses, as the number of binary digits.
    #[serde(rename = "f", default)]
    pub free: u8,
    /// It hands its ranges over, and takes none.
    #[serde(rename = "l", default)]
    pub leaving: bool,
}

impl Hint {
    /// The hint as it is published.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        cbor::write(self)
    }

    /// The hint that another peer published.
    ///
    /// # Errors
    /// It does not read. Never panics.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        cbor::read(bytes).map_err(|e| format!("not a hint of free space: {e}"))
    }
}
