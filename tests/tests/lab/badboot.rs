//! Networks that operators begin wrongly: each says so in one sentence with the way out, which works, and whatever works
//! already goes on.

use weave_common::config::SCHEMA;
use weave_tests::lab::{Host, Lab, Plan, SETTLED, cmd::run, eventually, host::ping, underlay, view::peer_name};

fn bare(prefix: &str, hosts: usize) -> Lab {
    Lab::new(Plan::of(prefix, hosts).containers(0)).expect("a Lab")
}

fn at(n: usize) -> String {
    underlay(n).to_string()
}

/// `status` says all of `words` of address management, once it has heard of the others.
fn says(host: &Host, words: &[&str]) {
    let told = || host.ipam_state().is_ok_and(|state| words.iter().all(|word| state.contains(word)));
    assert!(eventually(SETTLED, told), "nothing of {words:?} in: {:?}", host.ipam_state());
    let shown = host.weave(&["status"]).expect("status");
    assert!(shown.lines().any(|line| words.iter().all(|word| line.contains(word))), "{shown}");
}

#[test]
#[ignore = "needs root"]
fn more_electors_than_declared_elect_nothing_until_one_observes() {
    let lab = bare("lbcount", 3);
    for n in 1..=3 {
        lab.host(n).launch(&["--initial-peer-count", "2", &at(1)]).expect("launch");
    }
    lab.wait_established(SETTLED).expect("links");
    let mut waiting = lab.host(1).begin_to_give(1, &[]).expect("attach");
    for n in 1..=3 {
        says(lab.host(n), &["3 peers declare that 2 elect", "`reset` some", "--observer"]);
    }
    waiting.waits().expect("no electorate");
    for n in [1, 2, 3] {
        assert_eq!(lab.host(n).owners().expect("status"), [], "nothing is divided");
    }
    // An electorate that was seen is not forgotten by those who saw it: they begin anew.
    waiting.give_up().expect("the caller goes away");
    for n in 1..=3 {
        lab.host(n).weave(&["reset", "--force"]).expect("reset");
    }
    for (n, how) in [(1, &["--initial-peer-count", "2"][..]), (2, &["--initial-peer-count", "2"]), (3, &["--observer"])]
    {
        lab.host(n).launch(&[how, &[&at(1)]].concat()).expect("launch");
    }
    lab.host(3).weave(&["consense"]).expect("the remedy works");
    lab.host(3).give(1, &[]).expect("attach");
}

#[test]
#[ignore = "needs root"]
fn different_counts_and_ranges_do_not_elect_together() {
    let lab = bare("lbapart", 4);
    let range = ["--ipalloc-range", "10.9.0.0/16"];
    lab.host(1).launch(&["--initial-peer-count", "2"]).expect("launch");
    lab.host(2).launch(&["--initial-peer-count", "3", &at(1)]).expect("launch");
    let mut waiting = lab.host(1).begin_to_give(1, &[]).expect("attach");
    says(lab.host(1), &[&peer_name(2), "declares 3 electors, this peer 2", "launch all with the same"]);
    says(lab.host(2), &[&peer_name(1), "declares 2 electors, this peer 3"]);
    waiting.waits().expect("no quorum");
    // The count of one that has no ring yet is no more changed than the ring of one that has.
    lab.host(2).weave(&["stop"]).expect("stop");
    let refused = lab.host(2).refused(&["launch", "--initial-peer-count", "2"], 1).expect("refused");
    assert!(refused.contains("--initial-peer-count 3, not --initial-peer-count 2"), "{refused}");
    lab.host(2).weave(&["reset", "--force"]).expect("reset");
    lab.host(2).launch(&["--initial-peer-count", "2", &at(1)]).expect("launch");
    waiting.granted().expect("the remedy works");

    lab.host(3).launch(&[&range[..], &["--seed", "::3", &at(1)]].concat()).expect("launch");
    lab.host(4).launch(&[&range[..], &["--observer", &at(1)]].concat()).expect("launch");
    for (n, ours) in [(1, "10.32.0.0/12"), (3, "10.9.0.0/16"), (4, "10.9.0.0/16")] {
        let host = lab.host(n);
        let told =
            || host.warnings().is_ok_and(|w| w.contains("Incompatible IP allocation ranges") && w.contains(ours));
        assert!(eventually(SETTLED, told), "host {n}: {:?}", host.warnings());
    }
    for n in [1, 2, 3] {
        lab.host(n).give(2, &[]).expect("both networks go on");
    }
}

#[test]
#[ignore = "needs root"]
fn an_observer_alone_says_whom_it_waits_for() {
    let lab = bare("lbobs", 2);
    let [one, two] = [1, 2].map(|n| lab.host(n));
    one.launch(&["--observer"]).expect("launch");
    says(one, &["no peer that may elect is known", "--initial-peer-count", "--seed"]);
    let mut waiting = one.begin_to_give(1, &[]).expect("attach");
    waiting.waits().expect("nobody elects");
    says(one, &["no peer that may elect is known"]);
    two.launch(&["--initial-peer-count", "1", &at(1)]).expect("launch");
    waiting.granted().expect("the remedy works");
}

#[test]
#[ignore = "needs root"]
fn seeds_that_are_nobody_are_removed_like_the_dead() {
    let lab = bare("lbseed", 1);
    let host = lab.host(1);
    host.launch(&["--seed", "::7,::8"]).expect("launch");
    let mut waiting = host.begin_to_give(1, &[]).expect("attach");
    waiting.waits().expect("nobody gives an address");
    says(host, &["all IP ranges owned by unreachable peers", "rmpeer"]);
    let alone = host.refused(&["rmpeer", "::7"], 1).expect("refused");
    assert!(alone.contains("only 0 of the 1 other peers") && alone.contains("rmpeer --force"), "{alone}");
    host.weave(&["rmpeer", "--force", "::7"]).expect("rmpeer");
    waiting.granted().expect("the remedy works");
}

/// The default range is refused where the host has a route into it; one that somebody chose is warned of.
#[test]
#[ignore = "needs root"]
fn a_range_that_overlaps_a_route_of_the_host() {
    let lab = bare("lbroute", 2);
    let host = lab.host(1);
    let route = |verb: &str, net: &str| {
        run(&["ip", "-n", host.netns(), "route", verb, net, "dev", "eth0"]).expect("a route");
    };
    route("add", "10.33.0.0/16");
    let devices = || run(&["ip", "-n", host.netns(), "-br", "link"]).expect("devices");
    let before = devices();
    let refused = host.refused(&["launch", "--name", "::1"], 1).expect("refused");
    for word in ["default range 10.32.0.0/12", "10.33.0.0/16 dev eth0", "--ipalloc-range", "nothing was changed"] {
        assert!(refused.contains(word), "nothing of {word}: {refused}");
    }
    assert_eq!(devices(), before, "the refused launch left devices");
    assert!(
        host.pid().is_err() && !host.bpf_dir().join(format!("v{SCHEMA}")).exists(),
        "the refused launch left something"
    );

    let said = host.launch(&["--ipalloc-range", "10.32.0.0/12", "--seed", "::1,::2"]).expect("chosen, and so allowed");
    let warned = |text: &str| text.contains("Warning: ") && text.contains("overlaps this host's route 10.33.0.0/16");
    assert!(warned(&said), "{said}");
    assert!(warned(&host.weave(&["status"]).expect("status")));
    let (name, _) = host.give(1, &[]).expect("attach");
    lab.host(2).launch(&["--seed", "::1,::2", &at(1)]).expect("launch");
    let (_, far) = lab.host(2).give(1, &[]).expect("attach");
    assert!(eventually(SETTLED, || ping(&name, far[0], 1)), "{}", host.connections_text());
    // A network that exists starts again, whatever routes came.
    host.kill().expect("kill");
    assert!(warned(&host.weave(&["launch"]).expect("launch")));
    host.weave(&["stop"]).expect("stop");
    route("del", "10.33.0.0/16");
    assert!(!host.weave(&["launch"]).expect("launch").contains("overlaps"));
    // A route beside the range, and the default one, are no matter.
    run(&["ip", "-n", host.netns(), "route", "add", "default", "via", &at(2)]).expect("a route");
    host.weave(&["reset", "--force"]).expect("reset");
    route("add", "10.48.0.0/16");
    assert!(!host.launch(&[]).expect("launch").contains("overlaps"));
}
