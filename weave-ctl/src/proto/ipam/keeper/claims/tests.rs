//! What peers say of addresses outside the range is believed, and outlives trouble; each change is published once.

use super::*;
use crate::proto::fixture::name;

fn claims() -> Claims {
    Claims::new("10.0.0.0/12".parse().expect("a range"))
}

#[test]
fn claims_outlive_trouble() {
    let mut claims = claims();
    let (addr, other) = (Ipv4Addr::new(192, 168, 7, 1), Ipv4Addr::new(192, 168, 7, 2));
    claims.remember([(addr, name(2)), (other, name(3)), (Ipv4Addr::new(10, 0, 0, 9), name(2))].into_iter());
    assert_eq!((claims.of(addr), claims.of(other)), (Some(name(2)), Some(name(3))));
    assert_eq!(claims.iter().count(), 2, "those of the range are the ring's");
    // A peer whose entries are all here is believed; one that is gone may still have containers.
    assert!(claims.received(name(2), other, true) && !claims.received(name(2), other, true));
    assert_eq!((claims.of(addr), claims.of(other)), (Some(name(2)), Some(name(2))));
    assert!(claims.received_all(name(2)) && !claims.received_all(name(2)));
    assert_eq!((claims.of(addr), claims.of(other)), (None, Some(name(2))));
    claims.peer_gone(name(2));
    assert_eq!(claims.of(other), Some(name(2)));
    claims.received_all(name(2));
    assert_eq!(claims.of(other), None, "all that it says was heard");
    claims.received(name(2), other, true);
    assert!(claims.received(name(2), other, false));
    assert_eq!(claims.of(other), None);
}

#[test]
fn of_two_claims_the_same_counts_everywhere() {
    let addr = Ipv4Addr::new(192, 168, 7, 1);
    for order in [[2, 3], [3, 2]] {
        let mut claims = claims();
        for n in order {
            claims.received(name(n), addr, true);
        }
        assert_eq!((claims.of(addr), claims.iter().last()), (Some(name(3)), Some((addr, name(3)))));
        claims.received(name(3), addr, false);
        assert_eq!(claims.of(addr), Some(name(2)));
    }
}

#[test]
fn own_claims_are_published_when_they_change() {
    let mut claims = claims();
    let [a, b] = [1, 2].map(|n| Ipv4Addr::new(192, 168, 7, n));
    assert_eq!(claims.publish([a, b].into_iter()), [a, b].map(|addr| KeeperEvent::Claim(addr, true)));
    assert_eq!(claims.publish([a, b].into_iter()), []);
    assert_eq!(claims.publish([b].into_iter()), [KeeperEvent::Claim(a, false)]);
}
