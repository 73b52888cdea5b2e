//! A relaunch resumes; a contradiction is refused with both sides named.

use super::*;
use crate::proto::domain::Domain;

fn launch() -> Launch {
    Launch {
        name: None,
        nickname: "host1".into(),
        range: None,
        default_subnet: None,
        seeds: vec![],
        init: Init::Undeclared,
        targets: vec![],
        discovery: true,
        conn_limit: 200,
        port: 6783,
        secret: SecretKind::None,
        test_grace: None,
        dns_domain: Domain::default(),
    }
}

fn name(n: u8) -> PeerName {
    PeerName::from_bytes([0, 0, 0, 0, 0, n])
}

fn key(n: u8) -> SecretKey {
    SecretKey::from_bytes([n; 32])
}

fn target(text: &str) -> Target {
    text.parse().unwrap()
}

fn boot(stored: Stored, launch: &Launch) -> Result<Boot, BootError> {
    resume(stored, launch, Some(name(9)), key(1))
}

/// What a store holds after `boot` was persisted.
fn store_of(boot: &Boot) -> Stored {
    Stored { identity: Some(boot.identity.clone()), params: Some(boot.params.clone()), ..boot.stored.clone() }
}

#[test]
fn name_sources_in_order() {
    let asked = Launch { name: Some(name(1)), ..launch() };
    assert_eq!(boot(Stored::default(), &asked).unwrap().identity.name, name(1));
    assert_eq!(boot(Stored::default(), &launch()).unwrap().identity.name, name(9));
    let stored = store_of(&boot(Stored::default(), &asked).unwrap());
    assert_eq!(boot(stored, &launch()).unwrap().identity.name, name(1));
    let random = resume(Stored::default(), &launch(), None, key(1)).unwrap().identity.name;
    assert_eq!(random.bytes()[0] & 3, 2, "locally administered unicast");
}

#[test]
fn new_store_takes_the_key_it_is_handed_and_a_relaunch_keeps_it() {
    let first = resume(Stored::default(), &launch(), None, key(1)).unwrap();
    assert_eq!((first.identity.uid, first.identity.key.clone()), (key(1).public().uid(), key(1)));
    let again = resume(store_of(&first), &launch(), None, key(2)).unwrap();
    assert_eq!((again.identity.uid, again.identity.name), (first.identity.uid, first.identity.name));
    assert_eq!(again.identity.key, key(1));
    // Another key, another host: hosts without hardware id do not share a name.
    assert_ne!(resume(Stored::default(), &launch(), None, key(2)).unwrap().identity.name, first.identity.name);
}

#[test]
fn relaunch_is_the_same_peer_in_a_later_incarnation() {
    let first = boot(Stored::default(), &launch()).unwrap();
    let second = boot(store_of(&first), &launch()).unwrap();
    assert_eq!((second.identity.name, second.identity.uid), (first.identity.name, first.identity.uid));
    assert_eq!(second.identity.incarnation, first.identity.incarnation + 1);
}

#[test]
fn contradictions_are_refused() {
    let seeded = Launch { name: Some(name(1)), seeds: vec![name(1), name(2)], init: Init::Seeds, ..launch() };
    let stored = store_of(&boot(Stored::default(), &seeded).unwrap());
    let other_name = Launch { name: Some(name(2)), ..launch() };
    assert!(matches!(boot(stored.clone(), &other_name), Err(BootError::Name(..))));
    let other_range = Launch { range: Some("10.99.0.0/16".parse().unwrap()), ..launch() };
    assert!(matches!(boot(stored.clone(), &other_range), Err(BootError::Param("range", ..))));
    let other_seeds = Launch { seeds: vec![name(1)], init: Init::Seeds, ..launch() };
    assert!(matches!(boot(stored.clone(), &other_seeds), Err(BootError::Param("seeds", ..))));
    let reordered = Launch { seeds: vec![name(2), name(1)], init: Init::Seeds, ..launch() };
    assert_eq!(boot(stored.clone(), &reordered).unwrap().stored.ring, stored.ring);
    assert_eq!(boot(stored.clone(), &launch()).unwrap().stored.ring, stored.ring);
    let other_mode = Launch { init: Init::Election(3), ..launch() };
    let error = boot(stored, &other_mode).unwrap_err().to_string();
    assert!(error.contains("bootstrap mode --seed, not --initial-peer-count 3"), "{error}");
    let elector = store_of(&boot(Stored::default(), &other_mode).unwrap());
    for init in [Init::Observer, Init::Election(5)] {
        let other = boot(elector.clone(), &Launch { init, ..launch() });
        assert!(matches!(other, Err(BootError::Param("bootstrap mode", ..))), "{init}");
    }
    assert_eq!(boot(elector, &launch()).unwrap().params.init, Init::Election(3));
}

#[test]
fn whoever_declared_nothing_may_declare_later_while_there_is_no_ring() {
    let stored = store_of(&boot(Stored::default(), &launch()).unwrap());
    let elector = Launch { init: Init::Election(3), ..launch() };
    assert_eq!(boot(stored.clone(), &elector).unwrap().params.init, Init::Election(3));
    let ring = Ring::from_seeds(stored.params.clone().unwrap().range, &[name(7)]).unwrap();
    assert!(boot(Stored { ring: Some(ring), ..stored }, &elector).is_err());
}

#[test]
fn same_peer_list_resumes_edits_and_a_new_one_replaces_them() {
    let first = Launch { targets: vec![target("a"), target("b")], ..launch() };
    let mut stored = store_of(&boot(Stored::default(), &first).unwrap());
    stored.targets = vec![target("b"), target("c")]; // connect c, forget a
    assert_eq!(boot(stored.clone(), &first).unwrap().stored.targets, stored.targets);
    assert_eq!(boot(stored.clone(), &launch()).unwrap().stored.targets, stored.targets);
    let other = Launch { targets: vec![target("d")], ..launch() };
    let replaced = boot(stored, &other).unwrap();
    assert_eq!(replaced.stored.targets, [target("d")]);
    assert_eq!(replaced.params.peers, [target("d")]);
}

#[test]
fn bad_ranges() {
    let small = Launch { range: Some("10.0.0.0/31".parse().unwrap()), ..launch() };
    assert!(matches!(boot(Stored::default(), &small), Err(BootError::Small(_))));
    let outside = Launch { default_subnet: Some("10.99.0.0/24".parse().unwrap()), ..launch() };
    assert!(matches!(boot(Stored::default(), &outside), Err(BootError::Subnet(..))));
}
