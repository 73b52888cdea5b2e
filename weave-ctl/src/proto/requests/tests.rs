//! A request is repeated until it is answered or not wanted any more; letters of others count for nothing.

use super::*;
use crate::proto::fixture::{NOW, id, key, name, uid};

fn requests(n: u8) -> Requests {
    Requests::new(id(n), key(n, 0), Rng::new([n; 32]))
}

fn wants(want: Want, to: u8) -> BTreeSet<(Want, PeerName)> {
    BTreeSet::from([(want, name(to))])
}

fn sent(of: &mut Requests) -> Vec<Forwarded> {
    std::iter::from_fn(|| of.poll_send()).collect()
}

fn known(peer: PeerName) -> Option<PeerUid> {
    Some(uid(peer.bytes()[5]))
}

#[test]
fn a_request_is_repeated_until_it_is_answered() {
    let (mut one, mut two) = (requests(1), requests(2));
    one.want(&wants(Want::Willing, 2), 9, NOW);
    let first = sent(&mut one);
    assert_eq!((first.len(), first[0].to), (1, name(2)));
    one.handle_timeout(NOW + RESEND / 2);
    assert!(sent(&mut one).is_empty());
    let later = NOW + RESEND;
    one.handle_timeout(later);
    assert_eq!(sent(&mut one), first, "the very same letter");
    two.received(&first[0], known, later).expect("a letter");
    let Some(RequestEvent::Received(from, request, what)) = two.poll_event() else { panic!("nothing asked") };
    assert_eq!((from, what), (id(1), Request { want: Want::Willing, owned: 9 }));
    let reply = Reply::Refused("it is leaving".to_owned());
    two.respond(from.name, request, reply.clone());
    let response = sent(&mut two).remove(0);
    one.received(&response, known, later).expect("a letter");
    let answered = RequestEvent::Answered(name(2), Want::Willing, reply);
    assert_eq!(one.poll_event(), Some(answered));
    one.received(&response, known, later).expect("a letter");
    assert_eq!((one.poll_event(), one.poll_timeout()), (None, None), "told once, and not repeated");
}

#[test]
fn what_is_not_wanted_any_more_is_not_repeated() {
    let mut one = requests(1);
    one.want(&wants(Want::Willing, 2), 9, NOW);
    let first = sent(&mut one).remove(0);
    one.want(&wants(Want::Willing, 3), 9, NOW);
    assert_eq!(sent(&mut one)[0].to, name(3));
    one.want(&BTreeSet::new(), 9, NOW);
    assert_eq!(one.poll_timeout(), None);
    let mut two = requests(2);
    two.received(&first, known, NOW).expect("a letter");
    two.respond(name(1), 1, Reply::Done);
    one.received(&sent(&mut two)[0], known, NOW).expect("a letter");
    assert_eq!(one.poll_event(), None);
}

#[test]
fn letters_of_another_store_or_for_others_are_refused() {
    let (mut one, mut two) = (requests(1), requests(2));
    one.want(&wants(Want::Heir, 2), 0, NOW);
    let letter = sent(&mut one).remove(0);
    assert!(two.received(&letter, |_| None, NOW).is_err(), "of a peer that is not known");
    assert!(two.received(&letter, |_| Some(PeerUid::default()), NOW).is_err(), "of another store");
    assert!(requests(3).received(&letter, known, NOW).is_err(), "for another peer");
    assert!(two.received(&Forwarded { letter: vec![1, 2].into(), ..letter }, known, NOW).is_err());
    assert_eq!(two.poll_event(), None);
}

#[test]
fn requests_and_letters_have_bounds() {
    let mut one = requests(1);
    let many = (0..OPEN_MAX as u32 + 5).map(|n| (Want::Address(n.into()), name(2))).collect();
    one.want(&many, 0, NOW);
    let letters = sent(&mut one);
    assert_eq!(letters.len(), OPEN_MAX);
    let mut two = requests(2);
    for letter in letters.iter().cycle().take(1000) {
        two.received(letter, known, NOW).expect("a letter");
    }
    let count = |of: &mut Requests, error: MessageError, from: u8| {
        let events: Vec<_> = std::iter::from_fn(|| of.poll_event()).collect();
        let failed =
            |event: &&RequestEvent| matches!(event, RequestEvent::Failed(f, e, _) if (*f, *e) == (name(from), error));
        (events.iter().filter(failed).count(), events.len())
    };
    assert_eq!(count(&mut one, MessageError::OverBound, 1), (1, 1), "told once while it is so");
    assert_eq!(count(&mut two, MessageError::OverBound, 1), (1000 - RECEIVED_MAX as usize, 1000));
    let forwarded = (0..1000).filter_map(|_| two.forwards(SessionId(1), name(1), 9, NOW)).count();
    assert_eq!(forwarded, FORWARDED_MAX as usize);
    let beyond = 1000 - forwarded;
    assert_eq!(count(&mut two, MessageError::OverBound, 1), (beyond, beyond));
    assert_eq!(two.forwards(SessionId(2), name(3), 9, NOW), Some(8), "others are forwarded");
    assert_eq!(two.forwards(SessionId(2), name(3), 0, NOW), None);
    assert_eq!(count(&mut two, MessageError::Expired, 3), (1, 1));
}

#[test]
fn a_request_given_up_without_a_response_is_told() {
    let mut one = requests(1);
    one.want(&wants(Want::Willing, 2), 9, NOW);
    one.want(&wants(Want::Willing, 3), 9, NOW + RESEND);
    assert_eq!(one.poll_event(), None, "the response may be under way");
    for second in 2..4 {
        one.handle_timeout(NOW + RESEND * second);
    }
    one.want(&BTreeSet::new(), 9, NOW + RESEND * 4);
    let Some(RequestEvent::Failed(from, MessageError::Expired, text)) = one.poll_event() else { panic!("not told") };
    assert!(from == name(1) && text.contains(&name(3).to_string()) && text.contains("3 letters"), "{text}");
}
