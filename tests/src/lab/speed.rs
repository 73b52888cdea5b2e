//! TCP at full speed between two namespaces: how fast, and how long it stood still.
//!
//! Figures are good as ratios of one run only. Bytes are not looked at: that is [`super::traffic::TcpFlow`]'s work.
//!
//! Bounds: a connection attempt takes [`CONNECT`] at most; nothing waits for a transfer that stands still.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle, sleep},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};

use super::traffic::within;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(20);
/// Bytes of one call of the kernel.
const CHUNK: usize = 256 * 1024;

/// A connection over which as much is sent as it takes.
pub struct Transfer {
    ends: [TcpStream; 2],
    arrived: Arc<AtomicU64>,
    pauses: Arc<Mutex<Pauses>>,
    threads: Vec<JoinHandle<()>>,
}

/// When the receiver had nothing to read.
struct Pauses {
    last: Instant,
    longest: Duration,
}

impl Transfer {
    /// Connects and begins to send.
    ///
    /// # Errors
    /// When there is no connection.
    pub fn start(from: &str, to: &str, address: Ipv4Addr) -> Result<Self> {
        let listener = within(to, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)))?;
        let to = SocketAddrV4::new(address, listener.local_addr()?.port());
        let client = within(from, move || TcpStream::connect_timeout(&to.into(), CONNECT)).context("connect")?;
        let (server, _) = listener.accept()?;
        let ends = [client.try_clone()?, server.try_clone()?];
        let arrived = Arc::new(AtomicU64::new(0));
        let pauses = Arc::new(Mutex::new(Pauses { last: Instant::now(), longest: Duration::ZERO }));
        let (counter, clock) = (Arc::clone(&arrived), Arc::clone(&pauses));
        let threads = vec![thread::spawn(move || pour(client)), thread::spawn(move || drink(server, &counter, &clock))];
        Ok(Self { ends, arrived, pauses, threads })
    }

    /// Bytes that arrived so far.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    /// The longest time without a byte since the last call of [`Self::forget_pauses`], the present one included.
    #[must_use]
    pub fn longest_pause(&self) -> Duration {
        let pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        pauses.longest.max(pauses.last.elapsed())
    }

    /// Begins to look for the longest pause anew.
    pub fn forget_pauses(&self) {
        let mut pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        *pauses = Pauses { last: Instant::now(), longest: Duration::ZERO };
    }

    /// Ends the connection at once, whatever is under way.
    ///
    /// # Errors
    /// When a thread panicked.
    pub fn stop(self) -> Result<()> {
        // A connection that has ended by itself cannot be shut down, and need not be.
        self.ends.iter().for_each(|end| drop(end.shutdown(Shutdown::Both)));
        self.threads.into_iter().try_for_each(|t| t.join().map_err(|e| anyhow!("a thread panicked: {e:?}")))
    }
}

/// Writes until the connection ends.
fn pour(mut stream: TcpStream) {
    let chunk = vec![0x5a; CHUNK];
    while stream.write_all(&chunk).is_ok() {}
}

/// Reads until the connection ends.
fn drink(mut stream: TcpStream, arrived: &AtomicU64, pauses: &Mutex<Pauses>) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        arrived.fetch_add(n as u64, Ordering::Relaxed);
        let mut pauses = pauses.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        pauses.longest = pauses.longest.max(now - pauses.last);
        pauses.last = now;
    }
}

/// Bytes a second that TCP moves between two namespaces, over `time` from the connection's first byte on; 0 when none
/// arrives within `time`.
///
/// # Errors
/// When there is no connection.
pub fn throughput(from: &str, to: &str, address: Ipv4Addr, time: Duration) -> Result<f64> {
    let transfer = Transfer::start(from, to, address)?;
    super::eventually(time, || transfer.arrived() > 0);
    let (before, start) = (transfer.arrived(), Instant::now());
    sleep(time);
    let (moved, took) = (transfer.arrived() - before, start.elapsed());
    transfer.stop()?;
    Ok(moved as f64 / took.as_secs_f64())
}
