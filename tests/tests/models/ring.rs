//! Peers that share a ring, in every order: the real `Keeper`, `Ring` and `Allocator`, made anew from their store for every
//! step, as after a restart.
//!
//! What a keeper tells may be heard by any other peer at any later time, any number of times, or never; whole rings are
//! compared at any time. What a step changes is durable before it is told: a step that is lost before it is durable is
//! one that was not taken.
//!
//! One peer may be lost; then those who are left may take over from it (`rmpeer`), once they know the same: what it gave
//! and only one of them knows of, the other cannot heed. Nothing of it is heard any more; or, where it is merely cut off
//! and goes on giving, not before all who are left know that it is removed. What it owns itself does not count any more.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard},
};

use ipnet::Ipv4Net;
use stateright::{Model, Property};
use weave_ctl::proto::{
    boot::{Init, LaunchParams},
    io::SessionId,
    ipam::{
        Allocator, Keeper, Ring,
        keeper::{KeeperEvent, Peers},
        ring::Part,
    },
    key::SecretKey,
    name::{PeerId, PeerName, PeerUid},
    reservation::Reservation,
    rng::Rng,
    time::Instant,
    wire::letter::{Reply, Request, Want},
};

use crate::interner::{Interner, Number};

/// What the model may do; see the head of this file.
#[derive(Debug)]
pub(crate) struct Sharers {
    /// What is shared; among the first two at the start, the third has no ring.
    pub(crate) range: Ipv4Net,
    /// Pieces given and handed over in all.
    pub(crate) changes: u8,
    /// Addresses given to containers in all.
    pub(crate) allocations: u8,
    /// What becomes of the first peer.
    pub(crate) loss: Loss,
    /// One store may go back to what it held at the start, which the real one never does.
    pub(crate) forgetful: bool,
    pub(crate) memory: Mutex<Memory>,
}

/// What may become of the first peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    None,
    /// It is gone for good.
    Dead,
    /// It is cut off, goes on, and comes back.
    CutOff,
}

/// Something that a keeper is brought to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Deed {
    /// Answers a question of another.
    Answer(usize, Want),
    /// Hands everything over.
    HandOver(usize),
    /// Hears what another told: a part, or its whole ring.
    Hear(usize, Number, bool),
    /// Takes over from a peer.
    TakeOver(usize),
}

/// What came of it: the ring that is durable then, and the parts that are told after.
type Came = (Option<Number>, Arc<[Number]>);

/// Values that came up, by number, and what came of them.
#[derive(Debug)]
pub(crate) struct Memory {
    rings: Interner<Ring>,
    parts: Interner<Part>,
    came: HashMap<(usize, Option<Number>, u8, Deed), Came>,
    joins: HashMap<(Number, Number), Number>,
    /// Addresses that a peer owns by a ring.
    owned: HashMap<(usize, Number), u8>,
    /// Addresses that a peer could give to a container.
    free: HashMap<(usize, Number, u8), u8>,
}

/// One peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Peer {
    ring: Option<Number>,
    /// Addresses that containers have, a bit each.
    given: u8,
    lost: bool,
}

/// All peers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct State {
    peers: [Peer; 3],
    /// Parts that were told, in order, with who told them.
    told: Vec<(usize, Number)>,
    changes: u8,
    allocations: u8,
    taken_over: bool,
    /// Addresses that the first peer owned when it was lost, a bit each.
    lost: u8,
    forgot: bool,
    /// A peer's ring lost a token, or an epoch went back.
    back: bool,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Does(usize, Deed),
    /// A container is given an address.
    Allocate(usize, u8),
    /// The first peer is lost.
    Lose,
    /// The store is what it was at the start.
    Forgets(usize),
}

fn id(n: usize) -> PeerId {
    let n = u8::try_from(n + 1).expect("three peers");
    PeerId { name: PeerName::from_bytes([0, 0, 0, 0, 0, n]), uid: PeerUid(u128::from(n)) }
}

impl Sharers {
    /// Peers that share `range`.
    pub(crate) fn new(range: &str, changes: u8, allocations: u8) -> Self {
        let range = range.parse().expect("a range");
        let memory = Memory {
            rings: Interner::new(),
            parts: Interner::new(),
            came: HashMap::new(),
            joins: HashMap::new(),
            owned: HashMap::new(),
            free: HashMap::new(),
        };
        Self { range, changes, allocations, loss: Loss::None, forgetful: false, memory: Mutex::new(memory) }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().expect("whoever held it did not panic")
    }

    fn address(&self, n: u8) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.range.network()) + u32::from(n))
    }

    fn addresses(&self) -> impl Iterator<Item = u8> {
        0..(1 << (32 - self.range.prefix_len()))
    }

    fn start(&self) -> Ring {
        Ring::from_origin(self.range, &[id(0), id(1)]).expect("a ring")
    }

    fn keeper(&self, peer: usize, ring: Option<Ring>) -> Keeper {
        Keeper::new(
            id(peer),
            SecretKey::from_bytes([1; 32]),
            self.range,
            ring,
            true,
            Rng::new([0; 32]),
            Instant::default(),
        )
    }

    fn allocator(&self, peer: usize, given: u8) -> Allocator {
        let params = LaunchParams {
            range: self.range,
            default_subnet: self.range,
            seeds: vec![],
            init: Init::Undeclared,
            peers: vec![],
        };
        let addrs = self.addresses().filter(|n| given & 1 << n != 0).map(|n| Ipv4Net::from(self.address(n)));
        let held = |net: Ipv4Net| (net.to_string(), Reservation::of(vec![net], 0));
        Allocator::new(id(peer), &params, addrs.map(held).collect::<BTreeMap<_, _>>())
    }

    /// Addresses that a peer owns by its own view.
    fn owned(&self, memory: &mut Memory, n: usize, peer: &Peer) -> u8 {
        let Some(number) = peer.ring else { return 0 };
        let ring = memory.rings.value(number);
        let own = |addr: &u8| !ring.is_removed(id(n)) && ring.owner_of(self.address(*addr)) == Some(id(n));
        let owned = || self.addresses().filter(own).fold(0, |mask, addr| mask | 1 << addr);
        *memory.owned.entry((n, number)).or_insert_with(owned)
    }

    /// Addresses that a peer could give to a container, as the real code has it.
    fn free(&self, memory: &mut Memory, n: usize, peer: &Peer) -> u8 {
        let Some(number) = peer.ring else { return 0 };
        let ring = memory.rings.value(number);
        let free = || {
            let keeper = self.keeper(n, Some(ring.clone()));
            let allocator = self.allocator(n, peer.given);
            let unused = self.addresses().filter(|addr| peer.given & 1 << addr == 0);
            let may = |addr: &u8| allocator.claim(keeper.access(), "new", self.address(*addr), None).is_ok();
            unused.filter(may).fold(0, |mask, addr| mask | 1 << addr)
        };
        *memory.free.entry((n, number, peer.given)).or_insert_with(free)
    }

    /// The real code's deed.
    fn does(&self, memory: &mut Memory, peer: usize, ring: Option<Number>, given: u8, deed: Deed) -> Came {
        if let Some(came) = memory.came.get(&(peer, ring, given, deed)) {
            return came.clone();
        }
        let mut keeper = self.keeper(peer, ring.map(|ring| memory.rings.value(ring).clone()));
        let allocator = self.allocator(peer, given);
        let peers =
            Peers { reached: &|other| Deed::TakeOver(usize::from(other.bytes()[5]) - 1) != deed, alive: &|_| true };
        match deed {
            Deed::Answer(asker, what) => {
                // It compared its ring with another's at some time.
                keeper.heard_sum(SessionId(0), keeper.ring().map_or(0, Ring::sum));
                // Of a peer that was given nothing by this one since: else it is not given anything.
                let owned = keeper.ring().map_or(0, |ring| ring.owned(id(asker)));
                keeper.requested(id(asker), 1, Request { want: what, owned });
                keeper.turn(&allocator, BTreeSet::new(), peers, Instant::default());
            }
            Deed::HandOver(heir) => {
                keeper.hand_over(id(heir), Instant::default());
                keeper.turn(&allocator, BTreeSet::new(), peers, Instant::default());
                let asked = keeper.requests().contains(&(Want::Willing, id(heir).name));
                assert!(asked, "the heir is asked if it is willing");
                keeper.responded(id(heir).name, Want::Willing, Reply::Done);
                keeper.turn(&allocator, BTreeSet::new(), peers, Instant::default());
            }
            Deed::Hear(from, part, whole) => {
                keeper.heard(SessionId(0), id(from).name, memory.parts.value(part), whole);
            }
            Deed::TakeOver(from) => {
                for other in (0..3).filter(|other| *other != from && *other != peer) {
                    keeper.heard_hint(id(other), None).expect("a hint");
                }
                let heir = keeper.successor(peers);
                keeper.remove(&BTreeSet::from([id(from)]), heir);
            }
        }
        let (mut durable, mut told) = (ring, Vec::new());
        while let Some(event) = keeper.poll_event() {
            match event {
                KeeperEvent::Ring(ring) => durable = Some(memory.rings.number(&ring)),
                KeeperEvent::Tell(part, _) | KeeperEvent::Send(_, part, false) => told.push(memory.parts.number(&part)),
                _ => {}
            }
        }
        let came = (durable, told.into());
        memory.came.insert((peer, ring, given, deed), Came::clone(&came));
        came
    }

    /// True when `peer` is heard, and hears.
    fn linked(&self, memory: &Memory, state: &State, peer: usize) -> bool {
        let knows = |ring: Number| memory.rings.value(ring).is_removed(id(peer));
        let mut left = state.peers.iter().filter(|peer| !peer.lost);
        !state.peers[peer].lost || self.loss == Loss::CutOff && left.all(|left| left.ring.is_some_and(knows))
    }

    fn deeds(&self, memory: &mut Memory, state: &State, n: usize, steps: &mut Vec<Step>) {
        let peer = &state.peers[n];
        let mut add = |deed| steps.push(Step::Does(n, deed));
        let others = || (0..3).filter(move |other| *other != n);
        if self.linked(memory, state, n) {
            for other in others() {
                let ring = state.peers[other].ring.filter(|ring| Some(*ring) != peer.ring);
                if let Some(ring) = ring.filter(|_| self.linked(memory, state, other)) {
                    let whole = memory.rings.value(ring).whole();
                    add(Deed::Hear(other, memory.parts.number(&whole), true));
                }
            }
            for (teller, part) in state.told.iter().filter(|(teller, _)| *teller != n) {
                if self.linked(memory, state, *teller) {
                    add(Deed::Hear(*teller, *part, false));
                }
            }
        }
        if state.changes < self.changes && self.owned(memory, n, peer) != 0 {
            for other in others() {
                add(Deed::Answer(other, Want::Space(self.range)));
                self.addresses().for_each(|addr| add(Deed::Answer(other, Want::Address(self.address(addr)))));
                if peer.given == 0 {
                    add(Deed::HandOver(other));
                }
            }
        }
        let mut left = state.peers.iter().filter(|peer| !peer.lost);
        let one = left.all(|left| left.ring.is_some() && left.ring == peer.ring);
        if state.peers[0].lost && !peer.lost && !state.taken_over && one {
            add(Deed::TakeOver(0));
        }
    }
}

impl Model for Sharers {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let mut state = State::default();
        let start = self.memory().rings.number(&self.start());
        (state.peers[0].ring, state.peers[1].ring) = (Some(start), Some(start));
        vec![state]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        let memory = &mut *self.memory();
        if self.loss != Loss::None && !state.peers[0].lost {
            steps.push(Step::Lose);
        }
        for (n, peer) in state.peers.iter().enumerate() {
            self.deeds(memory, state, n, steps);
            if state.allocations < self.allocations && !peer.lost {
                let free = self.free(memory, n, peer);
                steps.extend(self.addresses().filter(|addr| free & 1 << addr != 0).map(|addr| Step::Allocate(n, addr)));
            }
            if self.forgetful && !state.forgot {
                steps.push(Step::Forgets(n));
            }
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let memory = &mut *self.memory();
        let mut state = state.clone();
        match step {
            Step::Does(n, deed) => {
                let Peer { ring, given, .. } = state.peers[n];
                let (after, told) = self.does(memory, n, ring, given, deed);
                let told: Vec<_> =
                    told.iter().map(|part| (n, *part)).filter(|told| !state.told.contains(told)).collect();
                if after == ring && told.is_empty() {
                    return None;
                }
                if let (Some(before), Some(after)) = (ring, after) {
                    state.back |= !memory.rings.value(after).covers(memory.rings.value(before));
                }
                state.told.extend(told);
                state.told.sort_unstable();
                state.peers[n].ring = after;
                state.changes += u8::from(matches!(deed, Deed::Answer(..) | Deed::HandOver(_)));
                state.taken_over |= matches!(deed, Deed::TakeOver(_));
            }
            Step::Allocate(n, addr) => {
                state.peers[n].given |= 1 << addr;
                state.allocations += 1;
            }
            Step::Lose => {
                state.lost = self.owned(memory, 0, &state.peers[0]);
                let cut_off = self.loss == Loss::CutOff;
                let ring = state.peers[0].ring.filter(|_| cut_off);
                state.peers[0] = Peer { ring, given: 0, lost: true };
                state.told.retain(|(teller, _)| cut_off || *teller != 0);
            }
            Step::Forgets(n) => {
                let start = self.start();
                state.back |= state.peers[n].ring.is_some_and(|ring| !start.covers(memory.rings.value(ring)));
                state.peers[n].ring = Some(memory.rings.number(&start));
                state.forgot = true;
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no address is on two peers", |_, state: &State| {
                apart(state.peers.map(|peer| peer.given))
            }),
            Property::always("no address has two owners by their own views", |model: &Self, state: &State| {
                apart(model.all_owned(state))
            }),
            Property::always("an address that is in use stays its peer's", |model: &Self, state: &State| {
                state.peers.iter().zip(model.all_owned(state)).all(|(peer, owned)| peer.given & !owned == 0)
            }),
            Property::always("rings cover the range", Self::covered),
            Property::always("tokens and epochs never go back", |_, state: &State| !state.back),
            Property::always("peers that told each other all have one ring", Self::join),
            Property::sometimes("who had no ring has an address", |_, state: &State| state.peers[2].given != 0),
            Property::sometimes("all have one ring after all changes", |model: &Self, state: &State| {
                let ring = state.peers[0].ring;
                state.changes == model.changes && ring.is_some() && state.peers.iter().all(|peer| peer.ring == ring)
            }),
            Property::sometimes("what a lost peer owned is in use again", |model: &Self, state: &State| {
                model.loss == Loss::None || state.taken_over && state.peers[1].given & state.lost != 0
            }),
        ]
    }
}

/// True when no bit is in two masks.
fn apart(masks: [u8; 3]) -> bool {
    masks[0] & masks[1] == 0 && (masks[0] | masks[1]) & masks[2] == 0
}

/// Properties.
impl Sharers {
    fn all_owned(&self, state: &State) -> [u8; 3] {
        let memory = &mut *self.memory();
        [0, 1, 2].map(|n| if state.peers[n].lost { 0 } else { self.owned(memory, n, &state.peers[n]) })
    }

    fn covered(&self, state: &State) -> bool {
        let memory = self.memory();
        state.peers.iter().filter_map(|peer| peer.ring).map(|ring| memory.rings.value(ring)).all(|ring| {
            let mut next = u64::from(u32::from(self.range.network()));
            let joined = ring.pieces().all(|(first, last, _)| {
                let here = std::mem::replace(&mut next, u64::from(u32::from(last)) + 1);
                here == u64::from(u32::from(first)) && first <= last
            });
            joined && next == u64::from(u32::from(self.range.broadcast())) + 1
        })
    }

    /// Merging is commutative and associative.
    fn join(&self, state: &State) -> bool {
        let memory = &mut *self.memory();
        let rings: Vec<Number> = state.peers.iter().filter_map(|peer| peer.ring).collect();
        let orders = [[0, 1, 2], [1, 0, 2], [1, 2, 0], [2, 1, 0]];
        let mut all = orders.iter().map(|order| {
            let mut rings = order.iter().filter_map(|n| rings.get(*n).copied());
            let first = rings.next();
            rings.fold(first, |into, from| into.map(|into| memory.join(into, from)))
        });
        let first = all.next().flatten();
        all.all(|ring| ring == first)
    }
}

impl Memory {
    fn join(&mut self, into: Number, from: Number) -> Number {
        if let Some(joined) = self.joins.get(&(into, from)) {
            return *joined;
        }
        let mut ring = self.rings.value(into).clone();
        ring.merge(&self.rings.value(from).whole()).expect("one ring");
        let joined = self.rings.number(&ring);
        self.joins.insert((into, from), joined);
        joined
    }
}
