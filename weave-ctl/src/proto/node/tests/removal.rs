//! `rmpeer` asks first, and what it hears decides.

use super::{super::remove::ASK_FOR, *};

/// A little less than the time for which is asked.
const ALMOST: Duration = Duration::from_millis(2900);

fn refused(answer: Option<Result<u64, String>>) -> String {
    answer.expect("an answer").expect_err("a refusal")
}

#[test]
fn a_peer_with_a_session_is_refused_at_once() {
    let mut net = Net::new(2, &[1, 2]);
    net.connect(1, 2);
    // The handshakes arrive; nothing else is known of each other yet.
    net.deliver();
    net.remove(1, 1, 2, true);
    let why = refused(net.answered());
    assert!(why.contains("is alive: its controller at 192.0.2.2:6783 has a session to this peer"), "{why}");
    assert_eq!(net.at(1).keeper.ring().map(|ring| ring.removed.len()), Some(0));
}

#[test]
fn a_peer_behind_another_is_refused_before_gossip_tells() {
    let mut net = Net::new(4, &[1, 2, 3, 4]);
    net.connect(2, 3);
    net.connect(3, 4);
    net.run(Duration::from_secs(5));
    // Node 1 was just launched: it has one session, and has computed nothing.
    net.connect(1, 2);
    net.deliver();
    net.remove(1, 1, 4, true);
    let why = refused(net.answered());
    let says = ["(host-3) has a session to it", "(host-3) reports a session to it", "(host-4) has a session to it"];
    assert!(says.iter().any(|text| why.contains(text)), "{why}");
}

#[test]
fn a_dead_peer_is_taken_over_from_after_asking() {
    let mut net = Net::new(3, &[1, 2, 3]);
    net.connect(1, 2);
    net.connect(1, 3);
    net.run(Duration::from_secs(5));
    net.kill(3);
    net.run(Duration::from_secs(5));
    net.remove(1, 1, 3, false);
    net.run(ALMOST);
    assert_eq!(net.answered(), None, "it asks");
    net.run(ASK_FOR);
    assert!(net.answered().expect("an answer").expect("taken over") > 0);
    net.run(Duration::from_secs(1));
    assert!(net.at(2).keeper.ring().is_some_and(|ring| ring.removed.contains_key(&id(3))), "others know");
}

#[test]
fn a_peer_whose_kernel_alone_answers_is_refused_unless_forced() {
    let mut net = Net::new(3, &[1, 2, 3]);
    net.connect(1, 2);
    net.connect(1, 3);
    net.answer(&[(1, 2), (1, 3)]);
    net.run(Duration::from_secs(5));
    net.kill(3);
    net.run(Duration::from_secs(5));
    net.remove(1, 1, 3, false);
    net.run(ASK_FOR);
    let why = refused(net.answered());
    assert!(why.contains("its kernel answers at 192.0.2.3:6784") && why.contains("`stop --teardown`"), "{why}");
    // Node 2 has no path to it: node 1 says so.
    net.remove(2, 2, 3, false);
    net.run(ASK_FOR);
    let why = refused(net.answered());
    assert!(why.contains("as 00:00:00:00:00:01(host-1) says"), "{why}");
    net.remove(1, 3, 3, true);
    net.run(ASK_FOR);
    assert!(net.answered().expect("an answer").is_ok());
}

#[test]
fn a_peer_that_returns_while_is_asked_is_refused() {
    let mut net = Net::new(3, &[1, 2, 3]);
    net.connect(1, 2);
    net.connect(1, 3);
    net.run(Duration::from_secs(5));
    net.kill(3);
    net.run(Duration::from_secs(5));
    net.remove(1, 1, 3, true);
    net.run(Duration::from_secs(2));
    net.connect(3, 2);
    net.run(ASK_FOR);
    let why = refused(net.answered());
    assert!(why.contains("is alive"), "{why}");
}

#[test]
fn a_peer_is_refused_whatever_session_comes_up_while_is_asked() {
    for (a, b) in [(1, 2), (2, 1), (1, 3)] {
        let mut net = Net::new(3, &[1, 2, 3]);
        net.connect(2, 3);
        net.run(Duration::from_secs(5));
        // Node 1 was just launched, and has no session yet.
        net.remove(1, 1, 3, true);
        net.run(ALMOST);
        net.connect(a, b);
        net.deliver();
        let why = refused(net.answered());
        assert!(why.contains("is alive"), "{why}");
    }
}

#[test]
fn a_caller_that_goes_away_cancels_its_removal() {
    let mut net = Net::new(2, &[1, 2]);
    net.remove(1, 1, 2, true);
    net.deliver();
    let now = net.now;
    net.at(1).handle_input(Input::RequestGone(RequestId(1)), now);
    net.run(ASK_FOR * 2);
    assert_eq!(net.answered(), None);
    assert_eq!(net.at(1).keeper.ring().map(|ring| ring.removed.len()), Some(0));
}

#[test]
fn a_minority_does_not_take_over_unless_forced() {
    let mut net = Net::new(4, &[1, 2, 3, 4]);
    for (request, force, taken) in [(1, false, false), (2, true, true)] {
        net.remove(1, request, 2, force);
        net.run(ASK_FOR);
        assert_eq!(net.answered().expect("an answer").is_ok(), taken);
    }
}

#[test]
fn removals_under_way_are_bounded() {
    let mut net = Net::new(2, &[1, 2]);
    (0..20).for_each(|request| net.remove(1, request, 2, true));
    net.deliver();
    assert_eq!(net.replies.len(), 4);
    net.run(ASK_FOR);
    assert_eq!(net.replies.len(), 20, "each caller gets an answer");
}

#[test]
fn a_question_visits_each_peer_once_and_ends() {
    let mut net = Net::new(6, &[1, 2, 3]);
    for (a, b) in [(1, 2), (2, 3), (3, 1), (3, 4), (4, 5), (5, 6), (6, 4)] {
        net.connect(a, b);
    }
    net.run(Duration::from_secs(5));
    for n in 1..=6 {
        while net.at(n).poll_output().is_some() {}
    }
    let now = net.now;
    net.at(1).ask_all(name(99), now);
    net.at(1).pump(now);
    net.deliver();
    assert!(net.nodes[1..].iter().all(|node| node.queries.seen.len() == 1), "all were asked");
}
