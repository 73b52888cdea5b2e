pub(super) const CASES: &[super::Row] = &[];
