//! Lets containers of this host out of the network under the host's own address (`expose --masquerade`).
//!
//! Three things must be right: a table of nftables of our own, which translates addresses; the kernel's IP forwarding; and
//! the host's firewall, which must let the packets pass. The first two are made so. Of the firewall, only Docker's chain for
//! the rules of others (DOCKER-USER) is changed; anything else that stands in the way is told, with the command that helps.
//!
//! [`ensure`] and [`remove`] are idempotent, and change nothing that is as it should be: the reconcile loop may call them as
//! often as it likes. Rules are written by the program `nft`, in one transaction. Of the crates that were looked at,
//! `nftables` (types for its JSON, kept by the netavark project among others) needs no library of C, so that a static
//! binary stays one; `nftnl` links libnftnl and libmnl, and `rustables` is under the GPL.
//!
//! Blocks for the time that `nft` and `iptables` take (at most [`firewall::LOCK_SECONDS`] each for the lock of iptables), in
//! the network namespace of the calling thread.
//! Does not: remember anything, or switch IP forwarding off again, which others may rely on meanwhile.

mod firewall;
mod table;

use std::{
    fs,
    io::{self, Write as _},
    process::{Command, Stdio},
};

use ipnet::Ipv4Net;

/// The switch of IP forwarding, of the calling thread's namespace.
const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// What [`ensure`] found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// What was not as it should be, and is now: sentences for the log. Empty when all was right.
    pub changed: Vec<String>,
    /// What keeps containers from getting out, and the command that helps: sentences for the operator and for `status`.
    pub blocked: Vec<String>,
}

/// Why containers do not get out of the network through this host. Whatever was right before stays.
#[derive(Debug, thiserror::Error)]
pub enum MasqueradeError {
    /// No `nft`.
    #[error(
        "the program nft is missing, which writes the rules of --masquerade: containers do not get out of the network \
         through this host; install the package nftables and repeat the command"
    )]
    NoNft,
    /// A program refused.
    #[error("cannot {what}: {said}")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// The program's own words, and what to do about them.
        said: String,
    },
    /// Forwarding stays off.
    #[error(
        "IP forwarding is off on this host and cannot be switched on ({0}): containers do not get out of the network \
         through it; run `sysctl -w net.ipv4.ip_forward=1`"
    )]
    Forwarding(io::Error),
}

/// Makes containers with an address in `range` get out of the network through this host, whose interface in it is `ifname`.
///
/// # Errors
/// When `nft` is missing or the kernel refuses. Part of it may be done; the next call goes on from there.
pub fn ensure(range: Ipv4Net, ifname: &str) -> Result<Applied, MasqueradeError> {
    let mut applied = Applied::default();
    if table::ensure(range, ifname)? {
        applied.changed.push(format!(
            "wrote the table {} of nftables: packets from {range} to addresses outside it leave this host under its own \
             address",
            table::NAME
        ));
    }
    if forward()? {
        applied.changed.push(
            "switched IP forwarding on (net.ipv4.ip_forward): this host now forwards packets between all its networks as \
             its firewall allows; it stays on after `hide`"
                .to_owned(),
        );
    }
    firewall::ensure(ifname, &mut applied)?;
    Ok(applied)
}

/// Takes away what [`ensure`] made; true when there was anything. IP forwarding stays as it is.
///
/// # Errors
/// When `nft` is missing or the kernel refuses: rules stay.
pub fn remove() -> Result<bool, MasqueradeError> {
    // Both are tried, whatever becomes of the first.
    let (docker, table) = (firewall::remove(), table::remove());
    Ok(docker? | table?)
}

/// Switches IP forwarding on; false when it was.
fn forward() -> Result<bool, MasqueradeError> {
    let on = fs::read_to_string(IP_FORWARD).map_err(MasqueradeError::Forwarding)?.trim() != "0";
    if !on {
        fs::write(IP_FORWARD, "1").map_err(MasqueradeError::Forwarding)?;
    }
    Ok(!on)
}

/// What a program said.
struct Ran {
    done: bool,
    stdout: String,
    stderr: String,
}

/// Runs a program with these words and this input. `None` when there is no such program.
fn run(program: &str, args: &[&str], input: &str) -> io::Result<Option<Ran>> {
    let mut command = Command::new(program);
    command.args(args).env("LC_ALL", "C").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read all of it says why.
        stdin
            .write_all(input.as_bytes())
            .or_else(|e| if e.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(e) })?;
    }
    let output = child.wait_with_output()?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
    Ok(Some(Ran { done: output.status.success(), stdout: text(output.stdout), stderr: text(output.stderr) }))
}

#[cfg(test)]
mod tests;
