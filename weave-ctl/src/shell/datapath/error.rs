//! What can go wrong with the kernel's side, as sentences for the operator.

use std::{error::Error, io, path::PathBuf};

use aya::{
    EbpfError,
    maps::MapError,
    programs::{ProgramError, tc::TcError},
};
use rustix::io::Errno;

/// Why the kernel or aya refused.
pub(super) type Failure = Box<dyn Error + Send + Sync>;

/// The system's error code at the bottom of `error`.
pub(super) fn errno(error: &(dyn Error + 'static)) -> Option<Errno> {
    let system = |code: Option<i32>| code.map(Errno::from_raw_os_error);
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return system(error.raw_os_error());
        }
        if let Some(TcError::NetlinkError(error)) = error.downcast_ref::<TcError>() {
            return system(error.raw_os_error());
        }
        next = error.source();
    }
    None
}

/// An operation on the dataplane failed.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// The directory for pins is on some other file system.
    #[error(
        "{} is not on a BPF file system, so nothing could be kept in the kernel and nothing was changed: run \
         'mount -t bpf bpf /sys/fs/bpf', or name a directory on one with --bpf-dir", dir.display()
    )]
    NoBpffs {
        /// The directory.
        dir: PathBuf,
    },
    /// The kernel lacks something.
    #[error("this kernel lacks what the dataplane needs; nothing was changed:\n{table}")]
    Kernel {
        /// Name, since when, and whether it is there, a line each.
        table: String,
    },
    /// No right to use BPF.
    #[error("no permission to load BPF programs; nothing was changed: run as root (CAP_BPF and CAP_NET_ADMIN)")]
    Permission,
    /// A pinned map has another shape than these programs use.
    #[error(
        "the pinned map {} is not the one that this version uses ({found} instead of {expected}); nothing was changed: \
         run 'weave-ctl reset', or remove the file if no controller runs", path.display()
    )]
    Shape {
        /// The pin.
        path: PathBuf,
        /// Type, key size, value size, capacity.
        expected: String,
        /// What was found.
        found: String,
    },
    /// A pin could not be read, made or removed.
    #[error("could not {what} {}: {source}", path.display())]
    Pin {
        /// What was tried.
        what: &'static str,
        /// The pin or its directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The object lacks a map or program: a fault of the build.
    #[error("the embedded kernel object has no {name}: build weave-ctl again with 'cargo xtask build'")]
    Object {
        /// Map or program.
        name: &'static str,
    },
    /// The object or a program was refused.
    #[error("the kernel refused the dataplane's programs; what was attached before is unchanged: {}", chain(source))]
    Load {
        /// Why.
        #[from]
        source: EbpfError,
    },
    /// A program was refused.
    #[error("the kernel refused program {name}; what was attached before is unchanged: {}", chain(source))]
    Program {
        /// The program.
        name: &'static str,
        /// Why.
        source: Box<ProgramError>,
    },
    /// A program could not be attached.
    #[error("could not attach {name} to {device}; what was attached there before is unchanged: {}", chain(source.as_ref()))]
    Attach {
        /// The program.
        name: &'static str,
        /// The device.
        device: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// XDP could not be attached.
    #[error("could not attach {} to {device} in {mode} mode: {}", weave_common::map::PROG_XDP, chain(source.as_ref()))]
    Xdp {
        /// The device.
        device: String,
        /// `native` or `generic`.
        mode: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A table has no room.
    #[error("the kernel's table {map} is full ({capacity} entries); its content is unchanged")]
    Full {
        /// The map.
        map: &'static str,
        /// Its capacity.
        capacity: u32,
    },
    /// A map operation was refused.
    #[error("the kernel refused a change to {map}; its content is unchanged: {}", chain(source))]
    Map {
        /// The map.
        map: &'static str,
        /// Why.
        source: Box<MapError>,
    },
}

/// An error with its causes, which aya leaves out of its own text.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
