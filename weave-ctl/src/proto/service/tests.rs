//! The endpoint is made, and made again.

use super::*;
use crate::proto::reservation::NetnsId;

const NOW: Instant = Instant::from_start(Duration::from_secs(5));

fn service() -> Service {
    let netns = Netns { path: "/proc/self/fd/7".to_owned(), id: NetnsId::default() };
    Service::new(Ipv4Addr::new(10, 47, 255, 254), netns, NOW)
}

fn op(output: Option<Output>) -> OpId {
    match output {
        Some(Output::Link(op, LinkOp::Ensure(spec))) => {
            assert_eq!((spec.host_if.as_str(), spec.addrs[0].to_string().as_str()), ("wv0a2ffffe", "10.47.255.254/32"));
            op
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn endpoint_is_made_and_made_again() {
    let mut service = service();
    let first = op(service.turn(NOW));
    assert!(service.turn(NOW).is_none(), "one attempt at a time");
    assert_eq!(service.installed(), None);
    assert!(service.done(OpId(1), &Ok(4), NOW).is_none(), "a container's");
    assert!(service.done(first, &Ok(4), NOW).unwrap().is_empty());
    let (addr, to) = service.installed().unwrap();
    assert_eq!((addr, to.ifindex, to.service), (Ipv4Addr::new(10, 47, 255, 254), 4, true));
    assert!(!service.vanished("wv0a200001", NOW));
    assert!(service.vanished("wv0a2ffffe", NOW));
    assert_eq!(service.installed(), None);
    let second = op(service.turn(NOW));
    assert!(service.done(first, &Ok(9), NOW).unwrap().is_empty(), "an old one");
    assert_eq!(service.installed(), None);
    service.done(second, &Ok(5), NOW);
    assert_eq!(service.installed().unwrap().1.ifindex, 5);
}

#[test]
fn failed_attempts_are_repeated_less_often() {
    let mut service = service();
    let mut now = NOW;
    for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
        let op = op(service.turn(now));
        let told = service.done(op, &Err("no".to_owned()), now).unwrap();
        assert!(matches!(&told[..], [Output::Event(Severity::Warn, _)]), "{told:?}");
        assert_eq!(service.poll_timeout(), Some(now + Duration::from_secs(wait)));
        now = now + Duration::from_secs(wait);
    }
}
