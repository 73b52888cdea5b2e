//! A host whose devices, addresses and routes change all the time, as container engines and routing daemons make them.
//!
//! Two `ip -batch` read lines from this process: one makes changes that the kernel carries out at once, the other makes and
//! deletes devices, which takes it longer. None of them concerns a peer. Does not: undo what it did; the namespace goes.

use std::{
    fs,
    io::Write as _,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle, sleep},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};

use super::{Host, cmd::run};

/// Devices that exist all the time; each second one is the other end of the one before it.
const DEVICES: usize = 300;
/// Pairs made and deleted a second, two changes each.
const PAIRS_A_SECOND: u32 = 4;
/// Other changes a second.
const OTHERS_A_SECOND: u32 = 92;

/// What makes one change of a kind, by its number.
type Line = fn(u64) -> String;

/// See the head of this file.
pub struct Churn {
    stop: Arc<AtomicBool>,
    batches: Vec<JoinHandle<Result<f64>>>,
}

/// Gives a host [`DEVICES`] devices that are up and lead nowhere; every tenth has an address, as an engine's bridge has.
///
/// # Errors
/// When a command fails.
pub fn add_devices(host: &Host) -> Result<()> {
    let mut lines = String::new();
    for n in 0..DEVICES / 2 {
        lines += &format!("link add f{n} type veth peer name g{n}\nlink set f{n} up\nlink set g{n} up\n");
        if n % 5 == 0 {
            lines += &format!("addr add 172.20.{n}.1/24 dev f{n}\n");
        }
    }
    let file = tempfile::NamedTempFile::new().context("a file for the devices")?;
    fs::write(file.path(), lines)?;
    run(&["ip", "-n", host.netns(), "-batch", &file.path().to_string_lossy()]).map(drop)
}

/// Change `n` of those that take no time: a route that is replaced, one that comes or goes, a device's MTU, its state, an
/// address.
fn quick(n: u64) -> String {
    let device = n / 12 % (DEVICES as u64 / 2);
    let one = n / 12 % 200;
    match n % 12 {
        0 | 4 | 8 => format!("route replace 198.51.100.0/24 via 192.168.77.3 dev eth0 metric {}", 100 + n % 50),
        1 | 5 | 9 => format!("route add 203.0.113.{one}/32 via 192.168.77.3 dev eth0 metric {}", n % 12),
        2 | 6 | 10 => format!("route del 203.0.113.{one}/32 via 192.168.77.3 dev eth0 metric {}", n % 12 - 1),
        3 => format!("link set f{device} mtu {}", 1300 + n % 200),
        7 => format!("addr add 172.31.{one}.1/32 dev f{device}"),
        _ => format!("addr del 172.31.{one}.1/32 dev f{device}"),
    }
}

/// Change `n` of devices that come and go.
fn pair(n: u64) -> String {
    if n.is_multiple_of(2) {
        format!("link add t{n} up type veth peer name u{n}")
    } else {
        format!("link del t{}", n - 1)
    }
}

impl Churn {
    /// Changes a host about 100 times a second until it is stopped.
    ///
    /// # Errors
    /// When there is no `ip`.
    pub fn start(host: &Host) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let kinds: [(u32, Line); 2] = [(OTHERS_A_SECOND, quick), (PAIRS_A_SECOND * 2, pair)];
        let mut batches = Vec::new();
        for (rate, line) in kinds {
            let mut command = Command::new("ip");
            command.args(["-n", host.netns(), "-batch", "-"]).stdin(Stdio::piped());
            let mut child = command.spawn().context("run ip")?;
            let input = child.stdin.take().context("a pipe was asked for")?;
            let stop = Arc::clone(&stop);
            batches.push(thread::spawn(move || feed(child, input, rate, line, &stop)));
        }
        Ok(Self { stop, batches })
    }

    /// Ends it; how many changes there were a second.
    ///
    /// # Errors
    /// When the kernel refused one.
    pub fn stop(self) -> Result<f64> {
        self.stop.store(true, Ordering::Relaxed);
        let rates =
            self.batches.into_iter().map(|batch| batch.join().map_err(|e| anyhow!("a batch panicked: {e:?}"))?);
        rates.sum()
    }
}

/// Gives `ip` its lines; how many it carried out a second.
fn feed(mut ip: Child, mut input: ChildStdin, rate: u32, line: Line, stop: &AtomicBool) -> Result<f64> {
    let (start, mut lines) = (Instant::now(), 0);
    while !stop.load(Ordering::Relaxed) {
        writeln!(input, "{}", line(lines)).context("ip ended")?;
        lines += 1;
        sleep((start + Duration::from_secs(lines) / rate).saturating_duration_since(Instant::now()));
    }
    drop(input);
    let status = ip.wait()?;
    ensure!(status.success(), "ip ended with {status} after {lines} lines, the last: {}", line(lines - 1));
    Ok(lines as f64 / start.elapsed().as_secs_f64())
}
