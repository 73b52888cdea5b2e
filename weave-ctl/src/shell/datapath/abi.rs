//! The types of `weave_common` as aya takes them.

/// A value with a fixed layout, as a map's key or value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Abi<T>(pub T);

// SAFETY: `bytemuck::Pod` promises what aya asks: any bits are a value, and there is no padding.
unsafe impl<T: bytemuck::Pod> aya::Pod for Abi<T> {}
