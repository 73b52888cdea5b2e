//! The servers of the host's resolv.conf (resolv.conf(5)), followed when the file changes.
//!
//! A file that is away for a moment, or does not read, leaves the servers as they were.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use resolv_conf::{Config, ScopedIp};

/// Port of DNS.
pub(super) const PORT: u16 = 53;
/// Most servers that are read: the first ones.
const SERVERS_MAX: usize = 8;

/// See the head of this file.
#[derive(Debug)]
pub(super) struct ResolvConf {
    path: PathBuf,
    /// Addresses that lead back here.
    own: Vec<IpAddr>,
    /// How the file looked when it was read last.
    seen: Option<(u64, u64, u64, i64, i64)>,
}

impl ResolvConf {
    /// The file at `path`; servers at `own` addresses are left out.
    pub(super) fn new(path: &Path, own: Vec<IpAddr>) -> Self {
        Self { path: path.to_owned(), own, seen: None }
    }

    /// The servers, when the file is another than at the last call.
    pub(super) fn changed(&mut self) -> Option<Vec<SocketAddr>> {
        let file = fs::metadata(&self.path).ok()?;
        let seen = (file.dev(), file.ino(), file.len(), file.mtime(), file.mtime_nsec());
        if self.seen == Some(seen) {
            return None;
        }
        let text = fs::read(&self.path).ok()?;
        self.seen = Some(seen);
        Some(self.servers(&text))
    }

    fn servers(&self, text: &[u8]) -> Vec<SocketAddr> {
        // A line that does not read must not cost the others.
        let lines = text.split(|byte| *byte == b'\n').filter_map(|line| Config::parse(line).ok());
        let addrs = lines.flat_map(|config| config.nameservers);
        let addrs = addrs.map(|server| match server {
            ScopedIp::V4(addr) => SocketAddr::from((addr, PORT)),
            ScopedIp::V6(addr, _) => SocketAddr::from((addr, PORT)),
        });
        let mut servers: Vec<SocketAddr> = Vec::new();
        for server in addrs.filter(|server| !self.own.contains(&server.ip())) {
            if servers.len() < SERVERS_MAX && !servers.contains(&server) {
                servers.push(server);
            }
        }
        servers
    }
}

#[cfg(test)]
mod tests;
