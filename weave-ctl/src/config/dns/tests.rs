//! Flags of the resolver.

use super::*;

fn read(change: impl FnOnce(&mut LaunchFlags)) -> Result<Option<DnsConfig>, ConfigError> {
    let mut flags = LaunchFlags::default();
    change(&mut flags);
    settings(&flags)
}

#[test]
fn defaults_are_those_of_the_predecessor() {
    let config = read(|_| ()).unwrap().unwrap();
    assert_eq!(config, DnsConfig { ttl: 1, upstream: vec![], listen: vec![], kernel: DnsKernel::Auto });
    assert_eq!(read(|flags| flags.no_dns = true).unwrap(), None);
}

#[test]
fn addresses_have_a_port_or_that_of_dns() {
    let named = ["9.9.9.9", "10.0.0.1:5353", "[2620:fe::fe]:53", "2620:fe::fe", "9.9.9.9:53"].map(str::to_owned);
    let config = read(|flags| flags.dns_upstream = named.to_vec()).unwrap().unwrap();
    let shown: Vec<String> = config.upstream.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["9.9.9.9:53", "10.0.0.1:5353", "[2620:fe::fe]:53"]);
    for wrong in ["", "example.com", "9.9.9.9:0", "224.0.0.1", "1.2.3", "0.0.0.0", "[::]:53"] {
        let text = read(|flags| flags.dns_listen = vec![wrong.to_owned()]).unwrap_err().to_string();
        assert!(text.starts_with("--dns-listen"), "{text}");
    }
    let many = (0..17).map(|n| format!("10.0.0.{n}")).collect::<Vec<_>>();
    assert!(matches!(read(|flags| flags.dns_upstream = many), Err(ConfigError::DnsAddresses { count: 17, .. })));
}

#[test]
fn ttl_is_bounded() {
    for (text, ttl) in [("0", Some(0)), ("86400", Some(86_400)), ("86401", None), ("-1", None), ("x", None)] {
        let config = read(|flags| flags.dns_ttl = Some(text.to_owned()));
        assert_eq!(config.ok().flatten().map(|config| config.ttl), ttl, "{text}");
    }
}
