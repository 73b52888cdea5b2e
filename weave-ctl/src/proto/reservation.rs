//! What is stored of a container: the addresses that are held under its owner key, and the interface that has them.
//!
//! A reservation is addresses and an owner key. An attachment is the interface with these addresses, and where it is:
//! without one the reservation waits for `attach`. The owner key is chosen by the engine; of a plain namespace it is the
//! name under /run/netns, else the namespace's number ([`numbered`]).

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// Longest owner key, in bytes.
pub const OWNER_MAX: usize = 256;
/// Owner key of the host's own interface.
pub const HOST_OWNER: &str = "weave:expose";
/// How the kernel shows a network namespace, up to its number: nsfs(5).
const NUMBERED: &str = "net:[";

/// Addresses that are held for an owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// Addresses with the length of their subnet; the first is the primary.
    pub addrs: Vec<Ipv4Net>,
    /// Since when it is reserved, attached or absent, in seconds of Unix time.
    pub since: u64,
    /// The id that was answered where no owner was named, kept when `bind` names one.
    #[serde(default)]
    pub id: Option<String>,
    /// One of the addresses was named by a caller: others may know it, so it gives way last.
    #[serde(default)]
    pub fixed: bool,
    /// The interface; `None` before `attach`.
    #[serde(default)]
    pub attachment: Option<Attachment>,
}

/// An interface that has the addresses of a reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Where it is.
    pub place: Place,
    /// Name of the veth's host end.
    pub host_if: String,
    /// MTU in bytes.
    pub mtu: u32,
    /// The host was rebooted and the container has not attached since: its addresses are kept for it.
    #[serde(default)]
    pub absent: bool,
    /// Its addresses are being changed, and may not be those of the reservation yet.
    #[serde(default)]
    pub unfinished: bool,
}

/// Where an interface is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// In a network namespace that is not the host's.
    Netns(Netns),
    /// In the host's own.
    Host {
        /// Containers of this host go out through it, as this host.
        masquerade: bool,
    },
}

/// A network namespace of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Netns {
    /// A path that leads to it, or did when it was attached.
    pub path: String,
    /// Which one it is.
    pub id: NetnsId,
}

/// Which namespace it is: no other has the same device, number and boot while it lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetnsId {
    /// Device of the namespace's file.
    pub device: u64,
    /// Number of the file on it.
    pub inode: u64,
    /// The boot in which the number means something.
    pub boot: BootId,
}

/// A boot of the host: /proc/sys/kernel/random/boot_id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootId(pub [u8; 16]);

impl Reservation {
    /// A reservation of `addrs` that has no interface.
    #[must_use]
    pub fn of(addrs: Vec<Ipv4Net>, since: u64) -> Self {
        Self { addrs, since, id: None, fixed: false, attachment: None }
    }

    /// Name of the host end of its interface.
    #[must_use]
    pub fn host_if(&self) -> Option<&str> {
        self.attachment.as_ref().map(|attachment| attachment.host_if.as_str())
    }

    /// Whether containers go out through it; `None` when it is not the host's.
    #[must_use]
    pub fn masquerade(&self) -> Option<bool> {
        match self.attachment.as_ref()?.place {
            Place::Host { masquerade } => Some(masquerade),
            Place::Netns(_) => None,
        }
    }

    /// The namespace that its interface is in.
    #[must_use]
    pub fn netns(&self) -> Option<&Netns> {
        match &self.attachment.as_ref()?.place {
            Place::Netns(netns) => Some(netns),
            Place::Host { .. } => None,
        }
    }
}

impl Place {
    /// The path of the namespace; of the host's own there is none.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Netns(netns) => Some(&netns.path),
            Self::Host { .. } => None,
        }
    }
}

/// Owner key of a namespace without a name. Such a key ends with its interface: the next namespace may have the number.
#[must_use]
pub fn numbered(id: NetnsId) -> String {
    format!("{NUMBERED}{}]", id.inode)
}

/// True for a key that [`numbered`] made.
#[must_use]
pub fn is_numbered(owner: &str) -> bool {
    owner.starts_with(NUMBERED)
}
