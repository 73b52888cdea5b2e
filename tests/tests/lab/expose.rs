//! The host's own interface in the network: `expose` and `hide`.

use std::net::Ipv4Addr;

use weave_tests::lab::{
    Host, Lab, Plan, SETTLED,
    cmd::{output, run, text},
    eventually,
    host::ping,
    underlay,
};

/// Gives the host an interface; its first address.
fn expose(host: &Host, args: &[&str]) -> Ipv4Addr {
    let printed = host.weave(&[&["expose"], args].concat()).expect("expose");
    printed.split_whitespace().next().and_then(|word| word.parse().ok()).expect("an address")
}

fn links(host: &Host) -> String {
    run(&["ip", "-n", host.netns(), "-o", "link"]).expect("devices")
}

/// Every host and every container reaches every host and every container.
fn all_reach_all(lab: &Lab, hosts: &[Ipv4Addr]) {
    let all = lab.addresses().expect("addresses");
    let to: Vec<Ipv4Addr> = hosts.iter().copied().chain(all.iter().map(|(_, address)| *address)).collect();
    let from: Vec<&str> =
        lab.hosts().iter().map(Host::netns).chain(all.iter().map(|(name, _)| name.as_str())).collect();
    for netns in from {
        for address in &to {
            assert!(eventually(SETTLED, || ping(netns, *address, 1)), "{netns} does not reach {address}");
        }
    }
}

#[test]
#[ignore = "needs root"]
fn exposed_hosts_and_containers_reach_each_other() {
    let lab = Lab::ready(Plan::of("lxall", 3).containers(1)).expect("a Lab");
    let hosts: Vec<Ipv4Addr> = lab.hosts().iter().map(|host| expose(host, &[])).collect();
    all_reach_all(&lab, &hosts);
    // The same again changes nothing.
    for (host, address) in lab.hosts().iter().zip(&hosts) {
        let before = links(host);
        assert_eq!(expose(host, &[]), *address);
        assert_eq!(links(host), before);
    }
    // The host's interface is no underlay device, and its addresses are not the peer's on the underlay.
    let status = lab.host(1).json(&["status"]).expect("status");
    assert!(!status["dataplane"]["programs"].to_string().contains("\"weave\""), "{}", status["dataplane"]["programs"]);
    let told = lab.host(2).weave(&["status", "peers"]).expect("status");
    assert!(!told.contains(&hosts[0].to_string()), "{told}");
    let shown = lab.host(1).ps("weave:expose").expect("ps").expect("the host");
    assert_eq!((shown["state"].as_str(), shown["netns"].as_str()), (Some("attached"), Some("")));
    // It outlives the controller, and a relaunch.
    for host in lab.hosts() {
        host.kill().expect("kill");
    }
    all_reach_all(&lab, &hosts);
    for host in lab.hosts() {
        host.weave(&["launch"]).expect("launch");
    }
    all_reach_all(&lab, &hosts);
}

#[test]
#[ignore = "needs root"]
fn hidden_host_leaves_nothing() {
    let lab = Lab::ready(Plan::of("lxhide", 2).containers(1)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let host = lab.host(1);
    let routes = || run(&["ip", "-4", "-n", host.netns(), "route", "show", "table", "all"]).expect("routes");
    let before = (links(host).lines().count(), routes());
    let fixed = Ipv4Addr::new(10, 32, 7, 7);
    let first = expose(host, &["net:10.32.64.0/18"]);
    assert_eq!(expose(host, &[&format!("{fixed}/24")]), first);
    // The whole network is reached, though the addresses are of two small subnets.
    assert!(eventually(SETTLED, || ping(host.netns(), all[1].1, 1)));
    assert!(ping(&all[1].0, first, 2) && ping(&all[1].0, fixed, 2));
    // One address alone, and then all of it; again it is hidden already.
    assert_eq!(host.weave(&["hide", &fixed.to_string()]).expect("hide").trim(), fixed.to_string());
    assert!(!ping(&all[1].0, fixed, 1) && ping(&all[1].0, first, 2));
    let missing = host.refused(&["hide", &fixed.to_string()], 1).expect("refused");
    assert!(missing.contains("this host does not have address"), "{missing}");
    assert_eq!(host.weave(&["hide"]).expect("hide").trim(), first.to_string());
    assert_eq!(host.weave(&["hide"]).expect("hidden already"), "");
    assert!(!ping(&all[1].0, first, 1));
    assert_eq!((links(host).lines().count(), routes()), before);
    assert!(host.ps("weave:expose").expect("ps").is_none());
    // `reset` hides the host too.
    expose(host, &[]);
    host.weave(&["reset", "--force"]).expect("reset");
    assert!(!links(host).contains("weave"), "{}", links(host));
}

#[test]
#[ignore = "needs root"]
fn removed_interface_of_the_host_is_made_again() {
    let lab = Lab::ready(Plan::of("lxback", 2).containers(1)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let host = lab.host(1);
    let ip = |args: &[&str]| run(&[&["ip", "-n", host.netns()], args].concat()).expect("ip");
    ip(&["link", "add", "weave", "type", "bridge"]);
    let taken = host.refused(&["expose"], 1).expect("refused");
    assert!(taken.contains("this host has an interface weave that is not this controller's"), "{taken}");
    assert!(links(host).contains("weave:"), "the bridge stays");
    ip(&["link", "del", "weave"]);
    let address = expose(host, &[]);
    ip(&["link", "del", "weave"]);
    assert!(eventually(SETTLED, || ping(&all[1].0, address, 1)), "{}", host.log_tail(10));
    assert!(host.log_tail(10).contains("was removed by others: it is made again"), "{}", host.log_tail(10));
    // After a reboot, without a command.
    super::restart::reboot(host, &host.containers());
    host.weave(&["launch"]).expect("launch");
    assert!(eventually(SETTLED, || ping(&all[1].0, address, 1)), "{}", host.log_tail(10));
}

/// Containers go out through their host under its address, which is told what stands in the way; `hide` leaves no rule.
#[test]
#[ignore = "needs root"]
fn containers_go_out_through_a_host_that_masquerades() {
    let lab = Lab::ready(Plan::of("lxout", 2).containers(1)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let (host, name) = (lab.host(1), &all[0].0);
    let inside = |args: &[&str]| run(&[&["nsenter", &format!("--net=/run/netns/{}", host.netns())], args].concat());
    let rules = || inside(&["nft", "list", "ruleset"]).expect("rules");
    run(&["ip", "-n", name, "route", "add", "default", "dev", "ethwe"]).expect("a default route");
    let out = || ping(name, underlay(2), 1);
    assert!(!out(), "without --masquerade nothing leaves the network");
    expose(host, &[]);
    assert!(!out(), "exposed alone, nothing leaves the network");
    expose(host, &["--masquerade"]);
    assert!(eventually(SETTLED, out), "{}", host.log_tail(10));
    // It stays so when addresses are added, over a relaunch, and when others flush the rules.
    expose(host, &["10.32.7.7"]);
    assert!(out());
    host.kill().expect("kill");
    assert!(out());
    host.weave(&["launch"]).expect("launch");
    assert!(eventually(SETTLED, out));
    inside(&["nft", "flush", "ruleset"]).expect("flushed");
    let mended = std::time::Duration::from_secs(90);
    assert!(eventually(mended, out), "the rules are not written again: {}", host.log_tail(10));
    // A host that forwards nothing: told, with the command that helps.
    host.weave(&["hide"]).expect("hide");
    assert_eq!(rules(), "", "rules stay");
    assert!(!out());
    inside(&["iptables", "-P", "FORWARD", "DROP"]).expect("a firewall");
    let exposed = host.try_weave(&["expose", "--masquerade"]).expect("expose");
    let said = text(&exposed);
    assert!(exposed.status.success() && said.contains("Warning: masquerade: "), "{said}");
    let status = host.weave(&["status"]).expect("status");
    assert!(status.contains("masquerade: ") && status.contains("iptables"), "{status}");
    assert!(!out());
    inside(&["iptables", "-P", "FORWARD", "ACCEPT"]).expect("a firewall");
    assert!(eventually(SETTLED, out));
    host.weave(&["stop", "--teardown"]).expect("stop");
    assert!(!rules().contains("weave"), "{}", rules());
    assert!(output(&["ip", "-n", host.netns(), "link", "show", "weave"]).is_ok_and(|o| !o.status.success()));
}
