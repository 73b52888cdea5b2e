//! Control links: one TCP connection a pair of peers, encrypted always, carrying frames.
//!
//! Tasks: one accepts; one a handshake under way, which then becomes the link's; one a dial. A link's task owns the
//! connection, reads and writes it, and tells the core first `SessionOpened`, then frames, then `SessionClosed`, each exactly
//! once; frames may still come between `close` and `SessionClosed`. Dropping [`Links`] ends them all.
//!
//! Bounds: [`HANDSHAKES_MAX`] inbound handshakes at once, [`HANDSHAKES_PER_HOST`] of one host, each [`HANDSHAKE_TIME`];
//! [`LINKS_MAX`] links; [`QUEUE_FRAMES`] frames and [`QUEUE_BYTES`] bytes wait for a peer, then the link is closed; a
//! close waits [`CLOSE_TIME`] for what was sent before.
//!
//! Does not: ping, or know peers. Who is at the other end, and whether it still lives, is the core's business.

mod accept;
mod dial;
mod frames;
mod handshake;

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use ipnet::Ipv4Net;
use snow::StatelessTransportState;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpSocket, TcpStream},
    pin, select,
    sync::{mpsc, oneshot},
    task::{AbortHandle, spawn_blocking},
    time::timeout,
};

use self::handshake::{HandshakeError, Key, Role, Session};
use crate::{
    config::{CONN_LIMIT_MAX, secret::Secret},
    proto::io::{DialId, Direction, FRAME_MAX, Input, SessionId, Target},
};

/// Inbound connections whose handshake is not finished.
const HANDSHAKES_MAX: usize = 64;
/// The same of one address, so that one host cannot keep all others out.
const HANDSHAKES_PER_HOST: usize = 16;
/// Time for a handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);
/// Links open at once, for anybody may open one where there is no password: as many as the core may be told to keep.
const LINKS_MAX: usize = CONN_LIMIT_MAX as usize;
/// Frames that wait for one peer.
const QUEUE_FRAMES: usize = 1024;
/// Bytes that wait for one peer.
const QUEUE_BYTES: usize = 8 * FRAME_MAX;
/// Time for what was sent before a close, and again for the peer to close in turn.
const CLOSE_TIME: Duration = Duration::from_secs(2);
/// Bytes of the peer that are thrown away while it closes in turn.
const DISCARD: usize = 16 * 1024;
/// Connections that the kernel keeps until they are accepted.
const BACKLOG: u32 = 128;
/// Idle time before the kernel asks whether the other host is there, between questions, and for an answer to data.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(5));
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Settings of the links. Not `Debug`: the secret stays out of logs.
#[derive(Clone)]
pub struct LinksConfig {
    /// Where to accept connections; port 0 for any that is free.
    pub listen: SocketAddr,
    /// What both ends of every link must know.
    pub secret: Option<Secret>,
    /// The range that all peers share. It has a part in the key that is derived from a password.
    pub range: Ipv4Net,
    /// Port of a target that names none.
    pub control_port: u16,
}

/// Why there are no links at all.
#[derive(Debug, thiserror::Error)]
pub enum LinksError {
    /// Somebody has the port.
    #[error(
        "TCP port {port}, the control port, is in use: stop what holds it (ss -tlpn shows it), or launch with another \
         --port"
    )]
    PortInUse {
        /// The port.
        port: u16,
    },
    /// The kernel refused.
    #[error("cannot accept connections on {listen}: {source}")]
    Listen {
        /// Where.
        listen: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// No key from the password.
    #[error("cannot derive a key from the password: {0}")]
    Key(String),
}

/// All links of this controller.
pub struct Links {
    shared: Arc<Shared>,
    accepting: AbortHandle,
    port: u16,
}

/// What the tasks share.
struct Shared {
    key: Key,
    handshake_time: Duration,
    control_port: u16,
    inputs: mpsc::Sender<Input>,
    next: AtomicU64,
    failures: dial::Failures,
    refused: accept::Refused,
    /// `None` once [`Links`] is dropped.
    links: Mutex<Option<BTreeMap<SessionId, Entry>>>,
}

/// The driver's end of a link.
struct Entry {
    frames: mpsc::Sender<Vec<u8>>,
    queued: Arc<AtomicUsize>,
    stop: oneshot::Sender<Stop>,
}

/// Why the driver ends a link.
struct Stop {
    reason: String,
    /// Send what is queued first.
    drain: bool,
}

impl Links {
    /// Accepts links from now on; what happens on them goes to `inputs`.
    ///
    /// # Errors
    ///
    /// The port is taken, or the kernel refused.
    pub async fn start(config: LinksConfig, inputs: mpsc::Sender<Input>) -> Result<Self, LinksError> {
        Self::start_with(config, inputs, HANDSHAKE_TIME).await
    }

    async fn start_with(
        config: LinksConfig,
        inputs: mpsc::Sender<Input>,
        handshake_time: Duration,
    ) -> Result<Self, LinksError> {
        let listen = config.listen;
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => LinksError::PortInUse { port: listen.port() },
            _ => LinksError::Listen { listen, source },
        };
        let listener = listen_on(listen).map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        // Long, and with much memory: on a thread of its own. The password is overwritten when this is done.
        let derived = spawn_blocking(move || Key::derive(config.secret.as_ref(), config.range)).await;
        let key = derived.map_err(|e| LinksError::Key(e.to_string()))?.map_err(|e| LinksError::Key(e.to_string()))?;
        let shared = Arc::new(Shared {
            key,
            handshake_time,
            control_port: config.control_port,
            inputs,
            next: AtomicU64::new(1),
            failures: dial::Failures::default(),
            refused: accept::Refused::default(),
            links: Mutex::new(Some(BTreeMap::new())),
        });
        let accepting = tokio::spawn(accept::run(listener, Arc::clone(&shared))).abort_handle();
        Ok(Self { shared, accepting, port })
    }

    /// Tries to open a link to `target`, resolving its name anew. Yields `SessionOpened` or `DialFailed`.
    pub fn dial(&self, dial: DialId, target: Target) {
        drop(tokio::spawn(dial::run(dial, target, Arc::clone(&self.shared))));
    }

    /// Queues a frame. A link that cannot take it is closed; a link that is gone takes it silently.
    pub fn send(&self, link: SessionId, bytes: Vec<u8>) {
        let mut links = self.shared.links();
        let Some(entry) = links.as_ref().and_then(|links| links.get(&link)) else { return };
        let length = bytes.len();
        let reason = if length > FRAME_MAX {
            format!("a frame of {length} bytes is more than the {FRAME_MAX} allowed")
        } else if entry.queued.fetch_add(length, Ordering::Relaxed) + length > QUEUE_BYTES
            || entry.frames.try_send(bytes).is_err()
        {
            "the peer does not take what it is sent: too much waits for it".to_owned()
        } else {
            return;
        };
        if let Some(entry) = links.as_mut().and_then(|links| links.remove(&link)) {
            entry.stop(reason, false);
        }
    }

    /// Closes a link after what was sent on it before. Yields `SessionClosed` with `reason`, unless the link ended before.
    pub fn close(&self, link: SessionId, reason: &str) {
        if let Some(entry) = self.shared.forget(link) {
            entry.stop(reason.to_owned(), true);
        }
    }

    /// A sentence for `status` about a peer that was refused for what both sides must share.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        self.shared.refused.warning()
    }

    /// The port on which links are accepted.
    #[must_use]
    pub fn local_port(&self) -> u16 {
        self.port
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.accepting.abort();
        // A link's task ends when its entry is dropped.
        drop(self.shared.links().take());
    }
}

impl Entry {
    fn stop(self, reason: String, drain: bool) {
        // Fails only when the link has just ended by itself; its own reason is told then.
        drop(self.stop.send(Stop { reason, drain }));
    }
}

impl Shared {
    fn links(&self) -> MutexGuard<'_, Option<BTreeMap<SessionId, Entry>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, link: SessionId) -> Option<Entry> {
        self.links().as_mut()?.remove(&link)
    }

    /// Makes a session of a new connection, in the time there is for it.
    async fn shake(&self, stream: &mut TcpStream, role: Role) -> Result<Session, HandshakeError> {
        let shaken = timeout(self.handshake_time, handshake::shake(stream, &self.key, role)).await;
        shaken.unwrap_or(Err(HandshakeError::Slow(self.handshake_time)))
    }

    fn count(&self) -> usize {
        self.links().as_ref().map_or(0, BTreeMap::len)
    }

    /// Runs a link from its first moment to its last.
    async fn serve(&self, stream: TcpStream, session: Session, direction: Direction) -> io::Result<()> {
        let remote = stream.peer_addr()?;
        let link = SessionId(self.next.fetch_add(1, Ordering::Relaxed));
        let (frames, queue) = mpsc::channel(QUEUE_FRAMES);
        let (stop, stopped) = oneshot::channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let entry = Entry { frames, queued: Arc::clone(&queued), stop };
        match self.links().as_mut() {
            Some(links) => links.insert(link, entry),
            None => return Ok(()),
        };
        let Session { cipher, binding } = session;
        // Nobody listens only when the controller stops.
        if self.inputs.send(Input::SessionOpened { session: link, remote, direction, binding }).await.is_err() {
            return Ok(());
        }
        let ends = Ends { link, cipher, queue, queued, stopped };
        let reason = ends.run(stream, &self.inputs, || drop(self.forget(link))).await;
        tracing::debug!(%remote, reason, "link closed");
        Ok(())
    }
}

/// A link's own ends of what [`Entry`] holds.
struct Ends {
    link: SessionId,
    cipher: StatelessTransportState,
    queue: mpsc::Receiver<Vec<u8>>,
    queued: Arc<AtomicUsize>,
    stopped: oneshot::Receiver<Stop>,
}

impl Ends {
    /// Reads and writes until something ends the link, calls `forget`, tells the core, and takes leave of the peer.
    async fn run(mut self, stream: TcpStream, inputs: &mpsc::Sender<Input>, forget: impl FnOnce()) -> String {
        let (mut reader, mut writer) = stream.into_split();
        let (reason, polite) = {
            let read = frames::read(&mut reader, &self.cipher, self.link, inputs);
            let write = frames::write(&mut writer, &self.cipher, &mut self.queue, &self.queued);
            pin!(read, write);
            select! {
                error = &mut read => (error.to_string(), false),
                written = &mut write => match written {
                    Err(error) => (error.to_string(), false),
                    // The queue is closed together with the reason.
                    Ok(()) => ((&mut self.stopped).await.map_or_else(|_| stopping(), |stop| stop.reason), true),
                },
                stop = &mut self.stopped => match stop {
                    Ok(Stop { reason, drain: true }) => {
                        let drained = timeout(CLOSE_TIME, &mut write).await;
                        (reason, matches!(drained, Ok(Ok(()))))
                    }
                    Ok(Stop { reason, .. }) => (reason, false),
                    Err(_) => (stopping(), false),
                },
            }
        };
        forget();
        // Nobody listens only when the controller stops.
        drop(inputs.send(Input::SessionClosed(self.link, reason.clone())).await);
        if polite {
            // Closing with bytes unread would make the kernel throw away what the peer has not received yet.
            let mut discarded = [0; DISCARD];
            let discard = async { while reader.read(&mut discarded).await.is_ok_and(|n| n > 0) {} };
            drop(timeout(CLOSE_TIME, discard).await);
        }
        reason
    }
}

fn stopping() -> String {
    frames::FrameError::Stopped.to_string()
}

fn listen_on(listen: SocketAddr) -> io::Result<TcpListener> {
    let socket = if listen.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(listen)?;
    socket.listen(BACKLOG)
}

/// The error as an operator reads it, without its number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

/// Sets what every connection needs.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let (time, interval) = KEEPALIVE;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(time).with_interval(interval))?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

#[cfg(test)]
mod tests;
