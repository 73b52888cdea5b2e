//! The address arguments of `attach` and `detach`.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::PREFIX_MAX;
use crate::proto::command::AddrRequest;

/// Text that is not an address argument.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddrError {
    /// Not one of the forms.
    #[error("{0:?} is not an address: write IP, IP/LENGTH, net:CIDR or net:default")]
    Form(String),
    /// A subnet whose address has bits beyond its length.
    #[error("{text:?} is not a subnet: the address of a subnet of that length is {network}")]
    HostBits {
        /// The argument.
        text: String,
        /// The subnet it lies in.
        network: Ipv4Net,
    },
    /// A subnet without room for addresses beside its own and that for broadcast.
    #[error(
        "{text:?} is too small a subnet: at least a /{PREFIX_MAX} is needed; one address is written without `net:`"
    )]
    TooSmall {
        /// The argument.
        text: String,
    },
    /// Only an address can be taken away.
    #[error("{0:?} is not a single address: name the address to take away, as `ps` shows it")]
    NotSingle(String),
}

/// An argument of `attach`: `IP`, `IP/LENGTH`, either after `ip:`; `net:CIDR`; `net:default`.
///
/// # Errors
/// When it is none of these.
pub fn attach(text: &str) -> Result<AddrRequest, AddrError> {
    let form = || AddrError::Form(text.to_owned());
    if text == "net:default" {
        return Ok(AddrRequest::Default);
    }
    if let Some(cidr) = text.strip_prefix("net:") {
        let net: Ipv4Net = cidr.parse().ok().ok_or_else(form)?;
        if net != net.trunc() {
            return Err(AddrError::HostBits { text: text.to_owned(), network: net.trunc() });
        }
        if net.prefix_len() > PREFIX_MAX {
            return Err(AddrError::TooSmall { text: text.to_owned() });
        }
        return Ok(AddrRequest::Subnet(net));
    }
    let plain = text.strip_prefix("ip:").unwrap_or(text);
    if plain.contains('/') {
        let net: Ipv4Net = plain.parse().ok().ok_or_else(form)?;
        return Ok(AddrRequest::Fixed(net.addr(), Some(net.prefix_len())));
    }
    plain.parse().map(|addr| AddrRequest::Fixed(addr, None)).ok().ok_or_else(form)
}

/// An argument of `detach`: `IP` or `IP/LENGTH`, either after `ip:`.
///
/// # Errors
/// When it is none of these.
pub fn detach(text: &str) -> Result<Ipv4Addr, AddrError> {
    match attach(text)? {
        AddrRequest::Fixed(addr, _) => Ok(addr),
        AddrRequest::Subnet(_) | AddrRequest::Default => Err(AddrError::NotSingle(text.to_owned())),
    }
}
