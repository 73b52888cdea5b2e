//! Which core a thread runs on, and how much processor time the machine has spent.

use std::{
    fs, io,
    net::Ipv4Addr,
    sync::mpsc,
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result, anyhow};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use weave_ctl::shell::netns::in_netns;

/// Ticks a second in `/proc/stat`: part of the kernel's ABI, whatever its own clock does.
const USER_HZ: f64 = 100.0;

/// The cores that the two ends of a measurement run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cores {
    /// Both ends, where the cost of the path counts; the sending end, where both have a core of their own.
    pub first: usize,
    /// The receiving end, where both have a core of their own.
    pub second: usize,
}

impl Cores {
    /// The first two that this process may use; the same twice where there is only one.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn allowed() -> Result<Self> {
        let set = sched_getaffinity(None).context("ask for the cores that may be used")?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core));
        let first = cores.next().context("no core may be used")?;
        Ok(Self { first, second: cores.next().unwrap_or(first) })
    }
}

/// Keeps the calling thread, and what it starts, on `core`.
///
/// # Errors
/// What the kernel says.
pub fn pin(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// Runs `work` on `core` in a network namespace, on a thread of its own, and waits for it.
///
/// # Errors
/// As `work`, and when the namespace cannot be entered.
pub fn inside<T: Send>(netns: &str, core: usize, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    in_netns(format!("/run/netns/{netns}"), || {
        pin(core)?;
        work()
    })
    .map_err(|e| anyhow!("{e}"))?
}

/// The receiving end of a measurement, on a thread of its own.
pub struct Server<T>(JoinHandle<Result<T>>);

impl<T: Send + 'static> Server<T> {
    /// Runs `serve` on `core` in a network namespace. It tells the port that it listens on.
    ///
    /// # Errors
    /// As `serve`, when it ends without telling.
    pub fn start(
        netns: &str,
        core: usize,
        serve: impl FnOnce(mpsc::Sender<u16>) -> Result<T> + Send + 'static,
    ) -> Result<(Self, u16)> {
        let (tell, told) = mpsc::channel();
        let netns = netns.to_owned();
        let thread = thread::spawn(move || inside(&netns, core, move || serve(tell)));
        match told.recv() {
            Ok(port) => Ok((Self(thread), port)),
            Err(_) => {
                Self(thread).join()?;
                Err(anyhow!("a server ended at once"))
            }
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// As what it ran.
    pub fn join(self) -> Result<T> {
        self.0.join().map_err(|_panic| anyhow!("a server panicked"))?
    }
}

/// Any address of a namespace, any port.
pub const ANY: (Ipv4Addr, u16) = (Ipv4Addr::UNSPECIFIED, 0);

/// Seconds that all cores together have spent in the kernel since the machine started: for programs and for interrupts.
///
/// # Errors
/// When `/proc/stat` is not as it should be.
pub fn kernel_seconds() -> Result<f64> {
    kernel(&fs::read_to_string("/proc/stat").context("read /proc/stat")?).context("/proc/stat has no line of all cores")
}

/// Seconds that all cores together have spent with soft interrupts since the machine started: what packets cost.
///
/// # Errors
/// When `/proc/stat` is not as it should be.
pub fn softirq_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    sum(&stat, &[6]).context("/proc/stat has no line of all cores")
}

fn kernel(stat: &str) -> Option<f64> {
    sum(stat, &[2, 5, 6])
}

/// Fields of the line: user, nice, system, idle, iowait, irq, softirq.
fn sum(stat: &str, fields: &[usize]) -> Option<f64> {
    let all: Vec<f64> =
        stat.lines().find_map(|l| l.strip_prefix("cpu "))?.split_whitespace().flat_map(str::parse).collect();
    let ticks: Option<f64> = fields.iter().map(|at| all.get(*at)).sum();
    ticks.map(|ticks| ticks / USER_HZ)
}

#[cfg(test)]
mod tests;
