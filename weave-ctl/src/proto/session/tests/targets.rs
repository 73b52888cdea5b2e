//! What `status` shows of targets and attempts.

use super::*;

#[test]
fn a_target_at_rest_is_shown_as_such_while_others_lead_there() {
    let mut peer = Peer::new(1, 1, false, &[3]);
    let (dial, _) = peer.dials(NOW).remove(0);
    // It answers, and has no room.
    meet(&mut peer, 3, Direction::Outbound(dial));
    let full = Message::Close("connection limit reached (1)".to_owned()).encode();
    peer.sessions.frame(SessionId(3), &full, &peer.known, NOW);
    let shown = |peer: &Peer| {
        let (_, entry, rests) = peer.sessions.dial_entries(&peer.known).remove(0);
        (entry.state.clone(), entry.info.clone(), rests)
    };
    let (state, info, rests) = shown(&peer);
    assert!(matches!(state, DialState::Waiting(_)) && info.ends_with("connection limit reached (1)") && !rests);
    // Another session takes the only place, and leads there.
    meet(&mut peer, 2, Direction::Inbound);
    peer.known.reached.insert(name(3));
    assert!(shown(&peer).2);
}
