//! Each limit is looked at.

use super::*;

fn well() -> Report {
    let second = Some(Duration::from_secs(1));
    Report {
        gathered: second,
        idle: Cost { frame_bits: 40e3, probe_bits: 60e3, ..Cost::default() },
        join: Some(JOIN_MAX),
        newcomer: second,
        leave: second,
        forgotten: Some(super::super::LIMIT),
        cut: second,
        healed: second,
        memory: Memory { node: THOUSAND_MAX, resident: 0 },
        ..Report::new(1000)
    }
}

#[test]
fn what_is_over_a_limit_is_told() {
    assert_eq!(well().wrong(), Vec::<String>::new());
    type Spoil = fn(&mut Report);
    let spoils: [(Spoil, &str); 8] = [
        (|r| r.gathered = None, "all know all: not within 200 s, must be 200 s"),
        (|r| r.join = Some(Duration::from_millis(5100)), "a join is known everywhere: 5.1 s, must be 5 s"),
        (|r| r.newcomer = None, "the newcomer knows everybody: not within 200 s, must be 5 s"),
        (|r| r.leave = None, "a leave is known: not within 200 s, must be 200 s"),
        (|r| r.cut = None, "a cut of half is known: not within 200 s, must be 200 s"),
        (|r| r.healed = None, "its healing is known: not within 200 s, must be 200 s"),
        (|r| r.idle.probe_bits += 1e3, "an idle node sends 101.0 kbit/s, may 100.0"),
        (|r| r.memory.node += 1 << 20, "a node needs 21.0 MiB, may 20.0"),
    ];
    for (spoil, said) in spoils {
        let mut report = well();
        spoil(&mut report);
        assert_eq!(report.wrong(), [said]);
    }
    let more = Report { nodes: 1001, memory: Memory { node: 2 * THOUSAND_MAX, resident: 0 }, ..well() };
    assert_eq!(more.wrong(), Vec::<String>::new());
}
