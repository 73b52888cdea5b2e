//! Addresses outside the range that no container is given, whichever peer decides: they mean something else to hosts.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// Largest subnet of an address outside the range.
const PREFIX_MIN: u8 = 8;

/// Subnets of which no container is given an address, with what they are for (RFC 6890).
const SPECIAL: [(Ipv4Net, &str); 5] = [
    (Ipv4Net::new_assert(Ipv4Addr::new(0, 0, 0, 0), 8), "addresses of \"this network\""),
    (Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8), "loopback addresses"),
    (Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16), "link-local addresses"),
    (Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4), "multicast groups"),
    (Ipv4Net::new_assert(Ipv4Addr::new(240, 0, 0, 0), 4), "reserved addresses"),
];

/// Why no container is given `addr` with a subnet of that length; `None` when it may be.
#[must_use]
pub fn special(addr: Ipv4Addr, length: u8) -> Option<String> {
    if length < PREFIX_MIN {
        return Some(format!(
            "its subnet {addr}/{length} is too large: the largest outside the range is a /{PREFIX_MIN}"
        ));
    }
    let (net, what) = SPECIAL.into_iter().find(|(net, _)| net.contains(&addr))?;
    Some(format!("{net} are {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_addresses_are_refused() {
        for text in
            ["0.1.2.3", "127.0.0.1", "169.254.7.7", "224.0.0.9", "239.255.255.250", "240.0.0.1", "255.255.255.255"]
        {
            assert!(special(text.parse().unwrap(), 24).is_some(), "{text}");
        }
        for text in ["1.0.0.1", "192.168.7.1", "169.253.0.1", "223.255.255.1"] {
            assert_eq!(special(text.parse().unwrap(), 24), None, "{text}");
        }
        assert!(special(Ipv4Addr::new(192, 168, 7, 1), 7).unwrap().contains("/8"));
        assert_eq!(special(Ipv4Addr::new(192, 168, 7, 1), 8), None);
    }
}
