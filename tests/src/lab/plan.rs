//! How to make a Lab: how many hosts, on which wires, launched with what.
//!
//! Bounds: as many hosts as [`super::HOSTS_MAX`]. Does not: make anything.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Start of every name.
    pub prefix: String,
    /// Number of hosts.
    pub hosts: usize,
    /// Containers on each.
    pub containers: usize,
    /// MTU in bytes of the underlay.
    pub mtu: u32,
    /// Path of the `weave-ctl` to run.
    pub binary: PathBuf,
    /// Arguments of every `launch`, beside name, seeds and targets.
    pub launch: Vec<String>,
    /// Arguments of the launch of single hosts, after those of all.
    pub own: BTreeMap<usize, Vec<String>>,
    /// Hosts that a host is launched with as targets; one that is not listed has host 1, and host 1 nobody.
    pub targets: BTreeMap<usize, Vec<usize>>,
    /// Pairs of hosts between which the underlay carries nothing, the lower number first.
    pub apart: BTreeSet<(usize, usize)>,
    /// No other Lab exists beside this one: its test changes something of the whole machine.
    pub alone: bool,
}

impl Plan {
    /// `hosts` hosts with two containers each on an underlay of 1500 bytes.
    #[must_use]
    pub fn new(prefix: &str, hosts: usize, binary: &Path) -> Self {
        Self {
            prefix: prefix.to_owned(),
            hosts,
            containers: 2,
            mtu: 1500,
            binary: binary.to_owned(),
            launch: Vec::new(),
            own: BTreeMap::new(),
            targets: BTreeMap::new(),
            apart: BTreeSet::new(),
            alone: false,
        }
    }

    /// [`Plan::new`] with the `weave-ctl` of this build.
    #[must_use]
    pub fn of(prefix: &str, hosts: usize) -> Self {
        Self::new(prefix, hosts, &weave_ctl())
    }

    /// This many containers on each host.
    #[must_use]
    pub fn containers(self, containers: usize) -> Self {
        Self { containers, ..self }
    }

    /// An underlay of this MTU.
    #[must_use]
    pub fn mtu(self, mtu: u32) -> Self {
        Self { mtu, ..self }
    }

    /// Launched with these arguments too.
    #[must_use]
    pub fn launch(self, args: &[&str]) -> Self {
        Self { launch: owned(args), ..self }
    }

    /// Host `n` is launched with these arguments too.
    #[must_use]
    pub fn host(mut self, n: usize, args: &[&str]) -> Self {
        self.own.insert(n, owned(args));
        self
    }

    /// Host `n` is launched with what `of` says for it as targets.
    #[must_use]
    pub fn targets(mut self, of: impl Fn(usize) -> Vec<usize>) -> Self {
        self.targets = (1..=self.hosts).map(|n| (n, of(n))).collect();
        self
    }

    /// Each host has the one before it as its only target.
    #[must_use]
    pub fn chain(self) -> Self {
        self.targets(|n| if n > 1 { vec![n - 1] } else { Vec::new() })
    }

    /// The underlay carries packets between these pairs only.
    #[must_use]
    pub fn wires(mut self, pairs: &[(usize, usize)]) -> Self {
        let wired = |pair: (usize, usize)| pairs.contains(&pair) || pairs.contains(&(pair.1, pair.0));
        self.apart = all_pairs(self.hosts).filter(|pair| !wired(*pair)).collect();
        self
    }

    /// No other Lab exists beside this one. For tests that change something of the whole machine, as a sysctl of the first
    /// namespace; their names begin with `alone_`, so that `cargo xtask test` runs them when all others have ended.
    #[must_use]
    pub fn alone(self) -> Self {
        Self { alone: true, ..self }
    }

    /// Arguments of the first launch of host `n` beside name and seeds; targets by their addresses.
    pub(super) fn args(&self, n: usize) -> Vec<String> {
        self.launch.iter().chain(self.own.get(&n).into_iter().flatten()).cloned().collect()
    }

    /// Numbers of the targets of host `n`.
    pub(super) fn targets_of(&self, n: usize) -> Vec<usize> {
        let usual = || if n == 1 { Vec::new() } else { vec![1] };
        self.targets.get(&n).cloned().unwrap_or_else(usual)
    }
}

fn owned(args: &[&str]) -> Vec<String> {
    args.iter().map(|a| (*a).to_owned()).collect()
}

/// All pairs of hosts numbered from 1, the lower number first.
fn all_pairs(hosts: usize) -> impl Iterator<Item = (usize, usize)> {
    (1..=hosts).flat_map(move |one| (one + 1..=hosts).map(move |other| (one, other)))
}

/// The `weave-ctl` to test: `$WEAVE_CTL`, or the one of this test's build.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn weave_ctl() -> PathBuf {
    let built = || {
        let test = std::env::current_exe().unwrap_or_default();
        test.parent().and_then(Path::parent).unwrap_or(Path::new("")).join("weave-ctl")
    };
    let path = std::env::var_os("WEAVE_CTL").map_or_else(built, PathBuf::from);
    assert!(path.exists(), "{} is missing: run `cargo build -p weave-ctl` first", path.display());
    path
}
