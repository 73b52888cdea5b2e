//! Only the key that signed verifies, and only what it signed.

use super::*;

#[test]
fn uid_is_a_digest_of_128_bits_of_the_public_key() {
    // The public key of RFC 8032, section 7.1, test 1; the digest was computed elsewhere (BLAKE2b, 16 bytes).
    let mut bytes = [0; 32];
    let hex = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    }
    assert_eq!(PublicKey(bytes).uid().to_string(), "d7108b422f25cc5edb865cc4ae184f55");
}

#[test]
fn only_the_key_that_signed_verifies_and_only_the_message() {
    let (key, other) = (SecretKey::from_bytes([7; 32]), SecretKey::from_bytes([8; 32]));
    let signature = key.sign(b"message");
    assert!(key.public().verifies(b"message", &signature));
    assert!(!key.public().verifies(b"massage", &signature));
    assert!(!other.public().verifies(b"message", &signature));
    assert!(!key.public().verifies(b"message", &signature[..63]));
    assert!(!PublicKey([0xff; 32]).verifies(b"message", &signature));
    assert_eq!(key.sign(b"message"), signature);
    assert_ne!(key.public().uid(), other.public().uid());
}
