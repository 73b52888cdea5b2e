//! Why a packet was dropped. Every drop in the programs has one of these and is counted under it.

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// Index into [`crate::map::DROPS`]. Numbered once, never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum DropReason {
            $($(#[$doc])* $name = $number,)*
        }

        impl DropReason {
            /// All of them, by number.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name shown to operators.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

reasons! {
    /// The controller has not written its configuration, or wrote one of another schema.
    NotConfigured = 0, "not-configured";
    /// Too short, or a header's length does not agree with the packet's.
    Malformed = 1, "malformed";
    /// Neither IPv4 nor ARP.
    NotIpv4 = 2, "not-ipv4";
    /// A container sent from an address that is not its own.
    SourceAddress = 3, "source-address";
    /// The destination is in no range of the ring.
    NoRoute = 4, "no-route";
    /// The destination is in a range of this host, but no container has it.
    NoEndpoint = 5, "no-endpoint";
    /// The destination's owner is known, but not how to reach it.
    NoTunnel = 6, "no-tunnel";
    /// Larger than the path to the peer.
    TooBig = 7, "too-big";
    /// Broadcast or multicast.
    Multicast = 8, "multicast";
    /// Came from an underlay address that is no peer's.
    UnknownSender = 9, "unknown-sender";
    /// Another network's identifier.
    WrongVni = 10, "wrong-vni";
    /// A kernel helper refused the packet.
    Kernel = 11, "kernel";
    /// An ARP message that asks for nothing the overlay holds.
    Arp = 12, "arp";
    /// Came to the VXLAN socket device, and not from the data port.
    NotOnUnderlay = 13, "not-on-underlay";
    /// To be relayed, but its hop limit is used up: the peers' routes make a loop, or the way is too long.
    TtlExhausted = 14, "ttl-exhausted";
    /// To be relayed to the peer that it came from.
    RelayBack = 15, "relay-back";
    /// An answer to a probe that this host did not send, or sent long ago.
    BadCookie = 16, "bad-cookie";
    /// An answer to a probe for which the ring to the controller had no room.
    RingFull = 17, "ring-full";
    /// A request for an answer from a port below 1024.
    LowPort = 18, "low-port";
    /// More requests of one sender than are answered.
    EchoLimit = 19, "echo-limit";
    /// More first contacts, announcements, challenges and proofs than are given to the controller, or than it takes.
    ContactRefused = 20, "contact-refused";
    /// A container sent to the service address something other than DNS or echo, or the service endpoint to another host.
    ServicePort = 21, "service-port";
    /// Came from a peer with the service address, which means another endpoint on each host.
    ServiceFromUnderlay = 22, "service-from-underlay";
    /// More questions for names from one address of a container than the resolver gets.
    QuestionLimit = 23, "question-limit";
}
