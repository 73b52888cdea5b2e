//! The summary, from fixed states of a controller.

use super::super::{
    status,
    tests::{attempt, example, id, text, with_detours},
};
use crate::api::types::{ConnectionState, Dataplane, NarrowPath, ProtocolVersions, RefusedStatus, SizedContainer};

#[test]
fn summary() {
    let expected = "        Version: 1.2.3

        Service: router
       Protocol: weave-ctl 1..2
           Name: 7e:21:4a:70:2f:01(host1)
     Encryption: sessions only, without password or key (containers' packets are not encrypted)
  PeerDiscovery: enabled
        Targets: 2
    Connections: 5 (1 established, 1 pending, 1 retrying, 1 failed, 1 connecting)
                 <-  192.168.48.12:33866  established  no-password  direct   7e:21:4a:70:2f:02(host2)  mtu=1450 rtt=1.2ms
                 ->  192.168.48.13:6783   pending      no-password  no-data  7e:21:4a:70:2f:03(h3)
                 ->  192.168.48.14:6783   retrying     connection refused, next attempt in 4.2s
                 ->  h1                   failed       cannot connect to ourself
                 ->  host5.example        connecting
      ConnLimit: 200
          Peers: 3 (with 2 established, 1 pending connections)

        Service: ipam
         Status: ready
          Range: 10.32.0.0/12
  DefaultSubnet: 10.32.0.0/12

        Service: dataplane
         Pinned: /sys/fs/bpf/weave
       Programs: weave_container on 3 devices, weave_underlay on eth0
     Containers: 2 (1 not attached)
            MTU: 1450
           Sent: 5 (5 direct)
          Drops: 3 (2 no-route, 1 too-big)
";
    assert_eq!(status(&example(), None, false), expected);
}

#[test]
fn summary_names_narrow_paths_and_what_they_mean() {
    let mut narrow = example();
    let sized = |id: &str, mtu| SizedContainer { owner: text(id), mtu };
    narrow.narrow_paths = vec![NarrowPath {
        peer: id(2, "host2"),
        mtu: 1350,
        containers: vec![sized("c2", 8950), sized("c1", 1450)],
        more_containers: 3,
    }];
    narrow.more_narrow_paths = 4;
    let expected = "            MTU: 1450
    NarrowPaths: 5 take less than containers' MTU: larger packets are refused by ICMP, or sent in pieces (slower)
                 to 7e:21:4a:70:2f:02(host2) 1350 bytes; larger MTU: c2 (8950), c1 (1450), 3 more
                 and 4 more
           Sent: 5 (5 direct)
          Drops: 3 (2 no-route, 1 too-big)
";
    let shown = status(&narrow, None, false);
    assert!(shown.contains(expected), "{shown}");
}

#[test]
fn summary_of_a_lone_peer_with_troubles() {
    let mut lone = example();
    lone.connections.clear();
    lone.peers.truncate(1);
    lone.peers[0].links.clear();
    lone.protocol = ProtocolVersions { min: 1, max: 1 };
    lone.password = true;
    lone.dataplane = Dataplane::default();
    lone.containers.clear();
    lone.warnings = vec![text("peer ::2 has two uids"), text("map weave_routes is full")];
    let shown = status(&lone, None, false);
    for line in [
        "       Protocol: weave-ctl 1\n",
        "     Encryption: sessions only, with password",
        "    Connections: 0\n      ConnLimit: 200\n          Peers: 1\n",
        "       Programs: none\n     Containers: 0\n",
        "           Sent: 0\n          Drops: 0\n",
    ] {
        assert!(shown.contains(line), "{line:?} is not in\n{shown}");
    }
    let last = "\n\n        Warning: peer ::2 has two uids\n        Warning: map weave_routes is full\n";
    assert!(shown.ends_with(last), "{shown}");
}

#[test]
fn a_summary_tells_which_packets_do_not_go_straight() {
    let shown = status(&with_detours(), None, false);
    let expected = "\
          Peers: 5 (with 2 established, 1 pending connections)
          Paths: 4 (1 direct, 1 relayed, 2 unconfirmed)
                 7e:21:4a:70:2f:03(h3)  via 7e:21:4a:70:2f:02(host2) mtu=1400: no answer from 192.168.48.13:6784 for 12 s
                 7e:21:4a:70:2f:04(h4)  unconfirmed 192.168.48.14:6784: no peer reaches it
                 7e:21:4a:70:2f:05      unconfirmed

";
    assert!(shown.contains(expected), "{shown}");
    let mut crowd = with_detours();
    let relayed = crowd.peers[2].clone();
    crowd.peers.extend(vec![relayed; 9]);
    let shown = status(&crowd, None, false);
    assert!(shown.contains("          Paths: 13 (1 direct, 10 relayed, 2 unconfirmed)\n"), "{shown}");
    assert!(shown.contains("                 and 4 more: status peers\n"), "{shown}");
    assert!(!status(&example(), None, false).contains("Paths:"));
}

#[test]
fn a_summary_tells_what_is_full_or_could_not_be_used() {
    let mut full = example();
    full.conn_limit = 2;
    full.channels[0].errors = 3;
    full.channels[0].last_error = text("a record of another peer");
    let shown = status(&full, None, false);
    for line in [
        "      ConnLimit: 2 (reached: further peers get no link)\n",
        "        Channel: peers: 3 entries could not be used, the last: a record of another peer\n",
    ] {
        assert!(shown.contains(line), "{line:?} is not in\n{shown}");
    }
    // Attempts are no links.
    full.conn_limit = 3;
    assert!(status(&full, None, false).contains("      ConnLimit: 3\n"));
}

#[test]
fn a_summary_names_requests_that_were_dropped() {
    let mut dropped = example();
    let refused = |n, nickname, over_bound, no_next_hop, last_s| RefusedStatus {
        id: id(n, nickname),
        malformed: 1,
        over_bound,
        no_next_hop,
        expired: 0,
        last: text("more requests\nthan 32"),
        last_s,
    };
    dropped.refused = vec![refused(2, "host2", 12, 3, 4), refused(3, "h3", 0, 0, 5), refused(4, "h4", 5, 0, 60)];
    dropped.more_refused = 7;
    let shown = status(&dropped, None, false);
    let expected =
        "       Requests: some were dropped in the last minute; peers repeat them while they need what they ask for
                 of 7e:21:4a:70:2f:02(host2): 15 (12 over the limit, 3 without a next hop), the last 4 s ago: more \
requests?than 32
                 and 7 more peers: status --json

";
    assert!(shown.contains(expected), "{shown}");
    dropped.refused.remove(0);
    assert!(!status(&dropped, None, false).contains("Requests"), "what was long ago, or is a warning, is not shown");
}

#[test]
fn a_summary_lists_some_links_and_counts_the_rest() {
    let mut crowd = example();
    crowd.connections = vec![attempt("10.0.0.1:6783", ConnectionState::Connecting); 20];
    let shown = status(&crowd, None, false);
    assert_eq!(shown.matches("->  10.0.0.1:6783").count(), 16);
    assert!(shown.contains("                 and 4 more: status connections\n"), "{shown}");
}
