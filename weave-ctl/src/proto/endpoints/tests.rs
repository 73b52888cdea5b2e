//! Addresses and interfaces go together: durable first, released last, whatever fails.

use std::collections::BTreeSet;

use super::*;
use crate::proto::{
    command::{AddrRequest, Container, Holder},
    ipam::Ring,
    ipam::allocator::Need,
    name::{PeerId, PeerName, PeerUid},
    params::{Init, LaunchParams},
    reservation::{BootId, Netns, NetnsId},
};

mod mtu;
mod reserve;

const REQUEST: RequestId = RequestId(7);

const BOOT: BootId = BootId([1; 16]);

const NOW: Instant = Instant::from_start(Duration::ZERO);

fn id(n: u8) -> PeerId {
    PeerId { name: PeerName::from_bytes([0, 0, 0, 0, 0, n]), uid: PeerUid(u128::from(n)) }
}

fn me() -> PeerId {
    id(1)
}

fn range() -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 24)
}

fn params() -> LaunchParams {
    LaunchParams { range: range(), default_subnet: range(), seeds: vec![], init: Init::Undeclared, peers: vec![] }
}

fn ring() -> Ring {
    Ring::from_origin(range(), &[me()]).unwrap()
}

fn fresh() -> Endpoints {
    launched(BTreeMap::new(), false, &BTreeMap::new(), GRACE)
}

/// Launched with these reservations in the store and these host ends.
fn launched(
    held: BTreeMap<String, Reservation>,
    adopted: bool,
    present: &BTreeMap<String, u32>,
    grace: Duration,
) -> Endpoints {
    let installed =
        Installed { adopted, endpoints: present.clone(), boot: BOOT, unix_start: 1000, ..Default::default() };
    Endpoints::new(Allocator::new(me(), &params(), held), range(), &installed, grace, NOW)
}

fn means(access: Access<'_>) -> Means<'_> {
    Means { access, mtu: 1450, now: NOW }
}

fn detach(endpoints: &mut Endpoints, id: &str, addrs: &[Ipv4Addr]) {
    endpoints.detach(REQUEST, &Holder { owner: id.into(), netns: None }, addrs, false);
}

fn container(id: &str) -> Container {
    let inode = id.bytes().fold(7, |hash: u64, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
    let netns = Netns { path: format!("/run/netns/{id}"), id: NetnsId { device: 4, inode, boot: BOOT } };
    Container { owner: id.into(), chosen: false, place: Place::Netns(netns), names: NameRequest::default() }
}

fn drain(endpoints: &mut Endpoints) -> Vec<Output> {
    std::iter::from_fn(|| endpoints.poll_output()).collect()
}

fn op_of(outputs: &[Output]) -> OpId {
    outputs.iter().find_map(|o| if let Output::Link(op, _) = o { Some(*op) } else { None }).unwrap()
}

fn attach(endpoints: &mut Endpoints, id: &str, asked: &[AddrRequest]) -> Vec<Output> {
    endpoints.ask_for(REQUEST, Purpose::Attach(container(id)), asked.to_vec(), &means(Access::Ring(&ring())));
    drain(endpoints)
}

fn attached(endpoints: &mut Endpoints, id: &str) {
    let op = op_of(&attach(endpoints, id, &[]));
    endpoints.done(op, Ok(5), NOW);
    drain(endpoints);
}

fn is_unfinished(reservation: &Reservation) -> bool {
    reservation.attachment.as_ref().unwrap().unfinished
}

fn refusal(outputs: &[Output]) -> String {
    let text = outputs.iter().find_map(|o| match o {
        Output::Reply(_, Err(Refusal(text))) => Some(text.clone()),
        _ => None,
    });
    text.unwrap_or_else(|| panic!("no refusal in {outputs:?}"))
}

#[test]
fn the_answer_comes_after_the_interface_and_the_record_before() {
    let mut endpoints = fresh();
    let outputs = attach(&mut endpoints, "c", &[]);
    assert!(matches!(&outputs[0], Output::Persist(Record::Reservation(id, _)) if id == "c"));
    assert!(matches!(&outputs[1], Output::Link(_, LinkOp::Ensure(spec)) if spec.host_if == "wv0a000001"));
    assert_eq!(outputs.len(), 2, "no answer yet");
    assert!(endpoints.installed().is_empty(), "no endpoint without an interface");
    endpoints.done(op_of(&outputs), Ok(5), NOW);
    assert!(
        matches!(&drain(&mut endpoints)[..], [Output::Reply(_, Ok(Answer::Container(c)))] if c.state == ContainerState::Attached)
    );
    assert_eq!(endpoints.installed().len(), 1);
}

#[test]
fn every_container_gets_a_way_to_the_service_address() {
    let mut endpoints = fresh();
    for (id, last, length, expected) in [("c", 9, 24, None), ("d", 17, 28, Some("10.0.0.254/32"))] {
        let asked = AddrRequest::Fixed(Ipv4Addr::new(10, 0, 0, last), Some(length));
        let outputs = attach(&mut endpoints, id, &[asked]);
        let routes = outputs.iter().find_map(|output| match output {
            Output::Link(_, LinkOp::Ensure(spec)) => Some(spec.routes.clone()),
            _ => None,
        });
        assert_eq!(routes.unwrap().first().map(ToString::to_string).as_deref(), expected, "{id}");
    }
}

#[test]
fn a_failed_interface_gives_the_address_back() {
    let mut endpoints = fresh();
    let op = op_of(&attach(&mut endpoints, "c", &[]));
    endpoints.done(op, Err("no such namespace".into()), NOW);
    let outputs = drain(&mut endpoints);
    assert!(matches!(&outputs[0], Output::Persist(Record::ReservationGone(_))));
    assert!(refusal(&outputs).contains("no such namespace"));
    assert_eq!(endpoints.allocator().active(), 0);
}

#[test]
fn detach_releases_only_after_the_interface_is_gone() {
    let mut endpoints = fresh();
    attached(&mut endpoints, "c");
    detach(&mut endpoints, "c", &[]);
    let outputs = drain(&mut endpoints);
    assert!(matches!(&outputs[..], [Output::Link(_, LinkOp::Remove { .. })]));
    assert_eq!(endpoints.allocator().active(), 1, "still held");
    assert!(endpoints.installed().is_empty(), "but no packet goes there any more");
    endpoints.done(op_of(&outputs), Ok(0), NOW);
    let outputs = drain(&mut endpoints);
    assert!(matches!(&outputs[0], Output::Persist(Record::ReservationGone(_))));
    assert!(matches!(&outputs[1], Output::Reply(_, Ok(Answer::Released(nets))) if nets.len() == 1));
}

#[test]
fn a_failed_removal_leaves_the_container_attached() {
    let mut endpoints = fresh();
    attached(&mut endpoints, "c");
    detach(&mut endpoints, "c", &[]);
    let op = op_of(&drain(&mut endpoints));
    endpoints.done(op, Err("busy".into()), NOW);
    assert!(refusal(&drain(&mut endpoints)).contains("detach it again"));
    assert_eq!(endpoints.allocator().active(), 1);
    assert_eq!(endpoints.installed().len(), 1, "packets go there again");
    detach(&mut endpoints, "c", &[]);
    let op = op_of(&drain(&mut endpoints));
    endpoints.done(op, Ok(0), NOW);
    assert_eq!(endpoints.allocator().active(), 0);
}

#[test]
fn attach_again_is_the_same_and_several_addresses_add_up() {
    let mut endpoints = fresh();
    attached(&mut endpoints, "c");
    let outputs = attach(&mut endpoints, "c", &[]);
    endpoints.done(op_of(&outputs), Ok(5), NOW);
    assert_eq!(endpoints.allocator().active(), 1);
    drain(&mut endpoints);
    let asked = [AddrRequest::Fixed(Ipv4Addr::new(10, 0, 0, 9), None)];
    let outputs = attach(&mut endpoints, "c", &asked);
    assert_eq!(endpoints.installed().len(), 1, "the old address keeps working meanwhile");
    endpoints.done(op_of(&outputs), Ok(5), NOW);
    assert_eq!(endpoints.installed().len(), 2);
    drain(&mut endpoints);
    // Taking the first address away leaves interface, MAC and the other address.
    let mac_before = endpoints.status(NOW)[0].mac.clone();
    detach(&mut endpoints, "c", &[Ipv4Addr::new(10, 0, 0, 1)]);
    let op = op_of(&drain(&mut endpoints));
    endpoints.done(op, Ok(5), NOW);
    assert_eq!(endpoints.installed().keys().copied().collect::<Vec<_>>(), [Ipv4Addr::new(10, 0, 0, 9)]);
    assert_eq!(endpoints.status(NOW)[0].mac, mac_before);
}

#[test]
fn an_address_that_was_detached_alone_does_not_take_the_interface_of_its_former_container() {
    let mut endpoints = fresh();
    attached(&mut endpoints, "c");
    let op = op_of(&attach(&mut endpoints, "c", &[AddrRequest::Fixed(Ipv4Addr::new(10, 0, 0, 9), None)]));
    endpoints.done(op, Ok(5), NOW);
    detach(&mut endpoints, "c", &[Ipv4Addr::new(10, 0, 0, 1)]);
    let op = op_of(&drain(&mut endpoints)[1..]);
    endpoints.done(op, Ok(5), NOW);
    drain(&mut endpoints);
    attached(&mut endpoints, "other");
    let containers = endpoints.allocator().reservations();
    assert_eq!(containers["other"].addrs[0].addr(), Ipv4Addr::new(10, 0, 0, 1), "the lowest free address");
    assert_eq!((containers["c"].host_if(), containers["other"].host_if()), (Some("wv0a000001"), Some("wv0a000001b")));
    assert_eq!(host_if_addr("wv0a000001b"), Some(Ipv4Addr::new(10, 0, 0, 1)));
    assert_eq!(host_if_addr("wv0a00001"), None);
    assert_eq!(host_if_addr("wv0a000001bc"), None);
}

#[test]
fn requests_that_overlap() {
    let mut endpoints = fresh();
    let op = op_of(&attach(&mut endpoints, "c", &[]));
    assert!(attach(&mut endpoints, "c", &[]).is_empty(), "the same attach waits");
    detach(&mut endpoints, "c", &[]);
    assert!(refusal(&drain(&mut endpoints)).contains("under way"));
    endpoints.done(op, Ok(5), NOW);
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
    for (id, addrs) in [("b", &[][..]), ("a", &[Ipv4Addr::new(10, 0, 0, 2)])] {
        detach(&mut endpoints, id, addrs);
        assert!(
            matches!(&drain(&mut endpoints)[..], [Output::Reply(_, Ok(Answer::Released(none)))] if none.is_empty())
        );
    }
    assert_eq!(endpoints.allocator().active(), 1);
}

#[test]
fn after_a_restart_what_vanished_is_released_and_after_a_reboot_it_is_kept() {
    let mut endpoints = fresh();
    attached(&mut endpoints, "here");
    attached(&mut endpoints, "gone");
    let containers = endpoints.allocator().reservations().clone();
    let present = BTreeMap::from([(containers["here"].host_if().unwrap().to_owned(), 5)]);
    let again = |adopted| launched(containers.clone(), adopted, &present, GRACE);
    let mut killed = again(true);
    assert_eq!(killed.allocator().reservations().len(), 2, "it may be restarting");
    assert_eq!(killed.poll_timeout(), Some(NOW + GRACE));
    killed.handle_timeout(NOW + GRACE);
    assert_eq!(killed.allocator().reservations().keys().collect::<Vec<_>>(), ["here"]);
    let mut rebooted = again(false);
    assert_eq!(rebooted.allocator().reservations().len(), 2);
    assert_eq!(rebooted.installed().len(), 1);
    assert_eq!(rebooted.poll_timeout(), None, "however long it takes");
    // Still kept when the controller is launched once more before the container is back.
    let held = rebooted.allocator().reservations().clone();
    assert_eq!(launched(held, true, &present, GRACE).allocator().reservations().len(), 2);
    drain(&mut rebooted);
    let outputs = attach(&mut rebooted, "gone", &[]);
    assert!(matches!(&outputs[1], Output::Link(_, LinkOp::Ensure(spec)) if spec.addrs == containers["gone"].addrs));
}

#[test]
fn what_was_under_way_when_the_controller_ended_is_done_when_it_starts() {
    let mut endpoints = fresh();
    attached(&mut endpoints, "c");
    attach(&mut endpoints, "c", &[AddrRequest::Fixed(Ipv4Addr::new(10, 0, 0, 9), None)]);
    let containers = endpoints.allocator().reservations().clone();
    let present = BTreeMap::from([(containers["c"].host_if().unwrap().to_owned(), 5)]);
    let mut again = launched(containers, true, &present, GRACE);
    let outputs = drain(&mut again);
    let ensured =
        outputs.iter().find_map(|o| if let Output::Link(_, LinkOp::Ensure(spec)) = o { Some(spec) } else { None });
    assert_eq!(ensured.map(|spec| spec.addrs.len()), Some(2));
    again.done(op_of(&outputs), Ok(5), NOW);
    assert!(matches!(&drain(&mut again)[..], [Output::Persist(Record::Reservation(_, a))] if !is_unfinished(a)));
    assert_eq!(again.installed().len(), 2);
}

#[test]
fn host_ends_that_nothing_explains_are_removed_within_the_range_only() {
    let present = BTreeMap::from([("wv0a000009".to_owned(), 3), ("wv0b000009".to_owned(), 4), ("wvx".to_owned(), 5)]);
    let mut endpoints = launched(BTreeMap::new(), true, &present, GRACE);
    let outputs = drain(&mut endpoints);
    assert!(matches!(&outputs[..], [Output::Link(_, LinkOp::Remove { host_if, .. })] if host_if == "wv0a000009"));
}

#[test]
fn a_vanished_interface_releases() {
    let mut endpoints = fresh();
    attached(&mut endpoints, "c");
    assert_eq!(endpoints.vanished("eth0", NOW), None);
    assert_eq!(endpoints.vanished("wv0a000001", NOW), Some(Vanished::Kept("c".to_owned())));
    let fixed = AddrRequest::Fixed(Ipv4Addr::new(10, 0, 0, 1), None);
    let kept = refusal(&attach(&mut endpoints, "other", &[fixed]));
    assert!(kept.contains("is kept for c, which is not attached: `weave-ctl release c` frees it"), "{kept}");
    assert!(endpoints.installed().is_empty(), "no packet goes there any more");
    endpoints.handle_timeout(NOW + GRACE / 2);
    assert_eq!(endpoints.allocator().active(), 1, "kept for a container that restarts");
    endpoints.handle_timeout(NOW + GRACE);
    assert_eq!(endpoints.allocator().active(), 0);
    assert!(matches!(&drain(&mut endpoints)[..], [Output::Persist(Record::ReservationGone(_))]));
    assert!(endpoints.freed());
}

#[test]
fn shorter_grace_releases_a_vanished_address_sooner() {
    let mut endpoints = fresh();
    endpoints.grace = GRACE / 10;
    attached(&mut endpoints, "c");
    endpoints.vanished("wv0a000001", NOW);
    endpoints.handle_timeout(NOW + GRACE / 20);
    assert_eq!(endpoints.allocator().active(), 1);
    let containers = endpoints.allocator().reservations().clone();
    endpoints.handle_timeout(NOW + GRACE / 10);
    assert_eq!(endpoints.allocator().active(), 0);
    let again = launched(containers, true, &BTreeMap::new(), GRACE / 10);
    assert_eq!(again.poll_timeout(), Some(NOW + GRACE / 10), "after a restart of the controller, too");
}

#[test]
fn a_container_that_restarts_keeps_its_address() {
    let mut endpoints = fresh();
    attached(&mut endpoints, "c");
    endpoints.vanished("wv0a000001", NOW);
    attached(&mut endpoints, "other");
    let op = op_of(&attach(&mut endpoints, "c", &[]));
    endpoints.done(op, Ok(6), NOW);
    endpoints.handle_timeout(NOW + GRACE * 2);
    let addrs = |id: &str| endpoints.allocator().reservations()[id].addrs[0].addr();
    assert_eq!((addrs("c"), addrs("other")), (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)));
}

#[test]
fn those_who_wait_are_served_in_order_and_may_go_away() {
    let mut endpoints = fresh();
    let waiting = Access::Waiting("nobody has a ring");
    for (n, id) in ["first", "second", "third"].into_iter().enumerate() {
        endpoints.ask_for(RequestId(n as u64), Purpose::Attach(container(id)), vec![], &means(waiting));
    }
    assert!(drain(&mut endpoints).is_empty());
    assert_eq!(endpoints.needs(), BTreeSet::from([Need::Ring]));
    let (count, why) = endpoints.waiting().unwrap();
    assert!(count == 3 && why.contains("nobody has a ring"), "{why}");
    endpoints.request_gone(RequestId(0));
    endpoints.retry(&means(Access::Ring(&ring())));
    drain(&mut endpoints);
    let first = |id: &str| endpoints.allocator().reservations().get(id).map(|a| a.addrs[0].addr());
    assert_eq!(first("first"), None, "its caller went away");
    assert_eq!(first("second"), Some(Ipv4Addr::new(10, 0, 0, 1)));
    assert_eq!(first("third"), Some(Ipv4Addr::new(10, 0, 0, 2)));
    assert_eq!(endpoints.waiting(), None);
}

#[test]
fn callers_that_wait_are_bounded() {
    let mut endpoints = fresh();
    let waiting = Access::Waiting("nobody has a ring");
    for n in 0..pending::PENDING_MAX as u64 {
        endpoints.ask_for(RequestId(n), Purpose::Attach(container(&n.to_string())), vec![], &means(waiting));
    }
    assert!(drain(&mut endpoints).is_empty());
    endpoints.ask_for(REQUEST, Purpose::Attach(container("one too many")), vec![], &means(waiting));
    assert!(refusal(&drain(&mut endpoints)).contains("1024 callers wait for addresses already"));
    assert_eq!(endpoints.waiting().unwrap().0, pending::PENDING_MAX);
    // So are those of one container whose interface is being made.
    let mut endpoints = fresh();
    for _ in 0..WAITERS_MAX {
        endpoints.ask_for(REQUEST, Purpose::Attach(container("c")), vec![], &means(Access::Ring(&ring())));
    }
    assert_eq!(drain(&mut endpoints).iter().filter(|o| matches!(o, Output::Reply(..))).count(), 0);
    assert!(refusal(&attach(&mut endpoints, "c", &[])).contains("another operation on c is under way"));
}

#[test]
fn what_cannot_be_had_is_refused_to_those_who_wait_for_it_alone() {
    let mut endpoints = fresh();
    let shared = Ring::from_origin(range(), &[me(), id(2)]).unwrap();
    let theirs = AddrRequest::Fixed(Ipv4Addr::new(10, 0, 0, 200), None);
    endpoints.ask_for(RequestId(1), Purpose::Attach(container("a")), vec![theirs], &means(Access::Ring(&shared)));
    endpoints.ask_for(RequestId(2), Purpose::Attach(container("b")), vec![], &means(Access::Waiting("no ring")));
    let need = Need::Address(Ipv4Addr::new(10, 0, 0, 200));
    assert_eq!(endpoints.needs(), BTreeSet::from([Need::Ring, need]));
    endpoints.deny(need, "it is in use");
    assert!(refusal(&drain(&mut endpoints)).contains("it is in use; a was left as it was"));
    assert_eq!(endpoints.needs(), BTreeSet::from([Need::Ring]));
}

#[test]
fn all_are_removed_before_this_peer_leaves() {
    let mut endpoints = fresh();
    attached(&mut endpoints, "a");
    attached(&mut endpoints, "b");
    endpoints.ask_for(REQUEST, Purpose::Attach(container("c")), vec![], &means(Access::Waiting("no ring")));
    endpoints.remove_all();
    let outputs = drain(&mut endpoints);
    assert!(refusal(&outputs).contains("leaving"));
    let ops: Vec<OpId> =
        outputs.iter().filter_map(|o| if let Output::Link(op, _) = o { Some(*op) } else { None }).collect();
    assert_eq!((ops.len(), endpoints.is_working()), (2, true));
    ops.iter().for_each(|op| endpoints.done(*op, Ok(0), NOW));
    assert_eq!((endpoints.allocator().active(), endpoints.is_working()), (0, false));
}

#[test]
fn an_interface_that_may_be_half_done_is_repaired_until_it_is_whole() {
    let mut endpoints = fresh();
    attached(&mut endpoints, "c");
    let fixed = AddrRequest::Fixed(Ipv4Addr::new(10, 0, 0, 9), None);
    let op = op_of(&attach(&mut endpoints, "c", &[fixed]));
    endpoints.done(op, Err("the kernel is out of memory".into()), NOW);
    let outputs = drain(&mut endpoints);
    assert!(
        matches!(&outputs[0], Output::Persist(Record::Reservation(_, a)) if is_unfinished(a) && a.addrs.len() == 1)
    );
    assert!(matches!(&outputs[1], Output::Event(_, text) if text.contains("tried again in 1 s")), "{outputs:?}");
    let mut now = NOW;
    let mut waits = Vec::new();
    for _ in 0..9 {
        let due = endpoints.poll_timeout().unwrap();
        endpoints.handle_timeout(due);
        let outputs = drain(&mut endpoints);
        let spec = outputs.iter().find_map(|o| if let Output::Link(_, LinkOp::Ensure(s)) = o { Some(s) } else { None });
        assert_eq!(spec.unwrap().addrs.len(), 1, "what it has, not what was asked for");
        assert_eq!(endpoints.installed().len(), 1, "packets go there meanwhile");
        endpoints.handle_timeout(due);
        assert!(drain(&mut endpoints).is_empty() && endpoints.poll_timeout().unwrap() > due, "one at a time");
        waits.push(due.since(now).as_secs());
        now = due;
        endpoints.done(op_of(&outputs), Err("still".into()), now);
        drain(&mut endpoints);
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    let due = endpoints.poll_timeout().unwrap();
    endpoints.handle_timeout(due);
    let op = op_of(&drain(&mut endpoints));
    endpoints.done(op, Ok(5), due);
    assert!(matches!(&drain(&mut endpoints)[..], [Output::Persist(Record::Reservation(_, a))] if !is_unfinished(a)));
    assert_eq!(endpoints.poll_timeout(), None);
}
