//! What is shown of connections is so.

use std::time::Duration;

use super::{
    super::{
        fixture::{NOW, ip, link, mesh, name, raw, record},
        ways::{PathTo, Way},
    },
    *,
};
use crate::proto::io::{DialId, Direction, LinkId, Output, Target};

#[test]
fn a_link_without_a_direct_path_shows_what_the_way_in_use_takes() {
    let (mut one, mut two) = (mesh(1), mesh(2));
    link(&mut one, &mut two, (DialId(1), LinkId(1)), ip(1));
    let remote = std::net::SocketAddrV4::new(ip(3), 6784);
    let tunnel = PathTo { remote, short_id: 1, via: name(3), translated: false, path_mtu: 1400 };
    one.ways.insert(name(2), Way { tunnel, worked: false, adjacent: false });
    let shown = one.connections(NOW);
    assert_eq!((shown.len(), shown[0].state, shown[0].mtu), (1, ConnectionState::Pending, Some(1350)));
}

#[test]
fn a_target_that_rests_says_why_and_not_when_it_is_tried_again() {
    let mut one = mesh(1);
    one.conn_limit = 1;
    let target = Target { host: "192.0.2.3".to_owned(), port: None };
    one.set_targets(vec![target], NOW);
    let dials = std::iter::from_fn(|| one.poll_output()).find_map(|output| match output {
        Output::Dial { dial, .. } => Some(dial),
        _ => None,
    });
    // It answers, and has no room.
    let dial = dials.expect("an attempt");
    one.link_opened(LinkId(3), (ip(3), 6783).into(), Direction::Outbound(dial), [0; 32], NOW);
    let rng = &mut one.rng;
    one.dialer.identified(LinkId(3), name(3), NOW, rng);
    one.link_closed(LinkId(3), "connection limit reached (1)", NOW);
    let before = one.connections(NOW);
    assert_eq!(before[0].info, "connection limit reached (1)");
    assert!(before[0].retry_in.is_some());
    // Another link takes the only place, and leads there.
    let mut two = mesh(2);
    link(&mut two, &mut one, (DialId(1), LinkId(1)), ip(2));
    for (record, links) in [(2, &[1, 3][..]), (3, &[2][..])].map(|(n, links)| (record(n, 1000, links), links)) {
        let entry = one.gossip.open(&raw(&record)).unwrap_or_else(|e| panic!("{links:?}: {e}"));
        one.gossip.introduce(LinkId(1), entry, &|_, _| true, NOW);
    }
    let now = NOW + Duration::from_secs(2);
    one.handle_timeout(now);
    let shown = one.connections(now).into_iter().find(|c| c.peer.as_ref().is_some_and(|(peer, _)| *peer == name(3)));
    let shown = shown.expect("the target");
    assert_eq!((shown.state, shown.retry_in), (ConnectionState::Retrying, None));
    let rest = "not tried again while there is no room for a link and others lead there";
    assert!(shown.info.starts_with("connection limit reached (1)") && shown.info.ends_with(rest), "{}", shown.info);
}
