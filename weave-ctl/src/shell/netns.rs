//! Network namespaces: entering one, telling them apart, and finding the one an operator means.
//!
//! A namespace is entered on a thread of its own that ends with the work, so no other task can ever find itself in a
//! container. Sockets made there stay in that namespace and may be used from anywhere. A path is only a hint: what it leads
//! to must be the namespace that was attached ([`NetnsId`]), and never the host's own.
//!
//! Does not: name or remove namespaces, or know Docker and podman.

use std::{
    ffi::c_void,
    fs::{self, File, Metadata},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::fs::MetadataExt,
    },
    panic::resume_unwind,
    path::{Path, PathBuf},
    sync::OnceLock,
    thread,
};

use rustix::{
    ioctl::{Ioctl, IoctlOutput, Opcode, ioctl, opcode},
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe},
};

use crate::proto::{
    command::{Container, Holder, NameRequest},
    reservation::{BootId, Netns, NetnsId, Place, numbered},
};

/// Where names of namespaces live, in the order looked at.
const NAME_DIRS: [&str; 2] = ["/run/netns", "/var/run/netns"];
/// The namespace of the process that asks.
const SELF: &str = "/proc/self/ns/net";
/// That of the thread that asks.
const THREAD: &str = "/proc/thread-self/ns/net";
/// Different in each boot of the host.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Longest file name on Linux.
const NAME_MAX: usize = 255;
/// `CLONE_NEWNET` of `linux/sched.h`: how `NS_GET_NSTYPE` calls a network namespace.
const NET: i32 = 0x4000_0000;

/// Why a namespace could not be entered. Nothing ran.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// Not there, or not readable.
    #[error("cannot open the network namespace {}: {source}", .path.display())]
    Open {
        /// Its path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It ended, or its path leads to another by now.
    #[error("the network namespace that was at {} is gone", .path.display())]
    Gone {
        /// Its path.
        path: PathBuf,
    },
    /// It is the host's.
    #[error("{} leads to the host's own network namespace: nothing of a container's is done there", .path.display())]
    Own {
        /// Its path.
        path: PathBuf,
    },
    /// Not a namespace, or not allowed.
    #[error("cannot enter the network namespace {}: {source}", .path.display())]
    Enter {
        /// Its path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A namespace that is held open: the same whatever its path leads to by now.
#[derive(Debug)]
pub struct OpenNetns {
    path: PathBuf,
    file: File,
}

impl OpenNetns {
    fn at(path: impl AsRef<Path>) -> Result<Self, NetnsError> {
        let path = path.as_ref().to_owned();
        match File::open(&path) {
            Ok(file) => Ok(Self { path, file }),
            Err(source) => Err(NetnsError::Open { path, source }),
        }
    }

    /// The namespace `netns`, by its path, or another where that leads elsewhere by now: a process may have ended while
    /// its namespace lives on.
    ///
    /// # Errors
    ///
    /// It is gone, or it is the host's own: nothing of a container's is ever done there.
    pub fn of(netns: &Netns) -> Result<Self, NetnsError> {
        let found = Self::at(&netns.path).ok().filter(|found| found.id() == Some(netns.id));
        let found = found.or_else(|| by_id(netns.id)).ok_or_else(|| NetnsError::Gone { path: (&netns.path).into() })?;
        if id_at(SELF) == Some(netns.id) {
            return Err(NetnsError::Own { path: (&netns.path).into() });
        }
        Ok(found)
    }

    /// A namespace of this process's own, without a name: it ends when nothing holds it open. Its loopback is down.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn fresh() -> io::Result<Self> {
        thread::scope(|scope| {
            let inside = || {
                // SAFETY: of this thread alone, which ends here; it shares no other namespace less.
                unsafe { unshare_unsafe(UnshareFlags::NEWNET)? };
                File::open(THREAD)
            };
            let thread = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, inside)?;
            let file = thread.join().unwrap_or_else(|panic| resume_unwind(panic))?;
            let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
            Ok(Self { path, file })
        })
    }

    /// How it is told to others of this process; `None` when the kernel does not tell which it is.
    #[must_use]
    pub fn place(&self) -> Option<Netns> {
        Some(Netns { path: self.path.to_str()?.to_owned(), id: self.id()? })
    }

    fn id(&self) -> Option<NetnsId> {
        self.file.metadata().ok().map(|found| id(&found))
    }

    /// Runs `work` inside, on a thread of its own, and waits for it.
    ///
    /// # Errors
    ///
    /// The namespace cannot be entered; `work` did not run.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
        let enter = |source| NetnsError::Enter { path: self.path.clone(), source };
        thread::scope(|scope| {
            let inside = || {
                move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))?;
                Ok(work())
            };
            let thread = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, inside).map_err(enter)?;
            thread.join().unwrap_or_else(|panic| resume_unwind(panic)).map_err(|e: rustix::io::Errno| enter(e.into()))
        })
    }
}

impl AsFd for OpenNetns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Runs `work` in the network namespace at `path`, on a thread of its own, and waits for it.
///
/// # Errors
///
/// The namespace cannot be opened or entered; `work` did not run.
pub fn in_netns<T: Send>(path: impl AsRef<Path>, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
    OpenNetns::at(path)?.run(work)
}

/// The boot that the host is in; all zero where the kernel does not tell it.
pub fn boot() -> BootId {
    static BOOT: OnceLock<BootId> = OnceLock::new();
    *BOOT.get_or_init(|| {
        let text = fs::read_to_string(BOOT_ID).unwrap_or_default();
        let number = u128::from_str_radix(&text.trim().replace('-', ""), 16).unwrap_or_default();
        BootId(number.to_be_bytes())
    })
}

fn id(file: &Metadata) -> NetnsId {
    NetnsId { device: file.dev(), inode: file.ino(), boot: boot() }
}

fn id_at(path: impl AsRef<Path>) -> Option<NetnsId> {
    fs::metadata(path).ok().map(|found| id(&found))
}

/// Names in `/run/netns`, sorted, each with the namespace that it stands for.
fn named() -> Vec<(PathBuf, NetnsId)> {
    let entries = NAME_DIRS.iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten().filter_map(Result::ok);
    let mut all: Vec<_> = entries.filter_map(|entry| Some((entry.path(), id_at(entry.path())?))).collect();
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    all
}

/// The namespace of that number, by a name or by a process in it.
fn by_id(wanted: NetnsId) -> Option<OpenNetns> {
    let processes = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let processes = processes.filter(|entry| entry.file_name().to_str().is_some_and(is_number));
    let paths = named().into_iter().map(|(path, _)| path).chain(processes.map(|entry| entry.path().join("ns/net")));
    paths
        .filter(|path| id_at(path) == Some(wanted))
        .filter_map(|path| OpenNetns::at(path).ok())
        .find(|found| found.id() == Some(wanted))
}

/// `NS_GET_NSTYPE` of `linux/nsfs.h`.
struct NsType;

// SAFETY: the request has no argument (a null pointer is passed and never read) and its result is the return value.
unsafe impl Ioctl for NsType {
    type Output = i32;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        opcode::none(0xb7, 0x3)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut c_void) -> rustix::io::Result<i32> {
        Ok(out)
    }
}

/// Whether `path` leads to a network namespace.
#[must_use]
pub fn is_netns(path: impl AsRef<Path>) -> bool {
    // Asked before opening: opening a named pipe would wait for its other end.
    if !fs::metadata(path.as_ref()).is_ok_and(|m| m.is_file()) {
        return false;
    }
    let Ok(file) = File::open(path) else { return false };
    // SAFETY: on a namespace's file the request only reports the kind; no other regular file takes it (ENOTTY).
    unsafe { ioctl(&file, NsType) }.is_ok_and(|kind| kind == NET)
}

/// Why a container could not be found. Nothing was changed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContainerError {
    /// Nothing is called so.
    #[error(
        "no network namespace, path or process called {0:?}: looked for a name in /run/netns, an absolute path and a PID"
    )]
    Unknown(String),
    /// It is something else.
    #[error("{} is not a network namespace: name one in /run/netns, give its path, or a PID", .0.display())]
    NotNetns(PathBuf),
    /// It is the controller's own.
    #[error("{0:?} has the host's own network namespace: attach works on containers only, `expose` on the host")]
    Own(String),
}

/// The name that `path` has directly in `/run/netns`; any other text as it is.
fn name_of(container: &str) -> &str {
    let path = Path::new(container);
    let named = NAME_DIRS.iter().any(|dir| path.parent() == Some(Path::new(dir)));
    path.file_name().and_then(|n| n.to_str()).filter(|n| named && is_name(n)).unwrap_or(container)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_name(text: &str) -> bool {
    (1..=NAME_MAX).contains(&text.len()) && text != "." && text != ".." && !text.contains(['/', '\0'])
}

/// Finds the container that an operator calls `container`: a name in `/run/netns`, an absolute path, or a PID.
///
/// A name wins over a PID of the same digits. Its owner key is the name that its namespace has in `/run/netns`, the first
/// of several unless it was called by another, else the namespace's number.
///
/// # Errors
///
/// Nothing is called so, it is not a network namespace, or it is the host's own.
pub fn resolve(container: &str) -> Result<Container, ContainerError> {
    let unknown = || ContainerError::Unknown(container.to_owned());
    let path = find(container).ok_or_else(unknown)?;
    if !is_netns(&path) {
        return Err(ContainerError::NotNetns(path));
    }
    let id = id_at(&path).ok_or_else(unknown)?;
    if id_at(SELF) == Some(id) {
        return Err(ContainerError::Own(container.to_owned()));
    }
    let called = name_of(container);
    let mut names = named().into_iter().filter(|(_, other)| *other == id).map(|(path, _)| path);
    let name = names.clone().find(|path| path.file_name().is_some_and(|name| name == called)).or_else(|| names.next());
    let owner = name.as_ref().and_then(|path| path.file_name()?.to_str().map(str::to_owned));
    let path = name.unwrap_or(path).to_str().ok_or_else(unknown)?.to_owned();
    let owner = owner.unwrap_or_else(|| numbered(id));
    let place = Place::Netns(Netns { path, id });
    Ok(Container { owner, chosen: false, place, names: NameRequest::default() })
}

/// Whom an operator means by `container` that has addresses here: an owner key, or what [`resolve`] takes. Works also for
/// a container that is gone.
#[must_use]
pub fn holder(container: &str) -> Holder {
    let netns = find(container).filter(|path| is_netns(path)).and_then(id_at).filter(|id| Some(*id) != id_at(SELF));
    Holder { owner: name_of(container).to_owned(), netns }
}

fn find(container: &str) -> Option<PathBuf> {
    let exists = |path: PathBuf| path.exists().then_some(path);
    if container.starts_with('/') {
        return exists(PathBuf::from(container));
    }
    if !is_name(container) {
        return None;
    }
    let named = NAME_DIRS.iter().find_map(|dir| exists(Path::new(dir).join(container)));
    named.or_else(|| is_number(container).then(|| exists(PathBuf::from(format!("/proc/{container}/ns/net")))).flatten())
}

#[cfg(test)]
pub(crate) mod tests;
