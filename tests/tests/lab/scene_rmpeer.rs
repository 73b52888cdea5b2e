//! Scenes: `rmpeer` of a peer that answers anything is refused, whenever it is asked; of a dead one it is done.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use weave_tests::lab::{
    Host, Lab, Plan, SETTLED,
    cmd::text,
    eventually,
    measure::{measured, measured_time, rounds, time_until},
    underlay,
};

/// Milliseconds after a launch at which a removal is asked for first. Most often at once: what a host knows of another is
/// least settled then.
const MOMENTS: [u64; 6] = [0, 50, 0, 200, 0, 500];
/// For so long after a launch it is asked for again and again.
const ASKED: Duration = Duration::from_secs(1);
/// Longest wait until a dead peer can be removed.
const DEAD: Duration = Duration::from_secs(100);

/// Three hosts that are each other's targets.
fn lab(prefix: &str) -> Lab {
    let lab = Lab::new(Plan::of(prefix, 3).containers(1).targets(|n| (1..=3).filter(|m| *m != n).collect()));
    let lab = lab.expect("a Lab");
    lab.launch_all().expect("launch");
    lab.wait_established(SETTLED).expect("sessions");
    lab
}

/// `rmpeer` of host 3 asked at `host`: what it said, and whether it was done.
fn rmpeer(host: &Host, args: &[&str]) -> (bool, String) {
    let output = host.try_weave(&[&["rmpeer"], args].concat()).expect("rmpeer runs");
    let said = text(&output).trim_end().to_owned();
    assert!(matches!(output.status.code(), Some(0 | 1)), "rmpeer ended with {}: {said}", output.status);
    (output.status.success(), said)
}

/// A network without any memory of the former one; host 3 launches last, while the others find each other.
fn renew(lab: &Lab) {
    for host in lab.hosts() {
        host.weave(&["reset", "--force"]).expect("reset");
    }
    (1..=3).for_each(|n| lab.launch_planned(n).expect("launch"));
}

/// Ends and launches the controller of host `n`, by a kill or in order.
fn relaunch(lab: &Lab, n: usize, kill: bool) {
    if kill {
        lab.host(n).kill().expect("kill");
    } else {
        lab.host(n).weave(&["stop"]).expect("stop");
    }
    lab.launch_planned(n).expect("launch again");
}

/// Asks host 1 to remove host 3, from a moment after what `begin` does on, again and again; each time it must be refused.
fn refused_after(prefix: &str, what: &str, begin: impl Fn(&Lab, usize)) {
    let lab = lab(prefix);
    let (mut asked, mut removed) = (0, Vec::new());
    for round in 0..rounds(MOMENTS.len()) {
        begin(&lab, round);
        let start = Instant::now();
        sleep(Duration::from_millis(MOMENTS[round % MOMENTS.len()]));
        while start.elapsed() < ASKED {
            let moment = start.elapsed();
            let (done, said) = rmpeer(lab.host(1), &["::3"]);
            asked += 1;
            if done {
                removed.push(format!("{moment:?} after {what}: {said}"));
                renew(&lab);
                break;
            }
        }
        lab.wait_established(SETTLED).expect("sessions, as nothing was changed");
    }
    measured("rmpeer-of-living-asked", asked, "times");
    measured("rmpeer-of-living-done", removed.len(), "times");
    assert!(removed.is_empty(), "a living peer was removed {} of {asked} times: {removed:#?}", removed.len());
    let (done, said) = rmpeer(lab.host(1), &["::3"]);
    assert!(!done && said.contains("alive") && said.contains("nothing was changed"), "{said}");
}

#[test]
#[ignore = "needs root"]
fn a_peer_that_just_launched_is_not_removed() {
    refused_after("scrnew", "the first launch of all", |lab, _| renew(lab));
}

#[test]
#[ignore = "needs root"]
fn a_peer_that_relaunched_is_not_removed() {
    refused_after("scrfar", "a relaunch of the peer", |lab, round| relaunch(lab, 3, round % 2 == 0));
}

#[test]
#[ignore = "needs root"]
fn a_peer_is_not_removed_by_one_that_relaunched() {
    refused_after("scrnear", "a relaunch of this host", |lab, round| relaunch(lab, 1, round % 2 == 0));
}

#[test]
#[ignore = "needs root"]
fn a_peer_whose_kernel_alone_answers_is_not_removed() {
    let lab = lab("scrkern");
    lab.attach_all().expect("attach");
    lab.wait_direct(SETTLED).expect("direct paths");
    lab.host(3).kill().expect("kill");
    let without = || !lab.host(1).is_linked(3) && !lab.host(2).is_linked(3);
    for moment in [0, 1000, 5000] {
        sleep(Duration::from_millis(moment));
        let (done, said) = rmpeer(lab.host(1), &["::3"]);
        assert!(!done, "{moment} ms after its controller died: {said}");
        if moment == 0 {
            assert!(eventually(SETTLED, without), "{}", lab.host(1).connections_text());
            continue;
        }
        for word in ["stop --teardown", "power", "rmpeer --force", "nothing was changed"] {
            assert!(said.contains(word), "nothing of `{word}`: {said}");
        }
    }
    // The remedy of the text works.
    lab.host(3).weave(&["stop", "--teardown"]).expect("teardown without a controller");
    let took = time_until(DEAD, || rmpeer(lab.host(1), &["::3"]).0);
    measured_time("rmpeer-after-teardown", took.unwrap_or_else(|| panic!("{}", rmpeer(lab.host(1), &["::3"]).1)));
}

#[test]
#[ignore = "needs root"]
fn force_removes_a_peer_whose_kernel_alone_answers() {
    let lab = lab("scrforce");
    lab.host(3).kill().expect("kill");
    // Until all who had a session to it have noticed, more than the kernel seems to answer.
    let mut last = String::new();
    let done = eventually(DEAD, || {
        let (done, said) = rmpeer(lab.host(1), &["--force", "::3"]);
        last = said;
        done
    });
    assert!(done && last.contains("taken over"), "{last}");
}

#[test]
#[ignore = "needs root"]
fn a_dead_host_is_removed() {
    let lab = lab("scrdead");
    lab.lose(3).expect("a host dies");
    let took = time_until(DEAD, || rmpeer(lab.host(1), &["::3"]).0);
    let took = took.unwrap_or_else(|| panic!("{} is dead: {}", underlay(3), rmpeer(lab.host(1), &["::3"]).1));
    measured_time("rmpeer-of-dead", took);
}
