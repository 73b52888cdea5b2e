//! Files of a container that say how it finds names: `hosts` and `resolv.conf` under /etc/netns, which `ip netns exec`
//! puts in the place of the host's (ip-netns(8)).
//!
//! Files are written in place, because a container that runs may have them mounted. Of `hosts` only the part between our two
//! marks is replaced.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use super::{args::AttachArgs, failure::Failure};
use crate::api::types::{ContainerStatus, DnsStatus};

/// Where the kernel's tools look for files of a namespace.
const DIR: &str = "/etc/netns";
/// Where namespaces have names.
const NAMES: &str = "/run/netns";
const BEGIN: &str = "# written by weave-ctl - BEGIN";
const END: &str = "# written by weave-ctl - END";
/// What every host has.
const LOCAL: [&str; 3] = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback", "fe00::0 ip6-localnet"];

/// Lines of a hosts file that an operator asked for: `HOST:IP` each.
///
/// # Errors
/// Names the first that is malformed.
pub(super) fn added_hosts(texts: &[String]) -> Result<Vec<(IpAddr, String)>, Failure> {
    let read = |text: &String| {
        let (host, addr) = text.split_once(':')?;
        let fits = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#');
        addr.parse().ok().filter(|_| fits).map(|addr| (addr, host.to_owned()))
    };
    let wrong = |text: &String| {
        Failure::Usage(format!(
            "--add-host {text:?} cannot be used: write a name, a colon and an address, as in db:10.0.0.7"
        ))
    };
    texts.iter().map(|text| read(text).ok_or_else(|| wrong(text))).collect()
}

/// Writes the files that the arguments ask for, of a container that was attached.
///
/// # Errors
/// When one cannot be written; the container stays attached.
pub(super) fn write(args: &AttachArgs, attached: &ContainerStatus, dns: Option<&DnsStatus>) -> Result<(), Failure> {
    let attached_but = |why: String| Failure::Refused(format!("{} was attached, but {why}", attached.owner));
    let dir = dir(&attached.netns).ok_or_else(|| {
        attached_but(format!(
            "its files were left as they are: its namespace has no name in {NAMES}, so they may be anywhere"
        ))
    })?;
    let failed = |path: &Path, error: io::Error| attached_but(format!("{} cannot be written: {error}", path.display()));
    fs::create_dir_all(&dir).map_err(|error| failed(&dir, error))?;
    if args.rewrite_hosts || !args.add_host.is_empty() {
        let path = dir.join("hosts");
        let before = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read.map_err(|error| failed(&path, error))?,
        };
        let own = if args.rewrite_hosts { own_lines(args, attached, dns) } else { Vec::new() };
        let text = hosts(&before, &own, &added_hosts(&args.add_host)?);
        fs::write(&path, text).map_err(|error| failed(&path, error))?;
    }
    if args.rewrite_resolv {
        let path = dir.join("resolv.conf");
        let dns = dns.ok_or_else(|| {
            attached_but("its resolv.conf was left as it is: this controller answers no names".to_owned())
        })?;
        fs::write(&path, resolv(dns)).map_err(|error| failed(&path, error))?;
    }
    Ok(())
}

/// The directory with the files of the namespace at `netns`; `None` when it has no name.
fn dir(netns: &str) -> Option<PathBuf> {
    let path = Path::new(netns);
    let named = path.parent() == Some(Path::new(NAMES)) || path.parent() == Some(Path::new("/var/run/netns"));
    Some(Path::new(DIR).join(path.file_name().filter(|_| named)?))
}

/// The container's own addresses and names.
fn own_lines(args: &AttachArgs, attached: &ContainerStatus, dns: Option<&DnsStatus>) -> Vec<String> {
    let name = args.hostname.as_deref().unwrap_or(&attached.owner).trim_end_matches('.').to_ascii_lowercase();
    let short = dns.and_then(|dns| name.strip_suffix(&dns.domain)?.strip_suffix('.')).unwrap_or(&name);
    let names = dns.map_or_else(|| short.to_owned(), |dns| format!("{short}.{} {short}", dns.domain));
    let addrs = attached.addrs.iter().map(ipnet::Ipv4Net::addr);
    addrs.map(|addr: Ipv4Addr| format!("{addr} {names}")).collect()
}

/// A hosts file with our part replaced, or put before what is there.
fn hosts(before: &str, own: &[String], added: &[(IpAddr, String)]) -> String {
    let (head, rest) = before.split_once(BEGIN).map_or(("", before), |(head, rest)| {
        // Without its end mark everything after it is ours.
        (head, rest.split_once(END).map_or("", |(_, rest)| rest.strip_prefix('\n').unwrap_or(rest)))
    });
    let local = if before.is_empty() { &LOCAL[..] } else { &[] };
    let added = added.iter().map(|(addr, host)| format!("{addr} {host}"));
    let lines = own.iter().cloned().chain(added).chain(local.iter().map(|line| (*line).to_owned()));
    let lines: String = lines.map(|line| line + "\n").collect();
    format!("{head}{BEGIN}\n{lines}{END}\n{rest}")
}

/// A resolv.conf by which this network is asked: names without a dot are looked for in the domain.
fn resolv(dns: &DnsStatus) -> String {
    format!("# written by weave-ctl\nnameserver {}\nsearch {}\n", dns.address, dns.domain)
}

#[cfg(test)]
mod tests;
