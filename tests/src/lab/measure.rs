//! Figures of the scenes: printed for `cargo xtask soak`, which repeats tests and sums their figures up.
//!
//! A figure is a line `measured: NAME VALUE UNIT` on standard output, NAME and UNIT without spaces; `--nocapture` shows
//! it. How often a scene repeats its step, for how long it cuts a path and for how long it changes a host may be set from
//! outside: `WEAVE_ROUNDS`, `WEAVE_CUT_SECONDS` and `WEAVE_CHURN_SECONDS`.
//!
//! Does not: judge. A test asserts bounds ten times as wide as the promise; the promise is judged by the sums.

use std::{
    fmt::Display,
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::eventually;

/// Prints a figure.
pub fn measured(name: &str, value: impl Display, unit: &str) {
    println!("measured: {name} {value} {unit}");
}

/// Prints a time in seconds.
pub fn measured_time(name: &str, time: Duration) {
    measured(name, format_args!("{:.3}", time.as_secs_f64()), "s");
}

/// How often a scene repeats its step: `WEAVE_ROUNDS`, or `usual`.
///
/// # Panics
/// When the variable is no number.
#[must_use]
pub fn rounds(usual: usize) -> usize {
    number("WEAVE_ROUNDS").unwrap_or(usual)
}

/// For how long a path is cut in the long rounds of the fail-over scenes: `WEAVE_CUT_SECONDS`, or 10.
///
/// # Panics
/// When the variable is no number.
#[must_use]
pub fn long_cut() -> Duration {
    Duration::from_secs(number("WEAVE_CUT_SECONDS").unwrap_or(10) as u64)
}

/// For how long a host's devices and routes change: `WEAVE_CHURN_SECONDS`, or 10.
///
/// # Panics
/// When the variable is no number.
#[must_use]
pub fn churn() -> Duration {
    Duration::from_secs(number("WEAVE_CHURN_SECONDS").unwrap_or(10) as u64)
}

fn number(name: &str) -> Option<usize> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|e| panic!("{name}={text} is no number: {e}")))
}

/// Waits until `condition` holds; how long that took, or nothing when it does not hold within `limit`.
pub fn time_until(limit: Duration, condition: impl FnMut() -> bool) -> Option<Duration> {
    let start = Instant::now();
    eventually(limit, condition).then(|| start.elapsed())
}

/// The middle one, the lower of two.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() - 1) / 2]
}

/// Ticks a second in `/proc/PID/stat`: part of the kernel's ABI, whatever its own clock does.
const USER_HZ: f64 = 100.0;

/// Seconds that a process has run since its start, all its threads together, in user space and in the kernel.
///
/// # Errors
/// When there is no such process.
pub fn process_seconds(pid: i32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("look at process {pid}"))?;
    // The name of the program before these fields may hold anything.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: Vec<f64> = fields.skip(11).take(2).flat_map(str::parse).collect();
    ensure!(ticks.len() == 2, "/proc/{pid}/stat has no times");
    Ok(ticks.iter().sum::<f64>() / USER_HZ)
}
