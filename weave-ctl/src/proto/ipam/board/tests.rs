//! Boards survive the trip; anything else is refused without harm.

use ciborium::Value;
use proptest::prelude::*;

use thin_vec::thin_vec;

use super::*;

fn board() -> Board {
    let to = PeerName::from_bytes([1; 6]);
    let ask = |what| Ask { id: 7, to, what };
    Board {
        free: 20,
        asks: thin_vec![
            ask(Want::Space("10.32.0.0/12".parse().unwrap())),
            ask(Want::Address(Ipv4Addr::new(10, 32, 0, 1))),
            ask(Want::Heir),
        ],
        answers: thin_vec![Answer { to, id: 8, no: None }, Answer { to, id: 9, no: Some("in use".to_owned()) }],
    }
}

#[test]
fn round_trip_and_fields_of_a_later_version() {
    assert_eq!(Board::decode(&board().encode()), Ok(board()));
    let mut bytes = Vec::new();
    let later = Value::Map(vec![("f".into(), 3.into()), ("colour".into(), "red".into())]);
    ciborium::into_writer(&later, &mut bytes).unwrap();
    assert_eq!(Board::decode(&bytes), Ok(Board { free: 3, ..Board::default() }));
}

#[test]
fn what_is_too_long_is_refused() {
    let long = |change: fn(&mut Board)| {
        let mut board = board();
        change(&mut board);
        Board::decode(&board.encode())
    };
    assert!(long(|b| b.asks = thin_vec![b.asks[0].clone(); ASKS_MAX + 1]).is_err());
    assert!(long(|b| b.answers = thin_vec![b.answers[0].clone(); ANSWERS_MAX + 1]).is_err());
    assert!(long(|b| b.answers[1].no = Some("x".repeat(REASON_MAX + 1))).is_err());
}

proptest! {
    #[test]
    fn decoding_a_board_is_total(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0_usize..200, to: u8) {
        drop(Board::decode(&bytes));
        let mut damaged = board().encode();
        let at = at % damaged.len();
        damaged[at] = to;
        drop(Board::decode(&damaged));
    }
}
