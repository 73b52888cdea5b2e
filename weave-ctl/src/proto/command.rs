//! What a caller may ask of the core, and what it answers.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{
    name::PeerName,
    reservation::{NetnsId, Place},
    status::{ContainerStatus, NameStatus, Snapshot},
    target::Target,
};

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Add targets, or replace them all.
    Connect {
        /// The targets.
        targets: Vec<Target>,
        /// Drop all other targets.
        replace: bool,
    },
    /// Remove targets. Sessions that are up stay.
    Forget(Vec<Target>),
    /// Hold addresses for an owner; one from the default subnet when none is named. Without an owner each request holds
    /// others, under a new id.
    Reserve(Option<String>, Vec<AddrRequest>),
    /// Name the owner of what was reserved under an id.
    Bind {
        /// As answered to `Reserve`.
        id: String,
        /// The owner.
        owner: String,
    },
    /// Give a container an interface with the addresses that are held for it and those named; one from the default subnet
    /// when there are none.
    Attach(Container, Vec<AddrRequest>),
    /// Take addresses of a container away; all of them, and the interface, when none is named.
    Detach {
        /// The container.
        holder: Holder,
        /// Those of its addresses that are taken away.
        addrs: Vec<Ipv4Addr>,
        /// Take the interface away alone: its addresses stay reserved.
        keep: bool,
    },
    /// Give addresses up that are held for an owner, or under an id, without an interface; all when none is named.
    Release(String, Vec<Ipv4Addr>),
    /// Give up what is held for containers that are absent since a reboot.
    ReleaseAbsent,
    /// All reservations, with their interfaces.
    Containers,
    /// Give addresses a name.
    AddName {
        /// The container that has them; `None` for addresses that are no container's here.
        holder: Option<Holder>,
        /// The name, in the domain or to be put into it; `None` for the container's own.
        name: Option<String>,
        /// The addresses; none for all that the container has.
        addrs: Vec<Ipv4Addr>,
    },
    /// Take a name of addresses away.
    RemoveName {
        /// As it was given.
        holder: Option<Holder>,
        /// The name; `None` for all names.
        name: Option<String>,
        /// The addresses; none for all.
        addrs: Vec<Ipv4Addr>,
    },
    /// Addresses of a name, or of all names.
    Names(Option<String>),
    /// Everything the core knows.
    Status,
    /// Stop the controller.
    Stop {
        /// Remove the dataplane too.
        teardown: bool,
    },
    /// Take over from a peer that is gone for good. Answered after some seconds, in which is asked whether it is alive.
    RemovePeer {
        /// Its name, or its nickname.
        peer: String,
        /// Even when its kernel answers, or most owners of addresses are out of reach.
        force: bool,
    },
    /// See to it that there is a ring, and tell how far that is.
    Consense,
    /// Leave the network and forget everything.
    Reset {
        /// Even when nobody takes over this peer's ranges.
        force: bool,
    },
}

/// A container, resolved by the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// The owner key of its addresses, unless its namespace has an interface under another.
    pub owner: String,
    /// An engine chose the key: it is this one, or the request is refused.
    pub chosen: bool,
    /// Where its interface shall be.
    pub place: Place,
    /// What its addresses shall be called.
    pub names: NameRequest,
}

/// What the addresses of a container shall be called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameRequest {
    /// Its own name, in the domain or to be put into it. Without one, a container that has no name yet is called by its owner
    /// key, where that is a host name.
    pub hostname: Option<String>,
    /// Other names that it has too.
    pub aliases: Vec<String>,
    /// It has no name, and loses those that it has.
    pub without: bool,
}

/// An owner of addresses, as a caller names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its owner key.
    pub owner: String,
    /// The namespace that the caller means, when no owner has the key.
    pub netns: Option<NetnsId>,
}

/// One address argument of `attach`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddrRequest {
    /// `IP` or `IP/LEN`, optionally after `ip:`. Without a length the default subnet's is taken.
    Fixed(Ipv4Addr, Option<u8>),
    /// `net:CIDR`: any address of that subnet.
    Subnet(Ipv4Net),
    /// `net:default`.
    Default,
}

/// An answer.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Done; nothing to say.
    Done,
    /// `Reserve`, `Bind` and `Attach`: what the container has now.
    Container(ContainerStatus),
    /// `Detach` and `Release`: the addresses that are no more its; none when it had none of them.
    Released(Vec<Ipv4Net>),
    /// `ReleaseAbsent`: the addresses that are free again, by owner.
    ReleasedAbsent(Vec<(String, Vec<Ipv4Net>)>),
    /// `Containers`.
    Containers(Vec<ContainerStatus>),
    /// `Names`, and what `AddName` and `RemoveName` left of the name.
    Names(Vec<NameStatus>),
    /// `Connect` and `Forget`: the targets as they were before.
    Targets(Vec<Target>),
    /// `Status`: to be completed beside the driver.
    Status(Box<Snapshot>),
    /// `Consense`: whether there is a ring, and what is waited for.
    Consense(bool, String),
    /// `RemovePeer`.
    Removed {
        /// From whom was taken over.
        peer: PeerName,
        /// How many addresses.
        addresses: u64,
        /// By whom.
        heir: PeerName,
    },
}

/// Why a request was refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);
