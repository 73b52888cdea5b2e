//! Two peers that dial each other at once: whatever arrives first, both keep the same session and are content with it.

use std::collections::VecDeque;

use super::*;

/// When both dial: by then also discovered peers have been chosen.
const START: Instant = Instant::from_start(Duration::from_secs(2));
/// Longer than any pause before a second attempt.
const AFTERWARDS: Duration = Duration::from_secs(20);

/// One end of a session: the peer, and the session. Both count from zero: session `n` is dialled by peer `n`.
type End = (usize, usize);

const ENDS: [End; 4] = [(0, 0), (0, 1), (1, 0), (1, 1)];

/// Why the peers dial each other.
#[derive(Clone, Copy, Debug)]
enum Found {
    /// The operators named them.
    Named,
    /// They discovered each other.
    Discovered,
}

/// What waits for one end of a session.
enum Waiting {
    Frame(Vec<u8>),
    Closed,
}

/// Peers 1 and 2, and two sessions between them.
struct Pair {
    /// What is tried, for a failure's message.
    case: String,
    peers: [Peer; 2],
    attempts: [DialId; 2],
    /// By peer, and by session.
    waiting: [[VecDeque<Waiting>; 2]; 2],
    /// Attempts after those two.
    dials: usize,
    now: Instant,
}

impl Pair {
    fn new(found: Found, case: String) -> Self {
        let targets = |n| if matches!(found, Found::Named) { vec![n] } else { Vec::new() };
        let discovery = matches!(found, Found::Discovered);
        let mut peers = [Peer::new(1, 200, discovery, &targets(2)), Peer::new(2, 200, discovery, &targets(1))];
        let attempts = [0, 1].map(|at| {
            let (peer, other) = (&mut peers[at], if at == 0 { 2 } else { 1 });
            peer.known.add(record(other, 1, &[]));
            peer.known.reached.insert(name(other));
            peer.sessions.look_for_peers(NOW);
            peer.dials(START).first().expect("an attempt").0
        });
        Self { case, peers, attempts, waiting: Default::default(), dials: 0, now: START }
    }

    /// Both sessions come about, at each peer that of `arrivals` first. The handshakes arrive in that order, and what
    /// follows from one before the next, if `eager`, or after them all.
    fn meet(found: Found, arrivals: [usize; 2], handshakes: [End; 4], eager: bool) -> Self {
        let case = format!("{found:?}, first {arrivals:?}, handshakes {handshakes:?}, eager: {eager}");
        let mut pair = Self::new(found, case);
        for (peer, first) in arrivals.into_iter().enumerate() {
            pair.open((peer, first));
            pair.open((peer, 1 - first));
        }
        for (at, end) in handshakes.into_iter().enumerate() {
            assert!(pair.deliver(end), "a handshake waits: {}", pair.case);
            if eager {
                pair.flush(&handshakes[at + 1..]);
            }
        }
        pair.flush(&[]);
        pair
    }

    fn open(&mut self, (peer, session): End) {
        let other = if peer == 0 { ip(2) } else { ip(1) };
        let (port, direction) = if peer == session {
            (6783, Direction::Outbound(self.attempts[peer]))
        } else {
            (40000, Direction::Inbound)
        };
        self.peers[peer].open(SessionId(session as u64), (other, port).into(), direction, self.now);
        self.collect(peer);
    }

    /// Puts on its way what a peer sends.
    fn collect(&mut self, peer: usize) {
        let Peer { sessions, known, .. } = &mut self.peers[peer];
        while sessions.poll_event().is_some() {}
        sessions.dial(known, known.records.len(), self.now);
        for output in self.peers[peer].outputs() {
            match output {
                Output::Send(session, bytes) => {
                    self.waiting[1 - peer][session.0 as usize].push_back(Waiting::Frame(bytes));
                }
                Output::Close(session, _) => {
                    let session = session.0 as usize;
                    self.waiting[1 - peer][session].push_back(Waiting::Closed);
                    // The shell takes nothing in any more, and says so.
                    self.waiting[peer][session] = VecDeque::from([Waiting::Closed]);
                }
                Output::Dial(..) => self.dials += 1,
                _ => {}
            }
        }
    }

    /// Lets an end take in the first of what waits for it; false when nothing does.
    fn deliver(&mut self, (peer, session): End) -> bool {
        let id = SessionId(session as u64);
        let Some(first) = self.waiting[peer][session].pop_front() else { return false };
        let Peer { sessions, known, .. } = &mut self.peers[peer];
        match first {
            Waiting::Frame(bytes) => sessions.frame(id, &bytes, known, self.now),
            Waiting::Closed => sessions.closed(id, "closed by the peer", known, self.now),
        }
        self.collect(peer);
        true
    }

    /// Lets everything arrive, and what follows from it, but at some ends nothing.
    fn flush(&mut self, but: &[End]) {
        while ENDS.into_iter().filter(|end| !but.contains(end)).any(|end| self.deliver(end)) {}
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let due = self.peers.iter().filter_map(|peer| peer.sessions.poll_timeout(&peer.known)).min();
            let Some(at) = due.filter(|at| *at <= end) else { return };
            self.now = self.now.max(at);
            for peer in [0, 1] {
                let Peer { sessions, known, .. } = &mut self.peers[peer];
                sessions.handle_timeout(known, self.now);
                self.collect(peer);
            }
            self.flush(&[]);
        }
    }
}

/// All orders in which four handshakes can arrive.
fn orders() -> impl Iterator<Item = [End; 4]> {
    let all = (0..256_usize).map(|n| [n / 64, n / 16 % 4, n / 4 % 4, n % 4]);
    let each_once = all.filter(|order| BTreeSet::from(*order).len() == ENDS.len());
    each_once.map(|order| order.map(|end| ENDS[end]))
}

/// All manners in which the peers can meet.
fn meetings(found: Found) -> impl Iterator<Item = Pair> {
    let arrivals = [[0, 0], [0, 1], [1, 0], [1, 1]];
    let all = arrivals.into_iter().flat_map(|arrivals| orders().map(move |handshakes| (arrivals, handshakes)));
    all.flat_map(move |(arrivals, handshakes)| {
        [false, true].into_iter().map(move |eager| Pair::meet(found, arrivals, handshakes, eager))
    })
}

/// Meetings after which a peer dials although there is a session: how many, and the first.
fn dialled_again(found: Found) -> (usize, Option<String>) {
    let mut again = Vec::new();
    for mut pair in meetings(found) {
        pair.run(AFTERWARDS);
        if pair.dials > 0 {
            again.push(pair.case);
        }
    }
    (again.len(), again.into_iter().next())
}

#[test]
fn both_keep_the_same_one_of_two_sessions() {
    for found in [Found::Named, Found::Discovered] {
        let mut kept = BTreeSet::new();
        for pair in meetings(found) {
            let (one, other) = (pair.peers[0].states(), pair.peers[1].states());
            assert!(matches!(one[..], [(_, true)]), "{one:?} are left: {}", pair.case);
            assert_eq!(one, other, "{}", pair.case);
            kept.insert(one[0].0);
        }
        assert_eq!(kept, BTreeSet::from([0, 1].map(SessionId)), "now one, now the other");
    }
}

#[test]
fn connected_peers_that_discovered_each_other_do_not_dial() {
    assert_eq!(dialled_again(Found::Discovered), (0, None));
}

#[test]
fn connected_peers_that_are_targets_do_not_dial() {
    assert_eq!(dialled_again(Found::Named), (0, None));
}
