//! Traffic that runs while something is done to a controller, and afterwards must be whole.
//!
//! Whether it ran while it should is counted in packets, not in seconds.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader},
    net::Ipv4Addr,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::{
    eventually,
    traffic::{TcpFlow, UdpFlow},
};

/// Datagrams a second.
const RATE: u32 = 500;
/// Bytes in a datagram.
const SIZE: usize = 200;
/// Pause between two chunks of TCP: load, but room for others on a small machine.
const PAUSE: Duration = Duration::from_millis(3);
/// Datagrams, echoes and chunks that count as "it goes on".
const MORE: u64 = 10;
/// Longest wait for them.
const MORE_WITHIN: Duration = Duration::from_secs(20);

/// An endless ping, every echo of which is accounted for.
pub struct PingFlow {
    child: Child,
    arrived: Arc<AtomicU64>,
    reader: JoinHandle<Replies>,
}

/// What ping printed.
#[derive(Default)]
struct Replies {
    numbers: BTreeSet<u64>,
    odd: Vec<String>,
}

impl PingFlow {
    /// Pings 50 times a second until stopped.
    ///
    /// # Errors
    /// When there is no `ping`.
    pub fn start(from: &str, to: Ipv4Addr) -> Result<Self> {
        let mut command = Command::new("nsenter");
        command.args([&format!("--net=/run/netns/{from}"), "ping", "-n", "-i", "0.02", &to.to_string()]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let output = child.stdout.take().context("a pipe was asked for")?;
        let arrived = Arc::new(AtomicU64::new(0));
        let arriving = Arc::clone(&arrived);
        let reader = thread::spawn(move || {
            let mut replies = Replies::default();
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                replies.note(&line, &arriving);
            }
            replies
        });
        Ok(Self { child, arrived, reader })
    }

    /// Echoes that came back so far.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Ends it.
    ///
    /// # Errors
    /// When an echo is missing, came twice, or came as an error. The last one may still be under way.
    pub fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::INT)?;
        self.child.wait()?;
        let Replies { numbers, odd } = self.reader.join().map_err(|e| anyhow!("the reader of ping panicked: {e:?}"))?;
        let last = numbers.last().copied().context("no echo came back")?;
        let missing: Vec<u64> = (1..=last).filter(|n| !numbers.contains(n)).collect();
        ensure!(missing.is_empty(), "of {last} echoes these are missing: {missing:?}; ping said {odd:?}");
        ensure!(odd.is_empty(), "ping said: {odd:?}");
        Ok(())
    }
}

impl Replies {
    fn note(&mut self, line: &str, arrived: &AtomicU64) {
        let number = line.split("icmp_seq=").nth(1).and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        match number {
            Some(number) if line.contains("time=") && !line.contains("DUP") => {
                self.numbers.insert(number);
                arrived.fetch_add(1, Ordering::Relaxed);
            }
            Some(_) => self.odd.push(line.to_owned()),
            None => {}
        }
    }
}

/// UDP both ways, a ping and a TCP connection between two containers.
pub struct Load {
    udp: [UdpFlow; 2],
    ping: PingFlow,
    tcp: TcpFlow,
}

impl Load {
    /// Starts it, and returns when it runs.
    ///
    /// # Errors
    /// When something does not begin to flow.
    pub fn start(one: &(String, Ipv4Addr), other: &(String, Ipv4Addr)) -> Result<Self> {
        let load = Self {
            udp: [
                UdpFlow::start(&one.0, &other.0, other.1, RATE, SIZE)?,
                UdpFlow::start(&other.0, &one.0, one.1, RATE, SIZE)?,
            ],
            ping: PingFlow::start(&one.0, other.1)?,
            tcp: TcpFlow::start(&one.0, &other.0, other.1, PAUSE)?,
        };
        load.goes_on()?;
        Ok(load)
    }

    fn arrived(&self) -> [u64; 4] {
        let [there, back] = &self.udp;
        [there.arrived(), back.arrived(), self.ping.arrived(), self.tcp.arrived() >> 16]
    }

    /// Returns when all of it has moved on by a number of packets.
    ///
    /// # Errors
    /// When it does not.
    pub fn goes_on(&self) -> Result<()> {
        let before = self.arrived();
        let on = |now: [u64; 4]| now.iter().zip(before).all(|(now, before)| *now >= before + MORE);
        ensure!(
            eventually(MORE_WITHIN, || on(self.arrived())),
            "traffic stands: {before:?} datagrams there and back, echoes, TCP chunks, then {:?}",
            self.arrived()
        );
        Ok(())
    }

    /// Ends it.
    ///
    /// # Errors
    /// When anything was lost, duplicated or changed.
    pub fn stop_whole(self) -> Result<()> {
        self.goes_on()?;
        self.ping.stop()?;
        self.tcp.stop().context("TCP")?;
        let flows = self.udp.map(UdpFlow::stop);
        for flow in flows {
            let flow = flow?;
            ensure!(flow.is_whole(), "{flow:?}");
        }
        Ok(())
    }
}
