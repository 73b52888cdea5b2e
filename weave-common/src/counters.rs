//! What the programs count when all is well.

use bytemuck::{Pod, Zeroable};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// Index into [`crate::map::COUNTERS`]. Numbered once, never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Counter {
            $($(#[$doc])* $name = $number,)*
        }

        impl Counter {
            /// All of them, by number.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name used in `report` and in metrics.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

counters! {
    /// From a container to another on this host.
    Local = 0, "local";
    /// From a container, encapsulated and sent to its peer directly, the source port by flow.
    Encap = 1, "encap";
    /// From a peer, decapsulated and delivered.
    Decap = 2, "decap";
    /// ARP requests answered for the container's neighbours.
    ArpReply = 3, "arp-reply";
    /// Probes passed up to the controller's own socket. Counted by schemas before 4 alone.
    Probe = 4, "probe";
    /// From a peer, sent on to another without being decapsulated.
    Relay = 5, "relay";
    /// From a container, larger than the path to its peer with DF set: answered with ICMP "fragmentation needed".
    IcmpTooBig = 6, "icmp-too-big";
    /// From a container, larger than the path to its peer with DF clear: left to the kernel's stack, which cuts it.
    SlowPath = 7, "slow-path";
    /// UDP super-packets from a peer, left to the VXLAN socket device, which delivers them and counts them again.
    ToSocket = 8, "to-socket";
    /// From a container, encapsulated and sent to its peer directly, from data port to data port.
    EncapFixed = 9, "encap-fixed";
    /// From a container, encapsulated and sent to its peer by way of a relay.
    EncapRelayed = 10, "encap-relayed";
    /// Answers to this host's probes, given to the controller.
    ProbeReply = 11, "probe-reply";
    /// Requests of known senders, answered.
    Echo = 12, "echo";
    /// Probes for other peers, sent on.
    ProbeRelay = 13, "probe-relay";
    /// First contacts, announcements, challenges and proofs, given to the controller.
    Contact = 14, "contact";
    /// Probes that the controller wrote, sent.
    ProbeSent = 15, "probe-sent";
    /// From a container to an address outside the network, given to this host, which forwards it.
    Outside = 16, "outside";
    /// Questions for names, answered.
    DnsAnswer = 17, "dns-answer";
}

/// Packets and bytes; a super-packet counts once, with all its bytes. One entry a [`Counter`] and CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes of the inner frame.
    pub bytes: u64,
}

const _: () = assert!(size_of::<Count>() == 16);
