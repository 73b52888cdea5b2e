//! The packet tables on this host's kernel.

use std::net::Ipv4Addr;

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode},
    rr::{DNSClass, RData, Record, RecordType, rdata::A},
};
use weave_ctl::shell::datapath::object::OBJECT;
use weave_tests::packets::{self, questions};

/// Instructions that the verifier may walk in any program; the kernel's own bound is a million.
const VERIFIER_BUDGET: u32 = 20_000;

#[test]
#[ignore = "needs root and BPF"]
fn every_row_holds() {
    let results = packets::run_all(OBJECT);
    assert!(results.len() > 30, "only {} rows ran", results.len());
    let failed: Vec<_> =
        results.iter().filter_map(|(name, result)| result.as_ref().err().map(|e| format!("{name}: {e}"))).collect();
    assert!(failed.is_empty(), "{} of {} failed:\n{}", failed.len(), results.len(), failed.join("\n"));
}

#[test]
#[ignore = "needs root and BPF"]
fn every_program_loads_within_the_budget() {
    let counts = packets::verify_all(OBJECT).expect("loads");
    assert_eq!(counts.len(), 6);
    for (name, count) in counts {
        println!("{name}: {count:?} instructions verified");
        assert!(count.is_none_or(|count| count > 0 && count < VERIFIER_BUDGET), "{name}: {count:?}");
    }
}

#[test]
#[ignore = "needs root and BPF"]
fn every_kind_of_packet_has_its_cost() {
    // More runs than a ring holds answers, so that none is measured against a full one.
    let costs = packets::cost::measure(OBJECT, 4000).expect("measured");
    for cost in costs {
        let mut nanoseconds = cost.nanoseconds;
        nanoseconds.sort_by(f64::total_cmp);
        let median = nanoseconds[nanoseconds.len() / 2];
        println!("{}: {median:.0} ns", cost.title);
        assert!(nanoseconds.len() == 4000 && median > 0.0, "{}: {median}", cost.title);
    }
}

/// What the program may answer to `message`, made by a library that shares nothing with it; `None` when it may not.
/// Addresses are in the order of `got`, if those are the name's.
fn answer_of(message: &[u8], got: &Message) -> Option<Vec<u8>> {
    let asked = Message::from_vec(message).ok()?;
    let [query] = &asked.queries[..] else { return None };
    let m = &asked.metadata;
    let question = m.message_type == MessageType::Query && m.op_code == OpCode::Query && !m.truncation;
    let address = query.query_type() == RecordType::A && query.query_class() == DNSClass::IN;
    let alone = asked.answers.is_empty() && asked.authorities.is_empty() && asked.additionals.is_empty();
    let edns = asked.edns.as_ref();
    let simple = edns.is_none_or(|edns| edns.version() == 0 && edns.options().as_ref().is_empty());
    // The library does not mind what is behind a message; the program leaves that to the resolver.
    let whole = asked.to_vec().is_ok_and(|again| again.len() == message.len());
    if !(question && address && alone && simple && whole) {
        return None;
    }
    let text = query.name().to_lowercase().to_ascii();
    let (_, count) = questions::NAMES.into_iter().find(|(name, _)| *name == text.trim_end_matches('.'))?;
    let mut answer = Message::response(m.id, OpCode::Query);
    answer.metadata.authoritative = true;
    answer.metadata.recursion_desired = m.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.metadata.checking_disabled = m.checking_disabled;
    answer.queries.clone_from(&asked.queries);
    answer.edns = edns.map(|asked| {
        let mut edns = Edns::new();
        edns.set_max_payload(1232).set_dnssec_ok(asked.flags().dnssec_ok);
        edns
    });
    let mut addrs: Vec<_> = got
        .answers
        .iter()
        .filter_map(|record| if let RData::A(A(addr)) = record.data { Some(addr) } else { None })
        .collect();
    answer
        .answers
        .extend(addrs.iter().map(|addr| Record::from_rdata(query.name().clone(), questions::TTL, RData::A(A(*addr)))));
    addrs.sort_unstable();
    let all: Vec<_> = (1..=count).map(|n| Ipv4Addr::from(0x0a28_0000 + n)).collect();
    if addrs == all { answer.to_vec().ok() } else { None }
}

#[test]
#[ignore = "needs root and BPF"]
fn questions_of_all_kinds_are_answered_right_or_not() {
    let (mut answered, mut changed) = (0, 0);
    let judged = questions::ask(OBJECT, 1, 100_000, |asked| {
        let Some(answer) = &asked.answer else {
            return if asked.plain { Err("a plain question was not answered".to_owned()) } else { Ok(()) };
        };
        answered += 1;
        changed += u32::from(!asked.plain);
        let got = Message::from_vec(answer).map_err(|e| e.to_string())?;
        if answer.len() > 512 || answer_of(&asked.message, &got).as_ref() != Some(answer) {
            return Err(format!("read as {got:?}"));
        }
        Ok(())
    });
    assert_eq!(judged, Ok(()));
    println!("{answered} answered, {changed} of them changed ones");
    assert!(answered > 20_000 && changed > 500, "{answered}, {changed}");
}
