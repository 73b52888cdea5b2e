//! Peers that must not join, and strangers on every port: refused, shown with the reason, and nobody else notices.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream, UdpSocket},
    os::unix::net::UnixStream,
    thread,
    time::Duration,
};

use weave_ctl::{
    api::{REQUEST_MAX, SOCKET},
    proto::io::{FRAME_MAX, Input},
};
use weave_tests::lab::{
    Host, Lab, Plan, SETTLED, eventually,
    flood::{Probe, VNI_DATA, VNI_PROBE, flag, name, vxlan},
    load::Load,
    peer::HandPeer,
    traffic::within,
    underlay,
};

/// Longest wait for a stranger's connection to be closed.
const CLOSED_WITHIN: Duration = Duration::from_secs(30);

/// Hosts 1 and 2 with a container each under load; host 3 has nothing yet.
fn under_load(prefix: &str, args: &[&str]) -> (Lab, Load) {
    let lab = Lab::new(Plan::of(prefix, 3).containers(1).launch(args)).expect("a Lab");
    lab.launch(1, &[]).expect("launch");
    lab.launch(2, &[&underlay(1).to_string()]).expect("launch");
    for n in [1, 2] {
        let host = lab.host(n);
        assert!(eventually(SETTLED, || host.established() == 1), "{}", host.connections_text());
        host.attach(&host.container(1)).expect("attach");
    }
    let load = Load::start(&container(&lab, 1), &container(&lab, 2)).expect("traffic");
    (lab, load)
}

fn container(lab: &Lab, n: usize) -> (String, Ipv4Addr) {
    let name = lab.host(n).container(1);
    let address = lab.host(n).address(&name).expect("an address");
    (name, address)
}

/// The host says of an attempt at a link what is in `words`.
fn says(host: &Host, words: &[&str]) -> bool {
    eventually(SETTLED, || {
        let all = host.connections().unwrap_or_default();
        all.iter().any(|c| words.iter().all(|w| c["info"].as_str().is_some_and(|info| info.contains(w))))
    })
}

/// The host warns in `status`, for its operator, with these words.
fn warns(host: &Host, words: &[&str]) -> bool {
    eventually(SETTLED, || {
        let shown = host.weave(&["status"]).unwrap_or_default();
        shown.lines().any(|l| l.contains("Warning") && words.iter().all(|w| l.contains(w)))
    })
}

/// What a newcomer with these arguments of its own is told; the others' links are as before.
fn stays_outside(lab: &Lab, args: &[&str], words: &[&str]) {
    let host = lab.host(3);
    let (one, two) = (underlay(1).to_string(), underlay(2).to_string());
    let seeds = ["--name", "::3", "--seed", "::1,::2,::3", &one, &two];
    host.weave(&[&["launch"], &seeds[..], args].concat()).expect("it launches");
    assert!(says(host, words), "{}", host.connections_text());
    assert_eq!(host.established(), 0);
    // The other side says so as well: it refused a connection that never said who it is.
    assert!(eventually(SETTLED, || lab.host(1).log_tail(20).contains("refused a connection from 192.168.77.3")));
    for n in [1, 2] {
        assert_eq!(lab.host(n).established(), 1, "{}", lab.host(n).connections_text());
    }
    host.weave(&["reset", "--force"]).expect("reset");
}

#[test]
#[ignore = "needs root"]
fn a_peer_with_another_password_or_none_stays_outside() {
    let (lab, load) = under_load("lppass", &["--password", "right"]);
    stays_outside(&lab, &["--password", "wrong"], &["password differs", "same password", "--ipalloc-range"]);
    stays_outside(
        &lab,
        &[],
        &["the peer has a password, this one has neither password nor key", "same --password-file"],
    );
    // With the right one it is let in.
    lab.launch(3, &[&underlay(1).to_string()]).expect("launch");
    lab.wait_established(SETTLED).expect("links");
    load.stop_whole().expect("traffic is not disturbed");
}

#[test]
#[ignore = "needs root"]
fn a_peer_with_a_password_among_peers_without_stays_outside() {
    let (lab, load) = under_load("lpnone", &[]);
    stays_outside(
        &lab,
        &["--password", "any"],
        &["the peer has neither password nor key, this one has a password", "same --password-file"],
    );
    load.stop_whole().expect("traffic is not disturbed");
}

#[test]
#[ignore = "needs root"]
fn two_peers_of_one_name_are_refused_and_both_sides_say_so() {
    let (lab, load) = under_load("lpname", &[]);
    let (one, two, host) = (lab.host(1), lab.host(2), lab.host(3));
    // Host 3 takes the name of host 1 and dials it.
    let launch = |target: usize| {
        let target = underlay(target).to_string();
        host.weave(&["launch", "--name", "::1", "--seed", "::1,::2,::3", "--no-discovery", &target])
            .expect("it launches");
    };
    launch(1);
    for side in [one, host] {
        assert!(warns(side, &["collision", "00:00:00:00:00:01", "192.168.77.", "--name"]), "{}", shown(side));
    }
    assert!(says(host, &["collision", "--name"]), "{}", host.connections_text());
    host.weave(&["reset", "--force"]).expect("reset");
    // Then it dials host 2, which knows the other.
    launch(2);
    assert!(warns(two, &["two peers are called 00:00:00:00:00:01", "192.168.77.3", "--name"]), "{}", shown(two));
    assert!(says(host, &["--name"]), "the refused side is not told why: {}", host.connections_text());
    assert_eq!([one.established(), two.established(), host.established()], [1, 1, 0]);
    load.goes_on().expect("traffic is not disturbed");
    // The remedy works, and the warning goes.
    host.weave(&["reset", "--force"]).expect("reset");
    lab.launch(3, &[&underlay(1).to_string()]).expect("launch");
    lab.wait_established(SETTLED).expect("links");
    load.stop_whole().expect("traffic is not disturbed");
}

fn shown(host: &Host) -> String {
    host.weave(&["status"]).unwrap_or_else(|e| e.to_string())
}

/// Bytes without sense, the same each time.
fn garbage(length: usize) -> Vec<u8> {
    (0..length as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

#[test]
#[ignore = "needs root"]
fn garbage_on_the_control_port_disturbs_nobody() {
    let (lab, load) = under_load("lpctl", &[]);
    let to = SocketAddrV4::new(underlay(1), 6783);
    let preface = [&b"weave-ctl"[..], &[1, 0]].concat();
    let speeches = [
        garbage(100),
        garbage(4 << 20),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        [&preface[..], &[0xff; 1 << 20]].concat(),
        [&preface[..], &[0, 48], &garbage(48)].concat(),
        [&b"weave-ctl"[..], &[99, 0]].concat(),
        Vec::new(),
    ];
    for speech in &speeches {
        let mut stream = within(lab.host(3).netns(), || TcpStream::connect(to)).expect("a connection");
        stream.set_read_timeout(Some(CLOSED_WITHIN)).expect("a limit");
        // The other side may close before all of it is said: that is what it should do.
        drop(stream.write_all(speech).and_then(|()| stream.shutdown(Shutdown::Write)));
        drop(stream.read_to_end(&mut Vec::new()));
    }
    // Many that say nothing hold the port for nobody.
    let silent: Vec<TcpStream> =
        (0..200).filter_map(|_| within(lab.host(3).netns(), || TcpStream::connect(to)).ok()).collect();
    lab.host(2).weave(&["stop"]).expect("stop");
    lab.host(2).weave(&["launch"]).expect("launch");
    assert!(eventually(SETTLED, || lab.host(1).established() == 1), "{}", lab.host(1).connections_text());
    drop(silent);
    load.stop_whole().expect("traffic is not disturbed");
}

#[test]
#[ignore = "needs root"]
fn a_link_that_does_not_begin_with_hello_is_closed_and_nobody_else_notices() {
    let (lab, load) = under_load("lphello", &[]);
    let mut peer = HandPeer::on(lab.host(3)).expect("a peer");
    // Its CBOR is in order, but it is of a kind that nobody knows.
    let unknown = b"\xa2\x64kind\x66future\x64body\xf6".to_vec();
    for first in [garbage(100), garbage(FRAME_MAX), unknown, Vec::new()] {
        let opened = peer.dial(underlay(1), SETTLED).expect("a link");
        peer.send(opened.link, first);
        let closed =
            |input: Option<Input>| matches!(input, Some(Input::SessionClosed(session, _)) if session == opened.link);
        assert!(eventually(SETTLED, || closed(peer.next(SETTLED))), "the link stays open");
    }
    assert_eq!([lab.host(1).established(), lab.host(2).established()], [1, 1]);
    load.stop_whole().expect("traffic is not disturbed");
}

/// Sends `request` to the API of `host`; what it answers.
fn ask(host: &Host, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(host.run_dir().join(SOCKET)).expect("a connection");
    stream.set_read_timeout(Some(CLOSED_WITHIN)).expect("a limit");
    drop(stream.write_all(request));
    if !request.starts_with(b"POST") {
        drop(stream.shutdown(Shutdown::Write));
    }
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST /v1/{path} HTTP/1.1\r\nHost: weave\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[test]
#[ignore = "needs root"]
fn garbage_on_the_api_socket_disturbs_nobody() {
    let (lab, load) = under_load("lpapi", &[]);
    let host = lab.host(1);
    for (request, status, words) in [
        (post("attach", &vec![b'x'; REQUEST_MAX + 1]), "413", "more than"),
        (post("attach", b"{\"container\":"), "400", "not a request of this kind"),
        (post("attach", &garbage(1000)), "400", "not a request of this kind"),
        (post("attach", &[b'['; 60_000].map(|b| b)), "400", "not a request of this kind"),
        (post("attach", br#"{"container":"c","addrs":["ten"]}"#), "400", "is not an address"),
        (post("no-such-verb", b"{}"), "404", "does not know"),
    ] {
        let answer = ask(host, &request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{status}: {answer}");
        assert!(answer.contains(r#"{"error":""#) && answer.contains(words), "{answer}");
    }
    for request in [garbage(100), garbage(4 << 20), vec![b'A'; 1 << 20], Vec::new()] {
        ask(host, &request);
    }
    let silent: Vec<UnixStream> =
        (0..20).filter_map(|_| UnixStream::connect(host.run_dir().join(SOCKET)).ok()).collect();
    host.weave(&["status"]).expect("status");
    drop(silent);
    load.stop_whole().expect("traffic is not disturbed");
}

#[test]
#[ignore = "needs root"]
fn garbage_on_the_data_ports_disturbs_nobody_and_is_counted() {
    let (lab, load) = under_load("lpdata", &[]);
    let frame = |to: Ipv4Addr| {
        // For host 1, with an IPv4 header that promises more than there is.
        let ethernet = [&name(1)[..], &name(2), &[8, 0]].concat();
        [&ethernet[..], &[0x45, 0, 0xff, 0xff, 0, 0, 0, 0, 64, 17, 0, 0, 10, 32, 0, 9], &to.octets()].concat()
    };
    let inside = container(&lab, 1).1;
    // Probes of host 2 that it did not send, for host 1, for itself and for nobody.
    let probe = |receiver, flags| Probe { receiver, origin: name(2), flags, salt: u64::from(flags) + 7 }.bytes();
    let flags = [0, flag::REPLY, flag::CHALLENGE, flag::PROOF, flag::ANNOUNCE, 0xff];
    let probes = [name(1), name(2), [9; 6]].into_iter().flat_map(|receiver| flags.map(|flags| probe(receiver, flags)));
    let mut speeches = vec![
        Vec::new(),
        garbage(7),
        garbage(1400),
        vxlan(0, &[]),
        vxlan(7, &garbage(60)),
        vxlan(255, &frame(inside)),
        vxlan(VNI_DATA, &frame(inside)),
        vxlan(VNI_DATA, &frame(Ipv4Addr::BROADCAST)),
        vxlan(VNI_DATA, &garbage(1000)),
        vxlan(VNI_PROBE, &garbage(38)),
        vxlan(VNI_PROBE, &garbage(1000)),
    ];
    speeches.extend(probes);
    // From a stranger, and from a peer, whose address the kernel trusts.
    thread::scope(|scope| {
        for n in [2, 3] {
            let (netns, speeches) = (lab.host(n).netns(), &speeches);
            scope.spawn(move || {
                let socket = within(netns, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))).expect("a socket");
                for _ in 0..50 {
                    for (speech, port) in speeches.iter().flat_map(|s| [(s, 6783), (s, 6784)]) {
                        socket.send_to(speech, (underlay(1), port)).expect("sent");
                    }
                }
            });
        }
    });
    let status = || lab.host(1).json(&["status"]).expect("status");
    let dropped = |reason: &str| {
        let status = status();
        let all = status["dataplane"]["drops"].as_array().expect("drops");
        all.iter().find(|d| d["reason"] == reason).and_then(|d| d["packets"].as_u64()).unwrap_or(0)
    };
    let reasons = ["wrong-vni", "malformed", "unknown-sender", "bad-cookie", "contact-refused"];
    assert!(eventually(SETTLED, || reasons.iter().all(|reason| dropped(reason) > 0)), "{}", status());
    load.goes_on().expect("traffic is not disturbed");
    assert_eq!(lab.host(1).established(), 1);
    load.stop_whole().expect("traffic is not disturbed");
}
