//! What the kernel holds and has counted, for `report`.

use serde::Serialize;

/// A snapshot; each figure is read on its own.
#[derive(Clone, Debug, Default, Serialize)]
pub struct KernelFacts {
    /// `tcx` or `clsact`.
    pub hook: &'static str,
    /// What passed.
    pub counters: Vec<CounterFacts>,
    /// What was dropped, by reason; reasons that never occurred are there with zero.
    pub drops: Vec<DropFacts>,
    /// The tables.
    pub maps: Vec<MapFacts>,
    /// The programs of this controller.
    pub programs: Vec<ProgramFacts>,
    /// Where programs are attached.
    pub links: Vec<Attachment>,
}

/// One counter.
#[derive(Clone, Debug, Serialize)]
pub struct CounterFacts {
    /// Its name.
    pub name: &'static str,
    /// Packets; a super-packet counts once.
    pub packets: u64,
    /// Bytes of inner frames.
    pub bytes: u64,
}

/// One drop reason.
#[derive(Clone, Debug, Serialize)]
pub struct DropFacts {
    /// Its name.
    pub reason: &'static str,
    /// Packets.
    pub packets: u64,
}

/// One table.
#[derive(Clone, Debug, Serialize)]
pub struct MapFacts {
    /// Its name.
    pub name: &'static str,
    /// Entries in use.
    pub entries: u32,
    /// Entries that fit.
    pub capacity: u32,
}

/// One program.
#[derive(Clone, Debug, Serialize)]
pub struct ProgramFacts {
    /// Its name.
    pub name: &'static str,
    /// The kernel's number for it.
    pub id: u32,
    /// Instructions that the verifier walked; `None` on a kernel that does not tell.
    pub verified_instructions: Option<u32>,
}

/// A program on a device.
#[derive(Clone, Debug, Serialize)]
pub struct Attachment {
    /// The program.
    pub program: &'static str,
    /// The device.
    pub device: String,
    /// `native` or `generic` for XDP, `None` for all else.
    pub mode: Option<&'static str>,
}
