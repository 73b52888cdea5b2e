//! How questions for names are answered.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

pub use super::flags::DnsKernel;
use super::{ConfigError, flags::LaunchFlags};

/// Port of DNS.
const PORT: u16 = 53;
/// Seconds for which an answer may be kept when nothing is said, as the predecessor's.
const TTL: u32 = 1;
/// Longest `--dns-ttl` in seconds: a day.
pub const TTL_MAX: u32 = 86_400;
/// Most addresses to forward to, and most to listen on.
pub const ADDRESSES_MAX: usize = 16;

/// Settings of the resolver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsConfig {
    /// Seconds for which answers about names of the domain may be kept.
    pub ttl: u32,
    /// Where questions for other names go; empty for the servers of resolv.conf.
    pub upstream: Vec<SocketAddr>,
    /// Addresses of this host on which is listened beside the service address.
    pub listen: Vec<SocketAddr>,
    /// Whether the programs answer what they can.
    pub kernel: DnsKernel,
}

/// The settings; `None` when questions are not answered.
///
/// # Errors
/// Names the first that cannot be used.
pub(super) fn settings(flags: &LaunchFlags) -> Result<Option<DnsConfig>, ConfigError> {
    if flags.no_dns {
        return Ok(None);
    }
    let ttl = match flags.dns_ttl.as_deref() {
        None => TTL,
        Some(text) => {
            let ttl = text.parse().ok().filter(|ttl| *ttl <= TTL_MAX);
            ttl.ok_or_else(|| ConfigError::DnsTtl(text.to_owned()))?
        }
    };
    let upstream = addresses("--dns-upstream", &flags.dns_upstream)?;
    let listen = addresses("--dns-listen", &flags.dns_listen)?;
    Ok(Some(DnsConfig { ttl, upstream, listen, kernel: flags.dns_kernel }))
}

fn addresses(what: &'static str, texts: &[String]) -> Result<Vec<SocketAddr>, ConfigError> {
    if texts.len() > ADDRESSES_MAX {
        return Err(ConfigError::DnsAddresses { what, count: texts.len() });
    }
    let mut addrs = Vec::new();
    for text in texts {
        let addr = text.parse::<SocketAddr>().or_else(|_| text.parse::<IpAddr>().map(|ip| (ip, PORT).into()));
        // Of a socket on all addresses answers may come from another one than was asked, and then clients drop them.
        let usable = |addr: &SocketAddr| {
            let ip = addr.ip();
            addr.port() != 0 && !ip.is_multicast() && ip != Ipv4Addr::BROADCAST && !ip.is_unspecified()
        };
        let addr = addr.ok().filter(usable).ok_or_else(|| ConfigError::DnsAddress { what, text: text.clone() })?;
        if !addrs.contains(&addr) {
            addrs.push(addr);
        }
    }
    Ok(addrs)
}

#[cfg(test)]
mod tests;
