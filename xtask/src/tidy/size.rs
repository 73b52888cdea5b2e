//! Figure of the core: how many lines of `proto` decide on sessions, membership, topology, paths and their composition.

use super::Source;

/// Modules of `proto` that the figure leaves out.
const OTHERS: [&str; 6] = ["ipam", "election", "attachment", "endpoints", "dns", "datapath"];
const PROTO: &str = "weave-ctl/src/proto/";

/// Lines outside those modules, without tests.
pub(super) fn lines(sources: &[Source]) -> usize {
    let counted = sources.iter().filter(|source| {
        let Some(below) = source.path.strip_prefix(PROTO) else { return false };
        let module = below.split(['/', '.']).next().unwrap_or_default();
        source.is_rust() && !source.is_test() && module != "fixture" && !OTHERS.contains(&module)
    });
    counted.map(|source| source.text.lines().count()).sum()
}
