//! What peers tell each other of addresses beside the ring: how much they have left, what they ask of each other, and
//! what was answered. Each peer's board is gossiped whole, signed by it; a question stands on it for as long as it is
//! open, so a lost answer is merely late.
//!
//! CBOR of serde's derive: unknown fields are ignored, missing ones have defaults. Bounds: [`ASKS_MAX`] questions,
//! [`ANSWERS_MAX`] answers.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use thin_vec::ThinVec;

use crate::proto::{cbor, name::PeerName};

/// Most questions on a board.
pub const ASKS_MAX: usize = 16;
/// Most answers on a board.
pub const ANSWERS_MAX: usize = 256;
/// Longest reason in bytes; more is cut by whoever writes it.
pub const REASON_MAX: usize = 256;

/// See the head of this file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Board {
    /// Free addresses of this peer, as the number of binary digits: a hint of whom to ask.
    #[serde(rename = "f", default)]
    pub free: u8,
    /// Open questions.
    #[serde(rename = "q", default)]
    pub asks: ThinVec<Ask>,
    /// Answers to questions that are still open.
    #[serde(rename = "a", default)]
    pub answers: ThinVec<Answer>,
}

/// A question to one peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Not used again by the peer that asks.
    #[serde(rename = "i")]
    pub id: u64,
    /// Who is asked.
    #[serde(rename = "t")]
    pub to: PeerName,
    /// For what.
    #[serde(rename = "w")]
    pub what: Want,
}

/// What one peer may want of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Want {
    /// Some addresses of a subnet.
    #[serde(rename = "s")]
    Space(Ipv4Net),
    /// This very address.
    #[serde(rename = "c")]
    Address(Ipv4Addr),
    /// A word that the other takes the ranges of the peer that asks, which leaves, over; and stays until it has.
    #[serde(rename = "l")]
    Willing,
    /// A word that all ranges of the peer that asks are the other's now.
    #[serde(rename = "h")]
    Heir,
}

impl Want {
    /// True for what a peer asks that leaves.
    #[must_use]
    pub fn is_of_leaving(self) -> bool {
        matches!(self, Self::Willing | Self::Heir)
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Who asked.
    #[serde(rename = "t")]
    pub to: PeerName,
    /// Which question.
    #[serde(rename = "i")]
    pub id: u64,
    /// Why not; nothing when it was done.
    #[serde(rename = "n", default)]
    pub no: Option<String>,
}

impl Board {
    /// The board as it is told.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        cbor::write(self)
    }

    /// The board that another peer told.
    ///
    /// # Errors
    /// It does not read, or exceeds a bound. Never panics.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let board: Self = cbor::read(bytes).map_err(|e| format!("not a board: {e}"))?;
        let long = board.answers.iter().filter_map(|a| a.no.as_ref()).any(|no| no.len() > REASON_MAX);
        if board.asks.len() > ASKS_MAX || board.answers.len() > ANSWERS_MAX || long {
            return Err("a board beyond its bounds".to_owned());
        }
        Ok(board)
    }
}

#[cfg(test)]
mod tests;
