//! Names that the program on a container's interface answers by itself.

use bytemuck::{Pod, Zeroable};

/// Bytes of a key. Longer names, and those with more than [`ADDRS_MAX`] addresses, are answered by the controller: 64 bytes
/// hold what people type, and are copied and hashed for each question.
pub const NAME_LEN: usize = 64;
/// Most addresses of a name. With them an answer has 347 bytes, which any sender takes (RFC 1035, section 4.2.1).
pub const ADDRS_MAX: usize = 16;

/// Key of [`crate::map::NAMES`]: a name as it is on the wire (RFC 1035, section 3.1), in lower case, and zeros behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct NameKey {
    /// Labels, each after its length; a zero ends them.
    pub name: [u8; NAME_LEN],
}

/// The addresses of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct NameAddrs {
    /// How many there are: 1 to [`ADDRS_MAX`].
    pub count: u32,
    /// That many, and zeros behind them.
    pub addrs: [[u8; 4]; ADDRS_MAX],
}

/// Bytes of a question that a program looks at: more than the longest that it answers.
pub const MESSAGE_MAX: usize = 128;

/// What does not fit the stack of a program while it reads a question.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Scratch {
    /// The message; what is behind its end means nothing.
    pub message: [u8; MESSAGE_MAX],
    /// The name in it.
    pub key: NameKey,
}

impl NameKey {
    /// The key of `name`, which has no dot at its end; `None` when it does not fit or is no name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        let mut key = [0; NAME_LEN];
        let mut at = 0;
        for label in name.split('.') {
            let len = u8::try_from(label.len()).ok().filter(|len| (1..=63).contains(len))?;
            // The zero at the end must fit too.
            let end = at + 1 + label.len();
            if end >= NAME_LEN {
                return None;
            }
            key[at] = len;
            for (to, byte) in key[at + 1..end].iter_mut().zip(label.bytes()) {
                *to = byte.to_ascii_lowercase();
            }
            at = end;
        }
        Some(Self { name: key })
    }

    /// The labels of the name.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.name[..];
        core::iter::from_fn(move || {
            let (len, behind) = rest.split_first().filter(|(len, _)| **len > 0)?;
            let label = behind.get(..usize::from(*len))?;
            rest = &behind[label.len()..];
            Some(label)
        })
    }
}

const _: () = assert!(size_of::<NameKey>() == 64 && size_of::<NameAddrs>() == 68);

#[cfg(test)]
mod tests;
