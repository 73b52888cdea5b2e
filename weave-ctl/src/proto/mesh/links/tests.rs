//! What is told of this peer, and how often.

use super::{
    super::{
        fixture::{NOW, ip, link, mesh},
        topology::settle_time,
    },
    *,
};

#[test]
fn many_changes_within_the_settle_time_are_told_once() {
    let mut one = mesh(1);
    for n in 2..=20 {
        link(&mut one, &mut mesh(n), (DialId(u64::from(n)), LinkId(u64::from(n))), ip(1));
        one.handle_timeout(NOW + PUBLISH_AFTER);
    }
    let before = one.me.version;
    assert!(before <= 2, "{before} versions, the first with all addresses");
    one.handle_timeout(NOW + settle_time(20));
    assert_eq!((one.me.version, one.me.links.len()), (before + 1, 19));
}

#[test]
fn a_change_after_a_while_is_told_at_once() {
    let mut one = mesh(1);
    link(&mut one, &mut mesh(2), (DialId(1), LinkId(1)), ip(1));
    let later = NOW + Duration::from_secs(10);
    one.handle_timeout(later);
    let before = one.me.version;
    let later = later + settle_time(2);
    one.link_closed(LinkId(1), "reset", later);
    one.handle_timeout(later + PUBLISH_AFTER);
    assert_eq!((one.me.version, one.me.links.len()), (before + 1, 0));
}

#[test]
fn a_link_in_whose_place_another_may_come_is_not_told_to_be_gone_by_a_hello() {
    let mut one = mesh(1);
    link(&mut one, &mut mesh(2), (DialId(1), LinkId(1)), ip(1));
    let later = NOW + Duration::from_secs(10);
    one.handle_timeout(later);
    assert_eq!(one.me.links.len(), 1);
    let later = later + Duration::from_secs(1);
    one.link_closed(LinkId(1), "superseded by another link to the same peer", later);
    one.link_opened(LinkId(2), (ip(3), 40000).into(), Direction::Inbound, [0; 32], later);
    assert_eq!(one.me.links.len(), 1);
    one.handle_timeout(later + PUBLISH_AFTER);
    assert_eq!(one.me.links.len(), 0);
}

#[test]
fn a_link_that_came_and_went_is_not_told_to_all() {
    let mut one = mesh(1);
    link(&mut one, &mut mesh(2), (DialId(1), LinkId(1)), ip(1));
    let mut now = NOW + Duration::from_secs(2);
    one.handle_timeout(now);
    let before = one.me.version;
    // Its second target has no room, and says so at each attempt.
    for n in 2..=20 {
        now = now + Duration::from_millis(500);
        let mut full = mesh(3);
        full.conn_limit = 0;
        link(&mut one, &mut full, (DialId(n), LinkId(n)), ip(1));
        now = now + PUBLISH_AFTER;
        one.handle_timeout(now);
    }
    assert_eq!((one.me.version, one.me.links.len()), (before, 1));
}
