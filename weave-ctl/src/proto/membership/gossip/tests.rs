//! New entries reach every peer of any connected graph; anti-entropy finds what rumours missed; an error gets no further than
//! its channel's counter.

use super::*;
use crate::proto::{
    fixture::{entry, key, name, other, raw, record},
    wire::entry::{PeerRecord, Verify, record_key, sign, sign_record},
};

const ANYBODY: Alive<'static> = &|_, _| true;

fn at(millis: u64) -> Instant {
    Instant::from_start(Duration::from_millis(millis))
}

/// Peers 1 to N, each with its own record, with these sessions; messages take a millisecond.
struct Network {
    peers: Vec<Gossip>,
    sessions: Vec<(usize, usize)>,
    now: u64,
    messages: u64,
    /// Entries sent.
    entries: usize,
    bytes: usize,
    /// Entries that readers were told to be gone, at each peer.
    dropped: Vec<usize>,
    /// Messages of these kinds are lost.
    lost: fn(&Message) -> bool,
    /// The store of some name that lives; of others, any does.
    alive: Option<(PeerName, PeerUid)>,
}

impl Network {
    fn new(count: u8, sessions: &[(usize, usize)]) -> Self {
        let peer = |n: u8| {
            let mut gossip = Gossip::new(name(n), Arc::new(Verify), Rng::new([n; 32]), at(0));
            gossip.publish(entry(&record(n, 1, &[])), at(0));
            gossip
        };
        let peers = (1..=count).map(peer).collect();
        let mut network = Self {
            dropped: vec![0; usize::from(count)],
            peers,
            sessions: Vec::new(),
            now: 0,
            messages: 0,
            entries: 0,
            bytes: 0,
            lost: |_| false,
            alive: None,
        };
        sessions.iter().for_each(|(a, b)| network.connect(*a, *b));
        network
    }

    fn connect(&mut self, a: usize, b: usize) {
        let id = SessionId(self.sessions.len() as u64);
        self.sessions.push((a, b));
        self.peers[a - 1].session_up(id, name(b as u8), true, at(self.now));
        self.peers[b - 1].session_up(id, name(a as u8), false, at(self.now));
    }

    fn run(&mut self, millis: u64) {
        for _ in 0..millis {
            self.now += 1;
            let now = at(self.now);
            let mut sent = Vec::new();
            for (n, peer) in self.peers.iter_mut().enumerate() {
                peer.handle_timeout(now);
                assert!(peer.poll_timeout() > now, "it would spin");
                while let Some(update) = peer.poll_update() {
                    self.dropped[n] += usize::from(matches!(update, Update::Dropped(_)));
                }
                sent.extend(
                    std::iter::from_fn(|| peer.poll_send()).map(|(session, message)| (n + 1, session, message)),
                );
            }
            for (from, session, message) in sent {
                let (a, b) = self.sessions[session.0 as usize];
                let to = if a == from { b } else { a };
                self.messages += 1;
                self.entries += if let Message::Delta(sent) = &message { sent.entries.len() } else { 0 };
                self.bytes += message.encode().len();
                if !(self.lost)(&message) {
                    let message = Message::decode(&message.encode()).expect("a message");
                    let alive = self.alive;
                    let lives = move |peer, uid| alive.is_none_or(|(name, store)| peer != name || uid == store);
                    self.peers[to - 1].message(session, message, &lives, now);
                }
            }
        }
    }

    fn agree(&self) -> bool {
        self.peers.iter().all(|p| p.store.digest() == self.peers[0].store.digest())
    }

    /// Peer `n` says one more thing, under key `key`.
    fn claim(&mut self, n: u8, key: u64, sequence: u64) {
        let now = at(self.now);
        let entry = other(n, Channel::Claims, &key.to_string(), sequence, Some(&[]));
        self.peers[usize::from(n) - 1].publish(entry, now);
    }

    fn change(&mut self, n: u8, version: u64) {
        let now = at(self.now);
        self.peers[usize::from(n) - 1].publish(entry(&record(n, version, &[])), now);
    }
}

fn chain(count: usize) -> Vec<(usize, usize)> {
    (1..count).map(|n| (n, n + 1)).collect()
}

#[test]
fn every_record_crosses_a_chain() {
    let mut network = Network::new(10, &chain(10));
    network.run(3000);
    assert!(network.agree());
    assert_eq!(network.peers[9].store.owners(), 10);
}

#[test]
fn a_new_version_crosses_a_chain_by_rumour() {
    let mut network = Network::new(6, &chain(6));
    network.run(3000);
    network.lost = |message| !matches!(message, Message::Delta(_) | Message::Advertise(_) | Message::Request(_));
    network.change(1, 2);
    network.run(6 * 60);
    assert_eq!(network.peers[5].store.record(name(1)).map(|r| r.point.1), Some(2));
}

#[test]
fn a_new_entry_is_sent_once_to_each_peer() {
    let everybody: Vec<(usize, usize)> = (1..=8).flat_map(|a| (a + 1..=8).map(move |b| (a, b))).collect();
    let mut network = Network::new(8, &everybody);
    network.run(10_000);
    network.lost = |message| !matches!(message, Message::Delta(_) | Message::Advertise(_) | Message::Request(_));
    network.entries = 0;
    network.change(1, 2);
    network.run(1000);
    assert!(network.peers.iter().all(|peer| peer.store.record(name(1)).is_some_and(|r| r.point.1 == 2)));
    // Its owner sends it to all but one.
    assert!(network.entries <= 8, "sent {} times to seven", network.entries);
}

#[test]
fn a_small_entry_goes_to_all_neighbours_and_on_from_them() {
    // Peers 1 to 8 all have sessions to each other, and 9 to 11 are behind 8.
    let mut sessions: Vec<(usize, usize)> = (1..=8).flat_map(|a| (a + 1..=8).map(move |b| (a, b))).collect();
    sessions.extend([(8, 9), (8, 10), (10, 11)]);
    let mut network = Network::new(11, &sessions);
    for n in 1..=11 {
        let of = sessions.iter().filter(|(a, b)| [*a, *b].contains(&usize::from(n)));
        let peers: Vec<u8> = of.map(|(a, b)| (if *a == usize::from(n) { *b } else { *a }) as u8).collect();
        let now = at(network.now);
        network.peers[usize::from(n) - 1].publish(entry(&record(n, 2, &peers)), now);
    }
    network.run(20_000);
    network.lost = |message| !matches!(message, Message::Delta(_) | Message::Advertise(_) | Message::Request(_));
    (network.entries, network.messages) = (0, 0);
    network.claim(1, 1, 3);
    network.run(400);
    assert!(network.agree());
    // Seven times by its owner, then requested by 9, 10 and 11: no advertisement to a neighbour of the owner.
    assert_eq!(network.entries, 10);
    let compared = network.peers.len() as u64;
    assert!(network.messages <= 7 + 3 * 3 + compared, "{} messages", network.messages);
}

#[test]
fn much_that_is_newer_comes_from_one_of_several_peers() {
    const MANY: u64 = 300;
    let mut network = Network::new(4, &[(1, 2), (1, 3), (2, 3)]);
    (0..MANY).for_each(|n| network.claim(1, n, n + 2));
    network.run(20_000);
    network.entries = 0;
    // The newcomer compares with all three at once.
    [1, 2, 3].into_iter().for_each(|n| network.connect(4, n));
    network.run(2000);
    assert!(network.agree());
    assert!(network.entries as u64 <= MANY + 20, "{} entries were sent for {MANY}", network.entries);
}

#[test]
fn one_more_of_many_entries_costs_its_own_size() {
    const MANY: u64 = 300;
    let sessions: Vec<(usize, usize)> = (1..=4).flat_map(|a| (a + 1..=4).map(move |b| (a, b))).collect();
    let mut network = Network::new(4, &sessions);
    (0..MANY).for_each(|n| network.claim(1, n, n + 2));
    network.run(20_000);
    assert!(network.agree());
    assert_eq!(network.peers[3].store.of(name(1)).count() as u64, MANY + 1);
    let before = network.bytes;
    network.claim(1, MANY, MANY + 2);
    network.run(400);
    assert!(network.agree());
    let each = (network.bytes - before) / 3;
    assert!(each < 1024, "{each} bytes a peer");
}

#[test]
fn an_advertised_entry_that_is_not_sent_is_found_later() {
    let mut network = Network::new(3, &[(1, 2), (2, 3)]);
    network.run(3000);
    let liar = SessionId(1);
    // Peer 2 lies to peer 3, on every session that it has, as often as it may ask again.
    network.lost = |message| matches!(message, Message::Delta(_));
    network.change(1, 2);
    let adverts = vec![network.peers[0].store.summary(name(1)).expect("its own")];
    for _ in 0..10 {
        let now = at(network.now);
        network.peers[2].message(liar, Message::Advertise(adverts.clone()), ANYBODY, now);
        network.run(100);
    }
    assert_eq!(network.peers[2].store.record(name(1)).map(|record| record.point.1), Some(1));
    network.lost = |message| matches!(message, Message::Advertise(_));
    network.run(5000);
    assert!(network.agree());
}

/// What somebody claims to hold of peer 9.
fn of_nine(sequence: u64) -> Summary {
    let point = Point(1, sequence);
    Summary { owner: name(9), uid: key(9, 0).public().uid(), complete: point, newest: point, digest: 1 }
}

#[test]
fn one_of_several_advertisers_is_asked_and_requests_are_bounded() {
    let sessions: Vec<(usize, usize)> = (2..=5).map(|n| (1, n)).collect();
    let mut network = Network::new(5, &sessions);
    network.run(3000);
    let one = &mut network.peers[0];
    let mut asked = |session, sequence, now| {
        one.message(SessionId(session), Message::Advertise(vec![of_nine(sequence)]), ANYBODY, now);
        let sent: Vec<_> = std::iter::from_fn(|| one.poll_send()).collect();
        assert!(sent.iter().all(|(to, message)| *to == SessionId(session) && matches!(message, Message::Request(_))));
        sent.len()
    };
    let now = at(4000);
    assert_eq!([asked(0, 5, now), asked(1, 5, now), asked(2, 5, now)], [1, 0, 0]);
    assert_eq!([asked(1, 6, now), asked(2, 4, now)], [1, 0], "further is another request");
    assert_eq!(
        [asked(3, 5, now + REQUEST_RETRY), asked(0, 5, now + REQUEST_RETRY)],
        [1, 0],
        "after a while others are asked"
    );
    for n in 0..REQUESTED_MAX / PAGE_MAX + 2 {
        let owner = |k: usize| PeerName::from_bytes([1, 0, 0, n as u8, (k >> 8) as u8, k as u8]);
        let adverts = (0..PAGE_MAX).map(|k| Summary { owner: owner(k), ..of_nine(1) }).collect();
        one.message(SessionId(0), Message::Advertise(adverts), ANYBODY, now);
    }
    assert_eq!(one.requested.len(), REQUESTED_MAX);
}

#[test]
fn an_owner_twice_on_a_page_is_requested_once() {
    let mut network = Network::new(2, &[(1, 2)]);
    network.run(3000);
    let one = &mut network.peers[0];
    let page = Page { buckets: vec![Store::bucket_of(name(9))], owners: vec![of_nine(3); 2], more: false };
    one.message(SessionId(0), Message::Page(page), ANYBODY, at(4000));
    let sent: Vec<_> = std::iter::from_fn(|| one.poll_send()).map(|(_, message)| message).collect();
    let want = Want { owner: name(9), uid: of_nine(3).uid, since: Some(Point::ZERO) };
    assert_eq!(sent, [Message::Request(vec![want])]);
}

#[test]
fn deletions_reach_all_and_nothing_comes_back() {
    let mut network = Network::new(4, &chain(3));
    network.connect(3, 4);
    (0..20).for_each(|n| network.claim(1, n, n + 2));
    network.run(10_000);
    // Peer 4 is away while some entries go, and longer than anybody keeps tombstones.
    network.lost = |_| true;
    network.run(100);
    network.lost = |_| false;
    let away = network.sessions.pop();
    network.peers[2].sessions.remove(&SessionId(2));
    network.peers[3].sessions.remove(&SessionId(2));
    for n in 0..10 {
        let now = at(network.now);
        network.peers[0].publish(other(1, Channel::Claims, &n.to_string(), 30 + n, None), now);
    }
    network.run(10_000);
    assert_eq!(network.peers[2].store.of(name(1)).filter(|entry| entry.is_tombstone()).count(), 10);
    let floored = PeerRecord { floor: Point(1, 39), ..record(1, 40, &[]) };
    network.peers[0].publish(entry(&floored), at(network.now));
    network.run(10_000);
    assert_eq!(network.peers[2].store.of(name(1)).count(), 11, "no tombstone is kept");
    // It is back, and so is a peer that knows only it.
    network.sessions.extend(away);
    network.peers[2].session_up(SessionId(2), name(4), true, at(network.now));
    network.peers[3].session_up(SessionId(2), name(3), false, at(network.now));
    network.run(10_000);
    assert!(network.agree());
    let keys: Vec<_> = network.peers[3].store.of(name(1)).skip(1).map(|entry| entry.key.key.clone()).collect();
    assert_eq!(
        keys.iter().map(|key| &**key).collect::<Vec<_>>(),
        ["10", "11", "12", "13", "14", "15", "16", "17", "18", "19"]
    );
    assert!(network.dropped[3] >= 10, "its readers were told of {}", network.dropped[3]);
}

#[test]
fn copies_that_differ_where_they_should_not_are_mended() {
    let mut network = Network::new(2, &chain(2));
    (0..20).for_each(|n| network.claim(1, n, n + 2));
    network.run(10_000);
    // A peer that lies, or a fault: some entries are missing though everything seems to be held.
    let mut broken = Store::default();
    let some: Vec<_> = network.peers[1].store.of(name(1)).take(8).cloned().collect();
    let two = network.peers[1].store.of(name(2)).next().cloned().expect("its own");
    let newest = network.peers[1].store.of(name(1)).last().cloned().expect("the last");
    for entry in some.into_iter().chain([two, newest]) {
        broken.offer(entry, true, ANYBODY);
    }
    broken.complete_own(name(1));
    broken.complete_own(name(2));
    network.peers[1].store = broken;
    assert!(!network.agree());
    network.run(20_000);
    assert!(network.agree());
    // One that stays different costs one request of everything a while.
    let before = network.entries;
    network.peers[1].store.doubt(name(1));
    network.run(20_000);
    assert!(network.entries - before < 70, "{}", network.entries - before);
}

#[test]
fn anti_entropy_finds_what_rumours_missed() {
    let mut network = Network::new(5, &chain(5));
    network.run(3000);
    network.lost = |_| true;
    network.change(1, 2);
    network.change(5, 2);
    network.run(1000);
    assert!(!network.agree());
    network.lost = |_| false;
    network.run(4 * 5000);
    assert!(network.agree());
    assert_eq!(network.peers[4].store.record(name(1)).map(|r| r.point.1), Some(2));
}

#[test]
fn an_idle_network_is_quiet() {
    let mut network = Network::new(12, &chain(12));
    network.run(20_000);
    assert!(network.agree());
    let before = network.messages;
    network.run(60_000);
    let each = (network.messages - before) / 12;
    assert!(each <= 60, "{each} messages a peer and minute");
}

#[test]
fn an_owner_that_changes_fast_costs_others_one_change() {
    let mut network = Network::new(3, &chain(3));
    network.run(3000);
    let before = network.messages;
    for version in 2..500 {
        network.change(1, version);
    }
    network.run(200);
    assert_eq!(network.peers[2].store.record(name(1)).map(|r| r.point.1), Some(499));
    assert!(network.messages - before < 20, "{}", network.messages - before);
}

#[test]
fn a_large_network_is_learnt_page_by_page() {
    let mut network = Network::new(2, &[]);
    for n in 3..=250 {
        // Each record fills a hundredth of a page.
        let large = PeerRecord { sessions: vec![record(n, 1, &[1]).sessions[0].clone(); 60], ..record(n, 1, &[]) };
        network.peers[0].publish(entry(&large), at(0));
    }
    network.run(100);
    network.connect(1, 2);
    network.run(100);
    assert!(network.agree());
    assert_eq!(network.peers[1].store.owners(), 250);
}

#[test]
fn unknown_channels_cross_peers() {
    let mut network = Network::new(3, &chain(3));
    network.run(3000);
    let later = other(1, Channel::from(smol_str::SmolStr::from("later")), "k", 2, Some(b"anything"));
    network.peers[0].publish(Arc::clone(&later), at(network.now));
    network.run(3000);
    assert_eq!(network.peers[2].store.get(&later.key), Some(&later));
    let channels = network.peers[2].channels();
    assert_eq!(
        channels.iter().map(|c| (c.name.as_str(), c.known, c.entries)).collect::<Vec<_>>(),
        [("peers", true, 3), ("later", false, 1)]
    );
}

#[test]
fn an_error_in_a_channel_stays_in_its_counter() {
    let mut network = Network::new(2, &chain(2));
    network.run(3000);
    let victim = &mut network.peers[1];
    let before = victim.store.digest();
    let entries = |raw: Vec<u8>| {
        Message::Delta(Delta { entries: vec![ByteBuf::from(raw)], spans: Vec::new(), more: true, ..Delta::default() })
    };
    // Garbage, a forged signature, a record of this very peer, an old one replayed.
    let mut forged = raw(&record(1, 9, &[]));
    let last = forged.len() - 1;
    forged[last] ^= 1;
    for bytes in [vec![0xff; 40], forged, raw(&record(2, 9, &[])), raw(&record(1, 0, &[]))] {
        victim.message(SessionId(0), entries(bytes), ANYBODY, at(4000));
    }
    assert_eq!(victim.store.digest(), before);
    assert!(victim.poll_send().is_none(), "nothing of it is passed on");
    // A record that its owner signed, but that cannot be read, is carried along and changes nothing here.
    let broken = sign(&key(1, 0), record_key(name(1)), Point(1, 2), Some(&[0xff]));
    victim.message(SessionId(0), entries(broken), ANYBODY, at(4000));
    let peers = victim.channels().into_iter().find(|c| c.name == "peers").expect("the channel");
    assert!(peers.errors >= 1 && peers.last_error.contains("00:00:00:00:00:01"), "{peers:?}");
}

#[test]
fn a_peer_back_with_an_empty_store_becomes_known() {
    let mut network = Network::new(2, &[]);
    let fresh = PeerRecord { uid: key(9, 1).public().uid(), ..record(9, 1, &[]) };
    let fresh = Verify.open(&sign_record(&key(9, 1), &fresh)).expect("an entry");
    network.peers[0].publish(Arc::clone(&fresh), at(0));
    network.peers[1].publish(entry(&record(9, 50, &[])), at(0));
    // All its rumours are past.
    network.run(1000);
    network.alive = Some((name(9), fresh.uid));
    network.connect(1, 2);
    network.run(5000);
    assert_eq!(network.peers[1].store.get(&fresh.key), Some(&fresh));
    assert!(network.agree());
    // Two that live stay apart, and their records are not sent over and over.
    let mut network = Network::new(2, &[]);
    network.peers[0].publish(fresh, at(0));
    network.peers[1].publish(entry(&record(9, 50, &[])), at(0));
    network.run(1000);
    network.connect(1, 2);
    let before = network.messages;
    network.run(30_000);
    assert!(network.messages - before < 200, "{} messages", network.messages - before);
}

#[test]
fn comparisons_are_answered_at_a_bounded_rate() {
    let mut network = Network::new(2, &chain(2));
    network.run(3000);
    let victim = &mut network.peers[1];
    let flood = |victim: &mut Gossip, now| {
        for n in 0..10_000 {
            victim.message(SessionId(0), Message::Digest(n), ANYBODY, now);
        }
        std::iter::from_fn(|| victim.poll_send()).count()
    };
    assert_eq!(flood(victim, at(100_000)), ANSWERS_MAX as usize);
    assert_eq!(flood(victim, at(101_000)), ANSWERS_RATE as usize);
}

#[test]
fn retained_entries_are_new_again_when_their_owner_is_back() {
    let mut gossip = Gossip::new(name(1), Arc::new(Verify), Rng::new([1; 32]), at(0));
    gossip.session_up(SessionId(0), name(2), true, at(0));
    let claim = other(2, Channel::Claims, "a", 2, Some(&[7]));
    gossip.hold(entry(&record(2, 1, &[])), Source::Session(SessionId(0)), false, ANYBODY, at(0));
    gossip.hold(Arc::clone(&claim), Source::Session(SessionId(0)), false, ANYBODY, at(0));
    while gossip.poll_update().is_some() {}
    gossip.store.forget(name(2), at(1));
    let back = entry(&record(2, 3, &[]));
    gossip.hold(Arc::clone(&back), Source::Session(SessionId(0)), false, ANYBODY, at(2));
    let updates: Vec<_> = std::iter::from_fn(|| gossip.poll_update()).collect();
    assert!(updates.contains(&Update::New(claim, None)) && updates.len() == 2, "{updates:?}");
}
