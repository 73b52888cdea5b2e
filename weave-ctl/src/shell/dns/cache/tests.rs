//! What is kept, and for how long.

use std::net::Ipv4Addr;

use hickory_proto::{
    op::{MessageType, Query},
    rr::{
        Record,
        rdata::{A, SOA, TXT},
    },
};

use super::*;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn question(text: &str) -> Message {
    let mut message = Message::query();
    message.add_query(Query::query(name(text), RecordType::A));
    message
}

fn answer(text: &str, ttl: u32) -> Message {
    let mut message = question(text);
    message.metadata.message_type = MessageType::Response;
    message.add_answer(Record::from_rdata(name(text), ttl, RData::A(A(Ipv4Addr::LOCALHOST))));
    message
}

fn negative(text: &str, minimum: u32) -> Message {
    let mut message = question(text);
    message.metadata.response_code = ResponseCode::NXDomain;
    let soa = SOA::new(name("com."), name("x.com."), 1, 1, 1, 1, minimum);
    message.add_authority(Record::from_rdata(name("com."), 900, RData::SOA(soa)));
    message
}

/// Seconds for which `answer` is kept, up to `most`.
fn kept(answer: &Message, most: u64) -> u64 {
    let (mut cache, now) = (Cache::default(), Instant::now());
    let key = Key::of(answer).unwrap();
    cache.put(key.clone(), answer, now);
    (0..most).find(|second| cache.get(&key, now + Duration::from_secs(*second)).is_none()).unwrap_or(most)
}

#[test]
fn answers_are_kept_as_long_as_they_may() {
    assert_eq!(kept(&answer("a.com.", 7), 100), 7);
    assert_eq!(kept(&answer("a.com.", 0), 100), 0);
    assert_eq!(kept(&answer("a.com.", 86_400), 1000), POSITIVE_MAX.as_secs());
    assert_eq!(kept(&negative("a.com.", 9), 100), 9);
    assert_eq!(kept(&negative("a.com.", 9000), 1000), NEGATIVE_MAX.as_secs());
    let mut cut = answer("a.com.", 7);
    cut.metadata.truncation = true;
    let mut failed = question("a.com.");
    failed.metadata.response_code = ResponseCode::ServFail;
    for never in [cut, failed, question("a.com.")] {
        assert_eq!(kept(&never, 10), 0);
    }
}

#[test]
fn times_to_live_count_down() {
    let (mut cache, now) = (Cache::default(), Instant::now());
    let key = Key::of(&question("A.com.")).unwrap();
    cache.put(key, &answer("a.com.", 10), now);
    let spelt = Key::of(&question("a.COM.")).unwrap();
    let left = cache.get(&spelt, now + Duration::from_secs(4)).unwrap().answers[0].ttl;
    assert_eq!(left, 6);
}

#[test]
fn answers_kept_are_bounded() {
    let (mut cache, now) = (Cache::default(), Instant::now());
    for n in 0..ENTRIES_MAX + 10 {
        let answer = answer(&format!("n{n}.com."), 60);
        cache.put(Key::of(&answer).unwrap(), &answer, now);
    }
    assert_eq!(cache.kept.len(), ENTRIES_MAX);
}

#[test]
fn bytes_kept_are_bounded() {
    let (mut cache, now) = (Cache::default(), Instant::now());
    let text = |n: usize, length: usize| {
        let mut message = answer(&format!("n{n}.com."), 60);
        let data = RData::TXT(TXT::new(vec!["x".repeat(250); length / 250]));
        message.add_answer(Record::from_rdata(name("a.com."), 60, data));
        message
    };
    let huge = text(0, 60_000);
    cache.put(Key::of(&huge).unwrap(), &huge, now);
    assert!(cache.get(&Key::of(&huge).unwrap(), now).is_none(), "one answer must not take the place of many");
    let count = 2 * BYTES_MAX / 3000;
    for n in 0..count {
        let answer = text(n, 3000);
        cache.put(Key::of(&answer).unwrap(), &answer, now);
        assert!(cache.bytes <= BYTES_MAX);
    }
    let last = question(&format!("n{}.com.", count - 1));
    assert_eq!(cache.get(&Key::of(&last).unwrap(), now).unwrap().answers.len(), 2);
}

/// An alias of a name that has no such record (RFC 2308, section 2.2).
#[test]
fn an_alias_to_nothing_is_kept_as_what_is_negative() {
    let mut alias = negative("a.com.", 9000);
    alias.metadata.response_code = ResponseCode::NoError;
    let to = RData::CNAME(hickory_proto::rr::rdata::CNAME(name("b.com.")));
    alias.add_answer(Record::from_rdata(name("a.com."), 300, to));
    assert_eq!(kept(&alias, 1000), NEGATIVE_MAX.as_secs());
}
