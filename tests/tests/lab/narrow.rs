//! Packets of containers that are larger than the path to their peer: hosts whose tables are written by hand.
//!
//! Host N has the container 10.32.N.1; host 2 relays between hosts 1 and 3.

use std::{
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    time::Duration,
};

use weave_tests::lab::{
    SETTLED,
    cmd::{output, run, text},
    eventually,
    host::ping_with,
    tables::{Network, container},
    traffic::{send_super_packet, tcp, within},
};

/// Outer and inner bytes that the narrow paths take.
const PATH: u32 = 1400;
const INNER: u32 = PATH - weave_common::vxlan::OVERHEAD;
/// Modes of `IP_MTU_DISCOVER` that look at the device's MTU alone, with DF clear: name servers use the second.
const INTERFACE: libc::c_int = 4;
const OMIT: libc::c_int = 5;
/// Bytes of a TCP transfer of which every one is checked.
const TRANSFER: u64 = 8 << 20;

/// What `ping -M do` prints for packets of `size` bytes with headers.
fn ping_do(from: &str, to: Ipv4Addr, size: u32) -> String {
    let (net, size, to) = (format!("--net=/run/netns/{from}"), (size - 28).to_string(), to.to_string());
    let args = ["nsenter", &net, "ping", "-n", "-c", "2", "-i", "0.1", "-W", "1", "-M", "do", "-s", &size, &to];
    text(&output(&args).expect("ping runs"))
}

#[test]
#[ignore = "needs root"]
fn senders_are_told_the_size_that_a_narrow_path_takes() {
    let network = Network::narrow_chain("lnicmp", 1450, PATH);
    let from = network.name(1);
    for (to, answers) in [(container(2), 1), (container(3), 2)] {
        let said = ping_do(&from, to, 1428);
        let lines = [format!("From {to} icmp_seq=1 Frag needed and DF set (mtu = {INNER})"), format!("mtu={INNER}")];
        assert!(lines.iter().all(|line| said.contains(line)), "{said}");
        assert_eq!(network.counter(1, "icmp-too-big").0, answers);
        let shown = run(&["ip", "-n", &from, "route", "get", &to.to_string()]).expect("a route");
        assert!(shown.contains(&format!("mtu {INNER}")), "{shown}");
    }
    // From here on every packet fits, and what is not larger passes from the start.
    assert!(ping_with(&from, container(3), &["-c", "2", "-i", "0.05", "-W", "1", "-M", "do", "-s", "1322"]));
    assert_eq!(network.counter(1, "icmp-too-big").0, 2);
    assert_eq!(network.drops(1, "too-big"), 0);
}

#[test]
#[ignore = "needs root"]
fn tcp_crosses_a_narrow_path_at_once() {
    let network = Network::narrow_chain("lntcp", 1450, PATH);
    // From each to one that it has not sent to: both ends of a connection know what either was told.
    for (from, to) in [(1, 2), (3, 1)] {
        tcp(&network.name(from), &network.name(to), container(to), TRANSFER).expect("TCP");
        assert!(network.counter(from, "icmp-too-big").0 > 0, "host {from} told nobody");
    }
    // Each connection gets the answer that quotes its own packet.
    tcp(&network.name(1), &network.name(3), container(3), TRANSFER).expect("TCP, with the size known");
}

/// Sends one datagram of `bytes`, and tells whether it arrived whole.
fn arrives(network: &Network, from: usize, to: usize, bytes: usize, discover: libc::c_int) -> bool {
    use std::os::fd::AsRawFd as _;
    let inbound = within(&network.name(to), || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))).expect("a socket");
    inbound.set_read_timeout(Some(Duration::from_secs(2))).expect("a limit");
    let outbound = within(&network.name(from), || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))).expect("a socket");
    // SAFETY: the option takes an int, which lives across the call; the descriptor is open.
    let set = unsafe {
        libc::setsockopt(
            outbound.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            (&raw const discover).cast(),
            size_of_val(&discover) as libc::socklen_t,
        )
    };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    let port = inbound.local_addr().expect("an address").port();
    outbound.send_to(&vec![7; bytes], (container(to), port)).expect("sent");
    let mut buffer = vec![0; 1 << 16];
    inbound.recv(&mut buffer).is_ok_and(|length| length == bytes)
}

#[test]
#[ignore = "needs root"]
fn what_may_be_cut_arrives_by_the_slow_path() {
    // Containers send 1500 bytes, which with the outer headers are more than a device takes: the stack cuts them.
    let network = Network::narrow_chain("lnslow", 1500, 1500);
    assert!(ping_with(
        &network.name(1),
        container(3),
        &["-c", "2", "-i", "0.05", "-W", "1", "-M", "dont", "-s", "1472"]
    ));
    for (from, to) in [(1, 2), (1, 3), (3, 1)] {
        for bytes in [1472, 8000] {
            // What the route says (DONT, WANT: until it is told less), what the device takes (INTERFACE, OMIT: always; the
            // former refuses more than one packet).
            for discover in [libc::IP_PMTUDISC_DONT, libc::IP_PMTUDISC_WANT, INTERFACE, OMIT] {
                if bytes > 1472 && discover == INTERFACE {
                    continue;
                }
                let slow = network.counter(from, "slow-path").0;
                let whole = arrives(&network, from, to, bytes, discover);
                // Whole datagrams of this kind have DF set: their sender is told.
                let told = discover == libc::IP_PMTUDISC_WANT && bytes == 1472;
                assert!(whole || told, "{bytes} bytes from {from} to {to}, mode {discover}");
                let by_slow_path = network.counter(from, "slow-path").0 > slow;
                assert!(by_slow_path || discover < INTERFACE, "{bytes} bytes, mode {discover}: not by the slow path");
            }
        }
    }
    assert!(network.counter(2, "relay").0 > 0, "host 2 relayed nothing");
    for at in 1..=3 {
        for reason in ["ttl-exhausted", "relay-back", "unknown-sender", "not-on-underlay", "kernel"] {
            assert_eq!(network.drops(at, reason), 0, "{reason} at host {at}");
        }
    }
}

#[test]
#[ignore = "needs root"]
fn super_packets_that_may_be_cut_arrive_by_the_slow_path() {
    const BYTES: usize = 30_000;
    let network = Network::narrow_chain("lngso", 1500, 1500);
    for to in [2, 3] {
        let inbound = within(&network.name(to), || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))).expect("a socket");
        inbound.set_read_timeout(Some(Duration::from_secs(2))).expect("a limit");
        let port = inbound.local_addr().expect("an address").port();
        send_super_packet(&network.name(1), SocketAddrV4::new(container(to), port), BYTES, 1472).expect("sent");
        let (mut arrived, mut buffer) = (0, vec![0; 1 << 16]);
        while arrived < BYTES {
            arrived += inbound.recv(&mut buffer).unwrap_or_else(|e| panic!("{arrived} of {BYTES} to host {to}: {e}"));
        }
    }
    assert!(network.counter(1, "slow-path").0 > 0);
}

#[test]
#[ignore = "needs root"]
fn slow_path_packets_leave_from_the_data_port() {
    let network = Network::narrow_chain("lnport", 1500, 1500);
    let net = format!("--net=/run/netns/{}", network.lab.host(2).netns());
    let filter = "udp and src port 6784 and dst port 6784";
    let mut watch = std::process::Command::new("nsenter")
        .args([&net, "timeout", "20", "tcpdump", "-n", "-c", "3", "-i", "eth0", filter])
        .spawn()
        .expect("tcpdump");
    let seen = eventually(SETTLED, || {
        arrives(&network, 1, 2, 1472, libc::IP_PMTUDISC_DONT);
        watch.try_wait().expect("tcpdump").is_some()
    });
    assert!(seen && watch.wait().expect("tcpdump").success(), "no first fragment from port 6784");
}
