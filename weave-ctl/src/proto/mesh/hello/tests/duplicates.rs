//! Two peers that dial each other at once: whatever comes first, both keep the same link and are content with it.

use std::collections::VecDeque;

use super::*;

/// When both dial: by then also those have been chosen that were only heard of.
const START: Instant = Instant::from_start(Duration::from_secs(2));
/// Longer than any pause before a second attempt.
const AFTERWARDS: Duration = Duration::from_secs(20);

/// One end of a link: the peer, and the link. Both count from zero: link `n` is dialled by peer `n`.
type End = (usize, usize);

const ENDS: [End; 4] = [(0, 0), (0, 1), (1, 0), (1, 1)];

/// Why the peers dial each other.
#[derive(Clone, Copy, Debug)]
enum Known {
    /// The operators named them.
    Named,
    /// They heard of each other.
    Heard,
}

/// What waits for one end of a link.
enum Waiting {
    Frame(Vec<u8>),
    Closed,
}

/// Peers 1 and 2, and two links between them.
struct Pair {
    /// What is tried, for a failure's message.
    case: String,
    peers: [Mesh; 2],
    attempts: [DialId; 2],
    /// By peer, and by link.
    waiting: [[VecDeque<Waiting>; 2]; 2],
    /// Attempts after those two.
    dials: usize,
    now: Instant,
}

impl Pair {
    fn new(known: Known, case: String) -> Self {
        let mut peers = [mesh(1), mesh(2)];
        let [one, other] = &mut peers;
        let attempts = [attempt(one, 2, known), attempt(other, 1, known)];
        Self { case, peers, attempts, waiting: Default::default(), dials: 0, now: START }
    }

    /// Both links come about, at each peer that of `arrivals` first. The hellos are heard in that order, and what
    /// follows from one before the next, if `eager`, or after them all.
    fn meet(known: Known, arrivals: [usize; 2], hellos: [End; 4], eager: bool) -> Self {
        let case = format!("{known:?}, first {arrivals:?}, hellos {hellos:?}, eager: {eager}");
        let mut pair = Self::new(known, case);
        for (peer, first) in arrivals.into_iter().enumerate() {
            pair.open((peer, first));
            pair.open((peer, 1 - first));
        }
        for (at, end) in hellos.into_iter().enumerate() {
            assert!(pair.deliver(end), "a hello waits: {}", pair.case);
            if eager {
                pair.flush(&hellos[at + 1..]);
            }
        }
        pair.flush(&[]);
        pair
    }

    fn open(&mut self, (peer, link): End) {
        let other = if peer == 0 { ip(2) } else { ip(1) };
        let (port, direction) =
            if peer == link { (6783, Direction::Outbound(self.attempts[peer])) } else { (40000, Direction::Inbound) };
        let binding = [link as u8; 32];
        self.peers[peer].link_opened(LinkId(link as u64), (other, port).into(), direction, binding, self.now);
        self.collect(peer);
    }

    /// Puts on its way what a peer sends.
    fn collect(&mut self, peer: usize) {
        while let Some(output) = self.peers[peer].poll_output() {
            match output {
                Output::Send { link, bytes } => {
                    self.waiting[1 - peer][link.0 as usize].push_back(Waiting::Frame(bytes));
                }
                Output::Close { link, .. } => {
                    let link = link.0 as usize;
                    self.waiting[1 - peer][link].push_back(Waiting::Closed);
                    // The shell takes nothing in any more, and says so.
                    self.waiting[peer][link] = VecDeque::from([Waiting::Closed]);
                }
                Output::Dial { .. } => self.dials += 1,
                _ => {}
            }
        }
    }

    /// Lets an end take in the first of what waits for it; false when nothing does.
    fn deliver(&mut self, (peer, link): End) -> bool {
        let id = LinkId(link as u64);
        match self.waiting[peer][link].pop_front() {
            None => return false,
            Some(Waiting::Frame(bytes)) => self.peers[peer].frame(id, &bytes, self.now),
            Some(Waiting::Closed) => self.peers[peer].link_closed(id, "closed by the peer", self.now),
        }
        self.collect(peer);
        true
    }

    /// Lets everything arrive, and what follows from it, but at some ends nothing.
    fn flush(&mut self, but: &[End]) {
        while ENDS.into_iter().filter(|end| !but.contains(end)).any(|end| self.deliver(end)) {}
    }

    /// Lets `time` pass, in which data ports do not answer.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let due = self.peers.iter().filter_map(Mesh::poll_timeout).map(|(at, _)| at).min();
            let Some(at) = due.filter(|at| *at <= end) else { return };
            self.now = self.now.max(at);
            for peer in [0, 1] {
                self.peers[peer].handle_timeout(self.now);
                self.collect(peer);
            }
            self.flush(&[]);
        }
    }

    /// The links of a peer, and whether they are past the hello.
    fn links(&self, peer: usize) -> Vec<(LinkId, bool)> {
        self.peers[peer].links.iter().map(|(id, link)| (*id, link.up.is_some())).collect()
    }
}

/// Lets a peer dial peer `other`.
fn attempt(peer: &mut Mesh, other: u8, known: Known) -> DialId {
    match known {
        Known::Named => peer.set_targets(vec![Target { host: ip(other).to_string(), port: None }], NOW),
        Known::Heard => {
            peer.discovery = true;
            peer.gossip.store_mut().offer(entry(&record(other, 1, &[])), &|_, _| true);
            peer.look_for_peers(NOW);
        }
    }
    peer.handle_timeout(START);
    let outputs: Vec<Output> = std::iter::from_fn(|| peer.poll_output()).collect();
    let mut dials = outputs.into_iter().filter_map(|output| match output {
        Output::Dial { dial, .. } => Some(dial),
        _ => None,
    });
    dials.next().expect("an attempt")
}

/// All orders in which four hellos can be heard.
fn orders() -> impl Iterator<Item = [End; 4]> {
    let all = (0..256_usize).map(|n| [n / 64, n / 16 % 4, n / 4 % 4, n % 4]);
    let each_once = all.filter(|order| BTreeSet::from(*order).len() == ENDS.len());
    each_once.map(|order| order.map(|end| ENDS[end]))
}

/// All ways in which the peers can meet.
fn meetings(known: Known) -> impl Iterator<Item = Pair> {
    let arrivals = [[0, 0], [0, 1], [1, 0], [1, 1]];
    let ways = arrivals.into_iter().flat_map(|arrivals| orders().map(move |hellos| (arrivals, hellos)));
    ways.flat_map(move |(arrivals, hellos)| {
        [false, true].into_iter().map(move |eager| Pair::meet(known, arrivals, hellos, eager))
    })
}

/// Meetings after which somebody dials although there is a link: how many, and the first.
fn dialled_again(known: Known) -> (usize, Option<String>) {
    let mut again = Vec::new();
    for mut pair in meetings(known) {
        pair.run(AFTERWARDS);
        if pair.dials > 0 {
            again.push(pair.case);
        }
    }
    (again.len(), again.into_iter().next())
}

#[test]
fn both_keep_the_same_one_of_two_links_whatever_comes_first() {
    for known in [Known::Named, Known::Heard] {
        let mut kept = BTreeSet::new();
        for pair in meetings(known) {
            let (one, other) = (pair.links(0), pair.links(1));
            assert!(matches!(one[..], [(_, true)]), "{one:?} are left: {}", pair.case);
            assert_eq!(one, other, "{}", pair.case);
            kept.insert(one[0].0);
        }
        assert_eq!(kept, BTreeSet::from([0, 1].map(LinkId)), "now one, now the other");
    }
}

#[test]
fn peers_that_heard_of_each_other_and_are_linked_do_not_dial_again() {
    assert_eq!(dialled_again(Known::Heard), (0, None));
}

#[test]
fn peers_that_were_named_to_each_other_and_are_linked_do_not_dial_again() {
    assert_eq!(dialled_again(Known::Named), (0, None));
}
