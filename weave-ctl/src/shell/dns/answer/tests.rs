//! What is answered, and what is not.

use std::collections::HashMap;

use hickory_proto::rr::rdata::NULL;
use proptest::prelude::*;

use super::*;

#[derive(Default)]
struct Table(HashMap<String, Vec<Ipv4Addr>>);

impl Known for Table {
    fn addresses(&self, name: &str) -> Option<Vec<Ipv4Addr>> {
        let below = format!(".{name}");
        let above = self.0.keys().any(|known| known.ends_with(&below));
        self.0.get(name).cloned().or_else(|| above.then(Vec::new))
    }

    fn names(&self, addr: Ipv4Addr) -> Vec<String> {
        let mut names: Vec<String> =
            self.0.iter().filter(|(_, addrs)| addrs.contains(&addr)).map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }
}

fn addrs(count: u32) -> Vec<Ipv4Addr> {
    (1..=count).map(|n| Ipv4Addr::from(0x0a20_0000 + n)).collect()
}

fn table() -> Table {
    let names = [("web.weave.local", 2), ("many.weave.local", 300), ("a.b.weave.local", 1), ("x_y.weave.local", 1)];
    Table(names.map(|(name, count)| (name.to_owned(), addrs(count))).into())
}

fn zone() -> Zone {
    Zone { domain: "weave.local".to_owned(), ttl: 1, range: "10.32.0.0/12".parse().unwrap() }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.id = 0x1234;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn with_edns(mut message: Message, size: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(size);
    message.set_edns(edns);
    message
}

fn ask(question: &Message, transport: Transport) -> (Message, Vec<u8>) {
    match decide(&question.to_vec().unwrap(), transport, &zone(), &table(), 0) {
        Verdict::Answer(bytes) => (Message::from_vec(&bytes).unwrap(), bytes),
        other => panic!("{other:?}"),
    }
}

fn asked(name: &str, kind: RecordType) -> Message {
    ask(&question(name, kind), Transport::Udp).0
}

fn code(name: &str, kind: RecordType) -> (ResponseCode, usize, usize) {
    let answer = asked(name, kind);
    (answer.metadata.response_code, answer.answers.len(), answer.authorities.len())
}

#[test]
fn addresses_are_answered_byte_by_byte() {
    let (_, bytes) = ask(&question("WeB.weave.LOCAL.", RecordType::A), Transport::Udp);
    let mut expected = b"\x12\x34\x85\x80\0\x01\0\x02\0\0\0\0\x03WeB\x05weave\x05LOCAL\0\0\x01\0\x01".to_vec();
    for last in [1, 2] {
        expected.extend(b"\xc0\x0c\0\x01\0\x01\0\0\0\x01\0\x04\x0a\x20\0");
        expected.push(last);
    }
    assert_eq!(bytes, expected);
    let mut dnssec = with_edns(question("web.weave.local.", RecordType::A), 4096);
    dnssec.edns.as_mut().unwrap().set_dnssec_ok(true);
    let (_, bytes) = ask(&dnssec, Transport::Udp);
    assert_eq!(bytes[bytes.len() - OPT_LEN..], *b"\0\0\x29\x04\xd0\0\0\x80\0\0\0");
    assert_eq!(bytes.len(), expected.len() + OPT_LEN);
}

/// Field report F1.
#[test]
fn known_names_have_no_other_records_and_no_error() {
    for kind in [RecordType::AAAA, RecordType::TXT, RecordType::SRV, RecordType::MX, RecordType::HTTPS] {
        assert_eq!(code("web.weave.local.", kind), (ResponseCode::NoError, 0, 1), "{kind}");
        assert_eq!(code("nope.weave.local.", kind), (ResponseCode::NXDomain, 0, 1), "{kind}");
    }
    assert_eq!(code("b.weave.local.", RecordType::A), (ResponseCode::NoError, 0, 1), "a name above a name");
    assert_eq!(code("x.b.weave.local.", RecordType::A), (ResponseCode::NXDomain, 0, 1));
    assert_eq!(code("weave.local.", RecordType::A), (ResponseCode::NoError, 0, 1));
    assert_eq!(code("weave.local.", RecordType::SOA), (ResponseCode::NoError, 1, 0));
    assert_eq!(code("web.weave.local.", RecordType::ANY), (ResponseCode::NoError, 2, 0));
    assert_eq!(code("x_y.weave.local.", RecordType::A), (ResponseCode::NoError, 1, 0));
    let negative = asked("nope.weave.local.", RecordType::A);
    let RData::SOA(soa) = &negative.authorities[0].data else { panic!("{negative}") };
    assert_eq!((soa.minimum, negative.authorities[0].ttl), (1, 1));
}

#[test]
fn names_of_addresses_are_answered() {
    let answer = asked("1.0.32.10.in-addr.arpa.", RecordType::PTR);
    let names: Vec<String> = answer.answers.iter().map(|record| record.data.to_string()).collect();
    assert_eq!(names, ["a.b.weave.local.", "many.weave.local.", "web.weave.local.", "x_y.weave.local."]);
    assert_eq!(code("1.0.32.10.in-addr.arpa.", RecordType::A), (ResponseCode::NoError, 0, 1));
    assert_eq!(code("9.9.33.10.in-addr.arpa.", RecordType::PTR), (ResponseCode::NXDomain, 0, 1));
    assert_eq!(code("33.10.in-addr.arpa.", RecordType::SOA), (ResponseCode::NoError, 0, 1));
    let forwarded = |name: &str| {
        let bytes = question(name, RecordType::PTR).to_vec().unwrap();
        matches!(decide(&bytes, Transport::Udp, &zone(), &table(), 0), Verdict::Forward(_))
    };
    for name in ["1.0.0.127.in-addr.arpa.", "10.in-addr.arpa.", "1.0.48.10.in-addr.arpa.", "01.0.32.10.in-addr.arpa."] {
        assert!(forwarded(name), "{name}");
    }
}

/// Field report F3.
#[test]
fn long_answers_are_cut_over_udp_and_whole_over_tcp() {
    let plain = question("many.weave.local.", RecordType::A);
    for (question, most) in [
        (plain.clone(), 512),
        (with_edns(plain.clone(), 100), 512),
        (with_edns(plain.clone(), 700), 700),
        (with_edns(plain.clone(), 4096), 1232),
    ] {
        let (answer, bytes) = ask(&question, Transport::Udp);
        assert!(answer.metadata.truncation && bytes.len() <= most && bytes.len() + A_LEN > most, "{}", bytes.len());
        let (answer, _) = ask(&question, Transport::Tcp);
        assert_eq!((answer.metadata.truncation, answer.answers.len()), (false, 300));
    }
}

#[test]
fn the_order_of_addresses_changes() {
    let bytes = question("web.weave.local.", RecordType::A).to_vec().unwrap();
    let first = |rotate| match decide(&bytes, Transport::Udp, &zone(), &table(), rotate) {
        Verdict::Answer(bytes) => Message::from_vec(&bytes).unwrap().answers[0].data.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!([first(0), first(1), first(2)], ["10.32.0.1", "10.32.0.2", "10.32.0.1"]);
}

#[test]
fn what_is_no_question_for_this_server_is_refused() {
    let base = question("web.weave.local.", RecordType::A);
    let mut chaos = base.clone();
    chaos.queries[0].set_query_class(DNSClass::CH);
    let mut notify = base.clone();
    notify.metadata.op_code = OpCode::Notify;
    let mut two = base.clone();
    two.add_query(base.queries[0].clone());
    let mut newer = with_edns(base.clone(), 1232);
    newer.edns.as_mut().unwrap().set_version(1);
    let mut foreign = question("example.com.", RecordType::A);
    foreign.metadata.recursion_desired = false;
    let cases = [
        (chaos, ResponseCode::Refused),
        (notify, ResponseCode::NotImp),
        (two, ResponseCode::FormErr),
        (newer, ResponseCode::BADVERS),
        (foreign, ResponseCode::Refused),
    ];
    for (question, code) in cases {
        let (answer, _) = ask(&question, Transport::Udp);
        let high = answer.edns.as_ref().map_or(0, Edns::rcode_high);
        assert_eq!((answer.metadata.response_code.low(), high), (code.low(), code.high()), "{answer}");
        assert_eq!((answer.metadata.id, answer.answers.len()), (0x1234, 0));
    }
    let mut response = base;
    response.metadata.message_type = MessageType::Response;
    let verdict = decide(&response.to_vec().unwrap(), Transport::Udp, &zone(), &table(), 0);
    assert!(matches!(verdict, Verdict::Drop), "servers would answer each other");
}

fn some_question() -> impl Strategy<Value = Vec<u8>> {
    let names = prop_oneof![
        Just("web.weave.local.".to_owned()),
        Just("many.weave.local.".to_owned()),
        Just("1.0.32.10.in-addr.arpa.".to_owned()),
        Just("example.com.".to_owned()),
        "[a-zA-Z0-9_][a-zA-Z0-9_-]{0,18}\\.weave\\.local\\.",
    ];
    (names, any::<u16>(), any::<bool>(), any::<u16>()).prop_map(|(name, kind, edns, size)| {
        let plain = question(&name, RecordType::from(kind));
        let message = if edns { with_edns(plain, size) } else { plain };
        message.to_vec().unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn no_bytes_make_it_panic_or_amplify(
        mut bytes in prop_oneof![some_question(), prop::collection::vec(any::<u8>(), 0..300)],
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        for (at, value) in changes {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
        }
        if let Verdict::Answer(answer) = decide(&bytes, Transport::Udp, &zone(), &table(), 0) {
            prop_assert!(answer.len() <= usize::from(UDP_MAX));
            prop_assert_eq!(&answer[..2], &bytes[..2]);
            prop_assert!(answer[2] & 0x80 != 0);
            let read = Message::from_vec(&answer);
            prop_assert!(read.is_ok(), "{:?}", read);
            let error = read.is_ok_and(|read| read.answers.is_empty() && read.authorities.is_empty());
            prop_assert!(!error || answer.len() <= bytes.len() + OPT_LEN, "{} for {}", answer.len(), bytes.len());
        }
    }
}

#[test]
fn unknown_records_of_others_are_passed_on() {
    let data = RData::Unknown { code: RecordType::Unknown(65280), rdata: NULL::with(vec![1, 2, 3]) };
    let mut message = question("example.com.", RecordType::Unknown(65280));
    message.metadata.message_type = MessageType::Response;
    message.add_answer(Record::from_rdata(Name::from_ascii("example.com.").unwrap(), 60, data));
    let again = Message::from_vec(&encode(&message).unwrap()).unwrap();
    assert_eq!(again.answers, message.answers);
}

/// Asks with one name, `far`, of one address.
fn asked_of_one(far: Ipv4Addr, name: &str, kind: RecordType) -> Message {
    let table = Table([("far.weave.local".to_owned(), vec![far])].into());
    match decide(&question(name, kind).to_vec().unwrap(), Transport::Udp, &zone(), &table, 0) {
        Verdict::Answer(bytes) => Message::from_vec(&bytes).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Browsers of services ask such (RFC 6763, section 11).
#[test]
fn names_below_own_reverse_names_never_leave() {
    let far = Ipv4Addr::new(192, 0, 2, 5);
    for name in [
        "b._dns-sd._udp.0.0.32.10.in-addr.arpa.",
        "lb._dns-sd._udp.33.10.in-addr.arpa.",
        "x.1.0.32.10.in-addr.arpa.",
        "x.5.2.0.192.in-addr.arpa.",
    ] {
        let answer = asked_of_one(far, name, RecordType::PTR);
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain, "{name}");
    }
}

/// A resolver discards the SOA record of a zone that the name is not in (RFC 2308, section 5).
#[test]
fn negative_answers_name_a_zone_with_the_name() {
    let far = Ipv4Addr::new(192, 0, 2, 5);
    for (name, apex) in [
        ("5.2.0.192.in-addr.arpa.", "5.2.0.192.in-addr.arpa."),
        ("9.9.33.10.in-addr.arpa.", "33.10.in-addr.arpa."),
        ("33.10.in-addr.arpa.", "33.10.in-addr.arpa."),
        ("nope.weave.local.", "weave.local."),
    ] {
        let answer = asked_of_one(far, name, RecordType::TXT);
        assert_eq!(answer.authorities[0].name.to_ascii(), apex, "{name}");
    }
}
