//! No address twice, none outside, none withheld.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::proto::{name::PeerUid, params::Init};

fn name(n: u8) -> PeerName {
    PeerName::from_bytes([0, 0, 0, 0, 0, n])
}

fn id(n: u8) -> PeerId {
    PeerId { name: name(n), uid: PeerUid(u128::from(n)) }
}

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

fn setup(range: &str, seeds: &[u8], me: u8) -> (Allocator, Ring) {
    let range = net(range);
    let params = LaunchParams { range, default_subnet: range, seeds: vec![], init: Init::Undeclared, peers: vec![] };
    let ring = Ring::from_origin(range, &seeds.iter().copied().map(id).collect::<Vec<_>>()).unwrap();
    (Allocator::new(id(me), &params, BTreeMap::new()), ring)
}

fn allocation(addrs: Vec<Ipv4Net>) -> Reservation {
    Reservation::of(addrs, 0)
}

#[test]
fn a_small_range_is_given_out_whole_and_once() {
    let (mut alloc, ring) = setup("10.0.0.0/28", &[1], 1);
    let mut seen = BTreeSet::new();
    for n in 0..13 {
        let got = alloc.pick(Access::Ring(&ring), net("10.0.0.0/28"), &[]).unwrap();
        assert!(seen.insert(got.addr()), "{got} twice");
        alloc.set(&format!("c{n}"), allocation(vec![got]));
    }
    let kept = [0, 15, 14].map(|last| Ipv4Addr::new(10, 0, 0, last));
    assert!(kept.iter().all(|addr| !seen.contains(addr)), "network, broadcast, service address");
    assert_eq!(alloc.service(), kept[2]);
    assert!(matches!(alloc.pick(Access::Ring(&ring), net("10.0.0.0/28"), &[]), Err(AllocError::Full { used: 13, .. })));
    alloc.remove("c3");
    assert_eq!(alloc.pick(Access::Ring(&ring), net("10.0.0.0/28"), &[]).unwrap(), net("10.0.0.4/28"));
}

#[test]
fn claims_are_answered_with_the_reason() {
    let (mut alloc, ring) = setup("10.0.0.0/24", &[1, 2], 1);
    let claim = |a: &Allocator, t: &str| a.claim(Access::Ring(&ring), "c", net(t).addr(), Some(net(t)));
    assert_eq!(claim(&alloc, "10.0.0.7/24"), Ok(()));
    let bare = alloc.claim(Access::Ring(&ring), "c", Ipv4Addr::new(10, 1, 0, 7), None);
    assert!(matches!(bare, Err(AllocError::Outside { .. })));
    let ungranted = claim(&alloc, "10.1.0.7/24");
    assert_eq!(ungranted, Err(AllocError::Ungranted(Ipv4Addr::new(10, 1, 0, 7))), "with a length it may be outside");
    alloc.set_granted([Ipv4Addr::new(10, 1, 0, 7)].into());
    assert_eq!(claim(&alloc, "10.1.0.7/24"), Ok(()), "and is given once it is granted");
    assert!(matches!(claim(&alloc, "10.1.0.0/24"), Err(AllocError::Reserved(..))));
    assert!(matches!(claim(&alloc, "10.0.0.0/24"), Err(AllocError::Reserved(..))));
    assert!(matches!(claim(&alloc, "10.0.0.254/24"), Err(AllocError::Service(_))));
    assert!(matches!(claim(&alloc, "10.0.0.8/29"), Err(AllocError::Reserved(..))));
    assert!(matches!(claim(&alloc, "10.0.0.200/24"), Err(AllocError::Foreign(_, owner)) if owner == name(2)));
    let no_ring = alloc.claim(Access::Waiting("x"), "c", Ipv4Addr::new(10, 0, 0, 7), None);
    assert_eq!(no_ring.map_err(|e| e.need()), Err(Some(Need::Ring)));
    let removed = alloc.claim(Access::Removed, "c", Ipv4Addr::new(10, 0, 0, 7), None);
    assert_eq!(removed, Err(AllocError::Removed));
    alloc.set("other", allocation(vec![net("10.0.0.7/24")]));
    assert!(matches!(claim(&alloc, "10.0.0.7/24"), Err(AllocError::Taken(_, holder)) if holder == "other"));
    assert_eq!(alloc.claim(Access::Ring(&ring), "other", Ipv4Addr::new(10, 0, 0, 7), None), Ok(()));
    alloc.set("far", allocation(vec![net("10.1.0.7/24")]));
    assert_eq!(alloc.exceptions().collect::<Vec<_>>(), [Ipv4Addr::new(10, 1, 0, 7)]);
    alloc.remove("far");
    assert_eq!(alloc.exceptions().count(), 0);
}

#[test]
fn what_is_not_here_must_come_from_others() {
    let (alloc, ring) = setup("10.0.0.0/24", &[2, 3], 1);
    assert!(matches!(alloc.pick(Access::Ring(&ring), net("10.0.0.0/24"), &[]), Err(AllocError::Full { used: 0, .. })));
    let error = alloc.pick(Access::Ring(&ring), net("10.0.0.0/25"), &[]).unwrap_err();
    assert_eq!(error.need(), Some(Need::Space(net("10.0.0.0/25"))));
    assert!(matches!(alloc.pick(Access::Ring(&ring), net("10.9.0.0/24"), &[]), Err(AllocError::SubnetOutside(..))));
}

proptest! {
    #[test]
    fn peers_never_give_the_same_address(ops in prop::collection::vec((0_usize..3, any::<bool>(), 0_u8..12), 1..120)) {
        let (_, ring) = setup("10.0.0.0/26", &[1, 2, 3], 1);
        let mut peers: Vec<Allocator> = (1..=3).map(|n| setup("10.0.0.0/26", &[1, 2, 3], n).0).collect();
        for (who, attach, container) in ops {
            let id = format!("c{container}");
            if attach {
                if let Ok(got) = peers[who].pick(Access::Ring(&ring), net("10.0.0.0/26"), &[]) {
                    for peer in &peers {
                        prop_assert!(!peer.given.contains_key(&got.addr()), "{} twice", got);
                    }
                    peers[who].set(&id, allocation(vec![got]));
                }
            } else {
                peers[who].remove(&id);
            }
            for peer in &peers {
                let listed: usize = peer.reservations.values().map(|a| a.addrs.len()).sum();
                prop_assert_eq!(listed, peer.given.len());
            }
        }
    }
}
