//! Questions in datagrams.
//!
//! A thread of its own for each socket, which waits in the kernel: half of the system calls that an event loop needs, and a
//! flood of questions takes no turn of anything else in the controller.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::net::{SendFlags, Shutdown, sendto, shutdown};
use tokio::runtime::Handle;

use super::{PAUSE, Scope, Shared, Transport, Verdict, count};

/// Longest question in bytes: longer ones are cut, and malformed then.
const QUESTION_MAX: usize = 4096;
/// After this long without a question the thread looks whether it is over, if it was not told.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Answers questions on one socket; it ends when dropped, and the socket is closed then.
#[derive(Debug)]
pub(in super::super) struct Datagrams {
    socket: Arc<UdpSocket>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Datagrams {
    /// Begins; what other servers are to answer is asked by tasks of the current runtime.
    ///
    /// # Errors
    /// The kernel gives no thread.
    pub(in super::super) fn start(shared: Arc<Shared>, socket: UdpSocket, scope: Scope) -> io::Result<Self> {
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(LOOK_EVERY))?;
        let (socket, over, runtime) = (Arc::new(socket), Arc::new(AtomicBool::new(false)), Handle::current());
        let server = (Arc::clone(&socket), Arc::clone(&over));
        let serve = move || serve(&shared, &server.0, &scope, &server.1, &runtime);
        let thread = thread::Builder::new().name("dns".to_owned()).spawn(serve)?;
        Ok(Self { socket, over, thread: Some(thread) })
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Wakes the thread; that the socket has no peer is said then, after it was done (net/ipv4/af_inet.c).
        shutdown(&self.socket, Shutdown::Both).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Answers until it is over.
fn serve(shared: &Arc<Shared>, socket: &Arc<UdpSocket>, scope: &Scope, over: &AtomicBool, runtime: &Handle) {
    let mut buffer = [0; QUESTION_MAX];
    loop {
        let received = socket.recv_from(&mut buffer);
        if over.load(Ordering::Relaxed) {
            return;
        }
        let (length, from) = match received {
            Ok(received) => received,
            // Silence, or what was sent before came back as an ICMP message.
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionRefused) => {
                continue;
            }
            // Memory is short.
            Err(_) => {
                thread::sleep(PAUSE);
                continue;
            }
        };
        if !shared.takes(from.ip()) {
            continue;
        }
        let source = scope.source(from.ip());
        match shared.decide(&buffer[..length], Transport::Udp, source) {
            Verdict::Answer(bytes) => send(shared, socket, &bytes, from),
            Verdict::Drop => {}
            Verdict::Forward(question) => {
                let (shared, socket) = (Arc::clone(shared), Arc::clone(socket));
                // The forwarder bounds how many there are.
                runtime.spawn(async move {
                    if let Some(bytes) = shared.forward(&question, Transport::Udp, from.ip(), source).await {
                        send(&shared, &socket, &bytes, from);
                    }
                });
            }
        }
    }
}

/// Sends an answer, or drops it where that would have to wait.
fn send(shared: &Shared, socket: &UdpSocket, bytes: &[u8], to: SocketAddr) {
    if sendto(socket, bytes, SendFlags::DONTWAIT, &to).is_err() {
        count(&shared.stats.dropped);
    }
}
