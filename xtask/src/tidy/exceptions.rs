//! What may break a rule, and why. An exception that excuses nothing any more is a finding.

/// One finding that is meant.
pub(super) struct Exception {
    pub(super) rule: &'static str,
    pub(super) file: &'static str,
    /// A function for `functions`, a path for `arrows`; empty for rules about a whole file.
    pub(super) item: &'static str,
    /// For the reader of this list.
    #[expect(dead_code, reason = "nobody but a person reads it")]
    pub(super) why: &'static str,
}

pub(super) const EXCEPTIONS: [Exception; 1] = [Exception {
    rule: "arrows",
    file: "weave-ctl/src/proto/datapath.rs",
    item: "crate::proto::ipam::Ring",
    why: "the ring is the routing table: the kernel's routes are computed from it",
}];
