//! Thousands of peers cost what the rates allow, and no call does more than its share.

use super::{lanes::*, *};

const PEERS: u16 = 5000;

fn peer(n: u16) -> PeerName {
    let [a, b] = n.to_be_bytes();
    PeerName::from_bytes([2, 0, 0, 0, a, b])
}

fn addr(n: u16, which: u8) -> SocketAddrV4 {
    let [a, b] = n.to_be_bytes();
    SocketAddrV4::new(Ipv4Addr::new(10, which, a, b), DATA)
}

/// One host among many that only answer.
struct Crowd {
    one: Paths,
    now: Instant,
    /// When, and to whom.
    asked: Vec<(Instant, PeerName)>,
    alive: bool,
    most_a_call: usize,
}

impl Crowd {
    fn new(addresses: u8) -> Self {
        let now = Instant::from_start(secs(100));
        let mut one = paths(1, cookie(1), 1);
        one.set_mtu(1500, now);
        for n in 0..PEERS {
            let candidates = (0..addresses).map(|which| addr(n, which)).collect();
            one.set_peer(
                peer(n),
                PeerFacts { cookie: u64::from(n), candidates, before: None, probe_port: CONTROL, mtu: 1500 },
                now,
            );
        }
        Self { one, now, asked: Vec::new(), alive: true, most_a_call: 0 }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.one.poll_timeout().filter(|next| *next <= end) {
            // Nobody wakes up for less than a millisecond.
            self.now = self.now.max(next);
            self.one.handle_timeout(self.now);
            assert!(self.one.poll_timeout().is_none_or(|at| at > self.now), "spins");
            self.most_a_call = self.most_a_call.max(self.one.probes.len());
            while let Some((_, bytes)) = self.one.poll_probe() {
                let question = Probe::decode(&bytes).unwrap();
                self.asked.push((self.now, question.receiver));
                if self.alive {
                    let (sender, receiver, length) = (question.receiver, question.sender, probe::outer_len(&bytes));
                    let answer = Probe { kind: Kind::Reply, sender, receiver, length, ..question };
                    self.one.probe(addr(0, 0), &answer.encode(), self.now + millis(3));
                }
            }
            while self.one.poll_event().is_some() {}
        }
        self.now = end;
    }

    fn up(&self) -> usize {
        self.one.peers.values().filter(|peer| peer.up().is_some()).count()
    }

    /// Most probes within any `window`.
    fn most_within(&self, window: Duration) -> usize {
        let (mut first, mut most) = (0, 0);
        for (last, (at, _)) in self.asked.iter().enumerate() {
            while self.asked[first].0 + window <= *at {
                first += 1;
            }
            most = most.max(last + 1 - first);
        }
        most
    }
}

/// What a lane may cost in a second, with a turn of `turn` probes under way.
fn rate(cost: Duration, burst: u32, turn: usize) -> usize {
    (Duration::from_secs(1).as_nanos() / cost.as_nanos()) as usize + burst as usize + turn
}

#[test]
fn new_ones_are_asked_at_the_rate_and_idle_ones_by_the_budget() {
    let mut crowd = Crowd::new(1);
    crowd.run(secs(120));
    assert_eq!(crowd.up(), usize::from(PEERS));
    assert!(crowd.one.peers.values().all(|peer| peer.path_mtu() == 1500));
    let allowed = rate(FRESH_COST, FRESH_BURST, 2) + rate(IDLE_COST, IDLE_BURST, 1);
    assert!(crowd.most_within(secs(1)) <= allowed, "{} > {allowed}", crowd.most_within(secs(1)));

    crowd.asked.clear();
    crowd.run(secs(1800));
    assert!(crowd.most_within(secs(1)) <= rate(IDLE_COST, IDLE_BURST, 0), "{}", crowd.most_within(secs(1)));
    let asked: BTreeSet<_> = crowd.asked.iter().map(|(_, peer)| *peer).collect();
    assert_eq!(asked.len(), usize::from(PEERS), "each has its turn");
}

#[test]
fn dead_ones_cost_no_more() {
    let mut crowd = Crowd::new(3);
    crowd.alive = false;
    // Four rounds of three addresses for each.
    crowd.run(secs(600));
    let allowed = rate(FRESH_COST, FRESH_BURST, 3) + rate(IDLE_COST, IDLE_BURST, 3);
    assert!(crowd.most_within(secs(1)) <= allowed);
    crowd.asked.clear();
    crowd.run(secs(1800));
    assert!(crowd.asked.len() <= 1800 * 4 + 3, "{}", crowd.asked.len());
    assert!(crowd.most_within(secs(60)) <= 60 * 4 + 3, "{}", crowd.most_within(secs(60)));
}

#[test]
fn a_few_idle_ones_are_not_asked_more_often_for_that() {
    let mut crowd = Crowd::new(1);
    for n in 5..PEERS {
        crowd.one.remove_peer(peer(n));
    }
    crowd.run(secs(60));
    crowd.asked.clear();
    crowd.run(secs(3000));
    assert!(crowd.asked.len() <= 5 * 101 && crowd.asked.len() > 5 * 90, "{}", crowd.asked.len());
}

#[test]
fn active_ones_do_not_wait_behind_the_crowd() {
    let mut crowd = Crowd::new(1);
    crowd.run(secs(1));
    let late = peer(PEERS - 1);
    let first = crowd.one.peers.iter().find(|(_, peer)| peer.up().is_none()).map(|(name, _)| *name).unwrap();
    for name in [late, first] {
        crowd.one.traffic(&[name], crowd.now);
        crowd.run(millis(50));
        assert!(crowd.one.direct(name).is_some());
    }
}

#[test]
fn all_at_once_is_spread_over_calls() {
    let mut crowd = Crowd::new(16);
    crowd.alive = false;
    let all: Vec<_> = (0..PEERS).map(peer).collect();
    crowd.one.traffic(&all, crowd.now);
    crowd.run(secs(1));
    let turn = TOLD_MAX + HEARD_MAX + 1;
    let bursts = [WATCHED_BURST, FRESH_BURST, IDLE_BURST].into_iter().sum::<u32>() as usize;
    assert!(crowd.most_a_call <= bursts + 3 * turn, "{}", crowd.most_a_call);
    assert!(crowd.most_within(secs(1)) <= rate(WATCHED_COST, WATCHED_BURST, turn));
    // A long sleep does not make up for what was not done.
    (crowd.now, crowd.most_a_call) = (crowd.now + secs(3600), 0);
    crowd.run(secs(1));
    assert!(crowd.most_a_call <= bursts + 3 * turn, "{}", crowd.most_a_call);
}

#[test]
fn hundreds_of_active_ones_are_asked_each_second() {
    let mut crowd = Crowd::new(1);
    let some: Vec<_> = (0..500).map(peer).collect();
    for _ in 0..5 {
        crowd.one.traffic(&some, crowd.now);
        crowd.run(secs(1));
    }
    crowd.asked.clear();
    for _ in 0..8 {
        crowd.one.traffic(&some, crowd.now);
        crowd.run(secs(1));
    }
    for name in some {
        let asked = crowd.asked.iter().filter(|(_, peer)| *peer == name).count();
        // Eight, and its size is verified.
        assert!((7..=10).contains(&asked), "{name}: {asked}");
    }
}

#[test]
fn hosts_that_hear_of_a_new_one_together_do_not_ask_it_together() {
    let now = Instant::from_start(secs(100));
    let first = |seed: u8| {
        let mut one = paths(1, cookie(1), seed);
        one.set_peer(name(2), facts(2), now);
        one.poll_timeout().unwrap().since(now)
    };
    let mut times: Vec<_> = (0..200).map(first).collect();
    times.sort();
    assert!(times[199] < SPREAD && times[100] - times[0] > SPREAD / 4 && times[199] - times[100] > SPREAD / 4);
}
