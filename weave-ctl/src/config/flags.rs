//! Flags as typed by the operator: text, not yet checked.

use std::{fmt, path::PathBuf};

use clap::{Args, ValueEnum};

/// Where a controller keeps its things; tells several controllers on one machine apart.
#[derive(Args, Clone, Debug, Default)]
pub struct DirFlags {
    /// Directory of the control socket and the log [env: WEAVE_RUN_DIR] [default: /run/weave]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub run_dir: Option<PathBuf>,
    /// Directory of the store [env: WEAVE_STATE_DIR] [default: /var/lib/weave]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub state_dir: Option<PathBuf>,
    /// Directory of pinned maps and programs, on a bpf file system [env: WEAVE_BPF_DIR] [default: /sys/fs/bpf/weave]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub bpf_dir: Option<PathBuf>,
}

/// Flags of `launch`.
#[derive(Args, Clone, Debug, Default)]
pub struct LaunchFlags {
    /// Peers to connect to: HOST or HOST:PORT, the host a name or an IPv4 address
    #[arg(value_name = "PEER")]
    pub peers: Vec<String>,
    /// Stay in the foreground and log to stderr, for systemd and for debugging
    #[arg(long)]
    pub foreground: bool,
    /// Name of this peer: six hexadecimal bytes, or short like ::3 [default: the one of the last launch, or derived
    /// from the machine]
    #[arg(long)]
    pub name: Option<String>,
    /// Name of this peer for people [default: the host's name]
    #[arg(long)]
    pub nickname: Option<String>,
    /// TCP port of the control plane; packets travel on the next UDP port [env: WEAVE_PORT] [default: 6783]
    #[arg(long)]
    pub port: Option<String>,
    /// Password that all peers share; all users of this host can read it in the list of processes, so rather use a
    /// file [env: WEAVE_PASSWORD]
    #[arg(long, conflicts_with_all = ["password_file", "key_file"])]
    pub password: Option<String>,
    /// File whose first line is the password that all peers share
    #[arg(long, value_name = "FILE", conflicts_with = "key_file")]
    pub password_file: Option<PathBuf>,
    /// File with the key that all peers share, in place of a password: 32 random bytes, raw or as 64 hexadecimal digits
    /// (openssl rand -hex 32) [env: WEAVE_KEY_FILE]
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Range from which containers get addresses, the same on all peers [default: 10.32.0.0/12]
    #[arg(long, value_name = "CIDR")]
    pub ipalloc_range: Option<String>,
    /// Subnet from which containers get addresses when none is named [default: the range]
    #[arg(long, value_name = "CIDR")]
    pub ipalloc_default_subnet: Option<String>,
    /// Names of the peers among which the range is divided at the start, the same list on all of them
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', conflicts_with = "ipalloc_init")]
    pub seed: Vec<String>,
    /// Number of peers that elect how the range is divided at the start, the same on all of them; more than half must
    /// be there
    #[arg(long, value_name = "N", conflicts_with_all = ["seed", "ipalloc_init", "observer"])]
    pub initial_peer_count: Option<String>,
    /// Take no part in the election: wait for what the others divide, and ask them to when an address is needed
    #[arg(long, conflicts_with_all = ["seed", "ipalloc_init"])]
    pub observer: bool,
    /// How the range is divided at the start: seed=NAME,NAME,... (the same as --seed), consensus=N (the same as
    /// --initial-peer-count) or observer (the same as --observer)
    #[arg(long, value_name = "MODE")]
    pub ipalloc_init: Option<String>,
    /// Connect to the named peers only, not to those they know
    #[arg(long)]
    pub no_discovery: bool,
    /// Most links to other peers, 1 to 1024; beyond it the mesh stays partial and all still reach all [default: 200]
    #[arg(long, value_name = "N")]
    pub conn_limit: Option<String>,
    /// IPv4 address to listen on [default: all]
    #[arg(long, value_name = "ADDRESS")]
    pub host: Option<String>,
    /// Where XDP drops and relays packets before the kernel handles them: auto (network cards on the PCI bus), native
    /// (all cards and veths), generic (every device) or off
    #[arg(long, value_name = "MODE", default_value_t, hide_possible_values = true)]
    pub xdp: Xdp,
    /// Answer no questions for names of containers
    #[arg(long, conflicts_with_all = ["dns_ttl", "dns_upstream", "dns_listen"])]
    pub no_dns: bool,
    /// Domain of containers' names, the same on all peers [default: weave.local]
    #[arg(long, value_name = "DOMAIN")]
    pub dns_domain: Option<String>,
    /// Seconds for which answers about containers' names may be kept [default: 1]
    #[arg(long, value_name = "SECONDS")]
    pub dns_ttl: Option<String>,
    /// Servers that are asked for all other names, ADDRESS or ADDRESS:PORT [default: those of /etc/resolv.conf]
    #[arg(long, value_name = "SERVER,...", value_delimiter = ',')]
    pub dns_upstream: Vec<String>,
    /// Addresses of this host on which questions are answered too, ADDRESS or ADDRESS:PORT
    #[arg(long, value_name = "ADDRESS,...", value_delimiter = ',')]
    pub dns_listen: Vec<String>,
    /// Where the most frequent questions are answered: auto (by the kernel, before they reach the controller) or off
    #[arg(long, value_name = "MODE", default_value_t, hide_possible_values = true)]
    pub dns_kernel: DnsKernel,
    /// Least severity that is logged: debug, info, warning or error
    #[arg(long, value_name = "LEVEL", default_value_t, hide_possible_values = true)]
    pub log_level: LogLevel,
    /// Longest grace period in seconds, for tests that would have to wait for its end.
    #[arg(long, hide = true, value_name = "SECONDS")]
    pub test_grace: Option<String>,
    /// Descriptor on which the waiting launch is told that the controller is ready.
    #[arg(long, hide = true, requires = "foreground")]
    pub ready_fd: Option<i32>,
}

/// Least severity that is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// Normal operation.
    #[default]
    Info,
    /// What an operator should look at.
    Warning,
    /// What does not work.
    Error,
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// Whether the programs answer questions for names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DnsKernel {
    /// Those that fit one packet, with the same bytes as the controller would; all others go to the controller.
    #[default]
    Auto,
    /// None: all go to the controller.
    Off,
}

impl fmt::Display for DnsKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Off => "off",
        })
    }
}

/// On which underlay devices, and how, the XDP program is attached. What it does not do, the program of traffic control
/// does: XDP saves time, and changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Xdp {
    /// Natively, where that costs nothing: on network cards on the PCI bus. Attached to a veth or to a virtual machine's
    /// card, it would keep senders from handing over packets larger than the MTU. A device that refuses goes without.
    #[default]
    Auto,
    /// Natively on every card and veth; a device that refuses is a refused launch. Devices of other kinds (bridges,
    /// VLANs, tunnels) have no native XDP and go without. A veth only drops: what it hands over need not have checksums
    /// yet.
    Native,
    /// By the kernel's stack, on every device; one that refuses is a refused launch. Only drops: a packet may be merged
    /// from several.
    Generic,
    /// Nowhere; what an earlier launch attached is taken away.
    Off,
}

impl fmt::Display for Xdp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Off => "off",
        })
    }
}
