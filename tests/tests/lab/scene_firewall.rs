//! Scenes: hosts with firewalls of their own that leave open what README asks for. Each pair of hosts is direct within
//! ten seconds (here: ten times as long), and carries packets both ways.

use std::time::{Duration, Instant};

use weave_tests::lab::{
    Everyone, Lab, Plan, SETTLED, cmd::run, firewall::Firewall, measure::measured_time, traffic::tcp,
};

/// Ten times what is promised.
const DIRECT: Duration = Duration::from_secs(100);
/// Bytes of a TCP transfer of which every one is checked.
const TRANSFER: u64 = 1 << 20;

/// Two hosts with these firewalls, set before the launch.
fn direct_behind(prefix: &str, firewalls: [Firewall; 2]) {
    let lab = Lab::new(Plan::of(prefix, 2).containers(1)).expect("a Lab");
    for (host, firewall) in lab.hosts().iter().zip(firewalls) {
        host.set_firewall(firewall).expect("a firewall");
    }
    if firewalls.contains(&Firewall::Forward) {
        for host in lab.hosts() {
            let net = format!("--net=/run/netns/{}", host.netns());
            let shown = run(&["nsenter", &net, "iptables-legacy", "-w", "20", "-S", "FORWARD"]).expect("iptables");
            assert!(shown.contains("-P FORWARD DROP"), "{shown}");
        }
    } else {
        for (near, far) in [(1, 2), (2, 1)] {
            lab.host(near).is_closed_to(lab.host(far)).expect("the firewall is in force");
        }
    }
    let start = Instant::now();
    lab.launch_all().expect("launch");
    lab.wait_direct(DIRECT).unwrap_or_else(|e| panic!("{firewalls:?}: {e:#}\n{}", lab.host(1).connections_text()));
    measured_time("firewall-direct", start.elapsed());
    lab.wait_established(SETTLED).expect("sessions without a word of trouble");
    lab.attach_all().expect("attach");
    let all = lab.addresses().expect("addresses");
    Everyone::of(&all).expect("sockets").reach_each_other(SETTLED).expect("everyone");
    for (from, to) in [(&all[0], &all[1]), (&all[1], &all[0])] {
        tcp(&from.0, &to.0, to.1, TRANSFER).unwrap_or_else(|e| panic!("{firewalls:?}, {from:?} to {to:?}: {e:#}"));
    }
    // It stays so: nothing falls back to a relay or to "no answer" while packets run.
    lab.wait_direct(Duration::ZERO).expect("direct still");
    lab.wait_established(Duration::ZERO).expect("established still");
}

#[test]
#[ignore = "needs root"]
fn the_two_ports_alone_are_enough() {
    direct_behind("scfports", [Firewall::TwoPorts; 2]);
}

#[test]
#[ignore = "needs root"]
fn input_policy_drop_of_iptables_is_no_obstacle() {
    direct_behind("scfipt", [Firewall::Iptables; 2]);
}

#[test]
#[ignore = "needs root"]
fn a_closed_data_port_is_no_obstacle_to_direct_paths() {
    direct_behind("scfctl", [Firewall::ControlOnly; 2]);
}

#[test]
#[ignore = "needs root"]
fn one_host_that_accepts_sessions_is_enough() {
    // Host 2 dials host 1.
    direct_behind("scfone", [Firewall::ControlOnly, Firewall::Answers]);
}

#[test]
#[ignore = "needs root"]
fn a_firewall_that_rejects_is_no_obstacle() {
    direct_behind("scfrej", [Firewall::Reject; 2]);
}

#[test]
#[ignore = "needs root"]
fn ports_without_tracking_are_no_obstacle() {
    direct_behind("scfraw", [Firewall::NoTrack; 2]);
}

#[test]
#[ignore = "needs root"]
fn forward_policy_drop_is_no_obstacle() {
    direct_behind("scffwd", [Firewall::Forward; 2]);
}

#[test]
#[ignore = "needs root"]
fn output_policy_drop_with_the_two_ports_is_no_obstacle() {
    direct_behind("scfout", [Firewall::Output; 2]);
}
