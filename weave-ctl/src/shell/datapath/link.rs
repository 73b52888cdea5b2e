//! Pinned links, for what aya does not do with them: telling their device, and letting go of it at once.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    thread,
    time::Duration,
};

use aya::programs::ProgramError;
use rustix::io::Errno;

use super::error::{Failure, errno};

/// `BPF_OBJ_GET`, `BPF_OBJ_GET_INFO_BY_FD` and `BPF_LINK_DETACH` of `linux/bpf.h`.
const OBJ_GET: libc::c_long = 7;
const GET_INFO: libc::c_long = 15;
const LINK_DETACH: libc::c_long = 34;

/// How long [`once_released`] waits at most; it tries that often meanwhile.
const RELEASE_WAIT: Duration = Duration::from_millis(200);
const RELEASE_TRIES: u32 = 20;

/// The parts of `union bpf_attr` that are used here.
#[repr(C)]
struct ObjGet {
    path: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
struct GetInfo {
    fd: u32,
    len: u32,
    info: u64,
}

#[repr(C)]
struct LinkDetach {
    fd: u32,
}

/// The start of `struct bpf_link_info`, for a link that has a device: of a TCX or an XDP program.
#[derive(Default)]
#[repr(C, align(8))]
struct DeviceInfo {
    kind: u32,
    id: u32,
    program: u32,
    pad: u32,
    ifindex: u32,
}

/// Where a pinned link is, and which program it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Index of the device; zero when the device is gone, or the link was detached.
    pub(super) ifindex: u32,
    /// The kernel's number for the program.
    pub(super) program: u32,
}

/// The place of the link pinned at `pin`; `None` when nothing is pinned there.
pub(super) fn place(pin: &Path) -> io::Result<Option<Place>> {
    let link = match open(pin) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        link => link?,
    };
    let mut info = DeviceInfo::default();
    let (len, at) = (size_of::<DeviceInfo>() as u32, &raw mut info as u64);
    let attr = GetInfo { fd: link.as_raw_fd().cast_unsigned(), len, info: at };
    // SAFETY: the kernel writes at most `len` bytes at `info`, which outlives the call; all bits are values.
    unsafe { bpf(GET_INFO, &attr) }?;
    Ok(Some(Place { ifindex: info.ifindex, program: info.program }))
}

/// Takes the program of the link pinned at `pin` off its device. The pin stays, on a link that does nothing any more.
pub(super) fn detach(pin: &Path) -> io::Result<()> {
    let link = open(pin)?;
    let attr = LinkDetach { fd: link.as_raw_fd().cast_unsigned() };
    // SAFETY: plain integers.
    unsafe { bpf(LINK_DETACH, &attr) }.map(drop)
}

/// Does `attach` again for a while where the kernel says by `taken` that the program's place is taken: a worker takes a
/// program off some time after the last pin of its link was removed (`bpf_link_put` in `kernel/bpf/syscall.c`).
pub(super) fn once_released<T>(
    taken: Errno,
    mut attach: impl FnMut() -> Result<T, ProgramError>,
) -> Result<T, Failure> {
    for _ in 0..RELEASE_TRIES {
        match attach() {
            Err(error) if errno(&error) == Some(taken) => thread::sleep(RELEASE_WAIT / RELEASE_TRIES),
            result => return Ok(result?),
        }
    }
    Ok(attach()?)
}

fn open(pin: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let attr = ObjGet { path: path.as_ptr() as u64, fd: 0, flags: 0 };
    // SAFETY: the kernel reads the string up to its NUL during the call.
    let fd = unsafe { bpf(OBJ_GET, &attr) }?;
    // SAFETY: a new descriptor, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// # Safety
/// `attr` must be what the command takes, and what it points to must be there for the kernel.
unsafe fn bpf<T>(command: libc::c_long, attr: &T) -> io::Result<i32> {
    // SAFETY: as the caller promises; the kernel reads `size_of::<T>()` bytes at `attr`.
    let ret = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(ret as i32) }
}

/// Removes the pin, and lets go of the link a moment later, as the kernel does on a busy machine.
#[cfg(test)]
pub(super) fn release_late(pin: &Path) -> thread::JoinHandle<()> {
    let link = open(pin).expect("a link");
    std::fs::remove_file(pin).expect("removed");
    thread::spawn(move || {
        thread::sleep(RELEASE_WAIT / 4);
        drop(link);
    })
}
