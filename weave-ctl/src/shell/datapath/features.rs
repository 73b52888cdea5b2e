//! What the kernel can do: tried out, never guessed from its version.

use std::fmt::{self, Write as _};

use aya::{
    TestRun as _, TestRunOptions,
    maps::MapType,
    programs::{ProgramType, SchedClassifier, TcAttachType},
    sys::{BpfHelper, is_helper_supported, is_map_supported, is_program_supported},
};
use weave_common::map;

use super::{
    error::DatapathError,
    object::{self, Loader},
};

/// One thing that the kernel has or lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// What it is called.
    pub name: &'static str,
    /// First kernel that has it upstream.
    pub since: &'static str,
    /// Whether this one has it.
    pub present: bool,
    /// Whether the dataplane can do without.
    pub required: bool,
}

/// All that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Features(pub Vec<Feature>);

/// Names of the optional features.
pub const TCX: &str = "TCX links (else clsact filters)";
/// See [`TCX`].
pub const XDP: &str = "XDP on large frames (else none)";
const SCHED_CLS: &str = "traffic-control programs";
const ENCAP_FLAGS: &str = "bpf_skb_adjust_room with encapsulation flags";

const MAP_TYPES: [(MapType, &str, &str); 5] = [
    (MapType::Array, "array maps", "3.19"),
    (MapType::Hash, "hash maps", "3.19"),
    (MapType::PerCpuArray, "per-CPU array maps", "4.6"),
    (MapType::LpmTrie, "longest-prefix maps", "4.11"),
    (MapType::RingBuf, "ring buffers", "5.8"),
];

const HELPERS: [(BpfHelper, &str, &str); 20] = [
    (BpfHelper::BPF_FUNC_skb_store_bytes, "bpf_skb_store_bytes", "4.1"),
    (BpfHelper::BPF_FUNC_ktime_get_ns, "bpf_ktime_get_ns", "4.1"),
    (BpfHelper::BPF_FUNC_skb_get_tunnel_key, "bpf_skb_get_tunnel_key", "4.3"),
    (BpfHelper::BPF_FUNC_skb_set_tunnel_key, "bpf_skb_set_tunnel_key", "4.3"),
    (BpfHelper::BPF_FUNC_redirect, "bpf_redirect", "4.4"),
    (BpfHelper::BPF_FUNC_skb_load_bytes, "bpf_skb_load_bytes", "4.5"),
    (BpfHelper::BPF_FUNC_csum_diff, "bpf_csum_diff", "4.6"),
    (BpfHelper::BPF_FUNC_get_hash_recalc, "bpf_get_hash_recalc", "4.8"),
    (BpfHelper::BPF_FUNC_skb_change_type, "bpf_skb_change_type", "4.8"),
    (BpfHelper::BPF_FUNC_skb_pull_data, "bpf_skb_pull_data", "4.9"),
    (BpfHelper::BPF_FUNC_skb_change_tail, "bpf_skb_change_tail", "4.9"),
    (BpfHelper::BPF_FUNC_skb_change_head, "bpf_skb_change_head", "4.10"),
    (BpfHelper::BPF_FUNC_skb_adjust_room, "bpf_skb_adjust_room", "4.13"),
    (BpfHelper::BPF_FUNC_csum_level, "bpf_csum_level", "5.8"),
    (BpfHelper::BPF_FUNC_ringbuf_reserve, "bpf_ringbuf_reserve", "5.8"),
    (BpfHelper::BPF_FUNC_ringbuf_submit, "bpf_ringbuf_submit", "5.8"),
    (BpfHelper::BPF_FUNC_ringbuf_discard, "bpf_ringbuf_discard", "5.8"),
    (BpfHelper::BPF_FUNC_redirect_neigh, "bpf_redirect_neigh", "5.10"),
    (BpfHelper::BPF_FUNC_redirect_peer, "bpf_redirect_peer", "5.10"),
    (BpfHelper::BPF_FUNC_ktime_get_coarse_ns, "bpf_ktime_get_coarse_ns", "5.11"),
];

/// A frame to try the encapsulation flags on: Ethernet, an IPv4 header, and enough payload for both directions.
const SAMPLE_LEN: usize = 128;
/// What the probe program answers when it could put headers on and take them off.
const PROBE_OK: u32 = -1_i32 as u32;

/// Tries everything.
///
/// # Errors
/// [`DatapathError::Permission`] without the right to load programs.
pub fn probe(loader: &mut Loader) -> Result<Features, DatapathError> {
    let required = |name, since, present| Feature { name, since, present, required: true };
    let classifier = is_program_supported(ProgramType::SchedClassifier);
    if let Err(aya::programs::ProgramError::SyscallError(error)) = &classifier
        && error.io_error.kind() == std::io::ErrorKind::PermissionDenied
    {
        return Err(DatapathError::Permission);
    }
    let mut rows = vec![required(SCHED_CLS, "4.1", classifier.unwrap_or(false))];
    for (map_type, name, since) in MAP_TYPES {
        rows.push(required(name, since, is_map_supported(map_type).unwrap_or(false)));
    }
    for (helper, name, since) in HELPERS {
        rows.push(required(name, since, is_helper_supported(ProgramType::SchedClassifier, helper).unwrap_or(false)));
    }
    let base = rows.iter().all(|row| row.present);
    rows.push(required(ENCAP_FLAGS, "5.13", base && encapsulation_flags(loader).unwrap_or(false)));
    rows.push(Feature { name: TCX, since: "6.6", present: tcx(), required: false });
    // The helper came with the flag that lets a program run on frames in several buffers.
    let xdp = is_helper_supported(ProgramType::Xdp, BpfHelper::BPF_FUNC_xdp_get_buff_len).unwrap_or(false);
    rows.push(Feature { name: XDP, since: "5.18", present: xdp, required: false });
    Ok(Features(rows))
}

/// True when programs can be attached by TCX links. Asks for those on the loopback device, which every namespace has.
#[must_use]
pub fn tcx() -> bool {
    SchedClassifier::query_tcx("lo", TcAttachType::Ingress).is_ok()
}

/// Runs the probe program of the object on a made-up packet.
fn encapsulation_flags(loader: &mut Loader) -> Result<bool, DatapathError> {
    let mut ebpf = loader.load_for_trial()?;
    let name = map::PROG_PROBE;
    let program = object::program(&mut ebpf, name)?;
    let refused = |source: aya::programs::ProgramError| DatapathError::Program { name, source: source.into() };
    program.load().map_err(refused)?;
    let mut sample = [0_u8; SAMPLE_LEN];
    sample[12..15].copy_from_slice(&[0x08, 0x00, 0x45]);
    let mut options = TestRunOptions::new();
    options.data_in = Some(&sample);
    let result = program.test_run(options).map_err(refused)?;
    Ok(result.return_value == PROBE_OK)
}

impl Features {
    /// Refuses a kernel that lacks something required, with the whole table.
    ///
    /// # Errors
    /// [`DatapathError::Kernel`].
    pub fn require(&self) -> Result<(), DatapathError> {
        if self.0.iter().all(|row| row.present || !row.required) {
            return Ok(());
        }
        Err(DatapathError::Kernel { table: self.to_string() })
    }

    /// Whether the kernel has the feature called `name`.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|row| row.name == name && row.present)
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        for row in &self.0 {
            let state = match (row.present, row.required) {
                (true, _) => "yes",
                (false, true) => "MISSING",
                (false, false) => "no (optional)",
            };
            writeln!(text, "  {:<46} since {:<5} {state}", row.name, row.since)?;
        }
        f.write_str(text.trim_end())
    }
}

#[cfg(test)]
mod tests;
