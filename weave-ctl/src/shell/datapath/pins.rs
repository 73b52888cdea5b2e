//! Where maps and links are kept: `<bpf-dir>/v<schema>/maps/<map>` and `.../links/<program>-<index of the device>`, the latter
//! with the mode behind the program's name for XDP. An index, because a device may be renamed, and another take its name.
//!
//! A pin outlives the controller; removing a link's pin detaches its program.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use aya::maps::{MapInfo, MapType};
use rustix::fs::{FsWord, statfs};
use weave_common::{config::SCHEMA, map};

use super::{
    error::DatapathError,
    link,
    maps::{SHAPES, Shape},
    object::{Role, XdpMode},
};

/// `BPF_FS_MAGIC`.
const BPF_FS_MAGIC: FsWord = 0xcafe_4a11;

/// The directories of one schema.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    maps: PathBuf,
    links: PathBuf,
}

/// A pinned link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LinkPin {
    /// What the program is for.
    pub(super) role: Role,
    /// Index of the device.
    pub(super) ifindex: u32,
}

/// The pinned link of an XDP program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct XdpPin {
    /// How it is attached.
    pub(super) mode: XdpMode,
    /// Index of the device.
    pub(super) ifindex: u32,
}

impl Pins {
    /// The directories under `bpf_dir`, which must be on a BPF file system. Makes nothing.
    pub(super) fn under(bpf_dir: &Path) -> Result<Self, DatapathError> {
        if !on_bpffs(bpf_dir) {
            return Err(DatapathError::NoBpffs { dir: bpf_dir.to_owned() });
        }
        let dir = bpf_dir.join(format!("v{SCHEMA}"));
        Ok(Self { maps: dir.join("maps"), links: dir.join("links") })
    }

    /// Makes the directories.
    pub(super) fn create(&self) -> Result<(), DatapathError> {
        for dir in [&self.maps, &self.links] {
            fs::create_dir_all(dir).map_err(|source| pin_error("make", dir, source))?;
        }
        Ok(())
    }

    /// Whether the directories are there.
    pub(super) fn exist(&self) -> bool {
        self.maps.exists() || self.links.exists()
    }

    /// Where a map is pinned.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.maps.join(name)
    }

    /// Where a link is pinned.
    pub(super) fn link(&self, LinkPin { role, ifindex }: LinkPin) -> PathBuf {
        self.links.join(format!("{}-{ifindex}", role.program()))
    }

    /// Where the link of an XDP program is pinned.
    pub(super) fn xdp(&self, XdpPin { mode, ifindex }: XdpPin) -> PathBuf {
        self.links.join(format!("{}-{ifindex}", xdp_name(mode)))
    }

    /// The links of XDP programs that are pinned.
    pub(super) fn xdp_links(&self) -> Result<Vec<XdpPin>, DatapathError> {
        let names = list(&self.links).map_err(|source| pin_error("list", &self.links, source))?;
        Ok(names.iter().filter_map(|name| parse_xdp(name)).collect())
    }

    /// Takes an XDP program off its device and removes the pin.
    pub(super) fn remove_xdp(&self, pin: XdpPin) -> Result<(), DatapathError> {
        let path = self.xdp(pin);
        // Now, not when the kernel comes to it: another program may be waiting for its place. A link whose device is
        // gone has nothing to be taken off.
        link::detach(&path).ok();
        absent_is_fine(fs::remove_file(&path)).map_err(|source| pin_error("remove", &path, source))
    }

    /// The links that are pinned.
    pub(super) fn links(&self) -> Result<Vec<LinkPin>, DatapathError> {
        let names = list(&self.links).map_err(|source| pin_error("list", &self.links, source))?;
        Ok(names.iter().filter_map(|name| parse_link(name)).collect())
    }

    /// Removes a link's pin, if there is one.
    pub(super) fn remove_link(&self, pin: LinkPin) -> Result<(), DatapathError> {
        let path = self.link(pin);
        absent_is_fine(fs::remove_file(&path)).map_err(|source| pin_error("remove", &path, source))
    }

    /// What went wrong with the pin at `path`.
    pub(super) fn failed(
        &self,
        what: &'static str,
        path: &Path,
        error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> DatapathError {
        pin_error(what, path, io::Error::other(error))
    }

    /// Compares every pinned map with what the programs use: aya would take one of any shape.
    pub(super) fn check_maps(&self) -> Result<(), DatapathError> {
        for shape in SHAPES {
            let path = self.map(shape.name);
            if !path.try_exists().map_err(|source| pin_error("look for", &path, source))? {
                continue;
            }
            let unreadable = |error: aya::maps::MapError| pin_error("open", &path, io::Error::other(error));
            let info = MapInfo::from_pin(&path).map_err(unreadable)?;
            let found = Shape {
                name: shape.name,
                map_type: info.map_type().unwrap_or(MapType::Unspecified),
                key: info.key_size(),
                value: info.value_size(),
                capacity: info.max_entries(),
            };
            if found != *shape {
                return Err(DatapathError::Shape { path, expected: shape.to_string(), found: found.to_string() });
            }
        }
        Ok(())
    }
}

/// Names of the directories of schemas under `bpf_dir`; those of other schemas than this one alone, when asked for.
fn schemas(bpf_dir: &Path, others: bool) -> Result<Vec<String>, DatapathError> {
    let names = list(bpf_dir).map_err(|source| pin_error("list", bpf_dir, source))?;
    let schema = |name: &String| name.strip_prefix('v').and_then(|n| n.parse::<u32>().ok());
    Ok(names.into_iter().filter(|name| schema(name).is_some_and(|n| !others || n != SCHEMA)).collect())
}

/// Links of other schemas that are pinned under `bpf_dir`, with where; `None` when nothing of another schema is pinned.
/// Their names may have another form, so the device is asked for.
pub(super) fn other_links(bpf_dir: &Path) -> Result<Option<BTreeMap<LinkPin, PathBuf>>, DatapathError> {
    let schemas = schemas(bpf_dir, true)?;
    let mut links = BTreeMap::new();
    for dir in schemas.iter().map(|schema| bpf_dir.join(schema).join("links")) {
        for name in list(&dir).map_err(|source| pin_error("list", &dir, source))? {
            let program = name.split_once('-').map_or(name.as_str(), |(program, _)| program);
            let role = Role::ALL.into_iter().find(|role| role.program() == program);
            let place = link::place(&dir.join(&name)).ok().flatten().filter(|place| place.ifindex != 0);
            if let (Some(role), Some(place)) = (role, place) {
                links.insert(LinkPin { role, ifindex: place.ifindex }, dir.join(&name));
            }
        }
    }
    Ok((!schemas.is_empty()).then_some(links))
}

/// Takes the XDP programs of other schemas off: a device has one. The traffic-control programs do the same meanwhile.
pub(super) fn end_other_xdp(bpf_dir: &Path) -> Result<(), DatapathError> {
    for schema in schemas(bpf_dir, true)? {
        let dir = bpf_dir.join(schema).join("links");
        let names = list(&dir).map_err(|source| pin_error("list", &dir, source))?;
        for name in names.iter().filter(|name| name.starts_with(map::PROG_XDP)) {
            let path = dir.join(name);
            link::detach(&path).ok();
            absent_is_fine(fs::remove_file(&path)).map_err(|source| pin_error("remove", &path, source))?;
        }
    }
    Ok(())
}

/// Removes every pin under `bpf_dir`, or those of other schemas alone: links first, so that no program runs without its maps.
pub(super) fn remove_all(bpf_dir: &Path, others: bool) -> Result<(), DatapathError> {
    if !on_bpffs(bpf_dir) {
        return Ok(());
    }
    for version in schemas(bpf_dir, others)? {
        for part in ["links", "maps"] {
            let dir = bpf_dir.join(&version).join(part);
            for name in list(&dir).map_err(|source| pin_error("list", &dir, source))? {
                let path = dir.join(name);
                absent_is_fine(fs::remove_file(&path)).map_err(|source| pin_error("remove", &path, source))?;
            }
            absent_is_fine(fs::remove_dir(&dir)).map_err(|source| pin_error("remove", &dir, source))?;
        }
        let dir = bpf_dir.join(version);
        absent_is_fine(fs::remove_dir(&dir)).map_err(|source| pin_error("remove", &dir, source))?;
    }
    if !others {
        // Shared with other users of the file system, or its mount point: stays unless it is ours and empty.
        drop(fs::remove_dir(bpf_dir));
    }
    Ok(())
}

/// True when `dir`, or the closest directory above it that exists, is on a BPF file system.
fn on_bpffs(dir: &Path) -> bool {
    let existing = dir.ancestors().find(|path| path.exists());
    existing.and_then(|path| statfs(path).ok()).is_some_and(|stat| stat.f_type == BPF_FS_MAGIC)
}

/// Names in `dir`; none when it does not exist.
fn list(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// Two names that no other program's begins with.
fn xdp_name(mode: XdpMode) -> String {
    format!("{}_{}", map::PROG_XDP, mode.as_str())
}

fn parse_xdp(name: &str) -> Option<XdpPin> {
    let (program, device) = name.split_once('-')?;
    let mode = XdpMode::ALL.into_iter().find(|mode| xdp_name(*mode) == program)?;
    Some(XdpPin { mode, ifindex: device.parse().ok()? })
}

fn parse_link(name: &str) -> Option<LinkPin> {
    let (program, device) = name.split_once('-')?;
    let role = Role::ALL.into_iter().find(|role| role.program() == program)?;
    Some(LinkPin { role, ifindex: device.parse().ok()? })
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn pin_error(what: &'static str, path: &Path, source: io::Error) -> DatapathError {
    DatapathError::Pin { what, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
