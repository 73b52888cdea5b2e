//! What happens to the host under a controller: devices that go, disks that fill up, other networks, and tidying up.

use std::{fs, net::Ipv4Addr, path::Path};

use weave_common::vxlan::OVERHEAD;
use weave_tests::lab::{
    Host, Lab, Plan, SETTLED, cmd::run, eventually, host::ping, load::Load, traffic::tcp, underlay, underlay_on,
};

fn answers(from: &(String, Ipv4Addr), to: &(String, Ipv4Addr)) -> bool {
    ping(&from.0, to.1, 1)
}

fn both_answer(one: &(String, Ipv4Addr), other: &(String, Ipv4Addr)) -> bool {
    answers(one, other) && answers(other, one)
}

fn devices(host: &Host) -> String {
    run(&["ip", "-n", host.netns(), "-br", "link"]).expect("devices")
}

#[test]
#[ignore = "needs root"]
fn traffic_returns_after_the_underlay_was_down() {
    let lab = Lab::ready(Plan::of("lhdown", 3).containers(1)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let host = lab.host(1);
    let (pid, set) = (host.pid().expect("a controller"), |to| {
        run(&["ip", "-n", host.netns(), "link", "set", "eth0", to]).expect("a device");
    });
    for _ in 0..3 {
        set("down");
        assert!(!answers(&all[0], &all[1]), "a host without underlay is reached");
        assert!(both_answer(&all[1], &all[2]), "others are disturbed");
        set("up");
        assert!(eventually(SETTLED, || both_answer(&all[0], &all[1]) && both_answer(&all[0], &all[2])));
    }
    lab.wait_established(SETTLED).expect("links");
    assert_eq!(host.pid().expect("a controller"), pid);
    tcp(&all[0].0, &all[1].0, all[1].1, 1 << 20).expect("TCP");
}

#[test]
#[ignore = "needs root"]
fn traffic_returns_after_the_underlay_was_replaced() {
    let lab = Lab::ready(Plan::of("lhnew", 3).containers(1)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let host = lab.host(1);
    let pid = host.pid().expect("a controller");
    for _ in 0..2 {
        lab.unplug(1, 0).expect("unplug");
        assert!(!answers(&all[0], &all[1]), "a host without underlay is reached");
        assert!(host.weave(&["status"]).is_ok());
        lab.plug(1, 0).expect("plug");
        assert!(eventually(SETTLED, || both_answer(&all[0], &all[1]) && both_answer(&all[0], &all[2])));
        lab.wait_established(SETTLED).expect("links");
    }
    assert_eq!(host.pid().expect("a controller"), pid);
    tcp(&all[1].0, &all[0].0, all[0].1, 1 << 20).expect("TCP");
    let status = host.json(&["status"]).expect("status");
    let programs = status["dataplane"]["programs"].as_array().expect("programs").clone();
    let underlay = programs.iter().find(|p| p["name"] == "weave_underlay").expect("the program");
    assert_eq!(underlay["attached_to"], serde_json::json!(["eth0"]));
}

#[test]
#[ignore = "needs root"]
fn the_underlay_may_be_replaced_while_no_controller_runs() {
    let lab = Lab::ready(Plan::of("lhoff", 2).containers(1)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    lab.host(1).kill().expect("kill");
    lab.unplug(1, 0).expect("unplug");
    lab.plug(1, 0).expect("plug");
    lab.host(1).weave(&["launch"]).expect("launch");
    assert!(eventually(SETTLED, || both_answer(&all[0], &all[1])), "replaced while it was down");
    lab.wait_established(SETTLED).expect("links");
    // What the kernel held already follows later changes, too.
    lab.unplug(1, 0).expect("unplug");
    lab.plug(1, 0).expect("plug");
    assert!(eventually(SETTLED, || both_answer(&all[0], &all[1])), "replaced after a relaunch");
}

#[test]
#[ignore = "needs root"]
fn a_peer_to_which_no_route_leads_yet_is_reached_when_one_does() {
    let lab = Lab::new(Plan::of("lhroute", 3).containers(1)).expect("a Lab");
    // Host 1 knows host 3 from host 2, which has both underlays.
    lab.add_underlay(&[2, 3], 1500).expect("a second underlay");
    lab.unplug(3, 0).expect("no first underlay");
    lab.launch(1, &[]).expect("launch");
    lab.launch(2, &[&underlay(1).to_string()]).expect("launch");
    lab.launch(3, &[&underlay_on(1, 2).to_string()]).expect("launch");
    let knows = || lab.host(1).json(&["status"]).is_ok_and(|s| s["peers"].as_array().is_some_and(|p| p.len() == 3));
    assert!(eventually(SETTLED, knows), "host 1 does not hear of host 3");
    lab.attach_all().expect("attach");
    let all = lab.addresses().expect("addresses");
    assert!(both_answer(&all[0], &all[1]) && both_answer(&all[1], &all[2]));
    lab.plug(1, 1).expect("plug");
    assert!(eventually(SETTLED * 2, || both_answer(&all[0], &all[2])), "{}", lab.host(1).connections_text());
}

#[test]
#[ignore = "needs root"]
fn a_host_that_gets_another_address_is_reached_again() {
    let lab = Lab::ready(Plan::of("lhmove", 3).containers(1)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let host = lab.host(3);
    let address = |verb: &str, n: usize| {
        run(&["ip", "-n", host.netns(), "addr", verb, &format!("{}/24", underlay(n)), "dev", "eth0"])
            .expect("an address");
    };
    address("del", 3);
    address("add", 33);
    assert!(eventually(SETTLED * 2, || both_answer(&all[0], &all[2]) && both_answer(&all[1], &all[2])));
    lab.wait_established(SETTLED).expect("links");
}

#[test]
#[ignore = "needs root"]
fn a_device_that_comes_later_is_used() {
    let lab = Lab::ready(Plan::of("lhlate", 2).containers(1)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    lab.add_underlay(&[1, 2], 1500).expect("a second underlay");
    for n in [1, 2] {
        let peer = underlay_on(1, 3 - n).to_string();
        lab.host(n).weave(&["connect", &peer]).expect("connect");
    }
    // The first is gone for good: the peers find each other by the second.
    for n in [1, 2] {
        lab.unplug(n, 0).expect("unplug");
    }
    assert!(eventually(SETTLED * 2, || both_answer(&all[0], &all[1])), "{}", lab.host(1).connections_text());
    tcp(&all[0].0, &all[1].0, all[1].1, 1 << 20).expect("TCP");
}

#[test]
#[ignore = "needs root"]
fn full_disk_refuses_what_needs_it_and_heals() {
    let lab = Lab::new(Plan::of("lhfull", 2).containers(1)).expect("a Lab");
    let host = lab.host(1);
    let state = host.state_dir();
    fs::create_dir_all(&state).expect("a directory");
    run(&["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", &state.to_string_lossy()]).expect("a small disk");
    lab.launch_all().expect("launch");
    lab.wait_established(SETTLED).expect("links");
    lab.attach_all().expect("attach");
    let (all, pid) = (lab.addresses().expect("addresses"), host.pid().expect("a controller"));
    let load = Load::start(&all[0], &all[1]).expect("traffic");

    // Full to the last byte: the store has a reserve of its own.
    let filler = state.join("filler");
    fill(&filler);
    for n in 2..=19 {
        let name = host.add_container(n).expect("a container");
        host.attach(&name).expect("attach on a full disk");
    }
    load.goes_on().expect("traffic is not disturbed");
    // Relaunched there is no room for the reserve: what adds to the store is refused, and nothing else. A controller that has
    // lost its reserve refuses to add while pages are free: here it is taken away at once, so some are freed.
    for n in 5..=19 {
        host.weave(&["detach", &host.container(n)]).expect("detach on a full disk");
    }
    host.kill().expect("kill");
    let store = state.join("weave.redb");
    let len = fs::metadata(&store).expect("a store").len();
    fs::OpenOptions::new().write(true).open(&store).and_then(|file| file.set_len(len)).expect("no reserve");
    fs::OpenOptions::new().append(true).open(&filler).map(|mut file| fill_more(&mut file)).expect("full again");
    host.weave(&["launch"]).expect("launch");
    lab.wait_established(SETTLED).expect("links");
    let name = host.add_container(21).expect("a container");
    let refused = host.refused(&["attach", &name], 1).expect("refused");
    assert!(
        refused.contains("disk") && refused.contains("full") && refused.contains("nothing was changed"),
        "{refused}"
    );
    let warned = || host.weave(&["status"]).expect("status").contains("attach and connect are refused");
    assert!(warned());
    host.weave(&["detach", &host.container(2)]).expect("detach on a full disk");
    load.goes_on().expect("traffic is not disturbed");

    fs::remove_file(&filler).expect("room again");
    assert!(eventually(SETTLED, || host.attach(&name).is_ok()), "{}", host.log_tail(5));
    assert!(eventually(SETTLED, || !warned()));
    let address = host.address(&name).expect("an address");
    assert!(ping(&name, all[1].1, 2) && ping(&all[1].0, address, 2));
    assert_ne!(host.pid().expect("a controller"), pid, "it was killed once, and ended never");
    load.stop_whole().expect("traffic is not disturbed");
}

/// Fills the disk to the last byte.
fn fill(path: &Path) {
    fill_more(&mut fs::File::create(path).expect("a file"));
}

fn fill_more(file: &mut fs::File) {
    let error = std::io::copy(&mut std::io::repeat(0x55), file).expect_err("the disk has an end");
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
}

/// Nothing of a controller is left in the kernel of the host.
fn kernel_is_clean(host: &Host) {
    let left = || devices(host).lines().any(|l| l.starts_with("wv") || l.starts_with("weave-"));
    assert!(eventually(SETTLED, || !left()), "{}", devices(host));
    assert!(!host.bpf_dir().exists(), "pins stay in {}", host.bpf_dir().display());
    let attached = || {
        let net = format!("--net=/run/netns/{}", host.netns());
        run(&["nsenter", &net, "bpftool", "net", "show"]).expect("bpftool").contains("weave_")
    };
    assert!(eventually(SETTLED, || !attached()), "programs stay attached");
}

/// Runs `verb`, with a controller or without, and looks at what it leaves.
fn tidied_up(prefix: &str, running: bool, verb: &[&str], store_stays: bool) {
    let lab = Lab::ready(Plan::of(prefix, 2)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let host = lab.host(1);
    let uid = |host: &Host| host.json(&["status"]).expect("status")["uid"].as_str().map(str::to_owned);
    let before = uid(host).expect("an id");
    if !running {
        host.kill().expect("kill");
    }
    host.weave(verb).expect("it tidies up");
    assert!(host.pid().is_err(), "a controller still runs");
    kernel_is_clean(host);
    let store = host.state_dir().join("weave.redb");
    // What is left after a hand-over is that there was one.
    assert!(store.exists() || !store_stays);
    assert!(both_answer(&all[2], &all[3]), "the other host is disturbed");
    // What stayed is used, what went is made anew.
    lab.launch(1, &[&underlay(2).to_string()]).expect("launch");
    lab.wait_established(SETTLED).expect("links");
    for name in host.containers() {
        let address = host.attach(&name).expect("attach");
        assert!(!store_stays || all.contains(&(name.clone(), address)), "{name} had another address than {address}");
    }
    let now = lab.addresses().expect("addresses");
    assert!(both_answer(&now[0], &now[2]) && both_answer(&now[1], &now[3]));
    assert_eq!(uid(host) == Some(before), store_stays);
}

#[test]
#[ignore = "needs root"]
fn stop_with_teardown_leaves_the_store_alone() {
    tidied_up("lhtear", true, &["stop", "--teardown"], true);
}

#[test]
#[ignore = "needs root"]
fn stop_with_teardown_works_without_a_controller() {
    tidied_up("lhtear2", false, &["stop", "--teardown"], true);
}

#[test]
#[ignore = "needs root"]
fn reset_leaves_nothing() {
    tidied_up("lhreset", true, &["reset"], false);
}

#[test]
#[ignore = "needs root"]
fn forced_reset_works_without_a_controller() {
    tidied_up("lhforce", false, &["reset", "--force"], false);
}

#[test]
#[ignore = "needs root"]
fn reset_without_a_controller_needs_force() {
    let lab = Lab::ready(Plan::of("lhneed", 1).containers(1)).expect("a Lab");
    let host = lab.host(1);
    for verb in [&["reset"][..], &["stop"]] {
        host.kill_all().expect("kill");
        let refused = host.refused(verb, 2).expect("refused");
        assert!(refused.contains("no controller is running") && refused.contains("nothing was changed"), "{refused}");
        assert!(host.state_dir().join("weave.redb").exists() && host.bpf_dir().exists());
    }
}

#[test]
#[ignore = "needs root"]
fn two_networks_on_the_same_hosts_do_not_mix() {
    let lab = Lab::ready(Plan::of("lhnets", 2).containers(1)).expect("a Lab");
    let first = lab.addresses().expect("addresses");
    let mut second = Vec::new();
    for host in lab.hosts() {
        let other = host.second();
        let name = format!("::1{}", host.number());
        let target = format!("{}:7783", underlay(1));
        let mut args = vec!["launch", "--name", &name, "--seed", "::11,::12", "--port", "7783"];
        args.extend(["--ipalloc-range", "10.128.0.0/16"]);
        if host.number() > 1 {
            args.push(&target);
        }
        other.weave(&args).expect("launch a second controller");
        let container = host.add_container(2).expect("a container");
        second.push((container.clone(), other.attach(&container).expect("attach")));
    }
    let others: Vec<Host> = lab.hosts().iter().map(Host::second).collect();
    assert!(eventually(SETTLED, || others.iter().all(|o| o.established() == 1)));
    let load = Load::start(&first[0], &first[1]).expect("traffic");
    assert!(both_answer(&second[0], &second[1]));
    tcp(&second[0].0, &second[1].0, second[1].1, 1 << 20).expect("TCP");
    assert!(!answers(&second[0], &first[0]) && !answers(&first[0], &second[1]), "the networks mix");
    // One goes without the other noticing; a killed one comes back.
    others[0].kill().expect("kill");
    others[0].weave(&["launch", "--port", "7783"]).expect("launch");
    assert!(eventually(SETTLED, || both_answer(&second[0], &second[1])));
    assert!(eventually(SETTLED, || others.iter().all(|o| o.established() == 1)), "nobody takes its addresses over");
    others[1].weave(&["reset"]).expect("reset");
    others[0].kill().expect("kill");
    others[0].weave(&["stop", "--teardown"]).expect("teardown");
    assert!(!both_answer(&second[0], &second[1]));
    load.stop_whole().expect("traffic of the first network is not disturbed");
    lab.wait_established(SETTLED).expect("links of the first network");
    assert_eq!(lab.host(1).json(&["status"]).expect("status")["container_mtu"], 1500 - OVERHEAD);
}
