//! One address outside the range, wanted on several hosts at once: one host gets it, and the others are told which.

use std::{net::Ipv4Addr, process::Output, thread};

use weave_tests::lab::{
    Host, Lab, Plan, SETTLED, Traffic,
    cmd::text,
    eventually,
    host::ping,
    measure::{measured, rounds},
};

/// The address of a round.
fn outside(round: usize) -> Ipv4Addr {
    Ipv4Addr::new(172, 31, 7, u8::try_from(1 + round % 250).expect("small"))
}

fn attach(host: &Host, address: Ipv4Addr) -> Output {
    host.try_weave(&["attach", &format!("{address}/24"), &host.container(1)]).expect("attach")
}

/// Hosts whose container has the address.
fn holders(lab: &Lab, address: Ipv4Addr) -> Vec<usize> {
    let has = |host: &&Host| {
        let container = host.ps(&host.container(1)).expect("ps");
        container.is_some_and(|container| container["addrs"].to_string().contains(&format!("\"{address}/")))
    };
    lab.hosts().iter().filter(has).map(Host::number).collect()
}

#[test]
#[ignore = "needs root"]
fn outside_address_is_given_to_one_host_of_three() {
    let lab = Lab::ready(Plan::of("lcone", 3).containers(1)).expect("a Lab");
    let all = lab.addresses().expect("addresses");
    let count = rounds(3);
    for round in 0..count {
        let address = outside(round);
        let ended: Vec<Output> = thread::scope(|scope| {
            let begun: Vec<_> = lab.hosts().iter().map(|host| scope.spawn(move || attach(host, address))).collect();
            begun.into_iter().map(|attach| attach.join().expect("attach")).collect()
        });
        let holders = holders(&lab, address);
        let [holder] = holders[..] else { panic!("{address} is on hosts {holders:?}") };
        for (host, output) in lab.hosts().iter().zip(&ended) {
            assert_eq!(output.status.success(), host.number() == holder, "{}", text(output));
            if !output.status.success() {
                let told = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(
                    told.contains(&format!("00:0{holder} has address {address}")),
                    "host {holder} has it, told was: {told}"
                );
            }
        }
        // Its holder gives it back, and another host can have it.
        let host = lab.host(holder);
        host.weave(&["detach", &address.to_string(), &host.container(1)]).expect("detach");
        let other = lab.host(1 + holder % 3);
        assert!(eventually(SETTLED, || attach(other, address).status.success()), "{}", text(&attach(other, address)));
        other.weave(&["detach", &address.to_string(), &other.container(1)]).expect("detach");
    }
    measured("outside-address-given-once", count, "times");
    assert!(ping(&all[0].0, all[1].1, 3));
}

#[test]
#[ignore = "needs root"]
fn outside_address_is_on_one_host_after_a_partition() {
    let lab = Lab::ready(Plan::of("lcpart", 3).containers(1)).expect("a Lab");
    let count = rounds(3);
    for round in 0..count {
        let (address, alone) = (outside(round), 1 + round % 3);
        let others = [1 + alone % 3, 1 + (alone + 1) % 3];
        others.iter().for_each(|other| lab.block(alone, *other, Traffic::All).expect("a cut"));
        let command = format!("{address}/24");
        let mut begun: Vec<_> = lab
            .hosts()
            .iter()
            .map(|host| host.begin(&["attach", &command, &host.container(1)]).expect("attach"))
            .collect();
        // Either side may know the peer that grants it, the other side waits.
        assert!(eventually(SETTLED, || !holders(&lab, address).is_empty()));
        assert_eq!(holders(&lab, address).len(), 1);
        others.iter().for_each(|other| lab.unblock(alone, *other).expect("the cut ends"));
        let ended = || begun.iter_mut().all(|attach| attach.try_wait().expect("its state").is_some());
        assert!(eventually(SETTLED * 2, ended), "an attach is not answered");
        let holders = holders(&lab, address);
        let [holder] = holders[..] else { panic!("{address} is on hosts {holders:?}") };
        let host = lab.host(holder);
        host.weave(&["detach", &address.to_string(), &host.container(1)]).expect("detach");
        lab.wait_established(SETTLED).expect("sessions come back");
    }
    measured("outside-address-once-after-partition", count, "times");
}
