//! One controller at a time holds a directory: the store's, or the one with the pinned maps and links.
//!
//! The lock is `flock` on the directory itself: nothing is written, it works on bpffs, and the kernel lets go of it when
//! the holder ends, however it ends. Never waits.
//!
//! Does not: guard against a process that does not ask for the lock.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::{linux::fs::MetadataExt, unix::fs::DirBuilderExt},
    path::{Path, PathBuf},
};

/// Mode of a directory that is made here: the store holds what tells peers apart, so others have no business in it.
const DIR_MODE: u32 = 0o700;

/// A directory held. Let go of by dropping it.
#[derive(Debug)]
pub struct Lock {
    _dir: File,
}

/// Why a directory could not be held. Nothing was changed in it.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error("another controller{} holds {}: stop it, or give this one another directory", pid_text(.pid), .dir.display())]
    Held {
        /// The directory.
        dir: PathBuf,
        /// The holder, when the kernel tells.
        pid: Option<u32>,
    },
    /// It cannot be made or opened.
    #[error("cannot use the directory {}: {source}", .dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

fn pid_text(pid: &Option<u32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

/// Holds `dir`, making it when it is not there.
///
/// # Errors
///
/// Another process holds it, or it cannot be made or opened.
pub fn take(dir: &Path) -> Result<Lock, LockError> {
    let failed = |source| LockError::Io { dir: dir.to_owned(), source };
    DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir).map_err(failed)?;
    let file = File::open(dir).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Lock { _dir: file }),
        Err(TryLockError::WouldBlock) => Err(LockError::Held { dir: dir.to_owned(), pid: holder(&file) }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Who holds the lock on `file`, as far as `/proc/locks` tells: a holder in another PID namespace is not shown there.
fn holder(file: &File) -> Option<u32> {
    let inode = file.metadata().ok()?.st_ino();
    parse_locks(&fs::read_to_string("/proc/locks").ok()?, inode)
}

/// The PID that holds an `flock` on inode number `inode` in the text of `/proc/locks`.
///
/// Device numbers are not compared: the kernel prints those of the filesystem, which `stat` disguises on some.
fn parse_locks(text: &str, inode: u64) -> Option<u32> {
    text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, pid, file, ..] = fields[..] else { return None };
        let (_, number) = file.rsplit_once(':')?;
        (number.parse() == Ok(inode)).then(|| pid.parse().ok()).flatten().filter(|pid| *pid > 0)
    })
}

#[cfg(test)]
mod tests;
