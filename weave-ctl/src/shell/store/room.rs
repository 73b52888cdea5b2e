//! Room on the disk that the store keeps for itself, so that a full disk is known before a commit fails of it.
//!
//! redb at most doubles its file when it has no free page left. So blocks for as much again lie behind the end of the file
//! (`FALLOC_FL_KEEP_SIZE`): the file can double once on a disk that others have filled. As soon as the blocks for the
//! doubling after that cannot be had, the room is low: whoever adds to the store is to be refused, and what only replaces
//! or removes goes on in free pages. Where the file system cannot reserve, nothing is ever low, and a full disk fails a commit.

use std::{
    fs::File,
    io,
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use redb::{BackendError, DatabaseError, StorageBackend, backends::FileBackend};
use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};

/// Least bytes in reserve.
const RESERVE_MIN: u64 = 1 << 20;

/// The reserve of one file.
#[derive(Debug)]
pub(super) struct Room {
    file: File,
    low: AtomicBool,
}

impl Room {
    /// Whether blocks could not be had.
    pub(super) fn is_low(&self) -> bool {
        self.low.load(Ordering::SeqCst)
    }

    /// Makes the reserve as large as it should be, if that can be.
    pub(super) fn top_up(&self) -> io::Result<()> {
        let len = self.file.metadata()?.len();
        let enough = self.allocate(len + len.max(RESERVE_MIN))?;
        self.low.store(!enough, Ordering::SeqCst);
        Ok(())
    }

    /// Blocks for the first `len` bytes; false when there is no room for them.
    fn allocate(&self, len: u64) -> io::Result<bool> {
        match fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, len) {
            Err(Errno::NOSPC | Errno::DQUOT) => Ok(false),
            // Not on this file system.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(true),
            result => Ok(result.map(|()| true)?),
        }
    }
}

/// A file with its reserve.
#[derive(Debug)]
pub(super) struct ReservedFile {
    inner: FileBackend,
    room: Arc<Room>,
}

impl ReservedFile {
    /// Takes `file`, and reserves.
    pub(super) fn new(file: File) -> Result<Self, DatabaseError> {
        let room = Room { file: file.try_clone()?, low: AtomicBool::new(false) };
        room.top_up()?;
        Ok(Self { inner: FileBackend::new(file)?, room: Arc::new(room) })
    }

    pub(super) fn room(&self) -> Arc<Room> {
        Arc::clone(&self.room)
    }
}

impl StorageBackend for ReservedFile {
    fn len(&self) -> Result<u64, io::Error> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.inner.read(offset, out)
    }

    /// Blocks first: a file of holes would fail later, in the middle of a commit.
    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        if !self.room.allocate(len)? {
            return Err(Errno::NOSPC.into());
        }
        self.inner.set_len(len)?;
        self.room.top_up()
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.inner.write(offset, data)
    }

    fn close(&self) -> Result<(), io::Error> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}
