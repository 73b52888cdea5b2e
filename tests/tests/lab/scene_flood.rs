//! Scenes: floods on the data port, of garbage, forged answers, first contacts and requests, from strangers and from a
//! peer's address. No path moves, `status` stays, traffic is whole, and the controller works no more than before.

use std::{
    net::Ipv4Addr,
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;
use weave_tests::lab::{
    Everyone, Host, Lab, Plan, SETTLED, eventually,
    flood::{Flood, Probe, VNI_DATA, VNI_PROBE, controller_time, flag, garbage, name, vxlan},
    load::Load,
    measure::measured,
    underlay,
};

/// Datagrams a second.
const RATE: u32 = 20_000;
/// How long a flood lasts, and each look at what the controller costs.
const WHILE: Duration = Duration::from_secs(3);
/// Ten times what a flood may cost: percent of a core.
const COST_MAX: f64 = 100.0;
/// First contacts that the programs pass up in a second, and at once.
const CONTACTS: u64 = 64;
/// Where a flood comes from: a peer's address, which the kernel trusts, and one that nobody knows.
const SOURCES: [(usize, &str); 2] = [(2, "peer"), (4, "stranger")];

/// Hosts 1 to 3 with a container each, host 4 without a controller; traffic between 1 and 2.
fn under_load(prefix: &str) -> (Lab, Load) {
    let lab = Lab::new(Plan::of(prefix, 4).containers(1)).expect("a Lab");
    (1..=3).for_each(|n| lab.launch_planned(n).expect("launch"));
    let three = &lab.hosts()[..3];
    let established = || three.iter().all(|host| host.established() == 2);
    assert!(eventually(SETTLED, established), "{}", lab.host(1).connections_text());
    let all: Vec<(String, Ipv4Addr)> = three
        .iter()
        .map(|host| {
            let container = host.container(1);
            let address = host.attach(&container).expect("attach");
            (container, address)
        })
        .collect();
    Everyone::of(&all).expect("sockets").reach_each_other(SETTLED).expect("everyone");
    // Measured to the end: the size of a path is known a moment after the path is.
    let whole = |path: &&String| path.contains("direct") && !path.ends_with("null");
    let direct = || three.iter().all(|host| paths(host).iter().filter(whole).count() == 2);
    assert!(eventually(SETTLED, direct), "{:?}", three.iter().map(paths).collect::<Vec<_>>());
    let load = Load::start(&all[0], &all[1]).expect("traffic");
    (lab, load)
}

/// Paths to all peers without what is measured anew all the time, and states of all sessions.
fn paths(host: &Host) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let peers = host.json(&["status", "peers"]).expect("status");
    let peers = peers.as_array().expect("peers").clone();
    let paths = peers.iter().map(|peer| {
        let path = &peer["path"];
        format!("{}: {} {} {}", text(&peer["name"]), text(&path["kind"]), path["remote"], path["mtu"])
    });
    let sessions = host.connections().expect("status");
    let sessions = sessions.iter().map(|c| format!("{}: {}", c["peer"]["name"], text(&c["state"])));
    let mut all: Vec<String> = paths.chain(sessions).collect();
    all.sort();
    all
}

/// Percent of a core that the controller uses over [`WHILE`].
fn cost(host: &Host) -> f64 {
    let (before, start) = (controller_time(host).expect("its times"), Instant::now());
    sleep(WHILE);
    let used = controller_time(host).expect("its times") - before;
    100.0 * used.as_secs_f64() / start.elapsed().as_secs_f64()
}

/// One flood on host 1 from each source; nothing changes.
fn flooded(lab: &Lab, load: &Load, what: &str, speech: impl Fn(u64) -> Vec<u8> + Clone + Send + 'static) {
    let host = lab.host(1);
    let usual = cost(host);
    let before: Vec<Vec<String>> = lab.hosts()[..3].iter().map(paths).collect();
    for (source, kind) in SOURCES {
        let flood = Flood::start(lab.host(source).netns(), underlay(1), RATE, speech.clone()).expect("a flood");
        let cost = cost(host);
        // While it lasts, and not only when it is over.
        let during: Vec<Vec<String>> = lab.hosts()[..3].iter().map(paths).collect();
        let sent = flood.stop().expect("a count");
        measured(&format!("flood-{what}-{kind}-cost"), format_args!("{:.1}", cost - usual), "percent");
        measured(&format!("flood-{what}-{kind}-sent"), sent, "packets");
        assert_eq!(during, before, "{what} from a {kind} changed a path or a session");
        assert!(cost - usual < COST_MAX, "{what} from a {kind} costs {cost:.0} % of a core, {usual:.0} % without");
        load.goes_on().expect("traffic goes on");
    }
    let after: Vec<Vec<String>> = lab.hosts()[..3].iter().map(paths).collect();
    assert_eq!(after, before, "{what} changed a path or a session");
}

#[test]
#[ignore = "needs root"]
fn garbage_on_the_data_port_moves_no_path() {
    let (lab, load) = under_load("sclgarb");
    flooded(&lab, &load, "garbage", |n| match n % 4 {
        0 => garbage(n, 64),
        1 => vxlan(VNI_DATA, &garbage(n, 64)),
        2 => vxlan(VNI_PROBE, &garbage(n, 38)),
        _ => vxlan(VNI_PROBE, &garbage(n, (n % 1400) as usize)),
    });
    load.stop_whole().expect("traffic is not disturbed");
}

#[test]
#[ignore = "needs root"]
fn forged_replies_move_no_path() {
    let (lab, load) = under_load("sclfake");
    // In the name of each peer, and of nobody.
    flooded(&lab, &load, "replies", |salt| {
        let origin = name(2 + (salt % 3) as usize);
        Probe { receiver: name(1), origin, flags: flag::REPLY, salt }.bytes()
    });
    load.stop_whole().expect("traffic is not disturbed");
}

#[test]
#[ignore = "needs root"]
fn first_contacts_and_requests_move_no_path() {
    let (lab, load) = under_load("sclreq");
    let (before, start) = (lab.host(1).counter("contact"), Instant::now());
    // From a stranger each is a first contact, from a peer's address a request to be answered.
    flooded(&lab, &load, "requests", |salt| {
        let flags = [0, flag::ANNOUNCE][(salt % 2) as usize];
        Probe { receiver: name(1), origin: name(2 + (salt % 3) as usize), flags, salt }.bytes()
    });
    // However many arrive, the controller sees no more than this.
    let passed = lab.host(1).counter("contact").expect("a counter") - before.expect("a counter");
    let most = CONTACTS * (start.elapsed().as_secs() + 2);
    assert!(passed <= most, "{passed} first contacts were passed up; at most {most} may be");
    measured("flood-requests-passed-up", passed, "packets");
    load.stop_whole().expect("traffic is not disturbed");
}

#[test]
#[ignore = "needs root"]
fn forged_challenges_and_proofs_move_no_path() {
    let (lab, load) = under_load("sclproof");
    flooded(&lab, &load, "proofs", |salt| {
        let flags = [flag::CHALLENGE, flag::PROOF, flag::PROOF | flag::REPLY][(salt % 3) as usize];
        Probe { receiver: name(1), origin: name(2 + (salt % 3) as usize), flags, salt }.bytes()
    });
    load.stop_whole().expect("traffic is not disturbed");
}

#[test]
#[ignore = "needs root"]
fn probes_for_others_move_no_path() {
    let (lab, load) = under_load("sclother");
    // To be relayed to host 3, to host 2 itself, and to nobody.
    flooded(&lab, &load, "relayed", |salt| {
        let receiver = [name(3), name(2), name(99)][(salt % 3) as usize];
        Probe { receiver, origin: name(2), flags: [0, flag::REPLY][(salt / 3 % 2) as usize], salt }.bytes()
    });
    load.stop_whole().expect("traffic is not disturbed");
}
