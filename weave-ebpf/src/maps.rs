//! The one place with maps. Names and capacities are those of `weave_common::map`, which the controller checks on load.
//!
//! The programs only read, but for the two tables of counters, which `stats` writes, the time at which a tunnel was last
//! used, and the time of the last ICMP message to a container.

use aya_ebpf::{
    btf_maps::{Array, HashMap, LpmTrie, PerCpuArray, lpm_trie::Key},
    helpers::generated as helpers,
    macros::btf_map,
};
use weave_common::{
    addr::{Ip4, PeerKey},
    config::{Config, SCHEMA},
    counters::Count,
    device::{Device, DeviceKey},
    drop::DropReason,
    endpoint::{Endpoint, EndpointKey, ICMP_STEP_NS},
    local::{Local, LocalKey},
    map,
    route::{ROUTE_LOCAL, ROUTE_PEER, Route},
    tunnel::{Sender, SenderKey, Tunnel, USED_STEP_NS},
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
    // SAFETY: takes nothing.
    let now = unsafe { helpers::bpf_ktime_get_ns() };
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

/// True when `addr` is one of this host's underlay addresses.
#[inline(always)]
pub fn is_local(addr: Ip4) -> bool {
    // SAFETY: as in `endpoint`.
    unsafe { LOCALS.get(LocalKey::new(addr)) }.is_some()
}

/// The range that holds `addr`.
#[inline(always)]
pub fn route(addr: Ip4) -> Option<&'static Route> {
    ROUTES.get(&Key::new(IPV4_BITS, addr))
}

/// A tunnel's entry.
#[derive(Clone, Copy)]
pub struct Way(*mut Tunnel);

impl Way {
    /// What it says.
    #[inline(always)]
    pub fn tunnel(&self) -> &Tunnel {
        // SAFETY: the kernel keeps an entry's memory for the program's run; else as in `endpoint`.
        unsafe { &*self.0 }
    }

    /// Notes that a packet leaves by it now.
    #[inline(always)]
    pub fn note_use(&self) {
        // SAFETY: takes nothing, and every kernel of ours has it.
        let now = unsafe { helpers::bpf_ktime_get_coarse_ns() };
        // SAFETY: as in `tunnel`; no reference to the field is held. CPUs that race write the same time.
        unsafe {
            let used = &raw mut (*self.0).used_ns;
            if now.saturating_sub(used.read_volatile()) >= USED_STEP_NS {
                used.write_volatile(now);
            }
        }
    }
}

/// How to reach the peer that owns `destination`, which no local container holds.
///
/// # Errors
/// Why there is no way.
#[inline(always)]
pub fn way(destination: Ip4) -> Result<Way, DropReason> {
    let route = route(destination).ok_or(DropReason::NoRoute)?;
    match route.kind {
        ROUTE_PEER => TUNNELS.get_ptr_mut(route.peer).map(Way).ok_or(DropReason::NoTunnel),
        ROUTE_LOCAL => Err(DropReason::NoEndpoint),
        _ => Err(DropReason::NoRoute),
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
