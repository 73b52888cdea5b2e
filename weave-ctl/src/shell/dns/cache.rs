//! Answers of other servers, for as long as they may be kept.
//!
//! Bounds: [`ENTRIES_MAX`] answers of at most [`ANSWER_MAX`] records; the one that ends first makes room. Positive answers are
//! kept for at most [`POSITIVE_MAX`], negative ones for the SOA's minimum (RFC 2308) and at most [`NEGATIVE_MAX`]. Answers that
//! are cut, or tell of a failure, are not kept.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{DNSClass, Name, RData, RecordType},
};

const ENTRIES_MAX: usize = 4096;
const ANSWER_MAX: usize = 64;
const POSITIVE_MAX: Duration = Duration::from_secs(300);
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
    answer: Message,
    since: Instant,
    until: Instant,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Cache(HashMap<Key, Kept>);

/// For how long `answer` may be kept; `None` when not at all.
fn lifetime(answer: &Message) -> Option<Duration> {
    let records = answer.answers.len() + answer.authorities.len() + answer.additionals.len();
    if answer.metadata.truncation || records > ANSWER_MAX {
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
            Some(Duration::from_secs(u64::from(least)).min(POSITIVE_MAX))
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
        if self.0.len() >= ENTRIES_MAX && !self.0.contains_key(&key) {
            self.0.retain(|_, kept| kept.until > now);
            if self.0.len() >= ENTRIES_MAX {
                let first = self.0.iter().min_by_key(|(_, kept)| kept.until).map(|(key, _)| key.clone());
                first.map(|first| self.0.remove(&first));
            }
        }
        self.0.insert(key, Kept { answer: answer.clone(), since: now, until: now + time });
    }

    /// The answer that is kept, its times to live counted down.
    pub(super) fn get(&self, key: &Key, now: Instant) -> Option<Message> {
        let kept = self.0.get(key).filter(|kept| kept.until > now)?;
        let passed = u32::try_from(now.saturating_duration_since(kept.since).as_secs()).unwrap_or(u32::MAX);
        let mut answer = kept.answer.clone();
        let records = answer.answers.iter_mut().chain(&mut answer.authorities).chain(&mut answer.additionals);
        records.for_each(|record| record.ttl = record.ttl.saturating_sub(passed));
        Some(answer)
    }
}

#[cfg(test)]
mod tests;
