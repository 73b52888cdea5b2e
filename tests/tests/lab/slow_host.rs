//! A kernel that is slow to answer: traffic, sessions and the API do not wait for it.

use std::{
    collections::BTreeSet,
    fs, thread,
    time::{Duration, Instant},
};

use weave_tests::lab::{
    Host, Lab, Plan, SETTLED,
    cmd::run,
    eventually,
    host::ping,
    load::Load,
    measure::{measured, measured_time},
    plan::weave_ctl,
    slow_netlink::SlowNetlink,
};

/// By how much the kernel's answers are late.
const LATE: Duration = Duration::from_secs(20);
/// How long they are: beyond the longest silence of a session, and one comparison of the kernel's objects.
const LATE_FOR: Duration = Duration::from_secs(45);
/// Longest wait for an answer of the API that does not change the kernel, on a busy machine; 0.1 s is promised. Shorter than
/// all that the kernel is slow in here.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Pairs of veths in the namespace that is deleted.
const PAIRS: usize = 2500;
/// Pairs made by one command.
const BATCH: usize = 500;

/// The sessions of a host as the kernel has them: another session has another port.
fn sessions(host: &Host) -> BTreeSet<String> {
    let net = format!("--net=/run/netns/{}", host.netns());
    let ports = "( sport = :6783 or dport = :6783 )";
    let shown = run(&["nsenter", &net, "ss", "-Htn", "state", "established", ports]).expect("sessions");
    shown.lines().map(|line| line.split_whitespace().skip(2).collect::<Vec<_>>().join(" ")).collect()
}

fn all_sessions(lab: &Lab) -> Vec<BTreeSet<String>> {
    lab.hosts().iter().map(sessions).collect()
}

/// Asks every host what it is asked most, and returns the longest wait for an answer.
fn asked(lab: &Lab) -> Duration {
    let questions = [&["status"][..], &["ps"], &["status", "peers"], &["report"]];
    let answer = |host: &Host, question: &[&str]| {
        let start = Instant::now();
        host.json(question).unwrap_or_else(|e| panic!("{} does not answer: {e:#}", host.netns()));
        start.elapsed()
    };
    let waits = lab.hosts().iter().flat_map(|host| questions.iter().map(|question| answer(host, question)));
    waits.max().unwrap_or_default()
}

/// Underlay devices that have the program.
fn underlay_devices(host: &Host) -> BTreeSet<String> {
    let status = host.json(&["status"]).expect("status");
    let programs = status["dataplane"]["programs"].as_array().expect("programs").clone();
    let program = programs.iter().find(|p| p["name"] == "weave_underlay").expect("the program");
    let names = program["attached_to"].as_array().expect("devices").iter().filter_map(|name| name.as_str());
    names.map(str::to_owned).collect()
}

#[test]
#[ignore = "needs root"]
fn late_netlink_answers_disturb_nobody() {
    let slow = SlowNetlink::of(&weave_ctl()).expect("a relay");
    let lab = Lab::ready(Plan::new("lslate", 2, &slow.program()).containers(1)).expect("a Lab");
    let (all, host) = (lab.addresses().expect("addresses"), lab.host(1));
    let (before, pids) = (all_sessions(&lab), [1, 2].map(|n| lab.host(n).pid().expect("a controller")));
    assert!(before.iter().all(|sessions| sessions.len() == 1), "{before:?}");
    let load = Load::start(&all[0], &all[1]).expect("traffic");
    assert_eq!(slow.held(), 0);

    slow.hold_back(LATE).expect("late");
    let (start, mut worst) = (Instant::now(), Duration::ZERO);
    lab.add_underlay(&[1, 2], 1500).expect("a second underlay");
    let new = host.add_container(2).expect("a container");
    let attach = host.begin(&["attach", &new]).expect("attach");
    while start.elapsed() < LATE_FOR {
        worst = worst.max(asked(&lab));
        assert!(worst < ANSWER_MAX, "an answer took {worst:?}");
        load.goes_on().expect("traffic goes on");
        assert_eq!(all_sessions(&lab), before, "another session {:?} after answers were late", start.elapsed());
        let known = underlay_devices(host).contains("eth1");
        assert!(!known || start.elapsed() >= LATE, "the kernel's messages are not late");
        thread::sleep(Duration::from_millis(500));
    }
    // Nobody waits for ever: it was refused.
    let ended = attach.wait_with_output().expect("attach ended");
    assert!(!ended.status.success(), "an interface was made by a kernel that did not answer");
    assert!(slow.held() > 10, "{} messages were late", slow.held());
    measured_time("answer_while_netlink_is_late", worst);

    slow.hold_back(Duration::ZERO).expect("in time");
    let address = {
        assert!(eventually(SETTLED, || host.attach(&new).is_ok()), "{}", host.log_tail(10));
        host.address(&new).expect("an address")
    };
    assert!(eventually(SETTLED, || ping(&new, all[1].1, 1) && ping(&all[1].0, address, 1)), "the new one is cut off");
    for host in lab.hosts() {
        let known = || underlay_devices(host) == BTreeSet::from(["eth0".to_owned(), "eth1".to_owned()]);
        assert!(eventually(SETTLED, known), "{:?}: {}", underlay_devices(host), host.log_tail(10));
    }
    load.stop_whole().expect("traffic was never disturbed");
    assert_eq!(all_sessions(&lab), before);
    assert_eq!([1, 2].map(|n| lab.host(n).pid().expect("a controller")), pids);
}

/// A namespace of veths that are up and have addresses; the kernel takes long to delete it, under its one lock.
fn crowded_namespace(name: &str) {
    run(&["ip", "netns", "add", name]).expect("a namespace");
    let pair = |n: usize| {
        let (high, low) = (n / 250, n % 250);
        format!(
            "link add a{n} type veth peer name b{n}\nlink set a{n} up\nlink set b{n} up\naddr add 10.{high}.{low}.1/24 dev a{n}\n"
        )
    };
    // In parts: a command has a limit.
    for first in (0..PAIRS).step_by(BATCH) {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), (first..first + BATCH).map(pair).collect::<String>()).expect("written");
        run(&["ip", "-n", name, "-batch", &file.path().to_string_lossy()]).expect("veths");
    }
}

#[test]
#[ignore = "needs root"]
fn alone_deleted_namespace_of_5000_veths_disturbs_nobody() {
    let lab = Lab::ready(Plan::of("lsrtnl", 2).containers(1).alone()).expect("a Lab");
    let crowd = format!("{}-crowd", lab.switch_netns());
    crowded_namespace(&crowd);
    let (all, host) = (lab.addresses().expect("addresses"), lab.host(1));
    let (before, pids) = (all_sessions(&lab), [1, 2].map(|n| lab.host(n).pid().expect("a controller")));
    let new: Vec<String> = (2..=5).map(|n| host.add_container(n).expect("a container")).collect();
    let load = Load::start(&all[0], &all[1]).expect("traffic");

    run(&["ip", "netns", "del", &crowd]).expect("delete");
    let switch = lab.switch_netns();
    // The lock is free again when a change of some device, in whatever namespace, is answered.
    let start = Instant::now();
    let locked = thread::spawn(move || {
        run(&["ip", "-n", &switch, "link", "set", "lo", "mtu", "65000"]).expect("a change");
        start.elapsed()
    });
    let attaches: Vec<_> = new.iter().map(|name| host.begin(&["attach", name]).expect("attach")).collect();
    let mut worst = Duration::ZERO;
    let mut rounds = 0;
    while !locked.is_finished() {
        worst = worst.max(asked(&lab));
        assert_eq!(all_sessions(&lab), before, "another session {:?} after the deletion began", start.elapsed());
        rounds += 1;
    }
    let locked = locked.join().expect("a time");
    measured_time("rtnl_held", locked);
    measured_time("answer_while_rtnl_is_held", worst);
    measured("questions_while_rtnl_is_held", rounds, "rounds");
    assert!(locked > Duration::from_secs(1), "the lock was held for {locked:?} only");
    assert!(worst < ANSWER_MAX, "an answer took {worst:?}, the lock was held for {locked:?}");
    for (name, mut attach) in new.iter().zip(attaches) {
        // What a kernel that did not answer in time makes later is removed again.
        let refused = !attach.wait().expect("attach ended").success();
        let shown = run(&["ip", "-n", name, "-br", "link"]).expect("devices");
        assert!(!refused || !shown.contains("ethwe"), "{name} was refused, and has an interface: {shown}");
    }
    for name in &new {
        assert!(eventually(SETTLED, || host.attach(name).is_ok()), "{}", host.log_tail(10));
        assert!(eventually(SETTLED, || ping(name, all[1].1, 1)), "{name} is cut off");
    }
    load.stop_whole().expect("traffic was never disturbed");
    assert_eq!(all_sessions(&lab), before);
    assert_eq!([1, 2].map(|n| lab.host(n).pid().expect("a controller")), pids);
}
