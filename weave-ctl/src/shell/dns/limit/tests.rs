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
    assert_eq!(limit.sources.len(), SOURCES_MAX);
}

#[test]
fn sources_of_long_ago_cost_others_no_bound() {
    let (mut limit, now) = (Limit::default(), Instant::now());
    for n in 0..SOURCES_MAX as u32 {
        assert!(limit.takes(source(n), now));
    }
    let now = now + Duration::from_secs(3600);
    let new = [1, 2, 3].map(|n| source(SOURCES_MAX as u32 + n));
    let mut taken = [0; 3];
    for _ in 0..5000 {
        for (source, taken) in new.iter().zip(&mut taken) {
            *taken += usize::from(limit.takes(*source, now));
        }
    }
    assert_eq!(taken, [BURST as usize; 3]);
}
