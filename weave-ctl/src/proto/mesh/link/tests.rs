//! A link pings, becomes quiet, and dies, in that order, and hearing something makes it as new.

use super::*;

fn at(seconds: u64) -> Instant {
    Instant::from_start(Duration::from_secs(seconds))
}

fn link() -> Link {
    let remote = "192.0.2.2:6783".parse().unwrap();
    let data = "192.0.2.2:6784".parse().unwrap();
    let up =
        Up { peer: PeerName::from_bytes([2; 6]), uid: PeerUid(2), incarnation: 1, order: (1, 2), version: 1, data };
    Link { up: Some(up), ..Link::new(remote, Direction::Inbound, [0; 32], 1, at(0)) }
}

#[test]
fn a_link_that_becomes_quiet_says_so_once_until_something_comes() {
    let mut link = link();
    assert_eq!(link.poll_timeout(), at(5));
    assert_eq!(link.need(at(5)), Need::Ping);
    assert_eq!(link.poll_timeout(), at(7));
    assert_eq!(link.need(at(7)), Need::Ways);
    assert_eq!((link.need(at(7)), link.poll_timeout()), (Need::Nothing, at(10)));
    assert!(link.hear(at(9)) && !link.quiet);
    assert!(!link.hear(at(10)), "it was not quiet any more");
    assert_eq!(link.need(at(10)), Need::Ping);
    assert_eq!(link.need(at(17)), Need::Ways);
    assert_eq!(link.need(at(17)), Need::Ping);
    assert_eq!(link.need(at(25)), Need::Ping);
    assert!(matches!(link.need(at(26)), Need::Close(_)));
}
