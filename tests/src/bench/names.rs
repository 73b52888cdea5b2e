//! What an answer for a name costs, and how long it takes: by the kernel, by the controller's resolver, and by dnsmasq and
//! unbound, which serve the same names in a container of the same host.
//!
//! dnsperf asks from many addresses of one container, since the resolver takes at most 1,000 questions a second of each. The
//! time of answers is that of a client beside it that asks one question after the other.
//!
//! A server's time is that of its process; the time of soft interrupts is that of the whole machine, and holds what the
//! programs run.

mod servers;

use std::{
    io::Write as _,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use aya::sys::{Stats, enable_stats};
use tempfile::NamedTempFile;
use weave_common::dns::NameKey;
use weave_ctl::shell::netns::in_netns;

use self::servers::{Kind, Server};
use super::{cpu, programs, rounds::Samples, stats};
use crate::lab::{
    Host, Lab, Plan,
    cmd::{self, run},
    eventually,
    measure::process_seconds,
};

/// Start of the names of the hosts.
const PREFIX: &str = "weave-names";
/// Names that are asked for.
const NAMES: usize = 100;
/// Addresses that ask, and questions a second of each: less than the resolver's bound.
const SOURCES: u8 = 25;
const EACH: u32 = 800;
/// The service address of the default range.
const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 47, 255, 254);
/// Port of DNS.
const PORT: u16 = 53;
/// Pause of the client that takes the time.
const PAUSE: Duration = Duration::from_millis(1);
/// Longest wait for an answer, and for names to be known.
const STALL: Duration = Duration::from_secs(5);

/// What is asked, for the table's head.
pub const HEAD: &str = "20,000 questions a second for 100 names";

/// What is measured of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cost {
    /// Answers that came.
    Answers,
    /// Processor time of the server's process.
    Process,
    /// Processor time of soft interrupts.
    Softirq,
    /// The part of it that programs run, with the kernel's clock in them.
    Programs,
    /// Median time of an answer.
    Median,
    /// The time that 99 of 100 answers take at most.
    Worst,
}

impl Cost {
    /// All, in the order of the table.
    pub const ALL: [Self; 6] = [Self::Answers, Self::Process, Self::Softirq, Self::Programs, Self::Median, Self::Worst];

    /// Its row in the table.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Answers => "answers",
            Self::Process => "time of the server's process",
            Self::Softirq => "time of soft interrupts",
            Self::Programs => "  of programs",
            Self::Median => "time until the answer, median",
            Self::Worst => "  its 99th percentile",
        }
    }

    /// Unit of its figures.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Answers => "1000/s",
            Self::Process | Self::Softirq | Self::Programs => "us a question",
            Self::Median | Self::Worst => "us",
        }
    }

    /// Its name in JSON.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Answers => "answers_k_per_s",
            Self::Process => "process_us",
            Self::Softirq => "softirq_us",
            Self::Programs => "programs_us",
            Self::Median => "median_us",
            Self::Worst => "p99_us",
        }
    }
}

/// One server, and who asks it.
struct Subject {
    name: &'static str,
    /// Namespace of the container that asks.
    from: String,
    /// The address of its last octet 1 asks first.
    subnet: [u8; 3],
    server: SocketAddrV4,
    pid: i32,
}

/// Measures all in turn, `rounds` times for `time` each.
///
/// # Errors
/// When a server cannot be had, or the run was interrupted. What could not be measured is said in `failures`.
pub fn measure(binary: &Path, rounds: usize, time: Duration, failures: &mut Vec<String>) -> Result<Samples<Cost>> {
    let plan = Plan::new(PREFIX, 2, binary).host(2, &["--dns-kernel", "off"]);
    let lab = Lab::new(plan)?;
    lab.launch_all()?;
    let known = names(lab.host(1))?;
    let askers = lab.hosts().iter().map(asker).collect::<Result<Vec<_>>>()?;
    let other = lab.host(2).container(2);
    let address = lab.host(2).attach(&other)?;
    let (mut subjects, mut servers) = (Vec::new(), Vec::new());
    for (name, host) in [("kernel", lab.host(1)), ("resolver", lab.host(2))] {
        let (from, subnet) = askers[host.number() - 1].clone();
        let server = SocketAddrV4::new(SERVICE, PORT);
        subjects.push(Subject { name, from, subnet, server, pid: host.pid()? });
    }
    for kind in Kind::ALL {
        let server = Server::start(kind, &other, address, &known)?;
        let (from, subnet) = askers[1].clone();
        subjects.push(Subject { name: kind.name(), from, subnet, server: server.address(), pid: server.pid()? });
        servers.push(server);
    }
    for subject in &subjects {
        let answers = eventually(STALL, || subject.latencies(1).is_ok());
        ensure!(answers, "{} does not answer {}", subject.name, subject.from);
    }
    let file = questions()?;
    let mut samples = Samples::new(subjects.iter().map(|subject| subject.name).collect());
    for round in 0..rounds {
        eprintln!("  names, round {} of {rounds}", round + 1);
        for turn in 0..subjects.len() {
            let at = (round + turn) % subjects.len();
            let figures = subjects[at].figures(file.path(), time);
            ensure!(!cmd::interrupted(), "interrupted");
            match figures {
                Ok(figures) => figures.into_iter().for_each(|(cost, figure)| samples.add(at, cost, figure)),
                Err(error) => failures.push(format!("names by {}: {error:#}", subjects[at].name)),
            }
        }
    }
    Ok(samples)
}

/// What is to be judged, in words.
#[must_use]
pub fn summary(samples: &Samples<Cost>) -> String {
    let ratio = |of: (usize, Cost), base: (usize, Cost)| {
        stats::ratio(samples.of(of.0, of.1), samples.of(base.0, base.1)).map_or("-".to_owned(), |r| format!("{r:.2}"))
    };
    format!(
        "soft interrupts of the kernel's answers / process of the resolver: {} (aim: at most 0.20)\n\
         process of the resolver / process of dnsmasq: {} (aim: at most 1.50)",
        ratio((0, Cost::Softirq), (1, Cost::Process)),
        ratio((1, Cost::Process), (2, Cost::Process)),
    )
}

fn label(n: usize) -> String {
    format!("n{n}.weave.local")
}

/// Registers the names at one host; with their addresses.
fn names(host: &Host) -> Result<Vec<(String, Ipv4Addr)>> {
    let known: Vec<_> =
        (1..=NAMES).map(|n| (label(n), Ipv4Addr::new(198, 51, 100, u8::try_from(n).unwrap_or(u8::MAX)))).collect();
    for (name, addr) in &known {
        host.weave(&["dns-add", &addr.to_string(), "-H", name])?;
    }
    Ok(known)
}

/// Attaches the first container of a host with all addresses that ask, and one for the client beside.
fn asker(host: &Host) -> Result<(String, [u8; 3])> {
    let container = host.container(1);
    let subnet = [10, 40, u8::try_from(host.number())?];
    let addresses: Vec<String> = (1..=SOURCES + 1).map(|last| format!("{}/12", source(subnet, last))).collect();
    let words: Vec<&str> =
        ["attach"].into_iter().chain(addresses.iter().map(String::as_str)).chain([container.as_str()]).collect();
    host.weave(&words)?;
    Ok((container, subnet))
}

fn source([a, b, c]: [u8; 3], last: u8) -> Ipv4Addr {
    Ipv4Addr::new(a, b, c, last)
}

/// What dnsperf asks, again and again.
fn questions() -> Result<NamedTempFile> {
    let mut file = NamedTempFile::new().context("make a file of questions")?;
    for n in 1..=NAMES {
        writeln!(file, "{} A", label(n)).context("write questions")?;
    }
    Ok(file)
}

/// A question for the addresses of a name.
fn question(id: u16, name: &str) -> Result<Vec<u8>> {
    let key = NameKey::of(name).with_context(|| format!("{name} is no name"))?;
    let [high, low] = id.to_be_bytes();
    let head = [high, low, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    Ok([&head[..], &key.name[..name.len() + 2], &[0, 1, 0, 1]].concat())
}

/// Answers that dnsperf says it got.
fn completed(report: &str) -> Option<f64> {
    let line = report.lines().find_map(|line| line.trim().strip_prefix("Queries completed:"))?;
    line.split_whitespace().next()?.parse().ok()
}

impl Subject {
    /// All figures of one round.
    fn figures(&self, questions: &Path, time: Duration) -> Result<Vec<(Cost, f64)>> {
        let (process, softirq) = (process_seconds(self.pid)?, cpu::softirq_seconds()?);
        let count = time.as_millis() / (PAUSE.as_millis() + 1);
        let (answers, latencies) = thread::scope(|scope| {
            let client = scope.spawn(|| self.latencies(usize::try_from(count)?));
            let answers = self.load(questions, time);
            (answers, client.join().unwrap_or_else(|_panic| bail!("a client panicked")))
        });
        let (answers, latencies) = (answers?, latencies?);
        let each = |seconds: f64, of: f64| seconds * 1e6 / of;
        let process = each(process_seconds(self.pid)? - process, answers);
        let softirq = each(cpu::softirq_seconds()? - softirq, answers);
        let _counting = enable_stats(Stats::RunTime).context("have the kernel count the programs' time")?;
        let before = programs::seconds()?;
        let half = self.load(questions, time / 2)?;
        let programs = each(programs::seconds()? - before, half);
        let (median, worst) = (stats::median(&latencies), stats::percentile(&latencies, 99));
        Ok(vec![
            (Cost::Answers, answers / time.as_secs_f64() / 1e3),
            (Cost::Process, process),
            (Cost::Softirq, softirq),
            (Cost::Programs, programs),
            (Cost::Median, median.context("no answer came")?),
            (Cost::Worst, worst.context("no answer came")?),
        ])
    }

    /// Asks from all sources at once; the answers that came.
    fn load(&self, questions: &Path, time: Duration) -> Result<f64> {
        let seconds = time.as_secs_f64().ceil().max(1.0).to_string();
        let one = |last: u8| -> Result<f64> {
            let (net, from) = (format!("--net=/run/netns/{}", self.from), source(self.subnet, last).to_string());
            let (server, port, rate) = (self.server.ip().to_string(), self.server.port().to_string(), EACH.to_string());
            let file = questions.to_string_lossy();
            let dnsperf = ["nsenter", &net, "dnsperf", "-a", &from, "-s", &server, "-p", &port, "-d", &file];
            let report = run(&[&dnsperf[..], &["-l", &seconds, "-Q", &rate, "-c", "1", "-T", "1"]].concat())?;
            let answers = completed(&report).with_context(|| format!("dnsperf gave no figure: {report}"))?;
            ensure!(answers > 0.0, "no answer came");
            Ok(answers)
        };
        thread::scope(|scope| {
            let one = &one;
            let all: Vec<_> = (1..=SOURCES).map(|last| scope.spawn(move || one(last))).collect();
            all.into_iter().map(|one| one.join().unwrap_or_else(|_panic| bail!("a thread panicked"))).sum()
        })
    }

    /// Microseconds until each of `count` answers.
    fn latencies(&self, count: usize) -> Result<Vec<f64>> {
        let ask = || -> Result<Vec<f64>> {
            let socket = UdpSocket::bind((source(self.subnet, SOURCES + 1), 0)).context("bind")?;
            socket.connect(self.server).context("connect")?;
            socket.set_read_timeout(Some(STALL)).context("set a limit")?;
            let mut buffer = [0; 512];
            let mut all = Vec::with_capacity(count);
            for n in 0..count {
                let id = u16::try_from(n % 0xffff)?;
                let question = question(id, &label(1 + n % NAMES))?;
                let sent = Instant::now();
                socket.send(&question).context("ask")?;
                let len = socket.recv(&mut buffer).context("wait for an answer")?;
                all.push(sent.elapsed().as_secs_f64() * 1e6);
                let answered = len > question.len() && buffer[..2] == question[..2] && buffer[7] > 0;
                ensure!(answered, "{} is not answered", label(1 + n % NAMES));
                thread::sleep(PAUSE);
            }
            Ok(all)
        };
        in_netns(format!("/run/netns/{}", self.from), ask).map_err(|error| anyhow!("{error}"))?
    }
}

#[cfg(test)]
mod tests;
