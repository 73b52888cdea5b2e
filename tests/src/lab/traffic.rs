//! Traffic whose every packet is accounted for.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use weave_ctl::shell::netns::in_netns;

use super::timeline::{Arrival, Flow, Timeline};

/// Time for the last packets to arrive.
const LINGER: Duration = Duration::from_millis(300);
/// Longest wait of a TCP transfer for anything.
const STALL: Duration = Duration::from_secs(20);
const CHUNK: usize = 64 * 1024;
/// Room for what arrives while the receiver has no processor; else its own kernel would lose what the network did not.
const RECEIVE_BUFFER: usize = 8 << 20;

/// A numbered stream of datagrams.
pub struct UdpFlow {
    stop: Arc<AtomicBool>,
    progress: Arc<Progress>,
    sender: JoinHandle<Result<u64>>,
    receiver: JoinHandle<Result<Vec<Arrival>>>,
}

/// How far a stream has come.
#[derive(Default)]
struct Progress {
    sent: AtomicU64,
    arrived: AtomicU64,
    /// One more than the highest number that arrived.
    newest: AtomicU64,
}

/// Does `work`, most often making a socket, in a namespace.
///
/// # Errors
/// When there is no such namespace, or the work fails.
pub fn within<T: Send>(netns: &str, work: impl FnOnce() -> std::io::Result<T> + Send) -> Result<T> {
    let made = in_netns(format!("/run/netns/{netns}"), work).map_err(|e| anyhow!("{e}"))?;
    Ok(made?)
}

impl UdpFlow {
    /// Sends `rate` datagrams of `size` bytes a second between two namespaces until stopped.
    ///
    /// # Errors
    /// When no socket can be had.
    pub fn start(from: &str, to: &str, address: Ipv4Addr, rate: u32, size: usize) -> Result<Self> {
        let inbound = within(to, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?;
        let port = inbound.local_addr()?.port();
        let outbound = within(from, move || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.connect(SocketAddrV4::new(address, port))?;
            Ok(socket)
        })?;
        inbound.set_read_timeout(Some(Duration::from_millis(50)))?;
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&inbound, RECEIVE_BUFFER)?;
        let stop = Arc::new(AtomicBool::new(false));
        let progress = Arc::new(Progress::default());
        let (sending, arriving) = (Arc::clone(&progress), Arc::clone(&progress));
        let (stop_sending, stop_receiving) = (Arc::clone(&stop), Arc::clone(&stop));
        let sender = thread::spawn(move || send(&outbound, rate, size.max(8), &stop_sending, &sending.sent));
        let receiver = thread::spawn(move || receive(&inbound, &stop_receiving, &arriving));
        Ok(Self { stop, progress, sender, receiver })
    }

    /// Datagrams that arrived so far.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.progress.arrived.load(Ordering::Relaxed)
    }

    /// Datagrams sent so far: the number of the next one.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.progress.sent.load(Ordering::Relaxed)
    }

    /// True when a datagram of this number or a higher one has arrived.
    #[must_use]
    pub fn has_passed(&self, number: u64) -> bool {
        self.progress.newest.load(Ordering::Relaxed) > number
    }

    /// Stops sending; [`Self::stop`] waits for what is under way.
    pub fn end(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Ends the stream and counts.
    ///
    /// # Errors
    /// When a socket failed meanwhile.
    pub fn stop(self) -> Result<Flow> {
        Ok(self.timeline()?.flow())
    }

    /// Ends the stream; when each datagram arrived.
    ///
    /// # Errors
    /// When a socket failed meanwhile.
    pub fn timeline(self) -> Result<Timeline> {
        self.end();
        let sent = self.sender.join().map_err(|e| anyhow!("the sender panicked: {e:?}"))??;
        let arrivals = self.receiver.join().map_err(|e| anyhow!("the receiver panicked: {e:?}"))??;
        Ok(Timeline { sent, arrivals })
    }
}

fn send(socket: &UdpSocket, rate: u32, size: usize, stop: &AtomicBool, counter: &AtomicU64) -> Result<u64> {
    let start = Instant::now();
    let mut bytes = vec![0; size];
    let mut sent = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        bytes[..8].copy_from_slice(&sent.to_be_bytes());
        socket.send(&bytes).context("send a datagram")?;
        sent += 1;
        counter.store(sent, Ordering::Relaxed);
        let due = start + Duration::from_secs(1) / rate * u32::try_from(sent).unwrap_or(u32::MAX);
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(sent)
}

fn receive(socket: &UdpSocket, stop: &AtomicBool, progress: &Progress) -> Result<Vec<Arrival>> {
    let mut seen = Vec::new();
    let mut bytes = vec![0; 65536];
    let mut last = Instant::now();
    loop {
        match socket.recv(&mut bytes) {
            Ok(n) if n >= 8 => {
                last = Instant::now();
                let number = u64::from_be_bytes(bytes[..8].try_into().unwrap_or_default());
                seen.push(Arrival { number, at: last });
                progress.arrived.fetch_add(1, Ordering::Relaxed);
                progress.newest.fetch_max(number + 1, Ordering::Relaxed);
            }
            Ok(_) => {}
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                if stop.load(Ordering::Relaxed) && last.elapsed() > LINGER {
                    return Ok(seen);
                }
            }
            Err(e) => return Err(e).context("receive a datagram"),
        }
    }
}

/// A TCP connection under load, every byte of which is checked.
pub struct TcpFlow {
    stop: Arc<AtomicBool>,
    arrived: Arc<AtomicU64>,
    client: JoinHandle<Result<u64>>,
    server: JoinHandle<Result<u64>>,
}

impl TcpFlow {
    /// Connects, and sends until stopped, with `pause` after every 64 KiB.
    ///
    /// # Errors
    /// When there is no connection.
    pub fn start(from: &str, to: &str, address: Ipv4Addr, pause: Duration) -> Result<Self> {
        let listener = within(to, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)))?;
        let to = SocketAddrV4::new(address, listener.local_addr()?.port());
        let client = within(from, move || TcpStream::connect_timeout(&to.into(), STALL)).context("connect")?;
        let (server, _) = listener.accept()?;
        for stream in [&client, &server] {
            stream.set_read_timeout(Some(STALL))?;
            stream.set_write_timeout(Some(STALL))?;
        }
        let (stop, arrived) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopping, arriving) = (Arc::clone(&stop), Arc::clone(&arrived));
        let client = thread::spawn(move || pour(client, pause, &stopping));
        let server = thread::spawn(move || drink(server, &arriving));
        Ok(Self { stop, arrived, client, server })
    }

    /// Bytes that arrived so far.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Ends the connection; the bytes that went over it.
    ///
    /// # Errors
    /// When it broke or stalled, or a byte was wrong or is missing.
    pub fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.client.join().map_err(|e| anyhow!("the client panicked: {e:?}"))??;
        let seen = self.server.join().map_err(|e| anyhow!("the server panicked: {e:?}"))??;
        ensure!(seen == sent, "{seen} of {sent} bytes arrived");
        Ok(sent)
    }
}

fn pour(mut stream: TcpStream, pause: Duration, stop: &AtomicBool) -> Result<u64> {
    let mut sent = 0;
    let mut chunk = vec![0; CHUNK];
    while !stop.load(Ordering::Relaxed) {
        chunk.iter_mut().zip(sent..).for_each(|(byte, at)| *byte = pattern(at));
        stream.write_all(&chunk).context("write")?;
        sent += CHUNK as u64;
        thread::sleep(pause);
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).context("wait for the end")?;
    Ok(sent)
}

fn drink(mut stream: TcpStream, arrived: &AtomicU64) -> Result<u64> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let seen = arrived.load(Ordering::Relaxed);
        let n = stream.read(&mut buffer).context("read")?;
        if n == 0 {
            stream.write_all(b"done")?;
            return Ok(seen);
        }
        let right = buffer[..n].iter().zip(seen..).all(|(byte, at)| *byte == pattern(at));
        ensure!(right, "a wrong byte near {seen}");
        arrived.fetch_add(n as u64, Ordering::Relaxed);
    }
}

/// Sends at least `total` bytes over TCP between two namespaces and checks each.
///
/// # Errors
/// When there is no connection, it breaks or stalls, or a byte is wrong.
pub fn tcp(from: &str, to: &str, address: Ipv4Addr, total: u64) -> Result<()> {
    let flow = TcpFlow::start(from, to, address, Duration::ZERO)?;
    let arrived = super::eventually(STALL, || flow.arrived() >= total || flow.client.is_finished());
    let sent = flow.stop()?;
    ensure!(arrived, "only {sent} of {total} bytes went over in {STALL:?}");
    Ok(())
}

fn pattern(at: u64) -> u8 {
    // A period that no segment size divides.
    u8::try_from(at % 251).unwrap_or(0)
}

/// Sends `bytes` of UDP as one super-packet, to be cut into datagrams of `segment` bytes.
///
/// # Errors
/// When the kernel refuses.
pub fn send_super_packet(from: &str, to: SocketAddrV4, bytes: usize, segment: u16) -> Result<()> {
    let socket = within(from, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?;
    set_segment(&socket, segment)?;
    socket.send_to(&vec![7; bytes], to).context("send a super-packet")?;
    Ok(())
}

/// Has the kernel cut what is sent into datagrams of `segment` bytes (`UDP_SEGMENT`, udp(7)).
pub(super) fn set_segment(socket: &UdpSocket, segment: u16) -> Result<()> {
    let size = libc::c_int::from(segment);
    // SAFETY: the option takes an int; `size` is one and lives across the call, and the descriptor is open.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            (&raw const size).cast(),
            size_of_val(&size) as libc::socklen_t,
        )
    };
    ensure!(set == 0, "UDP_SEGMENT {segment}: {}", std::io::Error::last_os_error());
    Ok(())
}
