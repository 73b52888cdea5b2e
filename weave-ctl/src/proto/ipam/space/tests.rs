//! What is given to others is free, at most half, and one block.

use proptest::prelude::*;

use super::*;
use crate::proto::name::{PeerName, PeerUid};

fn id(n: u8) -> PeerId {
    PeerId { name: PeerName::from_bytes([n; 6]), uid: PeerUid(u128::from(n)) }
}

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

fn given(addrs: &[&str]) -> BTreeMap<Ipv4Addr, String> {
    addrs.iter().map(|addr| (addr.parse().unwrap(), "c".to_owned())).collect()
}

fn spare(range: &str, peers: &[u8], used: &[&str], within: &str) -> Option<Ipv4Net> {
    let ring = Ring::from_origin(net(range), &peers.iter().copied().map(id).collect::<Vec<_>>()).unwrap();
    let given = given(used);
    Space { ring: &ring, me: id(1), given: &given, withheld: [net(range); 2], service: service_address(net(range)) }
        .spare(net(within))
}

#[test]
fn the_largest_free_block_within_half_is_given() {
    assert_eq!(spare("10.0.0.0/24", &[1], &[], "10.0.0.0/24"), Some(net("10.0.0.128/25")));
    assert_eq!(spare("10.0.0.0/24", &[1, 2], &[], "10.0.0.0/24"), Some(net("10.0.0.0/26")), "63 of 127");
    assert_eq!(spare("10.0.0.0/24", &[1], &["10.0.0.200"], "10.0.0.0/24"), Some(net("10.0.0.128/26")));
}

#[test]
fn only_what_lies_in_the_subnet_is_given() {
    assert_eq!(spare("10.0.0.0/24", &[1], &[], "10.0.0.32/27"), Some(net("10.0.0.48/28")));
    assert_eq!(spare("10.0.0.0/24", &[1, 2], &[], "10.0.0.192/26"), None, "it is another's");
}

#[test]
fn the_last_address_is_kept_and_withheld_ones_count_for_nothing() {
    let used: Vec<String> = (1..=13).map(|n| format!("10.0.0.{n}")).collect();
    let used: Vec<&str> = used.iter().map(String::as_str).collect();
    assert_eq!(spare("10.0.0.0/28", &[1], &used, "10.0.0.0/28"), None, "one is left, and half of it is nothing");
    assert_eq!(spare("10.0.0.0/28", &[1], &used[..12], "10.0.0.0/28"), None, "the service address is nobody's");
    assert_eq!(spare("10.0.0.0/28", &[1], &used[..11], "10.0.0.0/28"), Some(net("10.0.0.13/32")));
}

proptest! {
    #[test]
    fn what_is_given_is_free_and_at_most_half(used in prop::collection::btree_set(0_u32..64, 0..64), prefix in 26_u8..=30) {
        let range = net("10.0.0.0/26");
        let ring = Ring::from_origin(range, &[id(1)]).unwrap();
        let given: BTreeMap<Ipv4Addr, String> =
            used.iter().map(|n| (Ipv4Addr::from(0x0a00_0000 + n), String::new())).collect();
        let space = Space { ring: &ring, me: id(1), given: &given, withheld: [range; 2], service: service_address(range) };
        let within = Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), prefix);
        let free = space.free(within);
        match space.spare(within) {
            Some(block) => {
                prop_assert!(within.contains(&block));
                prop_assert!(given.range(block.network()..=block.broadcast()).next().is_none());
                let usable = space.usable(block, within);
                prop_assert!(usable > 0 && usable <= free / 2, "{} of {}", usable, free);
            }
            None => prop_assert!(free < 2, "{} free and nothing to give", free),
        }
    }
}
