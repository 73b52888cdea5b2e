//! The order of steps, and veths between namespaces of their own.

use std::time::Duration;

use ipnet::Ipv4Net;
use weave_common::addr::Mac;

use super::{EndpointError, Step, ensure, list, raise, remove, set_mtu, step};
use crate::{
    proto::{
        io::EndpointSpec,
        reservation::{Netns, Place},
    },
    shell::netns::{
        resolve,
        tests::{TestNetns, run},
    },
};

fn nets(texts: &[&str]) -> Vec<Ipv4Net> {
    texts.iter().map(|t| t.parse().unwrap()).collect()
}

#[test]
fn addresses_are_changed_one_at_a_time() {
    let net = |text: &str| text.parse::<Ipv4Net>().unwrap();
    let cases: &[(&[&str], &[&str], Step)] = &[
        (&[], &[], Step::Done),
        (&[], &["10.0.0.1/24"], Step::Add(net("10.0.0.1/24"))),
        (&["10.0.0.1/24"], &["10.0.0.1/24"], Step::Done),
        (&["10.0.0.1/16"], &["10.0.0.1/24"], Step::Remove(0)),
        (&["10.0.0.1/24"], &[], Step::Remove(0)),
        (&["10.0.0.1/24"], &["10.0.0.1/24", "10.0.0.2/24"], Step::Add(net("10.0.0.2/24"))),
        // The order within a subnet counts, that of subnets does not.
        (&["10.0.0.2/24", "10.0.0.1/24"], &["10.0.0.1/24", "10.0.0.2/24"], Step::Remove(0)),
        (&["10.1.0.1/24", "10.0.0.1/24"], &["10.0.0.1/24", "10.1.0.1/24"], Step::Done),
        (&["10.0.0.1/24", "10.1.0.1/24", "10.0.0.2/24"], &["10.0.0.1/24", "10.0.0.2/24", "10.1.0.1/24"], Step::Done),
        (&["10.0.0.2/24"], &["10.0.0.1/24", "10.0.0.2/24"], Step::Remove(0)),
    ];
    for (present, wanted, expected) in cases {
        assert_eq!(step(&nets(present), &nets(wanted)), *expected, "{present:?} -> {wanted:?}");
    }
}

fn place(netns: &TestNetns) -> Place {
    resolve(&netns.path()).unwrap().place
}

/// A host and a container, both namespaces.
struct Fixture {
    host: TestNetns,
    container: TestNetns,
}

impl Fixture {
    fn new(tag: &str) -> Self {
        Self { host: TestNetns::new(&format!("{tag}-h")), container: TestNetns::new(&format!("{tag}-c")) }
    }

    fn spec(&self, addrs: &[&str]) -> EndpointSpec {
        EndpointSpec {
            place: place(&self.container),
            host_if: "wv1".to_owned(),
            mac: Mac::of_container([10, 32, 0, 1]),
            mtu: 1450,
            addrs: nets(addrs),
            routes: Vec::new(),
        }
    }

    fn ensure(&self, spec: &EndpointSpec) -> Result<u32, EndpointError> {
        let ifindex = self.host.block_on(ensure(spec))?;
        self.host.block_on(raise(ifindex))?;
        Ok(ifindex)
    }

    fn addrs(&self) -> Vec<String> {
        let text = self.container.ip(&["-o", "-4", "addr", "show", "dev", "ethwe"]);
        text.lines().map(|l| l.split_whitespace().nth(3).unwrap().to_owned()).collect()
    }
}

#[test]
#[ignore = "needs root"]
fn a_container_gets_exactly_what_the_spec_says() {
    let f = Fixture::new("ep");
    let spec = f.spec(&["10.32.0.1/12", "10.32.0.2/12", "192.168.7.1/24"]);
    f.host.block_on(ensure(&spec)).unwrap();
    let link = f.host.ip(&["link", "show", "wv1"]);
    assert!(link.contains("state DOWN") && !link.contains("UP"), "up before it can have its program: {link}");
    assert!(!f.container.ip(&["link", "show", "ethwe"]).contains("LOWER_UP"));
    let index = f.ensure(&spec).unwrap();

    let link = f.container.ip(&["-d", "link", "show", "ethwe"]);
    for text in ["mtu 1450", "LOWER_UP", "0a:77:0a:20:00:01", "addrgenmode none"] {
        assert!(link.contains(text), "{text}: {link}");
    }
    let link = f.host.ip(&["-d", "link", "show", "wv1"]);
    assert!(
        link.starts_with(&format!("{index}: wv1@")) && link.contains("mtu 1450") && link.contains("LOWER_UP"),
        "{link}"
    );
    assert!(link.contains("addrgenmode none"), "{link}");
    assert_eq!(f.addrs(), ["10.32.0.1/12", "192.168.7.1/24", "10.32.0.2/12"]);
    assert!(f.container.ip(&["route"]).contains("10.32.0.0/12 dev ethwe"), "{}", f.container.ip(&["route"]));
    assert!(!f.container.ip(&["addr", "show", "dev", "ethwe"]).contains("inet6"));
    assert_eq!(f.host.block_on(list()).unwrap().into_iter().collect::<Vec<_>>(), [("wv1".to_owned(), index)]);

    f.host.block_on(remove("wv1")).unwrap();
    f.host.block_on(remove("wv1")).unwrap();
    assert!(matches!(f.host.block_on(raise(index)), Err(EndpointError::Host { .. })), "a device that is gone");
    assert!(f.host.block_on(list()).unwrap().is_empty());
    assert!(!f.container.ip(&["link"]).contains("ethwe"));
}

#[test]
#[ignore = "needs root"]
fn what_is_right_stays_and_the_rest_is_changed() {
    let f = Fixture::new("ep-again");
    let mut spec = f.spec(&["10.32.0.1/12", "10.32.0.2/12"]);
    let index = f.ensure(&spec).unwrap();
    assert_eq!(f.ensure(&spec).unwrap(), index);

    f.container.ip(&["addr", "add", "10.99.0.1/24", "dev", "ethwe"]);
    f.container.ip(&["link", "set", "ethwe", "down"]);
    f.host.ip(&["link", "set", "wv1", "down"]);
    assert_eq!(f.ensure(&spec).unwrap(), index);
    assert_eq!(f.addrs(), ["10.32.0.1/12", "10.32.0.2/12"]);
    assert!(f.container.ip(&["link", "show", "ethwe"]).contains("LOWER_UP"));

    // The new first address is the old second one.
    spec.addrs = nets(&["10.32.0.2/12", "10.32.0.3/12", "10.32.0.1/12"]);
    spec.mac = Mac::of_container([10, 32, 0, 2]);
    spec.mtu = 8950;
    assert_eq!(f.ensure(&spec).unwrap(), index);
    assert_eq!(f.addrs(), ["10.32.0.2/12", "10.32.0.3/12", "10.32.0.1/12"]);
    let link = f.container.ip(&["link", "show", "ethwe"]);
    assert!(link.contains("mtu 8950") && link.contains("0a:77:0a:20:00:02"), "{link}");
    assert!(f.host.ip(&["link", "show", "wv1"]).contains("mtu 8950"));

    spec.addrs.clear();
    f.ensure(&spec).unwrap();
    assert!(f.addrs().is_empty());
}

#[test]
#[ignore = "needs root"]
fn mtu_of_a_running_interface_changes_in_place() {
    let f = Fixture::new("ep-mtu");
    let spec = f.spec(&["10.32.0.1/12"]);
    let index = f.ensure(&spec).unwrap();
    let lower = |place: Place, mtu| f.host.block_on(set_mtu(spec.host_if.clone(), place, mtu));
    lower(place(&f.container), 1230).unwrap();
    lower(place(&f.container), 1230).unwrap();
    assert!(f.container.ip(&["link", "show", "ethwe"]).contains("mtu 1230 "));
    assert!(f.host.ip(&["link", "show", "wv1"]).contains("mtu 1230 "));
    assert_eq!(
        (f.addrs(), f.ensure(&EndpointSpec { mtu: 1230, ..spec.clone() }).unwrap()),
        (vec!["10.32.0.1/12".to_owned()], index)
    );

    // What is not its veth is left alone.
    let other = TestNetns::new("ep-mtu-c2");
    assert!(lower(place(&other), 1000).is_err(), "no interface there");
    other.ip(&["link", "add", "ethwe", "type", "bridge"]);
    assert!(matches!(lower(place(&other), 1000), Err(EndpointError::Taken { .. })));
    assert!(f.host.ip(&["link", "show", "wv1"]).contains("mtu 1230 "));
    let none = Netns { path: "/run/netns/none".to_owned(), id: Default::default() };
    assert!(matches!(lower(Place::Netns(none), 1000), Err(EndpointError::Netns(_))));
}

#[test]
#[ignore = "needs root"]
fn an_interface_of_somebody_else_is_left_alone() {
    let f = Fixture::new("ep-taken");
    let spec = f.spec(&["10.32.0.1/12"]);
    f.container.ip(&["link", "add", "ethwe", "type", "bridge"]);
    let error = f.ensure(&spec).unwrap_err();
    assert!(matches!(error, EndpointError::Taken { .. }), "{error}");
    assert!(error.to_string().contains(&f.container.path()), "{error}");
    assert!(f.host.block_on(list()).unwrap().is_empty());

    // Another veth of ours in that container.
    f.container.ip(&["link", "del", "ethwe"]);
    f.ensure(&spec).unwrap();
    let other = EndpointSpec { host_if: "wv2".to_owned(), ..spec.clone() };
    assert!(matches!(f.ensure(&other), Err(EndpointError::Taken { .. })));
    assert_eq!(f.host.block_on(list()).unwrap().len(), 1);

    f.host.ip(&["link", "add", "wv3", "type", "bridge"]);
    let error = f.ensure(&EndpointSpec { host_if: "wv3".to_owned(), ..spec }).unwrap_err();
    assert!(matches!(error, EndpointError::HostTaken { .. }), "{error}");
    assert!(matches!(f.host.block_on(remove("wv3")), Err(EndpointError::HostTaken { .. })));
}

#[test]
#[ignore = "needs root"]
fn a_host_end_that_leads_elsewhere_is_replaced() {
    let f = Fixture::new("ep-stale");
    let spec = f.spec(&["10.32.0.1/12"]);
    let second = TestNetns::new("ep-stale-c2");
    let old = f.ensure(&spec).unwrap();
    let index = f.ensure(&EndpointSpec { place: place(&second), ..spec.clone() }).unwrap();
    assert_ne!(index, old);
    assert!(!f.container.ip(&["link"]).contains("ethwe"));
    assert!(second.ip(&["link"]).contains("ethwe"));

    // The same indexes in another namespace are not taken for the same veth.
    f.container.ip(&["link", "add", "ethwe", "type", "veth", "peer", "name", "other"]);
    assert!(matches!(f.ensure(&spec), Err(EndpointError::Taken { .. })));
    assert!(second.ip(&["link"]).contains("ethwe"));
}

#[test]
#[ignore = "needs root"]
fn renamed_ends_are_found_and_left_as_they_are() {
    let f = Fixture::new("ep-name");
    let spec = f.spec(&["10.32.0.1/12"]);
    let index = f.ensure(&spec).unwrap();
    f.container.ip(&["link", "set", "ethwe", "name", "eth0"]);
    f.host.ip(&["link", "set", "wv1", "name", "ens7"]);
    // Others take the old names.
    f.container.ip(&["link", "add", "ethwe", "type", "bridge"]);
    f.host.ip(&["link", "add", "wv1", "type", "bridge"]);
    assert_eq!(f.ensure(&spec).unwrap(), index);
    assert_eq!(f.host.block_on(list()).unwrap().into_iter().collect::<Vec<_>>(), [("wv1".to_owned(), index)]);
    f.host.block_on(set_mtu(spec.host_if.clone(), place(&f.container), 1300)).unwrap();
    let inside = f.container.ip(&["addr", "show", "eth0"]);
    assert!(inside.contains("mtu 1300") && inside.contains("10.32.0.1/12"), "{inside}");
    assert!(f.host.ip(&["link", "show", "ens7"]).contains("mtu 1300"));

    f.host.block_on(remove("wv1")).unwrap();
    assert!(f.host.block_on(list()).unwrap().is_empty());
    assert!(!f.container.ip(&["link"]).contains("eth0"));
    assert!(f.host.ip(&["link", "show", "wv1"]).contains("wv1"), "the other device of that name stays");
}

#[test]
#[ignore = "needs root"]
fn a_failure_leaves_nothing_behind() {
    let f = Fixture::new("ep-undo");
    // The kernel refuses a multicast address as an interface's own, after the veth is made.
    let error = f.ensure(&f.spec(&["10.32.0.1/12", "224.0.0.1/24"])).unwrap_err();
    assert!(matches!(error, EndpointError::Netlink { .. }), "{error}");
    assert!(f.host.block_on(list()).unwrap().is_empty());
    assert!(!f.container.ip(&["link"]).contains("ethwe"));

    // An interface that was there before the failure stays.
    f.ensure(&f.spec(&["10.32.0.1/12"])).unwrap();
    f.ensure(&f.spec(&["10.32.0.1/12", "224.0.0.1/24"])).unwrap_err();
    assert_eq!(f.addrs(), ["10.32.0.1/12"]);

    let mut gone = f.spec(&[]);
    gone.place = Place::Netns(Netns { path: "/run/netns/shell-no-such".to_owned(), id: Default::default() });
    assert!(matches!(f.ensure(&gone), Err(EndpointError::Netns(_))));
}

#[test]
#[ignore = "needs root"]
fn a_container_that_ends_takes_its_veth_along() {
    let f = Fixture::new("ep-gone");
    f.ensure(&f.spec(&["10.32.0.1/12"])).unwrap();
    run("ip", &["netns", "del", &f.container.name]);
    let gone = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        f.host.block_on(list()).unwrap().is_empty()
    });
    assert!(gone);
    run("ip", &["netns", "add", &f.container.name]);
    f.ensure(&f.spec(&["10.32.0.1/12"])).unwrap();
}
