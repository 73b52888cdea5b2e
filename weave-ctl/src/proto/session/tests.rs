//! Peers are let in: with which version, by which of two sessions, and when there is no room.

mod crossing;
mod targets;

use std::time::Duration;

use super::*;
use crate::proto::{
    fixture::{NOW, id, ip, key, name, raw, record},
    wire::entry::Verify,
};

/// What a test says of the rest of the network.
#[derive(Default)]
pub(super) struct Known {
    pub(super) records: BTreeMap<PeerName, PeerRecord>,
    pub(super) reached: BTreeSet<PeerName>,
    pub(super) lost: BTreeSet<PeerName>,
    /// Reached without this host's sessions.
    pub(super) spare: BTreeSet<PeerName>,
    pub(super) duplicate: Option<String>,
}

impl Known {
    pub(super) fn add(&mut self, record: PeerRecord) {
        self.records.insert(record.name, record);
    }
}

impl Network for Known {
    fn reached(&self, peer: PeerName) -> bool {
        self.reached.contains(&peer)
    }

    fn lost(&self) -> BTreeSet<PeerName> {
        self.lost.clone()
    }

    fn names(&self) -> Box<dyn Iterator<Item = PeerName> + '_> {
        Box::new(self.records.keys().copied())
    }

    fn record(&self, peer: PeerName) -> Option<&PeerRecord> {
        self.records.get(&peer)
    }

    fn duplicate(&self, _: &PeerRecord) -> Option<String> {
        self.duplicate.clone()
    }

    fn spare(&self, peers: &[PeerName]) -> Option<PeerName> {
        peers.iter().copied().find(|peer| self.spare.contains(peer))
    }
}

/// One peer's sessions, and what it knows.
pub(super) struct Peer {
    n: u8,
    pub(super) sessions: Sessions,
    pub(super) known: Known,
}

impl Peer {
    pub(super) fn new(n: u8, conn_limit: usize, discovery: bool, targets: &[u8]) -> Self {
        let targets = targets.iter().map(|n| Target { host: ip(*n).to_string(), port: None }).collect();
        let verifier = Arc::new(Verify);
        let config = SessionsConfig { me: id(n), key: key(n, 0), discovery, conn_limit, targets, verifier };
        Self { n, sessions: Sessions::new(config, Rng::new([n; 32]), NOW), known: Known::default() }
    }

    pub(super) fn open(&mut self, session: SessionId, from: SocketAddr, direction: Direction, now: Instant) {
        let own = raw(&record(self.n, 1, &[]));
        // Both ends of one session have the same binding.
        let binding = [session.0 as u8; 32];
        self.sessions.opened(session, from, direction, binding, &own, now);
    }

    pub(super) fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.sessions.poll_output()).collect()
    }

    /// The sessions, and whether they are past the handshake.
    pub(super) fn states(&self) -> Vec<(SessionId, bool)> {
        self.sessions.sessions.iter().map(|(id, session)| (*id, session.up.is_some())).collect()
    }

    /// Attempts that are due.
    pub(super) fn dials(&mut self, now: Instant) -> Vec<(DialId, Target)> {
        self.sessions.dial(&self.known, self.known.records.len(), now);
        let dials = self.outputs().into_iter().filter_map(|output| match output {
            Output::Dial(dial, target) => Some((dial, target)),
            _ => None,
        });
        dials.collect()
    }
}

/// A handshake of peer `n` on `session`.
fn handshake(n: u8, session: u64, nonce: u64, their: &PeerRecord, dialled: bool) -> Handshake {
    let proof = identity_proof(&key(n, 0), &[session as u8; 32], dialled);
    let (min_version, max_version) = VERSIONS;
    Handshake { min_version, max_version, nonce, entry: raw(their), proof }
}

/// Opens session `n` from peer `n`, and lets its handshake arrive.
fn meet(peer: &mut Peer, n: u8, direction: Direction) {
    let session = SessionId(u64::from(n));
    peer.open(session, (ip(n), 40000).into(), direction, NOW);
    let dialled = direction == Direction::Inbound;
    let bytes = Message::Handshake(Box::new(handshake(n, session.0, 5, &record(n, 1, &[]), dialled))).encode();
    peer.sessions.frame(session, &bytes, &peer.known, NOW);
}

/// Peer 1 with room for two sessions, both taken, by peers 2 and 3, of which it dialled `targets`.
fn full(targets: &[u8]) -> Peer {
    let mut peer = Peer::new(1, 2, false, targets);
    let dials = peer.dials(NOW);
    for n in [2, 3] {
        let dial = dials.iter().find(|(_, target)| target.host == ip(n).to_string());
        meet(&mut peer, n, dial.map_or(Direction::Inbound, |(dial, _)| Direction::Outbound(*dial)));
    }
    assert_eq!(*peer.sessions.connected(), BTreeSet::from([2, 3].map(name)));
    peer
}

#[test]
fn a_spare_session_makes_room_for_an_unreached_peer() {
    for (targets, spared) in [(&[][..], 2), (&[2], 3), (&[3], 2), (&[2, 3], 2)] {
        let mut peer = full(targets);
        peer.known.spare = BTreeSet::from([2, 3].map(name));
        meet(&mut peer, 4, Direction::Inbound);
        let left: BTreeSet<PeerName> = [2, 3, 4].into_iter().filter(|n| *n != spared).map(name).collect();
        assert_eq!(*peer.sessions.connected(), left, "targets {targets:?}");
    }
}

#[test]
fn a_reached_peer_does_not_take_the_place_of_another() {
    let mut peer = full(&[]);
    peer.known.spare = BTreeSet::from([2, 3].map(name));
    peer.known.reached.insert(name(4));
    meet(&mut peer, 4, Direction::Inbound);
    assert_eq!(*peer.sessions.connected(), BTreeSet::from([2, 3].map(name)));
}

#[test]
fn a_peer_without_room_is_told_of_others_and_refused() {
    let mut peer = full(&[]);
    peer.outputs();
    while peer.sessions.poll_event().is_some() {}
    meet(&mut peer, 4, Direction::Inbound);
    let event = peer.sessions.poll_event();
    assert!(matches!(&event, Some(SessionEvent::Full(SessionId(4), entry)) if entry.key.owner == name(4)));
    peer.outputs();
    peer.sessions.refuse_full(SessionId(4), Delta::default(), &peer.known, NOW);
    let outputs = peer.outputs();
    let sent: Vec<_> = outputs
        .iter()
        .filter_map(|output| match output {
            Output::Send(_, bytes) => Message::decode(bytes).ok(),
            _ => None,
        })
        .collect();
    let reason = "connection limit reached (2)".to_owned();
    assert_eq!(sent, [Message::Delta(Delta::default()), Message::Close(reason)]);
    assert!(matches!(outputs.last(), Some(Output::Close(SessionId(4), _))));
}

/// What peer 1 makes of a handshake of peer 2 that offers these versions: none, or why it is refused.
fn negotiated((min_version, max_version): (u16, u16)) -> Option<String> {
    let mut peer = Peer::new(1, 200, false, &[]);
    peer.open(SessionId(1), (ip(2), 40000).into(), Direction::Inbound, NOW);
    peer.outputs();
    let handshake = Handshake { min_version, max_version, ..handshake(2, 1, 5, &record(2, 1, &[]), true) };
    peer.sessions.frame(SessionId(1), &Message::Handshake(Box::new(handshake)).encode(), &peer.known, NOW);
    if peer.sessions.to(name(2)).is_some() {
        return None;
    }
    assert!(peer.states().is_empty() && peer.sessions.poll_event().is_none(), "nothing of it is kept");
    let (mut sent, mut closed) = (None, None);
    for output in peer.outputs() {
        match output {
            Output::Send(_, bytes) => sent = Message::decode(&bytes).ok(),
            Output::Close(_, reason) => closed = Some(reason),
            _ => {}
        }
    }
    let reason = closed.expect("it is closed");
    assert_eq!(sent, Some(Message::Close(reason.clone())), "the other side gets the reason");
    Some(reason)
}

#[test]
fn a_common_version_is_found_or_both_ranges_are_named() {
    assert_eq!(VERSIONS, (4, 4), "what is expected below");
    for theirs in [(0, 4), (4, 4), (1, 7), (0, u16::MAX)] {
        assert_eq!(negotiated(theirs), None, "{theirs:?}");
    }
    // The last one is upside down.
    for (min, max) in [(0, 3), (5, 9), (6, 1)] {
        let text = format!("remote version range [{min},{max}] is incompatible with ours [4,4]: upgrade the older one");
        assert_eq!(negotiated((min, max)), Some(text));
    }
}

#[test]
fn a_handshake_of_another_connection_is_refused() {
    let mut peer = Peer::new(1, 200, false, &[]);
    peer.open(SessionId(1), (ip(2), 40000).into(), Direction::Inbound, NOW);
    let stolen = handshake(2, 9, 5, &record(2, 1, &[]), true);
    peer.sessions.frame(SessionId(1), &Message::Handshake(Box::new(stolen)).encode(), &peer.known, NOW);
    assert!(peer.states().is_empty());
}

#[test]
fn of_two_sessions_the_later_launch_and_then_nonces_decide() {
    for (incarnation, nonce, replaced) in [(1, 0, true), (1, u64::MAX, false), (2, u64::MAX, true), (0, 0, false)] {
        let mut peer = Peer::new(1, 200, false, &[]);
        meet(&mut peer, 2, Direction::Inbound);
        let them = PeerRecord { point: crate::proto::wire::entry::Point(incarnation, 1), ..record(2, 1, &[]) };
        peer.open(SessionId(9), (ip(2), 40001).into(), Direction::Inbound, NOW);
        let session = peer.sessions.sessions.get_mut(&SessionId(9)).expect("a session");
        session.nonce = nonce;
        let second = Message::Handshake(Box::new(handshake(2, 9, nonce, &them, true))).encode();
        peer.sessions.frame(SessionId(9), &second, &peer.known, NOW);
        let kept = if replaced { SessionId(9) } else { SessionId(2) };
        assert_eq!(peer.states(), [(kept, true)], "launch {incarnation}, nonces {nonce}");
    }
}

#[test]
fn a_duplicate_identity_is_refused_and_shown_for_a_while() {
    let mut peer = Peer::new(1, 200, false, &[]);
    peer.known.duplicate = Some("192.0.2.9:6783".to_owned());
    meet(&mut peer, 2, Direction::Inbound);
    assert!(peer.states().is_empty());
    let shown = |after: Duration| peer.sessions.warnings(NOW + after);
    let soon = timers::REFUSAL_SHOWN - Duration::from_millis(1);
    assert!(shown(soon).iter().any(|text| text.contains("192.0.2.9:6783") && text.contains("192.0.2.2:40000")));
    assert!(shown(timers::REFUSAL_SHOWN).is_empty());
}

#[test]
fn an_unreadable_message_ends_a_session_before_the_handshake() {
    let mut peer = Peer::new(1, 200, false, &[]);
    meet(&mut peer, 2, Direction::Inbound);
    peer.sessions.frame(SessionId(2), &[0xff; 9], &peer.known, NOW);
    assert_eq!(peer.states(), [(SessionId(2), true)]);
    assert!(peer.sessions.warnings(NOW).iter().any(|text| text.contains("1 unreadable")));
    peer.open(SessionId(3), (ip(3), 40000).into(), Direction::Inbound, NOW);
    peer.sessions.frame(SessionId(3), &[0xff; 9], &peer.known, NOW);
    assert_eq!(peer.states(), [(SessionId(2), true)]);
}

#[test]
fn a_silent_session_is_closed_and_a_quiet_one_pinged() {
    let mut peer = Peer::new(1, 200, false, &[]);
    meet(&mut peer, 2, Direction::Inbound);
    peer.open(SessionId(3), (ip(3), 40000).into(), Direction::Inbound, NOW);
    peer.outputs();
    let (mut pings, mut closed) = (0, BTreeMap::new());
    while let Some(now) = peer.sessions.poll_timeout(&peer.known).filter(|due| due.since(NOW) < Duration::from_secs(60))
    {
        peer.sessions.handle_timeout(&peer.known, now);
        for output in peer.outputs() {
            match output {
                Output::Send(SessionId(2), _) => pings += 1,
                Output::Close(session, _) => drop(closed.insert(session, now.since(NOW))),
                _ => {}
            }
        }
    }
    assert_eq!(closed, BTreeMap::from([(SessionId(2), timers::HOLD), (SessionId(3), timers::OPEN_WAIT)]));
    assert_eq!(pings, 3);
}
