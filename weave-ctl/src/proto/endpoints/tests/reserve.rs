//! Reservations without an interface, owner keys, and what gives way.

use super::*;

fn held(endpoints: &Endpoints) -> Vec<(String, Vec<String>)> {
    let all = endpoints.allocator().reservations().iter();
    all.map(|(owner, r)| (owner.clone(), r.addrs.iter().map(|n| n.addr().to_string()).collect())).collect()
}

fn answered(outputs: &[Output]) -> ContainerStatus {
    let found = outputs.iter().find_map(|output| match output {
        Output::Reply(_, Ok(Answer::Container(status))) => Some(status.clone()),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("no container in {outputs:?}"))
}

fn reserve(endpoints: &mut Endpoints, owner: Option<&str>, asked: &[AddrRequest]) -> Vec<Output> {
    endpoints.ask_for(
        REQUEST,
        Purpose::Reserve(owner.map(str::to_owned)),
        asked.to_vec(),
        &means(Access::Ring(&ring())),
    );
    drain(endpoints)
}

fn released(outputs: &[Output]) -> usize {
    let found = outputs.iter().find_map(|output| match output {
        Output::Reply(_, Ok(Answer::Released(nets))) => Some(nets.len()),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("no answer in {outputs:?}"))
}

fn release(endpoints: &mut Endpoints, owner: &str) -> Vec<Output> {
    endpoints.release_addrs(REQUEST, owner, &[]);
    drain(endpoints)
}

fn in_netns(owner: &str, inode: u64, chosen: bool) -> Container {
    let netns = Netns { path: format!("/proc/{inode}/ns/net"), id: NetnsId { device: 4, inode, boot: BOOT } };
    Container { owner: owner.to_owned(), chosen, place: Place::Netns(netns), names: NameRequest::default() }
}

fn attach_at(endpoints: &mut Endpoints, container: Container) -> Vec<Output> {
    endpoints.ask_for(REQUEST, Purpose::Attach(container), Vec::new(), &means(Access::Ring(&ring())));
    drain(endpoints)
}

#[test]
fn reserved_addresses_are_durable_and_the_same_again() {
    let mut endpoints = fresh();
    let outputs = reserve(&mut endpoints, Some("docker:1"), &[]);
    assert!(
        matches!(&outputs[..], [Output::Persist(Record::Reservation(owner, _)), Output::Reply(..)] if owner == "docker:1")
    );
    let first = answered(&outputs);
    assert_eq!((first.state, first.netns.as_str(), first.mac.as_str()), (ContainerState::Reserved, "", ""));
    let again = reserve(&mut endpoints, Some("docker:1"), &[]);
    assert!(matches!(&again[..], [Output::Reply(..)]), "nothing is written: {again:?}");
    assert_eq!(answered(&again).addrs, first.addrs);
    assert!(endpoints.installed().is_empty());
    // Kept over relaunch and reboot: nobody but the engine ends it.
    for adopted in [true, false] {
        let kept = endpoints.allocator().reservations().clone();
        let mut again = launched(kept, adopted, &BTreeMap::new(), GRACE);
        assert_eq!((drain(&mut again).len(), again.poll_timeout()), (0, None));
        assert_eq!(again.status(NOW)[0].state, ContainerState::Reserved);
    }
    let fixed = AddrRequest::Fixed(Ipv4Addr::new(10, 0, 0, 1), None);
    assert!(refusal(&attach(&mut endpoints, "c", &[fixed])).contains("is kept for docker:1, which is not attached"));
    assert_eq!(released(&release(&mut endpoints, "docker:1")), 1);
    assert_eq!(released(&release(&mut endpoints, "docker:1")), 0, "again");
    assert_eq!(endpoints.allocator().active(), 0);
}

#[test]
fn bound_reservation_keeps_its_addresses() {
    let mut endpoints = fresh();
    let (one, two) = (answered(&reserve(&mut endpoints, None, &[])), answered(&reserve(&mut endpoints, None, &[])));
    assert!(one.owner != two.owner && one.addrs != two.addrs, "{one:?} {two:?}");
    let bind = |endpoints: &mut Endpoints, id: &str, owner: &str| {
        endpoints.bind(REQUEST, id, owner, NOW);
        drain(endpoints)
    };
    for _ in 0..2 {
        assert_eq!(answered(&bind(&mut endpoints, &one.owner, "e1")).addrs, one.addrs);
    }
    assert!(refusal(&bind(&mut endpoints, &one.owner, "e2")).contains("belongs to e1 already"));
    assert!(refusal(&bind(&mut endpoints, &two.owner, "e1")).contains("has a reservation already"));
    assert!(refusal(&bind(&mut endpoints, "reserved-9-9", "e2")).contains("nothing is reserved under"));
    // The id of what was bound is not given again, and still leads to it.
    assert_ne!(answered(&reserve(&mut endpoints, None, &[])).owner, one.owner);
    let outputs = attach_at(&mut endpoints, in_netns("e1", 9, true));
    endpoints.done(op_of(&outputs), Ok(5), NOW);
    let attached = answered(&drain(&mut endpoints));
    assert_eq!((attached.owner.as_str(), attached.addrs), ("e1", one.addrs));
    assert!(refusal(&release(&mut endpoints, &one.owner)).contains("e1 has an interface"));
    assert!(refusal(&bind(&mut endpoints, "e1", "e9")).contains("has an interface"));
}

#[test]
fn reservation_of_a_container_that_is_gone_is_kept() {
    let mut endpoints = fresh();
    attached(&mut endpoints, "c");
    endpoints.vanished("wv0a000001", NOW).expect("it was there");
    let outputs = reserve(&mut endpoints, Some("c"), &[]);
    assert!(matches!(&outputs[0], Output::Persist(Record::Reservation(_, r)) if r.attachment.is_none()), "{outputs:?}");
    assert_eq!(endpoints.status(NOW)[0].state, ContainerState::Reserved);
    endpoints.handle_timeout(NOW + GRACE * 2);
    assert!(drain(&mut endpoints).is_empty());
    assert_eq!(endpoints.allocator().active(), 1);
}

#[test]
fn reservation_of_a_container_that_changes_is_refused() {
    let mut endpoints = fresh();
    let op = op_of(&attach(&mut endpoints, "c", &[]));
    assert!(refusal(&reserve(&mut endpoints, Some("c"), &[])).contains("another operation on c is under way"));
    endpoints.done(op, Ok(3), NOW);
    drain(&mut endpoints);
    // What is being released is not promised to anybody.
    detach(&mut endpoints, "c", &[]);
    let op = op_of(&drain(&mut endpoints));
    assert!(refusal(&reserve(&mut endpoints, Some("c"), &[])).contains("another operation on c is under way"));
    endpoints.done(op, Ok(0), NOW);
    assert_eq!(endpoints.allocator().active(), 0);
}

#[test]
fn detach_may_keep_the_addresses() {
    let mut endpoints = fresh();
    attached(&mut endpoints, "c");
    let holder = Holder { owner: "c".into(), netns: None };
    endpoints.detach(REQUEST, &holder, &[], true);
    let outputs = drain(&mut endpoints);
    // That they are kept is durable before the interface is gone: a relaunch would take the container for a vanished one.
    assert!(
        matches!(&outputs[0], Output::Persist(Record::Reservation(_, r)) if r.attachment.is_none() && r.addrs.len() == 1)
    );
    let kept = endpoints.allocator().reservations().clone();
    let mut again = launched(kept, true, &BTreeMap::from([("wv0a000001".to_owned(), 5)]), GRACE);
    assert!(matches!(&drain(&mut again)[..], [Output::Link(_, LinkOp::Remove { .. })]), "its interface is removed");
    again.handle_timeout(NOW + GRACE * 2);
    assert_eq!(again.allocator().active(), 1);
    let op = op_of(&outputs);
    // The same again waits for the first.
    endpoints.detach(RequestId(8), &holder, &[], true);
    assert!(drain(&mut endpoints).is_empty());
    endpoints.done(op, Ok(0), NOW);
    assert_eq!(drain(&mut endpoints).iter().filter(|o| matches!(o, Output::Reply(_, Ok(_)))).count(), 2);
    assert_eq!((endpoints.status(NOW)[0].state, endpoints.allocator().active()), (ContainerState::Reserved, 1));
    endpoints.detach(REQUEST, &holder, &[], true);
    assert_eq!(released(&drain(&mut endpoints)), 0);
    // An interface that stays keeps what it had.
    let mut stays = fresh();
    attached(&mut stays, "c");
    stays.detach(REQUEST, &holder, &[], true);
    let op = op_of(&drain(&mut stays));
    stays.done(op, Err("busy".into()), NOW);
    assert!(refusal(&drain(&mut stays)).contains("detach it again"));
    assert_eq!((stays.status(NOW)[0].state, stays.installed().len()), (ContainerState::Attached, 1));
    // Attached again it has the same; detached from its reservation alone it is gone.
    let outputs = attach(&mut endpoints, "c", &[]);
    endpoints.done(op_of(&outputs), Err("no such namespace".into()), NOW);
    drain(&mut endpoints);
    assert_eq!(endpoints.status(NOW)[0].state, ContainerState::Reserved, "as before");
    endpoints.detach(REQUEST, &holder, &[], false);
    assert_eq!(released(&drain(&mut endpoints)), 1);
    assert!(endpoints.status(NOW).is_empty());
}

#[test]
fn one_namespace_is_one_container() {
    let mut endpoints = fresh();
    let outputs = attach_at(&mut endpoints, in_netns("net:[77]", 77, false));
    endpoints.done(op_of(&outputs), Ok(5), NOW);
    let first = answered(&drain(&mut endpoints));
    // It got a name meanwhile.
    let outputs = attach_at(&mut endpoints, in_netns("blue", 77, false));
    endpoints.done(op_of(&outputs), Ok(5), NOW);
    let again = answered(&drain(&mut endpoints));
    assert_eq!((again.owner.as_str(), again.addrs), ("net:[77]", first.addrs));
    assert!(
        refusal(&attach_at(&mut endpoints, in_netns("cni:1", 77, true))).contains("attached as net:[77], not as cni:1")
    );
    let NetnsId { device, boot, .. } = NetnsId { device: 4, inode: 77, boot: BOOT };
    endpoints.detach(
        REQUEST,
        &Holder { owner: "blue".into(), netns: Some(NetnsId { device, inode: 77, boot }) },
        &[],
        false,
    );
    let op = op_of(&drain(&mut endpoints));
    endpoints.done(op, Ok(0), NOW);
    assert_eq!(released(&drain(&mut endpoints)), 1);
}

#[test]
fn number_of_a_namespace_inherits_nothing() {
    let mut endpoints = fresh();
    let outputs = attach_at(&mut endpoints, in_netns("net:[77]", 77, false));
    endpoints.done(op_of(&outputs), Ok(5), NOW);
    drain(&mut endpoints);
    let kept = endpoints.allocator().reservations().clone();
    assert_eq!(endpoints.vanished("wv0a000001", NOW), Some(Vanished::Released("net:[77]".to_owned())));
    assert_eq!(endpoints.allocator().active(), 0, "the next namespace of this number is another");
    for adopted in [true, false] {
        let mut again = launched(kept.clone(), adopted, &BTreeMap::new(), GRACE);
        assert_eq!(again.allocator().active(), 0);
        let outputs = drain(&mut again);
        assert!(outputs.iter().any(|o| matches!(o, Output::Persist(Record::ReservationGone(_)))), "{outputs:?}");
    }
}

#[test]
fn number_of_a_gone_namespace_leads_to_nobody() {
    let mut endpoints = fresh();
    let outputs = attach_at(&mut endpoints, in_netns("gone", 77, false));
    endpoints.done(op_of(&outputs), Ok(5), NOW);
    drain(&mut endpoints);
    assert_eq!(endpoints.vanished("wv0a000001", NOW), Some(Vanished::Kept("gone".to_owned())));
    // Another namespace has the number by now.
    let outputs = attach_at(&mut endpoints, in_netns("next", 77, false));
    endpoints.done(op_of(&outputs), Ok(6), NOW);
    assert_eq!(answered(&drain(&mut endpoints)).owner, "next");
    assert_eq!(held(&endpoints).len(), 2);
    let outputs = attach_at(&mut endpoints, in_netns("gone", 78, false));
    endpoints.done(op_of(&outputs), Ok(7), NOW);
    assert_eq!(answered(&drain(&mut endpoints)).addrs[0].addr(), Ipv4Addr::new(10, 0, 0, 1), "kept for it");
}

#[test]
fn longest_absent_gives_way_when_nothing_is_free() {
    let mut endpoints = fresh();
    for owner in ["old", "older", "here"] {
        attached(&mut endpoints, owner);
    }
    reserve(&mut endpoints, Some("engine"), &[]);
    let mut kept = endpoints.allocator().reservations().clone();
    for (owner, since) in [("old", 200), ("older", 100)] {
        let reservation = kept.get_mut(owner).unwrap();
        reservation.since = since;
        reservation.attachment.as_mut().unwrap().absent = true;
    }
    let present = BTreeMap::from([("wv0a000003".to_owned(), 5)]);
    let mut endpoints = launched(kept, true, &present, GRACE);
    let ages: Vec<_> = endpoints.status(NOW).iter().map(|c| (c.owner.clone(), c.state, c.age_s)).collect();
    assert_eq!(
        ages[2..],
        [("old".to_owned(), ContainerState::Absent, 800), ("older".to_owned(), ContainerState::Absent, 900)]
    );
    let small: Ipv4Net = "10.0.0.0/30".parse().unwrap();
    drain(&mut endpoints);
    endpoints.ask_for(
        REQUEST,
        Purpose::Attach(container("new")),
        vec![AddrRequest::Subnet(small)],
        &means(Access::Ring(&ring())),
    );
    assert_eq!(endpoints.needs(), BTreeSet::from([Need::Space(small)]));
    endpoints.give_way("10.9.0.0/24".parse().unwrap());
    assert!(drain(&mut endpoints).is_empty(), "none has an address there");
    endpoints.give_way(small);
    let said = drain(&mut endpoints);
    let told = "no address is free in 10.0.0.0/30: 10.0.0.2 of older, which has been absent longest since a reboot";
    assert!(
        said.iter().any(|o| matches!(o, Output::Event(Severity::Warn, text) if text.starts_with(told))),
        "{said:?}"
    );
    assert!(endpoints.freed());
    endpoints.retry(&means(Access::Ring(&ring())));
    assert!(matches!(&drain(&mut endpoints)[1], Output::Link(_, LinkOp::Ensure(spec)) if spec.host_if == "wv0a000002"));
    // The others stay as long as they need not.
    assert_eq!(held(&endpoints).len(), 4);
    endpoints.release_absent(REQUEST);
    assert!(
        drain(&mut endpoints)
            .iter()
            .any(|o| matches!(o, Output::Reply(_, Ok(Answer::ReleasedAbsent(of))) if of.len() == 1))
    );
    assert_eq!(held(&endpoints).iter().map(|(owner, _)| owner.as_str()).collect::<Vec<_>>(), ["engine", "here", "new"]);
}

#[test]
fn fixed_address_gives_way_last() {
    let mut endpoints = fresh();
    attached(&mut endpoints, "given");
    let fixed = vec![AddrRequest::Fixed(Ipv4Addr::new(10, 0, 0, 9), None)];
    endpoints.ask_for(REQUEST, Purpose::Attach(container("fixed")), fixed, &means(Access::Ring(&ring())));
    let done = op_of(&drain(&mut endpoints));
    endpoints.done(done, Ok(5), NOW);
    let mut kept = endpoints.allocator().reservations().clone();
    for (owner, since) in [("given", 200), ("fixed", 100)] {
        let reservation = kept.get_mut(owner).unwrap();
        reservation.since = since;
        reservation.attachment.as_mut().unwrap().absent = true;
    }
    let mut endpoints = launched(kept, true, &BTreeMap::new(), GRACE);
    for left in [vec!["fixed"], vec![]] {
        endpoints.give_way(range());
        assert_eq!(held(&endpoints).iter().map(|(owner, _)| owner.as_str()).collect::<Vec<_>>(), left);
    }
}

#[test]
fn host_is_made_again_wherever_it_went() {
    let host = || Container { place: Place::Host { masquerade: false }, ..in_netns("weave:expose", 1, true) };
    let mut endpoints = fresh();
    let outputs = attach_at(&mut endpoints, host());
    assert!(
        outputs
            .iter()
            .any(|o| matches!(o, Output::Link(_, LinkOp::Ensure(s)) if s.name() == "weave" && s.routes == [range()]))
    );
    endpoints.done(op_of(&outputs), Ok(5), NOW);
    drain(&mut endpoints);
    assert_eq!(endpoints.vanished("wv0a000001", NOW), Some(Vanished::MadeAgain("weave:expose".to_owned())));
    let own = ring();
    endpoints.restore_host(true, &means(Access::Ring(&own)));
    let op = op_of(&drain(&mut endpoints));
    endpoints.done(op, Err("busy".into()), NOW);
    assert!(
        drain(&mut endpoints)
            .iter()
            .any(|o| matches!(o, Output::Event(_, text) if text.contains("tried again in 1 s")))
    );
    endpoints.handle_timeout(endpoints.poll_timeout().expect("a repair"));
    endpoints.restore_host(true, &means(Access::Ring(&own)));
    let op = op_of(&drain(&mut endpoints));
    endpoints.done(op, Ok(6), NOW);
    assert_eq!((endpoints.installed().len(), endpoints.poll_timeout()), (1, None));
    // After a reboot, too: once a peer was heard of, or after some time; and not when the address is another's by now.
    let kept = endpoints.allocator().reservations().clone();
    let theirs = Ring::from_origin(range(), &[id(2)]).unwrap();
    let late = Means { now: NOW + HOST_WAIT, ..means(Access::Ring(&own)) };
    for (heard, means, made) in [
        (false, means(Access::Ring(&own)), Some(false)),
        (true, means(Access::Ring(&own)), Some(true)),
        (false, late, Some(true)),
        (true, means(Access::Removed), Some(false)),
        (true, means(Access::Ring(&theirs)), None),
    ] {
        let mut again = launched(kept.clone(), false, &BTreeMap::new(), GRACE);
        assert!(again.poll_timeout().is_some() && drain(&mut again).is_empty());
        again.restore_host(heard, &means);
        let outputs = drain(&mut again);
        let is_made =
            outputs.iter().any(|o| matches!(o, Output::Link(_, LinkOp::Ensure(spec)) if spec.name() == "weave"));
        let hidden = outputs.iter().any(|o| matches!(o, Output::Link(_, LinkOp::Remove { .. })));
        assert_eq!((is_made, hidden), (made == Some(true), made.is_none()), "{heard} {means:?}");
    }
    // Nothing else is ever made in the host's namespace, and no container takes its key.
    let other = Container { place: Place::Host { masquerade: false }, ..container("c") };
    assert!(refusal(&attach_at(&mut endpoints, other)).contains("c is not the host"));
    assert!(refusal(&attach_at(&mut endpoints, in_netns("weave:expose", 9, false))).contains("rename the namespace"));
}

#[test]
fn owner_keys_are_bounded() {
    let mut endpoints = fresh();
    for owner in ["", &"k".repeat(257), "a\nb"] {
        assert!(refusal(&reserve(&mut endpoints, Some(owner), &[])).contains("1 to 256 bytes"));
        assert!(refusal(&attach_at(&mut endpoints, in_netns(owner, 9, true))).contains("1 to 256 bytes"));
    }
    assert_eq!(endpoints.allocator().active(), 0);
}
