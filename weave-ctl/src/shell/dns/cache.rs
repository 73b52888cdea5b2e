//! Answers of other servers, for as long as they may be kept.
//!
//! Bounds: [`ENTRIES_MAX`] answers, [`BYTES_MAX`] of them, [`ANSWER_MAX`] of each; those that end first make room. Positive
//! answers are kept for at most [`POSITIVE_MAX`], negative ones for the SOA's minimum (RFC 2308) and at most
//! [`NEGATIVE_MAX`]. Answers that are cut, or tell of a failure, are not kept.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{DNSClass, Name, RData, RecordType},
};

use super::answer::encode;

/// Most answers that are kept.
const ENTRIES_MAX: usize = 4096;
/// Most bytes of all answers that are kept.
const BYTES_MAX: usize = 4 << 20;
/// Most bytes of one answer.
const ANSWER_MAX: usize = 4096;
/// Longest time for an answer with records.
const POSITIVE_MAX: Duration = Duration::from_secs(300);
/// Longest time for an answer that there are none (RFC 2308, section 5, lets it be hours: names come and go here).
const NEGATIVE_MAX: Duration = Duration::from_secs(60);

/// What tells questions apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    name: Name,
    kind: RecordType,
    class: DNSClass,
    /// Signatures are asked for.
    dnssec: bool,
    /// They are checked by whoever asks.
    unchecked: bool,
}

impl Key {
    /// That of `question`; `None` when it asks for nothing.
    pub(super) fn of(question: &Message) -> Option<Self> {
        let query = question.queries.first()?;
        Some(Self {
            name: query.name().to_lowercase(),
            kind: query.query_type(),
            class: query.query_class(),
            dnssec: question.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok),
            unchecked: question.metadata.checking_disabled,
        })
    }
}

#[derive(Debug)]
struct Kept {
    /// As it was received, but for compression: its size is known so.
    bytes: Vec<u8>,
    since: Instant,
    ends: End,
}

/// When an answer ends, and a number that tells it from others that end then.
type End = (Instant, u64);

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Cache {
    kept: HashMap<Key, Kept>,
    /// What ends first is first.
    ends: BTreeMap<End, Key>,
    /// Bytes of all that is kept.
    bytes: usize,
    /// Answers kept since the launch.
    count: u64,
}

/// For how long `answer` may be kept; `None` when not at all.
fn lifetime(answer: &Message) -> Option<Duration> {
    if answer.metadata.truncation {
        return None;
    }
    let negative = || {
        let minimum = answer.authorities.iter().find_map(|record| match &record.data {
            RData::SOA(soa) => Some(soa.minimum.min(record.ttl)),
            _ => None,
        });
        minimum.map(|seconds| Duration::from_secs(u64::from(seconds)).min(NEGATIVE_MAX))
    };
    match answer.metadata.response_code {
        ResponseCode::NoError if !answer.answers.is_empty() => {
            let least = answer.answers.iter().chain(&answer.authorities).map(|record| record.ttl).min()?;
            // With SOA it is an alias, and that what it leads to is not there (RFC 2308, section 2.2).
            Some(Duration::from_secs(u64::from(least)).min(negative().unwrap_or(POSITIVE_MAX)))
        }
        ResponseCode::NoError | ResponseCode::NXDomain => negative(),
        _ => None,
    }
    .filter(|time| !time.is_zero())
}

impl Cache {
    /// Keeps `answer` for as long as it may be kept.
    pub(super) fn put(&mut self, key: Key, answer: &Message, now: Instant) {
        let Some(time) = lifetime(answer) else { return };
        let Some(bytes) = encode(answer).filter(|bytes| bytes.len() <= ANSWER_MAX) else { return };
        self.remove(&key);
        while self.kept.len() >= ENTRIES_MAX || self.bytes + bytes.len() > BYTES_MAX {
            let Some(first) = self.ends.values().next().cloned() else { return };
            self.remove(&first);
        }
        self.count += 1;
        let ends = (now + time, self.count);
        self.bytes += bytes.len();
        self.ends.insert(ends, key.clone());
        self.kept.insert(key, Kept { bytes, since: now, ends });
    }

    fn remove(&mut self, key: &Key) {
        if let Some(kept) = self.kept.remove(key) {
            self.bytes -= kept.bytes.len();
            self.ends.remove(&kept.ends);
        }
    }

    /// The answer that is kept, its times to live counted down.
    pub(super) fn get(&self, key: &Key, now: Instant) -> Option<Message> {
        let kept = self.kept.get(key).filter(|kept| kept.ends.0 > now)?;
        let passed = u32::try_from(now.saturating_duration_since(kept.since).as_secs()).unwrap_or(u32::MAX);
        let mut answer = Message::from_vec(&kept.bytes).ok()?;
        let records = answer.answers.iter_mut().chain(&mut answer.authorities).chain(&mut answer.additionals);
        records.for_each(|record| record.ttl = record.ttl.saturating_sub(passed));
        Some(answer)
    }
}

#[cfg(test)]
mod tests;
