//! What all Labs of a machine share: the BPF file system, and a lock between those that may run beside others and those
//! that change something of the whole machine.
//!
//! The lock is two files. A Lab holds [`HELD`] shared, or alone; to take it, it holds [`GATE`] alone for a moment, so that
//! a Lab that waits to be alone is not overtaken for ever. All ordinary Labs of a process share one hold: a second Lab of a
//! test never waits for somebody that waits for the first.
//!
//! Bounds: waits [`LIMIT`] at most.

use std::{
    fs::{self, File},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    thread::{self, sleep},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::{cmd::run, host};

/// Held while a Lab exists.
const HELD: &str = "weave-lab-machine.lock";
/// Held while a Lab waits for the other.
const GATE: &str = "weave-lab-gate.lock";
/// Longest wait: as long as several of the longest tests take.
const LIMIT: Duration = Duration::from_secs(600);
/// Pause between two looks at a lock.
const POLL: Duration = Duration::from_millis(20);

/// A hold of the lock; it ends with the value, or with the process.
#[derive(Debug)]
pub struct Machine {
    _held: File,
}

impl Machine {
    /// Beside others.
    ///
    /// # Errors
    /// When another Lab is alone for longer than [`LIMIT`].
    pub fn shared() -> Result<Arc<Self>> {
        static SHARED: Mutex<Weak<Machine>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = shared.upgrade() {
            return Ok(held);
        }
        let held = Arc::new(Self { _held: take(&std::env::temp_dir(), FlockOperation::NonBlockingLockShared)? });
        *shared = Arc::downgrade(&held);
        Ok(held)
    }

    /// Beside no other.
    ///
    /// # Errors
    /// When other Labs exist for longer than [`LIMIT`], one of this process among them; when the calling test is not named
    /// as one that runs alone.
    pub fn alone() -> Result<Arc<Self>> {
        let test = thread::current().name().unwrap_or_default().to_owned();
        let is_named = test.rsplit("::").next().is_some_and(|name| name.starts_with("alone_"));
        ensure!(is_named, "the test {test:?} has a Lab that must be alone: give it a name that begins with alone_");
        Ok(Arc::new(Self { _held: take(&std::env::temp_dir(), FlockOperation::NonBlockingLockExclusive)? }))
    }
}

fn take(folder: &Path, operation: FlockOperation) -> Result<File> {
    let end = Instant::now() + LIMIT;
    let _gate = hold(&folder.join(GATE), FlockOperation::NonBlockingLockExclusive, end)?;
    hold(&folder.join(HELD), operation, end)
}

fn hold(path: &Path, operation: FlockOperation, end: Instant) -> Result<File> {
    let file = File::options().create(true).append(true).open(path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    loop {
        match flock(&file, operation) {
            Ok(()) => return Ok(file),
            Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < end => sleep(POLL),
            Err(Errno::WOULDBLOCK) => bail!("other Labs did not end within {LIMIT:?}"),
            Err(error) => return Err(error).with_context(|| format!("cannot lock {}", path.display())),
        }
    }
}

/// Where something is mounted.
pub(super) fn mounts() -> Result<Vec<PathBuf>> {
    let text = fs::read_to_string("/proc/self/mounts").context("read the mounts")?;
    Ok(text.lines().filter_map(|l| l.split(' ').nth(1)).map(PathBuf::from).collect())
}

/// Mounts the BPF file system unless it is mounted. A second mount would hide what is pinned in the first: the folder
/// below it is locked meanwhile.
pub(super) fn mount_bpffs() -> Result<()> {
    let folder = File::open(host::BPF_ROOT).with_context(|| format!("cannot open {}", host::BPF_ROOT))?;
    flock(folder.as_fd(), FlockOperation::LockExclusive).context("lock the folder of the BPF file system")?;
    if !mounts()?.iter().any(|m| m == Path::new(host::BPF_ROOT)) {
        run(&["mount", "-t", "bpf", "bpf", host::BPF_ROOT])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
