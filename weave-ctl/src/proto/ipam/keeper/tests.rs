//! Peers that share a ring: who asks is served, what was given stays given, who leaves is inherited from.

mod claims;
mod hostile;
mod leaving;
mod parts;

use std::collections::VecDeque;

use super::*;
use crate::proto::{
    params::{Init, LaunchParams},
    reservation::Reservation,
};

fn id(n: u8) -> PeerId {
    store(n, u128::from(n))
}

fn store(n: u8, uid: u128) -> PeerId {
    PeerId { name: PeerName::from_bytes([0, 0, 0, 0, 0, n]), uid: PeerUid(uid) }
}

/// Not the key of the uid: a test may name the uids.
fn key(of: PeerId) -> SecretKey {
    SecretKey::from_bytes([of.uid.0 as u8; 32])
}

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

fn range() -> Ipv4Net {
    net("10.0.0.0/24")
}

/// Everybody is reached.
const ALL: Peers<'static> = Peers { reached: &|_| true, alive: &|_| false };

fn params() -> LaunchParams {
    LaunchParams { range: range(), default_subnet: range(), seeds: vec![], init: Init::Undeclared, peers: vec![] }
}

struct Peer {
    keeper: Keeper,
    allocator: Allocator,
    needs: BTreeSet<Need>,
    ring: Option<Ring>,
    grants: BTreeMap<Ipv4Addr, PeerId>,
    inherited: Vec<Inherited>,
    denied: Vec<(Need, String)>,
    left: Option<Result<(), String>>,
    log: Vec<String>,
}

/// Peers that are all linked, but for those cut off.
struct Network {
    peers: BTreeMap<PeerName, Peer>,
    cut: BTreeSet<PeerName>,
    now: Instant,
    /// Requests sent: when, while they are not answered, by which peer, what, of which. Their number is their id.
    requests: Vec<(Option<Instant>, PeerName, Want, PeerName)>,
    /// What each publishes: its hint, and its claims.
    published: BTreeMap<PeerId, (Vec<u8>, BTreeSet<Ipv4Addr>)>,
    /// Which peer is killed, at which of its commits, and whether that commit is done.
    crash: Option<(PeerName, u32, bool)>,
}

impl Network {
    fn new(rings: &[(PeerId, Option<Ring>)]) -> Self {
        let mut network = Self {
            peers: BTreeMap::new(),
            cut: BTreeSet::new(),
            now: Instant::default(),
            requests: vec![],
            published: BTreeMap::new(),
            crash: None,
        };
        rings.iter().for_each(|(id, ring)| network.add(*id, ring.clone(), true));
        network
    }

    fn add(&mut self, id: PeerId, ring: Option<Ring>, alone: bool) {
        self.add_of(id, range(), ring, alone);
    }

    fn add_of(&mut self, id: PeerId, range: Ipv4Net, ring: Option<Ring>, alone: bool) {
        let params = LaunchParams { range, default_subnet: range, ..params() };
        let peer = Peer {
            keeper: Keeper::new(id, key(id), range, ring.clone(), alone, Rng::new([id.uid.0 as u8; 32]), self.now),
            allocator: Allocator::new(id, &params, BTreeMap::new()),
            needs: BTreeSet::new(),
            ring,
            grants: BTreeMap::new(),
            inherited: vec![],
            denied: vec![],
            left: None,
            log: vec![],
        };
        self.peers.insert(id.name, peer);
    }

    fn peer(&mut self, n: u8) -> &mut Peer {
        self.peers.get_mut(&id(n).name).unwrap()
    }

    fn ring(&self, n: u8) -> &Option<Ring> {
        &self.peers[&id(n).name].ring
    }

    fn link_all(&mut self) {
        for peer in self.peers.values_mut() {
            peer.keeper.link_up(SessionId(0));
        }
    }

    /// Turns one, and carries what it says.
    fn turn(&mut self, n: u8) {
        let now = self.now;
        let peer = self.peer(n);
        peer.keeper.turn(&peer.allocator, peer.needs.clone(), ALL, now);
        let events: Vec<KeeperEvent> = std::iter::from_fn(|| self.peer(n).keeper.poll_event()).collect();
        events.into_iter().for_each(|event| self.carry(id(n).name, event));
        self.request(id(n).name);
    }

    /// Turns everybody, and carries what they say, until all are quiet.
    fn settle(&mut self) {
        for _ in 0..60 {
            let mut said: VecDeque<(PeerName, KeeperEvent)> = VecDeque::new();
            let reached = |peer: PeerName| !self.cut.contains(&peer) && self.peers.contains_key(&peer);
            let reached: BTreeSet<PeerName> = self.peers.keys().copied().filter(|peer| reached(*peer)).collect();
            let now = self.now;
            for (name, peer) in &mut self.peers {
                let here = reached.contains(name);
                let peers = Peers { reached: &|other| here && reached.contains(&other), alive: &|_| false };
                // What was granted is used at once.
                for addr in peer.keeper.granted() {
                    if peer.needs.remove(&Need::Claim(addr)) {
                        peer.allocator.set(&addr.to_string(), Reservation::of(vec![Ipv4Net::from(addr)], 0));
                    }
                }
                peer.keeper.turn(&peer.allocator, peer.needs.clone(), peers, now);
                while let Some(event) = peer.keeper.poll_event() {
                    said.push_back((*name, event));
                }
            }
            self.kill(&mut said);
            let peers: Vec<PeerName> = self.peers.keys().copied().collect();
            let asked = peers.into_iter().filter(|peer| self.request(*peer)).count();
            if said.is_empty() && asked == 0 {
                break;
            }
            for (from, event) in said {
                self.carry(from, event);
            }
        }
    }

    fn carry(&mut self, from: PeerName, event: KeeperEvent) {
        let others: Vec<PeerName> = self.peers.keys().copied().filter(|peer| *peer != from).collect();
        let others: Vec<PeerName> =
            others.into_iter().filter(|peer| !self.cut.contains(peer) && !self.cut.contains(&from)).collect();
        let peer = self.peers.get_mut(&from).unwrap();
        match event {
            KeeperEvent::Ring(ring) => peer.ring = Some(ring),
            KeeperEvent::Grant(addr, Some(holder)) => drop(peer.grants.insert(addr, holder)),
            KeeperEvent::Grant(addr, None) => drop(peer.grants.remove(&addr)),
            KeeperEvent::Inherited(all) => peer.inherited = all,
            KeeperEvent::Granted | KeeperEvent::Released => {}
            KeeperEvent::Denied(need, why) => {
                if matches!(need, Need::Claim(_)) {
                    peer.needs.remove(&need);
                }
                peer.denied.push((need, why));
            }
            KeeperEvent::Left(result) => peer.left = Some(result),
            KeeperEvent::Log(_, text) | KeeperEvent::Refused(_, text) => peer.log.push(text),
            KeeperEvent::NoSpace(subnet) => peer.log.push(format!("no space in {subnet}")),
            KeeperEvent::Tell(part, _) | KeeperEvent::Send(_, part, false) => {
                self.each(&others, |keeper| keeper.heard(SessionId(0), from, &part, false));
            }
            KeeperEvent::Send(_, part, true) => {
                self.each(&others, |keeper| keeper.heard(SessionId(0), from, &part, true));
            }
            KeeperEvent::SendSum(_, sum) | KeeperEvent::Compare(sum) => {
                self.each(&others, |keeper| keeper.heard_sum(SessionId(0), sum));
            }
            KeeperEvent::Claim(addr, held) => {
                let of = peer.keeper.me;
                let claims = &mut self.published.entry(of).or_default().1;
                let _changed = if held { claims.insert(addr) } else { claims.remove(&addr) };
                self.each(&others, |keeper| hear_claim(keeper, of, addr, held));
            }
            KeeperEvent::Hint(bytes) => {
                let of = peer.keeper.me;
                self.published.entry(of).or_default().0.clone_from(&bytes);
                self.each(&others, |keeper| {
                    keeper.heard_hint(of, Some(&bytes)).unwrap();
                });
            }
            KeeperEvent::Respond(to, request, reply) => {
                let (open, asker, want, asked) = &mut self.requests[request as usize];
                assert_eq!((*asker, *asked), (to, from), "a response to another request");
                *open = None;
                let want = *want;
                let to: Vec<PeerName> = others.into_iter().filter(|peer| *peer == to).collect();
                self.each(&to, |keeper| keeper.responded(from, want, reply.clone()));
            }
        }
    }

    /// Kills the peer that is to be killed, at its commit: what is not committed by then is lost, and nothing is sent.
    fn kill(&mut self, said: &mut VecDeque<(PeerName, KeeperEvent)>) {
        let durable = |event: &KeeperEvent| {
            matches!(event, KeeperEvent::Ring(_) | KeeperEvent::Grant(..) | KeeperEvent::Inherited(_))
        };
        let Some((name, left, committed)) = self.crash else { return };
        if !said.iter().any(|(from, event)| *from == name && durable(event)) {
            return;
        }
        self.crash = left.checked_sub(1).map(|left| (name, left, committed));
        if self.crash.is_none() {
            let (own, others) = std::mem::take(said).into_iter().partition(|(from, _)| *from == name);
            *said = others;
            let own: VecDeque<(PeerName, KeeperEvent)> = own;
            for (from, event) in own.into_iter().filter(|(_, event)| committed && durable(event)) {
                self.carry(from, event);
            }
            self.relaunch(name.bytes()[5]);
        }
    }

    /// A peer is in reach again, and all hear what the others publish.
    fn rejoin(&mut self, n: u8) {
        self.cut.remove(&id(n).name);
        for (of, (hint, claims)) in self.published.clone() {
            let others = self.peers.values_mut().filter(|peer| peer.keeper.me != of);
            for peer in others.filter(|_| !self.cut.contains(&of.name)) {
                peer.keeper.heard_hint(of, Some(&hint)).unwrap();
                claims.iter().for_each(|addr| hear_claim(&mut peer.keeper, of, *addr, true));
            }
        }
        self.link_all();
    }

    /// Launches a peer again from what is durable, and tells it what others publish.
    fn relaunch(&mut self, n: u8) {
        let (now, name) = (self.now, id(n).name);
        let published = self.published.clone();
        let reached = |of: &PeerId| !self.cut.contains(&of.name) && !self.cut.contains(&name);
        let heard: Vec<_> = published.into_iter().filter(|(of, _)| of.name != name && reached(of)).collect();
        let peer = self.peer(n);
        let me = peer.keeper.me;
        peer.keeper = Keeper::new(me, key(me), range(), peer.ring.clone(), false, Rng::new([n; 32]), now);
        peer.keeper.restore_grants(peer.grants.clone(), peer.inherited.clone());
        for (of, (hint, claims)) in heard {
            peer.keeper.heard_hint(of, Some(&hint)).unwrap();
            claims.into_iter().for_each(|addr| hear_claim(&mut peer.keeper, of, addr, true));
        }
        self.link_all();
    }

    /// Sends each open request of a peer once a second; false when there was nothing new to send.
    fn request(&mut self, from: PeerName) -> bool {
        let (me, owned) = (self.peers[&from].keeper.me, self.peers[&from].keeper.owned());
        let before = self.requests.len();
        for (want, to) in self.peers[&from].keeper.requests() {
            let request = (Some(self.now), from, want, to);
            if self.requests.contains(&request) {
                continue;
            }
            let id = self.requests.len() as u64;
            self.requests.push(request);
            let linked = !self.cut.contains(&to) && !self.cut.contains(&from);
            if let Some(peer) = self.peers.get_mut(&to).filter(|_| linked) {
                peer.keeper.requested(me, id, Request { want, owned });
            }
        }
        self.requests.len() > before
    }

    fn each(&mut self, peers: &[PeerName], then: impl Fn(&mut Keeper)) {
        for peer in peers {
            then(&mut self.peers.get_mut(peer).unwrap().keeper);
        }
    }

    fn later(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now = self.now + Duration::from_secs(1);
            self.settle();
        }
    }

    /// What every peer owns, by its own view.
    fn owned(&self) -> Vec<u64> {
        self.peers.values().map(|peer| peer.keeper.owned()).collect()
    }
}

fn hear_claim(keeper: &mut Keeper, of: PeerId, addr: Ipv4Addr, held: bool) {
    if !held {
        keeper.claim_gone(of, addr);
    }
    keeper.claims_mut().received(of.name, addr, held);
}

fn ring(peers: &[PeerId]) -> Ring {
    Ring::from_origin(range(), peers).unwrap()
}

fn two_and_a_guest() -> Network {
    let shared = ring(&[id(1), id(2)]);
    let mut network = Network::new(&[(id(1), Some(shared.clone())), (id(2), Some(shared)), (id(3), None)]);
    network.link_all();
    network.settle();
    network
}

#[test]
fn who_has_no_ring_adopts_one_and_who_has_no_space_is_given_some() {
    let mut network = two_and_a_guest();
    assert_eq!(network.owned(), [128, 128, 0]);
    let need = Need::Space(range());
    network.peer(3).needs.insert(need);
    network.settle();
    let owned = network.owned();
    assert!(owned[2] == 64 && owned.iter().sum::<u64>() == 256, "{owned:?}");
    network.peer(3).needs.clear();
    network.settle();
    let open = network.peer(3).keeper.asking().count();
    assert_eq!(open, 0, "what is not needed is not asked for");
}

#[test]
fn a_fixed_address_comes_from_its_owner_and_not_when_it_is_in_use() {
    let mut network = two_and_a_guest();
    let (free, used) = (Ipv4Addr::new(10, 0, 0, 7), Ipv4Addr::new(10, 0, 0, 8));
    let held = Reservation::of(vec![net("10.0.0.8/24")], 0);
    network.peer(1).allocator.set("web", held);
    network.peer(3).needs = BTreeSet::from([Need::Address(free), Need::Address(used)]);
    network.settle();
    let ring = network.peer(3).keeper.ring().unwrap().clone();
    assert_eq!((ring.owner_of(free), ring.owner_of(used)), (Some(id(3)), Some(id(1))));
    let denied = &network.peer(3).denied;
    assert!(
        denied.iter().any(|(need, why)| *need == Need::Address(used) && why.contains("in use by web")),
        "{denied:?}"
    );
    assert!(!denied.iter().any(|(need, _)| *need == Need::Address(free)));
}

#[test]
fn a_question_to_one_that_is_cut_off_goes_to_another_and_is_answered_late() {
    let mut network = two_and_a_guest();
    network.cut.insert(id(1).name);
    network.peer(3).needs.insert(Need::Space(range()));
    network.later(5);
    assert_eq!(network.owned(), [128, 64, 64]);
    // An address of the one that is cut off waits for it.
    network.peer(3).needs = BTreeSet::from([Need::Address(Ipv4Addr::new(10, 0, 0, 7))]);
    network.later(20);
    assert_eq!(network.owned()[0], 128);
    network.cut.clear();
    network.link_all();
    network.later(5);
    assert_eq!(network.owned().iter().sum::<u64>(), 256);
    assert_eq!(network.owned()[0], 127);
}

#[test]
fn rings_that_differed_while_apart_are_one_again() {
    let mut network = two_and_a_guest();
    network.cut.insert(id(2).name);
    network.peer(3).needs.insert(Need::Space(range()));
    network.later(5);
    network.peer(3).needs.clear();
    assert_ne!(network.ring(1), network.ring(2));
    network.cut.clear();
    // No link came or went: the comparison finds it.
    network.later(60);
    assert_eq!(network.ring(1), network.ring(2));
    assert_eq!(network.ring(1), network.ring(3));
}

#[test]
fn networks_divided_apart_keep_their_rings_and_say_so() {
    let mut network = Network::new(&[(id(1), Some(ring(&[id(1)]))), (id(2), Some(ring(&[id(2)])))]);
    network.link_all();
    network.settle();
    for n in 1..=2 {
        let conflicts: Vec<&String> = network.peers[&id(n).name].keeper.conflicts().collect();
        assert!(conflicts.len() == 1 && conflicts[0].contains("seeded by different peers"), "{conflicts:?}");
        assert!(conflicts[0].contains("`reset`"), "the way out is told: {conflicts:?}");
    }
    assert_eq!(network.owned(), [256, 256]);
}

#[test]
fn a_new_store_of_a_seed_claims_its_share_when_it_knows_that_it_may() {
    let seeds = Ring::from_seeds(range(), &[id(1).name, id(2).name]).unwrap();
    let mut network = Network::new(&[(id(1), Some(seeds.clone()))]);
    network.settle();
    assert_eq!(network.owned(), [128], "nobody could be asked");
    network.add(id(2), Some(seeds), false);
    network.settle();
    assert_eq!(network.owned(), [128, 0]);
    assert!(matches!(network.peer(2).keeper.access(), Access::Waiting(why) if why.contains("this store is new")));
    network.link_all();
    network.settle();
    assert_eq!(network.owned(), [128, 128]);
    assert!(matches!(network.peer(2).keeper.access(), Access::Ring(_)));
}

#[test]
fn a_peer_that_lost_its_store_has_again_what_it_did_not_give_away() {
    let mut network = two_and_a_guest();
    network.cut.insert(id(2).name);
    network.peer(3).needs.insert(Need::Space(range()));
    network.later(5);
    network.peer(3).needs.clear();
    network.cut.clear();
    network.later(60);
    assert_eq!(network.owned(), [64, 128, 64]);
    network.add(store(1, 77), None, false);
    network.link_all();
    network.settle();
    assert_eq!(network.owned(), [64, 128, 64]);
    let ring = network.peer(1).ring.clone().unwrap();
    assert!(ring.is_removed(id(1)) && ring.owned(store(1, 77)) == 64);
    assert!(network.peer(1).log.iter().any(|line| line.contains("before its store was lost")));
}

#[test]
fn whoever_is_taken_over_from_learns_it_and_gives_nothing_any_more() {
    let mut network = two_and_a_guest();
    network.cut.insert(id(1).name);
    assert_eq!(network.peer(2).keeper.remove(&BTreeSet::from([id(1)]), id(2)), 128);
    network.settle();
    network.cut.clear();
    network.link_all();
    network.settle();
    assert_eq!(network.owned(), [0, 256, 0]);
    assert!(network.peer(1).keeper.removed());
    assert!(matches!(network.peer(1).keeper.access(), Access::Removed));
    assert!(network.peer(1).log.iter().any(|line| line.contains("removed from the network")));
}

#[test]
fn all_who_remove_a_peer_at_once_choose_one_successor() {
    let shared = ring(&[id(1), id(2), id(3)]);
    let mut network = Network::new(&[1, 2, 3].map(|n| (id(n), Some(shared.clone()))));
    network.link_all();
    network.settle();
    network.cut.insert(id(1).name);
    let gone = |peer: PeerName| peer != id(1).name;
    for n in [2, 3] {
        let peers = Peers { reached: &gone, alive: &|_| false };
        let heir = network.peer(n).keeper.successor(peers);
        assert_eq!(heir, id(2));
        network.peer(n).keeper.remove(&BTreeSet::from([id(1)]), heir);
        let owned = network.owned();
        assert!(owned[1] + owned[2] <= 256, "in no view twice: {owned:?}");
    }
    network.settle();
    assert_eq!(network.ring(2), network.ring(3));
    assert_eq!(network.owned()[1..].iter().sum::<u64>(), 256);
}

#[test]
fn a_neighbour_that_tells_many_rings_is_heard_at_a_bounded_rate() {
    let mut network = two_and_a_guest();
    let keeper = &mut network.peer(1).keeper;
    let heard = |keeper: &mut Keeper, now| (0..1000).filter(|_| keeper.grants(id(2).name, now)).count();
    let at = |seconds| Instant::default() + Duration::from_secs(seconds);
    assert_eq!(heard(keeper, at(1)), RINGS_MAX as usize);
    assert_eq!(heard(keeper, at(2)), RINGS_RATE as usize);
    assert!(keeper.grants(id(3).name, at(2)), "others are heard");
}

#[test]
fn peer_without_targets_has_not_caught_up() {
    let [me, other] = [1, 2].map(id);
    let keeper = |owners: &[PeerId]| {
        let ring = Ring::from_origin(range(), owners).unwrap();
        Keeper::new(me, key(me), range(), Some(ring), true, Rng::new([1; 32]), Instant::default())
    };
    let shared = keeper(&[me, other]);
    assert!(shared.has_heard() && !shared.has_caught_up(), "the other may have removed it");
    assert!(keeper(&[me]).has_caught_up(), "there is nobody else");
}
