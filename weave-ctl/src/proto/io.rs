//! What goes into the core and what comes out of it.
//!
//! The driver feeds one [`Input`], then drains every [`Output`] and acts on the batch in this order: all `Persist` in
//! one transaction; only after it is durable, everything else in the order given. A failed commit stops the controller:
//! nothing of that batch was sent, answered or written to the kernel.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
};

use ipnet::Ipv4Net;
use weave_common::addr::Mac;

use super::{
    command::{Answer, Command, Refusal},
    domain::{DnsName, Registered},
    election::Vote,
    ipam::{Ring, keeper::Inherited},
    name::{PeerId, PeerName},
    params::{Identity, LaunchParams},
    reservation::{Place, Reservation},
    time::Instant,
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
    /// A whole frame arrived, decrypted, at most [`FRAME_MAX`] bytes; not trusted.
    Frame(SessionId, Vec<u8>),
    /// A session is gone, also after `Output::Close`: why, for the operator.
    SessionClosed(SessionId, String),
    /// An attempt came to nothing (no such name, refused, timed out, wrong password): why, for the operator.
    DialFailed(DialId, String),
    /// The kernel of a peer answered a probe.
    ProbeReply(ProbeReply),
    /// A probe that this host's kernel does not answer by itself.
    Contact(Contact),
    /// So many answers to probes were lost on this host (the ring was full, or read too late).
    RepliesLost(u64),
    /// Peers that packets went to or came from since the last such input. Active tunnels are looked at each 100 ms, all
    /// each second; only when there are any.
    Activity(Vec<Activity>),
    /// How this host sends to an address that is watched: first as the answer to `Output::Watch`, then when it changes.
    /// `None` while no route leads there.
    Egress(Ipv4Addr, Option<Egress>),
    /// A caller asks for something.
    Request(RequestId, Command),
    /// The caller went away; an answer to it would reach nobody.
    RequestGone(RequestId),
    /// The host's addresses or devices changed (and once at the start).
    Underlay(Underlay),
    /// A `LinkOp` was carried out: index of the host end, zero after a removal; or why not.
    LinkDone(OpId, Result<u32, String>),
    /// The host end of that name of a container's veth vanished: the container is gone.
    EndpointGone(String),
    /// A `MapOp` failed, and what the kernel said; its map is as it was.
    MapFailed(MapOp, String),
}

/// What the shell found out about this host's side of the underlay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Underlay {
    /// Global IPv4 addresses of the devices that are up, in order of device index.
    pub addrs: Vec<Ipv4Addr>,
    /// Subnets that are on the link of an underlay device: containers get no address of them.
    pub on_link: Vec<Ipv4Net>,
    /// MTU in bytes of the default route's device; 1500 without one.
    pub default_mtu: u32,
}

/// Something must be done.
#[derive(Clone, Debug)]
pub enum Output {
    /// Make durable before anything else of the batch.
    Persist(Record),
    /// Open a connection to a target, resolving its name anew. Answered by `SessionOpened` or `DialFailed`.
    Dial(DialId, Target),
    /// Send one frame, at most [`FRAME_MAX`] bytes. A session whose queue is full is closed by the shell.
    Send(SessionId, Vec<u8>),
    /// Close a session after what was sent on it before; the reason is for the log.
    Close(SessionId, String),
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
    Reply(RequestId, Result<Answer, Refusal>),
    /// Tell the operator's log one sentence.
    Event(Severity, String),
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
    /// The peer that is granted an address outside the range.
    Grant(Ipv4Addr, PeerId),
    /// No peer is granted that address any more.
    GrantGone(Ipv4Addr),
    /// Positions whose grants are not all known, whole.
    Inherited(Vec<Inherited>),
    /// Nicknames of peers that own something, whole.
    Nicknames(BTreeMap<PeerName, String>),
    /// The peer that was here left the network, and handed its addresses over.
    Left,
    /// What is held for an owner.
    Reservation(String, Reservation),
    /// Nothing is held for an owner any more.
    ReservationGone(String),
    /// Names that are registered for an owner; none when it is empty.
    Names(String, Registered),
}

/// A change to the kernel's maps, in the controller's words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MapOp {
    /// A local container's address, and where it is.
    PutEndpoint(Ipv4Addr, EndpointTo),
    /// No local container has this address.
    DelEndpoint(Ipv4Addr),
    /// A range of the ring, and its owner.
    PutRoute(Ipv4Net, RouteTo),
    /// Not a range of the ring.
    DelRoute(Ipv4Net),
    /// How to reach a peer: complete.
    PutTunnel(PeerName, TunnelTo),
    /// A peer is gone for good.
    DelTunnel(PeerName),
    /// Packets from this underlay address are a peer's.
    PutSender(Ipv4Addr, PeerName),
    /// Packets from this underlay address are nobody's.
    DelSender(Ipv4Addr),
    /// A name of the domain, and all its addresses.
    PutName(DnsName, Vec<Ipv4Addr>),
    /// No name any more.
    DelName(DnsName),
}

/// Where packets for a local container go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndpointTo {
    /// Index of the host end of its veth.
    pub ifindex: u32,
    /// MAC of its interface.
    pub mac: Mac,
    /// The container is this host: both ends of the veth are in its namespace.
    pub host: bool,
    /// With `host`: this host forwards packets of local containers to addresses outside the network, and the answers to
    /// them. Packets get there by a [`RouteTo::Host`] that names this endpoint's address.
    pub gateway: bool,
    /// Questions for names are answered there: containers of this host reach it, and nothing but DNS and echo.
    pub service: bool,
}

impl EndpointTo {
    /// A container behind the host end `ifindex`, whose interface has `mac`.
    #[must_use]
    pub const fn container(ifindex: u32, mac: Mac) -> Self {
        Self { ifindex, mac, host: false, gateway: false, service: false }
    }
}

/// Owner of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteTo {
    /// This host.
    Local,
    /// A peer.
    Peer(PeerName),
    /// Nobody in the network: packets of local containers go to this host's own interface, the endpoint with that address,
    /// which must be a gateway. Packets from peers find no route.
    Host(Ipv4Addr),
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
        /// Where the interface is.
        place: Place,
        /// MTU in bytes.
        mtu: u32,
    },
    /// Remove the veth with this host end, if there is one.
    Remove {
        /// Name of the host end.
        host_if: String,
        /// Remove the rules too by which containers go out through the host.
        masquerade: bool,
    },
}

/// A container's interface as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSpec {
    /// Where the interface is.
    pub place: Place,
    /// Name of the veth's host end.
    pub host_if: String,
    /// MAC of the container's end.
    pub mac: Mac,
    /// MTU in bytes of both ends.
    pub mtu: u32,
    /// Addresses with the length of their subnet; the first is the primary.
    pub addrs: Vec<Ipv4Net>,
    /// Networks that are reached by this interface beside the subnets of its addresses.
    pub routes: Vec<Ipv4Net>,
}

/// Name of the interface inside a container.
pub const CONTAINER_IF: &str = "ethwe";
/// Name of the host's own interface.
pub const HOST_IF: &str = "weave";

impl EndpointSpec {
    /// Name of the interface.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.place {
            Place::Netns(_) => CONTAINER_IF,
            Place::Host { .. } => HOST_IF,
        }
    }
}

/// Length in bytes of the proof in a [`ProbeKind::Proof`]: the address seen (4), an Ed25519 signature (64).
pub const PROOF_LEN: usize = 4 + 64;

/// How this host sends to an underlay address now, by its routing table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Egress {
    /// Device that packets leave by.
    pub ifindex: u32,
    /// Neighbour on that device: the gateway, or the address itself when it is on the link.
    pub next_hop: Ipv4Addr,
    /// Source address of the packets.
    pub source: Ipv4Addr,
    /// The smaller MTU of device and route, in bytes of the IP packet.
    pub mtu: u32,
}

/// How packets for a peer travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathKind {
    /// To the peer's data port, each flow from a source port of its own.
    Direct,
    /// To the peer's data port or its NAT mapping, all flows from this host's data port.
    Fixed,
    /// To another peer, which relays.
    Relayed,
}

/// A probe to be sent: a VXLAN frame of the probes' VNI (DESIGN section 5), padded to `size`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeRequest {
    /// Outer destination.
    pub to: SocketAddrV4,
    /// How the host sends there.
    pub egress: Egress,
    /// Outer source port; `None`: a new one of the dynamic range for each probe, as flows have.
    pub source_port: Option<u16>,
    /// The peer that is to answer.
    pub receiver: PeerName,
    /// The sender's index of the path, echoed.
    pub path_id: u16,
    /// What kind of probe.
    pub kind: ProbeKind,
    /// Length in bytes of the outer IP packet.
    pub size: u32,
    /// The sender's clock, echoed: tells apart the probes of one path.
    pub sent_at: Instant,
}

/// Kinds of probes that the core sends, and that programs pass up to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// Answered by the receiver's kernel; passed up when it comes from an address that is no peer's.
    Request,
    /// Answered by the kernel, and passed up: the sender is behind NAT or a stateful filter, and sends from its data port.
    Announce,
    /// The receiver's controller is to prove that it holds the peer's key. The nonce is random, and part of what is signed.
    Challenge(u64),
    /// The answer to the challenge of that nonce: the address that its receiver saw it come from, and the signature.
    Proof(u64, Box<[u8; PROOF_LEN]>),
}

/// The answer of a peer's kernel to a request of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeReply {
    /// The peer that answered.
    pub peer: PeerName,
    /// As in the request.
    pub path_id: u16,
    /// As in the request.
    pub sent_at: Instant,
    /// When the kernel received the answer.
    pub received_at: Instant,
    /// Length in bytes of the request's outer IP packet as it arrived there.
    pub size: u16,
    /// Relays that the request passed.
    pub hops: u8,
}

/// A probe that a program passed up to the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// Outer source.
    pub from: SocketAddrV4,
    /// The peer that the probe names as its origin: not proven.
    pub origin: PeerName,
    /// What it asks.
    pub kind: ProbeKind,
}

/// Packets of containers, relayed packets and probes to and from a peer since the last such input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// The peer: the owner of the inner destination, and the origin of what arrived.
    pub peer: PeerName,
    /// Packets left for it.
    pub sent: bool,
    /// Some of them with more than 1,200 bytes of outer IP packet.
    pub big: bool,
    /// Packets of that origin arrived from where packets for it go first.
    pub heard: bool,
    /// Packets of that origin arrived from elsewhere.
    pub elsewhere: bool,
}
