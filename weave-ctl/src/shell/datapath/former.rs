//! Programs of another schema, of an earlier version of weave-ctl or of a later one, that an earlier run left attached.
//!
//! Their tables have another form and cannot be adopted. They decide about packets until the tables of this version are
//! filled; then each link gets the new program, which takes the place of the old one in the same moment, and its pin moves to
//! this schema's directory. XDP programs are taken off at once: the traffic-control programs do the same. Where the kernel has
//! no links (before 6.6), the filters get the new programs at the start.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{
    DatapathError, Programs, link,
    pins::{self, LinkPin},
};

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Former {
    bpf_dir: PathBuf,
    links: BTreeMap<LinkPin, PathBuf>,
}

impl Former {
    /// What is pinned under `bpf_dir` by other schemas.
    pub(super) fn find(bpf_dir: &Path) -> Result<Option<Self>, DatapathError> {
        let Some(links) = pins::other_links(bpf_dir)? else { return Ok(None) };
        pins::end_other_xdp(bpf_dir)?;
        Ok(Some(Self { bpf_dir: bpf_dir.to_owned(), links }))
    }

    /// True when such a program has the place of this link.
    pub(super) fn has(&self, pin: LinkPin) -> bool {
        self.links.contains_key(&pin)
    }
}

impl Programs {
    /// True while programs of another schema decide about packets.
    #[must_use]
    pub fn has_former(&self) -> bool {
        self.former.is_some()
    }

    /// Puts the programs of this schema in the place of those of others, and removes what else those have pinned.
    ///
    /// # Errors
    /// When a link cannot be had or a pin not be removed. What is left goes on; the next launch tries again.
    pub fn end_former(&mut self) -> Result<(), DatapathError> {
        let Some(former) = self.former.take() else { return Ok(()) };
        for (pin, path) in &former.links {
            let there = link::place(path).ok().flatten().is_some_and(|place| place.ifindex == pin.ifindex);
            if there {
                let to = self.pins.link(*pin);
                fs::rename(path, &to).map_err(|source| self.pins.failed("move", path, source))?;
                self.attach(*pin)?;
            }
        }
        pins::remove_all(&former.bpf_dir, true)
    }
}
