//! Who is not meant, or does not know the secrets, changes nothing; queues have bounds.

use proptest::prelude::*;

use super::*;

fn at(time: Duration) -> Instant {
    Instant::from_start(time)
}

fn request(to: u8, from: u8) -> Probe {
    Probe {
        kind: Kind::Request,
        flags: 0,
        length: 0,
        cookie: cookie(to),
        sender: name(from),
        receiver: name(to),
        sequence: 1,
        sent_micros: 2,
        nonce: 3,
    }
}

/// A host that knows peer 2 and has just asked it; with the question.
fn asking() -> (Paths, Probe, Instant) {
    let mut one = paths(1, cookie(1), 1);
    let now = at(secs(5));
    one.set_linked(&BTreeSet::from([name(2)]), now);
    one.set_peer(name(2), facts(2), now);
    one.handle_timeout(now);
    let (to, bytes) = one.poll_probe().unwrap();
    assert_eq!((to, one.poll_probe()), (data(2), None));
    (one, Probe::decode(&bytes).unwrap(), now)
}

/// What peer 2 would answer.
fn reply(question: &Probe) -> Probe {
    let length = mtu::SMALLEST as u16;
    Probe { kind: Kind::Reply, length, cookie: 0, sender: name(2), receiver: name(1), ..*question }
}

#[test]
fn who_asks_before_its_record_comes_was_heard_all_the_same() {
    let mut one = paths(1, cookie(1), 1);
    for n in 2..100 {
        one.probe(data(n + 100), &request(1, n).encode(), at(secs(1)));
        one.probe(data(n), &Probe { cookie: 0, ..request(1, n) }.encode(), at(secs(1)));
    }
    assert_eq!(one.poll_event(), None);
    one.set_peer(name(2), facts(2), at(secs(2)));
    assert_eq!(one.poll_event(), Some(PathEvent::Heard(name(2), ip(102))));
    one.set_peer(name(2), facts(2), at(secs(9)));
    assert_eq!(one.poll_event(), None, "once");
    assert!(one.addresses(name(2)).contains(&ip(102)));
    // A flood of names pushes out the oldest, and no more than that is kept.
    for n in 0..2 * STRANGERS_MAX as u64 {
        let [.., high, low] = n.to_be_bytes();
        let sender = PeerName::from_bytes([1, 0, 0, 0, high, low]);
        one.probe(data(9), &Probe { sender, ..request(1, 3) }.encode(), at(secs(10)));
    }
    assert_eq!(one.strangers.len(), STRANGERS_MAX);
}

#[test]
fn only_requests_that_know_who_we_are_are_answered() {
    let good = request(1, 2);
    let cases = [
        ("as it should be", good, true),
        ("unknown flags", Probe { flags: 0xffff, ..good }, true),
        ("another cookie", Probe { cookie: cookie(2), ..good }, false),
        ("no cookie", Probe { cookie: 0, ..good }, false),
        ("for somebody else", Probe { receiver: name(3), ..good }, false),
        ("from ourselves", Probe { sender: name(1), ..good }, false),
    ];
    for (what, probe, answered) in cases {
        let mut one = paths(1, cookie(1), 1);
        one.set_peer(name(2), facts(2), at(secs(1)));
        one.probe(data(9), &probe.encode(), at(secs(2)));
        let expected = answered.then(|| Probe { flags: 0, ..reply(&probe) });
        let got = one.poll_probe().map(|(_, bytes)| {
            let mut probe = Probe::decode(&bytes).unwrap();
            assert_eq!((probe.sender, probe.receiver), (name(1), name(2)));
            (probe.sender, probe.receiver) = (name(2), name(1));
            probe
        });
        assert_eq!(got, expected, "{what}");
        assert_eq!(one.poll_event(), answered.then_some(PathEvent::Heard(name(2), ip(9))), "{what}");
    }
}

#[test]
fn the_answer_goes_to_the_data_port_unless_the_address_is_strange() {
    let mut one = paths(1, cookie(1), 1);
    let now = at(secs(1));
    let bytes = request(1, 2).encode_padded(1400);
    for (known, from, to) in [
        (false, SocketAddrV4::new(ip(2), CONTROL), SocketAddrV4::new(ip(2), CONTROL)),
        (true, SocketAddrV4::new(ip(2), CONTROL), data(2)),
        (true, SocketAddrV4::new(ip(9), 40_000), SocketAddrV4::new(ip(9), 40_000)),
    ] {
        if known {
            one.set_peer(name(2), facts(2), now);
        }
        one.probe(from, &bytes, now);
        let (sent_to, reply) = one.poll_probe().unwrap();
        assert_eq!(sent_to, to);
        assert_eq!(reply.len(), probe::LEN);
        assert_eq!(Probe::decode(&reply).unwrap().length, 1400);
    }
}

#[test]
fn only_the_answer_to_what_was_asked_counts() {
    let (_, question, now) = asking();
    let good = reply(&question);
    let soon = now + millis(10);
    let cases = [
        ("as it should be", good, soon, true),
        ("another nonce", Probe { nonce: good.nonce ^ 1, ..good }, soon, false),
        ("never asked", Probe { sequence: good.sequence + 1, ..good }, soon, false),
        ("asked at another time", Probe { sent_micros: good.sent_micros + 1, ..good }, soon, false),
        ("by another peer", Probe { sender: name(3), ..good }, soon, false),
        ("to another peer", Probe { receiver: name(3), ..good }, soon, false),
        ("just in time", good, now + SENT_FOR, true),
        ("too late", good, now + SENT_FOR + millis(1), false),
    ];
    for (what, probe, when, counts) in cases {
        let (mut one, ..) = asking();
        one.probe(data(2), &probe.encode(), when);
        assert_eq!(one.direct(name(2)).is_some(), counts, "{what}");
    }
}

#[test]
fn an_answer_counts_once() {
    let (mut one, question, now) = asking();
    let bytes = reply(&question).encode();
    one.probe(data(2), &bytes, now + millis(10));
    one.probe(data(2), &bytes, now + millis(400));
    assert_eq!(one.direct(name(2)).unwrap().rtt, Some(millis(10)));
}

#[test]
fn a_peer_cannot_answer_for_another() {
    let now = at(secs(5));
    let mut one = paths(1, cookie(1), 1);
    one.set_linked(&BTreeSet::from([name(2), name(3)]), now);
    one.set_peer(name(2), facts(2), now);
    one.set_peer(name(3), facts(3), now);
    one.handle_timeout(now);
    let asked: Vec<_> = std::iter::from_fn(|| one.poll_probe()).collect();
    assert_eq!(asked.len(), 2);
    let (_, third) = asked.iter().find(|(to, _)| *to == data(3)).unwrap();
    // Peer 3 knows all that it was asked itself.
    let third = Probe::decode(third).unwrap();
    one.probe(data(3), &reply(&third).encode(), now + millis(10));
    assert_eq!((one.direct(name(2)), one.direct(name(3))), (None, None));
}

/// Peer 3 asks in the name of peer 2, from an address of its own, and so is asked there.
#[test]
fn who_asks_in_anothers_name_must_prove_to_be_it() {
    let mut now = at(secs(5));
    let mut one = paths(1, cookie(1), 1);
    one.set_linked(&BTreeSet::from([name(2)]), now);
    one.set_peer(name(2), facts(2), now);
    one.probe(data(3), &request(1, 2).encode(), now);
    let mut asked = Vec::new();
    for _ in 0..20 {
        one.handle_timeout(now);
        let probes = std::iter::from_fn(|| one.poll_probe()).filter(|(to, _)| *to == data(3));
        asked.extend(probes.filter_map(|(_, bytes)| {
            Probe::decode(&bytes).filter(|p| p.kind == Kind::Request).map(|p| (p, bytes, now))
        }));
        now = now + millis(100);
    }
    assert!(asked.len() > 3 && asked.iter().all(|(probe, ..)| probe.flags == probe::PROVE), "{asked:?}");
    let (question, bytes, when) = asked.pop().unwrap();
    let answer = |question: &Probe| Probe { flags: probe::PROVE, ..reply(question) };
    let when = when + millis(5);
    assert_eq!(one.probe(data(3), &reply(&question).encode(), when), None, "no proof");
    assert_eq!(one.probe(data(9), &answer(&question).encode_proven(ip(1), &key(3)), when), None, "from somewhere else");
    let claim = one.probe(data(3), &answer(&question).encode_proven(ip(1), &key(3)), when).expect("a claim");
    assert!(!claim.reply.is_proven(&claim.proof, &key(2).public()), "signed by another");
    // Peer 2 itself answers what is passed on to it, and tells where that came from.
    let mut two = paths(2, cookie(2), 2);
    two.probe(data(3), &bytes, when);
    let (to, bytes) = two.poll_probe().expect("an answer");
    assert_eq!(to, data(3));
    let claim = one.probe(data(3), &bytes, when).expect("a claim");
    assert!(claim.reply.is_proven(&claim.proof, &key(2).public()) && claim.proof.seen == ip(3));
    assert_eq!(one.direct(name(2)), None);
    one.proven(&claim, when);
    assert!(one.direct(name(2)).is_some(), "that it was peer 2 who was asked is for the caller to find");
}

#[test]
fn proofs_are_given_at_a_bounded_rate_and_only_for_what_is_as_long() {
    let mut one = paths(1, cookie(1), 1);
    let ask = Probe { flags: probe::PROVE, ..request(1, 2) };
    let lengths = |one: &mut Paths| std::iter::from_fn(|| one.poll_probe()).map(|(_, b)| b.len()).collect::<Vec<_>>();
    let now = at(secs(9));
    one.probe(data(2), &ask.encode(), now);
    assert_eq!(lengths(&mut one), [probe::LEN]);
    let padded = ask.encode_padded((probe::OUTER + probe::PROVEN_LEN) as u32);
    let many = 2 * PROOFS_MAX as usize;
    for _ in 0..many {
        one.probe(data(2), &padded, now);
    }
    let proven = lengths(&mut one).into_iter().filter(|len| *len == probe::PROVEN_LEN).count();
    assert_eq!(proven, PROOFS_MAX as usize);
    one.probe(data(2), &padded, now + secs(1));
    assert_eq!(lengths(&mut one), [probe::PROVEN_LEN]);
}

#[test]
fn a_size_is_not_believed_when_it_arrived_smaller() {
    let mut net = Net::pair(1);
    net.run(secs(3));
    let mut one = paths(1, cookie(1), 9);
    let mut now = net.now;
    one.set_mtu(1500, now);
    one.set_linked(&BTreeSet::from([name(2)]), now);
    one.set_peer(name(2), facts(2), now);
    let end = now + secs(30);
    while now < end {
        one.handle_timeout(now);
        while let Some((_, bytes)) = one.poll_probe() {
            // Says that all came, but no more than 700 bytes of it.
            let length = probe::outer_len(&bytes).min(700);
            let answer = Probe { length, ..reply(&Probe::decode(&bytes).unwrap()) };
            one.probe(data(2), &answer.encode(), now + millis(5));
        }
        now = one.poll_timeout().unwrap().max(now + millis(10));
    }
    assert_eq!(one.direct(name(2)).unwrap().path_mtu, 700);
}

#[test]
fn addresses_heard_are_few_and_the_newest() {
    let mut one = paths(1, cookie(1), 1);
    let mut now = at(secs(1));
    one.set_peer(name(2), PeerFacts { candidates: vec![data(2)], ..facts(2) }, now);
    for n in 0..200_u8 {
        let from = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, n), 999);
        one.probe(from, &request(1, 2).encode(), now);
        now = now + HEAR_EVERY / 10;
    }
    let heard: Vec<_> = std::iter::from_fn(|| one.poll_event()).filter(|e| matches!(e, PathEvent::Heard(..))).collect();
    assert_eq!(heard.len(), 20, "one in HEAR_EVERY");
    let last = Ipv4Addr::new(192, 0, 2, 190);
    assert_eq!(heard.last(), Some(&PathEvent::Heard(name(2), last)));
    let candidates = one.peers[&name(2)].addresses.candidates();
    let before = Ipv4Addr::new(192, 0, 2, 180);
    assert_eq!(candidates, [data(2), SocketAddrV4::new(last, DATA), SocketAddrV4::new(before, DATA)]);
}

#[test]
fn no_more_addresses_are_tried_than_the_bounds_say() {
    let mut one = paths(1, cookie(1), 1);
    let now = at(secs(1));
    let many = (0..200).map(|n| SocketAddrV4::new(Ipv4Addr::new(10, 9, 0, n), DATA)).collect();
    one.set_linked(&BTreeSet::from([name(2)]), now);
    one.set_peer(name(2), PeerFacts { candidates: many, ..facts(2) }, now);
    one.handle_timeout(now);
    assert_eq!(std::iter::from_fn(|| one.poll_probe()).count(), TOLD_MAX);
}

#[test]
fn addresses_that_nobody_has_are_not_tried() {
    let mut one = paths(1, cookie(1), 1);
    let now = at(secs(1));
    let bad =
        [(Ipv4Addr::UNSPECIFIED, DATA), (Ipv4Addr::BROADCAST, DATA), (Ipv4Addr::new(224, 0, 0, 1), DATA), (ip(2), 0)];
    let candidates = bad.into_iter().map(|(ip, port)| SocketAddrV4::new(ip, port)).collect();
    one.set_peer(name(2), PeerFacts { candidates, ..facts(2) }, now);
    assert_eq!(one.poll_timeout(), None);
}

#[test]
fn queues_are_bounded_when_nobody_takes_from_them() {
    let mut one = paths(1, cookie(1), 1);
    let mut now = at(secs(1));
    for n in 2..=255 {
        one.set_peer(name(n), facts(n), now);
    }
    for round in 0..20_u8 {
        for n in 2..=255 {
            one.probe(SocketAddrV4::new(Ipv4Addr::new(192, 0, round, n), 1), &request(1, n).encode(), now);
        }
        now = now + secs(1);
        one.handle_timeout(now);
    }
    assert_eq!(one.probes.len(), PROBES_MAX);
    assert_eq!(one.heard.len(), HEARD_EVENTS_MAX);
    assert!(one.peers.values().all(|peer| peer.questions.len() <= SENT_MAX));
    assert!(one.news.len() <= one.peers.len());
}

#[test]
fn open_questions_are_bounded() {
    let mut one = paths(1, cookie(1), 1);
    let mut now = at(secs(1));
    let many: Vec<_> = (0..16).map(|n| SocketAddrV4::new(Ipv4Addr::new(10, 9, 0, n), DATA)).collect();
    for round in 0..100_u64 {
        // A changed record is a reason to try at once, each time.
        one.set_peer(
            name(2),
            PeerFacts { cookie: round, candidates: many.clone(), before: None, probe_port: 0, mtu: 0 },
            now,
        );
        one.traffic(&[name(2)], now);
        now = now + FAST_EVERY;
        one.handle_timeout(now);
    }
    assert_eq!(one.peers[&name(2)].questions.len(), SENT_MAX);
}

/// Something that happens to a host.
#[derive(Clone, Debug)]
enum Step {
    Peer(u8, u64, Vec<u8>, u32),
    Remove(u8),
    Observed(u8, u8),
    Linked(Vec<u8>),
    Mtu(u32),
    Traffic(Vec<u8>),
    Garbage(Vec<u8>),
    Request(u8, u8, bool),
    /// Answers so many of the last questions, saying this length.
    Answer(usize, u16),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let peer = 1_u8..6;
    let peers = prop::collection::vec(peer.clone(), 0..6);
    let step = prop_oneof![
        2 => (peer.clone(), 0_u64..3, prop::collection::vec(any::<u8>(), 0..20), 0_u32..11_000)
            .prop_map(|(n, cookie, at, mtu)| Step::Peer(n, cookie, at, mtu)),
        1 => peer.clone().prop_map(Step::Remove),
        1 => (peer.clone(), any::<u8>()).prop_map(|(n, at)| Step::Observed(n, at)),
        1 => peers.clone().prop_map(Step::Linked),
        1 => (0_u32..70_000).prop_map(Step::Mtu),
        1 => peers.prop_map(Step::Traffic),
        1 => prop::collection::vec(any::<u8>(), 0..80).prop_map(Step::Garbage),
        1 => (peer, any::<u8>(), any::<bool>()).prop_map(|(n, from, right)| Step::Request(n, from, right)),
        4 => (1_usize..20, any::<u16>()).prop_map(|(n, length)| Step::Answer(n, length)),
        6 => (0_u64..8000).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..80)
}

fn take(one: &mut Paths, step: Step, asked: &[Probe], now: Instant) {
    match step {
        Step::Peer(n, cookie, at, mtu) => {
            let candidates = at.into_iter().map(data).collect();
            one.set_peer(name(n), PeerFacts { cookie, candidates, before: None, probe_port: 0, mtu }, now);
        }
        Step::Remove(n) => one.remove_peer(name(n)),
        Step::Observed(n, at) => one.observed(name(n), data(at), now),
        Step::Linked(peers) => one.set_linked(&peers.into_iter().map(name).collect(), now),
        Step::Mtu(mtu) => one.set_mtu(mtu, now),
        Step::Traffic(peers) => one.traffic(&peers.into_iter().map(name).collect::<Vec<_>>(), now),
        Step::Garbage(bytes) => drop(one.probe(data(7), &bytes, now)),
        Step::Request(n, from, right) => {
            let cookie = cookie(1) + u64::from(!right);
            one.probe(data(from), &Probe { cookie, ..request(1, n) }.encode(), now);
        }
        Step::Answer(n, length) => {
            for question in asked.iter().rev().take(n) {
                let length = if length % 3 == 0 { length } else { question.length };
                let (sender, receiver) = (question.receiver, question.sender);
                let answer = Probe { kind: Kind::Reply, sender, receiver, length, ..*question };
                one.probe(data(7), &answer.encode(), now);
            }
        }
        Step::Wait(_) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever happens: no panic, no spinning, no probe out of bounds, events that follow from each other.
    #[test]
    fn anything_may_happen(steps in steps()) {
        let mut one = paths(1, cookie(1), 1);
        let mut now = at(secs(1));
        let mut asked = Vec::new();
        let mut up = BTreeSet::new();
        for step in steps {
            if let Step::Wait(time) = step {
                now = now + millis(time);
            }
            if let Step::Remove(n) = step {
                up.remove(&name(n));
            }
            take(&mut one, step, &asked, now);
            one.handle_timeout(now);
            prop_assert!(one.poll_timeout().is_none_or(|at| at > now));
            while let Some((to, bytes)) = one.poll_probe() {
                let probe = Probe::decode(&bytes).unwrap();
                prop_assert!(to.port() > 0 && bytes.len() <= probe::MAX);
                prop_assert_eq!(probe.sender, name(1));
                if probe.kind == Kind::Request {
                    prop_assert!(probe.receiver != name(1));
                    asked.push(Probe { length: probe::outer_len(&bytes), ..probe });
                } else {
                    prop_assert_eq!(bytes.len(), probe::LEN);
                }
            }
            while let Some(event) = one.poll_event() {
                match event {
                    PathEvent::Up(n) => prop_assert!(up.insert(n), "up twice"),
                    PathEvent::Changed(n) => prop_assert!(up.contains(&n), "changed while down"),
                    PathEvent::Down(n) => { up.remove(&n); }
                    PathEvent::Heard(..) => {}
                }
            }
            for n in 1..6 {
                let direct = one.direct(name(n));
                prop_assert_eq!(direct.is_some(), up.contains(&name(n)));
                prop_assert!(direct.is_none_or(|d| d.path_mtu <= mtu::LARGEST));
            }
        }
    }
}
