//! The servers of the host's resolv.conf (resolv.conf(5)), followed when the file changes.
//!
//! A file that is away for a moment, or does not read, leaves the servers as they were.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use resolv_conf::{Config, ScopedIp};
use rustix::net::netdevice::name_to_index;

/// Port of DNS.
pub(super) const PORT: u16 = 53;
/// Most servers that are read: the first ones.
const SERVERS_MAX: usize = 8;

/// Where this resolver answers: a question that is sent there comes back.
#[derive(Clone, Debug)]
pub(super) struct Own(Vec<SocketAddr>);

impl Own {
    /// It answers at these addresses.
    pub(super) fn new(addrs: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self(addrs.into_iter().collect())
    }

    /// Whether `server` is this resolver.
    pub(super) fn has(&self, server: SocketAddr) -> bool {
        let asked = match server.ip().to_canonical() {
            // To send to no address is to send to oneself (ip(7)).
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
            addr => addr,
        };
        self.0.iter().any(|own| own.port() == server.port() && own.ip().to_canonical() == asked)
    }
}

/// Whether an address is one of this host's: then the kernel would send to it from itself.
pub(super) fn is_here(addr: IpAddr) -> bool {
    let any = if addr.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let from = || {
        let socket = UdpSocket::bind((any, 0))?;
        // Nothing is sent by that.
        socket.connect((addr, PORT))?;
        socket.local_addr()
    };
    addr.is_loopback() || from().is_ok_and(|from| from.ip() == addr)
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct ResolvConf {
    path: PathBuf,
    own: Own,
    /// How the file looked when it was read last.
    seen: Option<(u64, u64, u64, i64, i64)>,
}

impl ResolvConf {
    /// The file at `path`; servers that are this resolver are left out.
    pub(super) fn new(path: &Path, own: Own) -> Self {
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
            ScopedIp::V6(addr, scope) => SocketAddrV6::new(addr, PORT, 0, scope.map_or(0, |name| device(&name))).into(),
        });
        let mut servers: Vec<SocketAddr> = Vec::new();
        for server in addrs.filter(|server| !self.own.has(*server)) {
            if servers.len() < SERVERS_MAX && !servers.contains(&server) {
                servers.push(server);
            }
        }
        servers
    }
}

/// Number of a device that a link-local address names (RFC 4007, section 11); 0 when there is none.
fn device(name: &str) -> u32 {
    let named = || name_to_index(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok()?, name).ok();
    name.parse().ok().or_else(named).unwrap_or(0)
}

#[cfg(test)]
mod tests;
