//! Connections: order, bounds, stalls.

use super::*;

fn at(ms: u64) -> Instant {
    Instant::from_start(Duration::from_millis(ms))
}

#[test]
fn an_end_is_found_by_its_own_host_while_it_may_send() {
    let mut conns = Conns::default();
    let link = conns.open(1, 2, at(0));
    assert_eq!(conns.find(Side::Far.id(link), 2), Some((link, Side::Far)));
    assert_eq!(conns.find(Side::Far.id(link), 1), None);
    conns.closing(link, Side::Far);
    assert_eq!(conns.find(Side::Far.id(link), 2), None);
    assert!(conns.is_open(link, Side::Far) && conns.pairs().next().is_none());
    conns.close(link, Side::Near);
    assert_eq!((conns.links_of(1), conns.links_of(2)), (vec![], vec![(link, Side::Far)]));
    conns.close(link, Side::Far);
    assert!(conns.all.is_empty() && conns.links_of(2).is_empty());
}

#[test]
fn a_connection_to_oneself_has_two_ends() {
    let mut conns = Conns::default();
    let link = conns.open(1, 1, at(0));
    assert_eq!(conns.links_of(1), [(link, Side::Near), (link, Side::Far)]);
    assert_eq!(conns.find(Side::Near.id(link), 1), Some((link, Side::Near)));
}

#[test]
fn nothing_overtakes() {
    let mut conns = Conns::default();
    let link = conns.open(1, 2, at(0));
    assert_eq!(conns.in_order(link, Side::Far, at(9)), at(9));
    assert_eq!(conns.in_order(link, Side::Far, at(5)), at(9));
    assert_eq!(conns.in_order(link, Side::Near, at(5)), at(5));
}

#[test]
fn an_end_that_takes_nothing_fills_up() {
    let mut conns = Conns::default();
    let link = conns.open(1, 2, at(0));
    for _ in 0..QUEUE_FRAMES {
        assert!(conns.sent(link, Side::Near, 1, at(0)).is_ok());
    }
    assert!(conns.sent(link, Side::Near, 1, at(0)).is_err());
    conns.taken(link, Side::Near, 1);
    assert!(conns.sent(link, Side::Near, 1, at(0)).is_ok());
    assert!(conns.sent(link, Side::Far, FRAME_MAX + 1, at(0)).is_err(), "no such frame");
}

#[test]
fn the_rate_is_of_one_second() {
    let mut conns = Conns::default();
    let link = conns.open(1, 2, at(0));
    let rates: Vec<_> = [100, 900, 1100].map(|ms| conns.sent(link, Side::Near, 10, at(ms)).ok().unwrap()).to_vec();
    assert_eq!(rates.iter().map(|r| (r.frames, r.bytes)).collect::<Vec<_>>(), [(1, 10), (2, 20), (1, 10)]);
}

#[test]
fn what_is_parked_comes_back_in_order_when_it_passes() {
    let mut conns = Conns::default();
    let link = conns.open(1, 2, at(0));
    conns.park(link, Side::Far, Parcel::Frame(vec![1]), at(10));
    conns.park(link, Side::Far, Parcel::Closed(String::new()), at(20));
    assert!(conns.stalled(link) && conns.waiting(at(30), |_, _| false).is_empty());
    assert_eq!(conns.waiting(at(30), |a, b| (a, b) == (1, 2)), [(link, Duration::from_millis(20))]);
    let parcels = conns.resume(link, at(50));
    assert!(matches!(parcels[..], [(Side::Far, Parcel::Frame(_)), (Side::Far, Parcel::Closed(_))]));
    assert!(!conns.stalled(link));
    assert_eq!((conns.resumes(link), conns.in_order(link, Side::Far, at(40))), (at(50), at(50)));
}
