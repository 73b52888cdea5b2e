//! Entries of the rings become inputs; what is old or of another layout becomes none.

use weave_common::probe::Arrival;

use super::*;

const CLOCK: ProbeClock = ProbeClock { start_ns: 1_000 };

fn fields(flags: u8) -> Fields {
    Fields {
        receiver: [2, 0, 0, 0, 0, 1],
        origin: [2, 0, 0, 0, 0, 9],
        flags,
        hops: 0,
        request_hops: 2,
        path: 7,
        size: 1400,
        cookie: 5,
        clock: 1_500,
    }
}

fn arrival(source_port: u16) -> Arrival {
    Arrival { source: [192, 0, 2, 9], source_port, outer_len: 74, ifindex: 3, pad: [0; 4], at_ns: 1_900 }
}

#[test]
fn a_reply_tells_both_moments_on_the_cores_clock() {
    let event = ReplyEvent { arrival: arrival(6784), probe: fields(probe::REPLY).write(), pad: [0; 2] };
    let Some(Input::ProbeReply(reply)) = reply(bytemuck::bytes_of(&event), CLOCK) else { panic!() };
    assert_eq!(reply.peer, PeerName::from_bytes([2, 0, 0, 0, 0, 9]));
    assert_eq!((reply.path_id, reply.size, reply.hops), (7, 1400, 2));
    assert_eq!(reply.received_at.since(reply.sent_at), Duration::from_nanos(400));
    assert_eq!(CLOCK.to_kernel(reply.sent_at), 1_500);
}

#[test]
fn an_answer_to_a_probe_of_an_earlier_run_is_none() {
    let probe = Fields { clock: 999, ..fields(probe::REPLY) }.write();
    let event = ReplyEvent { arrival: arrival(6784), probe, pad: [0; 2] };
    assert!(reply(bytemuck::bytes_of(&event), CLOCK).is_none());
    assert!(reply(&[0; 3], CLOCK).is_none());
    assert!(reply(&[0; size_of::<ReplyEvent>()], CLOCK).is_none());
}

#[test]
fn contacts_are_told_apart_by_their_flags() {
    let found = |flags, port| {
        let event = ContactEvent { arrival: arrival(port), probe: fields(flags).write(), proof: [9; 68], pad: [0; 6] };
        match contact(bytemuck::bytes_of(&event), CLOCK, 6784) {
            Some(Input::Contact(contact)) => contact,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(found(0, 50_000).kind, ProbeKind::Request);
    assert_eq!(found(probe::ANNOUNCE, 50_000).kind, ProbeKind::Announce);
    assert_eq!(found(probe::CHALLENGE, 50_000).kind, ProbeKind::Challenge(5));
    assert_eq!(found(probe::PROOF, 50_000).kind, ProbeKind::Proof(5, Box::new([9; 68])));
    assert_eq!(found(0, 50_000).from, "192.0.2.9:50000".parse().unwrap());
    assert_eq!(found(0, 0).from, "192.0.2.9:6784".parse().unwrap(), "by the VXLAN socket device");
    assert!(contact(&[1; 9], CLOCK, 6784).is_none());
}
