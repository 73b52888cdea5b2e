//! The API server: the unix socket on which the command line reaches the controller.
//!
//! Tasks: one that accepts, one a connection. Each connection carries one request; its handler turns it into a [`Call`]
//! for the driver and waits for the answer. When the caller goes away, or the wait is over, the call's `reply` is
//! closed: `reply.is_closed()` then tells the driver that an answer would reach nobody.
//! Bounds: [`CONNECTIONS_MAX`] connections, [`COMMANDS_MAX`] commands under way, [`crate::api::REQUEST_MAX`] bytes of a body,
//! and a time limit on every step. Beyond them callers wait in the socket's backlog; nothing grows.
//!
//! Does not: decide anything, or write to the store or the kernel.

mod handlers;
mod listener;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::UnixStream,
    sync::{Semaphore, mpsc, oneshot},
    task::{JoinHandle, JoinSet},
    time::{interval, sleep, timeout},
};
use tracing::{debug, warn};

use self::listener::Door;
use crate::proto::{
    command::{Answer, Command, Refusal},
    status::HostStatus,
};

/// Connections open at once.
pub const CONNECTIONS_MAX: usize = 256;
/// Commands under way at once; `status`, `ps` and `report` are not among them.
pub const COMMANDS_MAX: usize = 64;
/// Longest life of a connection: a caller that does not read its answer holds its place no longer.
const CONNECTION_WAIT: Duration = Duration::from_secs(60);
/// Longest wait, at the end, for answers that are being written.
const DRAIN_WAIT: Duration = Duration::from_secs(2);
/// Pause after the kernel refused to accept, as it does when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Bytes of request headers that are buffered.
const HEADERS_MAX: usize = 16 * 1024;

/// How long is waited for others.
#[derive(Clone, Copy, Debug)]
struct Waits {
    /// For the driver's answer.
    reply: Duration,
    /// For a container to be found. With `reply` it stays below what the command line waits.
    resolve: Duration,
    /// For a request's headers, and again for its body.
    request: Duration,
    /// Between two looks whether the socket is where callers look for it.
    look: Duration,
}

const WAITS: Waits = Waits {
    reply: Duration::from_secs(30),
    resolve: Duration::from_secs(10),
    request: Duration::from_secs(5),
    look: Duration::from_secs(3),
};

/// What the driver is asked.
#[derive(Debug)]
pub enum Call {
    /// Something for the core.
    Command {
        /// What.
        command: Command,
        /// Where the answer goes; closed when nobody waits for it any more.
        reply: oneshot::Sender<Result<Answer, Refusal>>,
    },
    /// What only the shell knows of a status.
    Host {
        /// Where the answer goes.
        reply: oneshot::Sender<HostStatus>,
    },
}

/// Why the socket could not be set up. Nothing was changed but the directory, which may have been made.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The directory cannot be made.
    #[error("cannot make the run directory {}: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The path does not fit a socket address.
    #[error("the run directory {} is too long a path for a socket: choose a shorter one with --run-dir", .0.display())]
    TooLong(PathBuf),
    /// Another controller answers there.
    #[error("a controller is already running in {}: it was left alone", .0.display())]
    Running(PathBuf),
    /// Something that is not a socket is in the way.
    #[error("{} is in the way and is not a socket: it was left alone, remove it", .0.display())]
    InTheWay(PathBuf),
    /// The kernel refused.
    #[error("cannot listen on {}: {source}", path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A running API server. Ends, and removes its socket, when dropped; [`Control::close`] lets answers go out first.
#[derive(Debug)]
pub struct Control {
    socket: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

/// Serves the API in `run_dir`, which is made when missing. A socket that a killed controller left is replaced.
///
/// # Errors
/// See [`ControlError`].
pub async fn start(run_dir: &Path, calls: mpsc::Sender<Call>) -> Result<Control, ControlError> {
    start_with(run_dir, calls, WAITS).await
}

async fn start_with(run_dir: &Path, calls: mpsc::Sender<Call>, waits: Waits) -> Result<Control, ControlError> {
    let door = Door::open(run_dir).await?;
    let socket = door.path().to_owned();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(serve(door, handlers::router(calls, waits), waits, stopped));
    Ok(Control { socket, stop: Some(stop), task })
}

impl Control {
    /// Takes no more requests and removes the socket; returns when the answers under way are written, at most
    /// two seconds later. The driver sends its last replies before it calls this.
    pub async fn close(mut self) {
        self.remove_socket();
        drop(self.stop.take());
        if let Err(error) = (&mut self.task).await {
            warn!("the API server ended badly: {error}");
        }
    }

    fn remove_socket(&self) {
        match std::fs::remove_file(&self.socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!("cannot remove {}: {error}; the next launch will replace it", self.socket.display());
            }
            _ => {}
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if self.stop.is_some() {
            self.remove_socket();
        }
        self.task.abort();
    }
}

async fn serve(mut door: Door, router: Router, waits: Waits, mut stopped: oneshot::Receiver<()>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let mut look = interval(waits.look);
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (door.listener().accept().await, place)
        };
        tokio::select! {
            // Closed without a word: that is the word.
            _ = &mut stopped => break,
            Some(_) = connections.join_next() => {}
            _ = look.tick() => door.look_at_socket().await,
            (accepted, place) = accepted => match accepted {
                Ok((stream, _)) => {
                    let router = router.clone();
                    connections.spawn(async move {
                        serve_connection(stream, router, waits).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    warn!("cannot accept a connection to the API: {error}; trying again");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(door);
    let drained = timeout(DRAIN_WAIT, async { while connections.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        debug!("{} API connections were cut off", connections.len());
    }
}

async fn serve_connection(stream: UnixStream, router: Router, waits: Waits) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(waits.request)
        .max_buf_size(HEADERS_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match timeout(CONNECTION_WAIT, connection).await {
        Ok(Ok(())) => {}
        // Garbage, or a caller that went away: no trouble of the controller's.
        Ok(Err(error)) => debug!("an API connection ended early: {error}"),
        Err(_) => debug!("an API connection was cut off after {} s", CONNECTION_WAIT.as_secs()),
    }
}

#[cfg(test)]
mod tests;
