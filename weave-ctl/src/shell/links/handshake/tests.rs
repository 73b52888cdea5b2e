//! The key of sessions, and what both sides of a handshake say.

use tokio::io::duplex;

use super::*;
use crate::proto::boot::DEFAULT_RANGE;

fn password(text: &str) -> Option<Secret> {
    Some(Secret::password(text).unwrap())
}

fn key(byte: u8) -> Option<Secret> {
    Some(Secret::Key([byte; 32].into()))
}

fn none() -> Key {
    Key::derive(None, DEFAULT_RANGE).unwrap()
}

#[test]
fn password_gives_the_key_that_the_protocol_document_says() {
    // Computed elsewhere: Argon2id, 64 MiB, 3 passes, 1 lane, salt "weave-ctl session password 2 10.32.0.0/12".
    let expected = "0d159ec854e3b084f3585dfab3a9df6cb1f690722fea22345161d7e657019b8b";
    let range = "10.32.0.0/12".parse().unwrap();
    let derived = Key::derive(password("open sesame").as_ref(), range).unwrap();
    let hex: String = derived.psk().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, expected);
    // The range as its network: host bits have no part in it.
    let same = Key::derive(password("open sesame").as_ref(), "10.40.1.2/12".parse().unwrap()).unwrap();
    assert_eq!(same.psk(), derived.psk());
    // A key is taken as it is, whatever the range.
    assert_eq!(Key::derive(key(9).as_ref(), range).unwrap().psk(), &[9; 32]);
    assert_eq!(none().psk(), &[0; 32]);
}

/// What both sides of a handshake say.
async fn meet(one: Option<Secret>, other: Option<Secret>) -> (String, String) {
    let derive = |secret: Option<Secret>| Key::derive(secret.as_ref(), DEFAULT_RANGE).unwrap();
    meet_with(derive(one), derive(other)).await
}

async fn meet_with(one: Key, other: Key) -> (String, String) {
    let (mut a, mut b) = duplex(64);
    let side = async |stream: &mut _, key, role| match shake(stream, key, role).await {
        Ok(_) => "ok".to_owned(),
        Err(error) => error.to_string(),
    };
    tokio::join!(side(&mut a, &one, Role::Initiator), side(&mut b, &other, Role::Responder))
}

#[tokio::test]
async fn both_sides_say_what_differs() {
    let ok = || ("ok".to_owned(), "ok".to_owned());
    for secret in [None, password("x"), key(1)] {
        assert_eq!(meet(secret.clone(), secret).await, ok());
    }
    let both = |text: &str| (text.to_owned(), text.to_owned());
    let differs = "the peer's password differs from this one's, or its range from 10.32.0.0/12: launch both with the same \
                   password and the same --ipalloc-range";
    assert_eq!(meet(password("x"), password("y")).await, both(differs));
    let differs = "the peer's key differs from this one's: launch both with the same --key-file";
    assert_eq!(meet(key(1), key(2)).await, both(differs));
    let secrets = [None, password("x"), key(1)];
    let names = ["neither password nor key", "a password", "a key"];
    for (one, other) in [(0, 1), (0, 2), (1, 2)] {
        let said = |theirs: usize, ours: usize| {
            let (theirs, ours) = (names[theirs], names[ours]);
            format!(
                "the peer has {theirs}, this one has {ours}: launch both with the same --key-file or the same --password-file"
            )
        };
        assert_eq!(meet(secrets[one].clone(), secrets[other].clone()).await, (said(other, one), said(one, other)));
    }
}

#[tokio::test]
async fn another_range_is_named_beside_the_password() {
    let (one, other): (Ipv4Net, Ipv4Net) = ("10.32.0.0/12".parse().unwrap(), "10.32.0.0/16".parse().unwrap());
    let derive = |range: Ipv4Net| Key::derive(password("x").as_ref(), range).unwrap();
    let said = |range: Ipv4Net| HandshakeError::Password(range).to_string();
    assert_eq!(meet_with(derive(one), derive(other)).await, (said(one), said(other)));
    assert!(said(other).contains("10.32.0.0/16") && said(other).contains("--ipalloc-range"), "{}", said(other));
    // Without a password networks of other ranges have sessions as before, and say what differs.
    let open = |range: Ipv4Net| Key::derive(None, range).unwrap();
    assert_eq!(meet_with(open(one), open(other)).await, ("ok".to_owned(), "ok".to_owned()));
}

#[tokio::test]
async fn what_is_changed_on_the_way_is_noticed() {
    let cases: [(&[u8], &str); 4] = [
        (b"weave-ctl\x01\x00", "version 1"),
        (b"weave-ctX\x02\x00", "does not speak"),
        (b"weave-ctl\x02\x00\x00\x31", "does not speak"),
        (b"weave-ctl\x02\x00\x00\x30................................................", "changed on the way"),
    ];
    for (bytes, expected) in cases {
        let (mut a, mut b) = duplex(1024);
        a.write_all(bytes).await.unwrap();
        let error = shake(&mut b, &none(), Role::Responder).await.err().unwrap();
        assert!(error.to_string().contains(expected), "{error}");
    }
    // A flag cleared on the way is part of what both sides must agree on.
    let (mut a, mut b) = duplex(1024);
    a.write_all(b"weave-ctl\x02\x04").await.unwrap();
    let key = none();
    let dialled = async {
        let mut preface = [0; 11];
        a.read_exact(&mut preface).await.unwrap();
        let mut noise = snow::Builder::new("Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s".parse().unwrap());
        noise = noise.psk(0, &[0; 32]).unwrap();
        let prologue = [b"weave-ctl\x02\x00".as_slice(), &preface].concat();
        let mut noise = noise.prologue(&prologue).unwrap().build_initiator().unwrap();
        let mut message = [0; 48];
        noise.write_message(&[], &mut message).unwrap();
        a.write_all(&[[0, 48].as_slice(), &message].concat()).await.unwrap();
    };
    let (result, ()) = tokio::join!(shake(&mut b, &key, Role::Responder), dialled);
    assert!(matches!(result, Err(HandshakeError::Tampered)));
}
