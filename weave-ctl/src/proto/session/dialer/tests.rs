//! Attempts come when due, pause longer after each failure, and rest while the peer is connected.

use super::*;
use crate::proto::{
    fixture::{name, record},
    session::tests::Known,
    wire::entry::PeerRecord,
};

fn at(millis: u64) -> Instant {
    Instant::from_start(Duration::from_millis(millis))
}

fn target(text: &str) -> Target {
    text.parse().unwrap()
}

struct Rig {
    dialer: Dialer,
    known: Known,
}

impl Rig {
    fn new(targets: &[&str]) -> Self {
        let mut dialer = Dialer::new(name(1), 200, Rng::new([0; 32]));
        dialer.around.wanted = 10;
        dialer.set_targets(targets.iter().map(|t| target(t)).collect(), at(0));
        Self { dialer, known: Known::default() }
    }

    /// This peer, number 1, knows peers 2 to `count`; peer 2, to which it has a session, reaches them all.
    fn knowing(count: u8) -> Self {
        let mut rig = Self::new(&[]);
        for n in 1..=count {
            rig.known.add(record(n, 1, &[]));
            rig.known.reached.insert(name(n));
        }
        rig.dialer.around.connected.insert(name(2));
        rig
    }

    fn due(&mut self, now: Instant) -> Vec<(DialId, Target)> {
        self.dialer.due(&self.known, now)
    }

    fn next(&self) -> Option<Instant> {
        self.dialer.poll_timeout(&self.known)
    }

    /// Number 3 answers, and then says that it has no room; others lead there, or none do.
    fn no_room(&mut self, dial: DialId, reached: bool, now: Instant) {
        let session = SessionId(dial.0);
        self.dialer.opened(dial, session);
        self.dialer.identified(session, name(3), now);
        let full = SessionEnd { reached, ..end(Duration::from_millis(2), "no room") };
        self.dialer.closed(session, Some(name(3)), &full, now);
    }
}

fn end(lived: Duration, reason: &str) -> SessionEnd<'_> {
    SessionEnd { lived, reached: false, reason }
}

#[test]
fn a_new_target_is_dialled_at_once_and_only_once() {
    let mut rig = Rig::new(&["a"]);
    assert_eq!(rig.due(at(0)), [(DialId(0), target("a"))]);
    assert_eq!(rig.due(at(100_000)), []);
}

#[test]
fn pauses_grow_to_the_bound_and_are_kept() {
    let mut rig = Rig::new(&["a"]);
    let mut now = at(0);
    let mut pauses = Vec::new();
    for _ in 0..30 {
        let dials = rig.due(now);
        assert_eq!(dials.len(), 1);
        rig.dialer.failed(dials[0].0, "refused", now);
        assert_eq!(rig.due(now), []);
        let next = rig.next().unwrap();
        pauses.push(next.since(now));
        now = next;
    }
    assert!(pauses[0] <= CONNECT_RETRY_MIN * 3 / 2);
    assert!(pauses.iter().all(|p| *p >= CONNECT_RETRY_MIN / 2 && *p <= CONNECT_RETRY_MAX * 3 / 2), "{pauses:?}");
    assert!(pauses[29] >= CONNECT_RETRY_MAX / 2);
}

#[test]
fn a_target_rests_while_its_peer_has_any_session() {
    let mut rig = Rig::new(&["a"]);
    let (dial, _) = rig.due(at(0))[0].clone();
    rig.dialer.opened(dial, SessionId(1));
    rig.dialer.identified(SessionId(1), name(2), at(0));
    // The session was the duplicate of another one that stays.
    rig.dialer.around.connected.insert(name(2));
    rig.dialer.closed(SessionId(1), None, &end(Duration::ZERO, "duplicate"), at(10));
    assert_eq!(rig.due(at(1_000_000)), []);
    assert_eq!(rig.next(), None);
    // The other one goes too.
    rig.dialer.around.connected.clear();
    rig.dialer.closed(SessionId(7), Some(name(2)), &end(STABLE_AFTER, "gone"), at(1_000_000));
    assert_eq!(rig.due(at(1_001_000)).len(), 1);
}

#[test]
fn a_peer_that_is_also_a_target_keeps_its_back_off() {
    let mut rig = Rig::knowing(3);
    rig.dialer.set_targets(vec![target("a")], at(0));
    rig.dialer.look(at(0));
    let mut attempts = Vec::new();
    while let Some(now) = rig.next().filter(|now| *now < at(600_000)) {
        for (dial, _) in rig.due(now) {
            rig.no_room(dial, false, now);
            attempts.push(now);
        }
    }
    let late = attempts.iter().filter(|now| **now >= at(300_000)).count();
    assert!((4..=30).contains(&late), "{late} attempts in five minutes, by two entries");
}

#[test]
fn a_lost_peer_is_dialled_soon_however_often_it_refused() {
    let mut rig = Rig::new(&["a", "b"]);
    let mut now = at(0);
    for _ in 0..40 {
        now = rig.next().unwrap();
        for (dial, target) in rig.due(now) {
            let session = SessionId(dial.0);
            rig.dialer.opened(dial, session);
            rig.dialer.identified(session, name(if target.host == "a" { 2 } else { 3 }), now);
            rig.dialer.closed(session, None, &end(Duration::ZERO, "no room"), now);
        }
    }
    let soon = now + CONNECT_RETRY_MIN * 3 / 2;
    assert!(rig.next().is_some_and(|at| at > soon), "both wait for long");
    rig.dialer.lost(&BTreeSet::from([name(2)]), now);
    let dials = rig.due(soon);
    assert_eq!(dials.into_iter().map(|(_, target)| target).collect::<Vec<_>>(), [target("a")]);
}

#[test]
fn an_own_address_is_given_up_and_a_name_is_not() {
    for (host, again) in [("192.0.2.1", 0), ("all.example", 1)] {
        let mut rig = Rig::new(&[host]);
        let (dial, _) = rig.due(at(0))[0].clone();
        rig.dialer.opened(dial, SessionId(1));
        rig.dialer.ourselves(SessionId(1), "cannot connect to ourself", at(0));
        rig.dialer.closed(SessionId(1), None, &end(Duration::ZERO, "closed"), at(1));
        assert_eq!(rig.due(at(100)), [], "{host}");
        assert_eq!(rig.due(at(1_000_000)).len(), again, "{host}");
    }
}

#[test]
fn a_full_target_is_dialled_rarely_while_it_is_reached() {
    let mut rig = Rig::new(&["a"]);
    let mut attempts = Vec::new();
    while let Some(now) = rig.next().filter(|now| *now < at(10_000_000)) {
        for (dial, _) in rig.due(now) {
            rig.no_room(dial, true, now);
            attempts.push(now);
        }
    }
    let late = attempts.iter().filter(|now| **now >= at(4_000_000)).count();
    assert!((6..=20).contains(&late), "{late} attempts in 6000 s");
    // No other session path leads there any more.
    let now = at(10_000_000);
    rig.dialer.lost(&BTreeSet::from([name(3)]), now);
    assert!(rig.next().is_some_and(|at| at <= now + CONNECT_RETRY_MIN * 3 / 2));
}

#[test]
fn a_peer_is_dialled_at_all_its_addresses_but_our_own() {
    let addrs = [[172, 17, 0, 1], [192, 0, 2, 1], [192, 0, 2, 2], [192, 0, 2, 3]];
    let addrs = addrs.into_iter().map(Ipv4Addr::from).collect();
    let mut rig = Rig::new(&[]);
    rig.known.add(PeerRecord { addrs, ..record(2, 1, &[]) });
    rig.dialer.set_own(vec![Ipv4Addr::new(172, 17, 0, 1)]);
    rig.dialer.look(at(0));
    let mut tried = Vec::new();
    for (session, now) in (1..=3).map(|n| (SessionId(n), at(n * 100_000))) {
        let (dial, target) = rig.due(now).remove(0);
        tried.push(target.to_string());
        rig.dialer.opened(dial, session);
        match session.0 {
            1 => rig.dialer.ourselves(session, "cannot connect to ourself", now),
            2 => rig.dialer.identified(session, name(9), now),
            _ => rig.dialer.identified(session, name(2), now),
        }
    }
    assert_eq!(tried, ["192.0.2.1:6783", "192.0.2.2:6783", "192.0.2.3:6783"]);
    assert!(rig.due(at(10_000_000)).is_empty(), "found");
}

#[test]
fn as_many_peers_are_dialled_as_sessions_are_wanted() {
    let mut rig = Rig::knowing(40);
    rig.dialer.around.wanted = 5;
    rig.dialer.look(at(0));
    let first = rig.due(at(1000));
    assert_eq!(first.len(), 4, "one session is there");
    assert!(first.iter().all(|(_, target)| target.to_string() != "192.0.2.1:6783"), "this peer itself");
    assert!(rig.due(at(1001)).is_empty(), "those are under way");
    // They all refuse: others are looked for, and those again after their pause.
    for (dial, _) in &first {
        rig.dialer.failed(*dial, "no", at(1002));
    }
    let next = rig.next().expect("it goes on");
    assert!(next > at(1002));
    let more: BTreeSet<Target> = rig.due(at(9000)).into_iter().map(|(_, target)| target).collect();
    assert!(more.iter().any(|target| first.iter().all(|(_, tried)| tried != target)), "{more:?}");
    // Enough sessions: all the rest wait.
    rig.dialer.around.connected.extend((2..=6).map(name));
    assert_eq!(rig.due(at(20_000)), []);
    assert_eq!(rig.next(), None);
}

#[test]
fn a_lost_peer_is_dialled_beyond_what_is_wanted() {
    let mut rig = Rig::knowing(4);
    (rig.dialer.around.wanted, rig.dialer.around.limit) = (1, 1);
    rig.dialer.look(at(0));
    assert_eq!(rig.due(at(1000)), []);
    for n in 9..20 {
        rig.known.add(record(n, 1, &[]));
    }
    rig.dialer.look(at(1000));
    assert_eq!(rig.due(at(2000)), [], "that nothing reaches them is not known yet");
    rig.known.lost.insert(name(9));
    rig.dialer.look(at(3000));
    let dials = rig.due(at(4000));
    assert_eq!(dials.iter().map(|(_, target)| target.to_string()).collect::<Vec<_>>(), ["192.0.2.9:6783"]);
}

#[test]
fn a_reached_target_rests_while_there_is_no_room() {
    let mut rig = Rig::knowing(4);
    rig.dialer.set_targets(vec![target("a")], at(0));
    let (dial, _) = rig.due(at(0)).remove(0);
    rig.dialer.opened(dial, SessionId(1));
    rig.dialer.identified(SessionId(1), name(3), at(0));
    rig.dialer.closed(SessionId(1), Some(name(3)), &end(Duration::ZERO, "connection limit reached (1)"), at(1));
    (rig.dialer.around.wanted, rig.dialer.around.limit) = (1, 1);
    assert_eq!(rig.next(), None);
    rig.dialer.around.limit = 2;
    assert!(rig.next().is_some());
}

#[test]
fn forgotten_targets_are_not_dialled() {
    let mut rig = Rig::new(&["a", "b"]);
    rig.dialer.set_targets(vec![target("b")], at(0));
    assert_eq!(rig.due(at(0)), [(DialId(0), target("b"))]);
}

#[test]
fn attempts_at_once_are_bounded() {
    let names: Vec<String> = (0..100).map(|n| format!("h{n}")).collect();
    let mut rig = Rig::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(rig.due(at(0)).len(), DIALS_MAX);
    assert_eq!(rig.due(at(0)).len(), 0);
    assert_eq!(rig.next(), None, "nothing to wake up for until one ends");
    rig.dialer.failed(DialId(0), "no", at(0));
    assert_eq!(rig.due(at(0)).len(), 1);
}

#[test]
fn of_many_lost_peers_a_few_are_dialled_in_turn() {
    let mut rig = Rig::knowing(4);
    (rig.dialer.around.wanted, rig.dialer.around.limit) = (1, 1);
    for n in 9..109 {
        rig.known.add(record(n, 1, &[]));
        rig.known.lost.insert(name(n));
    }
    rig.dialer.look(at(1000));
    let (mut tried, mut most) = (BTreeSet::new(), 0);
    for ms in (2000..40_000).step_by(100) {
        let dials = rig.due(at(ms));
        most = most.max(dials.len());
        for (dial, target) in dials {
            tried.insert(target.to_string());
            rig.dialer.failed(dial, "no answer", at(ms));
        }
        assert!(rig.dialer.entries.len() <= LOST_MAX);
    }
    assert_eq!(most, LOST_MAX);
    assert_eq!(tried.len(), 100);
}
