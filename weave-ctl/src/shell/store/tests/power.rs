//! The store on a disk that loses power, fills up, or changes bits.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use redb::StorageBackend;

use super::{everything, reservation};
use crate::{
    proto::{boot::Stored, io::Record},
    shell::store::{Store, StoreError, database, initialise},
};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;
/// Rounds of the power test, each with a seed of its own.
const ROUNDS: u64 = 300;

/// A disk in memory that keeps what was not synced apart.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// As of the last sync.
    durable: Vec<u8>,
    /// As whoever has it open sees it.
    seen: Vec<u8>,
    /// Since the last sync, in order.
    pending: Vec<Change>,
    /// Changes and syncs until the power goes; `None` while it stays.
    power: Option<u32>,
    /// Bytes there are; `None` for any number.
    room: Option<usize>,
    changed: bool,
}

#[derive(Clone, Debug)]
enum Change {
    Length(usize),
    Write(usize, Vec<u8>),
}

impl Change {
    /// Makes those sectors of the change that `keep` wants.
    fn apply(&self, bytes: &mut Vec<u8>, mut keep: impl FnMut() -> bool) {
        match self {
            Self::Length(length) if keep() => bytes.resize(*length, 0),
            Self::Length(_) => {}
            Self::Write(start, data) => {
                for (i, sector) in data.chunks(SECTOR).enumerate() {
                    let at = start + i * SECTOR;
                    if keep() {
                        bytes.resize(bytes.len().max(at + sector.len()), 0);
                        bytes[at..at + sector.len()].copy_from_slice(sector);
                    }
                }
            }
        }
    }
}

impl State {
    fn use_power(&mut self) -> io::Result<()> {
        match &mut self.power {
            Some(0) => Err(io::Error::other("no power")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn change(&mut self, change: Change) -> io::Result<()> {
        self.use_power()?;
        let end = match &change {
            Change::Length(length) => *length,
            Change::Write(start, data) => start + data.len(),
        };
        if self.room.is_some_and(|room| end > room) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        change.apply(&mut self.seen, || true);
        self.pending.push(change);
        self.changed = true;
        Ok(())
    }
}

impl Disk {
    fn with(image: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State { durable: image.clone(), seen: image, ..State::default() })))
    }

    /// A disk with a new store.
    fn new_store() -> Self {
        let disk = Self::default();
        initialise(&database(disk.clone()).unwrap()).unwrap();
        disk
    }

    fn open(&self) -> Result<(Store, Stored), StoreError> {
        Store::read_from(self.clone(), PathBuf::from("disk"))
    }

    fn set(&self, set: impl FnOnce(&mut State)) {
        set(&mut self.0.lock().unwrap());
    }

    fn image(&self) -> Vec<u8> {
        self.0.lock().unwrap().seen.clone()
    }

    /// What the disk holds after the power went: what was synced, and any sectors of what was not.
    fn after_cut(&self, rng: &mut impl Rng) -> Self {
        let state = self.0.lock().unwrap();
        let mut image = state.durable.clone();
        let share = rng.random_range(0.0..=1.0);
        for change in &state.pending {
            change.apply(&mut image, || rng.random_bool(share));
        }
        Self::with(image)
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock().unwrap();
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let from = state.seen.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(from);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.lock().unwrap().change(Change::Length(usize::try_from(len).map_err(io::Error::other)?))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.use_power()?;
        state.durable = state.seen.clone();
        state.pending.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        self.0.lock().unwrap().change(Change::Write(start, data.to_vec()))
    }
}

/// A batch, and what it makes of `stored`.
fn random_batch(rng: &mut impl Rng, stored: &Stored) -> (Vec<Record>, Stored) {
    let (everything, _) = everything();
    let (mut batch, mut after) = (Vec::new(), stored.clone());
    for _ in 0..rng.random_range(1..6) {
        let id = format!("c{}", rng.random_range(0..40));
        let record = match rng.random_range(0..4) {
            0 => Record::ReservationGone(id),
            1 => everything[rng.random_range(0..everything.len())].clone(),
            _ => Record::Reservation(id, reservation(&"w".repeat(rng.random_range(1..3000)))),
        };
        match record.clone() {
            Record::Identity(value) => after.identity = Some(value),
            Record::Params(value) => after.params = Some(value),
            Record::Targets(value) => after.targets = value,
            Record::Ring(value) => after.ring = Some(value),
            Record::Vote(value) => after.vote = Some(value),
            Record::Nicknames(value) => after.nicknames = value,
            Record::Left => after.left = true,
            Record::Inherited(value) => after.inherited = value,
            Record::Grant(addr, value) => drop(after.grants.insert(addr, value)),
            Record::GrantGone(addr) => drop(after.grants.remove(&addr)),
            Record::Reservation(id, value) => drop(after.reservations.insert(id, value)),
            Record::ReservationGone(id) => drop(after.reservations.remove(&id)),
            Record::Names(id, value) if value.is_empty() => drop(after.names.remove(&id)),
            Record::Names(id, value) => drop(after.names.insert(id, value)),
        }
        batch.push(record);
    }
    (batch, after)
}

#[test]
fn a_power_cut_loses_nothing_acknowledged_and_no_part_of_a_batch() {
    let (mut commits, mut torn) = (0, 0);
    for seed in 0..ROUNDS {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut disk = Disk::new_store();
        let mut acknowledged = Stored::default();
        // Twice, so that a cut also meets a store that was repaired after one.
        for _ in 0..2 {
            let (store, stored) = disk.open().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            assert_eq!(stored, acknowledged, "seed {seed}");
            disk.set(|state| state.power = Some(rng.random_range(0..120)));
            let mut since_boot = 0;
            let attempted = loop {
                since_boot += 1;
                assert!(since_boot < 1000, "seed {seed}: commits do not reach the disk");
                let (batch, after) = random_batch(&mut rng, &acknowledged);
                match store.commit(&batch) {
                    Ok(()) => acknowledged = after,
                    Err(error) => {
                        assert!(matches!(error, StoreError::Commit { .. }), "{error}");
                        break after;
                    }
                }
                commits += 1;
            };
            drop(store);
            disk = disk.after_cut(&mut rng);
            let (_, stored) = disk.open().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            assert!(stored == acknowledged || stored == attempted, "seed {seed}: part of a batch, or an older one");
            torn += u32::from(stored == attempted && stored != acknowledged);
            acknowledged = stored;
        }
    }
    println!("{commits} commits, {torn} batches that were on the disk already when the power went");
    assert!(commits > 1000);
}

#[test]
fn a_full_disk_keeps_what_was_there() {
    let disk = Disk::new_store();
    let (store, _) = disk.open().unwrap();
    let (records, expected) = everything();
    store.commit(&records).unwrap();
    disk.set(|state| state.room = Some(state.seen.len()));
    let large = |i: usize| Record::Reservation(format!("large{i}"), reservation(&"w".repeat(100_000)));
    let batch: Vec<Record> = (0..10).map(large).collect();
    let error = store.commit(&batch).unwrap_err();
    assert!(matches!(error, StoreError::Commit { .. }), "{error}");
    assert!(error.to_string().contains("nothing of this change was kept"), "{error}");
    drop(store);
    disk.set(|state| state.room = None);
    let (store, stored) = disk.open().unwrap();
    assert_eq!(stored, expected);
    store.commit(&batch).unwrap();
    drop(store);
    assert_eq!(disk.open().unwrap().1.reservations.len(), 11);
}

#[test]
fn a_changed_bit_is_refused_or_does_not_matter() {
    let disk = Disk::new_store();
    let (records, expected) = everything();
    disk.open().unwrap().0.commit(&records).unwrap();
    let good = disk.image();
    let mut refused = 0;
    for at in (0..good.len()).filter(|at| good[*at] != 0 || at % 512 == 0).step_by(13) {
        let mut image = good.clone();
        image[at] ^= 1 << (at % 8);
        let disk = Disk::with(image);
        match disk.open() {
            Ok((_, stored)) => assert_eq!(stored, expected, "byte {at}"),
            Err(error) => {
                assert!(matches!(error, StoreError::Damaged { .. }), "byte {at}: {error}");
                assert!(!disk.0.lock().unwrap().changed, "byte {at}: written to: {error}");
                refused += 1;
            }
        }
    }
    println!("{refused} refused of {} bytes", good.len());
    assert!(refused > 100);
}
