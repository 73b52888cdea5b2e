//! Addresses and interfaces go together: durable first, released last, whatever fails.

use super::*;
use crate::proto::{boot::LaunchParams, name::PeerName};

const REQUEST: RequestId = RequestId(7);

fn me() -> PeerName {
    PeerName::from_bytes([0, 0, 0, 0, 0, 1])
}

fn range() -> Ipv4Net {
    "10.0.0.0/24".parse().unwrap()
}

fn params() -> LaunchParams {
    LaunchParams { range: range(), default_subnet: range(), seeds: vec![me()], peers: vec![] }
}

fn ring() -> Ring {
    Ring::from_seeds(range(), &[me()]).unwrap()
}

fn fresh() -> Endpoints {
    Endpoints::new(Allocator::new(me(), &params(), BTreeMap::new()), range(), false, &BTreeMap::new())
}

fn container(id: &str) -> Container {
    Container { id: id.into(), netns: format!("/run/netns/{id}") }
}

fn drain(endpoints: &mut Endpoints) -> Vec<Output> {
    std::iter::from_fn(|| endpoints.poll_output()).collect()
}

fn op_of(outputs: &[Output]) -> OpId {
    outputs.iter().find_map(|o| if let Output::Link(op, _) = o { Some(*op) } else { None }).unwrap()
}

fn attach(endpoints: &mut Endpoints, id: &str, asked: &[AddrRequest]) -> Vec<Output> {
    endpoints.attach(REQUEST, &container(id), asked, Some(&ring()), 1450);
    drain(endpoints)
}

fn attached(endpoints: &mut Endpoints, id: &str) {
    let op = op_of(&attach(endpoints, id, &[]));
    endpoints.done(op, Ok(LinkFacts { ifindex: 5 }));
    drain(endpoints);
}

fn refusal(outputs: &[Output]) -> String {
    let text = outputs.iter().find_map(|o| match o {
        Output::Reply { answer: Err(Refusal(text)), .. } => Some(text.clone()),
        _ => None,
    });
    text.unwrap_or_else(|| panic!("no refusal in {outputs:?}"))
}

#[test]
fn the_answer_comes_after_the_interface_and_the_record_before() {
    let mut endpoints = fresh();
    let outputs = attach(&mut endpoints, "c", &[]);
    assert!(matches!(&outputs[0], Output::Persist(Record::Allocation(id, _)) if id == "c"));
    assert!(matches!(&outputs[1], Output::Link(_, LinkOp::Ensure(spec)) if spec.host_if == "wv0a000001"));
    assert_eq!(outputs.len(), 2, "no answer yet");
    assert!(endpoints.installed().is_empty(), "no endpoint without an interface");
    endpoints.done(op_of(&outputs), Ok(LinkFacts { ifindex: 5 }));
    assert!(
        matches!(&drain(&mut endpoints)[..], [Output::Reply { answer: Ok(Answer::Attached(c)), .. }] if c.attached)
    );
    assert_eq!(endpoints.installed().len(), 1);
}

#[test]
fn a_failed_interface_gives_the_address_back() {
    let mut endpoints = fresh();
    let op = op_of(&attach(&mut endpoints, "c", &[]));
    endpoints.done(op, Err("no such namespace".into()));
    let outputs = drain(&mut endpoints);
    assert!(matches!(&outputs[0], Output::Persist(Record::AllocationGone(_))));
    assert!(refusal(&outputs).contains("no such namespace"));
    assert_eq!(endpoints.allocator().active(), 0);
}

#[test]
fn detach_releases_only_after_the_interface_is_gone() {
    let mut endpoints = fresh();
    attached(&mut endpoints, "c");
    endpoints.detach(REQUEST, "c", &[]);
    let outputs = drain(&mut endpoints);
    assert!(matches!(&outputs[..], [Output::Link(_, LinkOp::Remove { .. })]));
    assert_eq!(endpoints.allocator().active(), 1, "still held");
    assert!(endpoints.installed().is_empty(), "but no packet goes there any more");
    endpoints.done(op_of(&outputs), Ok(LinkFacts::default()));
    let outputs = drain(&mut endpoints);
    assert!(matches!(&outputs[0], Output::Persist(Record::AllocationGone(_))));
    assert!(matches!(&outputs[1], Output::Reply { answer: Ok(Answer::Detached(nets)), .. } if nets.len() == 1));
}

#[test]
fn a_failed_removal_leaves_the_container_attached() {
    let mut endpoints = fresh();
    attached(&mut endpoints, "c");
    endpoints.detach(REQUEST, "c", &[]);
    let op = op_of(&drain(&mut endpoints));
    endpoints.done(op, Err("busy".into()));
    assert!(refusal(&drain(&mut endpoints)).contains("detach it again"));
    assert_eq!(endpoints.allocator().active(), 1);
    assert_eq!(endpoints.installed().len(), 1, "packets go there again");
    endpoints.detach(REQUEST, "c", &[]);
    let op = op_of(&drain(&mut endpoints));
    endpoints.done(op, Ok(LinkFacts::default()));
    assert_eq!(endpoints.allocator().active(), 0);
}

#[test]
fn attach_again_is_the_same_and_several_addresses_add_up() {
    let mut endpoints = fresh();
    attached(&mut endpoints, "c");
    let outputs = attach(&mut endpoints, "c", &[]);
    endpoints.done(op_of(&outputs), Ok(LinkFacts { ifindex: 5 }));
    assert_eq!(endpoints.allocator().active(), 1);
    drain(&mut endpoints);
    let asked = [AddrRequest::Fixed(Ipv4Addr::new(10, 0, 0, 9), None)];
    let outputs = attach(&mut endpoints, "c", &asked);
    assert_eq!(endpoints.installed().len(), 1, "the old address keeps working meanwhile");
    endpoints.done(op_of(&outputs), Ok(LinkFacts { ifindex: 5 }));
    assert_eq!(endpoints.installed().len(), 2);
    drain(&mut endpoints);
    // Taking the first address away leaves interface, MAC and the other address.
    let mac_before = endpoints.status()[0].mac;
    endpoints.detach(REQUEST, "c", &[Ipv4Addr::new(10, 0, 0, 1)]);
    let op = op_of(&drain(&mut endpoints));
    endpoints.done(op, Ok(LinkFacts { ifindex: 5 }));
    assert_eq!(endpoints.installed().keys().copied().collect::<Vec<_>>(), [Ipv4Addr::new(10, 0, 0, 9)]);
    assert_eq!(endpoints.status()[0].mac, mac_before);
}

#[test]
fn an_address_that_was_detached_alone_does_not_take_the_interface_of_its_former_container() {
    let mut endpoints = fresh();
    attached(&mut endpoints, "c");
    let op = op_of(&attach(&mut endpoints, "c", &[AddrRequest::Fixed(Ipv4Addr::new(10, 0, 0, 9), None)]));
    endpoints.done(op, Ok(LinkFacts { ifindex: 5 }));
    endpoints.detach(REQUEST, "c", &[Ipv4Addr::new(10, 0, 0, 1)]);
    let op = op_of(&drain(&mut endpoints)[1..]);
    endpoints.done(op, Ok(LinkFacts { ifindex: 5 }));
    drain(&mut endpoints);
    attached(&mut endpoints, "other");
    let containers = endpoints.allocator().containers();
    assert_eq!(containers["other"].addrs[0].addr(), Ipv4Addr::new(10, 0, 0, 1), "the lowest free address");
    assert_eq!((&*containers["c"].host_if, &*containers["other"].host_if), ("wv0a000001", "wv0a000001b"));
    assert_eq!(host_if_addr("wv0a000001b"), Some(Ipv4Addr::new(10, 0, 0, 1)));
    assert_eq!(host_if_addr("wv0a00001"), None);
    assert_eq!(host_if_addr("wv0a000001bc"), None);
}

#[test]
fn requests_that_overlap() {
    let mut endpoints = fresh();
    let op = op_of(&attach(&mut endpoints, "c", &[]));
    assert!(attach(&mut endpoints, "c", &[]).is_empty(), "the same attach waits");
    endpoints.detach(REQUEST, "c", &[]);
    assert!(refusal(&drain(&mut endpoints)).contains("under way"));
    endpoints.done(op, Ok(LinkFacts { ifindex: 5 }));
    assert_eq!(drain(&mut endpoints).len(), 2, "both callers are answered");
}

#[test]
fn refusals_change_nothing() {
    let mut endpoints = fresh();
    attached(&mut endpoints, "a");
    let taken = AddrRequest::Fixed(Ipv4Addr::new(10, 0, 0, 1), None);
    assert!(refusal(&attach(&mut endpoints, "b", &[taken])).contains("already in use by a"));
    let outside = AddrRequest::Fixed(Ipv4Addr::new(10, 9, 0, 1), None);
    assert!(refusal(&attach(&mut endpoints, "b", &[AddrRequest::Default, outside])).contains("outside"));
    endpoints.detach(REQUEST, "b", &[]);
    assert!(refusal(&drain(&mut endpoints)).contains("not attached"));
    endpoints.detach(REQUEST, "a", &[Ipv4Addr::new(10, 0, 0, 2)]);
    assert!(refusal(&drain(&mut endpoints)).contains("does not have"));
    assert_eq!(endpoints.allocator().active(), 1);
}

#[test]
fn after_a_restart_what_vanished_is_released_and_after_a_reboot_it_is_kept() {
    let mut endpoints = fresh();
    attached(&mut endpoints, "here");
    attached(&mut endpoints, "gone");
    let containers = endpoints.allocator().containers().clone();
    let present = BTreeMap::from([(containers["here"].host_if.clone(), 5)]);
    let again = |adopted| {
        let allocator = Allocator::new(me(), &params(), containers.clone());
        Endpoints::new(allocator, range(), adopted, &present)
    };
    assert_eq!(again(true).allocator().containers().keys().collect::<Vec<_>>(), ["here"]);
    let mut rebooted = again(false);
    assert_eq!(rebooted.allocator().containers().len(), 2);
    assert_eq!(rebooted.installed().len(), 1);
    // Still kept when the controller is launched once more before the container is back.
    let allocator = Allocator::new(me(), &params(), rebooted.allocator().containers().clone());
    assert_eq!(Endpoints::new(allocator, range(), true, &present).allocator().containers().len(), 2);
    drain(&mut rebooted);
    let outputs = attach(&mut rebooted, "gone", &[]);
    assert!(matches!(&outputs[1], Output::Link(_, LinkOp::Ensure(spec)) if spec.addrs == containers["gone"].addrs));
}

#[test]
fn host_ends_that_nothing_explains_are_removed_within_the_range_only() {
    let allocator = Allocator::new(me(), &params(), BTreeMap::new());
    let present = BTreeMap::from([("wv0a000009".to_owned(), 3), ("wv0b000009".to_owned(), 4), ("wvx".to_owned(), 5)]);
    let mut endpoints = Endpoints::new(allocator, range(), true, &present);
    let outputs = drain(&mut endpoints);
    assert!(matches!(&outputs[..], [Output::Link(_, LinkOp::Remove { host_if })] if host_if == "wv0a000009"));
}

#[test]
fn a_vanished_interface_releases() {
    let mut endpoints = fresh();
    attached(&mut endpoints, "c");
    assert!(!endpoints.vanished("eth0"));
    assert!(endpoints.vanished("wv0a000001"));
    assert_eq!(endpoints.allocator().active(), 0);
    assert!(matches!(&drain(&mut endpoints)[..], [Output::Persist(Record::AllocationGone(_))]));
}
