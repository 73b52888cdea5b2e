//! The kernel's table of neighbours, as far as it is full: packets to hosts that find no room in it are dropped by the
//! kernel, and by no counter of ours.
//!
//! The table, its bound and its counters are one for all network namespaces of the machine.
//! Does not: look at entries, or change the bound.

use std::fs;

/// Where the counters are: in the namespace that the machine started with, and in no other.
const FILES: [&str; 2] = ["/proc/1/net/stat/arp_cache", "/proc/net/stat/arp_cache"];
/// Where the bound is.
const BOUND: &str = "/proc/sys/net/ipv4/neigh/default/gc_thresh3";
/// The counter of entries that were not made for want of room.
const COLUMN: &str = "table_fulls";

/// How often the table was full, since a moment.
#[derive(Debug)]
pub struct Neighbours {
    /// What the counter was at that moment; `None` where it cannot be read.
    before: Option<u64>,
}

impl Neighbours {
    /// Counts from now on.
    #[must_use]
    pub fn watch() -> Self {
        Self { before: read() }
    }

    /// What the operator should know; `None` when the table was never full.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let times = read()?.checked_sub(self.before?).filter(|times| *times > 0)?;
        let bound = fs::read_to_string(BOUND).unwrap_or_default();
        let now = if bound.is_empty() { String::new() } else { format!(" (now {})", bound.trim()) };
        Some(format!(
            "the kernel's neighbour table was full {times} times since the launch: packets to other hosts and gateways that \
             had no entry were dropped, for all namespaces of this machine; raise net.ipv4.neigh.default.gc_thresh3{now}"
        ))
    }
}

fn read() -> Option<u64> {
    FILES.iter().find_map(|file| fs::read_to_string(file).ok()).and_then(|text| table_fulls(&text))
}

/// The counter's sum over the lines of all CPUs: hexadecimal figures under a line of names.
fn table_fulls(text: &str) -> Option<u64> {
    let mut lines = text.lines();
    let at = lines.next()?.split_whitespace().position(|name| name == COLUMN)?;
    lines.map(|line| u64::from_str_radix(line.split_whitespace().nth(at)?, 16).ok()).sum()
}

#[cfg(test)]
mod tests;
