//! Controllers that are killed, stopped, launched again and rebooted, under traffic that must not notice.

use std::{
    fs,
    net::{Ipv4Addr, UdpSocket},
    thread::sleep,
    time::Duration,
};

use rustix::process::Signal;
use weave_tests::lab::{
    Host, Lab, Plan, SETTLED, cmd, eventually,
    host::ping,
    load::Load,
    measure::{measured, rounds},
    traffic::within,
};

/// Times after the start of a launch, or of an attach, in milliseconds, at which the controller is killed: from before
/// its first system call to after it is ready.
const MOMENTS: [u64; 8] = [5, 20, 45, 70, 100, 140, 200, 300];

/// What must be the same after a restart.
fn memory(host: &Host) -> (String, String, Vec<String>) {
    let status = host.json(&["status"]).expect("status");
    let text = |what: &str| status[what].as_str().expect("a text").to_owned();
    let mut containers = status["containers"].as_array().expect("containers").clone();
    for container in &mut containers {
        container.as_object_mut().expect("a container").remove("age_s");
    }
    (text("name"), text("uid"), containers.iter().map(ToString::to_string).collect())
}

fn all_ping(all: &[(String, Ipv4Addr)]) {
    for (from, _) in all {
        for (to, address) in all.iter().filter(|(to, _)| to != from) {
            assert!(ping(from, *address, 2), "{from} to {to} ({address})");
        }
    }
}

/// Ends and launches every controller in turn under traffic. `whole` packets only.
fn restarted_under_traffic(prefix: &str, end: impl Fn(&Host)) {
    let lab = Lab::ready(Plan::of(prefix, 3).containers(1)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let loads = [Load::start(&all[0], &all[1]).expect("traffic"), Load::start(&all[1], &all[2]).expect("traffic")];
    let go_on = || loads.iter().for_each(|load| load.goes_on().expect("traffic goes on"));
    for host in lab.hosts() {
        let before = memory(host);
        end(host);
        assert!(host.pid().is_err(), "a controller still runs");
        go_on();
        host.weave(&["launch"]).expect("launch again");
        go_on();
        assert_eq!(memory(host), before);
        lab.wait_established(SETTLED).expect("links come back");
        go_on();
    }
    // All at once, too.
    lab.hosts().iter().for_each(&end);
    go_on();
    for host in lab.hosts() {
        host.weave(&["launch"]).expect("launch again");
    }
    lab.wait_established(SETTLED).expect("links come back");
    for load in loads {
        load.stop_whole().expect("all of it, once");
    }
    assert_eq!(lab.addresses().expect("addresses"), all);
    for host in lab.hosts() {
        assert_eq!(host.json(&["status"]).expect("status")["peers"].as_array().expect("peers").len(), 3);
    }
}

#[test]
#[ignore = "needs root"]
fn killed_under_traffic_and_launched_again_nothing_is_lost() {
    restarted_under_traffic("lrkill", |host| host.kill().expect("kill"));
}

#[test]
#[ignore = "needs root"]
fn stopped_under_traffic_and_launched_again_nothing_is_lost() {
    restarted_under_traffic("lrstop", |host| drop(host.weave(&["stop"]).expect("stop")));
}

#[test]
#[ignore = "needs root"]
fn terminated_by_a_signal_nothing_is_lost() {
    restarted_under_traffic("lrterm", |host| {
        cmd::end(host.pid().expect("a controller"), Signal::TERM).expect("it ends");
    });
}

#[test]
#[ignore = "needs root"]
fn killed_at_awkward_moments_of_a_relaunch_nothing_is_lost() {
    let lab = Lab::ready(Plan::of("lrmom", 2).containers(1)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let host = lab.host(1);
    let before = memory(host);
    let load = Load::start(&all[0], &all[1]).expect("traffic");
    for moment in MOMENTS {
        host.kill_all().expect("kill");
        let mut launch = host.begin(&["launch"]).expect("begin to launch");
        sleep(Duration::from_millis(moment));
        host.kill_all().expect("kill");
        launch.wait().expect("the launch ends");
        load.goes_on().expect("traffic goes on");
        host.weave(&["launch"]).unwrap_or_else(|e| panic!("launch after a kill {moment} ms into another: {e:#}"));
        assert_eq!(memory(host), before);
    }
    lab.wait_established(SETTLED).expect("links come back");
    load.stop_whole().expect("all of it, once");
}

#[test]
#[ignore = "needs root"]
fn killed_at_awkward_moments_of_its_first_launch_it_launches() {
    let lab = Lab::new(Plan::of("lrfirst", 1).containers(1)).expect("a Lab");
    let host = lab.host(1);
    for moment in MOMENTS {
        let mut launch = host.begin(&["launch", "--name", "::1", "--seed", "::1"]).expect("begin to launch");
        sleep(Duration::from_millis(moment));
        host.kill_all().expect("kill");
        launch.wait().expect("the launch ends");
        lab.launch(1, &[]).unwrap_or_else(|e| panic!("launch after a kill {moment} ms into the first: {e:#}"));
        let container = host.container(1);
        let address = host.attach(&container).expect("attach");
        assert!(ping(&container, address, 1));
        host.weave(&["reset", "--force"]).expect("reset: nobody takes its addresses over");
    }
}

#[test]
#[ignore = "needs root"]
fn killed_at_awkward_moments_of_an_attach_the_container_attaches_or_is_free() {
    let lab = Lab::ready(Plan::of("lratt", 2).containers(1)).expect("a Lab");
    let (host, other) = (lab.host(1), lab.addresses().expect("addresses")[1].clone());
    let container = host.add_container(2).expect("a container");
    for (n, moment) in MOMENTS.iter().enumerate() {
        let verb = if n % 2 == 0 { "attach" } else { "detach" };
        let mut caller = host.begin(&[verb, &container]).expect("begin");
        sleep(Duration::from_millis(*moment / 5));
        host.kill_all().expect("kill");
        caller.wait().expect("the caller ends");
        host.weave(&["launch"]).expect("launch");
        let address = host.attach(&container).unwrap_or_else(|e| panic!("attach after a killed {verb}: {e:#}"));
        assert!(eventually(SETTLED, || ping(&container, other.1, 1)), "{address} reaches nobody after a killed {verb}");
        assert!(ping(&other.0, address, 1));
        let shown = host.ps(&container).expect("ps").expect("the container");
        assert_eq!(shown["state"], "attached");
        let endpoints = host.endpoints().expect("endpoints").len();
        assert_eq!(endpoints, 2, "endpoints of two containers");
    }
}

/// Names of the directories of schemas under the pins of a host.
fn schemas(host: &Host) -> Vec<String> {
    let entries = fs::read_dir(host.bpf_dir()).expect("pins");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

/// `change` makes a controller of another schema take the place of the one of host 1, under traffic, and says which schema
/// there is afterwards.
fn loses_no_packet(lab: &Lab, all: &[(String, Ipv4Addr)], schema: u32, change: impl FnOnce(&Host)) {
    let host = lab.host(1);
    let (out, back) =
        (Load::start(&all[0], &all[1]).expect("traffic"), Load::start(&all[2], &all[0]).expect("traffic"));
    host.weave(&["stop"]).expect("stop");
    change(host);
    let wanted = [format!("v{schema}")];
    assert!(eventually(SETTLED, || schemas(host) == wanted), "{:?}: {}", schemas(host), host.log_tail(10));
    let told = || host.log_tail(20).contains("programs of another version of weave-ctl ended");
    assert!(eventually(SETTLED, told), "{}", host.log_tail(20));
    for load in [&out, &back] {
        load.goes_on().expect("traffic goes on");
    }
    out.stop_whole().expect("all of it, once");
    back.stop_whole().expect("all of it, once");
    lab.wait_established(SETTLED).expect("links come back");
}

/// Programs and tables of another schema, of an earlier version or of a later one, work until those of this one are filled.
#[test]
#[ignore = "needs root"]
fn change_of_schema_loses_no_packet() {
    let lab = Lab::ready(Plan::of("lrschema", 3).containers(1)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let host = lab.host(1);
    let current = schemas(host);
    let number: u32 = current[0].trim_start_matches('v').parse().expect("a number");
    for other in [number - 1, number + 1] {
        loses_no_packet(&lab, &all, number, |host| {
            let pins = host.bpf_dir();
            fs::rename(pins.join(&current[0]), pins.join(format!("v{other}"))).expect("the pins of another schema");
            host.weave(&["launch"]).expect("launch");
        });
        // A container that comes now is reached by all.
        let name = host.add_container(usize::try_from(other).expect("small") + 10).expect("a container");
        let address = host.attach(&name).expect("attach");
        assert!(eventually(SETTLED, || ping(&all[1].0, address, 1)));
    }
    // A build whose schema is one higher (`SCHEMA` in weave-common/src/config.rs), if there is one: there and back.
    let Ok(later) = std::env::var("WEAVE_LATER_BUILD") else { return };
    for round in 0..rounds(3) {
        loses_no_packet(&lab, &all, number + 1, |host| {
            host.with_binary(later.as_ref()).weave(&["launch"]).map(drop).expect("launch");
        });
        loses_no_packet(&lab, &all, number, |host| host.weave(&["launch"]).map(drop).expect("launch"));
        measured("schema-changes-under-traffic", 2 * (round + 1), "times");
    }
}

#[test]
#[ignore = "needs root"]
fn after_a_reboot_containers_get_their_addresses_again() {
    let lab = Lab::ready(Plan::of("lrboot", 3)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let (host, names) = (lab.host(2), lab.host(2).containers());
    let identity = |host: &Host| (memory(host).0, memory(host).1);
    let before = identity(host);
    reboot(host, &names);
    host.weave(&["launch"]).expect("launch");
    assert_eq!(identity(host), before);
    lab.wait_established(SETTLED).expect("links come back");
    for name in &names {
        let kept = host.ps(name).expect("ps").expect("its addresses are kept");
        assert_eq!(kept["state"], "absent");
    }
    // A second launch before anybody attached keeps them too, and nobody else gets them.
    host.kill().expect("kill");
    host.weave(&["launch"]).expect("launch");
    let stranger = host.add_container(3).expect("a container");
    let strange = host.attach(&stranger).expect("attach");
    assert!(all.iter().all(|(_, address)| *address != strange), "{strange} was given twice");
    for name in &names {
        let address = host.attach(name).expect("attach");
        assert!(all.contains(&(name.clone(), address)), "{name} got {address}, before: {all:?}");
    }
    lab.wait_established(SETTLED).expect("links come back");
    all_ping(&lab.addresses().expect("addresses"));
}

#[test]
#[ignore = "needs root"]
fn a_launch_that_fails_after_a_reboot_costs_no_container_its_address() {
    let lab = Lab::ready(Plan::of("lrfail", 1)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let (host, names) = (lab.host(1), lab.host(1).containers());
    reboot(host, &names);
    let taken = within(host.netns(), || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 6784))).expect("a socket");
    host.refused(&["launch"], 1).expect("refused");
    drop(taken);
    for moment in MOMENTS {
        let mut launch = host.begin(&["launch"]).expect("begin to launch");
        sleep(Duration::from_millis(moment));
        host.kill_all().expect("kill");
        launch.wait().expect("the launch ends");
    }
    host.weave(&["launch"]).expect("launch");
    for name in &names {
        assert!(host.ps(name).expect("ps").is_some(), "{name} lost its address");
        host.attach(name).expect("attach");
    }
    assert_eq!(lab.addresses().expect("addresses"), all);
}

/// What a reboot leaves of a host: its store. Containers come back empty.
pub(super) fn reboot(host: &Host, containers: &[String]) {
    host.kill().expect("kill");
    for name in containers {
        cmd::run(&["ip", "netns", "del", name]).expect("remove a container");
    }
    // The host's own interface, where it was exposed.
    if cmd::run(&["ip", "-n", host.netns(), "link", "show", "weave"]).is_ok() {
        cmd::run(&["ip", "-n", host.netns(), "link", "del", "weave"]).expect("remove the host's interface");
    }
    cmd::run(&["ip", "-n", host.netns(), "link", "del", "weave-6784"]).expect("remove the socket device");
    fs::remove_dir_all(host.bpf_dir()).expect("remove the pins");
    fs::remove_dir_all(host.run_dir()).expect("remove the run directory");
    let left = || cmd::run(&["ip", "-n", host.netns(), "-o", "link"]).expect("devices").contains(": wv");
    assert!(eventually(SETTLED, || !left()), "interfaces of containers stay");
    for n in 1..=containers.len() {
        host.add_container(n).expect("a container");
    }
}

#[test]
#[ignore = "needs root"]
fn all_hosts_rebooted_at_once_find_each_other_again() {
    let lab = Lab::ready(Plan::of("lrall", 3).containers(1)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    for host in lab.hosts() {
        reboot(host, &host.containers());
    }
    for host in lab.hosts() {
        host.weave(&["launch"]).expect("launch");
    }
    lab.wait_established(SETTLED).expect("links come back");
    lab.attach_all().expect("attach");
    assert_eq!(lab.addresses().expect("addresses"), all);
    all_ping(&all);
}

#[test]
#[ignore = "needs root"]
fn a_removed_socket_device_is_made_again() {
    let lab = Lab::ready(Plan::of("lrsock", 2).containers(1)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    lab.wait_direct(SETTLED).expect("direct paths");
    let host = lab.host(1);
    cmd::run(&["ip", "-n", host.netns(), "link", "del", "weave-6784"]).expect("remove the socket device");
    let shown = || cmd::run(&["ip", "-n", host.netns(), "link", "show", "weave-6784"]).unwrap_or_default();
    assert!(eventually(SETTLED, || shown().contains("LOWER_UP")), "{}", host.log_tail(20));
    // Probes leave by the new one, and are answered.
    let counted = || (host.counter("probe-sent").expect("sent"), host.counter("probe-reply").expect("answered"));
    let before = counted();
    assert!(eventually(SETTLED, || counted().0 > before.0 && counted().1 > before.1), "{before:?} {:?}", counted());
    assert!(host.log_tail(20).contains("as it should be again"), "{}", host.log_tail(20));
    all_ping(&all);
}
