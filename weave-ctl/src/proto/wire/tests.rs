//! Messages survive the trip; anything else is refused without harm.

use proptest::prelude::*;

use super::*;

fn handshake() -> Handshake {
    Handshake { min_version: 1, max_version: 1, nonce: 5, entry: vec![1, 2, 3], proof: vec![4; 64] }
}

const OWNER: PeerName = PeerName::from_bytes([1; 6]);
const SUMMARY: Summary =
    Summary { owner: OWNER, uid: PeerUid(7), complete: Point(1, 2), newest: Point(1, 3), digest: u64::MAX };
const WANT: Want = Want { owner: OWNER, uid: PeerUid(7), since: Some(Point(1, 2)) };
const SPAN: Span = Span { owner: OWNER, uid: PeerUid(7), from: Point::ZERO, to: Point(1, 2), floor: Point(1, 0) };

fn frame<B: Serialize>(kind: &str, body: B) -> Vec<u8> {
    #[derive(Serialize)]
    struct Frame<'a, B> {
        kind: &'a str,
        body: B,
    }
    cbor::write(&Frame { kind, body })
}

#[test]
fn a_frame_is_a_kind_and_then_a_body() {
    assert_eq!(Message::Digest(7).encode(), frame("digest", 7_u64));
    assert_eq!(Message::RingDigest(7).encode(), frame("ringdigest", 7_u64));
    assert_eq!(Message::Ping.encode(), frame("ping", ()));
    let delta = Delta { entries: vec![ByteBuf::from([1, 2])], spans: vec![SPAN], more: true, ..Delta::default() };
    assert_eq!(Message::Delta(delta.clone()).encode(), frame("delta", delta));
    assert_eq!(Message::Close("why".to_owned()).encode(), frame("close", "why"));
}

#[test]
fn messages_survive_the_trip() {
    let id = PeerId { name: PeerName::from_bytes([2; 6]), uid: PeerUid(7) };
    let ring = RingMessage {
        range: "10.32.0.0/12".parse().unwrap(),
        origin: vec![id],
        shares: vec![(Ipv4Addr::new(10, 32, 0, 0), (1, 3, id, id))],
        limits: vec![Ipv4Addr::new(10, 32, 0, 9)],
        removed: vec![takeover::Takeover::sign(7, id, 1, id.name, &crate::proto::fixture::key(1, 0))],
        whole: true,
    };
    let messages = [
        Message::Handshake(Box::new(handshake())),
        Message::Delta(Delta {
            entries: vec![ByteBuf::from([1, 2]), ByteBuf::new()],
            spans: vec![SPAN],
            more: true,
            ..Delta::default()
        }),
        Message::Digest(u64::MAX),
        Message::Buckets((0..BUCKETS as u64).collect()),
        Message::Page(Page { buckets: vec![1, 255], owners: vec![SUMMARY], more: false }),
        Message::Request(vec![WANT, Want { since: None, ..WANT }]),
        Message::Advertise(vec![SUMMARY]),
        Message::Ring(ring),
        Message::RingDigest(0),
        Message::AliveRequest(AliveRequest { id: 9, peer: id.name, hops: 3 }),
        Message::AliveResponse(AliveResponse {
            id: 9,
            by: id.name,
            session: Some((id.uid, "192.0.2.1:6783".into())),
            kernel: String::new(),
        }),
        Message::Ping,
        Message::Close("two peers have this name".into()),
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
    assert_eq!(Message::decode(&cbor::write(&Turned { body: 7_u64, kind: "digest" })), Ok(Message::Digest(7)));
    let unknown = Message::decode(&cbor::write(&Turned { body: vec![WANT], kind: "colour" }));
    assert_eq!(unknown, Ok(Message::Unknown));
}

#[test]
fn a_known_kind_with_another_body_is_an_error() {
    let lists = ["delta", "advertise", "buckets", "page", "request", "ring"];
    for kind in lists.into_iter().chain(["handshake", "digest", "ringdigest", "aliverequest", "aliveresponse", "close"])
    {
        let read = Message::decode(&frame(kind, [Some(true)]));
        assert!(matches!(read, Err(WireError::Malformed(_))), "{kind}: {read:?}");
    }
}

#[test]
fn a_ping_may_carry_fields_of_a_later_version() {
    assert_eq!(Message::decode(&frame("ping", [Some(true)])), Ok(Message::Ping));
}

#[test]
fn unknown_kinds_and_fields_are_skipped() {
    #[derive(Serialize)]
    struct Later {
        #[serde(flatten)]
        handshake: Handshake,
        colour: &'static str,
    }
    assert_eq!(Message::decode(&frame("later", [1, 2, 3])), Ok(Message::Unknown));
    let bytes = frame("handshake", Later { handshake: handshake(), colour: "red" });
    assert_eq!(Message::decode(&bytes), Ok(Message::Handshake(Box::new(handshake()))));
}

#[test]
fn bounds_hold() {
    let refused = |message: Message, what| {
        assert_eq!(Message::decode(&message.encode()), Err(WireError::TooLong(what)));
    };
    let many = Delta { entries: vec![ByteBuf::new(); ENTRIES_MAX + 1], ..Delta::default() };
    refused(Message::Delta(many), "entries");
    refused(Message::Delta(Delta { spans: vec![SPAN; PAGE_MAX + 1], ..Delta::default() }), "spans");
    refused(Message::Request(vec![WANT; PAGE_MAX + 1]), "wants");
    refused(Message::Advertise(vec![SUMMARY; PAGE_MAX + 1]), "advertised owners");
    let page = Page { buckets: vec![], owners: vec![SUMMARY; PAGE_MAX + 1], more: false };
    refused(Message::Page(page), "owners");
    let deep = [vec![0x81; 100_000], vec![0x00]].concat();
    assert!(matches!(Message::decode(&deep), Err(WireError::Malformed(_))));
}

#[test]
fn a_long_reason_is_cut() {
    let long = Message::Close("x\n".repeat(REASON_MAX)).encode();
    assert_eq!(Message::decode(&long), Ok(Message::Close("x".repeat(REASON_MAX))));
}

proptest! {
    #[test]
    fn decoding_is_total(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _total = Message::decode(&bytes);
    }

    #[test]
    fn damage_is_total(at in 0_usize..400, with: u8, cut in 0_usize..400) {
        let mut bytes = Message::Handshake(Box::new(handshake())).encode();
        let len = bytes.len();
        bytes[at % len] = with;
        bytes.truncate(len - cut % len);
        let _total = Message::decode(&bytes);
    }
}
