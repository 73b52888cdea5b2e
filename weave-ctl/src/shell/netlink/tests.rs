//! Devices as a real kernel tells them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::stream;
use rtnetlink::packet_core::{DoneMessage, NLM_F_MULTIPART, NetlinkHeader};
use rustix::io::Errno;

use super::{
    LinkMessage, NLM_F_DUMP_INTR, Netlink, NetlinkError, NetlinkMessage, NetlinkPayload, RouteNetlinkMessage, list,
};
use crate::shell::netns::tests::TestNetns;

#[tokio::test]
async fn loopback_is_seen_without_privilege() {
    let netlink = Netlink::here().unwrap();
    let lo = netlink.device("lo").await.unwrap().unwrap();
    assert!(lo.loopback && !lo.is_veth());
    assert!(netlink.devices().await.unwrap().contains(&lo));
    assert_eq!(netlink.device("no-such-device").await.unwrap(), None);
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

type Answer = NetlinkMessage<RouteNetlinkMessage>;

fn answer(payload: NetlinkPayload<RouteNetlinkMessage>, flags: u16) -> Answer {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_MULTIPART | flags;
    NetlinkMessage::new(header, payload)
}

fn entry(index: u32, flags: u16) -> Answer {
    let mut link = LinkMessage::default();
    link.header.index = index;
    answer(NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)), flags)
}

fn end(code: i32, flags: u16) -> Answer {
    let mut done = DoneMessage::default();
    done.code = code;
    answer(NetlinkPayload::Done(done), flags)
}

async fn indexes(answers: Vec<Answer>) -> Result<Option<Vec<u32>>, NetlinkError> {
    let take = |answer| match answer {
        RouteNetlinkMessage::NewLink(link) => Some(link.header.index),
        _ => None,
    };
    list(stream::iter(answers), take).await
}

#[tokio::test]
async fn interrupted_list_is_no_whole_one() {
    assert_eq!(indexes(vec![entry(1, 0), entry(2, 0), end(0, 0)]).await.unwrap(), Some(vec![1, 2]));
    // Whatever message says so: the first after the change, or only the end.
    let all = [
        vec![entry(1, NLM_F_DUMP_INTR), entry(2, 0), end(0, 0)],
        vec![entry(1, 0), entry(2, NLM_F_DUMP_INTR), end(0, NLM_F_DUMP_INTR)],
        vec![entry(1, 0), end(0, NLM_F_DUMP_INTR)],
        vec![end(0, NLM_F_DUMP_INTR)],
    ];
    for answers in all {
        assert_eq!(indexes(answers.clone()).await.unwrap(), None, "{answers:?}");
    }
    let refused = indexes(vec![entry(1, 0), end(-Errno::NOMEM.raw_os_error(), 0)]).await.unwrap_err();
    assert!(refused.is(Errno::NOMEM), "{refused}");
    let cut = indexes(vec![entry(1, 0)]).await.unwrap_err();
    assert!(matches!(cut, NetlinkError::NoAnswer(_)), "{cut}");
}

/// Devices that stay are in every list, whatever comes and goes while the kernel sends it. Alone: the lock that is held for
/// each change is one for all namespaces.
#[test]
#[ignore = "needs root"]
fn alone_list_is_whole_while_devices_come_and_go() {
    const STAY: usize = 150;
    const LISTS: usize = 20;
    let ns = TestNetns::new("dumps");
    for n in 0..STAY {
        ns.ip(&["link", "add", "name", &format!("s{n}"), "type", "veth", "peer", "name", &format!("p{n}")]);
    }
    let (ended, changes, interrupted) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::SeqCst) {
                ns.ip(&["link", "add", "name", "x", "type", "veth", "peer", "name", "y"]);
                ns.ip(&["link", "del", "x"]);
                changes.fetch_add(1, Ordering::SeqCst);
            }
        });
        ns.block_on(async {
            let netlink = Netlink::here().unwrap();
            let mut whole = 0;
            for _ in 0..LISTS {
                let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetLink(LinkMessage::default()));
                request.header.flags = super::NLM_F_REQUEST | super::NLM_F_DUMP;
                let answers = netlink.handle.clone().request(request).unwrap();
                interrupted.fetch_add(usize::from(list(answers, Some).await.unwrap().is_none()), Ordering::SeqCst);
                let Ok(devices) = netlink.devices().await else { continue };
                whole += 1;
                let staying = devices.iter().filter(|d| d.name.starts_with('s') || d.name.starts_with('p')).count();
                assert_eq!(staying, 2 * STAY);
            }
            ended.store(true, Ordering::SeqCst);
            assert!(whole > 0, "none of {LISTS} lists was whole within its attempts");
        });
    });
    let (changes, interrupted) = (changes.into_inner(), interrupted.into_inner());
    assert!(changes > 0 && interrupted > 0, "nothing was tested: {changes} changes, {interrupted} interrupted");
}
