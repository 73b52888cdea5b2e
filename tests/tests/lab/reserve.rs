//! Who has an address: owners, namespaces and their names, reboots; field reports B18, B19, B20 and B26.

use std::{
    collections::BTreeSet,
    fs,
    net::Ipv4Addr,
    process::{Child, Command, Stdio},
};

use weave_ctl::api::{
    client::Client,
    types::{Attach, Bind, ContainerState, Detach, Release, Reserve},
};
use weave_tests::lab::{Host, Lab, Plan, SETTLED, SHORT_GRACE, cmd::run, eventually, host::ping};

use super::restart::reboot;

/// A process that stays in the namespace at `netns` until it is killed.
fn process_in(netns: &str) -> Child {
    let net = format!("--net={netns}");
    let child = Command::new("nsenter").args([&net, "sleep", "300"]).stdout(Stdio::null()).spawn().expect("a process");
    let path = format!("/proc/{}/ns/net", child.id());
    let inside = || fs::metadata(&path).ok().zip(fs::metadata(netns).ok()).is_some_and(|(a, b)| same(&a, &b));
    assert!(eventually(SETTLED, inside), "the process is not in the namespace");
    child
}

fn same(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

fn end(mut process: Child) {
    process.kill().and_then(|()| process.wait()).expect("the process ends");
}

/// What `attach` prints.
fn attach(host: &Host, args: &[&str]) -> Ipv4Addr {
    host.weave(&[&["attach"], args].concat()).expect("attach").trim().parse().expect("an address")
}

/// Owners, with where they stand.
fn owners(host: &Host) -> Vec<(String, String)> {
    let all = host.json(&["ps"]).expect("ps");
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    all.as_array().expect("a list").iter().map(|c| (text(&c["owner"]), text(&c["state"]))).collect()
}

fn stands(owner: &str, state: &str) -> (String, String) {
    (owner.to_owned(), state.to_owned())
}

/// B19: a name, a path and a process of one namespace are one container, whatever it was attached by.
#[test]
#[ignore = "needs root"]
fn one_namespace_is_one_container_by_any_name() {
    let lab = Lab::ready(Plan::of("lrname", 2).containers(1)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let host = lab.host(1);
    let name = host.add_container(2).expect("a container");
    let path = format!("/run/netns/{name}");
    let process = process_in(&path);
    let pid = process.id().to_string();
    let address = attach(host, &[&pid]);
    for word in [&name, &path, &format!("/proc/{pid}/ns/net"), &pid] {
        assert_eq!(attach(host, &[word]), address);
    }
    assert_eq!(owners(host).len(), 2, "{:?}", owners(host));
    assert!(ping(&name, all[1].1, 2));
    assert_eq!(host.weave(&["detach", &path]).expect("detach").trim(), address.to_string());
    end(process);
}

/// B19: a namespace without a name has its addresses as long as it lives, and whoever gets its number has none.
#[test]
#[ignore = "needs root"]
fn namespace_without_a_name_is_known_by_its_number() {
    let lab = Lab::ready(Plan::of("lrnum", 2).containers(1)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let host = lab.host(1);
    let name = host.add_container(2).expect("a container");
    let (first, second) = (process_in(&format!("/run/netns/{name}")), process_in(&format!("/run/netns/{name}")));
    run(&["ip", "netns", "del", &name]).expect("the name goes, the namespace stays");
    let address = attach(host, &[&first.id().to_string()]);
    let owner = owners(host).into_iter().map(|(owner, _)| owner).find(|owner| owner.starts_with("net:["));
    let owner = owner.expect("an owner by number");
    // The process by which it was attached ends; the namespace lives on.
    end(first);
    let net = format!("/proc/{}/ns/net", second.id());
    let pinged = || run(&["nsenter", &format!("--net={net}"), "ping", "-c1", "-W1", &all[1].1.to_string()]).is_ok();
    assert!(eventually(SETTLED, pinged));
    host.kill().expect("kill");
    host.weave(&["launch"]).expect("launch");
    assert!(eventually(SETTLED, pinged));
    // More addresses, by the other process: found by its number.
    assert_eq!(host.weave(&["attach", "10.32.9.9", &net]).expect("attach").split_whitespace().count(), 2);
    assert!(ping(&all[1].0, Ipv4Addr::new(10, 32, 9, 9), 2));
    assert!(owners(host).contains(&stands(&owner, "attached")));
    end(second);
    let is_free = || !owners(host).iter().any(|(other, _)| *other == owner);
    assert!(eventually(SETTLED, is_free), "{:?}", owners(host));
    let given = host.weave(&["attach", &address.to_string(), &all[0].0]).expect("attach");
    assert!(given.contains(&address.to_string()), "{given}");
}

/// B18: who is absent since a reboot gives way when no other address is free, longest first; and numbers mean nothing.
#[test]
#[ignore = "needs root"]
fn reboots_do_not_eat_the_range() {
    let lab = Lab::ready(Plan::of("lrange", 1).launch(&["--ipalloc-range", "10.9.0.0/28"])).expect("a Lab");
    let host = lab.host(1);
    // Eleven besides the two of the Lab: all thirteen addresses that anybody is given.
    let attach_eleven = |from: usize| -> BTreeSet<Ipv4Addr> {
        let names: Vec<String> = (from..from + 11).map(|n| host.add_container(n).expect("a container")).collect();
        names.iter().map(|name| host.attach(name).unwrap_or_else(|e| panic!("{name}: {e:#}"))).collect()
    };
    assert_eq!(attach_eleven(10).len(), 11);
    for round in 1..3 {
        reboot(host, &host.containers());
        host.weave(&["launch"]).expect("launch");
        let absent = host.json(&["ps", "--absent"]).expect("ps");
        assert_eq!(absent.as_array().map(Vec::len), Some(13));
        assert_eq!(attach_eleven(100 * round).len(), 11);
        assert!(host.log_tail(200).contains("has been absent longest since a reboot"), "{}", host.log_tail(20));
    }
    // What is left of the absent goes at once; a name that is mistyped is told.
    let unknown = host.refused(&["release", "no-such-owner"], 1).expect("refused");
    assert!(unknown.contains("no-such-owner is not attached to this network and has no address"), "{unknown}");
    let attached = |host: &Host| owners(host).iter().filter(|(_, state)| state == "attached").count();
    assert_eq!(attached(host), 11);
    host.weave(&["release", "--absent"]).expect("release");
    assert_eq!((owners(host).len(), attached(host)), (11, 11));
    let said = host.weave(&["ps"]).expect("ps");
    assert!(said.starts_with("OWNER") && said.lines().count() == 12, "{said}");
}

/// An engine reserves first, names the owner later, and moves on: each request again is answered alike.
#[test]
#[ignore = "needs root"]
fn engine_reserves_binds_attaches_and_releases() {
    let lab = Lab::ready(Plan::of("lreng", 2).containers(1)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let host = lab.host(1);
    let name = host.add_container(2).expect("a container");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = Client::new(&host.run_dir());
        let relaunch = || {
            host.kill().expect("kill");
            host.weave(&["launch"]).expect("launch");
        };
        let reserved = client.reserve(&Reserve { owner: None, addrs: Vec::new() }).await.expect("reserved");
        assert_eq!(reserved.state, ContainerState::Reserved);
        relaunch();
        let bind = Bind { id: reserved.owner.clone(), owner: "engine:e1".to_owned() };
        for _ in 0..2 {
            assert_eq!(client.bind(&bind).await.expect("bound").addrs, reserved.addrs);
        }
        relaunch();
        let owner = Some("engine:e1".to_owned());
        let attach = Attach { container: name.clone(), owner, ..Attach::default() };
        for _ in 0..2 {
            let attached = client.attach(&attach).await.expect("attached");
            assert_eq!((attached.owner.as_str(), &attached.addrs), ("engine:e1", &reserved.addrs));
        }
        assert!(ping(&name, all[1].1, 2));
        let detach = Detach { container: "engine:e1".to_owned(), addrs: Vec::new(), keep: true };
        for _ in 0..2 {
            assert!(client.detach(&detach).await.expect("detached").addrs.is_empty(), "its addresses stay");
        }
        assert!(run(&["ip", "-n", &name, "link", "show", "ethwe"]).is_err());
        relaunch();
        let refused = host.refused(&["attach", &reserved.addrs[0].addr().to_string(), &name], 1);
        assert!(refused.expect("refused").contains("is kept for engine:e1"));
        let release = Release { owner: "engine:e1".to_owned(), addrs: Vec::new() };
        assert_eq!(client.release(&release).await.expect("released").addrs, reserved.addrs);
        assert!(client.release(&release).await.expect("again").addrs.is_empty());
    });
}

/// B20: what a container or a manager of networks does to an interface of ours.
#[test]
#[ignore = "needs root"]
fn interface_that_is_changed_works_on_or_is_repaired() {
    let lab = Lab::ready(Plan::of("lrchg", 2).containers(1).launch(&SHORT_GRACE)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let (host, (name, address), far) = (lab.host(1), &all[0], all[1].1);
    let inside = |args: &[&str]| run(&[&["ip", "-n", name], args].concat()).expect("ip");
    let again = |host: &Host| {
        assert_eq!(attach(host, &[name]), *address);
        assert!(eventually(SETTLED, || ping(name, far, 1)));
        host.kill().expect("kill");
        host.weave(&["launch"]).expect("launch");
        assert!(eventually(SETTLED, || ping(name, far, 1)));
    };
    inside(&["link", "set", "ethwe", "name", "eth0"]);
    again(host);
    assert!(inside(&["-o", "link"]).contains("eth0"), "its name stays");
    inside(&["link", "set", "eth0", "address", "02:00:00:00:00:99"]);
    again(host);
    inside(&["link", "set", "eth0", "down"]);
    inside(&["link", "set", "eth0", "up"]);
    again(host);
    inside(&["addr", "flush", "dev", "eth0"]);
    again(host);
    // Moved to another namespace it is gone from this one.
    let other = host.add_container(2).expect("a container");
    inside(&["link", "set", "eth0", "netns", &other]);
    let freed = || host.ps(name).is_ok_and(|shown| shown.is_none());
    let attached = attach(host, &[name]);
    assert!(attached == *address || freed(), "{attached}");
    assert!(eventually(SETTLED, || ping(name, far, 1)));
    assert!(run(&["ip", "-n", &other, "-o", "link"]).is_ok_and(|links| !links.contains("eth0")), "one interface");
}

/// B26: the run directory goes away under a running controller.
#[test]
#[ignore = "needs root"]
fn removed_run_directory_is_made_again() {
    let lab = Lab::ready(Plan::of("lrrun", 2).containers(1)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let host = lab.host(1);
    fs::remove_dir_all(host.run_dir()).expect("removed");
    assert!(ping(&all[0].0, all[1].1, 2), "packets go on");
    assert!(eventually(SETTLED, || host.weave(&["status"]).is_ok()), "no command reaches the controller");
    assert!(host.log_tail(10).contains("was removed by others, and is made again"), "{}", host.log_tail(10));
    host.attach(&host.add_container(2).expect("a container")).expect("attach");
    host.weave(&["stop"]).expect("stop");
    host.weave(&["launch"]).expect("launch");
    assert!(eventually(SETTLED, || ping(&all[0].0, all[1].1, 1)));
}
