//! What goes into the core and what comes out of it.
//!
//! The driver feeds one [`Input`], then drains every [`Output`] and acts on the batch in this order: all `Persist` in
//! one transaction; only after it is durable, everything else in the order given. A failed commit stops the controller:
//! nothing of that batch was sent, answered or written to the kernel.

mod probes;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
};

use ipnet::Ipv4Net;
use weave_common::addr::Mac;

pub use self::probes::{
    Activity, Contact, ContactKind, Egress, PROOF_LEN, PathKind, ProbeKind, ProbeReply, ProbeRequest,
};
use super::{
    command::{Answer, Command, Refusal},
    election::Vote,
    ipam::{Allocation, Ring},
    name::PeerName,
    params::{Identity, LaunchParams},
};
pub use super::{
    ids::{DialId, OpId, RequestId, SessionId, Severity},
    target::{Target, TargetError},
    wire::{ChannelBinding, FRAME_MAX},
};

/// Which side opened a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// The other side did.
    Inbound,
    /// We did, by this attempt.
    Outbound(DialId),
}

/// Something happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A TCP connection is up and encrypted.
    SessionOpened {
        /// The new session.
        session: SessionId,
        /// The other end, as this host sees it.
        remote: SocketAddr,
        /// Which side opened it.
        direction: Direction,
        /// What the identity proof of a handshake signs.
        binding: ChannelBinding,
    },
    /// A whole frame arrived, decrypted, at most [`FRAME_MAX`] bytes.
    Frame {
        /// On this session.
        session: SessionId,
        /// Its content, not trusted.
        bytes: Vec<u8>,
    },
    /// A session is gone, for whatever reason; also after `Output::Close`.
    SessionClosed {
        /// The session.
        session: SessionId,
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
    /// The kernel of a peer answered a probe.
    ProbeReply(ProbeReply),
    /// A probe that this host's kernel does not answer by itself.
    Contact(Contact),
    /// Answers to probes were lost on this host (the ring was full, or read too late).
    RepliesLost {
        /// How many.
        count: u64,
    },
    /// Peers that packets went to or came from since the last such input. Active tunnels are looked at each 100 ms, all
    /// each second; only when there are any.
    Activity(Vec<Activity>),
    /// How this host sends to an address that is watched: first as the answer to `Output::Watch`, then when it changes.
    Egress {
        /// The address.
        addr: Ipv4Addr,
        /// `None` while no route leads there.
        egress: Option<Egress>,
    },
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
    /// MTU in bytes of the default route's device; 1500 without one.
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
    /// Open a connection to a target, resolving its name anew. Answered by `SessionOpened` or `DialFailed`.
    Dial {
        /// The attempt.
        dial: DialId,
        /// Host name or address with port.
        target: Target,
    },
    /// Send one frame, at most [`FRAME_MAX`] bytes. A session whose queue is full is closed by the shell.
    Send {
        /// On this session.
        session: SessionId,
        /// The frame.
        bytes: Vec<u8>,
    },
    /// Close a session after what was sent on it before.
    Close {
        /// The session.
        session: SessionId,
        /// Why, for the log.
        reason: String,
    },
    /// Send probes. Those that the host cannot send are lost silently.
    Probes(Vec<ProbeRequest>),
    /// From now on the core wants to know how this host sends to an address. Answered by `Egress`.
    Watch(Ipv4Addr),
    /// It does not want to know any more.
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
    /// How to reach a peer: complete.
    PutTunnel {
        /// The peer.
        peer: PeerName,
        /// How.
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
    /// Largest outer IP packet in bytes that the whole path takes; never zero.
    pub path_mtu: u32,
}

/// A change to interfaces. All are idempotent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkOp {
    /// Make a container's interface exactly so: create the veth, move one end, set MAC, MTU and addresses, attach the
    /// program to the host end.
    Ensure(EndpointSpec),
    /// Set the MTU of a container's interface, both ends, where it exists. The running container keeps all else.
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
