//! Messages survive the trip; anything else is refused without harm.

use proptest::prelude::*;

use super::*;

fn hello() -> Hello {
    Hello {
        min_version: 1,
        max_version: 1,
        features: vec!["x".into()],
        nonce: 5,
        entry: vec![1, 2, 3],
        proof: vec![4; 64],
    }
}

fn key(n: u8) -> Key {
    Key { owner: PeerName::from_bytes([n; 6]), channel: "peers".into() }
}

const STAMP: Stamp = Stamp { incarnation: 1, version: 2, digest: 3 };

#[test]
fn round_trips() {
    let id = PeerId { name: PeerName::from_bytes([2; 6]), uid: PeerUid(7) };
    let ring = RingMessage {
        range: "10.32.0.0/12".parse().unwrap(),
        origin: vec![id],
        shares: vec![(Ipv4Addr::new(10, 32, 0, 0), 3, id)],
        limits: vec![Ipv4Addr::new(10, 32, 0, 9)],
        removed: vec![id],
        whole: true,
    };
    let messages = [
        Message::Hello(Box::new(hello())),
        Message::Entries(Entries { entries: vec![ByteBuf::from([1, 2]), ByteBuf::new()], more: true }),
        Message::Sum(u64::MAX),
        Message::Buckets((0..BUCKETS as u64).collect()),
        Message::List(List { buckets: vec![1, 255], items: vec![(key(1), STAMP)], more: false }),
        Message::Want(vec![key(1), key(2)]),
        Message::News(vec![(key(1), PeerUid(7), STAMP)]),
        Message::Ring(ring),
        Message::RingSum(0),
        Message::Ping,
        Message::Bye("two peers are called so".into()),
    ];
    for message in messages {
        assert_eq!(Message::decode(&message.encode()), Ok(message));
    }
}

#[test]
fn the_body_may_come_before_the_kind() {
    #[derive(Serialize)]
    struct Turned<B> {
        body: B,
        kind: &'static str,
    }
    assert_eq!(Message::decode(&cbor::write(&Turned { body: 7_u64, kind: "sum" })), Ok(Message::Sum(7)));
    let unknown = Message::decode(&cbor::write(&Turned { body: vec![key(1)], kind: "colour" }));
    assert_eq!(unknown, Ok(Message::Unknown("colour".to_owned())));
}

#[test]
fn every_known_kind_with_another_body_is_an_error() {
    for kind in KINDS.into_iter().filter(|kind| *kind != "ping") {
        let read = Message::decode(&frame(kind, [Some(true)]));
        assert!(matches!(read, Err(WireError::Malformed(_))), "{kind}: {read:?}");
    }
}

#[test]
fn a_sign_of_life_may_carry_what_a_later_version_says() {
    assert_eq!(Message::decode(&frame("ping", [Some(true)])), Ok(Message::Ping));
}

#[test]
fn unknown_kinds_and_fields_are_skipped() {
    #[derive(Serialize)]
    struct Later {
        #[serde(flatten)]
        hello: Hello,
        colour: &'static str,
    }
    assert_eq!(Message::decode(&frame("later", [1, 2, 3])), Ok(Message::Unknown("later".into())));
    let bytes = frame("hello", Later { hello: hello(), colour: "red" });
    assert_eq!(Message::decode(&bytes), Ok(Message::Hello(Box::new(hello()))));
}

#[test]
fn bounds_hold() {
    let many = Message::Entries(Entries { entries: vec![ByteBuf::new(); ENTRIES_MAX + 1], more: false });
    assert_eq!(Message::decode(&many.encode()), Err(WireError::TooLong("entries")));
    let wants = Message::Want(vec![key(1); LIST_MAX + 1]);
    assert_eq!(Message::decode(&wants.encode()), Err(WireError::TooLong("keys")));
    let news = Message::News(vec![(key(1), PeerUid(7), STAMP); LIST_MAX + 1]);
    assert_eq!(Message::decode(&news.encode()), Err(WireError::TooLong("news")));
    let list = List { buckets: vec![], items: vec![(key(1), STAMP); LIST_MAX + 1], more: false };
    assert_eq!(Message::decode(&Message::List(list).encode()), Err(WireError::TooLong("items")));
    let long = Message::Want(vec![Key { channel: "x".repeat(CHANNEL_MAX + 1).into(), ..key(1) }]);
    assert_eq!(Message::decode(&long.encode()), Err(WireError::TooLong("the name of a channel")));
    let long = Message::News(vec![(Key { channel: "x".repeat(CHANNEL_MAX + 1).into(), ..key(1) }, PeerUid(7), STAMP)]);
    assert_eq!(Message::decode(&long.encode()), Err(WireError::TooLong("the name of a channel")));
    let deep = [vec![0x81; 100_000], vec![0x00]].concat();
    assert!(matches!(Message::decode(&deep), Err(WireError::Malformed(_))));
}

#[test]
fn a_long_farewell_is_cut() {
    let long = Message::Bye("x\n".repeat(REASON_MAX)).encode();
    assert_eq!(Message::decode(&long), Ok(Message::Bye("x".repeat(REASON_MAX))));
}

proptest! {
    #[test]
    fn decoding_is_total(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _total = Message::decode(&bytes);
    }

    #[test]
    fn damage_is_total(at in 0_usize..400, with: u8, cut in 0_usize..400) {
        let mut bytes = Message::Hello(Box::new(hello())).encode();
        let len = bytes.len();
        bytes[at % len] = with;
        bytes.truncate(len - cut % len);
        let _total = Message::decode(&bytes);
    }
}
