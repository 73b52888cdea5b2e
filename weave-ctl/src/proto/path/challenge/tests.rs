//! Proofs of addresses: who can give one, and for what.

use std::time::Duration;

use super::*;

const ME: PeerName = PeerName::from_bytes([0, 0, 0, 0, 0, 1]);
const PEER: PeerName = PeerName::from_bytes([0, 0, 0, 0, 0, 2]);
const OWN: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 1);

fn challenge() -> Challenge {
    Challenge { to: "198.51.100.2:30000".parse().unwrap(), fixed: true, nonce: 99, at: Instant::default(), sent: true }
}

fn key(n: u8) -> SecretKey {
    SecretKey::from_bytes([n; 32])
}

#[test]
fn proof_is_valid_for_its_signer_challenge_and_address_alone() {
    let valid = |proof: [u8; PROOF_LEN], challenge: &Challenge| {
        challenge.is_met(ME, (PEER, &key(2).public()), &proof, &[OWN], false)
    };
    assert!(valid(prove(&key(2), ME, PEER, 99, OWN), &challenge()));
    assert!(!valid(prove(&key(3), ME, PEER, 99, OWN), &challenge()), "another key");
    assert!(!valid(prove(&key(2), ME, PEER, 98, OWN), &challenge()), "another nonce");
    assert!(!valid(prove(&key(2), PEER, PEER, 99, OWN), &challenge()), "another challenger");
    let liar = Ipv4Addr::new(192, 168, 0, 66);
    assert!(!valid(prove(&key(2), ME, PEER, 99, liar), &challenge()), "the challenge was passed on by another host");
}

#[test]
fn host_behind_nat_refuses_a_challenge_passed_on_by_its_receiver() {
    let (ours, theirs) = (Ipv4Addr::new(203, 0, 113, 1), *challenge().to.ip());
    let proof = |seen| prove(&key(2), ME, PEER, 99, seen);
    let met = |seen| challenge().is_met(ME, (PEER, &key(2).public()), &proof(seen), &[OWN], true);
    assert!(met(ours) && !met(theirs));
}

#[test]
fn challenges_are_bounded_and_expire() {
    let mut all = Challenges::default();
    let name = |n: usize| PeerName::from_bytes([0, 0, 0, 1, (n >> 8) as u8, n as u8]);
    let begun = (0..2 * CHALLENGES_MAX).filter(|n| all.begin(name(*n), challenge())).count();
    assert_eq!(begun, CHALLENGES_MAX);
    assert!(!all.begin(name(0), challenge()), "one for each peer");
    assert!(all.take(name(0), 98).is_none() && all.take(name(0), 99).is_some());
    assert_eq!(all.expire(Instant::from_start(SENT_FOR + Duration::from_millis(1))).len(), CHALLENGES_MAX - 1);
    assert_eq!(all.expires(), None);
}
