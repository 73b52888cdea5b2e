//! Requests that were not carried out: named by the peer that they came from, with the reason.

use super::*;
use crate::proto::{
    status::{HostStatus, RefusedStatus},
    wire::{
        RingMessage,
        letter::{Content, Forwarded, Letter, Request, Want},
    },
};

/// A letter of peer `n` to peer `to`.
fn letter(n: u8, to: u8, hops: u8) -> Forwarded {
    let content = Content::Request(Request { want: Want::Willing, owned: 0 });
    Forwarded { hops, ..Letter { from: id(n), to: name(to), id: 7, content }.sign(&key(n, 0)) }
}

fn refused(net: &mut Net, n: u8) -> Vec<RefusedStatus> {
    let now = net.now;
    net.at(n).status(now).complete(HostStatus::default()).refused
}

/// Two peers, and the session of the first to the second.
fn pair() -> (Net, SessionId) {
    let mut net = Net::new(2, &[1, 2]);
    let session = net.connect(1, 2);
    net.answer(&[(1, 2)]);
    net.run(Duration::from_secs(2));
    (net, session)
}

#[test]
fn dropped_requests_name_origin_and_reason() {
    let (mut net, session) = pair();
    assert_eq!(refused(&mut net, 1), []);
    let now = net.now;
    for _ in 0..3 {
        net.at(1).letter_received(session, name(2), letter(2, 9, 5), now);
    }
    net.at(1).letter_received(session, name(2), letter(2, 9, 0), now);
    for _ in 0..40 {
        net.at(1).letter_received(session, name(2), letter(2, 1, 5), now);
    }
    net.at(1).pump(now);
    let shown = refused(&mut net, 1).remove(0);
    assert_eq!((shown.id.name, shown.id.nickname.as_str(), shown.malformed), (name(2), "host-2", 0));
    assert_eq!((shown.no_next_hop, shown.expired), (3, 1));
    assert!(shown.over_bound >= 8 && shown.last.contains("16 a second"), "{shown:?}");
    net.run(Duration::from_secs(5));
    assert!(refused(&mut net, 1)[0].last_s >= 5);
    assert!(net.at(1).status(now).status.warnings.is_empty(), "nothing is wrong with that peer");
}

#[test]
fn ring_messages_beyond_the_limit_are_counted() {
    let (mut net, session) = pair();
    let part = net.at(1).keeper.ring().expect("a ring").whole();
    let (range, origin, now) = (part.range, part.origin, net.now);
    let message = RingMessage { range, origin, shares: vec![], limits: vec![], removed: vec![], whole: false };
    for _ in 0..1000 {
        net.at(1).ring_received(session, name(2), message.clone(), now);
    }
    let shown = refused(&mut net, 1).remove(0);
    assert!(shown.over_bound > 800 && shown.last.contains("messages of the ring"), "{shown:?}");
}

#[test]
fn malformed_letters_count_for_the_peer_that_passes_them_on() {
    let (mut net, session) = pair();
    let now = net.now;
    net.at(1).letter_received(session, name(2), letter(3, 1, 5), now);
    let shown = refused(&mut net, 1).remove(0);
    assert_eq!((shown.id.name, shown.malformed, shown.over_bound), (name(2), 1, 0));
    assert!(shown.last.contains("not its own"), "{shown:?}");
}

#[test]
fn own_requests_without_a_next_hop_count_for_this_peer() {
    let mut net = Net::new(1, &[1, 2]);
    net.run(Duration::from_secs(1));
    let now = net.now;
    net.at(1).requests.respond(name(2), 7, crate::proto::wire::letter::Reply::Done);
    net.at(1).pump(now);
    let shown = refused(&mut net, 1).remove(0);
    assert_eq!((shown.id.name, shown.no_next_hop > 0), (name(1), true));
    assert!(shown.last.contains("no session leads to peer"), "{shown:?}");
}

#[test]
fn few_origins_are_shown_and_the_rest_is_counted() {
    let (mut net, _) = pair();
    let now = net.now;
    for n in 10..30 {
        net.at(1).refused(name(n), "nonsense", now);
    }
    let status = net.at(1).status(now).complete(HostStatus::default());
    assert_eq!((status.refused.len(), status.more_refused), (16, 4));
    let warnings: Vec<_> = status.warnings.iter().filter(|text| text.contains("were refused")).collect();
    assert!(warnings.len() == 17 && warnings[16].contains("4 more peers"), "{warnings:?}");
    for n in 30..=255 {
        net.at(1).refused(name(n), "nonsense", now);
    }
    assert_eq!(net.at(1).status(now).complete(HostStatus::default()).more_refused, 48, "64 are counted one by one");
}
