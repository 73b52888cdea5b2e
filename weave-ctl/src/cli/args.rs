//! What can be typed: clap's types, without behaviour.

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::flags::{DirFlags, LaunchFlags};

/// A container network without a central store: hosts find each other by gossip, packets never leave the kernel.
#[derive(Parser, Debug)]
#[command(name = "weave-ctl", version, propagate_version = false, max_term_width = 100)]
#[command(after_help = "Exit status: 0 done, 1 refused by the controller, 2 usage or no controller.")]
pub struct Cli {
    /// Where the controller keeps its things.
    #[command(flatten)]
    pub dirs: DirFlags,
    /// Write JSON
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Start the controller of this host; returns when it is ready
    Launch(Box<LaunchFlags>),
    /// Connect to more peers, or to other ones
    Connect(ConnectArgs),
    /// Try no more to connect to peers; connections that are up stay
    Forget(ForgetArgs),
    /// Wait until the address range is divided, and see to it that it is
    #[command(visible_alias = "prime")]
    Consense,
    /// Show the state of the controller, or a part of it
    Status(StatusArgs),
    /// Give a container an interface and addresses, and print the addresses
    Attach(AttachArgs),
    /// Take addresses of a container away, and print them
    Detach(DetachArgs),
    /// Give up addresses that are held for containers without an interface, and print them
    Release(ReleaseArgs),
    /// Give this host an interface in the network, and print its addresses
    Expose(ExposeArgs),
    /// Take addresses of this host away, and print them
    Hide(HideArgs),
    /// Give addresses a name, and print what has it
    DnsAdd(NameArgs),
    /// Take a name of addresses away
    DnsRemove(NameArgs),
    /// Print the addresses of a name, a line each
    DnsLookup(LookupArgs),
    /// Print the arguments by which containers of an engine ask this network for names
    DnsArgs,
    /// List the owners of addresses on this host
    Ps(PsArgs),
    /// Take over the addresses of peers that are gone for good
    Rmpeer(RmpeerArgs),
    /// Stop the controller; containers keep talking
    Stop(StopArgs),
    /// Leave the network and forget everything
    Reset(ResetArgs),
    /// Print everything that helps to find a fault, as JSON; or a picture of the mesh
    Report(ReportArgs),
    /// Print the version of this command
    Version,
}

/// Arguments of `connect`.
#[derive(Args, Debug)]
pub struct ConnectArgs {
    /// Forget all other peers that were named before
    #[arg(long)]
    pub replace: bool,
    /// HOST or HOST:PORT, the host a name or an IPv4 address
    #[arg(value_name = "PEER", required_unless_present = "replace")]
    pub peers: Vec<String>,
}

/// Arguments of `forget`.
#[derive(Args, Debug)]
pub struct ForgetArgs {
    /// As given to `launch` or `connect`
    #[arg(value_name = "PEER", required = true)]
    pub peers: Vec<String>,
}

/// Arguments of `rmpeer`.
#[derive(Args, Debug)]
pub struct RmpeerArgs {
    /// Even when the peer's kernel still answers (its host is to be powered off), or most of the peers that own addresses
    /// are out of reach (they are dead, and no other part of the network lives)
    #[arg(long)]
    pub force: bool,
    /// Name or nickname of a peer that will never come back, as `status ipam` shows it
    #[arg(value_name = "PEER", required = true)]
    pub peers: Vec<String>,
}

/// Arguments of `status`.
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// The part to show; a summary of everything when none is named
    #[arg(value_name = "PART")]
    pub part: Option<StatusPart>,
}

/// Parts of the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StatusPart {
    /// Links to peers, and attempts at them
    Connections,
    /// All known peers with their links
    Peers,
    /// Peers that were named to `launch` and `connect`
    Targets,
    /// Shares of the address range
    Ipam,
    /// Names of containers, and their addresses
    Dns,
}

/// Arguments of `attach`.
#[derive(Args, Debug)]
#[command(allow_missing_positional = true)]
pub struct AttachArgs {
    /// IP, IP/LENGTH, net:CIDR or net:default; one address of the default subnet when none is named
    #[arg(value_name = "ADDR")]
    pub addrs: Vec<String>,
    /// Name or path of a network namespace, or a process id
    #[arg(value_name = "CONTAINER", required = true)]
    pub container: String,
    /// Its name, in the domain or to be put into it [default: its name in /run/netns]
    #[arg(short = 'H', long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Another name
    #[arg(long, value_name = "NAME")]
    pub alias: Vec<String>,
    /// It gets no name
    #[arg(long, conflicts_with_all = ["hostname", "alias"])]
    pub without_dns: bool,
    /// Write its addresses and its name into its hosts file, /etc/netns/NAME/hosts
    #[arg(long)]
    pub rewrite_hosts: bool,
    /// A line for its hosts file; with this, it is written
    #[arg(long, value_name = "HOST:IP")]
    pub add_host: Vec<String>,
    /// Write its resolv.conf, /etc/netns/NAME/resolv.conf: it asks this network for names
    #[arg(long)]
    pub rewrite_resolv: bool,
}

/// Arguments of `dns-add` and `dns-remove`.
#[derive(Args, Debug)]
pub struct NameArgs {
    /// Addresses, and at most one container, as `ps` shows it or as given to `attach`. With a container alone, all its
    /// addresses; without one, addresses of no container of this host
    #[arg(value_name = "ADDR|CONTAINER", required = true)]
    pub items: Vec<String>,
    /// The name, in the domain or to be put into it [default: of the container its own, and to remove all names]
    #[arg(short = 'H', long, value_name = "NAME")]
    pub hostname: Option<String>,
}

/// Arguments of `dns-lookup`.
#[derive(Args, Debug)]
pub struct LookupArgs {
    /// In the domain, or to be put into it
    #[arg(value_name = "NAME")]
    pub name: String,
}

/// Arguments of `detach`.
#[derive(Args, Debug)]
#[command(allow_missing_positional = true)]
pub struct DetachArgs {
    /// IP or IP/LENGTH; all addresses and the interface when none is named
    #[arg(value_name = "ADDR")]
    pub addrs: Vec<String>,
    /// As given to `attach`, or as `ps` shows it
    #[arg(value_name = "CONTAINER", required = true)]
    pub container: String,
}

/// Arguments of `release`.
#[derive(Args, Debug)]
pub struct ReleaseArgs {
    /// All addresses of all containers that are absent since a reboot
    #[arg(long, conflicts_with_all = ["owner", "addrs"])]
    pub absent: bool,
    /// As `ps` shows it
    #[arg(value_name = "OWNER", required_unless_present = "absent")]
    pub owner: Option<String>,
    /// IP or IP/LENGTH; all addresses when none is named
    #[arg(value_name = "ADDR")]
    pub addrs: Vec<String>,
}

/// Arguments of `expose`.
#[derive(Args, Debug)]
pub struct ExposeArgs {
    /// Let containers of this host out of the network, under the host's own address; until `hide`
    #[arg(long)]
    pub masquerade: bool,
    /// Name of this host, in the domain or to be put into it
    #[arg(short = 'H', long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// IP, IP/LENGTH, net:CIDR or net:default; one address of the default subnet when none is named
    #[arg(value_name = "ADDR")]
    pub addrs: Vec<String>,
}

/// Arguments of `hide`.
#[derive(Args, Debug)]
pub struct HideArgs {
    /// IP or IP/LENGTH; all addresses and the interface when none is named
    #[arg(value_name = "ADDR")]
    pub addrs: Vec<String>,
}

/// Arguments of `ps`.
#[derive(Args, Debug)]
pub struct PsArgs {
    /// Only containers that are absent since a reboot: their addresses are kept for them
    #[arg(long)]
    pub absent: bool,
}

/// Arguments of `report`.
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// Print the peers and their links as a graph in DOT, the language of Graphviz
    #[arg(long)]
    pub graph: bool,
}

/// Arguments of `stop`.
#[derive(Args, Debug)]
pub struct StopArgs {
    /// Remove programs, maps and interfaces too: containers are cut off; addresses are kept
    #[arg(long)]
    pub teardown: bool,
}

/// Arguments of `reset`.
#[derive(Args, Debug)]
pub struct ResetArgs {
    /// Even when no peer takes over this peer's addresses, or no controller is running
    #[arg(long)]
    pub force: bool,
}
