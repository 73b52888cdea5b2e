//! The one place with maps. Names and capacities are those of `weave_common::map`, which the controller checks on load.
//!
//! The programs only read, but for the two tables of counters, which `stats` writes, the times in a tunnel's entry, the time
//! of the last ICMP message to a container, and the buckets of tokens. What they give to the controller goes by two rings.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    btf_maps::{Array, HashMap, LpmTrie, PerCpuArray, RingBuf, lpm_trie::Key},
    helpers::generated as helpers,
    macros::btf_map,
    maps::ring_buf::RingBufEntry,
};
use weave_common::{
    addr::{Ip4, PeerKey},
    bucket::{self, Bucket, Rate},
    config::{Config, SCHEMA},
    counters::Count,
    device::{Device, DeviceKey},
    dns::{NameAddrs, NameKey, Scratch},
    drop::DropReason,
    endpoint::{ENDPOINT_GATEWAY, ENDPOINT_HOST, Endpoint, EndpointKey, ICMP_STEP_NS},
    local::{Local, LocalKey},
    map,
    probe::{ContactEvent, ProbeKeys, ReplyEvent},
    route::{ROUTE_HOST, ROUTE_LOCAL, ROUTE_PEER, Route},
    tunnel::{BIG, Sender, SenderKey, TIME_STEP_NS, Tunnel},
    vxlan,
    wire::NAME_LEN,
};

#[btf_map(name = "weave_endpoints")]
static ENDPOINTS: HashMap<EndpointKey, Endpoint, { map::ENDPOINTS_MAX as usize }> = HashMap::new();
#[btf_map(name = "weave_routes")]
static ROUTES: LpmTrie<Ip4, Route, { map::ROUTES_MAX as usize }> = LpmTrie::new();
#[btf_map(name = "weave_tunnels")]
static TUNNELS: HashMap<PeerKey, Tunnel, { map::TUNNELS_MAX as usize }> = HashMap::new();
#[btf_map(name = "weave_senders")]
static SENDERS: HashMap<SenderKey, Sender, { map::SENDERS_MAX as usize }> = HashMap::new();
#[btf_map(name = "weave_devices")]
static DEVICES: HashMap<DeviceKey, Device, { map::DEVICES_MAX as usize }> = HashMap::new();
#[btf_map(name = "weave_locals")]
static LOCALS: HashMap<LocalKey, Local, { map::LOCALS_MAX as usize }> = HashMap::new();
#[btf_map(name = "weave_names")]
static NAMES: HashMap<NameKey, NameAddrs, { map::NAMES_MAX as usize }, { BPF_F_NO_PREALLOC as usize }> = HashMap::new();
#[btf_map(name = "weave_scratch")]
static SCRATCH: PerCpuArray<Scratch, 1> = PerCpuArray::new();
#[btf_map(name = "weave_keys")]
static KEYS: Array<ProbeKeys, 1> = Array::new();
#[btf_map(name = "weave_limits")]
static LIMITS: Array<Bucket, 1> = Array::new();
#[btf_map(name = "weave_replies")]
static REPLIES: RingBuf<ReplyEvent, { map::REPLIES_BYTES as usize }> = RingBuf::new();
#[btf_map(name = "weave_contacts")]
static CONTACTS: RingBuf<ContactEvent, { map::CONTACTS_BYTES as usize }> = RingBuf::new();
#[btf_map(name = "weave_config")]
static CONFIG: Array<Config, 1> = Array::new();
#[btf_map(name = "weave_drops")]
pub(crate) static DROPS: PerCpuArray<u64, { map::DROPS_MAX as usize }> = PerCpuArray::new();
#[btf_map(name = "weave_counters")]
pub(crate) static COUNTERS: PerCpuArray<Count, { map::COUNTERS_MAX as usize }> = PerCpuArray::new();

/// Bits of an IPv4 address.
const IPV4_BITS: u32 = 32;

/// The controller's settings, or `None` when it has not written any that these programs understand.
#[inline(always)]
pub fn config() -> Option<&'static Config> {
    CONFIG.get(0).filter(|config| config.schema == SCHEMA)
}

/// The local container with this address.
#[inline(always)]
pub fn endpoint(key: EndpointKey) -> Option<&'static Endpoint> {
    // SAFETY: the controller replaces whole values; one being replaced while it is read costs this packet at most.
    unsafe { ENDPOINTS.get(key) }
}

/// True when an ICMP "fragmentation needed" may go to the local container with this address now; notes that it does.
/// CPUs that race may each send one.
#[inline(always)]
pub fn may_answer_too_big(key: EndpointKey) -> bool {
    let Some(endpoint) = ENDPOINTS.get_ptr_mut(key) else { return false };
    let now = now();
    // SAFETY: the kernel keeps an entry's memory for the program's run; no reference to the field is held.
    unsafe {
        let last = &raw mut (*endpoint).icmp_ns;
        if now.saturating_sub(last.read_volatile()) < ICMP_STEP_NS {
            return false;
        }
        last.write_volatile(now);
    }
    true
}

/// True when the resolver may get one more question from the local container with this address; takes it. CPUs that race may
/// take one twice.
#[inline(always)]
pub fn may_ask(key: EndpointKey) -> bool {
    // SAFETY: as in `may_echo`.
    ENDPOINTS
        .get_ptr_mut(key)
        .is_some_and(|endpoint| unsafe { take(&raw mut (*endpoint).questions, bucket::QUESTIONS) })
}

/// True when `addr` is one of this host's underlay addresses.
#[inline(always)]
pub fn is_local(addr: Ip4) -> bool {
    // SAFETY: as in `endpoint`.
    unsafe { LOCALS.get(LocalKey::new(addr)) }.is_some()
}

/// The addresses of a name.
#[inline(always)]
pub fn name(key: &NameKey) -> Option<&'static NameAddrs> {
    // SAFETY: as in `endpoint`.
    unsafe { NAMES.get(key) }
}

/// Room for a question, this program's alone while it runs.
#[inline(always)]
pub fn scratch() -> Option<*mut Scratch> {
    SCRATCH.get_ptr_mut(0)
}

/// A random number.
#[inline(always)]
pub fn random() -> u32 {
    // SAFETY: takes nothing.
    unsafe { helpers::bpf_get_prandom_u32() }
}

/// The range that holds `addr`.
#[inline(always)]
pub fn route(addr: Ip4) -> Option<&'static Route> {
    ROUTES.get(&Key::new(IPV4_BITS, addr))
}

/// The host's own interface, when `route` leads out of the network and the host may forward there.
#[inline(always)]
pub fn gateway_by(route: &Route) -> Option<&'static Endpoint> {
    if route.kind != ROUTE_HOST {
        return None;
    }
    endpoint(EndpointKey { addr: route.host }).filter(|endpoint| endpoint.has(ENDPOINT_HOST | ENDPOINT_GATEWAY))
}

/// The host's own interface, when `addr` is outside the network and the host may forward to and from there.
#[inline(always)]
pub fn gateway(addr: Ip4) -> Option<&'static Endpoint> {
    route(addr).and_then(gateway_by)
}

/// A tunnel's entry.
#[derive(Clone, Copy)]
pub struct Way(*mut Tunnel);

/// Writes the coarse time to a field of an entry, unless it was written a short time ago.
///
/// # Safety
/// `field` points to an entry's memory, of which no reference is held. CPUs that race write the same time.
#[inline(always)]
unsafe fn note(field: *mut u64, now: u64) {
    // SAFETY: as the caller promises.
    unsafe {
        if now.saturating_sub(field.read_volatile()) >= TIME_STEP_NS {
            field.write_volatile(now);
        }
    }
}

/// The monotonic clock, to the tick (1 to 10 ms).
#[inline(always)]
pub fn coarse_now() -> u64 {
    // SAFETY: takes nothing, and every kernel of ours has it.
    unsafe { helpers::bpf_ktime_get_coarse_ns() }
}

/// The monotonic clock, in nanoseconds.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: takes nothing.
    unsafe { helpers::bpf_ktime_get_ns() }
}

impl Way {
    /// What it says.
    #[inline(always)]
    pub fn tunnel(&self) -> &Tunnel {
        // SAFETY: the kernel keeps an entry's memory for the program's run; else as in `endpoint`.
        unsafe { &*self.0 }
    }

    /// Notes that a data packet leaves by it now; `inner` is the length of the inner IP packet, of a super-packet that of
    /// its largest segment.
    #[inline(always)]
    pub fn note_sent(&self, inner: u32) {
        let now = coarse_now();
        // SAFETY: as in `tunnel`; no reference to the fields is held.
        unsafe {
            note(&raw mut (*self.0).sent_ns, now);
            if inner > BIG - vxlan::OVERHEAD {
                note(&raw mut (*self.0).big_ns, now);
            }
        }
    }
}

/// How to reach the peer called `name`.
///
/// # Errors
/// [`DropReason::NoTunnel`].
#[inline(always)]
pub fn way_to(name: [u8; NAME_LEN]) -> Result<Way, DropReason> {
    TUNNELS.get_ptr_mut(PeerKey::new(name)).map(Way).ok_or(DropReason::NoTunnel)
}

/// The peer that owns `destination`, which no local container holds, and how to reach it.
///
/// # Errors
/// Why it cannot be.
#[inline(always)]
pub fn owner(destination: Ip4) -> Result<(PeerKey, Way), DropReason> {
    owner_by(route(destination).ok_or(DropReason::NoRoute)?)
}

/// The same by the route that was found.
///
/// # Errors
/// Why it cannot be; of a route out of the network [`DropReason::NoRoute`].
#[inline(always)]
pub fn owner_by(route: &Route) -> Result<(PeerKey, Way), DropReason> {
    match route.kind {
        ROUTE_PEER => Ok((route.peer, way_to(route.peer.name)?)),
        ROUTE_LOCAL => Err(DropReason::NoEndpoint),
        _ => Err(DropReason::NoRoute),
    }
}

/// Notes that a packet of the peer called `name` arrived now from `source`, an address of the peer `sender`, and whether that
/// is where packets for it go first: what comes from elsewhere says nothing good of the path in use. A name that no tunnel
/// leads to is none of ours.
#[inline(always)]
pub fn note_heard(name: [u8; NAME_LEN], source: Ip4, sender: Option<PeerKey>) {
    let Some(tunnel) = TUNNELS.get_ptr_mut(PeerKey::new(name)) else { return };
    // SAFETY: the kernel keeps an entry's memory for the program's run; else as in `endpoint`.
    let (to, via) = unsafe { ((*tunnel).push.outer.destination(), (*tunnel).via) };
    // The address too: of several peers behind one address only one is found by it.
    let expected = to == source.0 || sender.is_some_and(|peer| peer.name == via.name);
    // SAFETY: as in `Way::note_sent`.
    unsafe {
        let field = if expected { &raw mut (*tunnel).heard_ns } else { &raw mut (*tunnel).elsewhere_ns };
        note(field, coarse_now());
    }
}

/// The peer that sends from this underlay address.
#[inline(always)]
pub fn sender(key: SenderKey) -> Option<&'static Sender> {
    // SAFETY: as in `endpoint`.
    unsafe { SENDERS.get(key) }
}

/// The underlay device with this index, as far as it has the XDP program.
#[inline(always)]
pub fn device(ifindex: u32) -> Option<&'static Device> {
    // SAFETY: as in `endpoint`.
    unsafe { DEVICES.get(DeviceKey { ifindex }) }
}

/// True when the sender at this address may have one more answer; takes it. CPUs that race may each take the same one.
///
/// # Safety
/// `sender` is what [`sender_entry`] gave in this run of the program.
#[inline(always)]
pub unsafe fn may_echo(sender: *mut Sender) -> bool {
    // SAFETY: the kernel keeps an entry's memory for the program's run; no reference to the field is held.
    unsafe { take(&raw mut (*sender).echo, bucket::ECHO) }
}

/// The entry of the sender at this address, to take answers from.
#[inline(always)]
pub fn sender_entry(key: SenderKey) -> Option<*mut Sender> {
    SENDERS.get_ptr_mut(key)
}

/// True when one more contact may go up to the controller; takes it.
#[inline(always)]
pub fn may_contact() -> bool {
    // SAFETY: as in `may_echo`.
    LIMITS.get_ptr_mut(0).is_some_and(|limit| unsafe { take(limit, bucket::CONTACT) })
}

/// Takes a token from a bucket in a map.
///
/// # Safety
/// `bucket` points to an entry's memory, of which no reference is held.
#[inline(always)]
unsafe fn take(bucket: *mut Bucket, rate: Rate) -> bool {
    // SAFETY: as the caller promises.
    let found = unsafe { bucket.read_volatile() };
    let Some(left) = found.take(coarse_now(), rate) else { return false };
    // SAFETY: as above.
    unsafe { bucket.write_volatile(left) };
    true
}

/// The keys of cookies.
#[inline(always)]
pub fn keys() -> Option<&'static ProbeKeys> {
    KEYS.get(0)
}

/// Room for an answer in the controller's ring.
#[inline(always)]
pub fn reply_slot() -> Option<RingBufEntry<ReplyEvent>> {
    REPLIES.reserve(0)
}

/// Room for a contact in the controller's ring.
#[inline(always)]
pub fn contact_slot() -> Option<RingBufEntry<ContactEvent>> {
    CONTACTS.reserve(0)
}
