//! What goes into the core and what comes out of it.
//!
//! The driver feeds one [`Input`], then drains every [`Output`] and acts on the batch in this order: all `Persist` in
//! one transaction; only after it is durable, everything else in the order given. A failed commit stops the controller:
//! nothing of that batch was sent, answered or written to the kernel.

mod probes;

use std::{
    collections::BTreeMap,
    fmt,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use weave_common::addr::Mac;

pub use self::probes::{Egress, PathKind};
use super::{
    boot::{Identity, LaunchParams},
    command::{Answer, Command, Refusal},
    election::Vote,
    ipam::{Allocation, Ring},
    name::PeerName,
};

/// A TCP connection that has finished its Noise handshake. Numbered by the shell, never reused in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// One attempt to connect. Numbered by the core, never reused in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialId(pub u64);

/// A caller of the API that waits for an answer. Numbered by the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A kernel operation whose result comes back as an input. Numbered by the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

/// Which side opened a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// The other side did.
    Inbound,
    /// We did, by this attempt.
    Outbound(DialId),
}

/// See [`Input::LinkOpened`].
pub type Binding = [u8; 32];

/// Something happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A TCP connection is up and encrypted.
    LinkOpened {
        /// The new link.
        link: LinkId,
        /// The other end, as this host sees it.
        remote: SocketAddr,
        /// This end.
        local: SocketAddr,
        /// Who opened it.
        direction: Direction,
        /// The same at both ends of this connection and nowhere else: a hello that is signed with it is of this
        /// connection (the hash of the Noise handshake).
        binding: Binding,
    },
    /// A whole frame arrived, decrypted, at most [`FRAME_MAX`] bytes.
    Frame {
        /// On this link.
        link: LinkId,
        /// Its content, not trusted.
        bytes: Vec<u8>,
    },
    /// A link is gone, for whatever reason; also after `Output::Close`.
    LinkClosed {
        /// The link.
        link: LinkId,
        /// Why, for the operator.
        reason: String,
    },
    /// An attempt came to nothing: no such name, refused, timed out, wrong password.
    DialFailed {
        /// The attempt.
        dial: DialId,
        /// Why, for the operator.
        reason: String,
    },
    /// A probe arrived on the data port.
    Probe {
        /// Outer source of the packet.
        from: SocketAddrV4,
        /// What follows the VXLAN header, not trusted.
        bytes: Vec<u8>,
    },
    /// Peers that containers, or peers that relay through this host, have sent to since the last such input. Told about
    /// once a second, and only when there are any.
    Traffic(Vec<PeerName>),
    /// A caller asks for something.
    Request {
        /// The caller.
        id: RequestId,
        /// What is asked.
        command: Command,
    },
    /// The caller went away; an answer to it would reach nobody.
    RequestGone {
        /// The caller.
        id: RequestId,
    },
    /// The host's addresses or devices changed (and once at the start).
    Underlay(Underlay),
    /// How this host sends to a watched address now: the answer to [`Output::Watch`], and told again when it changes.
    Egress {
        /// The watched address.
        addr: Ipv4Addr,
        /// `None` when no route leads there that is of use for the data plane.
        egress: Option<Egress>,
    },
    /// A `LinkOp` was carried out or failed.
    LinkDone {
        /// Which.
        op: OpId,
        /// The veth's host end, or what went wrong.
        result: Result<LinkFacts, String>,
    },
    /// The host end of a container's veth vanished: the container is gone.
    EndpointGone {
        /// Name of the host end.
        host_if: String,
    },
    /// A `MapOp` failed; the kernel's map is as it was.
    MapFailed {
        /// Which.
        op: MapOp,
        /// What the kernel said.
        reason: String,
    },
}

/// What the shell found out about this host's side of the underlay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Underlay {
    /// Global IPv4 addresses of the devices that are up, in order of device index.
    pub addrs: Vec<Ipv4Addr>,
    /// MTU in bytes of the default route: what peers can be expected to be sent by while no route to one is known. Without
    /// a default route that of the host's only device, and 1500 where there is none or several.
    pub default_mtu: u32,
}

/// What the kernel says of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkFacts {
    /// Index of the host end; zero after a removal.
    pub ifindex: u32,
}

/// Something must be done.
#[derive(Clone, Debug)]
pub enum Output {
    /// Make durable before anything else of the batch.
    Persist(Record),
    /// Open a connection to a target, resolving its name anew. Answered by `LinkOpened` or `DialFailed`.
    Dial {
        /// The attempt.
        dial: DialId,
        /// Host name or address with port.
        target: Target,
    },
    /// Send one frame, at most [`FRAME_MAX`] bytes. A link whose queue is full is closed by the shell.
    Send {
        /// On this link.
        link: LinkId,
        /// The frame.
        bytes: Vec<u8>,
    },
    /// Close a link after what was sent on it before.
    Close {
        /// The link.
        link: LinkId,
        /// Why, for the log.
        reason: String,
    },
    /// Send a probe to a peer's data port. Lost silently when the host cannot.
    Probe {
        /// The peer's address and data port.
        to: SocketAddrV4,
        /// What follows the VXLAN header.
        bytes: Vec<u8>,
    },
    /// Tell how this host sends to an address, now and whenever that changes, by [`Input::Egress`]. Each address is
    /// watched once.
    Watch(Ipv4Addr),
    /// Watch an address no more. An answer that is under way may still come.
    Unwatch(Ipv4Addr),
    /// Change a kernel map. Answered only on failure.
    Map(MapOp),
    /// Change interfaces. Answered by `LinkDone` with the same id.
    Link(OpId, LinkOp),
    /// Answer a caller.
    Reply {
        /// The caller.
        id: RequestId,
        /// The answer or the refusal.
        answer: Result<Answer, Refusal>,
    },
    /// Tell the operator's log.
    Event(Event),
    /// Stop the controller once the rest of the batch is done.
    Shutdown(Shutdown),
}

/// How far to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Leave the dataplane: containers keep talking.
    Stop,
    /// Remove programs, maps and interfaces; keep the store.
    Teardown,
    /// Teardown, and wipe the store.
    Wipe,
    /// The same, but remember that others own what this host owned: seeds alone do not make it an owner again.
    Leave,
}

/// A line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// How loud.
    pub severity: Severity,
    /// One sentence.
    pub text: String,
}

/// Loudness of an [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Normal operation.
    Info,
    /// An operator should look when something does not work.
    Warn,
}

/// One change to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Name, uid, nickname and incarnation.
    Identity(Identity),
    /// What the network was launched with.
    Params(LaunchParams),
    /// The targets, whole.
    Targets(Vec<Target>),
    /// The ring.
    Ring(Ring),
    /// What this peer promised and accepted in the election.
    Vote(Vote),
    /// Nicknames of peers that own something, whole.
    Nicknames(BTreeMap<PeerName, String>),
    /// The peer that was here left the network, and handed its addresses over.
    Left,
    /// A container's addresses, by its id.
    Allocation(String, Allocation),
    /// A container has no addresses any more.
    AllocationGone(String),
}

/// A change to the kernel's maps, in the controller's words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MapOp {
    /// A local container.
    PutEndpoint {
        /// Its address.
        addr: Ipv4Addr,
        /// Index of its veth's host end.
        ifindex: u32,
        /// MAC of its interface.
        mac: Mac,
    },
    /// No local container has this address.
    DelEndpoint {
        /// The address.
        addr: Ipv4Addr,
    },
    /// A range of the ring.
    PutRoute {
        /// The range.
        net: Ipv4Net,
        /// Its owner.
        to: RouteTo,
    },
    /// Not a range of the ring.
    DelRoute {
        /// The range.
        net: Ipv4Net,
    },
    /// How to reach a peer, complete: the writer of the maps asks nobody.
    PutTunnel {
        /// The peer.
        peer: PeerName,
        /// Its active path.
        tunnel: TunnelTo,
    },
    /// A peer is gone for good.
    DelTunnel {
        /// The peer.
        peer: PeerName,
    },
    /// Packets from this underlay address are a peer's.
    PutSender {
        /// The address.
        addr: Ipv4Addr,
        /// The peer.
        peer: PeerName,
    },
    /// Packets from this underlay address are nobody's.
    DelSender {
        /// The address.
        addr: Ipv4Addr,
    },
}

/// Owner of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteTo {
    /// This host.
    Local,
    /// A peer.
    Peer(PeerName),
}

impl RouteTo {
    /// The peer, when it is one.
    #[must_use]
    pub fn peer(&self) -> Option<PeerName> {
        if let Self::Peer(peer) = self { Some(*peer) } else { None }
    }
}

/// How packets for a peer leave this host: to the peer itself, or to another that relays them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TunnelTo {
    /// Underlay address and port that packets are sent to.
    pub remote: SocketAddrV4,
    /// The peer that receives them there: the peer itself, or the relay.
    pub via: PeerName,
    /// How they travel.
    pub kind: PathKind,
    /// They leave from this host's data port, all flows: what lies on the way (to the relay, when there is one) lets in
    /// nothing else. Otherwise each flow has a source port of its own.
    pub fixed: bool,
    /// How this host sends there.
    pub egress: Egress,
    /// Largest outer IP packet in bytes that the whole path takes; never zero, never above `egress.mtu`.
    pub path_mtu: u32,
}

/// A change to interfaces. All are idempotent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkOp {
    /// Make a container's interface exactly so: create the veth, move one end, set MAC, MTU and addresses, attach the
    /// program to the host end.
    Ensure(EndpointSpec),
    /// Give both ends of a running container's veth this MTU.
    SetMtu {
        /// Name of the host end.
        host_if: String,
        /// The container's network namespace.
        netns: String,
        /// MTU in bytes.
        mtu: u32,
    },
    /// Remove the veth, if there is one.
    Remove {
        /// Name of the host end.
        host_if: String,
    },
}

/// A container's interface as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSpec {
    /// The container's network namespace.
    pub netns: String,
    /// Name of the veth's host end.
    pub host_if: String,
    /// MAC of the container's end.
    pub mac: Mac,
    /// MTU in bytes of both ends.
    pub mtu: u32,
    /// Addresses with the length of their subnet; the first is the primary.
    pub addrs: Vec<Ipv4Net>,
}

/// Name of the interface inside a container.
pub const CONTAINER_IF: &str = "ethwe";

/// Largest control frame in bytes, after decryption.
pub const FRAME_MAX: usize = 1 << 20;

/// Where to find a peer: `HOST[:PORT]`, the host a name or an IPv4 address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Target {
    /// Name or address.
    pub host: String,
    /// TCP port; the sender's own control port when not given.
    pub port: Option<u16>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

/// Text that is not a target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a peer address: write a host name or an IPv4 address, with :PORT when it is not the usual one"
)]
pub struct TargetError {
    text: String,
}

impl std::str::FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || TargetError { text: text.to_owned() };
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port.parse::<u16>().ok().filter(|p| *p > 0).ok_or_else(bad)?)),
            None => (text, None),
        };
        let label = |l: &str| {
            (1..=63).contains(&l.len())
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !l.starts_with('-')
        };
        let numeric = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let good = host.len() <= 253
            && if numeric {
                host.parse::<Ipv4Addr>().is_ok()
            } else {
                host.trim_end_matches('.').split('.').all(label)
            };
        if good { Ok(Self { host: host.to_owned(), port }) } else { Err(bad()) }
    }
}

#[cfg(test)]
mod tests;
