//! Liveness of one candidate: what counts as an answer, and what as none.

use super::*;

fn at(millis: u64) -> Instant {
    Instant::from_start(Duration::from_millis(millis))
}

fn candidate() -> Candidate {
    let to = "192.168.0.2:6784".parse().unwrap();
    Candidate::new(Target::Direct { to, fixed: false }, Source::Advertised, 7, at(0))
}

fn answer(sent: u64, received: u64) -> ProbeReply {
    let peer = PeerName::from_bytes([0, 0, 0, 0, 0, 2]);
    let size = u16::try_from(size::SMALLEST).unwrap();
    ProbeReply { peer, path_id: 7, sent_at: at(sent), received_at: at(received), size, hops: 0 }
}

#[test]
fn candidate_dies_after_three_unanswered_probes_in_a_row() {
    let mut path = candidate();
    for (sent, dies) in [(0, false), (200, false), (400, true)] {
        path.sent(size::SMALLEST, at(sent));
        assert!(!path.expire(at(sent + 149)), "not before the wait is over");
        assert_eq!(path.expire(at(sent + 150)), dies);
    }
    assert!(path.is_dead());
    path.sent(size::SMALLEST, at(1000));
    assert!(path.reply(&answer(1000, 1010), at(1010)));
    assert!(path.is_answering() && path.missed == 0);
}

#[test]
fn answer_between_losses_keeps_the_candidate_alive() {
    let mut path = candidate();
    for sent in (0..20).map(|n| n * 200) {
        path.sent(size::SMALLEST, at(sent));
        if sent % 600 == 0 {
            assert!(path.reply(&answer(sent, sent + 10), at(sent + 10)));
        }
        assert!(!path.expire(at(sent + 199)));
    }
    assert!(path.is_answering());
}

#[test]
fn late_answer_counts_and_lengthens_the_wait() {
    let mut path = candidate();
    path.sent(size::SMALLEST, at(0));
    path.expire(at(300));
    assert_eq!(path.missed, 1);
    assert!(path.reply(&answer(0, 700), at(700)));
    assert!(path.is_answering());
    assert_eq!(path.wait(), Duration::from_millis(1400));
    assert!(!path.reply(&answer(0, 800), at(800)), "an answer counts once");
}

#[test]
fn padded_probe_that_is_lost_is_no_sign_of_death() {
    let mut path = candidate();
    for n in 0..10 {
        path.sent(1500, at(n * 200));
    }
    assert!(!path.expire(at(4000)));
    assert_eq!(path.missed, 0);
}

#[test]
fn answers_that_were_lost_here_are_no_sign_of_death() {
    let mut path = candidate();
    for n in 0..3 {
        path.sent(size::SMALLEST, at(n * 10));
    }
    path.excuse();
    assert!(!path.expire(at(1000)));
    assert_eq!(path.missed, 0);
}

#[test]
fn candidate_is_steady_after_three_answers_200_ms_apart() {
    let mut path = candidate();
    for (sent, steady) in [(0, false), (10, false), (20, false), (220, true)] {
        path.sent(size::SMALLEST, at(sent));
        path.reply(&answer(sent, sent + 1), at(sent + 1));
        assert_eq!(path.is_steady(), steady, "after {sent} ms");
    }
}

#[test]
fn forged_or_old_answers_change_nothing() {
    let mut path = candidate();
    path.sent(size::SMALLEST, at(0));
    assert!(!path.reply(&answer(5, 10), at(10)), "no probe has that time stamp");
    assert!(!path.reply(&answer(0, 6000), at(6000)), "too late");
    assert_eq!(path.liveness, Liveness::Untested);
}

#[test]
fn probes_under_way_are_bounded() {
    let mut path = candidate();
    for n in 0..1000 {
        path.sent(1500, at(n));
    }
    assert_eq!(path.sent.len(), SENT_MAX);
}
