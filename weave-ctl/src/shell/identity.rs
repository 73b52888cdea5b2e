//! A peer's name from the machine it runs on, for a first launch without `--name`.
//!
//! The BIOS product UUID names the machine; `/etc/machine-id` is asked only where there is none, because images of
//! machines are often copied with it. Both may be secret or private, so only a hash leaves this room.
//!
//! Does not: remember the name (the store does) or make one when there is no id (the core does).

use std::{fs, io::Read};

use blake2::{Blake2b, Digest, digest::consts::U6};

use crate::proto::name::PeerName;

/// Where the kernel shows the BIOS product UUID, to root.
const PRODUCT_UUID: &str = "/sys/class/dmi/id/product_uuid";
/// Made when the system was installed.
const MACHINE_ID: &str = "/etc/machine-id";
/// Bytes read of either: more than both have.
const ID_MAX: u64 = 128;
/// Keeps the hash apart from others of the same ids.
const DOMAIN: &[u8] = b"weave peer name 1\0";
/// Hexadecimal digits of either id.
const ID_DIGITS: usize = 32;
/// What boards carry whose maker set no UUID.
const PLACEHOLDERS: [&str; 1] = ["03000200040005000006000700080009"];

/// The name of this machine; `None` when it has no id of its own.
#[must_use]
pub fn derive() -> Option<PeerName> {
    from_ids(read(PRODUCT_UUID).as_deref(), read(MACHINE_ID).as_deref())
}

fn read(path: &str) -> Option<String> {
    let mut text = String::new();
    fs::File::open(path).ok()?.take(ID_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

/// The name of a machine with these ids, as read from their files.
fn from_ids(product_uuid: Option<&str>, machine_id: Option<&str>) -> Option<PeerName> {
    let (source, id) = match product_uuid.and_then(usable) {
        Some(id) => (b'u', id),
        None => (b'm', machine_id.and_then(usable)?),
    };
    let hash = Blake2b::<U6>::new().chain_update(DOMAIN).chain_update([source]).chain_update(id).finalize();
    Some(PeerName::derived(hash.into()))
}

/// The id's digits in one spelling; `None` when it is malformed or the same on many machines.
fn usable(text: &str) -> Option<String> {
    let digits: String = text.trim().chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect();
    let whole = digits.len() == ID_DIGITS && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let first = digits.as_bytes().first()?;
    let uniform = digits.bytes().all(|b| b == *first);
    (whole && !uniform && !PLACEHOLDERS.contains(&digits.as_str())).then_some(digits)
}

#[cfg(test)]
mod tests;
