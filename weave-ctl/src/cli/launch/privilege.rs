//! Whether this process may do what a controller does, before it tries.

use rustix::thread::{CapabilitySet, capabilities};

/// What a controller needs. `CAP_SYS_ADMIN` enters containers' network namespaces.
const NEEDED: [(CapabilitySet, &str); 3] = [
    (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
    (CapabilitySet::BPF, "CAP_BPF"),
    (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN"),
];

/// The sentence for the operator when something is missing.
pub(super) fn check() -> Result<(), String> {
    let held = capabilities(None).map_err(|e| format!("cannot tell what this process may do: {e}"))?.effective;
    missing(held).map_or(Ok(()), |names| {
        Err(format!("launch needs root, this process lacks {names}: nothing was changed; run it as root"))
    })
}

fn missing(held: CapabilitySet) -> Option<String> {
    let names: Vec<&str> = NEEDED.iter().filter(|(needed, _)| !held.contains(*needed)).map(|(_, name)| *name).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

#[cfg(test)]
mod tests;
