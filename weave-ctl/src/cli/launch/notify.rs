//! Tells systemd how a controller in the foreground fares: the messages of `sd_notify(3)`.
//!
//! A message is one datagram of `NAME=value` lines to the socket that systemd names. Written here because the crates
//! for it read the environment themselves, and leave no way to give them a path.
//!
//! Bounds: a receiver that does not read holds the controller up for at most [`WAIT`]. What cannot be sent is logged;
//! the controller works without. Does not: name sockets of virtual machines' hosts (`vsock:`).

use std::{
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    path::{Path, PathBuf},
    time::Duration,
};

/// Longest wait for a receiver whose queue is full.
const WAIT: Duration = Duration::from_secs(1);
/// Longest status, in characters: systemd drops messages of more than 4096 bytes.
const STATUS_MAX: usize = 1000;

/// Who is told; nobody, when no socket was named.
#[derive(Clone, Debug)]
pub(super) struct Notifier {
    socket: Option<PathBuf>,
}

impl Notifier {
    pub(super) fn new(socket: Option<&Path>) -> Self {
        Self { socket: socket.map(Path::to_owned) }
    }

    /// The controller answers.
    pub(super) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\n{}", status_line(status)));
    }

    /// It was told to end, and begins to.
    pub(super) fn stopping(&self) {
        self.tell(&format!("STOPPING=1\n{}", status_line("stopping")));
    }

    /// It ends without having been told to. Not `STOPPING=1`: that would announce an end in order.
    pub(super) fn failed(&self, reason: &str) {
        self.tell(&status_line(reason));
    }

    fn tell(&self, message: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = send(socket, message, WAIT) {
            tracing::warn!("cannot tell systemd how this controller fares, on {}: {error}", socket.display());
        }
    }
}

/// One line, whatever the text holds: what follows a line's end would be read as a message of its own.
fn status_line(text: &str) -> String {
    let one_line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(STATUS_MAX).collect();
    format!("STATUS={one_line}")
}

fn send(socket: &Path, message: &str, wait: Duration) -> io::Result<()> {
    let to = match socket.as_os_str().as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(socket)?,
        _ => return Err(io::Error::other("neither a path nor the name of an abstract socket")),
    };
    let from = UnixDatagram::unbound()?;
    from.set_write_timeout(Some(wait))?;
    from.send_to_addr(message.as_bytes(), &to)?;
    Ok(())
}

#[cfg(test)]
mod tests;
