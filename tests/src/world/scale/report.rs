//! The figures of a network of many nodes, as text, and whether they are what they must be.

use std::{fmt, fs, time::Duration};

use crate::world::{HostId, World};

/// Most bits a second that an idle node may send, links and probes together.
const IDLE_MAX: f64 = 100e3;
/// Within this time all must know a new node.
const JOIN_MAX: Duration = Duration::from_secs(5);
/// Most bytes of a node's memory for each thousand nodes, or part of it.
const THOUSAND_MAX: u64 = 20 << 20;

/// Least, mean and most.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Spread {
    least: f64,
    mean: f64,
    most: f64,
}

impl Spread {
    pub(super) fn of(values: impl Iterator<Item = usize>) -> Self {
        let values: Vec<f64> = values.map(|v| v as f64).collect();
        let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        Self { least, mean, most: values.iter().copied().fold(0.0, f64::max) }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} ({:.1} to {:.1})", self.mean, self.least, self.most)
    }
}

/// What a node sends a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Cost {
    frames: f64,
    probes: f64,
    frame_bits: f64,
    probe_bits: f64,
    /// All bits of the node that sends most.
    most: f64,
    seconds: f64,
}

impl Cost {
    /// The mean over all nodes of what was counted for `time`.
    pub(super) fn of(world: &World, time: Duration) -> Self {
        let seconds = time.as_secs_f64().max(0.001);
        let each = 1.0 / seconds / world.hosts.len().max(1) as f64;
        let mut cost = Self { seconds, ..Self::default() };
        for (_, sent) in world.meter().sent() {
            cost.frames += sent.frames.messages as f64 * each;
            cost.probes += sent.probes.messages as f64 * each;
            cost.frame_bits += sent.frames.bytes as f64 * 8.0 * each;
            cost.probe_bits += sent.probes.bytes as f64 * 8.0 * each;
            cost.most = cost.most.max((sent.frames.bytes + sent.probes.bytes) as f64 * 8.0 / seconds);
        }
        cost
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.1} kbit/s on links in {:.1} frames, {:.1} kbit/s of probes in {:.1}; {:.1} kbit/s at most (over {:.0} s)",
            self.frame_bits / 1e3,
            self.frames,
            self.probe_bits / 1e3,
            self.probes,
            self.most / 1e3,
            self.seconds,
        )
    }
}

/// Bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    /// Of one core, with what several share in this process and each would have for itself.
    pub(super) node: u64,
    /// Of the whole process, with the simulated kernels and network.
    pub(super) resident: u64,
}

/// See the head of this file. A time that is `None` was over the limit.
#[derive(Clone, Debug)]
pub struct Report {
    nodes: HostId,
    pub(super) gathered: Option<Duration>,
    pub(super) links: Spread,
    pub(super) idle: Cost,
    pub(super) join: Option<Duration>,
    pub(super) newcomer: Option<Duration>,
    pub(super) joined: Cost,
    pub(super) leave: Option<Duration>,
    pub(super) forgotten: Option<Duration>,
    pub(super) cut: Option<Duration>,
    pub(super) healed: Option<Duration>,
    pub(super) memory: Memory,
    pub(super) wall: Duration,
}

impl Report {
    pub(super) fn new(nodes: HostId) -> Self {
        Self {
            nodes,
            gathered: None,
            links: Spread::default(),
            idle: Cost::default(),
            join: None,
            newcomer: None,
            joined: Cost::default(),
            leave: None,
            forgotten: None,
            cut: None,
            healed: None,
            memory: Memory::default(),
            wall: Duration::ZERO,
        }
    }

    /// What is not as it must be; nothing when all is well.
    #[must_use]
    pub fn wrong(&self) -> Vec<String> {
        let times = [
            ("all know all", self.gathered, super::LIMIT),
            ("a join is known everywhere", self.join, JOIN_MAX),
            ("the newcomer knows everybody", self.newcomer, JOIN_MAX),
            ("a leave is known", self.leave, super::LIMIT),
            ("who left is forgotten everywhere", self.forgotten, super::LIMIT),
            ("a cut of half is known", self.cut, super::LIMIT),
            ("its healing is known", self.healed, super::LIMIT),
        ];
        let late = times.into_iter().filter(|(_, took, limit)| took.is_none_or(|took| took > *limit));
        let mut wrong: Vec<String> =
            late.map(|(what, took, limit)| format!("{what}: {}, must be {} s", time(took), limit.as_secs())).collect();
        let idle = self.idle.frame_bits + self.idle.probe_bits;
        if idle > IDLE_MAX {
            wrong.push(format!("an idle node sends {:.1} kbit/s, may {:.1}", idle / 1e3, IDLE_MAX / 1e3));
        }
        let most = THOUSAND_MAX * u64::from(self.nodes).div_ceil(1000);
        if self.memory.node > most {
            wrong.push(format!("a node needs {:.1} MiB, may {:.1}", mib(self.memory.node), mib(most)));
        }
        wrong
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = format!(
            "{:.2} MiB a core; the process {:.1} MiB, {:.2} MiB a node",
            mib(self.memory.node),
            mib(self.memory.resident),
            mib(self.memory.resident) / f64::from(self.nodes),
        );
        let rows = [
            ("all know all after the last launch", time(self.gathered)),
            ("links a node", self.links.to_string()),
            ("idle, sent by a node", self.idle.to_string()),
            ("a join is known everywhere", time(self.join)),
            ("the newcomer knows everybody", time(self.newcomer)),
            ("a join, sent by a node", self.joined.to_string()),
            ("a leave is known", time(self.leave)),
            ("who left is forgotten everywhere", time(self.forgotten)),
            ("a cut of half is known", time(self.cut)),
            ("its healing is known", time(self.healed)),
            ("memory", memory),
            ("wall time", format!("{:.1} s", self.wall.as_secs_f64())),
        ];
        writeln!(f, "{} nodes", self.nodes)?;
        rows.iter().try_for_each(|(what, figure)| writeln!(f, "  {what:<36} {figure}"))
    }
}

pub(super) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// A time that was measured, unless it was over the limit.
pub(super) fn time(time: Option<Duration>) -> String {
    let over = || format!("not within {} s", super::LIMIT.as_secs());
    time.map_or_else(over, |time| format!("{:.1} s", time.as_secs_f64()))
}

/// Resident memory of this process in bytes; zero where the kernel does not say.
pub(super) fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests;
