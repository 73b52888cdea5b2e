//! Positions are within the range, and the same everywhere.

use super::*;

#[test]
fn a_position_is_within_the_range() {
    for range in ["10.32.0.0/12", "10.0.0.0/30", "0.0.0.0/1", "255.255.255.252/30"] {
        let range: Ipv4Net = range.parse().unwrap();
        for addr in [0, 1, 0xc0a8_0701, u32::MAX] {
            let position = position(range, addr.into());
            assert!(range.contains(&position), "{addr:#x} in {range}: {position}");
        }
    }
    let range = "10.32.0.0/12".parse().unwrap();
    assert_eq!(position(range, Ipv4Addr::new(192, 168, 7, 1)), position(range, Ipv4Addr::new(192, 168, 7, 1)));
    let all: BTreeSet<Ipv4Addr> = (0..=255).map(|n| position(range, Ipv4Addr::new(192, 168, 7, n))).collect();
    assert!(all.len() > 250, "neighbours are spread: {}", all.len());
}
