//! What survives a restart: one redb file, `weave.redb`, in the state directory.
//!
//! | table         | key                                     | value                                               |
//! |---------------|-----------------------------------------|-----------------------------------------------------|
//! | `meta`        | `schema`                                | u64: [`SCHEMA`]                                     |
//! | `node`        | `identity`, `params`, `targets`, `ring` | CBOR of `Identity`, `LaunchParams`, `Vec<Target>`, `Ring` |
//! | `node`        | `vote`, `nicknames`                     | CBOR of `Vote`, `BTreeMap<PeerName, String>`        |
//! | `node`        | `inherited`                             | CBOR of `Vec<Inherited>`                            |
//! | `grants`      | address outside the range               | CBOR of `PeerId`                                    |
//! | `node`        | `left`                                  | CBOR of `bool`: an earlier peer here handed all over |
//! | `reservations` | owner key                              | CBOR of `Reservation`                               |
//! | `names`       | owner key                               | CBOR of `Registered`                                |
//!
//! CBOR is that of serde's derive: structs are maps with the fields' names, so a field may be added when its type has a
//! default; anything else is a new [`SCHEMA`]. An absent key of `node` stands for "none yet". Keys that this version does
//! not know are left alone. Retired keys: none. Retired schemas, refused and left as they are: 1 (a random uid and no key),
//! 2 (a ring of names without uids), 3 (uids of 64 bits), 4 (a ring without generations, containers instead of owners),
//! 5 (no table of names).
//!
//! A batch is one transaction and durable when [`Store::commit`] returns. A new store is made under another name and
//! renamed when it is whole, so a file called `weave.redb` is never half made: one that does not read is damaged, and
//! stays as it is for the operator to decide. Opening checks every page.
//!
//! A full disk is known before a commit fails of it: see [`room`].
//!
//! Does not: keep two controllers apart before the file exists (the lock on the directory does), or interpret what it
//! keeps, beyond that the uid is the key's.

mod room;

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::{
    Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend, StorageError,
    TableDefinition, TableError,
};
use serde::{Serialize, de::DeserializeOwned};

use self::room::{ReservedFile, Room};

use crate::proto::{
    boot::{Identity, Stored},
    io::Record,
};

/// Version of what this room's head describes.
pub const SCHEMA: u64 = 6;

const FILE: &str = "weave.redb";
/// A store that is being made.
const NEW_FILE: &str = "weave.redb.new";
const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;
/// Memory for redb's pages; a store is read once and then only written.
const CACHE: usize = 1 << 20;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const NODE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("node");
const RESERVATIONS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("reservations");
const GRANTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("grants");
const NAMES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("names");

const KEY_SCHEMA: &str = "schema";
const KEY_IDENTITY: &str = "identity";
const KEY_PARAMS: &str = "params";
const KEY_TARGETS: &str = "targets";
const KEY_RING: &str = "ring";
const KEY_INHERITED: &str = "inherited";
const KEY_VOTE: &str = "vote";
const KEY_NICKNAMES: &str = "nicknames";
const KEY_LEFT: &str = "left";

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A later version made it.
    #[error(
        "the store {} has schema {found}, this weave-ctl knows {SCHEMA}: run a newer weave-ctl; the store was left as it is",
        .path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u64,
    },
    /// An earlier version made it.
    #[error(
        "the store {} has schema {found}, of an earlier weave-ctl; this weave-ctl knows {SCHEMA}: move the file away to \
         begin anew, with a new uid and no addresses, or run the earlier one; the store was left as it is",
        .path.display()
    )]
    Older {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u64,
    },
    /// It does not read.
    #[error(
        "the store {} is damaged or no store of weave-ctl ({why}): move the file away to begin anew, with a new uid and no \
         addresses, or put a copy back; it was left as it is",
        .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How it shows.
        why: String,
    },
    /// Somebody has it open.
    #[error("another controller has the store {} open: stop it, or give this one another --state-dir", .path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The disk or the kernel refused.
    #[error("cannot {what} the store {}: {why}", .path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// A batch was not kept.
    #[error("cannot write to the store {}: {why}; nothing of this change was kept, and nothing was done", .path.display())]
    Commit {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
}

/// The open store.
#[derive(Debug)]
pub struct Store {
    database: Database,
    path: PathBuf,
    /// `None` where the store is no file.
    room: Option<Arc<Room>>,
}

impl Store {
    /// Opens the store in `dir`, making both when they are not there, and reads all of it.
    ///
    /// # Errors
    ///
    /// It is damaged, newer, or in use, or the disk refused. A file that was there is left as it is.
    pub fn open(dir: &Path) -> Result<(Self, Stored), StoreError> {
        let path = dir.join(FILE);
        let failed = |source: io::Error| StoreError::Io { what: "open", path: path.clone(), why: source.to_string() };
        DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir).map_err(failed)?;
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return create(dir, path),
            Err(error) => return Err(failed(error)),
        };
        let metadata = file.metadata().map_err(failed)?;
        // redb would take an empty file for a new store.
        if !metadata.is_file() || metadata.len() == 0 {
            let why = if metadata.is_file() { "it is empty" } else { "it is not a file" };
            return Err(StoreError::Damaged { path, why: why.to_owned() });
        }
        let backend = ReservedFile::new(file).map_err(|error| opening(&path, error))?;
        let room = backend.room();
        let (store, stored) = Self::read_from(backend, path.clone())?;
        let store = Self { room: Some(room), ..store };
        // A copy that was put back may be open to all, and the key in it is secret.
        fs::set_permissions(&path, Permissions::from_mode(FILE_MODE)).map_err(failed)?;
        Ok((store, stored))
    }

    /// Opens what `backend` holds and reads all of it.
    fn read_from(backend: impl StorageBackend, path: PathBuf) -> Result<(Self, Stored), StoreError> {
        let database = database(backend).map_err(|error| opening(&path, error))?;
        let store = Self { database, path, room: None };
        let stored = store.load()?;
        Ok((store, stored))
    }

    /// Whether the disk is too full for the store to grow: what only replaces or removes can still be kept.
    #[must_use]
    pub fn is_low(&self) -> bool {
        self.room.as_ref().is_some_and(|room| room.is_low())
    }

    /// Looks whether there is room again.
    ///
    /// # Errors
    ///
    /// The disk refused for another reason.
    pub fn look_for_room(&self) -> io::Result<()> {
        self.room.as_ref().map_or(Ok(()), |room| room.top_up())
    }

    /// Keeps all of `batch`, or nothing of it.
    ///
    /// # Errors
    ///
    /// The disk refused. The controller cannot go on: what the core decided is not kept.
    pub fn commit(&self, batch: &[Record]) -> Result<(), StoreError> {
        self.try_commit(batch).map_err(|why| StoreError::Commit { path: self.path.clone(), why })
    }

    fn try_commit(&self, batch: &[Record]) -> Result<(), String> {
        if batch.is_empty() {
            return Ok(());
        }
        let transaction = self.database.begin_write().map_err(text)?;
        {
            let mut node = transaction.open_table(NODE).map_err(text)?;
            let mut reservations = transaction.open_table(RESERVATIONS).map_err(text)?;
            let mut grants = transaction.open_table(GRANTS).map_err(text)?;
            let mut names = transaction.open_table(NAMES).map_err(text)?;
            for record in batch {
                match record {
                    Record::Identity(value) => node.insert(KEY_IDENTITY, encode(value)?.as_slice()),
                    Record::Params(value) => node.insert(KEY_PARAMS, encode(value)?.as_slice()),
                    Record::Targets(value) => node.insert(KEY_TARGETS, encode(value)?.as_slice()),
                    Record::Ring(value) => node.insert(KEY_RING, encode(value)?.as_slice()),
                    Record::Vote(value) => node.insert(KEY_VOTE, encode(value)?.as_slice()),
                    Record::Nicknames(value) => node.insert(KEY_NICKNAMES, encode(value)?.as_slice()),
                    Record::Inherited(value) => node.insert(KEY_INHERITED, encode(value)?.as_slice()),
                    Record::Grant(addr, value) => grants.insert(addr.to_string().as_str(), encode(value)?.as_slice()),
                    Record::GrantGone(addr) => grants.remove(addr.to_string().as_str()),
                    Record::Left => node.insert(KEY_LEFT, encode(&true)?.as_slice()),
                    Record::Reservation(owner, value) => reservations.insert(owner.as_str(), encode(value)?.as_slice()),
                    Record::ReservationGone(owner) => reservations.remove(owner.as_str()),
                    Record::Names(owner, value) if value.is_empty() => names.remove(owner.as_str()),
                    Record::Names(owner, value) => names.insert(owner.as_str(), encode(value)?.as_slice()),
                }
                .map_err(text)?;
            }
        }
        transaction.commit().map_err(text)
    }

    /// Forgets everything in `dir`; no store is fine.
    ///
    /// # Errors
    ///
    /// The disk refused.
    pub fn wipe(dir: &Path) -> Result<(), StoreError> {
        for name in [FILE, NEW_FILE] {
            let path = dir.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::Io { what: "remove", path, why: error.to_string() });
                }
                _ => {}
            }
        }
        match sync_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::Io { what: "remove", path: dir.join(FILE), why: error.to_string() })
            }
            _ => Ok(()),
        }
    }

    fn load(&self) -> Result<Stored, StoreError> {
        let damaged = |why| StoreError::Damaged { path: self.path.clone(), why };
        let transaction = self.database.begin_read().map_err(|e| damaged(text(e)))?;
        match schema(&transaction).map_err(damaged)? {
            SCHEMA => {}
            found if found > SCHEMA => return Err(StoreError::Newer { path: self.path.clone(), found }),
            0 => return Err(damaged("there never was a schema 0".to_owned())),
            found => return Err(StoreError::Older { path: self.path.clone(), found }),
        }
        read(&transaction).map_err(damaged)
    }
}

/// Makes a store at `path` in `dir`, under another name until it is whole.
fn create(dir: &Path, path: PathBuf) -> Result<(Store, Stored), StoreError> {
    let failed = |source: io::Error| StoreError::Io { what: "make", path: path.clone(), why: source.to_string() };
    let new = dir.join(NEW_FILE);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(&new).map_err(failed)?;
    let backend = ReservedFile::new(file).map_err(|error| opening(&path, error))?;
    let room = Some(backend.room());
    let database = database(backend).map_err(|error| opening(&path, error))?;
    initialise(&database).map_err(|why| StoreError::Io { what: "make", path: path.clone(), why })?;
    fs::rename(&new, &path).map_err(failed)?;
    sync_dir(dir).map_err(failed)?;
    Ok((Store { database, path, room }, Stored::default()))
}

fn database(backend: impl StorageBackend) -> Result<Database, DatabaseError> {
    Builder::new().set_cache_size(CACHE).set_check_integrity_on_open(true).create_with_backend(backend)
}

fn initialise(database: &Database) -> Result<(), String> {
    let transaction = database.begin_write().map_err(text)?;
    transaction.open_table(META).map_err(text)?.insert(KEY_SCHEMA, SCHEMA).map_err(text)?;
    transaction.open_table(NODE).map_err(text)?;
    transaction.open_table(RESERVATIONS).map_err(text)?;
    transaction.open_table(GRANTS).map_err(text)?;
    transaction.open_table(NAMES).map_err(text)?;
    transaction.commit().map_err(text)
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// What it means that redb did not open the file at `path`.
fn opening(path: &Path, error: DatabaseError) -> StoreError {
    let path = path.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => StoreError::InUse { path },
        DatabaseError::UpgradeRequired(version) => {
            StoreError::Damaged { path, why: format!("its file format {version} is not this one's") }
        }
        DatabaseError::Storage(StorageError::Io(error))
            if !matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
        {
            StoreError::Io { what: "open", path, why: error.to_string() }
        }
        other => StoreError::Damaged { path, why: other.to_string() },
    }
}

fn schema(transaction: &ReadTransaction) -> Result<u64, String> {
    let table = match transaction.open_table(META) {
        Err(TableError::TableDoesNotExist(_)) => return Err("it has no schema".to_owned()),
        table => table.map_err(text)?,
    };
    let schema = table.get(KEY_SCHEMA).map_err(text)?;
    schema.map(|guard| guard.value()).ok_or_else(|| "it has no schema".to_owned())
}

fn read(transaction: &ReadTransaction) -> Result<Stored, String> {
    let node = transaction.open_table(NODE).map_err(text)?;
    let mut stored = Stored {
        identity: value(&node, KEY_IDENTITY)?,
        params: value(&node, KEY_PARAMS)?,
        targets: value(&node, KEY_TARGETS)?.unwrap_or_default(),
        ring: value(&node, KEY_RING)?,
        vote: value(&node, KEY_VOTE)?,
        nicknames: value(&node, KEY_NICKNAMES)?.unwrap_or_default(),
        inherited: value(&node, KEY_INHERITED)?.unwrap_or_default(),
        left: value(&node, KEY_LEFT)?.unwrap_or_default(),
        ..Stored::default()
    };
    for entry in transaction.open_table(RESERVATIONS).map_err(text)?.iter().map_err(text)? {
        let (owner, held) = entry.map_err(text)?;
        let owner = owner.value().to_owned();
        let held = decode(held.value()).map_err(|e| format!("the addresses of {owner:?} do not read: {e}"))?;
        stored.reservations.insert(owner, held);
    }
    for entry in transaction.open_table(GRANTS).map_err(text)?.iter().map_err(text)? {
        let (addr, holder) = entry.map_err(text)?;
        let wrong = |why: &dyn std::fmt::Display| format!("the grant of {:?} does not read: {why}", addr.value());
        let holder = decode(holder.value()).map_err(|error| wrong(&error))?;
        stored.grants.insert(addr.value().parse().map_err(|error| wrong(&error))?, holder);
    }
    for entry in transaction.open_table(NAMES).map_err(text)?.iter().map_err(text)? {
        let (owner, names) = entry.map_err(text)?;
        let owner = owner.value().to_owned();
        let names = decode(names.value()).map_err(|e| format!("the names of {owner:?} do not read: {e}"))?;
        stored.names.insert(owner, names);
    }
    // No peer would believe such an identity.
    let foreign = |identity: &Identity| identity.uid != identity.key.public().uid();
    if stored.identity.as_ref().is_some_and(foreign) {
        return Err(format!("the uid in its record {KEY_IDENTITY:?} is not that of the key beside it"));
    }
    Ok(stored)
}

fn value<T: DeserializeOwned>(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &str,
) -> Result<Option<T>, String> {
    let Some(bytes) = table.get(key).map_err(text)? else { return Ok(None) };
    decode(bytes.value()).map(Some).map_err(|error| format!("its record {key:?} does not read: {error}"))
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).map_err(text)?;
    Ok(bytes)
}

/// The value that `bytes`, all of them, stand for.
fn decode<T: DeserializeOwned>(mut bytes: &[u8]) -> Result<T, String> {
    let value = ciborium::from_reader(&mut bytes).map_err(text)?;
    if bytes.is_empty() { Ok(value) } else { Err(format!("{} bytes too many", bytes.len())) }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests;
