//! Bodies of requests and answers. What `status` says is the core's own type.

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

pub use crate::proto::status::*;

/// Add targets, or replace them all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Connect {
    /// `HOST[:PORT]` each.
    pub targets: Vec<String>,
    /// Drop all other targets.
    #[serde(default)]
    pub replace: bool,
}

/// Remove targets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Forget {
    /// `HOST[:PORT]` each, as they were given.
    pub targets: Vec<String>,
}

/// Hold addresses for an owner, before a container has an interface for them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Reserve {
    /// The owner key: any text of at most 256 bytes without control characters. Without one each request holds others,
    /// under an id that is answered as owner.
    #[serde(default)]
    pub owner: Option<String>,
    /// As in [`Attach`].
    #[serde(default)]
    pub addrs: Vec<String>,
}

/// Name the owner of what was reserved without one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Bind {
    /// The id that `reserve` answered.
    pub id: String,
    /// The owner key.
    pub owner: String,
}

/// Give a container an interface with the addresses that its owner has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Attach {
    /// Name or path of a network namespace, or a process id.
    pub container: String,
    /// The owner key; without one the name of the namespace, or its number when it has none. A namespace that has an
    /// interface already keeps its owner.
    #[serde(default)]
    pub owner: Option<String>,
    /// `IP`, `IP/LENGTH`, `net:CIDR` or `net:default` each; empty for one address of the default subnet.
    #[serde(default)]
    pub addrs: Vec<String>,
    /// Its name, in the domain or to be put into it. Without one, a container that has no name yet is called by its owner key,
    /// where that is a host name.
    #[serde(default)]
    pub hostname: Option<String>,
    /// Other names that it has too. Names that it has already stay.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// It has no name, and loses those that it has.
    #[serde(default)]
    pub without_dns: bool,
}

/// Take a container's addresses away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Detach {
    /// As in [`Attach`], or the owner that `ps` shows.
    pub container: String,
    /// `IP` each; empty for all of them and the interface.
    #[serde(default)]
    pub addrs: Vec<String>,
    /// Take the interface away alone: the addresses stay reserved for the owner.
    #[serde(default)]
    pub keep: bool,
}

/// Give up addresses that are held without an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Release {
    /// The owner key, or the id that `reserve` answered.
    pub owner: String,
    /// `IP` each; empty for all of them.
    #[serde(default)]
    pub addrs: Vec<String>,
}

/// Give the host an interface in the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Expose {
    /// As in [`Attach`].
    #[serde(default)]
    pub addrs: Vec<String>,
    /// Let containers of this host out of the network, under the host's own address, until the host is hidden. What stands
    /// in the way is among the warnings of `status`, and begins with `masquerade: `.
    #[serde(default)]
    pub masquerade: bool,
    /// As in [`Attach`]; without one the host is called as before.
    #[serde(default)]
    pub hostname: Option<String>,
}

/// Give addresses a name, or take one away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NameChange {
    /// As in [`Attach`], or the owner that `ps` shows: its interface must be there for the name to be. Without one the
    /// addresses are no container's here.
    #[serde(default)]
    pub container: Option<String>,
    /// In the domain, or to be put into it. Without one, `dns-add` takes the container's owner key, and `dns-remove` all
    /// its names.
    #[serde(default)]
    pub name: Option<String>,
    /// `IP` each; empty for all that the container has.
    #[serde(default)]
    pub addrs: Vec<String>,
}

/// Look up a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Lookup {
    /// In the domain, or to be put into it.
    pub name: String,
}

/// Take the host's addresses away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Hide {
    /// `IP` each; empty for all of them and the interface.
    #[serde(default)]
    pub addrs: Vec<String>,
}

/// Stop the controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Stop {
    /// Remove programs, maps and interfaces too.
    #[serde(default)]
    pub teardown: bool,
}

/// Leave the network and forget everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Reset {
    /// Even when nobody takes over this peer's ranges.
    #[serde(default)]
    pub force: bool,
}

/// Body of every refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Error {
    /// One sentence: what happened, what was left unchanged, what to do.
    pub error: String,
}

/// Done; nothing else to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Done {
    /// Always true.
    pub done: bool,
}

/// What became of targets. Those that were neither named nor replaced are as before and not listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Targets {
    /// Always true.
    pub done: bool,
    /// Targets now that were none before.
    #[serde(default)]
    pub added: Vec<String>,
    /// Named, and targets already: nothing changed for them.
    #[serde(default)]
    pub kept: Vec<String>,
    /// Targets before that are none now. Links that are up stay.
    #[serde(default)]
    pub removed: Vec<String>,
}

/// Addresses that are free again. None when the owner had none of those named: the same request again changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Released {
    /// `IP/LENGTH` each.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub addrs: Vec<Ipv4Net>,
}

/// Addresses of an owner that are free again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ReleasedOwner {
    /// The owner key.
    pub owner: String,
    /// `IP/LENGTH` each.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub addrs: Vec<Ipv4Net>,
}

/// Take over from a peer that is gone for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RemovePeer {
    /// Its name or nickname.
    pub peer: String,
    /// Even when most of those who own something are out of reach.
    #[serde(default)]
    pub force: bool,
}

/// From whom was taken over, and how much.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RemovedPeer {
    /// The peer's name.
    pub peer: String,
    /// Addresses that were taken over.
    pub addresses: u64,
    /// Name of the peer whose they are now.
    pub heir: String,
}

/// How far the division of the range is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Consensus {
    /// There is a ring.
    pub ready: bool,
    /// What is waited for.
    pub state: String,
}

/// Everything that helps to find a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Report {
    /// Version of this contract.
    pub api: u32,
    /// Process id of the controller.
    pub pid: u32,
    /// Seconds since the controller started to serve.
    pub uptime_s: u64,
    /// Release of the running kernel.
    pub kernel: String,
    /// The rest.
    pub status: Status,
}
