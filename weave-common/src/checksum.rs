//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).

/// Folds a sum of 16-bit words to 16 bits.
#[must_use]
#[inline(always)]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// The checksum of an IPv4 header whose checksum field is zero.
#[must_use]
pub fn ipv4_header(header: &[u8; 20]) -> u16 {
    let sum = header.chunks_exact(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    !fold(sum)
}

/// `checksum` after one covered 16-bit word went from `old` to `new` (RFC 1624, equation 3).
#[must_use]
#[inline(always)]
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    !fold((!checksum) as u32 + (!old) as u32 + new as u32)
}

/// `checksum` after the covered 16-bit words `old` became `new`.
#[must_use]
#[inline(always)]
pub const fn update_words<const N: usize>(checksum: u16, old: [u16; N], new: [u16; N]) -> u16 {
    const { assert!(N <= 16, "the sum must not overflow") };
    let mut sum = (!checksum) as u32;
    let mut at = 0;
    while at < N {
        sum += (!old[at]) as u32 + new[at] as u32;
        at += 1;
    }
    !fold(sum)
}

#[cfg(test)]
mod tests;
