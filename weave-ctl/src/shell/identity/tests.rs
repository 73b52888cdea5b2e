//! A name follows from the hardware, and from nothing that machines share.

use super::from_ids;

const UUID: &str = "4c4c4544-0051-3610-8052-b4c04f4e3132\n";
const MACHINE: &str = "1f2e3d4c5b6a79880123456789abcdef\n";

#[test]
fn a_machine_keeps_its_name_however_its_uuid_is_spelt() {
    let name = from_ids(Some(UUID), Some(MACHINE)).expect("the machine has an id");
    let shouted = UUID.to_uppercase();
    assert_eq!(from_ids(Some(&shouted), Some(MACHINE)), Some(name));
    // Computed elsewhere (BLAKE2b, 6 bytes): a peer must keep its name when this program is replaced.
    assert_eq!(name.to_string(), "36:11:1a:e2:78:19");
}

#[test]
fn the_machine_id_counts_only_without_a_uuid() {
    let by_uuid = from_ids(Some(UUID), None);
    assert_eq!(from_ids(Some(UUID), Some(MACHINE)), by_uuid);
    let by_machine = from_ids(None, Some(MACHINE));
    assert!(by_machine.is_some());
    assert_ne!(by_machine, by_uuid);
    // The same digits from the other source are another machine.
    assert_ne!(from_ids(None, Some(UUID)), by_uuid);
}

#[test]
fn ids_that_many_machines_share_are_no_ids() {
    let shared = [
        "",
        "Not Settable",
        "00000000-0000-0000-0000-000000000000",
        "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
        "03000200-0400-0500-0006-000700080009",
        "4c4c4544-0051-3610-8052",
    ];
    let by_machine = from_ids(None, Some(MACHINE));
    for uuid in shared {
        assert_eq!(from_ids(Some(uuid), None), None, "{uuid:?}");
        assert_eq!(from_ids(Some(uuid), Some(MACHINE)), by_machine, "{uuid:?}");
    }
}

#[test]
fn a_derived_name_is_a_locally_administered_unicast_address() {
    for id in 1..=64_u32 {
        let name = from_ids(None, Some(&format!("{id:032x}"))).expect("the machine has an id");
        assert_eq!(name.bytes()[0] & 3, 2, "{name}");
    }
}
