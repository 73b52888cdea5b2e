//! The Lab: hosts as network namespaces on one underlay, containers as namespaces, real controllers, the real kernel.
//!
//! ```text
//!   hN-c1  hN-c2      containers (namespaces without anything but what `attach` gives them)
//!      \   /
//!       hN            host: its own namespace, controller, store, pins; `eth0` is 192.168.77.N/24
//!        |
//!     switch          one bridge; a second underlay, where a test adds one, is another bridge and `eth1`, 192.168.78.N
//! ```
//! Everything is named by the Lab's prefix and removed when the Lab is dropped, also by a panicking test; what a killed
//! run left behind is removed by the next Lab of the same prefix. Needs root.
//!
//! Bounds: [`HOSTS_MAX`] hosts; every command of the Lab has a time limit.

pub mod churn;
pub mod cmd;
pub mod device;
pub mod everyone;
pub mod faults;
pub mod firewall;
pub mod flood;
pub mod host;
pub mod ipam;
pub mod load;
pub mod machine;
pub mod measure;
pub mod member;
pub mod peer;
pub mod plan;
pub mod router;
pub mod slow_netlink;
pub mod speed;
pub mod superpacket;
pub mod tables;
pub mod timeline;
pub mod traffic;
pub mod view;
pub mod wire;

use std::{
    collections::BTreeSet,
    fs,
    net::Ipv4Addr,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener},
    },
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, sleep},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use self::{
    cmd::{run, run_always},
    faults::Fault,
    machine::Machine,
    wire::{Station, Stations},
};
pub use self::{
    everyone::Everyone,
    faults::Traffic,
    host::Host,
    plan::{Plan, weave_ctl},
};

/// Most hosts in a Lab.
pub const HOSTS_MAX: usize = 64;
/// Longest name prefix: namespaces and veths are named after it.
const PREFIX_MAX: usize = 12;
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);
/// Longest wait for all links, or for what follows from them.
pub const SETTLED: Duration = Duration::from_secs(30);
/// Grace periods of controllers that are launched with [`SHORT_GRACE`]: of a peer that no path of sessions reaches until it
/// is forgotten, of a container that vanished until its address is free.
pub const GRACE: Duration = Duration::from_secs(6);
/// Arguments of `launch` for tests that wait for the end of a grace period. Not for tests of paths that fail over: there
/// the real periods count. The World covers the real ones, in virtual time.
pub const SHORT_GRACE: [&str; 2] = ["--test-grace", "6"];
/// Longer than [`GRACE`], with time for what follows from its end.
pub const BEYOND_GRACE: Duration = Duration::from_secs(10);

/// See the head of this file.
pub struct Lab {
    plan: Plan,
    hosts: Vec<Host>,
    dir: PathBuf,
    faults: Mutex<BTreeSet<Fault>>,
    stations: Mutex<Stations>,
    keep: bool,
    _lock: UnixListener,
    _machine: Arc<Machine>,
}

/// The underlay address of host `n`, from 1.
#[must_use]
pub fn underlay(n: usize) -> Ipv4Addr {
    underlay_on(0, n)
}

/// The address of host `n`, from 1, on underlay `k`, from 0.
#[must_use]
pub fn underlay_on(k: u8, n: usize) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 77 + k, u8::try_from(n).unwrap_or(u8::MAX))
}

impl Lab {
    /// Makes the namespaces and the underlay; starts nothing.
    ///
    /// # Errors
    /// When not root, or a command fails; what was made is removed again.
    pub fn new(plan: Plan) -> Result<Self> {
        let mut lab = Self::empty(plan)?;
        machine::mount_bpffs()?;
        fs::create_dir_all(&lab.dir).context("make the Lab's directory")?;
        lab.make().inspect_err(|_| lab.clean())?;
        Ok(lab)
    }

    /// A Lab of that prefix without anything, also of what an earlier run left behind.
    ///
    /// # Errors
    /// When not root, or a Lab of that prefix is in use.
    pub fn empty(plan: Plan) -> Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "the Lab needs root: it makes network namespaces");
        ensure!(plan.hosts <= HOSTS_MAX, "at most {HOSTS_MAX} hosts");
        ensure!(plan.prefix.len() <= PREFIX_MAX, "the prefix {} is too long", plan.prefix);
        let dir = std::env::temp_dir().join(&plan.prefix);
        // An abstract socket: the kernel lets go of it when the holder ends, and no file stays behind.
        let name =
            SocketAddr::from_abstract_name(format!("weave-lab-{}", plan.prefix)).context("name the Lab's lock")?;
        let lock = UnixListener::bind_addr(&name)
            .with_context(|| format!("a Lab called {} is in use: wait for it to end", plan.prefix))?;
        let lab = Self {
            hosts: Vec::new(),
            dir,
            faults: Mutex::default(),
            stations: Mutex::default(),
            keep: false,
            _lock: lock,
            _machine: if plan.alone { Machine::alone() } else { Machine::shared() }?,
            plan,
        };
        lab.clean();
        Ok(lab)
    }

    fn make(&mut self) -> Result<()> {
        let Plan { prefix, hosts, containers, mtu, binary, .. } = self.plan.clone();
        let switch = self.switch();
        run(&["ip", "netns", "add", &switch])?;
        wire::add_bridge(&switch, 0, mtu)?;
        for n in 1..=hosts {
            let host = Host::new(n, &prefix, &self.dir, &binary);
            host.make()?;
            self.plug_station(0, n, &station(&host, 0), mtu)?;
            for c in 1..=containers {
                host.add_container(c)?;
            }
            self.hosts.push(host);
        }
        self.introduce(0, &(1..=hosts).collect::<Vec<_>>())?;
        self.make_faults()
    }

    fn switch(&self) -> String {
        format!("{}-sw", self.plan.prefix)
    }

    /// Namespace of the switch between the hosts.
    #[must_use]
    pub fn switch_netns(&self) -> String {
        self.switch()
    }

    /// Host `n`, from 1.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn host(&self, n: usize) -> &Host {
        &self.hosts[n - 1]
    }

    /// All hosts.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Adds a second underlay, `eth1` of these hosts.
    ///
    /// # Errors
    /// When a command fails.
    pub fn add_underlay(&self, hosts: &[usize], mtu: u32) -> Result<()> {
        wire::add_bridge(&self.switch(), 1, mtu)?;
        for n in hosts {
            self.plug_station(1, *n, &station(self.host(*n), 1), mtu)?;
        }
        self.introduce(1, hosts)
    }

    /// Removes device `eth{k}` of host `n`, as when a card is pulled.
    ///
    /// # Errors
    /// When the command fails.
    pub fn unplug(&self, n: usize, k: u8) -> Result<()> {
        self.unplug_station(k, n)
    }

    /// Gives host `n` device `eth{k}`, again or for the first time.
    ///
    /// # Errors
    /// When a command fails.
    pub fn plug(&self, n: usize, k: u8) -> Result<()> {
        self.plug_station(k, n, &station(self.host(n), k), self.plan.mtu)?;
        self.introduce(k, &[n])
    }

    fn stations(&self) -> MutexGuard<'_, Stations> {
        self.stations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Launches a controller on every host, seeded with all of them, with the targets of the plan.
    ///
    /// # Errors
    /// When one refuses.
    pub fn launch_all(&self) -> Result<()> {
        self.on_every_host(|host| self.launch_planned(host.number()))
    }

    /// Launches host `n` as the plan says: for the first time, or again with the same parameters.
    ///
    /// # Errors
    /// When it refuses.
    pub fn launch_planned(&self, n: usize) -> Result<()> {
        let targets: Vec<String> = self.plan.targets_of(n).into_iter().map(|n| underlay(n).to_string()).collect();
        self.launch(n, &targets.iter().map(String::as_str).collect::<Vec<_>>()).map(drop)
    }

    /// Launches host `n`, seeded with all hosts, with these arguments too, but without the targets of the plan; what it
    /// printed.
    ///
    /// # Errors
    /// When it refuses.
    pub fn launch(&self, n: usize, extra: &[&str]) -> Result<String> {
        let seeds = (1..=self.hosts.len()).map(|n| format!("::{n:x}")).collect::<Vec<_>>().join(",");
        let own = self.plan.args(n);
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        self.host(n).launch(&[&["--seed", &seeds], &own[..], extra].concat())
    }

    fn on_every_host(&self, work: impl Fn(&Host) -> Result<()> + Sync) -> Result<()> {
        let work = &work;
        thread::scope(|scope| {
            let all: Vec<_> = self.hosts.iter().map(|host| scope.spawn(move || work(host))).collect();
            all.into_iter().try_for_each(|one| one.join().unwrap_or_else(|_| bail!("a thread of the Lab panicked")))
        })
    }

    /// Every container that is attached: name and address.
    ///
    /// # Errors
    /// When one has none.
    pub fn addresses(&self) -> Result<Vec<(String, Ipv4Addr)>> {
        let containers = self.hosts.iter().flat_map(|h| h.containers().into_iter().map(move |c| (h, c)));
        containers.map(|(host, name)| Ok((name.clone(), host.address(&name)?))).collect()
    }

    /// Waits until every host's links to all others are established.
    ///
    /// # Errors
    /// When they are not within `limit`; with what the hosts say instead.
    pub fn wait_established(&self, limit: Duration) -> Result<()> {
        let all = self.hosts.len() - 1;
        let done = eventually(limit, || self.hosts.iter().all(|h| h.established() == all));
        if !done {
            let said: Vec<String> = self.hosts.iter().map(Host::connections_text).collect();
            bail!("links are not all established after {limit:?}:\n{}", said.join("\n"));
        }
        Ok(())
    }

    /// A Lab with controllers launched, links established and every container attached.
    ///
    /// # Errors
    /// As the steps.
    pub fn ready(plan: Plan) -> Result<Self> {
        let lab = Self::new(plan)?;
        lab.launch_all()?;
        lab.wait_established(SETTLED)?;
        lab.attach_all()?;
        Ok(lab)
    }

    /// Attaches every container that exists.
    ///
    /// # Errors
    /// When one is refused.
    pub fn attach_all(&self) -> Result<()> {
        self.on_every_host(|host| host.containers().iter().try_for_each(|c| host.attach(c).map(drop)))
    }

    /// Leaves everything standing when dropped.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// Removes everything of this prefix, also of earlier runs.
    pub fn clean(&self) {
        let prefix = format!("{}-", self.plan.prefix);
        let names = namespaces(&prefix);
        for name in &names {
            // Processes in the namespaces of this prefix are this Lab's own; they are ended by their own number.
            for pid in run_always(&["ip", "netns", "pids", name]).unwrap_or_default().split_whitespace() {
                run_always(&["kill", "-9", pid]).ok();
            }
        }
        for name in names {
            run_always(&["ip", "netns", "del", &name]).ok();
        }
        if let Ok(entries) = fs::read_dir(host::BPF_ROOT) {
            for entry in entries.flatten().filter(|e| e.file_name().to_string_lossy().starts_with(&prefix)) {
                fs::remove_dir_all(entry.path()).ok();
            }
        }
        for mount in machine::mounts().unwrap_or_default().iter().filter(|m| m.starts_with(&self.dir)) {
            run_always(&["umount", &mount.to_string_lossy()]).ok();
        }
        fs::remove_dir_all(&self.dir).ok();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for host in &self.hosts {
                eprintln!("--- log of {} ---\n{}", host.netns(), host.log_tail(40));
            }
        }
        if !self.keep {
            self.clean();
            fs::remove_file(self.dir.with_extension("lock")).ok();
        }
    }
}

/// The device of a host on underlay `k`.
fn station(host: &Host, k: u8) -> Station {
    Station { netns: host.netns().to_owned(), device: format!("eth{k}") }
}

/// Names of the network namespaces that begin with `prefix`.
#[must_use]
pub fn namespaces(prefix: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir("/run/netns") else { return Vec::new() };
    let names = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|n| n.starts_with(prefix)).collect();
    names.sort();
    names
}

/// Waits until `condition` holds; false when it does not within `limit`.
pub fn eventually(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        sleep(POLL);
    }
}
