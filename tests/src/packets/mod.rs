//! Packet tables: the real programs in the running kernel, a packet in, a packet out, the verdict, the count.
//!
//! Runs as a test on this host and as a plain binary in a guest with another kernel. Needs root and BPF; attaches
//! nothing, pins nothing, sends nothing. The rows of XDP make devices, in a network namespace that ends with the row.
//!
//! Not covered here, because `BPF_PROG_TEST_RUN` cannot make such packets: super-packets that pass (their segmentation
//! type cannot be set), fragments outside the linear part, metadata of a tunnel device, VLAN tags beside the packet,
//! packets without an Ethernet header. The Lab covers them.

mod container;
pub mod cost;
mod frames;
mod host;
mod probe;
mod prober;
pub mod questions;
mod relay;
mod rig;
mod service;
mod socket;
mod underlay;
mod xdp;

pub use rig::{Ran, Rig, Verdict, verify_all};

/// One row of a table.
pub struct Case {
    /// What it shows.
    pub name: &'static str,
    /// Runs it on fresh tables.
    pub run: fn(&mut Rig) -> Result<(), String>,
}

/// Every row.
#[must_use]
pub fn cases() -> Vec<Case> {
    let tables = [
        container::CASES,
        host::CASES,
        underlay::CASES,
        relay::CASES,
        probe::CASES,
        prober::CASES,
        xdp::CASES,
        socket::CASES,
        service::CASES,
    ];
    tables.iter().flat_map(|table| table.iter()).map(|(name, run)| Case { name, run: *run }).collect()
}

/// Runs every row on the programs of `object`; a load that fails is one failed row.
#[must_use]
pub fn run_all(object: &[u8]) -> Vec<(String, Result<(), String>)> {
    let mut rig = match Rig::load(object) {
        Ok(rig) => rig,
        Err(error) => return vec![("load the programs".to_owned(), Err(error))],
    };
    let run = |case: Case| (case.name.to_owned(), rig.reset().and_then(|()| (case.run)(&mut rig)));
    cases().into_iter().map(run).collect()
}

/// One row's function, beside its name.
type Row = (&'static str, fn(&mut Rig) -> Result<(), String>);

/// Fails with both values when they differ.
fn same<T: PartialEq + std::fmt::Debug + ?Sized>(what: &str, got: &T, expected: &T) -> Result<(), String> {
    if got == expected { Ok(()) } else { Err(format!("{what}: got {got:02x?}, expected {expected:02x?}")) }
}
