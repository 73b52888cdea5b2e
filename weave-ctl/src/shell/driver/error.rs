//! Why a controller did not start, or ended.

use std::io;

use ipnet::Ipv4Net;

use crate::{
    proto::boot::BootError,
    shell::{
        control::ControlError,
        datapath::{DatapathError, Ended},
        dns::ResolverError,
        endpoints::EndpointError,
        host::HostError,
        links::LinksError,
        lock::LockError,
        masquerade::MasqueradeError,
        overlap::HostRoute,
        prober::ProberError,
        slow_path::TableError,
        socket_device::SocketDeviceError,
        store::StoreError,
    },
};

/// One sentence for the operator. Where it is about the start, what was there before goes on as it was.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No threads, no signals, no randomness.
    #[error("the kernel refused what every process needs: {0}; nothing was changed")]
    Runtime(io::Error),
    /// Another controller.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The store cannot be used, or a commit failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The rules by which containers go out through the host stay.
    #[error("the rules of `expose --masquerade` stay, and nothing was removed after them: {0}")]
    Masquerade(MasqueradeError),
    /// The launch contradicts the store.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// Nobody chose the range, and the host has other uses for its addresses.
    #[error(
        "the default range {range} overlaps this host's route {route}: choose a free one with --ipalloc-range, the same \
         on all peers; nothing was changed"
    )]
    Overlap {
        /// The range.
        range: Ipv4Net,
        /// The route.
        route: HostRoute,
    },
    /// Questions for names cannot be answered.
    #[error(transparent)]
    Resolver(#[from] ResolverError),
    /// The control port.
    #[error(transparent)]
    Links(#[from] LinksError),
    /// The data port.
    #[error(transparent)]
    SocketDevice(#[from] SocketDeviceError),
    /// The kernel's programs and maps.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    /// XDP, where the operator insists on it.
    #[error("{0}; the controller was not started: launch with --xdp auto or --xdp off")]
    Xdp(DatapathError),
    /// Probes.
    #[error(transparent)]
    Prober(#[from] ProberError),
    /// The host's devices and routes.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Rule and routing table for narrow paths.
    #[error(transparent)]
    Table(#[from] TableError),
    /// Containers' interfaces.
    #[error(transparent)]
    Endpoints(#[from] EndpointError),
    /// The API socket.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// Nothing could be stored, so nothing may be done.
    #[error(
        "the controller stopped because its store failed: {0}; containers keep talking, launch it again when the disk is well"
    )]
    Commit(StoreError),
    /// The thread that attaches programs is gone.
    #[error(transparent)]
    Ended(#[from] Ended),
    /// A thread that commits ended badly.
    #[error("the controller stopped because a commit did not come back: {0}; containers keep talking, launch it again")]
    Join(#[from] tokio::task::JoinError),
}
