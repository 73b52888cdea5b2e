//! News reaches everybody over any connected graph; comparison finds what rumour missed; nothing that is wrong gets
//! further than its channel's counter.

use super::{
    super::{
        entry::{PeerRecord, Verify, sign, sign_record},
        fixture::{entry, key, name, raw, record},
    },
    *,
};

const ANYBODY: Alive<'static> = &|_, _| true;

fn at(millis: u64) -> Instant {
    Instant::from_start(Duration::from_millis(millis))
}

/// Peers 1 to N, each with its own record, on these links; messages take a millisecond.
struct Mesh {
    peers: Vec<Gossip>,
    links: Vec<(usize, usize)>,
    now: u64,
    messages: u64,
    /// Entries sent.
    entries: usize,
    /// Messages of these kinds are lost.
    lost: fn(&Message) -> bool,
    /// The store of some name that lives; of others, any does.
    alive: Option<(PeerName, PeerUid)>,
}

impl Mesh {
    fn new(count: u8, links: &[(usize, usize)]) -> Self {
        let peer = |n: u8| {
            let mut gossip = Gossip::new(name(n), vec![], Arc::new(Verify), Rng::new([n; 32]), at(0));
            gossip.publish(entry(&record(n, 1, &[])), at(0));
            gossip
        };
        let peers = (1..=count).map(peer).collect();
        let mut mesh = Self { peers, links: Vec::new(), now: 0, messages: 0, entries: 0, lost: |_| false, alive: None };
        links.iter().for_each(|(a, b)| mesh.link(*a, *b));
        mesh
    }

    fn link(&mut self, a: usize, b: usize) {
        let id = LinkId(self.links.len() as u64);
        self.links.push((a, b));
        self.peers[a - 1].link_up(id, true, at(self.now));
        self.peers[b - 1].link_up(id, false, at(self.now));
    }

    fn run(&mut self, millis: u64) {
        for _ in 0..millis {
            self.now += 1;
            let now = at(self.now);
            let mut sent = Vec::new();
            for (n, peer) in self.peers.iter_mut().enumerate() {
                peer.handle_timeout(now);
                assert!(peer.poll_timeout() > now, "it would spin");
                while peer.poll_news().is_some() {}
                sent.extend(std::iter::from_fn(|| peer.poll_send()).map(|(link, message)| (n + 1, link, message)));
            }
            for (from, link, message) in sent {
                let (a, b) = self.links[link.0 as usize];
                let to = if a == from { b } else { a };
                self.messages += 1;
                self.entries += if let Message::Entries(sent) = &message { sent.entries.len() } else { 0 };
                if !(self.lost)(&message) {
                    let message = Message::decode(&message.encode()).expect("a message");
                    let alive = self.alive;
                    let lives = move |peer, uid| alive.is_none_or(|(name, store)| peer != name || uid == store);
                    self.peers[to - 1].message(link, message, &lives, now);
                }
            }
        }
    }

    fn agree(&self) -> bool {
        self.peers.iter().all(|p| p.store().sum() == self.peers[0].store().sum())
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
fn everybody_learns_of_everybody_along_a_chain() {
    let mut mesh = Mesh::new(10, &chain(10));
    mesh.run(3000);
    assert!(mesh.agree());
    assert_eq!(mesh.peers[9].store().owners(), 10);
}

#[test]
fn news_crosses_a_chain_by_rumour() {
    let mut mesh = Mesh::new(6, &chain(6));
    mesh.run(3000);
    mesh.lost = |message| !matches!(message, Message::Entries(_));
    mesh.change(1, 2);
    mesh.run(6 * 60);
    assert_eq!(mesh.peers[5].store().record(name(1)).map(|r| r.version), Some(2));
}

/// A record longer than what is sent on whole.
fn long(n: u8, version: u64) -> Arc<Entry> {
    let links: Vec<u8> = (100..112).collect();
    let entry = entry(&record(n, version, &links));
    assert!(entry.raw.len() > WHOLE_MAX);
    entry
}

#[test]
fn a_long_entry_is_sent_to_those_who_ask_for_it() {
    let everybody: Vec<(usize, usize)> = (1..=8).flat_map(|a| (a + 1..=8).map(move |b| (a, b))).collect();
    let mut mesh = Mesh::new(8, &everybody);
    mesh.run(10_000);
    mesh.lost = |message| !matches!(message, Message::Entries(_) | Message::News(_) | Message::Want(_));
    mesh.entries = 0;
    let now = at(mesh.now);
    mesh.peers[0].publish(long(1, 2), now);
    mesh.run(1000);
    assert!(mesh.peers.iter().all(|peer| peer.store().record(name(1)).is_some_and(|record| record.version == 2)));
    // Its owner sends it to all but one.
    assert!(mesh.entries <= 8, "sent {} times to seven", mesh.entries);
}

#[test]
fn what_somebody_tells_of_and_does_not_send_is_found_by_comparison() {
    let mut mesh = Mesh::new(3, &[(1, 2), (2, 3)]);
    mesh.run(3000);
    let (new, liar) = (long(1, 2), LinkId(1));
    let told = vec![(new.key.clone(), new.uid, new.stamp)];
    // Peer 3 is lied to by peer 2, on every link that it has, as often as it may ask again.
    mesh.lost = |message| matches!(message, Message::Entries(_));
    mesh.peers[0].publish(Arc::clone(&new), at(mesh.now));
    for _ in 0..10 {
        let now = at(mesh.now);
        mesh.peers[2].message(liar, Message::News(told.clone()), ANYBODY, now);
        mesh.run(100);
    }
    assert_eq!(mesh.peers[2].store().record(name(1)).map(|record| record.version), Some(1));
    mesh.lost = |message| matches!(message, Message::News(_));
    mesh.run(5000);
    assert!(mesh.agree());
}

#[test]
fn one_is_asked_for_what_several_tell_of_and_what_is_asked_for_is_bounded() {
    let links: Vec<(usize, usize)> = (2..=5).map(|n| (1, n)).collect();
    let mut mesh = Mesh::new(5, &links);
    mesh.run(3000);
    let one = &mut mesh.peers[0];
    let new = long(9, 1);
    let told = |version| vec![(new.key.clone(), new.uid, Stamp { version, ..new.stamp })];
    let mut asked = |link, version, now| {
        one.message(LinkId(link), Message::News(told(version)), ANYBODY, now);
        let sent: Vec<_> = std::iter::from_fn(|| one.poll_send()).collect();
        assert!(sent.iter().all(|(to, message)| *to == LinkId(link) && matches!(message, Message::Want(_))));
        sent.len()
    };
    let now = at(4000);
    assert_eq!([asked(0, 5, now), asked(1, 5, now), asked(2, 5, now)], [1, 0, 0]);
    assert_eq!([asked(1, 6, now), asked(2, 4, now)], [1, 1], "another version is another question");
    assert_eq!([asked(3, 5, now + ASK_AGAIN), asked(0, 5, now + ASK_AGAIN)], [1, 0], "after a while others are asked");
    for n in 0..ASKED_MAX / LIST_MAX + 2 {
        let key = |k| Key { owner: name(9), channel: format!("{n}-{k}").into() };
        let told = (0..LIST_MAX).map(|k| (key(k), new.uid, new.stamp)).collect();
        one.message(LinkId(0), Message::News(told), ANYBODY, now);
    }
    assert_eq!(one.asked.len(), ASKED_MAX);
}

#[test]
fn what_a_list_names_twice_is_asked_for_once() {
    let mut mesh = Mesh::new(2, &[(1, 2)]);
    mesh.run(3000);
    let one = &mut mesh.peers[0];
    let new = entry(&record(2, 9, &[]));
    let bucket = Store::bucket_of(name(2));
    let list = List { buckets: vec![bucket], items: vec![(new.key.clone(), new.stamp); 2], more: false };
    one.message(LinkId(0), Message::List(list), ANYBODY, at(4000));
    let sent: Vec<_> = std::iter::from_fn(|| one.poll_send()).map(|(_, message)| message).collect();
    assert_eq!(sent.first(), Some(&Message::Want(vec![new.key.clone()])));
}

#[test]
fn comparison_finds_what_rumour_missed() {
    let mut mesh = Mesh::new(5, &chain(5));
    mesh.run(3000);
    mesh.lost = |_| true;
    mesh.change(1, 2);
    mesh.change(5, 2);
    mesh.run(1000);
    assert!(!mesh.agree());
    mesh.lost = |_| false;
    mesh.run(4 * 5000);
    assert!(mesh.agree());
    assert_eq!(mesh.peers[4].store().record(name(1)).map(|r| r.version), Some(2));
}

#[test]
fn an_idle_mesh_is_quiet() {
    let mut mesh = Mesh::new(12, &chain(12));
    mesh.run(20_000);
    assert!(mesh.agree());
    let before = mesh.messages;
    mesh.run(60_000);
    let each = (mesh.messages - before) / 12;
    assert!(each <= 60, "{each} messages a peer and minute");
}

#[test]
fn an_owner_that_changes_fast_costs_others_its_last_change_alone() {
    let mut mesh = Mesh::new(3, &chain(3));
    mesh.run(3000);
    let before = mesh.messages;
    for version in 2..500 {
        mesh.change(1, version);
    }
    mesh.run(200);
    assert_eq!(mesh.peers[2].store().record(name(1)).map(|r| r.version), Some(499));
    assert!(mesh.messages - before < 20, "{}", mesh.messages - before);
}

#[test]
fn a_mesh_larger_than_a_page_is_learnt_page_by_page() {
    let mut mesh = Mesh::new(2, &[]);
    for n in 3..=250 {
        // Each record fills a hundredth of a page.
        let large = PeerRecord { links: vec![record(n, 1, &[1]).links[0].clone(); 60], ..record(n, 1, &[]) };
        mesh.peers[0].publish(entry(&large), at(0));
    }
    mesh.run(100);
    mesh.link(1, 2);
    mesh.run(100);
    assert!(mesh.agree());
    assert_eq!(mesh.peers[1].store().owners(), 250);
}

#[test]
fn unknown_channels_cross_peers_that_do_not_know_them() {
    let mut mesh = Mesh::new(3, &chain(3));
    mesh.run(3000);
    let later = Verify.open(&sign(&key(1, 0), name(1), "later", (1, 1), b"anything".to_vec())).expect("an entry");
    mesh.peers[0].publish(Arc::clone(&later), at(mesh.now));
    mesh.run(3000);
    assert_eq!(mesh.peers[2].store().get(&later.key), Some(&later));
    let channels = mesh.peers[2].channels();
    assert_eq!(
        channels.iter().map(|c| (c.name.as_str(), c.known, c.entries)).collect::<Vec<_>>(),
        [("later", false, 1), ("peers", true, 3)]
    );
}

#[test]
fn what_is_wrong_in_a_channel_stays_in_its_counter() {
    let mut mesh = Mesh::new(2, &chain(2));
    mesh.run(3000);
    let victim = &mut mesh.peers[1];
    let before = victim.store().sum();
    let entries = |raw: Vec<u8>| Message::Entries(Entries { entries: vec![ByteBuf::from(raw)], more: true });
    // Garbage, a forged signature, a record of this very peer, an old one replayed.
    let mut forged = raw(&record(1, 9, &[]));
    let last = forged.len() - 1;
    forged[last] ^= 1;
    for bytes in [vec![0xff; 40], forged, raw(&record(2, 9, &[])), raw(&record(1, 0, &[]))] {
        victim.message(LinkId(0), entries(bytes), ANYBODY, at(4000));
    }
    assert_eq!(victim.store().sum(), before);
    assert!(victim.poll_send().is_none(), "nothing of it is passed on");
    // A record that its owner signed, but that cannot be read, is carried along and changes nothing here.
    let broken = sign(&key(1, 0), name(1), PEERS, (1, 2), vec![0xff]);
    victim.message(LinkId(0), entries(broken), ANYBODY, at(4000));
    let peers = victim.channels().into_iter().find(|c| c.name == PEERS).expect("the channel");
    assert!(peers.errors >= 1 && peers.last_error.contains("00:00:00:00:00:01"), "{peers:?}");
}

#[test]
fn a_peer_that_came_back_with_an_empty_store_is_known_everywhere_however_old_its_former_one_was() {
    let mut mesh = Mesh::new(2, &[]);
    let fresh = PeerRecord { uid: key(9, 1).public().uid(), ..record(9, 1, &[]) };
    let fresh = Verify.open(&sign_record(&key(9, 1), &fresh)).expect("an entry");
    mesh.peers[0].publish(Arc::clone(&fresh), at(0));
    mesh.peers[1].publish(entry(&record(9, 50, &[])), at(0));
    // All its rumours are past.
    mesh.run(1000);
    mesh.alive = Some((name(9), fresh.uid));
    mesh.link(1, 2);
    mesh.run(5000);
    assert_eq!(mesh.peers[1].store().get(&fresh.key), Some(&fresh));
    assert!(mesh.agree());
    // Two that live stay apart, and are not told of each other over and over.
    let mut mesh = Mesh::new(2, &[]);
    mesh.peers[0].publish(fresh, at(0));
    mesh.peers[1].publish(entry(&record(9, 50, &[])), at(0));
    mesh.run(1000);
    mesh.link(1, 2);
    let before = mesh.messages;
    mesh.run(30_000);
    assert!(mesh.messages - before < 200, "{} messages", mesh.messages - before);
}

#[test]
fn comparisons_are_answered_at_a_bounded_rate() {
    let mut mesh = Mesh::new(2, &chain(2));
    mesh.run(3000);
    let victim = &mut mesh.peers[1];
    let flood = |victim: &mut Gossip, now| {
        for n in 0..10_000 {
            victim.message(LinkId(0), Message::Sum(n), ANYBODY, now);
        }
        std::iter::from_fn(|| victim.poll_send()).count()
    };
    assert_eq!(flood(victim, at(100_000)), ANSWERS_MAX as usize);
    assert_eq!(flood(victim, at(101_000)), ANSWERS_RATE as usize);
}

#[test]
fn what_was_kept_aside_of_a_forgotten_peer_is_news_when_it_comes_back() {
    let mut gossip = Gossip::new(name(1), vec!["board"], Arc::new(Verify), Rng::new([1; 32]), at(0));
    gossip.link_up(LinkId(0), true, at(0));
    let board = Verify.open(&sign(&key(2, 0), name(2), "board", (1, 1), vec![7])).unwrap();
    gossip.introduce(LinkId(0), entry(&record(2, 1, &[])), ANYBODY, at(0));
    gossip.introduce(LinkId(0), Arc::clone(&board), ANYBODY, at(0));
    while gossip.poll_news().is_some() {}
    gossip.store_mut().forget(name(2), at(1));
    gossip.introduce(LinkId(0), entry(&record(2, 2, &[])), ANYBODY, at(2));
    let news: Vec<_> = std::iter::from_fn(|| gossip.poll_news()).map(|news| news.entry.key.channel.clone()).collect();
    assert!(news.iter().any(|channel| channel == "board") && news.len() == 2, "{news:?}");
}
