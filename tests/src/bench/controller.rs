//! What a controller costs: time to be ready, time of its verbs, memory.
//!
//! Times are those of whole commands, as an operator waits for them.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::lab::{Host, Lab, Plan, cmd, eventually, underlay};

/// Start of the names of the hosts, and their number: a controller and its two peers.
const PREFIX: &str = "weave-bench";
const HOSTS: usize = 3;
/// Start of the names of hosts that are made for one launch.
const FRESH: &str = "weave-fresh";
/// Containers attached and detached.
const CONTAINERS: usize = 20;
/// Longest wait for links after a launch.
const LINKS: Duration = Duration::from_secs(15);
/// After this long without work a controller's memory is looked at.
const SETTLE: Duration = Duration::from_millis(500);

/// A row of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was measured.
    pub title: &'static str,
    /// Its name in JSON.
    pub key: &'static str,
    /// Unit of the figures.
    pub unit: &'static str,
    /// What the project aims at; empty where there is no aim.
    pub aim: &'static str,
    /// In the order taken.
    pub figures: Vec<f64>,
}

pub(super) fn row(
    title: &'static str,
    key: &'static str,
    unit: &'static str,
    aim: &'static str,
    figures: Vec<f64>,
) -> Row {
    Row { title, key, unit, aim, figures }
}

/// Measures a controller among others, and launches on hosts made for that. What could not be measured is said in
/// `failures`.
///
/// # Errors
/// When there is nothing to measure, or the run was interrupted.
pub fn measure(binary: &Path, launches: usize, failures: &mut Vec<String>) -> Result<Vec<Row>> {
    eprintln!("  controller");
    let lab = Lab::ready(Plan::new(PREFIX, HOSTS, binary))?;
    let mut rows = Vec::new();
    let measured = [
        memory(lab.host(1)).map(|figures| rows.extend(figures)),
        memory_with_password(binary).map(|figures| rows.push(figures)),
        fresh_launches(binary, launches).map(|figures| rows.push(figures)),
        relaunches(&lab, launches).map(|figures| rows.push(figures)),
        verbs(lab.host(1)).map(|figures| rows.extend(figures)),
    ];
    ensure!(!cmd::interrupted(), "interrupted");
    failures.extend(measured.into_iter().filter_map(Result::err).map(|e| format!("controller: {e:#}")));
    Ok(rows)
}

/// Milliseconds that `work` takes.
fn milliseconds<T>(work: impl FnOnce() -> Result<T>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

fn memory(host: &Host) -> Result<[Row; 3]> {
    std::thread::sleep(SETTLE);
    let status = fs::read_to_string(format!("/proc/{}/status", host.pid()?)).context("read a controller's status")?;
    let field = |name: &str| mebibytes(&status, name).with_context(|| format!("a controller's status has no {name}"));
    Ok([
        row("memory with 2 peers (VmRSS)", "rss_mib", "MiB", "under 20", vec![field("VmRSS")?]),
        row("  its peak (VmHWM)", "rss_peak_mib", "MiB", "under 20", vec![field("VmHWM")?]),
        row("  not from files (RssAnon)", "rss_anon_mib", "MiB", "", vec![field("RssAnon")?]),
    ])
}

/// The same of one that derived a key from a password, which takes much memory for a moment.
fn memory_with_password(binary: &Path) -> Result<Row> {
    let lab = Lab::new(Plan { containers: 0, ..Plan::new(FRESH, 1, binary) })?;
    let mut command = lab.host(1).command(&["launch", "--seed", "::1", "--name", "::1"]);
    let program =
        command.iter().position(|word| Path::new(word) == binary).context("find the program in its command")?;
    command.splice(program..program, ["env", "WEAVE_PASSWORD=bench"].map(str::to_owned));
    cmd::run(&command.iter().map(String::as_str).collect::<Vec<_>>())?;
    let [resident, ..] = memory(lab.host(1))?;
    Ok(Row { title: "memory with a password (VmRSS)", key: "rss_password_mib", ..resident })
}

/// A field of `/proc/PID/status` in kB.
fn mebibytes(status: &str, field: &str) -> Option<f64> {
    let value = status.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':'))?;
    value.split_whitespace().next()?.parse::<f64>().ok().map(|kib| kib / 1024.0)
}

/// Launches on hosts that have nothing yet: no store, no pins, no devices of ours.
fn fresh_launches(binary: &Path, launches: usize) -> Result<Row> {
    let mut figures = Vec::new();
    for _ in 0..launches {
        let lab = Lab::new(Plan { containers: 0, ..Plan::new(FRESH, 1, binary) })?;
        figures.push(milliseconds(|| lab.host(1).weave(&["launch", "--seed", "::1", "--name", "::1"]))?);
    }
    Ok(row("launch to ready, fresh host", "launch_ms", "ms", "under 1000", figures))
}

/// Stops and launches on a host with containers: maps are adopted, programs replaced, the store read.
fn relaunches(lab: &Lab, launches: usize) -> Result<Row> {
    let (host, first, all) = (lab.host(2), underlay(1).to_string(), lab.hosts().len());
    let seeds = (1..=all).map(|n| format!("::{n}")).collect::<Vec<_>>().join(",");
    let mut figures = Vec::new();
    for _ in 0..launches {
        host.weave(&["stop"])?;
        figures.push(milliseconds(|| host.weave(&["launch", "--name", "::2", "--seed", &seeds, &first]))?);
        ensure!(eventually(LINKS, || host.established() == all - 1), "links do not come back after a launch");
    }
    Ok(row("launch to ready, maps adopted", "relaunch_ms", "ms", "under 1000", figures))
}

fn verbs(host: &Host) -> Result<Vec<Row>> {
    let first = host.containers().len() + 1;
    let names = (first..first + CONTAINERS).map(|c| host.add_container(c)).collect::<Result<Vec<_>>>()?;
    let time =
        |verb: &str| names.iter().map(|name| milliseconds(|| host.weave(&[verb, name]))).collect::<Result<Vec<f64>>>();
    let (attach, detach) = (time("attach")?, time("detach")?);
    let storm = storm(host, &names)?;
    let status = (0..CONTAINERS).map(|_| milliseconds(|| host.weave(&["status"]))).collect::<Result<Vec<f64>>>()?;
    Ok(vec![
        row("attach", "attach_ms", "ms", "under 100", attach),
        row("detach", "detach_ms", "ms", "", detach),
        row("status", "status_ms", "ms", "", status),
        row("attach, 20 at once", "attach_per_s", "1/s", "", vec![storm]),
    ])
}

/// Containers attached a second when all are attached at once.
fn storm(host: &Host, names: &[String]) -> Result<f64> {
    let start = Instant::now();
    std::thread::scope(|scope| {
        let all: Vec<_> = names.iter().map(|name| scope.spawn(|| host.weave(&["attach", name]).map(drop))).collect();
        all.into_iter().try_for_each(|one| one.join().unwrap_or_else(|_| anyhow::bail!("a thread panicked")))
    })?;
    Ok(names.len() as f64 / start.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests;
