//! Containers that come, go, vanish, and their addresses.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, UdpSocket},
    os::fd::AsRawFd as _,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use rustix::net::{AddressFamily, SocketType};
use weave_tests::lab::{
    GRACE, Host, Lab, Plan, SETTLED, SHORT_GRACE,
    cmd::{output, run},
    eventually,
    host::ping,
    traffic::within,
    underlay,
};

/// Whether the host has the host end of the interface with this address.
fn has_interface(host: &Host, address: Ipv4Addr) -> bool {
    let name = format!("wv{:08x}", u32::from(address));
    run(&["ip", "-n", host.netns(), "-o", "link"]).expect("devices").contains(&name)
}

/// Interface and kernel's entry of a container are gone, and its address is kept for it.
fn is_kept(host: &Host, container: &str, address: Ipv4Addr) -> bool {
    !has_interface(host, address)
        && !host.endpoints().expect("endpoints").contains(&address)
        && host.ps(container).is_ok_and(|shown| shown.is_some_and(|c| c["state"] == "vanished"))
}

/// Interface, kernel's entry and allocation of a container are gone.
fn is_gone(host: &Host, container: &str, address: Ipv4Addr) -> bool {
    !has_interface(host, address)
        && !host.endpoints().expect("endpoints").contains(&address)
        && host.ps(container).is_ok_and(|shown| shown.is_none())
}

/// A container that vanished is cleared away: at once but for its address, which nobody else gets for some time.
fn is_cleared_away(host: &Host, container: &str, address: Ipv4Addr) {
    assert!(eventually(SETTLED, || is_kept(host, container, address)), "{:?}", host.ps(container));
    let next = host.add_container(8).expect("a container");
    let kept = host.refused(&["attach", &address.to_string(), &next], 1).expect("refused");
    assert!(kept.contains(&format!("is kept for {container}")), "{kept}");
    assert!(eventually(GRACE + SETTLED, || is_gone(host, container, address)), "{:?}", host.ps(container));
}

/// What `attach` prints, one address a word.
fn attach(host: &Host, args: &[&str]) -> Vec<Ipv4Addr> {
    let printed = host.weave(&[&["attach"], args].concat()).expect("attach");
    printed.split_whitespace().map(|word| word.parse().expect("an address")).collect()
}

/// The address goes to another container, which works with it.
fn is_given_again(host: &Host, address: Ipv4Addr, neighbour: Ipv4Addr) {
    let next = host.add_container(9).expect("a container");
    assert_eq!(attach(host, &[&address.to_string(), &next]), [address]);
    assert!(ping(&next, neighbour, 2), "{address} does not work for its next container");
}

#[test]
#[ignore = "needs root"]
fn detach_takes_interface_endpoint_and_address_away() {
    let lab = Lab::ready(Plan::of("lcdet", 2).containers(1)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let (host, (name, address)) = (lab.host(1), &all[0]);
    assert!(has_interface(host, *address) && host.endpoints().expect("endpoints").contains(address));
    assert_eq!(host.weave(&["detach", name]).expect("detach"), format!("{address}\n"));
    assert!(is_gone(host, name, *address));
    assert!(output(&["ip", "-n", name, "link", "show", "ethwe"]).is_ok_and(|o| !o.status.success()));
    assert!(!ping(&all[1].0, *address, 1), "a detached container answers");
    let again = host.refused(&["detach", name], 1).expect("refused");
    assert!(again.contains("is not attached"), "{again}");
    is_given_again(host, *address, all[1].1);
    let fresh = host.attach(name).expect("attach");
    assert_ne!(fresh, *address);
    assert!(ping(&all[1].0, fresh, 2));
}

#[test]
#[ignore = "needs root"]
fn a_container_that_disappears_is_cleared_away() {
    let lab = Lab::ready(Plan::of("lcgone", 2).containers(2).launch(&SHORT_GRACE)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let (host, (name, address)) = (lab.host(1), &all[0]);
    let warning = "grace periods are shortened to 6 s: for tests only";
    assert_eq!(host.warnings().expect("status"), warning);
    assert!(host.weave(&["status"]).expect("status").contains(&format!("Warning: {warning}")));
    run(&["ip", "netns", "del", name]).expect("remove the container");
    is_cleared_away(host, name, *address);
    is_given_again(host, *address, all[3].1);
    assert!(ping(&all[1].0, all[3].1, 2), "the other container is disturbed");
}

#[test]
#[ignore = "needs root"]
fn a_container_that_disappears_while_no_controller_runs_is_cleared_away() {
    let lab = Lab::ready(Plan::of("lcdown", 2).containers(2)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let (host, (name, address)) = (lab.host(1), &all[0]);
    host.kill().expect("kill");
    run(&["ip", "netns", "del", name]).expect("remove the container");
    assert!(eventually(SETTLED, || !has_interface(host, *address)), "the interface stays");
    host.weave(&[&["launch"], &SHORT_GRACE[..]].concat()).expect("launch");
    is_cleared_away(host, name, *address);
    is_given_again(host, *address, all[3].1);
    assert!(ping(&all[1].0, all[3].1, 2), "the other container is disturbed");
}

#[test]
#[ignore = "needs root"]
fn a_container_made_anew_under_its_name_attaches() {
    let lab = Lab::ready(Plan::of("lcnew", 2).containers(1)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let (host, name) = (lab.host(1), &all[0].0);
    for _ in 0..3 {
        run(&["ip", "netns", "del", name]).expect("remove the container");
        host.add_container(1).expect("the container again");
        // The old interface goes in its own time: until then a refusal may come, never a container without traffic.
        assert!(eventually(SETTLED, || host.attach(name).is_ok_and(|_| ping(name, all[1].1, 1))));
        assert_eq!(host.endpoints().expect("endpoints").len(), 1);
    }
}

#[test]
#[ignore = "needs root"]
fn attaching_twice_changes_nothing() {
    let lab = Lab::ready(Plan::of("lctwice", 1).containers(1)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let (host, (name, address)) = (lab.host(1), &all[0]);
    let index = || run(&["ip", "-n", name, "-o", "link", "show", "ethwe"]).expect("the interface");
    let before = index();
    assert_eq!(attach(host, &[name]), [*address]);
    assert_eq!(attach(host, &[&address.to_string(), name]), [*address]);
    assert_eq!(attach(host, &[&format!("/run/netns/{name}")]), [*address]);
    assert_eq!(index(), before, "the interface was made anew");
    assert_eq!(host.json(&["ps"]).expect("ps").as_array().map(Vec::len), Some(1));
}

#[test]
#[ignore = "needs root"]
fn a_container_is_found_by_process_number_too() {
    let lab = Lab::ready(Plan::of("lcpid", 2).containers(1)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let host = lab.host(1);
    let name = host.add_container(2).expect("a container");
    let net = format!("--net=/run/netns/{name}");
    let mut process = Command::new("nsenter")
        .args([&net, "sleep", "300"])
        .stdout(Stdio::null())
        .spawn()
        .expect("a process in the container");
    let pid = process.id().to_string();
    let listed = || run(&["ip", "netns", "pids", &name]).expect("processes").contains(&pid);
    assert!(eventually(SETTLED, listed), "the process is not in the container");
    let addresses = attach(host, &[&pid]);
    assert!(ping(&name, all[1].1, 2));
    assert_eq!(host.weave(&["detach", &pid]).expect("detach"), format!("{}\n", addresses[0]));
    process.kill().and_then(|()| process.wait()).expect("the process ends");
}

#[test]
#[ignore = "needs root"]
fn withheld_addresses_are_never_given_and_a_full_range_says_so() {
    let range = ["--ipalloc-range", "10.9.0.0/29"];
    let lab = Lab::new(Plan::of("lcfull", 1).containers(8).launch(&range)).expect("a Lab");
    lab.launch(1, &[]).expect("launch");
    let host = lab.host(1);
    let names = host.containers();
    let given: BTreeSet<Ipv4Addr> = names[..5].iter().map(|name| host.attach(name).expect("attach")).collect();
    let expected: BTreeSet<Ipv4Addr> = (1..=5).map(|n| Ipv4Addr::new(10, 9, 0, n)).collect();
    assert_eq!(given, expected);
    let full = host.refused(&["attach", &names[6]], 1).expect("refused");
    assert!(full.contains("no address is free") && full.contains("5 are given"), "{full}");
    for reserved in ["10.9.0.0", "10.9.0.7"] {
        let refused = host.refused(&["attach", reserved, &names[6]], 1).expect("refused");
        assert!(refused.contains("network or broadcast address"), "{refused}");
    }
    let refused = host.refused(&["attach", "10.9.0.6", &names[6]], 1).expect("refused");
    assert!(refused.contains("where every host answers questions for names"), "{refused}");
    assert!(ping(&names[0], host.address(&names[4]).expect("an address"), 2));
    let freed = host.address(&names[2]).expect("an address");
    host.weave(&["detach", &names[2]]).expect("detach");
    assert_eq!(host.attach(&names[6]).expect("attach"), freed);
    assert!(ping(&names[0], freed, 2));
}

#[test]
#[ignore = "needs root"]
fn every_seed_gives_addresses_of_its_own_part() {
    let range = ["--ipalloc-range", "10.9.0.0/28"];
    let lab = Lab::ready(Plan::of("lcpart", 3).containers(4).launch(&range)).expect("a Lab");
    let given: Vec<Ipv4Addr> = lab.addresses().expect("addresses").into_iter().map(|(_, address)| address).collect();
    let different: BTreeSet<Ipv4Addr> = given.iter().copied().collect();
    assert_eq!(different.len(), 12, "an address was given twice: {given:?}");
    assert!(!different.contains(&Ipv4Addr::new(10, 9, 0, 0)) && !different.contains(&Ipv4Addr::new(10, 9, 0, 15)));
    // 16 addresses, of which three are given to nobody: three hosts hold one more than the twelve.
    // Who gets none waits, so all ask at once.
    let mut callers = Vec::new();
    for host in lab.hosts() {
        for n in 5..=7 {
            let name = host.add_container(n).expect("a container");
            callers.push(host.begin(&["attach", &name]).expect("begin"));
        }
    }
    let granted = callers.iter_mut().map(|caller| caller.wait().expect("it ends").success());
    assert_eq!(granted.filter(|granted| *granted).count(), 1);
}

#[test]
#[ignore = "needs root"]
fn fixed_and_several_addresses_work_and_can_be_taken_away_singly() {
    let lab = Lab::ready(Plan::of("lcmany", 2).containers(2)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let (host, far, near) = (lab.host(1), &all[2].0, &all[1].0);
    let name = host.add_container(3).expect("a container");
    // Of the first host's half of the range.
    let fixed = [Ipv4Addr::new(10, 32, 7, 7), Ipv4Addr::new(10, 33, 8, 8)];
    let args = [fixed[0].to_string(), format!("ip:{}/12", fixed[1]), "net:10.34.0.0/16".to_owned(), name.clone()];
    let given = attach(host, &args.each_ref().map(String::as_str));
    assert_eq!(given[..2], fixed);
    assert_eq!(given[2].octets()[..2], [10, 34]);
    for address in &given {
        assert!(ping(far, *address, 2) && ping(near, *address, 2), "{address} does not answer");
        assert!(host.endpoints().expect("endpoints").contains(address));
    }
    // The first address goes, the others stay.
    let text = fixed[0].to_string();
    assert_eq!(host.weave(&["detach", &text, &name]).expect("detach"), format!("{text}\n"));
    assert!(!ping(far, fixed[0], 1) && !host.endpoints().expect("endpoints").contains(&fixed[0]));
    assert!(ping(far, fixed[1], 2) && ping(near, given[2], 2));
    // All of it outlives a restart.
    host.kill().expect("kill");
    host.weave(&["launch"]).expect("launch");
    assert!(ping(far, fixed[1], 2) && ping(near, given[2], 2));
    let more = attach(host, &[&text, &name]);
    assert!(more.contains(&fixed[0]) && more.len() == 3, "{more:?}");
    assert!(ping(far, fixed[0], 2) && ping(near, fixed[1], 2));
}

#[test]
#[ignore = "needs root"]
fn many_containers_attach_and_detach_at_once() {
    let lab = Lab::ready(Plan::of("lcburst", 1).containers(12)).expect("a Lab");
    let host = lab.host(1);
    let names = host.containers();
    for _ in 0..2 {
        let mut callers: Vec<_> = names.iter().map(|n| host.begin(&["detach", n]).expect("begin")).collect();
        assert!(callers.iter_mut().all(|c| c.wait().is_ok_and(|status| status.success())));
        assert_eq!(host.endpoints().expect("endpoints").len(), 0);
        let mut callers: Vec<_> = names.iter().map(|n| host.begin(&["attach", n]).expect("begin")).collect();
        assert!(callers.iter_mut().all(|c| c.wait().is_ok_and(|status| status.success())));
        let all = lab.addresses().expect("addresses");
        assert_eq!(host.endpoints().expect("endpoints"), all.iter().map(|(_, address)| *address).collect());
        assert_eq!(host.endpoints().expect("endpoints").len(), names.len());
        assert!(ping(&names[0], all[11].1, 1) && ping(&names[11], all[0].1, 1));
    }
}

/// Port of the host to which [`flood`] sends.
const PORT: u16 = 5353;

/// Sends frames out of a container's interface from the moment that it can, until told to stop: datagrams to the host's
/// underlay address, which the host's stack takes if it sees them. How many left.
fn flood(container: &str, to: Ipv4Addr, stop: &AtomicBool) -> u64 {
    let socket = within(container, || Ok(rustix::net::socket(AddressFamily::PACKET, SocketType::RAW, None)?));
    let socket = socket.expect("a packet socket");
    let index = || within(container, || Ok(rustix::net::netdevice::name_to_index(&socket, "ethwe")?)).ok();
    let payload = [0_u8; 18];
    let mut udp =
        [[5353_u16.to_be_bytes(), PORT.to_be_bytes(), 26_u16.to_be_bytes(), [0; 2]].concat(), payload.to_vec()]
            .concat();
    let mut ip = vec![0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 17, 0, 0, 192, 168, 77, 200];
    ip.extend(to.octets());
    let sum = ip.first_chunk().map_or(0, weave_common::checksum::ipv4_header);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut frame = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 9], &[8, 0]].concat();
    frame.append(&mut ip);
    frame.append(&mut udp);
    let (mut sent, mut found) = (0, None);
    while !stop.load(Ordering::Relaxed) {
        found = found.or_else(index);
        let Some(ifindex) = found else { continue };
        // SAFETY: all fields are integers, for which zero is a value.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = ifindex.cast_signed();
        // SAFETY: frame and address live across the call, with the lengths given; the descriptor is open.
        let ret = unsafe {
            libc::sendto(
                socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                libc::MSG_DONTWAIT,
                (&raw const address).cast(),
                size_of_val(&address) as libc::socklen_t,
            )
        };
        sent += u64::from(ret > 0);
    }
    sent
}

#[test]
#[ignore = "needs root"]
fn nothing_of_a_container_reaches_the_host_at_attach() {
    let lab = Lab::ready(Plan::of("lcfirst", 1).containers(0)).expect("a Lab");
    let host = lab.host(1);
    // What comes would be taken, whoever sends it.
    for filter in ["all", "default"] {
        let file = format!("/proc/sys/net/ipv4/conf/{filter}/rp_filter");
        within(host.netns(), || std::fs::write(&file, "0")).expect("no filter");
    }
    let inbound = within(host.netns(), || UdpSocket::bind((underlay(1), PORT))).expect("a socket");
    inbound.set_nonblocking(true).expect("a socket");
    for c in 1..=10 {
        let name = host.add_container(c).expect("a container");
        let stop = AtomicBool::new(false);
        let sent = thread::scope(|scope| {
            let flooding = scope.spawn(|| flood(&name, underlay(1), &stop));
            host.attach(&name).expect("attach");
            thread::sleep(Duration::from_millis(20));
            stop.store(true, Ordering::Relaxed);
            flooding.join().expect("sent")
        });
        assert!(sent > 100, "only {sent} frames left {name}");
        let arrived = std::iter::from_fn(|| inbound.recv(&mut [0; 64]).ok()).count();
        assert_eq!(arrived, 0, "of {sent} frames of {name} the host's stack took {arrived}");
    }
    // The socket would have got them: the same frames from a veth without a program arrive.
    let name = host.add_container(11).expect("a container");
    run(&["ip", "-n", host.netns(), "link", "add", "plain", "type", "veth", "peer", "name", "ethwe", "netns", &name])
        .expect("a veth");
    run(&["ip", "-n", &name, "link", "set", "ethwe", "up"]).expect("up");
    run(&["ip", "-n", host.netns(), "link", "set", "plain", "up"]).expect("up");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| flood(&name, underlay(1), &stop));
        let arrived = eventually(SETTLED, || inbound.recv(&mut [0; 64]).is_ok());
        stop.store(true, Ordering::Relaxed);
        assert!(arrived, "the test sends what no host takes");
    });
}
