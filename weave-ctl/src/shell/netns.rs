//! Network namespaces: entering one, telling them apart, and finding the one an operator means.
//!
//! A namespace is entered on a thread of its own that ends with the work, so no other task can ever find itself in a
//! container. Sockets made there stay in that namespace and may be used from anywhere.
//!
//! Does not: make or remove namespaces, or know Docker and podman.

use std::{
    ffi::c_void,
    fs::{self, File},
    io,
    os::{fd::AsFd, unix::fs::MetadataExt},
    panic::resume_unwind,
    path::{Path, PathBuf},
    thread,
};

use rustix::{
    ioctl::{Ioctl, IoctlOutput, Opcode, ioctl, opcode},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use crate::proto::command::Container;

/// Where names of namespaces live, in the order looked at.
const NAME_DIRS: [&str; 2] = ["/run/netns", "/var/run/netns"];
/// The namespace of the process that asks.
const SELF: &str = "/proc/self/ns/net";
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
    /// Not a namespace, or not allowed.
    #[error("cannot enter the network namespace {}: {source}", .path.display())]
    Enter {
        /// Its path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Runs `work` in the network namespace at `path`, on a thread of its own, and waits for it.
///
/// # Errors
///
/// The namespace cannot be opened or entered; `work` did not run.
pub fn in_netns<T: Send>(path: impl AsRef<Path>, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
    let path = path.as_ref();
    let enter = |source| NetnsError::Enter { path: path.to_owned(), source };
    let file = File::open(path).map_err(|source| NetnsError::Open { path: path.to_owned(), source })?;
    thread::scope(|scope| {
        let inside = || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(work())
        };
        let thread = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, inside).map_err(enter)?;
        thread.join().unwrap_or_else(|panic| resume_unwind(panic)).map_err(|e: rustix::io::Errno| enter(e.into()))
    })
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

/// Whether `path` leads to the namespace of this process.
#[must_use]
pub fn same_netns_as_self(path: impl AsRef<Path>) -> bool {
    let identity = |p: &Path| fs::metadata(p).map(|m| (m.dev(), m.ino()));
    matches!((identity(path.as_ref()), identity(Path::new(SELF))), (Ok(a), Ok(b)) if a == b)
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
    #[error("{0:?} has the controller's own network namespace: attach works on containers only")]
    Own(String),
}

/// The id under which `container` is kept: a path directly in `/run/netns` and the name alone are the same container.
///
/// Works also for a container that is gone.
#[must_use]
pub fn id_of(container: &str) -> String {
    let path = Path::new(container);
    let named = NAME_DIRS.iter().any(|dir| path.parent() == Some(Path::new(dir)));
    let name = path.file_name().and_then(|n| n.to_str()).filter(|n| named && is_name(n));
    name.unwrap_or(container).to_owned()
}

fn is_name(text: &str) -> bool {
    (1..=NAME_MAX).contains(&text.len()) && text != "." && text != ".." && !text.contains(['/', '\0'])
}

/// Finds the container that an operator calls `container`: a name in `/run/netns`, an absolute path, or a PID.
///
/// A name wins over a PID of the same digits. A PID's namespace is known by the process only: its path leads nowhere
/// once the process ends.
///
/// # Errors
///
/// Nothing is called so, it is not a network namespace, or it is the controller's own.
pub fn resolve(container: &str) -> Result<Container, ContainerError> {
    let path = find(container).ok_or_else(|| ContainerError::Unknown(container.to_owned()))?;
    if !is_netns(&path) {
        return Err(ContainerError::NotNetns(path));
    }
    if same_netns_as_self(&path) {
        return Err(ContainerError::Own(container.to_owned()));
    }
    let netns = path.to_str().ok_or_else(|| ContainerError::Unknown(container.to_owned()))?.to_owned();
    Ok(Container { id: id_of(container), netns })
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
    let digits = container.bytes().all(|b| b.is_ascii_digit());
    named.or_else(|| digits.then(|| exists(PathBuf::from(format!("/proc/{container}/ns/net")))).flatten())
}

#[cfg(test)]
pub(crate) mod tests;
