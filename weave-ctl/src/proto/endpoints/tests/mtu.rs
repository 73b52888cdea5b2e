//! The MTU of interfaces that are there follows routes to peers, downwards.

use super::*;

/// The changes of MTU that are asked for: of which container, to what.
fn lowered(outputs: &[Output]) -> Vec<(String, u32)> {
    let lowered = outputs.iter().filter_map(|output| match output {
        Output::Link(_, LinkOp::SetMtu { place, mtu, .. }) => Some((place.path()?.to_owned(), *mtu)),
        _ => None,
    });
    lowered.collect()
}

#[test]
fn running_containers_follow_a_smaller_mtu_only() {
    let mut endpoints = fresh();
    attached(&mut endpoints, "c");
    let busy = op_of(&attach(&mut endpoints, "busy", &[]));
    endpoints.limit_mtu(1450);
    endpoints.limit_mtu(9000);
    assert_eq!(lowered(&drain(&mut endpoints)), [], "no larger than allowed");
    endpoints.limit_mtu(1230);
    let outputs = drain(&mut endpoints);
    assert_eq!(lowered(&outputs), [("/run/netns/c".to_owned(), 1230)]);
    // A relaunch before it is done makes sure.
    let unfinished = |outputs: &[Output]| match outputs {
        [.., Output::Persist(Record::Reservation(_, r))] => (r.attachment.as_ref().unwrap().mtu, is_unfinished(r)),
        other => panic!("{other:?}"),
    };
    assert_eq!(unfinished(&outputs), (1230, true));
    endpoints.done(op_of(&outputs), Ok(5), NOW);
    assert_eq!(unfinished(&drain(&mut endpoints)), (1230, false));
    assert_eq!(endpoints.installed().len(), 1, "it was there all the time");
    // An interface that was being made meanwhile follows when it is there.
    endpoints.done(busy, Ok(6), NOW);
    assert_eq!(lowered(&drain(&mut endpoints)), [("/run/netns/busy".to_owned(), 1230)]);
    // Larger routes raise no running container, not even where it gets another address.
    endpoints.limit_mtu(1450);
    assert_eq!(drain(&mut endpoints).len(), 0);
    let outputs = attach(&mut endpoints, "c", &[AddrRequest::Fixed(Ipv4Addr::new(10, 0, 0, 9), None)]);
    assert!(
        outputs.iter().any(|o| matches!(o, Output::Link(_, LinkOp::Ensure(spec)) if spec.mtu == 1230)),
        "{outputs:?}"
    );
}

#[test]
fn interface_that_refuses_its_mtu_is_repaired() {
    let mut endpoints = fresh();
    attached(&mut endpoints, "c");
    endpoints.limit_mtu(1230);
    let op = op_of(&drain(&mut endpoints));
    endpoints.done(op, Err("busy".into()), NOW);
    let said = drain(&mut endpoints);
    assert!(matches!(&said[..], [Output::Event(_, text)] if text.contains("MTU 1230: busy")), "{said:?}");
    endpoints.handle_timeout(endpoints.poll_timeout().expect("a repair"));
    let outputs = drain(&mut endpoints);
    assert!(
        outputs.iter().any(|o| matches!(o, Output::Link(_, LinkOp::Ensure(spec)) if spec.mtu == 1230)),
        "{outputs:?}"
    );
    endpoints.done(op_of(&outputs), Ok(5), NOW);
    assert!(matches!(&drain(&mut endpoints)[..], [Output::Persist(Record::Reservation(_, a))] if !is_unfinished(a)));
    assert_eq!(endpoints.poll_timeout(), None);
    // One that is gone meanwhile is nobody's trouble.
    endpoints.limit_mtu(1000);
    let op = op_of(&drain(&mut endpoints));
    endpoints.vanished("wv0a000001", NOW);
    endpoints.done(op, Err("gone".into()), NOW);
    assert_eq!(drain(&mut endpoints).len(), 0);
}
