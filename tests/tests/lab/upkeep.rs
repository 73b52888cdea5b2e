//! What others do to the kernel objects of a controller: they are known by index, not by name, and what is removed or
//! changed is put back and told.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use weave_common::config::SCHEMA;
use weave_tests::lab::{Host, Lab, Plan, SETTLED, cmd::run, eventually, host::ping, load::Load, underlay};

/// The reconcile loop comes each 30 s.
const MENDED: Duration = Duration::from_secs(100);

fn both_answer(one: &(String, Ipv4Addr), other: &(String, Ipv4Addr)) -> bool {
    ping(&one.0, other.1, 1) && ping(&other.0, one.1, 1)
}

fn ip(netns: &str, args: &[&str]) -> String {
    run(&[&["ip", "-n", netns], args].concat()).expect("ip")
}

/// Devices on which a program is, as `status` tells.
fn attached(host: &Host, program: &str) -> Vec<String> {
    let status = host.json(&["status"]).expect("status");
    let programs = status["dataplane"]["programs"].as_array().expect("programs").clone();
    let found = programs.iter().find(|p| p["name"] == program).expect("the program");
    let on = found["attached_to"].as_array().expect("a list");
    on.iter().map(|device| device.as_str().expect("a name").to_owned()).collect()
}

fn says(host: &Host, text: &str) -> usize {
    host.log_tail(2000).lines().filter(|line| line.contains(text)).count()
}

/// Field report B13: a device is renamed, and another takes its old name.
#[test]
#[ignore = "needs root"]
fn programs_stay_when_devices_are_renamed() {
    let lab = Lab::ready(Plan::of("hsname", 3).containers(1)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let host = lab.host(1);
    let rename = |from: &str, to: &str| {
        for args in [&["link", "set", from, "down"][..], &["link", "set", from, "name", to], &["link", "set", to, "up"]]
        {
            ip(host.netns(), args);
        }
    };
    rename("eth0", "lan0");
    assert!(
        eventually(SETTLED, || attached(host, "weave_underlay") == ["lan0"]),
        "{:?}",
        attached(host, "weave_underlay")
    );
    assert!(eventually(SETTLED, || says(host, "eth0 is called lan0 now") > 0), "{}", host.log_tail(20));
    assert_eq!(says(host, "eth0 is called lan0 now"), 1, "{}", host.log_tail(20));
    // Another wire gets the old name; then the first is cut.
    ip(host.netns(), &["link", "add", "eth0", "type", "veth", "peer", "name", "far0"]);
    ip(host.netns(), &["addr", "add", "198.51.100.1/24", "dev", "eth0"]);
    ip(host.netns(), &["link", "set", "far0", "up"]);
    ip(host.netns(), &["link", "set", "eth0", "up"]);
    let both = || {
        let mut on = attached(host, "weave_underlay");
        on.sort();
        on == ["eth0", "lan0"]
    };
    assert!(eventually(SETTLED, both), "{:?}", attached(host, "weave_underlay"));
    assert!(eventually(SETTLED, || both_answer(&all[0], &all[1])));

    // Their names are swapped.
    let load = Load::start(&all[1], &all[2]).expect("traffic");
    rename("eth0", "tmp0");
    rename("lan0", "eth0");
    rename("tmp0", "lan0");
    assert!(eventually(SETTLED, both), "{:?}", attached(host, "weave_underlay"));
    assert!(eventually(SETTLED, || both_answer(&all[0], &all[1]) && both_answer(&all[0], &all[2])));

    // The device becomes a port of a bridge, which takes its address.
    ip(host.netns(), &["link", "add", "br0", "type", "bridge"]);
    ip(host.netns(), &["link", "set", "br0", "up"]);
    ip(host.netns(), &["addr", "del", &format!("{}/24", underlay(1)), "dev", "eth0"]);
    ip(host.netns(), &["link", "set", "eth0", "master", "br0"]);
    ip(host.netns(), &["addr", "add", &format!("{}/24", underlay(1)), "dev", "br0"]);
    assert!(eventually(SETTLED * 2, || both_answer(&all[0], &all[1]) && both_answer(&all[0], &all[2])));
    assert!(attached(host, "weave_underlay").contains(&"br0".to_owned()));
    host.kill().expect("kill");
    host.weave(&["launch"]).expect("launch");
    assert!(eventually(SETTLED * 2, || both_answer(&all[0], &all[1]) && both_answer(&all[0], &all[2])));
    load.stop_whole().expect("others are not disturbed");
}

/// Field report B20: both ends of a container's interface are renamed.
#[test]
#[ignore = "needs root"]
fn container_stays_when_its_ends_are_renamed() {
    let lab = Lab::ready(Plan::of("hsends", 2).containers(1)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let (host, name) = (lab.host(1), &all[0].0);
    let host_if = host.ps(name).expect("ps").expect("a container")["host_if"].as_str().map(str::to_owned);
    let host_if = host_if.unwrap_or_else(|| format!("wv{:08x}", u32::from(all[0].1)));
    ip(name, &["link", "set", "ethwe", "name", "eth0"]);
    ip(host.netns(), &["link", "set", &host_if, "name", "ens7"]);
    assert!(both_answer(&all[0], &all[1]), "a rename cuts off");
    let attached_again = || host.weave(&["attach", name]).expect("attach").contains(&all[0].1.to_string());
    assert!(attached_again(), "another address");
    assert!(ip(name, &["addr", "show", "dev", "eth0"]).contains(&all[0].1.to_string()), "another interface was made");
    host.kill().expect("kill");
    host.weave(&["launch"]).expect("launch");
    assert!(both_answer(&all[0], &all[1]), "a relaunch cuts off");
    assert!(attached(host, "weave_container").contains(&"ens7".to_owned()));
    assert!(attached_again(), "another address");
    ip(host.netns(), &["link", "set", "ens7", "down"]);
    assert!(eventually(SETTLED, || both_answer(&all[0], &all[1])), "it stays down");
    host.weave(&["detach", name]).expect("detach");
    assert!(!ip(host.netns(), &["-br", "link"]).contains("ens7"));
}

fn pin(host: &Host, part: &str, name: &str) -> PathBuf {
    host.bpf_dir().join(format!("v{SCHEMA}/{part}")).join(name)
}

fn link_of(host: &Host, program: &str) -> PathBuf {
    let links = fs::read_dir(pin(host, "links", "")).expect("pins").flatten();
    let ifindex = |path: &PathBuf| -> Option<u32> {
        path.file_name()?.to_str()?.strip_prefix(program)?.strip_prefix('-')?.parse().ok()
    };
    // Of several devices the youngest: containers' interfaces are made after that of the service address.
    let found = links.map(|entry| entry.path()).filter(|path| ifindex(path).is_some());
    found.max_by_key(ifindex).expect("a pin")
}

fn bpftool(args: &[&str]) {
    run(&[&["bpftool"], args].concat()).expect("bpftool");
}

/// Everything that a controller has in the kernel is taken away by another hand, and comes back.
#[test]
#[ignore = "needs root"]
fn objects_that_others_remove_come_back() {
    let lab = Lab::ready(Plan::of("hsmend", 2).containers(1)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let host = lab.host(1);
    let pid = host.pid().expect("a controller");
    let shown = |path: &Path| path.to_string_lossy().into_owned();
    let heals = |what: &str| {
        assert!(
            eventually(MENDED, || both_answer(&all[0], &all[1])),
            "{what} does not come back:\n{}",
            host.log_tail(20)
        );
    };
    // A program is detached from its device, one loses its pin.
    bpftool(&["link", "detach", "pinned", &shown(&link_of(host, "weave_container"))]);
    fs::remove_file(link_of(host, "weave_underlay")).expect("removed");
    let gone = || eventually(SETTLED, || !both_answer(&all[0], &all[1]));
    assert!(gone(), "nothing was taken away");
    heals("a program");
    assert!(eventually(MENDED, || link_of_is_there(host, "weave_underlay")));
    assert_eq!(says(host, "the program on the container's interface"), 1, "{}", host.log_tail(20));

    // A pin of a map, and an entry.
    fs::remove_file(pin(host, "maps", "weave_routes")).expect("removed");
    let endpoints = pin(host, "maps", "weave_endpoints");
    let key = all[0].1.octets().map(|byte| byte.to_string());
    let keys: Vec<&str> = key.iter().map(String::as_str).collect();
    bpftool(&[&["map", "delete", "pinned", &shown(&endpoints), "key"], &keys[..]].concat());
    assert!(gone(), "nothing was taken away");
    heals("an entry");
    assert!(eventually(MENDED, || pin(host, "maps", "weave_routes").exists()), "the pin does not come back");

    // The VXLAN socket device is set down: no probe leaves.
    let device = "weave-6784";
    ip(host.netns(), &["link", "set", device, "down"]);
    assert!(eventually(MENDED, || ip(host.netns(), &["link", "show", device]).contains("UP")), "it stays down");
    heals("the device");
    assert_eq!(host.pid().expect("a controller"), pid);
    assert!(eventually(MENDED, || !host.weave(&["status"]).expect("status").contains("not as it should be")));
}

fn link_of_is_there(host: &Host, program: &str) -> bool {
    fs::read_dir(pin(host, "links", ""))
        .expect("pins")
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with(&format!("{program}-")))
}

/// `reset` either changes nothing or succeeds, while attaches run beside it.
#[test]
#[ignore = "needs root"]
fn reset_succeeds_while_attaches_run() {
    let lab = Lab::ready(Plan::of("hsreset", 2).containers(1)).expect("a Lab");
    let host = lab.host(1);
    let names: Vec<String> = (2..=24).map(|n| host.add_container(n).expect("a container")).collect();
    thread::scope(|scope| {
        for some in names.chunks(6) {
            scope.spawn(move || {
                for name in some {
                    // Refused once the controller leaves, or is gone.
                    drop(host.try_weave(&["attach", name]));
                }
            });
        }
        thread::sleep(Duration::from_millis(60));
        host.weave(&["reset"]).expect("reset");
    });
    assert!(host.pid().is_err(), "a controller still runs");
    assert!(!ip(host.netns(), &["-br", "link"]).contains("wv"), "interfaces are left");
}
