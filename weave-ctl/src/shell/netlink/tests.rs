//! Devices as a real kernel tells them.

use rustix::io::Errno;

use super::{Netlink, NetlinkError};
use crate::shell::netns::tests::TestNetns;

#[tokio::test]
async fn loopback_is_seen_without_privilege() {
    let netlink = Netlink::here().unwrap();
    let lo = netlink.device("lo").await.unwrap().unwrap();
    assert!(lo.loopback && !lo.is_veth());
    assert!(netlink.devices().await.unwrap().contains(&lo));
    assert_eq!(netlink.device("no-such-device").await.unwrap(), None);
}

#[tokio::test]
async fn a_missing_namespace_is_an_error() {
    let error = Netlink::inside("/no/such/ns").unwrap_err();
    assert!(matches!(error, NetlinkError::Netns(_)), "{error}");
}

#[test]
#[ignore = "needs root"]
fn a_device_is_changed_and_removed() {
    let ns = TestNetns::new("netlink");
    ns.ip(&["link", "add", "name", "a", "mtu", "1400", "type", "veth", "peer", "name", "b"]);
    ns.block_on(async {
        let netlink = Netlink::here().unwrap();
        let (a, b) = (netlink.device("a").await.unwrap().unwrap(), netlink.device("b").await.unwrap().unwrap());
        assert_eq!((a.mtu, a.peer, a.is_veth(), a.up), (1400, Some(b.index), true, false));
        netlink.without_ipv6_address(a.index).await.unwrap();
        netlink.up(a.index).await.unwrap();
        netlink.up(b.index).await.unwrap();
        assert!(netlink.device("a").await.unwrap().unwrap().up);
        netlink.del(a.index).await.unwrap();
        netlink.del(a.index).await.unwrap();
        assert_eq!(netlink.device("b").await.unwrap(), None);
        let refused = netlink.up(b.index).await.unwrap_err();
        assert!(refused.is(Errno::NODEV), "{refused}");
    });
}
