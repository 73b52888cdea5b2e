//! A peer by hand that is in the network: it has a key, a record, and a link past the hello. What else it says is the
//! test's.
//!
//! Bounds: as [`HandPeer`]. Does not: answer comparisons or probes, or pass anything on: others see its data port dead.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_bytes::ByteBuf;
use serde_json::Value;
use weave_ctl::proto::{
    cbor,
    io::{Input, SessionId},
    key::SecretKey,
    name::PeerName,
    wire::{
        BUCKETS, Delta, Handshake, Message, VERSIONS, Want,
        entry::{
            Channel, EntryKey, PeerRecord, Point, Verifier as _, Verify, identity_proof, record_key, sign, sign_record,
        },
    },
};

use super::{
    Host, SETTLED,
    peer::{HandPeer, Opened},
    underlay,
};

/// See the head of this file.
pub struct Member {
    /// Its links.
    pub peer: HandPeer,
    /// Its key.
    pub key: SecretKey,
    /// What it says of itself.
    pub record: PeerRecord,
}

/// A key that no other number gives.
#[must_use]
pub fn key(number: u64) -> SecretKey {
    let mut seed = [0x5a; 32];
    seed[..8].copy_from_slice(&number.to_be_bytes());
    SecretKey::from_bytes(seed)
}

/// The record of a peer of this key and name at this address, in its first version.
#[must_use]
pub fn record(key: &SecretKey, name: PeerName, address: Ipv4Addr) -> PeerRecord {
    PeerRecord {
        name,
        uid: key.public().uid(),
        point: Point(1, 1),
        nickname: "by-hand".to_owned(),
        addrs: vec![address],
        control_port: 6783,
        data_port: 6784,
        mtu: 1500,
        floor: Point(1, 0),
        sessions: Vec::new(),
        paths: Vec::new(),
    }
}

impl Member {
    /// A peer on a host that has no controller; it has no link yet.
    ///
    /// # Errors
    /// When the control port is taken.
    pub fn on(host: &Host, name: PeerName) -> Result<Self> {
        let key = key(0);
        let record = record(&key, name, underlay(host.number()));
        Ok(Self { peer: HandPeer::on(host)?, key, record })
    }

    /// Its hello on a link, as it should be.
    #[must_use]
    pub fn hello(&self, opened: &Opened) -> Handshake {
        let (min_version, max_version) = VERSIONS;
        Handshake {
            min_version,
            max_version,
            nonce: 0x1234_5678,
            entry: sign_record(&self.key, &self.record),
            proof: identity_proof(&self.key, &opened.binding, opened.dialled),
        }
    }

    /// Dials a peer and says hello; returns when the other said it, too.
    ///
    /// # Errors
    /// When it did not.
    pub fn join(&mut self, to: Ipv4Addr) -> Result<SessionId> {
        let link = self.offer(to, VERSIONS)?;
        self.hear(link, SETTLED, |m| matches!(m, Message::Handshake(_))).context("wait for the other's hello")?;
        Ok(link)
    }

    /// Dials a peer and says a hello that offers this range of versions of the protocol. What the other makes of it is
    /// still to be heard.
    ///
    /// # Errors
    /// When there is no link.
    pub fn offer(&mut self, to: Ipv4Addr, (min_version, max_version): (u16, u16)) -> Result<SessionId> {
        let opened = self.peer.dial(to, SETTLED)?;
        let hello = Handshake { min_version, max_version, ..self.hello(&opened) };
        self.say(opened.link, &Message::Handshake(Box::new(hello)));
        Ok(opened.link)
    }

    /// Sends a message.
    pub fn say(&self, link: SessionId, message: &Message) {
        self.peer.send(link, message.encode());
    }

    /// Sends entries, whatever they are, as news.
    pub fn tell(&self, link: SessionId, entries: Vec<Vec<u8>>) {
        let entries = entries.into_iter().map(ByteBuf::from).collect();
        self.say(link, &Message::Delta(Delta { entries, ..Delta::default() }));
    }

    /// The next version of its record, signed.
    pub fn next_record(&mut self) -> Vec<u8> {
        self.record.point.1 += 1;
        sign_record(&self.key, &self.record)
    }

    /// The same with one more field, as a later version of the program may have it.
    ///
    /// # Panics
    /// When the record has so many fields that its first byte does not count them.
    pub fn next_record_with(&mut self, field: &str, value: &Value) -> Vec<u8> {
        self.record.point.1 += 1;
        let mut data = cbor::write(&self.record);
        // A map of fewer than 24 fields begins with one byte that counts them (RFC 8949, section 3.1).
        assert!((0xa0..0xb7).contains(&data[0]), "a record is no small map: it begins with {:#x}", data[0]);
        data[0] += 1;
        data.extend(cbor::write(&field));
        data.extend(cbor::write(value));
        self.own_entry(Channel::Peers, self.record.point.1, &data)
    }

    /// An entry of its own in some channel, signed.
    #[must_use]
    pub fn own_entry(&self, channel: Channel, sequence: u64, value: &[u8]) -> Vec<u8> {
        let key = EntryKey { owner: self.record.name, channel, key: "".into() };
        sign(&self.key, key, Point(self.record.point.0, sequence), Some(value))
    }

    /// What the other side holds of a peer's record, as it came from its owner.
    ///
    /// # Errors
    /// When it does not tell.
    pub fn ask(&self, link: SessionId, owner: PeerName) -> Result<Vec<u8>> {
        let mut uid = None;
        self.say(link, &Message::Buckets(vec![0; BUCKETS]));
        self.hear(link, SETTLED, |message| {
            if let Message::Page(page) = message {
                uid = page.owners.iter().find(|held| held.owner == owner).map(|held| held.uid);
            }
            uid.is_some()
        })?;
        let uid = uid.context("nothing of it is held")?;
        self.say(link, &Message::Request(vec![Want { owner, uid, since: None }]));
        let mut found = None;
        // News of others may come in between.
        self.hear(link, SETTLED, |message| {
            if let Message::Delta(entries) = message {
                let of_owner = |e: &&ByteBuf| Verify.peek(e).is_ok_and(|(key, ..)| key == record_key(owner));
                found = entries.entries.iter().find(of_owner).map(|e| e.to_vec());
            }
            found.is_some()
        })?;
        found.context("no entry")
    }

    /// Waits for a message on a link.
    ///
    /// # Errors
    /// When the link ends first, with the reason, or `limit` is over.
    pub fn hear(&self, link: SessionId, limit: Duration, mut wanted: impl FnMut(&Message) -> bool) -> Result<Message> {
        let end = Instant::now() + limit;
        loop {
            match self.peer.next(end.saturating_duration_since(Instant::now())) {
                Some(Input::Frame(on, bytes)) if on == link => {
                    let message = Message::decode(&bytes).context("read what a controller sent")?;
                    if wanted(&message) {
                        return Ok(message);
                    }
                    if let Message::Close(reason) = message {
                        bail!("refused: {reason}");
                    }
                }
                Some(Input::SessionClosed(on, reason)) if on == link => bail!("the link ended: {reason}"),
                Some(_) => {}
                None => bail!("not heard within {limit:?}"),
            }
        }
    }

    /// Why a link is refused: what the other side says before it closes it.
    ///
    /// # Errors
    /// When it is not refused.
    pub fn refusal(&self, link: SessionId) -> Result<String> {
        match self.hear(link, SETTLED, |m| matches!(m, Message::Close(_)))? {
            Message::Close(reason) => Ok(reason),
            _ => bail!("not refused"),
        }
    }

    /// The link ended.
    #[must_use]
    pub fn is_closed(&self, link: SessionId, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        loop {
            match self.peer.next(end.saturating_duration_since(Instant::now())) {
                Some(Input::SessionClosed(on, _)) if on == link => return true,
                Some(_) => {}
                None => return false,
            }
        }
    }
}
