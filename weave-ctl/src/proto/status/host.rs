//! What only the shell knows of a status: programs, maps and counters of the kernel, and troubles of this host.

use serde::{Deserialize, Serialize};

use super::ResolverStatus;

/// What completes a status. Made by the shell; never sent by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostStatus {
    /// Version of the controller.
    pub version: String,
    /// What the kernel holds.
    pub dataplane: Dataplane,
    /// How questions for names are answered; `None` when they are not.
    pub resolver: Option<ResolverStatus>,
    /// What could not be read, or is not as it should be, a sentence each.
    pub warnings: Vec<String>,
}

/// What the kernel holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Dataplane {
    /// Where maps, programs and links are pinned.
    pub bpf_dir: String,
    /// Programs and what they are attached to.
    pub programs: Vec<ProgramStatus>,
    /// Maps.
    pub maps: Vec<MapStatus>,
    /// Packets that went well.
    pub counters: Vec<CounterStatus>,
    /// Packets dropped, by reason; reasons that never happened may be absent.
    pub drops: Vec<DropStatus>,
}

/// A program in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ProgramStatus {
    /// Its name.
    pub name: String,
    /// The kernel's id, as bpftool shows it.
    pub id: u32,
    /// Devices.
    pub attached_to: Vec<String>,
}

/// A map in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MapStatus {
    /// Its name.
    pub name: String,
    /// Entries in it.
    pub entries: u32,
    /// Entries it can hold.
    pub capacity: u32,
}

/// Packets that went well, of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CounterStatus {
    /// The kind.
    pub name: String,
    /// Packets; a super-packet counts once.
    pub packets: u64,
    /// Bytes of the inner frames.
    pub bytes: u64,
}

/// Packets dropped for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DropStatus {
    /// The reason.
    pub reason: String,
    /// How many.
    pub packets: u64,
}
