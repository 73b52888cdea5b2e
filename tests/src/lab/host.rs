//! One host of the Lab: its namespace, its controller, its containers.

use std::{
    collections::BTreeSet,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use weave_common::config::SCHEMA;

use super::cmd::{self, run};

/// Where BPF file systems are mounted.
pub const BPF_ROOT: &str = "/sys/fs/bpf";

/// Longest wait, in milliseconds, for a process that is about to have a command line.
const STARTING: u32 = 200;

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Host {
    number: usize,
    netns: String,
    run: PathBuf,
    state: PathBuf,
    pins: PathBuf,
    binary: PathBuf,
}

impl Host {
    pub(super) fn new(number: usize, prefix: &str, dir: &Path, binary: &Path) -> Self {
        Self {
            number,
            netns: format!("{prefix}-h{number}"),
            run: dir.join(format!("h{number}/run")),
            state: dir.join(format!("h{number}/state")),
            pins: Path::new(BPF_ROOT).join(format!("{prefix}-h{number}")),
            binary: binary.to_owned(),
        }
    }

    pub(super) fn make(&self) -> Result<()> {
        run(&["ip", "netns", "add", &self.netns])?;
        run(&["ip", "-n", &self.netns, "link", "set", "lo", "up"])?;
        Ok(())
    }

    /// The place of a second controller on this host, with directories of its own.
    #[must_use]
    pub fn second(&self) -> Self {
        let other = |path: &Path, name: &str| path.with_file_name(format!("{name}-2"));
        self.with_dirs([&other(&self.run, "run"), &other(&self.state, "state"), &other(&self.pins, &self.netns)])
    }

    /// This host with other directories: of sockets, of the store, of pins.
    #[must_use]
    pub fn with_dirs(&self, [run, state, pins]: [&Path; 3]) -> Self {
        Self { run: run.to_owned(), state: state.to_owned(), pins: pins.to_owned(), ..self.clone() }
    }

    /// This host with another `weave-ctl`.
    #[must_use]
    pub fn with_binary(&self, binary: &Path) -> Self {
        Self { binary: binary.to_owned(), ..self.clone() }
    }

    /// Adds container `c`: an empty namespace.
    ///
    /// # Errors
    /// When the command fails.
    pub fn add_container(&self, c: usize) -> Result<String> {
        let name = self.container(c);
        run(&["ip", "netns", "add", &name])?;
        run(&["ip", "-n", &name, "link", "set", "lo", "up"])?;
        Ok(name)
    }

    /// Number of the host, from 1.
    #[must_use]
    pub fn number(&self) -> usize {
        self.number
    }

    /// Name of its namespace.
    #[must_use]
    pub fn netns(&self) -> &str {
        &self.netns
    }

    /// Name of container `c`, from 1.
    #[must_use]
    pub fn container(&self, c: usize) -> String {
        format!("{}c{c}", self.netns)
    }

    /// Names of its containers that exist.
    #[must_use]
    pub fn containers(&self) -> Vec<String> {
        super::namespaces(&format!("{}c", self.netns))
    }

    /// The directory of its pins.
    #[must_use]
    pub fn bpf_dir(&self) -> PathBuf {
        self.pins.clone()
    }

    /// The directory of its store.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.state.clone()
    }

    /// The directory of its socket and log.
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        self.run.clone()
    }

    /// The command line of `weave-ctl` on this host.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Vec<String> {
        let dirs = [("--run-dir", self.run_dir()), ("--state-dir", self.state_dir()), ("--bpf-dir", self.bpf_dir())];
        let mut command =
            vec!["nsenter".to_owned(), format!("--net=/run/netns/{}", self.netns), self.binary.display().to_string()];
        for (flag, dir) in dirs {
            command.extend([flag.to_owned(), dir.display().to_string()]);
        }
        command.extend(args.iter().map(|a| (*a).to_owned()));
        command
    }

    /// Runs `weave-ctl` on this host; whatever came of it.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn try_weave(&self, args: &[&str]) -> Result<Output> {
        let command = self.command(args);
        cmd::output(&command.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Runs `weave-ctl` on this host; its standard output.
    ///
    /// # Errors
    /// When it fails.
    pub fn weave(&self, args: &[&str]) -> Result<String> {
        let command = self.command(args);
        run(&command.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Launches the controller under the host's number as name and nickname, with these arguments too; what it printed.
    ///
    /// # Errors
    /// When it refuses.
    pub fn launch(&self, args: &[&str]) -> Result<String> {
        let names =
            ["launch", "--name", &format!("::{:x}", self.number), "--nickname", &format!("host-{}", self.number)];
        self.weave(&[&names, args].concat())
    }

    /// The sentence with which `weave-ctl` refuses on this host.
    ///
    /// # Errors
    /// When it does not end with `status`, prints anything else, or says more or less than one line.
    pub fn refused(&self, args: &[&str], status: i32) -> Result<String> {
        let output = self.try_weave(args)?;
        let said = cmd::text(&output);
        let what = args.join(" ");
        ensure!(output.status.code() == Some(status), "`{what}` ended with {}, not {status}: {said}", output.status);
        ensure!(output.stdout.is_empty(), "`{what}` was refused, yet printed: {said}");
        ensure!(said.trim_end().lines().count() == 1, "`{what}` was not refused with one line: {said:?}");
        Ok(said.trim_end().to_owned())
    }

    /// Begins `weave-ctl` on this host and does not wait; its output is dropped.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn begin(&self, args: &[&str]) -> Result<Child> {
        let command = self.command(args);
        let mut child = Command::new(&command[0]);
        child.args(&command[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        child.spawn().context("run weave-ctl")
    }

    /// Entries of a pinned map, with the fields' names, as bpftool prints them.
    ///
    /// # Errors
    /// When there is no such map.
    pub fn map(&self, name: &str) -> Result<Vec<Value>> {
        let pin = self.pins.join(format!("v{SCHEMA}/maps/{name}"));
        let text = run(&["bpftool", "-j", "map", "dump", "pinned", &pin.display().to_string()])?;
        let entries: Vec<Value> = serde_json::from_str(&text).with_context(|| format!("bpftool printed {text}"))?;
        // With options like -j, bpftool prints bytes and, from BTF, the fields.
        Ok(entries.into_iter().map(|mut e| e["formatted"].take()).collect())
    }

    /// Addresses of containers in the kernel's table of endpoints: all but the service address.
    ///
    /// # Errors
    /// When bpftool fails or prints no addresses, or the controller does not answer.
    pub fn endpoints(&self) -> Result<BTreeSet<Ipv4Addr>> {
        let service = self.json(&["status"])?["dns"]["address"].as_str().and_then(|text| text.parse().ok());
        let address = |entry: &Value| {
            let addr = &entry["key"]["addr"];
            let list = addr.as_array().or_else(|| addr["__0"].as_array())?;
            let bytes: Vec<u8> = list.iter().filter_map(|byte| byte.as_u64()?.try_into().ok()).collect();
            Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?))
        };
        let all = self.map("weave_endpoints")?;
        let read = all.iter().map(|entry| address(entry).with_context(|| format!("no address in {entry}")));
        let read: BTreeSet<Ipv4Addr> = read.collect::<Result<_>>()?;
        Ok(read.into_iter().filter(|addr| Some(*addr) != service).collect())
    }

    /// What `ps` shows of a container; nothing when it is not there.
    ///
    /// # Errors
    /// When `ps` fails.
    pub fn ps(&self, container: &str) -> Result<Option<Value>> {
        let all = self.json(&["ps"])?;
        Ok(all.as_array().and_then(|all| all.iter().find(|c| c["owner"] == container)).cloned())
    }

    /// Links, attempts and their reasons.
    ///
    /// # Errors
    /// When `status` fails.
    pub fn connections(&self) -> Result<Vec<Value>> {
        Ok(self.json(&["status"])?["connections"].as_array().cloned().unwrap_or_default())
    }

    /// What `weave-ctl` says as JSON.
    ///
    /// # Errors
    /// When it fails or prints something else.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let text = self.weave(&[args, &["--json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("`{}` printed no JSON: {text}", args.join(" ")))
    }

    /// Attaches a container; its address.
    ///
    /// # Errors
    /// When it is refused.
    pub fn attach(&self, container: &str) -> Result<Ipv4Addr> {
        self.weave(&["attach", container])?;
        self.address(container)
    }

    /// The address of an attached container, as the container's own interface has it.
    ///
    /// # Errors
    /// When it has none.
    pub fn address(&self, container: &str) -> Result<Ipv4Addr> {
        let text = run(&["ip", "-n", container, "-o", "-4", "addr", "show", "dev", "ethwe"])?;
        let field = text.split_whitespace().skip_while(|w| *w != "inet").nth(1);
        let net = field.with_context(|| format!("{container} has no address: {text}"))?;
        net.split('/').next().unwrap_or_default().parse().with_context(|| format!("{net} is no address"))
    }

    /// Number of links that are established.
    #[must_use]
    pub fn established(&self) -> usize {
        self.connections().unwrap_or_default().iter().filter(|c| c["state"] == "established").count()
    }

    /// What `status connections` prints, with the host's name.
    #[must_use]
    pub fn connections_text(&self) -> String {
        let text = self.weave(&["status", "connections"]).unwrap_or_else(|e| e.to_string());
        format!("{}:\n{text}", self.netns)
    }

    /// Resident memory of the controller in KiB.
    ///
    /// # Errors
    /// When none runs, or the kernel does not say.
    pub fn memory(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()?)).context("read its status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no memory in it")?;
        line.split_whitespace().next().context("no figure in it")?.parse().context("read its memory")
    }

    /// Number of the controller's process.
    ///
    /// # Errors
    /// When none runs.
    pub fn pid(&self) -> Result<i32> {
        self.processes()?.first().copied().with_context(|| format!("no controller runs on {}", self.netns))
    }

    /// Processes of a controller, or of a launch, in this run directory.
    fn processes(&self) -> Result<Vec<i32>> {
        let run_dir = format!("{} ", self.run_dir().display());
        let mut found = Vec::new();
        // Not those of the namespace: a launch that is about to enter it counts too.
        for entry in fs::read_dir("/proc").context("list processes")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let line = command_line(pid);
            if line.contains("weave-ctl") && line.contains(&run_dir) && line.contains(" launch") {
                found.push(pid);
            }
        }
        Ok(found)
    }

    /// kill -9 of the controller; returns when the process is gone.
    ///
    /// # Errors
    /// When none runs.
    pub fn kill(&self) -> Result<()> {
        cmd::end(self.pid()?, Signal::KILL)
    }

    /// kill -9 of all that runs for this controller, a launch that is under way included.
    ///
    /// # Errors
    /// When something does not end.
    pub fn kill_all(&self) -> Result<()> {
        // Again while there are any: one may have been starting another.
        loop {
            let all = self.processes()?;
            if all.is_empty() {
                return Ok(());
            }
            all.into_iter().try_for_each(|pid| cmd::end(pid, Signal::KILL))?;
        }
    }

    /// The last lines of the controller's log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        let text = fs::read_to_string(self.run_dir().join("weave-ctl.log")).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

/// The command line of a process, a space after each word; empty when it has none or is gone.
///
/// In the middle of starting a program a process has none for a moment: that is waited for.
fn command_line(pid: i32) -> String {
    for _ in 0..STARTING {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        // The kernel's own threads, and what has ended, never have one, and no program either.
        if !line.is_empty() || fs::read_link(format!("/proc/{pid}/exe")).is_err() {
            return String::from_utf8_lossy(&line).replace('\0', " ");
        }
        sleep(Duration::from_millis(1));
    }
    String::new()
}

/// Pings from a namespace; true when all of `count` came back.
#[must_use]
pub fn ping(netns: &str, to: Ipv4Addr, count: u32) -> bool {
    ping_with(netns, to, &["-c", &count.to_string(), "-i", "0.05", "-W", "1"])
}

/// Pings with these flags of `ping`; true when it succeeds.
#[must_use]
pub fn ping_with(netns: &str, to: Ipv4Addr, flags: &[&str]) -> bool {
    let flags = [&["-q"], flags].concat();
    ping_output(netns, to, &flags).is_ok_and(|o| o.status.success())
}

/// Pings with these flags of `ping`; whatever came of it.
///
/// # Errors
/// When it cannot be run.
pub fn ping_output(netns: &str, to: Ipv4Addr, flags: &[&str]) -> Result<Output> {
    let (net, to) = (format!("--net=/run/netns/{netns}"), to.to_string());
    cmd::output(&[&["nsenter", &net, "ping", "-n"], flags, &[&to]].concat())
}
