//! A store of an earlier schema, brought to this one in one transaction: all of it, or nothing.
//!
//! Schema 2 to 3: the ring named owners by name alone, in a list, and everybody had been given it by seeds. Now an owner
//! is a store of a name: what is of this peer's name is of this store; what is of others is still of whatever store
//! bears the name. The launch parameters say how the range is divided.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;
use redb::Database;
use serde::Deserialize;

use super::{KEY_IDENTITY, KEY_PARAMS, KEY_RING, KEY_SCHEMA, META, NODE, SCHEMA, decode, encode, text};
use crate::proto::{
    boot::{Identity, Init, LaunchParams},
    ipam::{Ring, Share},
    name::{PeerId, PeerName},
};

/// The schema that is migrated.
pub(super) const FROM: u64 = 2;

#[derive(Deserialize)]
struct OldRing {
    range: Ipv4Net,
    seeds: Vec<PeerName>,
    entries: Vec<OldEntry>,
}

#[derive(Deserialize)]
struct OldEntry {
    token: std::net::Ipv4Addr,
    owner: PeerName,
    epoch: u64,
}

/// Brings a store of schema [`FROM`] to [`SCHEMA`].
pub(super) fn migrate(database: &Database) -> Result<(), String> {
    let transaction = database.begin_write().map_err(text)?;
    {
        let mut node = transaction.open_table(NODE).map_err(text)?;
        let read = |node: &redb::Table<'_, &str, &[u8]>, key: &'static str| {
            use redb::ReadableTable as _;
            Ok::<_, String>(node.get(key).map_err(text)?.map(|guard| guard.value().to_vec()))
        };
        let identity = read(&node, KEY_IDENTITY)?.map(|bytes| decode::<Identity>(&bytes)).transpose()?;
        if let Some(bytes) = read(&node, KEY_RING)? {
            let ring = ring(decode(&bytes)?, identity.as_ref());
            node.insert(KEY_RING, encode(&ring)?.as_slice()).map_err(text)?;
        }
        if let Some(bytes) = read(&node, KEY_PARAMS)? {
            let old: LaunchParams = decode(&bytes)?;
            let init = if old.seeds.is_empty() { Init::Undeclared } else { Init::Seeds };
            node.insert(KEY_PARAMS, encode(&LaunchParams { init, ..old })?.as_slice()).map_err(text)?;
        }
        transaction.open_table(META).map_err(text)?.insert(KEY_SCHEMA, SCHEMA).map_err(text)?;
    }
    transaction.commit().map_err(text)
}

fn ring(old: OldRing, me: Option<&Identity>) -> Ring {
    let share = |entry: OldEntry| {
        let own = me.filter(|me| me.name == entry.owner);
        let (uid, epoch) = own.map_or((Default::default(), entry.epoch), |me| (me.uid, entry.epoch + 1));
        (entry.token, Share { epoch, owner: PeerId { name: entry.owner, uid } })
    };
    let origin: BTreeSet<PeerId> = old.seeds.into_iter().map(PeerId::of_any_store).collect();
    let shares: BTreeMap<_, _> = old.entries.into_iter().map(share).collect();
    Ring { range: old.range, origin: origin.into_iter().collect(), shares, removed: BTreeSet::new() }
}
