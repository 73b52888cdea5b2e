//! What a host says of the address range, and containers that wait for an address.
//!
//! Does not: judge; a field that is not there is an error, never a zero.

use std::{net::Ipv4Addr, process::Child, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};

use super::{Host, SETTLED, eventually};

/// How long an attach that cannot be granted must not end.
const WAITS: Duration = Duration::from_secs(2);

/// A peer that owns a part of the range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its name.
    pub name: String,
    /// How many addresses.
    pub addresses: u64,
    /// True when it is out of reach.
    pub unreachable: bool,
}

/// An `attach` under way.
#[derive(Debug)]
pub struct Attaching {
    host: Host,
    container: String,
    caller: Child,
}

impl Attaching {
    /// It waits, and goes on doing so.
    ///
    /// # Errors
    /// When it ended.
    pub fn waits(&mut self) -> Result<()> {
        let ended = eventually(WAITS, || self.caller.try_wait().is_ok_and(|status| status.is_some()));
        ensure!(!ended, "the attach of {} ended: {:?}", self.container, self.caller.try_wait());
        Ok(())
    }

    /// It is granted; the container's first address.
    ///
    /// # Errors
    /// When it is refused, or does not end within [`SETTLED`].
    pub fn granted(mut self) -> Result<Ipv4Addr> {
        ensure!(
            eventually(SETTLED, || self.caller.try_wait().is_ok_and(|status| status.is_some())),
            "the attach of {} does not end: {}",
            self.container,
            self.host.ipam_state()?
        );
        let status = self.caller.wait().context("wait for an attach")?;
        ensure!(status.success(), "the attach of {} was refused: {status}", self.container);
        self.host.address(&self.container)
    }

    /// Its caller is killed.
    ///
    /// # Errors
    /// When it does not end.
    pub fn give_up(mut self) -> Result<()> {
        self.caller.kill().context("end a caller")?;
        self.caller.wait().context("end a caller").map(drop)
    }
}

impl Host {
    /// How address management stands, in the words of `status`.
    ///
    /// # Errors
    /// When `status` fails.
    pub fn ipam_state(&self) -> Result<String> {
        let ipam = self.json(&["status", "ipam"])?;
        Ok(ipam["state"].as_str().with_context(|| format!("no state in {ipam}"))?.to_owned())
    }

    /// Who owns what.
    ///
    /// # Errors
    /// When `status` fails.
    pub fn owners(&self) -> Result<Vec<Owner>> {
        let ipam = self.json(&["status", "ipam"])?;
        let owners = ipam["owners"].as_array().with_context(|| format!("no owners in {ipam}"))?;
        owners
            .iter()
            .map(|owner| {
                let wrong = || format!("no owner: {owner}");
                Ok(Owner {
                    name: owner["name"].as_str().with_context(wrong)?.to_owned(),
                    addresses: owner["addresses"].as_u64().with_context(wrong)?,
                    unreachable: owner["unreachable"].as_bool().with_context(wrong)?,
                })
            })
            .collect()
    }

    /// What this host warns of, a sentence a line.
    ///
    /// # Errors
    /// When `status` fails.
    pub fn warnings(&self) -> Result<String> {
        let status = self.json(&["status"])?;
        let all = status["warnings"].as_array().with_context(|| format!("no warnings in {status}"))?;
        Ok(all.iter().filter_map(|w| w.as_str()).collect::<Vec<_>>().join("\n"))
    }

    /// Attaches a new container `c` with these addresses; its name and what `attach` printed.
    ///
    /// # Errors
    /// When it is refused.
    pub fn give(&self, c: usize, addrs: &[&str]) -> Result<(String, Vec<Ipv4Addr>)> {
        let name = self.add_container(c)?;
        let printed = self.weave(&[&["attach"], addrs, &[&name]].concat())?;
        let read = |word: &str| word.parse().with_context(|| format!("`attach` printed {printed}"));
        let given: Vec<Ipv4Addr> = printed.split_whitespace().map(read).collect::<Result<_>>()?;
        if given.is_empty() {
            bail!("`attach` printed no address");
        }
        Ok((name, given))
    }

    /// Begins to attach a new container `c` with these addresses.
    ///
    /// # Errors
    /// When the command cannot be run.
    pub fn begin_to_give(&self, c: usize, addrs: &[&str]) -> Result<Attaching> {
        let container = self.add_container(c)?;
        let caller = self.begin(&[&["attach"], addrs, &[&container]].concat())?;
        Ok(Attaching { host: self.clone(), container, caller })
    }
}
