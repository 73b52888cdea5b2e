//! Each source has its own questions.

use std::{net::Ipv4Addr, time::Duration};

use super::*;

fn source(n: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(n))
}

#[test]
fn a_source_gets_its_rate_and_takes_nothing_of_others() {
    let (mut limit, mut now) = (Limit::default(), Instant::now());
    let asked = (0..5000).filter(|_| limit.takes(source(1), now)).count();
    assert_eq!(asked, BURST as usize);
    assert!(limit.takes(source(2), now));
    now += Duration::from_millis(100);
    let asked = (0..5000).filter(|_| limit.takes(source(1), now)).count();
    assert_eq!(asked, RATE as usize / 10);
}

#[test]
fn sources_are_bounded() {
    let (mut limit, now) = (Limit::default(), Instant::now());
    for n in 0..2 * SOURCES_MAX as u32 {
        assert!(limit.takes(source(n), now));
    }
    assert_eq!(limit.0.len(), SOURCES_MAX);
}
