//! Makes the socket: for root alone from its first moment, in place of one that a killed controller left.

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};
use tracing::warn;

use super::{CONNECTIONS_MAX, ControlError};
use crate::api::SOCKET;

/// Rights on a run directory that is made here.
const DIR_MODE: u32 = 0o700;

/// The socket that callers find in the run directory. One that others removed, with its directory or without, is made
/// again: the controller could otherwise be reached by no command until it is ended by a signal.
pub(super) struct Door {
    run_dir: PathBuf,
    path: PathBuf,
    listener: UnixListener,
    file: Option<(u64, u64)>,
    /// Why it could not be made again, as it was told.
    failed: Option<String>,
}

impl Door {
    pub(super) async fn open(run_dir: &Path) -> Result<Self, ControlError> {
        let path = run_dir.join(SOCKET);
        let listener = listen(run_dir, &path).await?;
        Ok(Self { run_dir: run_dir.to_owned(), file: file(&path), path, listener, failed: None })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Makes the socket again where it is gone.
    pub(super) async fn look_at_socket(&mut self) {
        if self.file.is_some() && file(&self.path) == self.file {
            return;
        }
        match listen(&self.run_dir, &self.path).await {
            Ok(listener) => {
                warn!(
                    "{} was removed by others, and is made again: commands reach this controller",
                    self.path.display()
                );
                (self.listener, self.file, self.failed) = (listener, file(&self.path), None);
            }
            Err(error) => {
                let error = error.to_string();
                if self.failed.as_ref() != Some(&error) {
                    let pid = std::process::id();
                    warn!(
                        "no command reaches this controller: {error}; SIGTERM to process {pid} ends it, and packets go on"
                    );
                    self.failed = Some(error);
                }
            }
        }
    }
}

/// Which file is at `path`.
fn file(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

async fn listen(run_dir: &Path, path: &Path) -> Result<UnixListener, ControlError> {
    DirBuilder::new()
        .recursive(true)
        .mode(DIR_MODE)
        .create(run_dir)
        .map_err(|source| ControlError::Directory { path: run_dir.to_owned(), source })?;
    let Ok(address) = SockAddr::unix(path) else {
        return Err(ControlError::TooLong(run_dir.to_owned()));
    };
    let failed = |source| ControlError::Listen { path: path.to_owned(), source };
    clear_stale(run_dir, path).await?;
    bind(&address).map_err(failed)
}

/// Removes the socket of a controller that is gone.
async fn clear_stale(run_dir: &Path, path: &Path) -> Result<(), ControlError> {
    let failed = |source| ControlError::Listen { path: path.to_owned(), source };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(ControlError::InTheWay(path.to_owned())),
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Ok(_) => Err(ControlError::Running(run_dir.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path).map_err(failed),
        Err(error) => Err(failed(error)),
    }
}

fn bind(address: &SockAddr) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Linux gives the file the rights of the socket's inode at `bind` (net/unix/af_unix.c, unix_bind_bsd), so there is
    // no moment in which others could connect.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    socket.bind(address)?;
    socket.listen(i32::try_from(CONNECTIONS_MAX).unwrap_or(i32::MAX))?;
    socket.set_nonblocking(true)?;
    UnixListener::from_std(std::os::fd::OwnedFd::from(socket).into())
}
