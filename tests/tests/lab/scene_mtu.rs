//! Scenes: what packets of which size reach whom, while devices and switches change under running containers.
//!
//! Bounds of time are ten times as wide as what is promised; `measured:` lines give the figures.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::fd::AsRawFd as _,
    thread::sleep,
    time::{Duration, Instant},
};

use weave_tests::lab::{
    Everyone, Lab, Plan, SETTLED, Traffic,
    cmd::{run, text},
    device::{Kind, mtu_of},
    eventually,
    host::{ping_output, ping_with},
    measure::{measured, measured_time, median, rounds, time_until},
    speed::{Transfer, throughput},
    traffic::{TcpFlow, UdpFlow, within},
    underlay,
    view::{Path, peer_name},
};

type Container = (String, Ipv4Addr);

/// What the switch of the narrow scenes passes, in bytes of outer packets.
const NARROW: u16 = 1400;
/// The largest packet of a container that fits into such a one.
const INNER: u32 = 1350;
/// For so long a device that changes nothing is up.
const WHILE: Duration = Duration::from_secs(3);
/// Time of one measurement of speed.
const SPEED: Duration = Duration::from_millis(400);
/// Bytes that show that TCP runs.
const RUNS: u64 = 1 << 20;
/// Ten times the longest stall of a transfer whose path narrows.
const STALL_MAX: Duration = Duration::from_secs(50);
/// Ten times the time within which a path's size is confirmed.
const CONFIRMED: Duration = Duration::from_secs(30);
/// A tenth of "more than half of the speed on the wide path".
const SPEED_MIN: f64 = 0.05;

/// How fast TCP runs between two containers, in bytes a second: the median of three.
fn speed(from: &Container, to: &Container) -> f64 {
    let once = || throughput(&from.0, &to.0, to.1, SPEED).unwrap_or_else(|e| panic!("{from:?} to {to:?}: {e:#}"));
    median((0..3).map(|_| once()).collect())
}

/// What `ping` prints, errors included.
fn ping_said(from: &Container, to: &Container, flags: &[&str]) -> String {
    text(&ping_output(&from.0, to.1, flags).expect("ping runs"))
}

/// Packets of `size` bytes of payload that may not be cut: from the second on each is answered with the right size, by
/// the destination's address or by the sender's own kernel, which took it from there.
fn is_told(from: &Container, to: &Container, size: u32) {
    let size = size.to_string();
    let said = ping_said(from, to, &["-c", "4", "-i", "0.2", "-W", "1", "-M", "do", "-s", &size]);
    let (by_message, by_kernel) = (format!("(mtu = {INNER})"), format!("mtu={INNER}"));
    let told = said.lines().filter(|line| line.contains(&by_message) || line.contains(&by_kernel)).count();
    assert!(told >= 3, "{from:?} to {to:?} is told of {INNER} bytes {told} times of 4:\n{said}");
    let author = format!("From {} ", to.1);
    let wrong = said.lines().any(|line| line.contains(&by_message) && !line.starts_with(&author));
    assert!(!wrong, "the message is not from {author}:\n{said}");
}

/// Packets of these sizes that may be cut arrive, each in both directions.
fn cut_ones_arrive(one: &Container, other: &Container, sizes: &[u32]) {
    for (size, (from, to)) in sizes.iter().flat_map(|size| [(size, (one, other)), (size, (other, one))]) {
        let flags = ["-c", "5", "-i", "0.05", "-W", "1", "-M", "dont", "-s", &size.to_string()];
        assert!(ping_with(&from.0, to.1, &flags), "{size} bytes {from:?} to {to:?}: {}", ping_said(from, to, &flags));
        let arrived = datagrams_that_may_be_cut(from, to, *size as usize, 5);
        assert_eq!(arrived, 5, "datagrams of {size} bytes {from:?} to {to:?}");
    }
}

/// Sends datagrams without the DF bit; how many arrive whole.
fn datagrams_that_may_be_cut(from: &Container, to: &Container, size: usize, count: usize) -> usize {
    let receiver = within(&to.0, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))).expect("a socket");
    receiver.set_read_timeout(Some(Duration::from_secs(1))).expect("a limit");
    let at = SocketAddrV4::new(to.1, receiver.local_addr().expect("an address").port());
    let sender = within(&from.0, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))).expect("a socket");
    let never = libc::IP_PMTUDISC_DONT;
    // SAFETY: the option takes an int; `never` is one and lives across the call, and the descriptor is open.
    let set = unsafe {
        libc::setsockopt(
            sender.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            (&raw const never).cast(),
            size_of_val(&never) as libc::socklen_t,
        )
    };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    let mut buffer = vec![0; 65536];
    let arrives = |n: usize| {
        sender.send_to(&vec![n as u8; size], at).expect("sent");
        match receiver.recv(&mut buffer) {
            Ok(length) => length == size && buffer[..length].iter().all(|byte| *byte == n as u8),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => false,
            Err(e) => panic!("receive: {e}"),
        }
    };
    (0..count).map(arrives).filter(|arrived| *arrived).count()
}

/// Container `c` of host `n`.
fn container(lab: &Lab, n: usize, c: usize) -> Container {
    let name = lab.host(n).container(c);
    let address = lab.host(n).address(&name).expect("an address");
    (name, address)
}

/// MTUs of all containers' interfaces.
fn mtus(all: &[Container]) -> Vec<u32> {
    all.iter().map(|(name, _)| mtu_of(name, "ethwe").expect("an MTU")).collect()
}

/// A transfer moves on by [`RUNS`] bytes; the time that it takes to.
fn runs(transfer: &Transfer, limit: Duration, what: &str) -> Duration {
    let before = transfer.arrived();
    let took = time_until(limit, || transfer.arrived() >= before + RUNS);
    took.unwrap_or_else(|| panic!("{what}: TCP moved {} bytes in {limit:?}", transfer.arrived() - before))
}

/// `status` of host `n` has a line that names the container, and the size that it exceeds.
fn excess_is_shown(lab: &Lab, n: usize, container: &str, size: u32) {
    let shown = || lab.host(n).weave(&["status"]).unwrap_or_default();
    let has = |line: &str| line.contains(container) && line.contains(&size.to_string());
    assert!(eventually(CONFIRMED, || shown().lines().any(has)), "no line has {container} and {size}:\n{}", shown());
}

#[test]
#[ignore = "needs root"]
fn unrelated_devices_change_nothing() {
    let lab = Lab::ready(Plan::of("scmdev", 3).containers(1)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    Everyone::of(&all).expect("sockets").reach_each_other(SETTLED).expect("everyone");
    lab.wait_direct(SETTLED).expect("direct paths");
    let before = (mtus(&all), speed(&all[0], &all[1]), speed(&all[1], &all[0]));
    for (kind, mtu) in [(Kind::Tun, 1280), (Kind::Bridge, 1280), (Kind::Veth, 576), (Kind::Bridge, 68)] {
        let what = format!("{kind:?} with MTU {mtu}");
        // Full-size datagrams between all hosts, and TCP with room for them: a full queue would lose some, too.
        let pairs = [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2)];
        let flows = pairs.map(|(from, to): (usize, usize)| {
            UdpFlow::start(&all[from].0, &all[to].0, all[to].1, 100, 1422).expect("a flow")
        });
        let tcp = [(0, 1), (1, 0)].map(|(from, to): (usize, usize)| {
            TcpFlow::start(&all[from].0, &all[to].0, all[to].1, Duration::from_millis(5)).expect("a connection")
        });
        let device = lab.host(1).add_unrelated(kind, mtu).expect("a device");
        sleep(WHILE);
        let reached = tcp.each_ref().map(TcpFlow::arrived);
        let goes_on = || tcp.iter().zip(reached).all(|(flow, before)| flow.arrived() > before + RUNS);
        assert!(eventually(SETTLED, goes_on), "{what}: TCP stands at {:?}", tcp.each_ref().map(TcpFlow::arrived));
        for flow in tcp {
            flow.stop().unwrap_or_else(|e| panic!("{what}: {e:#}"));
        }
        for (pair, flow) in pairs.iter().zip(flows) {
            let flow = flow.stop().expect("a count");
            assert!(flow.is_whole(), "{what}, {pair:?}: {flow:?}");
        }
        assert_eq!(mtus(&all), before.0, "{what}: containers have another MTU");
        for there in [2, 3] {
            let path = lab.host(1).path(there).expect("status").expect("a path");
            assert!(path.is_direct() && path.mtu == Some(1450), "{what}: {path:?}");
        }
        let (out, back) = (speed(&all[0], &all[1]) / before.1, speed(&all[1], &all[0]) / before.2);
        measured("unrelated-device-speed", format_args!("{:.3}", out.min(back)), "ratio");
        assert!(out.min(back) > SPEED_MIN, "{what}: TCP runs at {out:.3} and {back:.3} of its speed");
        drop(device);
    }
}

#[test]
#[ignore = "needs root"]
fn a_small_device_before_the_launch_changes_nothing() {
    let lab = Lab::new(Plan::of("scmold", 2).containers(1).mtu(9000)).expect("a Lab");
    let devices = [(1, Kind::Bridge), (2, Kind::Tun)].map(|(n, kind)| lab.host(n).add_unrelated(kind, 1280));
    let devices = devices.map(|device| device.expect("a device"));
    lab.launch_all().expect("launch");
    lab.wait_established(SETTLED).expect("sessions");
    lab.attach_all().expect("attach");
    let all = lab.addresses().expect("addresses");
    assert_eq!(mtus(&all), [8950, 8950]);
    for (from, to) in [(&all[0], &all[1]), (&all[1], &all[0])] {
        let full = ["-c", "3", "-i", "0.2", "-W", "1", "-M", "do", "-s", "8922"];
        let passes = eventually(SETTLED, || ping_with(&from.0, to.1, &full));
        assert!(passes, "packets of 8950 bytes: {}", ping_said(from, to, &full));
    }
    drop(devices);
}

/// Three hosts with plain cards and two containers each; the switch passes [`NARROW`] bytes between these two.
fn narrow(prefix: &str, one: usize, other: usize) -> Lab {
    let lab = Lab::new(Plan::of(prefix, 3)).expect("a Lab");
    lab.plain_cards().expect("ethtool");
    lab.block(one, other, Traffic::Longer(NARROW)).expect("a fault");
    lab.launch_all().expect("launch");
    lab.wait_established(SETTLED).expect("sessions");
    lab.attach_all().expect("attach");
    lab
}

/// From the first packet on: TCP runs, the size is confirmed, and the sender is told.
fn narrow_path_carries(lab: &Lab, near: usize, far: usize, wide: usize) {
    let [a, b, c] = [near, far, wide].map(|n| container(lab, n, 1));
    let transfer = Transfer::start(&a.0, &b.0, b.1).expect("small packets pass");
    measured_time("narrow-path-tcp-runs", runs(&transfer, CONFIRMED, "the narrow path"));
    for (here, there) in [(near, far), (far, near)] {
        let known = |p: &Path| p.mtu == Some(INNER.into());
        lab.host(here).wait_path(there, CONFIRMED, known).expect("the path's size");
    }
    transfer.stop().expect("it ends");
    // Containers whose kernels were told nothing yet: their whole packets and their fragments are too large as they come.
    let [fresh, other] = [near, far].map(|n| container(lab, n, 2));
    cut_ones_arrive(&fresh, &other, &[1400, 8000]);
    is_told(&fresh, &other, 1400);
    is_told(&other, &fresh, 1400);
    // Afterwards they are cut where they are sent.
    cut_ones_arrive(&fresh, &other, &[1400, 8000]);
    let ratios = [(&a, &b, &c), (&b, &a, &c)].map(|(from, to, wide)| {
        let (narrow, wide) = (speed(from, to), speed(from, wide));
        narrow / wide
    });
    ratios.iter().for_each(|ratio| measured("narrow-path-speed", format_args!("{ratio:.3}"), "ratio"));
    assert!(ratios.iter().all(|ratio| *ratio > SPEED_MIN), "TCP runs at {ratios:?} of the wide path's speed");
    excess_is_shown(lab, near, &a.0, INNER);
}

#[test]
#[ignore = "needs root"]
fn a_narrow_switch_is_told_to_senders() {
    let lab = narrow("scmhole", 1, 2);
    lab.wait_direct(SETTLED).expect("direct paths");
    narrow_path_carries(&lab, 1, 2, 3);
}

#[test]
#[ignore = "needs root"]
fn a_narrow_hop_of_a_relay_is_told_to_senders() {
    let lab = narrow("scmrelay", 2, 3);
    let (one, three) = (container(&lab, 1, 1), container(&lab, 3, 1));
    // Host 2 relays between 1 and 3, and is the wide path of host 1 and the narrow one of host 3.
    lab.block(1, 3, Traffic::Data).expect("a fault");
    let small = UdpFlow::start(&one.0, &three.0, three.1, 20, 100).expect("a flow");
    for (here, there) in [(1, 3), (3, 1)] {
        lab.host(here).wait_path(there, SETTLED, |p| p.is_through(2)).expect("a relay");
    }
    let since = Instant::now();
    let transfer = Transfer::start(&one.0, &three.0, three.1).expect("small packets pass");
    measured_time("narrow-relay-tcp-runs", runs(&transfer, CONFIRMED, "the relayed path"));
    transfer.stop().expect("it ends");
    // What was sent before the size is known is lost, and a transfer may run before it is.
    for (here, there) in [(1, 3), (3, 1)] {
        let known = |p: &Path| p.is_through(2) && p.mtu == Some(INNER.into());
        lab.host(here).wait_path(there, CONFIRMED, known).expect("the path's size");
    }
    measured_time("narrow-relay-size-known", since.elapsed());
    let [fresh, other] = [1, 3].map(|n| container(&lab, n, 2));
    cut_ones_arrive(&fresh, &other, &[1400, 8000]);
    is_told(&fresh, &other, 1400);
    is_told(&other, &fresh, 1400);
    assert!(small.stop().expect("a count").received > 0);
}

/// Two hosts with a container each, direct to each other, and the names and addresses of the containers.
fn direct_pair(prefix: &str) -> (Lab, Vec<(String, Ipv4Addr)>) {
    let lab = Lab::new(Plan::of(prefix, 2).containers(1)).expect("a Lab");
    lab.plain_cards().expect("ethtool");
    lab.launch_all().expect("launch");
    lab.wait_established(SETTLED).expect("sessions");
    lab.attach_all().expect("attach");
    let all = lab.addresses().expect("addresses");
    lab.wait_direct(SETTLED).expect("direct paths");
    (lab, all)
}

#[test]
#[ignore = "needs root"]
fn a_path_that_narrows_under_a_transfer_stalls_it_shortly() {
    let (lab, all) = direct_pair("scmsoon");
    let transfer = Transfer::start(&all[0].0, &all[1].0, all[1].1).expect("a transfer");
    runs(&transfer, SETTLED, "the wide path");
    transfer.forget_pauses();
    lab.block(1, 2, Traffic::Longer(NARROW)).expect("a fault");
    runs(&transfer, STALL_MAX, "the path that narrowed");
    let stall = transfer.longest_pause();
    measured_time("narrowing-path-stall", stall);
    assert!(stall < STALL_MAX, "TCP stood still for {stall:?}");
    lab.host(1).wait_path(2, CONFIRMED, |p| p.mtu == Some(INNER.into())).expect("the path's size");
    transfer.stop().expect("it ends");
}

/// Lowers something under transfers in both directions, and returns when its effect is there; they go on.
fn lowered(all: &[Container], what: &str, lower: impl FnOnce()) {
    let tcp = [(0, 1), (1, 0)]
        .map(|(from, to): (usize, usize)| Transfer::start(&all[from].0, &all[to].0, all[to].1).expect("a transfer"));
    for transfer in &tcp {
        runs(transfer, SETTLED, what);
        transfer.forget_pauses();
    }
    lower();
    for transfer in &tcp {
        runs(transfer, STALL_MAX, what);
    }
    let stall = tcp.iter().map(Transfer::longest_pause).max().unwrap_or_default();
    measured_time("lowered-underlay-stall", stall);
    assert!(stall < STALL_MAX, "{what}: TCP stood still for {stall:?}");
    tcp.into_iter().for_each(|transfer| transfer.stop().expect("it ends"));
}

#[test]
#[ignore = "needs root"]
fn a_lowered_underlay_leaves_old_containers_running() {
    let lab = Lab::new(Plan::of("scmlow", 2).mtu(9000)).expect("a Lab");
    lab.plain_cards().expect("ethtool");
    lab.launch_all().expect("launch");
    lab.wait_established(SETTLED).expect("sessions");
    // The second containers are attached when all is over.
    for host in lab.hosts() {
        host.attach(&host.container(1)).expect("attach");
    }
    let all = [1, 2].map(|n| container(&lab, n, 1));
    lab.wait_direct(SETTLED).expect("direct paths");
    assert_eq!(mtus(&all), [8950, 8950]);
    let follows = |n: usize, mtu: u32| {
        let took = time_until(SETTLED, || mtu_of(&all[n - 1].0, "ethwe").is_ok_and(|now| now == mtu));
        measured_time("container-mtu-follows", took.unwrap_or_else(|| panic!("{:?}", mtus(&all))));
        // No other interface of the container is touched.
        assert_eq!(mtu_of(&all[n - 1].0, "lo").expect("an MTU"), 65536);
    };
    lowered(&all, "host 1 alone at 1500", || lab.set_mtu(1, 1500).expect("ip"));
    follows(1, 1450);
    excess_is_shown(&lab, 2, &all[1].0, 1450);
    lowered(&all, "all at 1500", || lab.set_mtu_of_all(1500).expect("ip"));
    follows(2, 1450);
    // New containers with old ones.
    let new = [1, 2].map(|n| {
        let name = lab.host(n).container(2);
        let address = lab.host(n).attach(&name).expect("attach");
        (name, address)
    });
    assert_eq!(mtus(&new), [1450, 1450]);
    for (from, to) in [(&new[0], &all[1]), (&all[1], &new[0]), (&new[1], &all[0]), (&all[0], &new[1])] {
        assert!(speed(from, to) > 0.0, "{from:?} to {to:?}: no byte of TCP");
    }
}

#[test]
#[ignore = "needs root"]
fn a_route_with_a_smaller_size_leaves_containers_running() {
    let (lab, all) = direct_pair("scmroute");
    for _ in 0..rounds(1) {
        let (route, net) = (format!("{}/32", underlay(2)), lab.host(1).netns());
        lowered(&all, "a route locked at 1400", || {
            run(&["ip", "-n", net, "route", "replace", &route, "dev", "eth0", "mtu", "lock", "1400"]).expect("a route");
            let known = |p: &Path| p.mtu == Some(INNER.into());
            lab.host(1).wait_path(2, CONFIRMED, known).expect("the path's size");
        });
        assert!(lab.host(1).is_linked(2), "the session to {} is gone", peer_name(2));
        run(&["ip", "-n", net, "route", "del", &route]).expect("a route");
        lab.host(1).wait_path(2, SETTLED, |p| p.mtu == Some(1450)).expect("the wide path again");
    }
}
