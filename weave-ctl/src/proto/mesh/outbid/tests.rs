//! A store that was set back is heard again, and two controllers with one store notice.

use super::{
    super::fixture::{NOW, ip, link, link_at, mesh, name, pass},
    *,
};
use crate::proto::io::{DialId, LinkId};

/// Lets both go on for `time`, and takes what they say over link `id`.
fn run(one: &mut Mesh, other: &mut Mesh, id: u64, from: Instant, time: Duration) {
    let mut now = from;
    while now < from + time {
        now = now + Duration::from_millis(100);
        one.handle_timeout(now);
        other.handle_timeout(now);
        pass(one, other, LinkId(id), now);
    }
}

/// Peer 2 in its fifth run, as peer 1 knows it; that run ends.
fn former() -> Mesh {
    let (mut one, mut two) = (mesh(1), mesh(2));
    two.me.incarnation = 5;
    two.me.version = 40;
    two.touch(NOW);
    link(&mut two, &mut one, (DialId(1), LinkId(1)), ip(2));
    run(&mut two, &mut one, 1, NOW, Duration::from_secs(1));
    assert_eq!(one.record(name(2)).map(|r| r.incarnation), Some(5));
    one.link_closed(LinkId(1), "reset", NOW);
    one
}

#[test]
fn a_store_that_was_set_back_goes_on_from_what_others_hold() {
    let mut one = former();
    let mut two = mesh(2);
    two.me.nickname = "set back".to_owned();
    link(&mut two, &mut one, (DialId(2), LinkId(2)), ip(2));
    run(&mut two, &mut one, 2, NOW, Duration::from_secs(10));
    let held = one.record(name(2)).expect("a record");
    assert_eq!((held, held.incarnation), (two.me(), 5));
    assert_eq!((two.warnings(NOW), two.outbid.times), (vec![], 1));
}

#[test]
fn of_two_with_one_store_both_say_so_and_speak_less_and_less_often() {
    let (mut one, mut copies) = (mesh(1), [mesh(2), mesh(2)]);
    copies[1].me.cookie += 1;
    let mut now = NOW;
    for turn in 0..40 {
        // One of them has the link, then the other.
        let copy = &mut copies[turn % 2];
        let id = LinkId(10 + turn as u64);
        link_at(copy, &mut one, (DialId(id.0), id), ip(2), now);
        run(copy, &mut one, id.0, now, Duration::from_secs(6));
        now = now + Duration::from_secs(6);
        copy.link_closed(id, "reset", now);
        one.link_closed(id, "reset", now);
    }
    for copy in &copies {
        assert!(copy.warnings(now).iter().any(|text| text.contains("copy")), "{:?}", copy.outbid);
        assert!((SUSPICIOUS..=2 + DOUBLINGS_MAX).contains(&copy.outbid.times), "{:?}", copy.outbid);
    }
}

#[test]
fn what_an_earlier_launch_said_and_this_one_did_not_is_no_copy() {
    let (mut one, mut former) = (mesh(1), mesh(2));
    former.say("ipam", vec![1], NOW);
    link(&mut former, &mut one, (DialId(1), LinkId(1)), ip(2));
    run(&mut former, &mut one, 1, NOW, Duration::from_secs(1));
    assert_eq!(one.gossip.store().of(name(2)).count(), 2);
    one.link_closed(LinkId(1), "reset", NOW);
    let mut two = mesh(2);
    two.me.incarnation = 2;
    two.publish(NOW);
    link(&mut two, &mut one, (DialId(2), LinkId(2)), ip(2));
    run(&mut two, &mut one, 2, NOW, Duration::from_secs(10));
    assert_eq!((two.outbid.times, two.me().incarnation), (0, 2));
}
