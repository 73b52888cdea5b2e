//! Lines of links and attempts, from fixed states of a controller.

use std::{collections::BTreeSet, net::SocketAddr};

use super::super::{
    status,
    tests::{attempt, example, id, text, with_detours},
};
use crate::{
    api::types::{Connection, ConnectionState},
    cli::args::StatusPart,
};

#[test]
fn connections_are_aligned_and_give_reasons() {
    let expected = "\
<-  192.168.48.12:33866  established  no-password  direct   7e:21:4a:70:2f:02(host2)  mtu=1450 rtt=1.2ms
->  192.168.48.13:6783   pending      no-password  no-data  7e:21:4a:70:2f:03(h3)
->  192.168.48.14:6783   retrying     connection refused, next attempt in 4.2s
->  h1                   failed       cannot connect to ourself
->  host5.example        connecting
";
    assert_eq!(status(&example(), Some(StatusPart::Connections), false), expected);
}

#[test]
fn connections_tell_how_packets_go_and_why() {
    let expected = "\
<-  192.168.48.12:33866  established  no-password  direct       7e:21:4a:70:2f:02(host2)  mtu=1450 rtt=1.2ms
->  192.168.48.13:6783   pending      no-password  relayed      7e:21:4a:70:2f:03(h3)                         via \
7e:21:4a:70:2f:02(host2): no answer from 192.168.48.13:6784 for 12 s
->  192.168.48.14:50123  pending      no-password  unconfirmed  7e:21:4a:70:2f:04(h4)                         no peer \
reaches it
->  192.168.48.14:6783   retrying     connection refused, next attempt in 4.2s
->  h1                   failed       cannot connect to ourself
->  host5.example        connecting
";
    let mut detours = with_detours();
    assert_eq!(status(&detours, Some(StatusPart::Connections), false), expected);
    // The link's own reason goes first.
    detours.connections[1].info = text("the data port is filtered");
    let shown = status(&detours, Some(StatusPart::Connections), false);
    assert!(shown.contains("  via 7e:21:4a:70:2f:02(host2): the data port is filtered\n"), "{shown}");
}

#[test]
fn many_connections_are_sorted_and_aligned() {
    let mut crowd = example();
    use ConnectionState::{Connecting, Established, Failed, Pending, Retrying};
    let states = [Connecting, Established, Retrying, Pending, Failed];
    crowd.connections = (0..200_usize)
        .map(|n| Connection {
            peer: (n % 5 == 1 || n % 5 == 3).then(|| id(n as u8, &"x".repeat(n % 13))),
            data: (n % 5 == 1).then(|| ([10, 0, 0, 1], 6784).into()),
            mtu: (n % 5 == 1).then_some(1450),
            info: if n % 5 == 3 { format!("reason {n}") } else { String::new() },
            ..attempt(&format!("10.0.{}.{}:6783", n % 7 * 20, n), states[n % 5])
        })
        .collect();
    crowd.connections.push(attempt("a-host", Established));
    let shown = status(&crowd, Some(StatusPart::Connections), false);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 201);
    let words: Vec<Vec<&str>> = lines.iter().map(|l| l.split_whitespace().collect()).collect();
    let state_at = lines[0].find(words[0][2]).expect("the state");
    assert!(lines.iter().zip(&words).all(|(l, w)| l[state_at..].starts_with(w[2])), "{shown}");
    let states: Vec<&str> = words.iter().map(|w| w[2]).collect();
    let order = ["established"; 41].into_iter().chain(["pending"; 40]).chain(["retrying"; 40]);
    assert_eq!(states, order.chain(["failed"; 40]).chain(["connecting"; 40]).collect::<Vec<_>>());
    let addresses: Vec<SocketAddr> = words[..40].iter().map(|w| w[1].parse().expect("an address")).collect();
    assert!(addresses.is_sorted(), "{shown}");
    assert_eq!(words[40][1], "a-host");
    // What is told of a peer begins in one column, and so do the reasons.
    let peer_at = lines[0].find("7e:21").expect("a peer");
    let with_peer = || lines.iter().filter(|l| l.contains("7e:21"));
    assert!(with_peer().count() == 80 && with_peer().all(|l| l[peer_at..].starts_with("7e:21")), "{shown}");
    let reason_at = |l: &str| l.find("reason ");
    assert_eq!(with_peer().filter_map(|l| reason_at(l)).collect::<BTreeSet<_>>().len(), 1, "{shown}");
}
