//! A kernel that answers late: `weave-ctl` with a relay between it and all netlink sockets that it opens, which holds back
//! what the kernel sends for as long as the test says.
//!
//! The relay is a library in C, compiled when it is made and preloaded by a script that stands for `weave-ctl`.
//! Does not: hold back what `weave-ctl` asks, or what the kernel tells by other means (BPF, sockets, files).

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::cmd::run;

/// The relay's source.
const SOURCE: &str = include_str!("slow_netlink.c");

/// See the head of this file.
#[derive(Debug)]
pub struct SlowNetlink {
    dir: TempDir,
}

impl SlowNetlink {
    /// A relay for this `weave-ctl`; it holds nothing back yet.
    ///
    /// # Errors
    /// When there is no C compiler, or it refuses.
    pub fn of(binary: &Path) -> Result<Self> {
        let dir = TempDir::new().context("make a directory for the relay")?;
        let (source, library) = (dir.path().join("relay.c"), dir.path().join("relay.so"));
        fs::write(&source, SOURCE).context("write the relay")?;
        let [source, library] = [source, library].map(|path| path.display().to_string());
        run(&["cc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-pthread", "-o", &library, &source, "-ldl"])?;
        let slow = Self { dir };
        slow.hold_back(Duration::ZERO)?;
        let script = format!(
            "#!/bin/sh\nexport SLOW_NETLINK='{}' LD_PRELOAD='{library}'\nexec '{}' \"$@\"\n",
            slow.dir.path().display(),
            binary.display()
        );
        fs::write(slow.program(), script).context("write the script")?;
        fs::set_permissions(slow.program(), fs::Permissions::from_mode(0o755)).context("make the script a program")?;
        Ok(slow)
    }

    /// What is to be run in the place of `weave-ctl`.
    #[must_use]
    pub fn program(&self) -> PathBuf {
        self.dir.path().join("weave-ctl")
    }

    /// Holds back from now on what the kernel sends; what waits already is held back as long in all.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn hold_back(&self, delay: Duration) -> Result<()> {
        // A reader sees the one or the other, never nothing.
        let new = self.dir.path().join("new");
        fs::write(&new, delay.as_millis().to_string())?;
        fs::rename(new, self.dir.path().join("delay")).context("tell the relay")
    }

    /// Messages that were passed on so far after a second or more.
    #[must_use]
    pub fn held(&self) -> u64 {
        fs::metadata(self.dir.path().join("held")).map_or(0, |file| file.len())
    }
}
