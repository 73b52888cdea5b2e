//! Names and capacities of the maps. Names have at most 15 characters (`BPF_OBJ_NAME_LEN` less the NUL).

/// Hash: [`crate::endpoint::EndpointKey`] to [`crate::endpoint::Endpoint`].
pub const ENDPOINTS: &str = "weave_endpoints";
/// Longest-prefix trie: network to [`crate::route::Route`].
pub const ROUTES: &str = "weave_routes";
/// Hash: [`crate::addr::PeerKey`] to [`crate::tunnel::Tunnel`].
pub const TUNNELS: &str = "weave_tunnels";
/// Hash: [`crate::tunnel::SenderKey`] to [`crate::tunnel::Sender`].
pub const SENDERS: &str = "weave_senders";
/// Hash: [`crate::device::DeviceKey`] to [`crate::device::Device`].
pub const DEVICES: &str = "weave_devices";
/// Hash: [`crate::local::LocalKey`] to [`crate::local::Local`].
pub const LOCALS: &str = "weave_locals";
/// Hash: [`crate::dns::NameKey`] to [`crate::dns::NameAddrs`].
pub const NAMES: &str = "weave_names";
/// Per-CPU array of one: [`crate::dns::Scratch`].
pub const SCRATCH: &str = "weave_scratch";
/// Array of one: [`crate::probe::ProbeKeys`].
pub const KEYS: &str = "weave_keys";
/// Array of one: [`crate::bucket::Bucket`], of contacts.
pub const LIMITS: &str = "weave_limits";
/// Ring buffer of [`crate::probe::ReplyEvent`].
pub const REPLIES: &str = "weave_replies";
/// Ring buffer of [`crate::probe::ContactEvent`].
pub const CONTACTS: &str = "weave_contacts";
/// Array of one: [`crate::config::Config`].
pub const CONFIG: &str = "weave_config";
/// Per-CPU array indexed by [`crate::drop::DropReason`]: packets, as `u64`.
pub const DROPS: &str = "weave_drops";
/// Per-CPU array indexed by [`crate::counters::Counter`]: [`crate::counters::Count`].
pub const COUNTERS: &str = "weave_counters";

/// Program on the host end of a container's veth (TC ingress): all that the container sends.
pub const PROG_CONTAINER: &str = "weave_container";
/// Program on an underlay device (TC ingress): decapsulates and delivers, or relays.
pub const PROG_UNDERLAY: &str = "weave_underlay";
/// Program on the VXLAN socket device (TC ingress): what the kernel's stack took off the data port.
pub const PROG_SOCKET: &str = "weave_socket";
/// Program on the VXLAN socket device (TC egress): sends the probes that the controller writes there.
pub const PROG_PROBER: &str = "weave_prober";
/// Program on an underlay device (XDP): drops what cannot be ours and relays, before the kernel has made a packet of it.
pub const PROG_XDP: &str = "weave_xdp";
/// Never attached: run once on a made-up packet to find out whether the kernel knows the encapsulation flags.
pub const PROG_PROBE: &str = "weave_probe";

/// Containers on one host.
pub const ENDPOINTS_MAX: u32 = 4096;
/// Ranges of the ring, in CIDR pieces.
pub const ROUTES_MAX: u32 = 65536;
/// Peers.
pub const TUNNELS_MAX: u32 = 8192;
/// Underlay addresses that peers send from.
pub const SENDERS_MAX: u32 = 16384;
/// Underlay devices with [`PROG_XDP`].
pub const DEVICES_MAX: u32 = 1024;
/// Underlay addresses of this host.
pub const LOCALS_MAX: u32 = 4096;
/// Names of containers, of all hosts. Room is taken as they come.
pub const NAMES_MAX: u32 = 131_072;
/// Bytes of [`REPLIES`]: 3,640 answers.
pub const REPLIES_BYTES: u32 = 256 << 10;
/// Bytes of [`CONTACTS`]: 455 contacts, seven seconds of what may come.
pub const CONTACTS_BYTES: u32 = 64 << 10;
/// Slots kept for drop reasons, so that a new one does not change the map's shape.
pub const DROPS_MAX: u32 = 64;
/// Slots kept for counters, likewise.
pub const COUNTERS_MAX: u32 = 32;
