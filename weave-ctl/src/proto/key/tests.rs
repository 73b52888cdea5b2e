//! Only the key that signed verifies, and only what it signed.

use super::*;

#[test]
fn only_the_key_that_signed_verifies_and_only_the_message() {
    let mut rng = Rng::new([7; 32]);
    let (key, other) = (SecretKey::new(&mut rng), SecretKey::new(&mut rng));
    let signature = key.sign(b"message");
    assert!(key.public().verifies(b"message", &signature));
    assert!(!key.public().verifies(b"massage", &signature));
    assert!(!other.public().verifies(b"message", &signature));
    assert!(!key.public().verifies(b"message", &signature[..63]));
    assert!(!PublicKey([0xff; 32]).verifies(b"message", &signature));
    assert_eq!(key.sign(b"message"), signature);
    assert_ne!(key.public().uid(), other.public().uid());
}
