//! Traffic from one end of a subject to the other, and what it did.
//!
//! Both ends are pinned: on one core where the time of the path counts, since a wake-up across cores costs more than
//! the path and sometimes does not happen; on a core each where the most that goes through counts.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread::{sleep, spawn},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rustix::net::sockopt::{Timeout, set_socket_linger, set_socket_recv_buffer_size_force, set_socket_timeout};
use serde_json::Value;

use super::{
    Metric,
    cpu::{self, ANY, Cores, Server, inside},
    stats,
    subjects::Subject,
};
use crate::lab::cmd::{self, run};

/// Longest wait of either end for the other.
const STALL: Duration = Duration::from_secs(5);
/// How often a server without traffic looks whether it is over.
const LOOK: Duration = Duration::from_millis(100);
/// Payload of a small datagram.
const SMALL: usize = 64;
/// Receive buffer for datagrams: holds what comes while the receiver is not running.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Datagrams sent between two looks at the clock.
const BATCH: u64 = 64;
/// Tries to reach an iperf3 that is about to listen, and the pause between them.
const TRIES: usize = 40;
const PAUSE: Duration = Duration::from_millis(50);

/// What came of a measurement.
pub type Figures = Vec<(Metric, f64)>;

/// One TCP stream by iperf3, an end a core, and the processor time that it took: the kernel's on the whole machine, and
/// iperf3's own. What other programs compute meanwhile is left out, what the kernel does for them is not.
///
/// # Errors
/// When no connection comes about or iperf3 gives no figure.
pub fn tcp_stream(subject: &Subject, cores: Cores, time: Duration) -> Result<Figures> {
    let to = subject.to.clone();
    let server = spawn(move || inside(&to, cores.second, || run(&["iperf3", "-s", "-1"])));
    let (address, seconds) = (subject.address.to_string(), time.as_secs().max(1).to_string());
    for _ in 0..TRIES {
        sleep(PAUSE);
        let (report, kernel) = inside(&subject.from, cores.first, || {
            let before = cpu::kernel_seconds()?;
            let report = run(&["iperf3", "-J", "-c", &address, "-t", &seconds]);
            Ok((report, cpu::kernel_seconds()? - before))
        })?;
        let Ok(report) = report else {
            ensure!(!cmd::interrupted(), "interrupted");
            continue;
        };
        server.join().map_err(|_panic| anyhow!("iperf3's server panicked"))??;
        return stream_figures(&report, kernel);
    }
    bail!("no TCP connection to {address}")
}

/// What iperf3's client says, beside the kernel's processor time.
fn stream_figures(report: &str, kernel: f64) -> Result<Figures> {
    let report: Value = serde_json::from_str(report).context("read iperf3's report")?;
    let figure = |part: &str, name: &str| {
        report["end"][part][name].as_f64().with_context(|| format!("iperf3 gave no {name} of {part}"))
    };
    let gbit = figure("sum_received", "bytes")? * 8.0 / 1e9;
    ensure!(gbit > 0.0, "nothing arrived");
    let own = figure("cpu_utilization_percent", "host_user")? + figure("cpu_utilization_percent", "remote_user")?;
    let own = own / 100.0 * figure("sum_received", "seconds")?;
    let rate = figure("sum_received", "bits_per_second")? / 1e9;
    Ok(vec![(Metric::TcpStream, rate), (Metric::CpuPerGbit, (kernel + own) / gbit)])
}

/// Requests and responses of one byte on one connection, both ends on one core.
///
/// # Errors
/// When the connection breaks or stalls.
pub fn tcp_exchange(subject: &Subject, cores: Cores, time: Duration) -> Result<Figures> {
    let (server, port) = Server::start(&subject.to, cores.first, |tell: mpsc::Sender<u16>| {
        let listener = TcpListener::bind(ANY)?;
        set_socket_timeout(&listener, Timeout::Recv, Some(STALL))?;
        tell.send(listener.local_addr()?.port()).ok();
        let (mut stream, _) = listener.accept().context("wait for a connection")?;
        prepare(&stream)?;
        let mut byte = [0];
        while stream.read(&mut byte).context("wait for a request")? != 0 {
            stream.write_all(&byte)?;
        }
        Ok(())
    })?;
    let times = inside(&subject.from, cores.first, || {
        let mut stream = connect(subject, port)?;
        prepare(&stream)?;
        let (mut times, mut byte, start) = (Vec::new(), [0], Instant::now());
        while start.elapsed() < time {
            let sent = Instant::now();
            stream.write_all(&byte)?;
            stream.read_exact(&mut byte).context("wait for a response")?;
            times.push(sent.elapsed().as_secs_f64() * 1e6);
        }
        Ok((times, start.elapsed()))
    });
    let (times, took) = times?;
    server.join()?;
    let median = stats::median(&times).context("no exchange came to its end")?;
    let worst = stats::percentile(&times, 99).unwrap_or(median);
    let rate = thousands(times.len() as u64, took);
    Ok(vec![(Metric::TcpTransactions, rate), (Metric::TcpMedian, median), (Metric::TcpWorst, worst)])
}

fn connect(subject: &Subject, port: u16) -> Result<TcpStream> {
    let to = SocketAddrV4::new(subject.address, port);
    TcpStream::connect_timeout(&to.into(), STALL).with_context(|| format!("connect to {to}"))
}

fn prepare(stream: &TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(STALL))?;
    Ok(stream.set_write_timeout(Some(STALL))?)
}

fn thousands(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64() / 1e3
}

/// Connections opened and closed one after the other, both ends on one core. The server closes first, as one does that
/// has answered; the client then resets, which leaves no connection behind that would use up ports.
///
/// # Errors
/// When a connection does not come about.
pub fn tcp_connects(subject: &Subject, cores: Cores, time: Duration) -> Result<Figures> {
    let over = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&over);
    let (server, port) = Server::start(&subject.to, cores.first, move |tell: mpsc::Sender<u16>| {
        let listener = TcpListener::bind(ANY)?;
        set_socket_timeout(&listener, Timeout::Recv, Some(LOOK))?;
        tell.send(listener.local_addr()?.port()).ok();
        while !told.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((stream, _)) => drop(stream),
                Err(e) if is_timeout(&e) => {}
                Err(e) => return Err(e).context("wait for a connection"),
            }
        }
        Ok(())
    })?;
    let counted = inside(&subject.from, cores.first, || {
        let (mut count, mut byte, start) = (0, [0], Instant::now());
        while start.elapsed() < time {
            let mut stream = connect(subject, port)?;
            stream.set_read_timeout(Some(STALL))?;
            ensure!(stream.read(&mut byte).context("wait for the end of a connection")? == 0, "a byte that none sent");
            set_socket_linger(&stream, Some(Duration::ZERO))?;
            count += 1;
        }
        Ok((count, start.elapsed()))
    });
    over.store(true, Ordering::Relaxed);
    server.join()?;
    let (count, took) = counted?;
    Ok(vec![(Metric::Connects, thousands(count, took))])
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Datagrams as fast as one thread sends them, an end a core; what arrives while it sends counts.
///
/// # Errors
/// When a socket fails, or nothing arrives.
pub fn udp_packets(subject: &Subject, cores: Cores, time: Duration) -> Result<Figures> {
    let (over, arrived) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (told, count) = (Arc::clone(&over), Arc::clone(&arrived));
    let (server, port) = Server::start(&subject.to, cores.second, move |tell: mpsc::Sender<u16>| {
        let socket = UdpSocket::bind(ANY)?;
        set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER)?;
        socket.set_read_timeout(Some(LOOK))?;
        tell.send(socket.local_addr()?.port()).ok();
        let mut bytes = [0; 2 * SMALL];
        while !told.load(Ordering::Relaxed) {
            match socket.recv(&mut bytes) {
                Ok(_) => drop(count.fetch_add(1, Ordering::Relaxed)),
                Err(e) if is_timeout(&e) => {}
                Err(e) => return Err(e).context("receive a datagram"),
            }
        }
        Ok(())
    })?;
    let sent = inside(&subject.from, cores.first, || {
        let socket = UdpSocket::bind(ANY)?;
        socket.connect(SocketAddrV4::new(subject.address, port))?;
        let start = Instant::now();
        while start.elapsed() < time {
            for _ in 0..BATCH {
                socket.send(&[0; SMALL]).context("send a datagram")?;
            }
        }
        Ok((arrived.load(Ordering::Relaxed), start.elapsed()))
    });
    over.store(true, Ordering::Relaxed);
    server.join()?;
    let (count, took) = sent?;
    ensure!(count > 0, "no datagram arrived");
    Ok(vec![(Metric::UdpPackets, thousands(count, took))])
}

#[cfg(test)]
mod tests;
