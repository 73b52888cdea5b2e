//! The embedded kernel object and how it is loaded.

use std::path::PathBuf;

use aya::{
    Ebpf, EbpfLoader,
    maps::MapType,
    programs::{SchedClassifier, TcAttachType, Xdp},
};
use weave_common::map;

use super::{error::DatapathError, maps::SHAPES};

/// The linked BPF object, built and named by the build script.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("WEAVE_BPF_OBJECT"));

/// What a program is for, and thereby which one goes where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Host end of a container's veth.
    Container,
    /// Underlay device.
    Underlay,
    /// The VXLAN socket device: what the kernel's stack took off the data port.
    Socket,
    /// The VXLAN socket device, outwards: the controller's probes.
    Prober,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Container, Self::Underlay, Self::Socket, Self::Prober];

    /// Name of the program in the object and in the kernel.
    #[must_use]
    pub const fn program(self) -> &'static str {
        match self {
            Self::Container => map::PROG_CONTAINER,
            Self::Underlay => map::PROG_UNDERLAY,
            Self::Socket => map::PROG_SOCKET,
            Self::Prober => map::PROG_PROBER,
        }
    }

    /// The side of the device that it is attached to.
    #[must_use]
    pub const fn side(self) -> TcAttachType {
        match self {
            Self::Container | Self::Underlay | Self::Socket => TcAttachType::Ingress,
            Self::Prober => TcAttachType::Egress,
        }
    }
}

/// How an XDP program is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum XdpMode {
    /// By the device's driver.
    Native,
    /// By the kernel's stack.
    Generic,
}

impl XdpMode {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Native, Self::Generic];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// Loads the object, as often as asked. Making one costs more than a load: aya reads the kernel's own types for it.
pub struct Loader(EbpfLoader<'static>);

impl Loader {
    /// A loader that leaves the kernel's own types alone: no program reads them.
    #[must_use]
    pub fn new() -> Self {
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        Self(loader)
    }

    /// Loads the object with small maps that go away with it, and no program yet.
    ///
    /// # Errors
    /// When the kernel refuses a map.
    pub fn load_for_trial(&mut self) -> Result<Ebpf, DatapathError> {
        // A ring's size is in bytes, whole pages.
        for shape in SHAPES.iter().filter(|shape| shape.map_type != MapType::RingBuf) {
            self.0.map_max_entries(shape.name, 1);
        }
        Ok(self.0.load(OBJECT)?)
    }

    /// Loads the object with each map pinned at `pin(name)`: one that is there is used, one that is not is made. Loads
    /// every program that can be attached, but not that for XDP.
    ///
    /// # Errors
    /// When the kernel refuses a map or a program.
    pub fn load_pinned(mut self, pin: impl Fn(&str) -> PathBuf) -> Result<Ebpf, DatapathError> {
        for shape in SHAPES {
            self.0.map_max_entries(shape.name, shape.capacity).map_pin_path(shape.name, pin(shape.name));
        }
        let mut ebpf = self.0.load(OBJECT)?;
        for role in Role::ALL {
            let name = role.program();
            program(&mut ebpf, name)?
                .load()
                .map_err(|source| DatapathError::Program { name, source: source.into() })?;
        }
        Ok(ebpf)
    }
}

impl Default for Loader {
    fn default() -> Self {
        Self::new()
    }
}

/// The program called `name`.
///
/// # Errors
/// When the object has none.
pub fn program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut SchedClassifier, DatapathError> {
    ebpf.program_mut(name).and_then(|program| program.try_into().ok()).ok_or(DatapathError::Object { name })
}

/// The program for XDP.
///
/// # Errors
/// When the object has none.
pub fn xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp, DatapathError> {
    let name = map::PROG_XDP;
    ebpf.program_mut(name).and_then(|program| program.try_into().ok()).ok_or(DatapathError::Object { name })
}
