//! Probes survive the trip; anything else is none.

use proptest::prelude::*;

use super::*;

fn probes() -> impl Strategy<Value = Probe> {
    let numbers = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>());
    (any::<bool>(), any::<(u16, u16)>(), any::<[u8; 6]>(), any::<[u8; 6]>(), numbers).prop_map(
        |(reply, (flags, length), sender, receiver, (cookie, sequence, sent_micros, nonce))| Probe {
            kind: if reply { Kind::Reply } else { Kind::Request },
            flags,
            length,
            cookie,
            sender: PeerName::from_bytes(sender),
            receiver: PeerName::from_bytes(receiver),
            sequence,
            sent_micros,
            nonce,
        },
    )
}

proptest! {
    #[test]
    fn round_trip(probe in probes(), padding in 0_usize..64) {
        let mut bytes = probe.encode();
        prop_assert_eq!(bytes.len(), LEN);
        prop_assert_eq!(Probe::decode(&bytes[..LEN - 1]), None);
        bytes.extend(vec![0xa5; padding]);
        prop_assert_eq!(Probe::decode(&bytes), Some(probe));
    }

    #[test]
    fn padding_makes_the_outer_packet_as_long_as_asked(probe in probes(), outer in 0_u32..20_000) {
        let bytes = probe.encode_padded(outer);
        prop_assert_eq!(Probe::decode(&bytes), Some(probe));
        let expected = outer.clamp((OUTER + LEN) as u32, (OUTER + MAX) as u32);
        prop_assert_eq!(u32::from(outer_len(&bytes)), expected);
    }

    #[test]
    fn total(bytes in prop::collection::vec(any::<u8>(), 0..128)) {
        let _total = Probe::decode(&bytes);
    }

    #[test]
    fn another_magic_version_or_kind_is_none(probe in probes(), at in 0_usize..6, bits in 1_u8..=255) {
        let mut bytes = probe.encode();
        bytes[at] ^= bits;
        // Kinds 1 and 2 differ in two bits.
        prop_assume!(at != 5 || bits != 3);
        prop_assert_eq!(Probe::decode(&bytes), None);
    }
}

#[test]
fn the_layout_is_fixed() {
    let probe = Probe {
        kind: Kind::Reply,
        flags: 0x0102,
        length: 0x0304,
        cookie: 0x1111_1111_1111_1111,
        sender: PeerName::from_bytes([0x22; 6]),
        receiver: PeerName::from_bytes([0x33; 6]),
        sequence: 0x4444_4444_4444_4444,
        sent_micros: 0x5555_5555_5555_5555,
        nonce: 0x6666_6666_6666_6666,
    };
    let head = [b'W', b'V', b'P', b'B', 2, 2, 1, 2, 3, 4].to_vec();
    let tail = [[0x11; 8].as_slice(), &[0x22; 6], &[0x33; 6], &[0x44; 8], &[0x55; 8], &[0x66; 8]].concat();
    assert_eq!(probe.encode(), [head, tail].concat());
}

#[test]
fn time_from_the_future_is_no_round_trip() {
    let now = Instant::from_start(Duration::from_micros(10));
    assert_eq!(elapsed(7, now), Some(Duration::from_micros(3)));
    assert_eq!(elapsed(11, now), None);
}
