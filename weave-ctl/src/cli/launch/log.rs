//! Where the controller's log goes: stderr in the foreground, a file of bounded size in the background.

use std::{
    fs::{self, DirBuilder, File, Metadata, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Mutex,
};

use rustix::fs::OFlags;
use tracing_subscriber::filter::LevelFilter;

use crate::config::flags::LogLevel;

/// Name of the log in the run directory. The one before is kept beside it, with `.1` at the end.
const NAME: &str = "weave-ctl.log";
/// Largest log, in bytes; the run directory is memory.
const LOG_MAX: u64 = 4 * 1024 * 1024;

/// Path of the log of the controller in `run_dir`.
pub(super) fn path(run_dir: &Path) -> PathBuf {
    run_dir.join(NAME)
}

/// Opens the log for appending, for root alone, and not through a link that somebody laid in its place.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let no_follow = i32::try_from(OFlags::NOFOLLOW.bits()).map_err(io::Error::other)?;
    OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(no_follow).open(path)
}

/// Logs to stderr, which systemd keeps.
pub(super) fn to_stderr(level: LogLevel) {
    let subscriber = tracing_subscriber::fmt().with_max_level(filter(level)).with_ansi(false).with_writer(io::stderr);
    subscriber.init();
}

/// Logs to the file at `path`.
pub(super) fn to_file(level: LogLevel, path: PathBuf) -> io::Result<()> {
    let log = BoundedLog::open(path, LOG_MAX)?;
    tracing_subscriber::fmt().with_max_level(filter(level)).with_ansi(false).with_writer(Mutex::new(log)).init();
    Ok(())
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warning => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    }
}

/// A log that starts anew when it is full, and keeps the one before; and that is made again where others removed it.
struct BoundedLog {
    path: PathBuf,
    file: File,
    len: u64,
    max: u64,
}

impl BoundedLog {
    fn open(path: PathBuf, max: u64) -> io::Result<Self> {
        let file = open(&path)?;
        let len = file.metadata()?.len();
        Ok(Self { path, file, len, max })
    }

    /// The file is where people look for it: others may have removed it, with its directory.
    fn is_there(&self) -> bool {
        let id = |found: Metadata| (found.dev(), found.ino());
        fs::symlink_metadata(&self.path).ok().map(id) == self.file.metadata().ok().map(id)
    }

    /// Where that fails the old file is written on.
    fn open_again(&mut self) {
        if let Some(dir) = self.path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(dir).ok();
        }
        if let Ok(again) = Self::open(self.path.clone(), self.max) {
            *self = again;
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let mut old = self.path.clone().into_os_string();
        old.push(".1");
        fs::rename(&self.path, old)?;
        self.file = open(&self.path)?;
        self.len = 0;
        Ok(())
    }
}

impl Write for BoundedLog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !self.is_there() {
            self.open_again();
        }
        if self.len + line.len() as u64 > self.max && self.len > 0 {
            self.rotate()?;
        }
        let written = self.file.write(line)?;
        self.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests;
