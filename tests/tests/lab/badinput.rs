//! What operators do wrong, on hosts where something works already: each is refused with one sentence and the exit status
//! that belongs to it, and what works goes on.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, UdpSocket},
    path::Path,
};

use redb::{Database, ReadableDatabase as _, TableDefinition};
use weave_common::config::SCHEMA;
use weave_tests::lab::{
    Host, Lab, Plan, SETTLED,
    cmd::{run, text},
    eventually,
    load::Load,
    traffic::within,
    underlay,
    view::peer_name,
};

/// What is in the store's way beside its own schema.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// Hosts 1 and 2 with a container each under load; host 3 has nothing yet.
fn under_load(prefix: &str) -> (Lab, Load) {
    let lab = Lab::new(Plan::of(prefix, 3).containers(1)).expect("a Lab");
    lab.launch(1, &[]).expect("launch");
    lab.launch(2, &[&underlay(1).to_string()]).expect("launch");
    for n in [1, 2] {
        let host = lab.host(n);
        assert!(eventually(SETTLED, || host.established() == 1), "{}", host.connections_text());
        host.attach(&host.container(1)).expect("attach");
    }
    let at = |n: usize| {
        let name = lab.host(n).container(1);
        let address = lab.host(n).address(&name).expect("an address");
        (name, address)
    };
    let load = Load::start(&at(1), &at(2)).expect("traffic");
    (lab, load)
}

/// Refused with `status`, in one sentence that holds all of `words`.
fn refused(host: &Host, args: &[&str], status: i32, words: &[&str]) {
    let said = host.refused(args, status).unwrap_or_else(|e| panic!("{e:#}"));
    let missing: Vec<_> = words.iter().filter(|w| !said.contains(**w)).collect();
    assert!(missing.is_empty(), "`{}` says nothing of {missing:?}: {said}", args.join(" "));
}

/// The devices of a host, which a refused launch must leave as they were.
fn devices(host: &Host) -> String {
    run(&["ip", "-n", host.netns(), "-br", "link"]).expect("devices")
}

/// A first launch of `host` is refused so, and leaves no device, pin or process.
fn launch_refused(host: &Host, args: &[&str], words: &[&str]) {
    let before = devices(host);
    refused(host, &[&["launch"], args].concat(), 1, words);
    assert_eq!(devices(host), before, "the refused launch left devices");
    assert!(host.pid().is_err(), "the refused launch left a process");
    assert!(!host.bpf_dir().join(format!("v{SCHEMA}")).exists(), "the refused launch left pins");
}

/// The reason that `host` shows for not being connected to `address`, once it has one.
fn reason(host: &Host, address: Ipv4Addr, word: &str) -> bool {
    let shows = |c: &serde_json::Value| {
        c["address"].as_str().is_some_and(|a| a.starts_with(&address.to_string()))
            && c["info"].as_str().is_some_and(|info| info.contains(word))
            && (c["state"] == "retrying" || c["state"] == "failed")
    };
    eventually(SETTLED, || host.connections().is_ok_and(|all| all.iter().any(shows)))
}

#[test]
#[ignore = "needs root"]
fn malformed_words_to_a_running_controller() {
    let (lab, load) = under_load("lbword");
    let host = lab.host(1);
    let unknown = host.try_weave(&["status", "--bogus"]).expect("runs");
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown).starts_with("error: unexpected argument '--bogus' found"), "{}", text(&unknown));
    let container = host.container(1);
    for (args, words) in [
        (&["attach", "10.32.0", &container][..], &["is not an address"][..]),
        (&["attach", "10.32.0.1/33", &container], &["is not an address"]),
        (&["attach", "net:10.32.0.1/24", &container], &["is not a subnet"]),
        (&["detach", "10.32.0.256", &container], &["is not an address"]),
        (&["connect", "host:99999"], &["host:99999"]),
        (&["launch", "--name", "host1"], &["host1"]),
        (&["launch", "--ipalloc-range", "10.0.0.1/24"], &["10.0.0.0/24"]),
        (&["launch", "--ipalloc-range", "10.0.0.0/31"], &["too small", "/30"]),
        (&["launch", "--initial-peer-count", "0"], &["number of electors", "\"0\"", "from 1 to"]),
        (&["launch", "--ipalloc-init", "consensus=-1"], &["number of electors", "\"-1\""]),
        (&["launch", "--ipalloc-init", "vote"], &["\"vote\"", "consensus=N", "observer"]),
        (&["launch", "--seed", "::1,host2"], &["host2"]),
        (&["launch", "--seed", "::1,::2,::1"], &["00:00:00:00:00:01 is named twice"]),
    ] {
        refused(host, args, 2, words);
    }
    load.stop_whole().expect("traffic is not disturbed");
}

#[test]
#[ignore = "needs root"]
fn impossible_wishes_to_a_running_controller() {
    let (lab, load) = under_load("lbwish");
    let (host, other) = (lab.host(1), lab.host(2));
    let second = host.add_container(2).expect("a container");
    let taken = host.address(&host.container(1)).expect("an address").to_string();
    let foreign = other.address(&other.container(1)).expect("an address").to_string();
    for (args, words) in [
        (&["attach", "no-such-container"][..], &["no-such-container", "/run/netns"][..]),
        (&["attach", "/etc/passwd"], &["is not a network namespace"]),
        (&["attach", host.netns()], &["the host's own"]),
        (&["attach", "192.168.1.1", &second], &["outside the network's range 10.32.0.0/12", "192.168.1.1/24"]),
        (&["attach", &taken, &second], &[&taken, "already in use by", &host.container(1)]),
        (&["attach", &foreign, &second], &[&foreign, "owned by other peer", "00:00:00:00:00:02", &other.container(1)]),
        (&["attach", "10.32.0.0", &second], &["network or broadcast"]),
        (&["attach", "net:10.0.0.0/24", &second], &["out of bounds"]),
        (&["detach", &second], &["is not attached"]),
        (&["detach", "10.32.9.9", &host.container(1)], &["does not have address 10.32.9.9"]),
        (&["attach", "192.168.1.0/24", &second], &["network or broadcast"]),
        (&["forget", "nobody"], &["nobody is not a target"]),
        (&["rmpeer", "::1"], &["cannot remove itself", "reset", "nothing was changed"]),
        (&["rmpeer", "host-2"], &["00:00:00:00:00:02(host-2) is alive", "reset", "nothing was changed"]),
        (&["rmpeer", "nobody"], &["no peer is called nobody", "status ipam", "nothing was changed"]),
        (&["rmpeer", "::9"], &["00:00:00:00:00:09 owns no addresses", "status ipam", "nothing was changed"]),
        (&["launch"], &["already running"]),
    ] {
        refused(host, args, 1, words);
    }
    assert!(host.ps(&second).expect("ps").is_none(), "a refused container is listed");
    host.attach(&second).expect("after all that, a right wish is granted");
    load.stop_whole().expect("traffic is not disturbed");
}

#[test]
#[ignore = "needs root"]
fn what_a_host_lacks_is_said_and_nothing_is_left() {
    let (lab, load) = under_load("lbhost");
    let host = lab.host(3);
    let everywhere = |port: u16| (Ipv4Addr::UNSPECIFIED, port);
    let tcp = within(host.netns(), || TcpListener::bind(everywhere(6783))).expect("a socket");
    launch_refused(host, &[], &["TCP port 6783", "in use", "--port"]);
    drop(tcp);
    let udp = within(host.netns(), || UdpSocket::bind(everywhere(6784))).expect("a socket");
    launch_refused(host, &[], &["UDP port 6784", "in use", "--port"]);
    drop(udp);
    run(&["ip", "-n", host.netns(), "link", "add", "weave-6784", "type", "bridge"]).expect("a device in the way");
    launch_refused(host, &[], &["weave-6784", "not a VXLAN device"]);
    run(&["ip", "-n", host.netns(), "link", "del", "weave-6784"]).expect("away with it");
    let socket = host.run_dir().join("weave.sock");
    fs::create_dir(&socket).expect("a directory in the way");
    launch_refused(host, &[], &["weave.sock", "is in the way", "remove it"]);
    fs::remove_dir(&socket).expect("away with it");
    let plain = host.with_dirs([&host.run_dir(), &host.state_dir(), &host.run_dir().join("no-bpffs")]);
    launch_refused(&plain, &[], &["is not on a BPF file system", "mount -t bpf"]);
    // UDP port 6783 is nobody's.
    let _other = within(host.netns(), || UdpSocket::bind(everywhere(6783))).expect("a socket");
    lab.launch(3, &[&underlay(1).to_string()]).expect("then it launches");
    assert!(eventually(SETTLED, || host.established() == 2), "{}", host.connections_text());
    load.stop_whole().expect("traffic is not disturbed");
}

#[test]
#[ignore = "needs root"]
fn a_store_that_cannot_be_used_is_refused_and_left_alone() {
    let (lab, load) = under_load("lbstore");
    let host = lab.host(1);
    let store = host.state_dir().join("weave.redb");
    host.weave(&["stop"]).expect("stop");
    let good = fs::read(&store).expect("the store");

    let newer = Database::open(&store).expect("the store opens");
    let change = newer.begin_write().expect("a transaction");
    change.open_table(META).expect("a table").insert("schema", 99).expect("a record");
    change.commit().expect("kept");
    drop(newer);
    refused(host, &["launch"], 1, &["schema 99", "newer weave-ctl"]);
    assert_eq!(schema(&store), 99, "the refused launch changed the store");
    for (damage, words) in [
        (Vec::new(), ["damaged", "it is empty"]),
        (b"not a store at all".repeat(1000), ["damaged", "move the file away"]),
        (good[..good.len() / 2].to_vec(), ["damaged", "move the file away"]),
        (scribbled(&good), ["damaged", "move the file away"]),
    ] {
        fs::write(&store, damage).expect("damage");
        left_alone(host, &store, &words);
    }
    load.goes_on().expect("traffic is not disturbed");
    fs::write(&store, good).expect("a copy put back");
    host.weave(&["launch"]).expect("launch with the store put back");
    lab.host(1).ps(&host.container(1)).expect("ps").expect("the container is known");
    load.stop_whole().expect("traffic is not disturbed");
}

/// A launch is refused with these words, and the store stays as it is, byte for byte.
fn left_alone(host: &Host, store: &Path, words: &[&str]) {
    let before = fs::read(store).expect("the store");
    refused(host, &["launch"], 1, words);
    assert!(fs::read(store).expect("the store") == before, "the refused launch changed the store");
}

fn schema(store: &Path) -> u64 {
    let database = Database::open(store).expect("the store opens");
    let table = database.begin_read().expect("a transaction").open_table(META).expect("a table");
    table.get("schema").expect("a read").expect("a schema").value()
}

/// As after a bad sector: the pages in the middle hold something else.
fn scribbled(good: &[u8]) -> Vec<u8> {
    let mut bad = good.to_vec();
    bad.iter_mut().skip(4096).for_each(|byte| *byte ^= 0x5a);
    bad
}

#[test]
#[ignore = "needs root"]
fn one_controller_at_a_time() {
    let (lab, load) = under_load("lbtwo");
    let host = lab.host(1);
    let pid = host.pid().expect("a controller");
    refused(host, &["launch"], 1, &["already running"]);
    let elsewhere = host.second();
    let dirs = |host: &Host| [host.run_dir(), host.state_dir(), host.bpf_dir()].map(|d| d.display().to_string());
    let ([run_1, state_1, bpf_1], [run_2, state_2, bpf_2]) = (dirs(host), dirs(&elsewhere));
    for (mix, words) in [
        // Another run directory, but the store, or the pins, of the one that runs.
        ([&run_2, &state_1, &bpf_2], [&state_1, "holds"]),
        ([&run_2, &state_2, &bpf_1], [&bpf_1, "holds"]),
        ([&run_2, &state_2, &bpf_2], ["TCP port 6783", "in use"]),
        ([&run_1, &state_2, &bpf_2], ["already running", &run_1]),
    ] {
        let said = host.with_dirs(mix.map(Path::new)).refused(&["launch"], 1).unwrap_or_else(|e| panic!("{e:#}"));
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
    assert_eq!(host.pid().expect("a controller"), pid);
    fs::remove_dir_all(elsewhere.bpf_dir()).ok();
    load.stop_whole().expect("traffic is not disturbed");
}

#[test]
#[ignore = "needs root"]
fn a_relaunch_with_other_parameters_is_refused_with_the_difference() {
    let (lab, load) = under_load("lbdiff");
    let host = lab.host(1);
    host.weave(&["stop"]).expect("stop");
    for (args, words) in [
        (&["--name", "::7"][..], &["00:00:00:00:00:01", "00:00:00:00:00:07"][..]),
        (&["--ipalloc-range", "10.9.0.0/16"], &["range", "10.32.0.0/12", "10.9.0.0/16"]),
        (&["--ipalloc-default-subnet", "10.32.9.0/24"], &["default subnet", "10.32.0.0/12", "10.32.9.0/24"]),
        (&["--seed", "::1,::2"], &["seeds", "00:00:00:00:00:03", "not"]),
    ] {
        let all = [&["launch"], args].concat();
        refused(host, &all, 1, words);
        refused(host, &all, 1, &["nothing was changed", "`reset` first"]);
    }
    load.goes_on().expect("traffic is not disturbed");
    let same = ["launch", "--name", "::1", "--seed", "::3,::2,::1", "--ipalloc-range", "10.32.0.0/12"];
    host.weave(&same).expect("the same parameters, the seeds in another order");
    lab.host(1).ps(&host.container(1)).expect("ps").expect("the container is known");
    load.stop_whole().expect("traffic is not disturbed");
}

#[test]
#[ignore = "needs root"]
fn unreachable_peers_are_tried_again_and_shown_with_the_reason() {
    let (lab, load) = under_load("lbgone");
    let host = lab.host(1);
    let silent = Ipv4Addr::new(192, 168, 77, 200);
    let no_route = Ipv4Addr::new(203, 0, 113, 1);
    let (closed, name) = (underlay(3), "no-such-host.invalid");
    let targets = [silent, no_route, closed].map(|a| a.to_string());
    let mut connect = vec!["connect", name];
    connect.extend(targets.iter().map(String::as_str));
    host.weave(&connect).expect("connect");
    assert!(reason(host, closed, "refused"), "{}", host.connections_text());
    assert!(reason(host, no_route, "unreachable"), "{}", host.connections_text());
    assert!(reason(host, silent, "cannot connect"), "{}", host.connections_text());
    let shown = || host.weave(&["status", "connections"]).unwrap_or_default();
    let resolved =
        || shown().lines().any(|l| l.contains(name) && l.contains("retrying") && l.contains("cannot resolve"));
    assert!(eventually(SETTLED, resolved), "{}", shown());
    assert!(shown().lines().any(|l| l.contains(&targets[2]) && l.contains("next attempt in")), "{}", shown());
    // A launch with nobody to reach succeeds as well.
    lab.launch(3, &[&no_route.to_string()]).expect("launch");
    assert!(reason(lab.host(3), no_route, "unreachable"), "{}", lab.host(3).connections_text());
    // So does a launch again, with all of them in the store: they are targets still, and shown with the reason.
    host.kill().expect("kill");
    let printed = host.weave(&["launch"]).expect("launch again with a target that cannot be resolved");
    assert!(printed.starts_with(&peer_name(1)), "{printed}");
    let listed = host.weave(&["status", "targets"]).expect("status");
    let kept = |target: &str| listed.lines().any(|line| line == target);
    assert!(kept(name) && targets.iter().all(|target| kept(target)), "{listed}");
    assert!(eventually(SETTLED, resolved), "{}", shown());
    let linked = || host.is_linked(2);
    assert!(eventually(SETTLED, linked), "{}", shown());
    load.stop_whole().expect("traffic is not disturbed");
}
