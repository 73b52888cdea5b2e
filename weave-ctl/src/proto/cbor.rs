//! CBOR (RFC 8949) as peers exchange it. Reading is total: arbitrary bytes give an error, never a panic.

use serde::{Serialize, de::DeserializeOwned};

/// Deepest nesting that is looked at.
const DEPTH_MAX: usize = 16;

/// The CBOR of `value`.
#[must_use]
pub fn write<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Writing to a vector fails only when it cannot grow; nothing at all is then refused by whoever reads it.
    if ciborium::into_writer(value, &mut bytes).is_err() {
        bytes.clear();
    }
    bytes
}

/// The value in CBOR `bytes`.
///
/// # Errors
/// The bytes are no such value: why, in the decoder's words.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    ciborium::de::from_reader_with_recursion_limit(bytes, DEPTH_MAX).map_err(|e| e.to_string())
}
