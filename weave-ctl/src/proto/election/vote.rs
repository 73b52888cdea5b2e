//! A voter's state, as it is stored and told.

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::VOTERS_MAX;
use crate::proto::{cbor, name::PeerId};

/// A proposal's number: unique, because the proposer is part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ballot {
    /// Above all rounds that the proposer had seen.
    #[serde(rename = "r")]
    pub round: u64,
    /// Who proposes.
    #[serde(rename = "p")]
    pub proposer: PeerId,
}

/// A value accepted for a ballot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Accepted {
    /// The ballot.
    #[serde(rename = "b")]
    pub ballot: Ballot,
    /// Among whom the range is divided.
    #[serde(rename = "o")]
    pub origin: Vec<PeerId>,
}

/// See the head of this file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Vote {
    /// The range that is to be divided.
    #[serde(rename = "n")]
    pub range: Ipv4Net,
    /// How many voters were declared; `None` for an observer, who has no vote.
    #[serde(rename = "c", default)]
    pub count: Option<u16>,
    /// Somebody waits for the outcome here.
    #[serde(rename = "w", default)]
    pub wants: bool,
    /// No lower ballot is accepted any more.
    #[serde(rename = "p", default)]
    pub promised: Option<Ballot>,
    /// The highest ballot for which a value was accepted.
    #[serde(rename = "a", default)]
    pub accepted: Option<Accepted>,
    /// Voters that this one knows, itself among them.
    #[serde(rename = "k", default)]
    pub known: Vec<PeerId>,
}

impl Vote {
    /// Nothing promised, nothing accepted.
    #[must_use]
    pub fn new(range: Ipv4Net, count: Option<u16>) -> Self {
        Self { range, count, wants: false, promised: None, accepted: None, known: Vec::new() }
    }

    /// The state as it is told.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        cbor::write(self)
    }

    /// The state that another peer told.
    ///
    /// # Errors
    /// It does not read, or exceeds a bound. Never panics.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let vote: Self = cbor::read(bytes).map_err(|e| format!("not a vote: {e}"))?;
        let origin = vote.accepted.as_ref().map_or(0, |accepted| accepted.origin.len());
        if vote.known.len() > VOTERS_MAX || origin > VOTERS_MAX {
            return Err("a vote beyond its bounds".to_owned());
        }
        Ok(vote)
    }
}
