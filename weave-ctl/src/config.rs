//! Flags and environment, turned into validated settings. The only reader of the environment.
//!
//! Everything that can be wrong without asking the kernel, the store or a peer is refused here, with one sentence; the
//! rest of the program takes only the types made here.
//!
//! Does not: know what an earlier launch stored. A setting that was not given stays `None`, because a relaunch resumes.

pub mod addr;
pub mod dns;
pub mod env;
pub mod flags;
pub mod secret;

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::Ipv4Net;

use self::{
    dns::DnsConfig,
    env::Env,
    flags::{DirFlags, LaunchFlags, Xdp},
    secret::{Secret, SecretError},
};
pub use crate::proto::boot::Init;
use crate::proto::{
    boot::Launch,
    domain::{Domain, NameError},
    election::VOTERS_MAX,
    io::{Target, TargetError},
    name::{PeerName, PeerNameError},
    topology::GRACE,
};

/// Control port when none is given.
pub const DEFAULT_PORT: u16 = 6783;
/// Longest prefix of a range or subnet: two addresses beside those of the network and for broadcast.
const PREFIX_MAX: u8 = 30;
/// Longest nickname, in bytes: that of a host name.
const NICKNAME_MAX: usize = 64;
/// Links to other peers unless `--conn-limit` says otherwise, as the predecessor's.
const CONN_LIMIT: u32 = 200;
/// Largest `--conn-limit`: more links are not kept.
pub const CONN_LIMIT_MAX: u32 = 1024;
/// Longest `--test-grace`, in seconds: the longest grace period that there is.
const TEST_GRACE_MAX: u64 = GRACE.as_secs();
/// Most peers named in one command.
const TARGETS_MAX: usize = 1024;

/// Settings of a controller.
#[derive(Clone, PartialEq, Eq)]
pub struct LaunchConfig {
    /// What the core starts from.
    pub launch: Launch,
    /// Address on which the control port listens.
    pub listen: IpAddr,
    /// Shared by all peers; `None` when sessions need none.
    pub secret: Option<Secret>,
    /// Where XDP is used.
    pub xdp: Xdp,
    /// How questions for names are answered; `None` when they are not.
    pub dns: Option<DnsConfig>,
    /// Where things are kept.
    pub dirs: Dirs,
    /// What the operator should know of these settings, a sentence each.
    pub warnings: Vec<String>,
}

impl fmt::Debug for LaunchConfig {
    /// All but the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaunchConfig")
            .field("launch", &self.launch)
            .field("listen", &self.listen)
            .field("xdp", &self.xdp)
            .field("dns", &self.dns)
            .field("dirs", &self.dirs)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}

/// Directories of one controller, absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dirs {
    /// Control socket, lock and log; may be lost at a reboot.
    pub run: PathBuf,
    /// The store.
    pub state: PathBuf,
    /// Pinned maps, programs and links; on a bpf file system.
    pub bpf: PathBuf,
}

/// A setting that cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// `--name` or `--seed`.
    #[error(transparent)]
    Name(#[from] PeerNameError),
    /// A peer to connect to.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Too many of them.
    #[error("{0} peers were named: at most {TARGETS_MAX} can be named in one command")]
    Targets(usize),
    /// `--ipalloc-range` or `--ipalloc-default-subnet`.
    #[error("{what} {text:?} is not a CIDR: write an IPv4 network like 10.32.0.0/12")]
    Cidr {
        /// The flag.
        what: &'static str,
        /// Its value.
        text: String,
    },
    /// Likewise.
    #[error("{what} {text:?} is not a network: the network of that length is {network}")]
    HostBits {
        /// The flag.
        what: &'static str,
        /// Its value.
        text: String,
        /// What was probably meant.
        network: Ipv4Net,
    },
    /// Likewise.
    #[error("{what} {net} is too small: at least a /{PREFIX_MAX} is needed")]
    TooSmall {
        /// The flag.
        what: &'static str,
        /// Its value.
        net: Ipv4Net,
    },
    /// Likewise.
    #[error("{what} {net} cannot be given to containers: it holds loopback, multicast or reserved addresses")]
    Unusable {
        /// The flag.
        what: &'static str,
        /// Its value.
        net: Ipv4Net,
    },
    /// The default subnet.
    #[error("--ipalloc-default-subnet {subnet} is not inside --ipalloc-range {range}")]
    Outside {
        /// The subnet.
        subnet: Ipv4Net,
        /// The range.
        range: Ipv4Net,
    },
    /// More seeds than addresses.
    #[error("--ipalloc-range {range} is too small for {seeds} seeds: each needs an address")]
    Seeds {
        /// The range.
        range: Ipv4Net,
        /// How many.
        seeds: usize,
    },
    /// A seed named twice.
    #[error("{0} is named twice among the seeds: name each peer once")]
    SeedTwice(PeerName),
    /// `--ipalloc-init`.
    #[error("--ipalloc-init {0:?} is not known: write seed=NAME,NAME,..., consensus=N or observer")]
    Init(String),
    /// `--initial-peer-count`.
    #[error("the number of electors {0:?} cannot be used: write a number from 1 to {VOTERS_MAX}")]
    Electors(String),
    /// `--nickname`.
    #[error("--nickname {0:?} cannot be used: write 1 to {NICKNAME_MAX} letters, digits, dots, dashes or underscores")]
    Nickname(String),
    /// `--port` or `WEAVE_PORT`.
    #[error("port {0:?} cannot be used: write a number from 1 to 65534 (packets travel on the next port)")]
    Port(String),
    /// `--conn-limit`.
    #[error("--conn-limit {0:?} cannot be used: write a number from 1 to {CONN_LIMIT_MAX}")]
    ConnLimit(String),
    /// `--test-grace`.
    #[error("--test-grace {0:?} cannot be used: write a number of seconds from 1 to {TEST_GRACE_MAX}")]
    TestGrace(String),
    /// `--dns-domain`.
    #[error("--dns-domain cannot be used: {0}")]
    Domain(#[from] NameError),
    /// `--dns-ttl`.
    #[error("--dns-ttl {0:?} cannot be used: write a number of seconds from 0 to {max}", max = dns::TTL_MAX)]
    DnsTtl(String),
    /// `--dns-upstream` or `--dns-listen`.
    #[error("{what} {text:?} cannot be used: write the IP address of one host, with or without a port")]
    DnsAddress {
        /// The flag.
        what: &'static str,
        /// Its value.
        text: String,
    },
    /// `--dns-upstream` or `--dns-listen`, too often.
    #[error("{what} was given {count} times: at most {max} can be used", max = dns::ADDRESSES_MAX)]
    DnsAddresses {
        /// The flag.
        what: &'static str,
        /// How often.
        count: usize,
    },
    /// `--host`.
    #[error("--host {0:?} is not an IPv4 address")]
    Host(String),
    /// `--password`, `--password-file`, `--key-file` or their variables.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A directory that cannot be made absolute.
    #[error("directory {path:?} cannot be used: {source}")]
    Dir {
        /// As given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The directories: flag, else environment, else default.
///
/// # Errors
/// When one is empty, or the working directory of a relative one is gone.
pub fn dirs(flags: &DirFlags, env: &Env) -> Result<Dirs, ConfigError> {
    let pick = |flag: &Option<PathBuf>, var: &Option<PathBuf>, default: &str| {
        let path = flag.as_deref().or(var.as_deref()).unwrap_or(Path::new(default));
        std::path::absolute(path).map_err(|source| ConfigError::Dir { path: path.to_owned(), source })
    };
    Ok(Dirs {
        run: pick(&flags.run_dir, &env.run_dir, "/run/weave")?,
        state: pick(&flags.state_dir, &env.state_dir, "/var/lib/weave")?,
        bpf: pick(&flags.bpf_dir, &env.bpf_dir, "/sys/fs/bpf/weave")?,
    })
}

/// Peers to connect to or to forget.
///
/// # Errors
/// Names the first that is malformed.
pub fn targets(texts: &[String]) -> Result<Vec<Target>, ConfigError> {
    if texts.len() > TARGETS_MAX {
        return Err(ConfigError::Targets(texts.len()));
    }
    Ok(texts.iter().map(|t| t.parse()).collect::<Result<_, _>>()?)
}

/// The settings of a controller.
///
/// # Errors
/// Names the first setting that cannot be used.
pub fn launch(flags: &LaunchFlags, dirs: Dirs, env: &Env) -> Result<LaunchConfig, ConfigError> {
    let secret::Given { secret, warnings } = secret::given(flags, env)?;
    let range = flags.ipalloc_range.as_deref().map(|t| network("--ipalloc-range", t)).transpose()?;
    let default_subnet =
        flags.ipalloc_default_subnet.as_deref().map(|t| network("--ipalloc-default-subnet", t)).transpose()?;
    if let (Some(range), Some(subnet)) = (range, default_subnet)
        && !range.contains(&subnet)
    {
        return Err(ConfigError::Outside { subnet, range });
    }
    let (init, seeds) = init(flags)?;
    if let Some(range) = range
        && seeds.len() > 1 << (32 - range.prefix_len())
    {
        return Err(ConfigError::Seeds { range, seeds: seeds.len() });
    }
    let host =
        flags.host.as_deref().map(|t| t.parse().ok().ok_or_else(|| ConfigError::Host(t.to_owned()))).transpose()?;
    let launch = Launch {
        name: flags.name.as_deref().map(str::parse).transpose()?,
        nickname: nickname(flags.nickname.as_deref())?,
        range,
        default_subnet,
        seeds,
        init,
        targets: targets(&flags.peers)?,
        discovery: !flags.no_discovery,
        conn_limit: conn_limit(flags.conn_limit.as_deref())?,
        port: port(flags.port.as_deref().or(env.port.as_deref()))?,
        secret: secret.as_ref().map(Secret::kind).unwrap_or_default(),
        test_grace: flags.test_grace.as_deref().map(test_grace).transpose()?,
        dns_domain: flags.dns_domain.as_deref().map_or_else(|| Ok(Domain::default()), Domain::parse)?,
    };
    let dns = dns::settings(flags)?;
    let listen = IpAddr::V4(host.unwrap_or(Ipv4Addr::UNSPECIFIED));
    Ok(LaunchConfig { launch, listen, secret, xdp: flags.xdp, dns, dirs, warnings })
}

fn network(what: &'static str, text: &str) -> Result<Ipv4Net, ConfigError> {
    let net: Ipv4Net = text.parse().ok().ok_or_else(|| ConfigError::Cidr { what, text: text.to_owned() })?;
    if net != net.trunc() {
        return Err(ConfigError::HostBits { what, text: text.to_owned(), network: net.trunc() });
    }
    if net.prefix_len() > PREFIX_MAX {
        return Err(ConfigError::TooSmall { what, net });
    }
    let reserved =
        [(0, 8), (127, 8), (224, 3)].map(|(first, len)| Ipv4Net::new_assert(Ipv4Addr::new(first, 0, 0, 0), len));
    if reserved.iter().any(|r| r.contains(&net) || net.contains(r)) {
        return Err(ConfigError::Unusable { what, net });
    }
    Ok(net)
}

/// How the range is divided at the start, and the seeds.
fn init(flags: &LaunchFlags) -> Result<(Init, Vec<PeerName>), ConfigError> {
    let electors = |text: &str| {
        let count = text.parse::<u16>().ok().filter(|n| (1..=VOTERS_MAX).contains(&usize::from(*n)));
        Ok((Init::Election(count.ok_or_else(|| ConfigError::Electors(text.to_owned()))?), Vec::new()))
    };
    let mode = flags.ipalloc_init.as_deref();
    let count = flags.initial_peer_count.as_deref().or(mode.and_then(|mode| mode.strip_prefix("consensus=")));
    if let Some(count) = count {
        return electors(count);
    }
    if flags.observer || mode == Some("observer") {
        return Ok((Init::Observer, Vec::new()));
    }
    let seeds = seeds(flags)?;
    Ok((if seeds.is_empty() { Init::Undeclared } else { Init::Seeds }, seeds))
}

fn seeds(flags: &LaunchFlags) -> Result<Vec<PeerName>, ConfigError> {
    let from_init: Vec<&str> = match flags.ipalloc_init.as_deref() {
        Some(mode) => {
            mode.strip_prefix("seed=").ok_or_else(|| ConfigError::Init(mode.to_owned()))?.split(',').collect()
        }
        None => Vec::new(),
    };
    let mut seeds: Vec<PeerName> = Vec::new();
    for text in from_init.into_iter().chain(flags.seed.iter().map(String::as_str)) {
        let name = text.trim().parse()?;
        if seeds.contains(&name) {
            return Err(ConfigError::SeedTwice(name));
        }
        seeds.push(name);
    }
    Ok(seeds)
}

fn nickname(flag: Option<&str>) -> Result<String, ConfigError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    match flag {
        Some(text) if !text.is_empty() && text.len() <= NICKNAME_MAX && text.chars().all(allowed) => {
            Ok(text.to_owned())
        }
        Some(text) => Err(ConfigError::Nickname(text.to_owned())),
        // The kernel takes any bytes for a host name; a nickname for people keeps what can be printed.
        None => {
            let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
            let kept: String = host.chars().filter(|c| allowed(*c)).take(NICKNAME_MAX).collect();
            Ok(if kept.is_empty() { "unnamed".to_owned() } else { kept })
        }
    }
}

fn port(text: Option<&str>) -> Result<u16, ConfigError> {
    let Some(text) = text else { return Ok(DEFAULT_PORT) };
    text.parse::<u16>()
        .ok()
        .filter(|port| (1..=u16::MAX - 1).contains(port))
        .ok_or_else(|| ConfigError::Port(text.to_owned()))
}

fn conn_limit(text: Option<&str>) -> Result<u32, ConfigError> {
    let Some(text) = text else { return Ok(CONN_LIMIT) };
    text.parse::<u32>()
        .ok()
        .filter(|n| (1..=CONN_LIMIT_MAX).contains(n))
        .ok_or_else(|| ConfigError::ConnLimit(text.to_owned()))
}

fn test_grace(text: &str) -> Result<Duration, ConfigError> {
    let seconds = text.parse::<u64>().ok().filter(|n| (1..=TEST_GRACE_MAX).contains(n));
    seconds.map(Duration::from_secs).ok_or_else(|| ConfigError::TestGrace(text.to_owned()))
}

#[cfg(test)]
mod tests;
