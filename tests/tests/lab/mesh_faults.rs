//! The Lab's own faults do what their names say, and nothing else: plain sockets on the underlay, no controller.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use weave_tests::lab::{
    Everyone, Lab, Plan, Traffic,
    cmd::{output, run, text},
    host::{ping, ping_with},
    router::{Router, inner},
    traffic::within,
    underlay,
};

/// Longest wait for what should arrive.
const ARRIVES: Duration = Duration::from_secs(2);
/// Wait for what should not.
const STAYS_AWAY: Duration = Duration::from_millis(150);

/// A datagram from one host to a port of another arrives.
fn udp(lab: &Lab, from: usize, to: usize, port: u16, expected: bool) {
    let (receiver, to) =
        (within(lab.host(to).netns(), || UdpSocket::bind(("0.0.0.0", port))).expect("a socket"), underlay(to));
    let sender = within(lab.host(from).netns(), || UdpSocket::bind("0.0.0.0:0")).expect("a socket");
    receiver.set_read_timeout(Some(if expected { ARRIVES } else { STAYS_AWAY })).expect("a limit");
    sender.send_to(b"a datagram", (to, port)).expect("sent");
    let arrived = receiver.recv(&mut [0; 64]).is_ok();
    assert_eq!(arrived, expected, "UDP from host {from} to {to}:{port}");
}

/// A connection, and what is said on it, goes through.
fn tcp(lab: &Lab, from: usize, to: usize, port: u16, expected: bool) {
    let at = SocketAddr::from((underlay(to), port));
    let listener = within(lab.host(to).netns(), || TcpListener::bind(("0.0.0.0", port))).expect("a socket");
    let limit = if expected { ARRIVES } else { STAYS_AWAY };
    let stream = within(lab.host(from).netns(), || TcpStream::connect_timeout(&at, limit));
    assert_eq!(stream.is_ok(), expected, "TCP from host {from} to {at}");
    if let Ok(mut stream) = stream {
        let (mut other, _) = listener.accept().expect("a connection");
        stream.write_all(b"said").expect("written");
        other.read_exact(&mut [0; 4]).expect("read");
    }
}

fn pings(lab: &Lab, from: usize, to: usize, expected: bool) {
    // After a cut a host may ask for the other's hardware address only once a second, and what waits for it may be lost.
    let (count, wait) = if expected { ("3", "3") } else { ("1", "0.3") };
    let answered = ping_with(lab.host(from).netns(), underlay(to), &["-c", count, "-W", wait]);
    assert_eq!(answered, expected, "ping from host {from} to host {to}");
}

#[test]
#[ignore = "needs root"]
fn faults_drop_what_they_say_and_nothing_else() {
    let lab = Lab::new(Plan::of("lmfault", 3).containers(0)).expect("a Lab");
    let all = |lab: &Lab, from: usize, to: usize, [data, control, rest]: [bool; 3]| {
        udp(lab, from, to, 6784, data);
        udp(lab, from, to, 6783, data);
        tcp(lab, from, to, 6783, control);
        tcp(lab, from, to, 5000, rest);
        udp(lab, from, to, 5000, rest);
        pings(lab, from, to, rest);
    };
    all(&lab, 1, 2, [true; 3]);

    lab.block(1, 2, Traffic::Data).expect("a fault");
    all(&lab, 1, 2, [false, true, true]);
    all(&lab, 2, 1, [false, true, true]);
    all(&lab, 1, 3, [true; 3]);
    assert_eq!(lab.blocked().expect("a count"), 4);
    lab.unblock(2, 1).expect("no fault");
    all(&lab, 1, 2, [true; 3]);

    lab.block_one_way(1, 2, Traffic::Data).expect("a fault");
    all(&lab, 1, 2, [false, true, true]);
    all(&lab, 2, 1, [true; 3]);
    lab.unblock(1, 2).expect("no fault");

    lab.block(1, 3, Traffic::Control).expect("a fault");
    all(&lab, 1, 3, [true, false, true]);
    all(&lab, 3, 1, [true, false, true]);
    // Faults of pairs add up, and go by themselves.
    lab.block(1, 2, Traffic::All).expect("a fault");
    all(&lab, 1, 2, [false; 3]);
    all(&lab, 3, 1, [true, false, true]);
    lab.unblock(1, 3).expect("no fault");
    all(&lab, 3, 1, [true; 3]);
    pings(&lab, 2, 1, false);
    lab.unblock(1, 2).expect("no fault");
    all(&lab, 2, 1, [true; 3]);
}

#[test]
#[ignore = "needs root"]
fn a_control_connection_that_is_up_stands_still_when_it_is_blocked() {
    let lab = Lab::new(Plan::of("lmctl", 2).containers(0)).expect("a Lab");
    let listener = within(lab.host(2).netns(), || TcpListener::bind("0.0.0.0:6783")).expect("a socket");
    let mut stream = within(lab.host(1).netns(), || TcpStream::connect((underlay(2), 6783))).expect("a connection");
    let (mut other, _) = listener.accept().expect("a connection");
    for direction in [(1, 2), (2, 1)] {
        lab.block_one_way(direction.0, direction.1, Traffic::Control).expect("a fault");
        let (from, to) = if direction == (1, 2) { (&mut stream, &mut other) } else { (&mut other, &mut stream) };
        to.set_read_timeout(Some(STAYS_AWAY)).expect("a limit");
        from.write_all(b"said").expect("the kernel takes it");
        assert!(to.read_exact(&mut [0; 4]).is_err(), "it arrives");
        lab.unblock(1, 2).expect("no fault");
        to.set_read_timeout(Some(ARRIVES * 4)).expect("a limit");
        to.read_exact(&mut [0; 4]).expect("it arrives late");
    }
}

#[test]
#[ignore = "needs root"]
fn hosts_without_a_wire_between_them_and_hosts_that_are_gone() {
    let plan = Plan::of("lmwire", 4).containers(0).wires(&[(1, 2), (3, 2), (3, 4)]);
    let lab = Lab::new(plan).expect("a Lab");
    for (one, other, wired) in
        [(1, 2, true), (2, 3, true), (3, 4, true), (1, 3, false), (1, 4, false), (2, 4, false), (4, 2, false)]
    {
        pings(&lab, one, other, wired);
    }
    lab.unblock(1, 3).expect("a wire");
    pings(&lab, 1, 3, true);
    pings(&lab, 1, 4, false);
    let routes = || run(&["ip", "-n", lab.host(2).netns(), "-o", "addr"]).expect("addresses");
    let before = routes();
    lab.lose(2).expect("gone");
    pings(&lab, 1, 2, false);
    pings(&lab, 3, 4, true);
    lab.set_wires(2, true).expect("wires");
    pings(&lab, 1, 2, true);
    assert_eq!(routes(), before, "losing its wires changed the host");
}

#[test]
#[ignore = "needs root"]
fn packets_above_a_length_are_dropped_without_a_word_and_a_router_says_so() {
    let lab = Lab::new(Plan::of("lmmtu", 3).containers(0)).expect("a Lab");
    let whole = |from: usize, to, size: &str| {
        ping_with(lab.host(from).netns(), to, &["-c", "1", "-W", "0.3", "-M", "do", "-s", size])
    };
    lab.put_behind(3, Router::Mtu(1200)).expect("a router");
    lab.plain_cards().expect("ethtool");
    lab.block(1, 2, Traffic::Longer(1300)).expect("a fault");
    assert!(whole(1, underlay(2), "1272") && whole(2, underlay(1), "1272"));
    assert!(!whole(1, underlay(2), "1273") && !whole(2, underlay(1), "1273"));
    assert!(whole(1, underlay(3), "1472"), "the router itself takes all");

    assert!(whole(1, inner(3), "1172") && whole(3, underlay(1), "1172"));
    for (from, to) in [(1, inner(3)), (3, underlay(1))] {
        let net = format!("--net=/run/netns/{}", lab.host(from).netns());
        // The first one brings the answer; the second is refused at home.
        let ask = ["nsenter", &net, "ping", "-c", "2", "-i", "0.1", "-W", "0.3", "-M", "do", "-s", "1173"];
        let said = text(&output(&[&ask[..], &[&to.to_string()]].concat()).expect("ping runs"));
        assert!(said.contains("mtu = 1200") || said.contains("mtu=1200"), "{said}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_host_behind_translation_begins_connections_and_is_not_reached() {
    let lab = Lab::new(Plan::of("lmnat", 2).containers(0)).expect("a Lab");
    lab.put_behind(2, Router::Nat).expect("a router");
    let listener = within(lab.host(1).netns(), || TcpListener::bind("0.0.0.0:6783")).expect("a socket");
    let _stream = within(lab.host(2).netns(), || TcpStream::connect((underlay(1), 6783))).expect("a connection");
    let (_, from) = listener.accept().expect("a connection");
    assert_eq!(from.ip(), underlay(2), "the router's address");
    assert!(!ping(lab.host(1).netns(), inner(2), 1));
    let refused =
        within(lab.host(1).netns(), || TcpStream::connect_timeout(&SocketAddr::from((underlay(2), 6783)), STAYS_AWAY));
    assert!(refused.is_err(), "the host is reached from outside");
    // Answers to a datagram find the way back.
    let server = within(lab.host(1).netns(), || UdpSocket::bind("0.0.0.0:6784")).expect("a socket");
    let client = within(lab.host(2).netns(), || UdpSocket::bind("0.0.0.0:6784")).expect("a socket");
    client.set_read_timeout(Some(ARRIVES)).expect("a limit");
    client.send_to(b"there", (underlay(1), 6784)).expect("sent");
    let (_, from) = server.recv_from(&mut [0; 16]).expect("it arrives");
    server.send_to(b"back", from).expect("sent");
    client.recv(&mut [0; 16]).expect("the answer arrives");
}

#[test]
#[ignore = "needs root"]
fn everyone_tells_who_does_not_hear_from_whom() {
    let lab = Lab::new(Plan::of("lmevery", 3).containers(0)).expect("a Lab");
    let hosts: Vec<_> = lab.hosts().iter().map(|h| (h.netns().to_owned(), underlay(h.number()))).collect();
    let mut everyone = Everyone::of(&hosts).expect("sockets");
    assert!(everyone.round(|_| true).expect("a round").is_empty());
    lab.block_one_way(1, 3, Traffic::All).expect("a fault");
    let missing = everyone.round(|_| true).expect("a round");
    assert_eq!(missing.into_iter().collect::<Vec<_>>(), [(hosts[0].0.clone(), hosts[2].0.clone())]);
    assert!(everyone.round(|name| name != hosts[2].0).expect("a round").is_empty());
    let said = everyone.reach_each_other(STAYS_AWAY).expect_err("one direction is cut").to_string();
    assert!(said.contains(&format!("{} to {}", hosts[0].0, hosts[2].0)), "{said}");
    lab.unblock(1, 3).expect("no fault");
    everyone.reach_each_other(ARRIVES).expect("all is well");
}
