//! Who is called what, and who hears of it.

use super::*;
use crate::proto::domain::Domain;

const ME: PeerName = PeerName::from_bytes([1; 6]);
const PEER: PeerName = PeerName::from_bytes([2; 6]);
const NOW: Instant = Instant::from_start(Duration::from_secs(1));

fn fresh() -> Dns {
    Dns::new(ME, BTreeMap::new(), BTreeMap::new(), NOW)
}

fn name(text: &str) -> DnsName {
    Domain::default().name(text).unwrap()
}

fn names(texts: &[&str]) -> BTreeSet<DnsName> {
    texts.iter().map(|text| name(text)).collect()
}

fn addr(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 32, 0, last)
}

fn drain(dns: &mut Dns) -> Vec<DnsEvent> {
    std::iter::from_fn(|| dns.poll_event()).collect()
}

/// Brings records in line with who is there; what changed in the table, as `name=addresses`.
fn refresh(dns: &mut Dns, present: &[(&str, &[u8])]) -> Vec<String> {
    let present = present.iter().map(|(owner, addrs)| (*owner, addrs.iter().map(|n| addr(*n)).collect())).collect();
    dns.refresh(&present);
    told(&drain(dns))
}

fn told(events: &[DnsEvent]) -> Vec<String> {
    let told = events.iter().filter_map(|event| match event {
        DnsEvent::Name(name, addrs) => {
            let last: Vec<String> = addrs.iter().map(|addr| addr.octets()[3].to_string()).collect();
            Some(format!("{name}={}", last.join(",")))
        }
        _ => None,
    });
    told.collect()
}

#[test]
fn name_follows_its_container() {
    let mut dns = fresh();
    dns.add("c", name("web"), &[]);
    dns.add("c", name("www"), &[]);
    assert!(dns.has_changed());
    assert_eq!(refresh(&mut dns, &[]), Vec::<String>::new(), "it has no interface yet");
    assert_eq!(refresh(&mut dns, &[("c", &[1])]), ["web=1", "www=1"]);
    assert_eq!(refresh(&mut dns, &[("c", &[1, 2]), ("other", &[3])]), ["web=1,2", "www=1,2"]);
    assert_eq!(refresh(&mut dns, &[("c", &[2])]), ["web=2", "www=2"]);
    assert_eq!(refresh(&mut dns, &[("c", &[2])]), Vec::<String>::new());
    assert_eq!(dns.remove("c", Some(&name("web")), &[], &[addr(2)]), 1);
    assert_eq!(refresh(&mut dns, &[("c", &[2])]), ["web="]);
    assert_eq!(refresh(&mut dns, &[]), ["www="], "its interface is gone");
    assert_eq!(refresh(&mut dns, &[("c", &[2])]), ["www=2"], "and is back");
    dns.release("c");
    assert!(
        matches!(&drain(&mut dns)[..], [DnsEvent::Persist(owner, registered)] if owner == "c" && registered.is_empty())
    );
    assert_eq!(refresh(&mut dns, &[("c", &[2])]), ["www="]);
}

#[test]
fn registrations_are_durable_before_they_are_said() {
    let mut dns = fresh();
    dns.add("c", name("web"), &[]);
    dns.add("c", name("web"), &[]);
    dns.refresh(&BTreeMap::from([("c", vec![addr(1)])]));
    let events = drain(&mut dns);
    let registered = Registered { follow: names(&["web"]), fixed: BTreeSet::new() };
    assert_eq!(
        events,
        [
            DnsEvent::Persist("c".to_owned(), registered.clone()),
            DnsEvent::Entry("web/0a200001".to_owned(), Some("c".into())),
            DnsEvent::Name(name("web"), vec![addr(1)]),
        ]
    );
    let mut again = Dns::new(ME, BTreeMap::from([("c".to_owned(), registered)]), BTreeMap::new(), NOW);
    assert_eq!(refresh(&mut again, &[("c", &[1])]), ["web=1"], "right after a launch");
}

#[test]
fn names_of_addresses_alone_are_kept_apart() {
    let mut dns = fresh();
    dns.add(EXTERN_OWNER, name("printer"), &[addr(200), addr(201)]);
    dns.add("c", name("db"), &[]);
    dns.add("c", name("admin"), &[addr(1)]);
    assert_eq!(refresh(&mut dns, &[("c", &[1, 2])]), ["admin=1", "db=1", "db=1,2", "printer=200", "printer=200,201"]);
    // One address of a name that all have: it stays with the others.
    assert_eq!(dns.remove("c", Some(&name("db")), &[addr(1)], &[addr(1), addr(2)]), 1);
    assert_eq!(refresh(&mut dns, &[("c", &[1, 2])]), ["db=2"]);
    assert_eq!(dns.remove("c", Some(&name("db")), &[addr(9)], &[addr(1), addr(2)]), 0);
    assert_eq!(dns.remove(EXTERN_OWNER, None, &[addr(200)], &[]), 1);
    assert_eq!(refresh(&mut dns, &[("c", &[1, 2])]), ["printer=201"]);
    assert_eq!(dns.remove("c", None, &[], &[addr(1), addr(2)]), 2);
    assert_eq!(dns.remove("nobody", None, &[], &[]), 0);
    assert_eq!(refresh(&mut dns, &[("c", &[1, 2])]), ["admin=", "db="]);
}

#[test]
fn records_of_peers_are_added_up() {
    let mut dns = fresh();
    dns.add("c", name("web"), &[]);
    refresh(&mut dns, &[("c", &[1])]);
    dns.received(PEER, "web/0a200040", Some(b"their c")).unwrap();
    dns.received(PEER, "web/0a200001", Some(b"the same address")).unwrap();
    assert_eq!(told(&drain(&mut dns)), ["web=1,64"]);
    let shown: Vec<_> = dns.of(&name("web")).map(|(_, addr, peer)| (*addr, *peer)).collect();
    assert_eq!(shown, [(addr(1), ME), (addr(1), PEER), (addr(64), PEER)]);
    dns.received(PEER, "web/0a200001", None).unwrap();
    assert!(drain(&mut dns).is_empty(), "this peer has it too");
    dns.received(PEER, "web/0a200001", None).unwrap();
    assert_eq!(dns.sizes()[0].0, 2);
    dns.peer_gone(PEER);
    assert_eq!(told(&drain(&mut dns)), ["web=1"]);
    assert_eq!((dns.sizes()[0].0, dns.origins().len()), (1, 0));
}

#[test]
fn what_is_no_record_changes_nothing() {
    let mut dns = fresh();
    let keys =
        ["", "web", "web/", "web/0a2000", "web/0a20000g", "web/0A200001", "Web/0a200001", "/0a200001", "a b/0a200001"];
    for key in keys {
        assert!(dns.received(PEER, key, Some(b"c")).is_err(), "{key}");
    }
    assert!(dns.received(PEER, "web/0a200001", Some(&[0xff, 0xfe])).is_err());
    assert_eq!(dns.records().count(), 0);
    assert_eq!(shown(&"\u{f6}".repeat(100)).len(), OWNER_SHOWN_MAX);
}

#[test]
fn records_are_bounded() {
    let mut dns = fresh();
    for n in 0..RECORDS_MAX {
        dns.received(PEER, &format!("n{n}/0a200001"), Some(b"")).unwrap();
    }
    assert_eq!(drain(&mut dns).len(), RECORDS_MAX);
    dns.received(PEER, "more/0a200001", Some(b"")).unwrap();
    assert!(drain(&mut dns).is_empty());
    dns.add("c", name("own"), &[]);
    assert_eq!(refresh(&mut dns, &[("c", &[1])]), ["own=1"], "one's own always fit");
    assert_eq!(dns.check_room(OWN_MAX), Err(TooMany));
    assert_eq!(dns.check_room(OWN_MAX - 1), Ok(()));
}

#[test]
fn adopted_names_stay_until_peers_say_theirs() {
    let adopted =
        BTreeMap::from([(name("web"), BTreeSet::from([addr(1), addr(64)])), (name("old"), BTreeSet::from([addr(65)]))]);
    let mut dns = Dns::new(ME, BTreeMap::new(), adopted, NOW);
    assert!(drain(&mut dns).is_empty(), "the kernel has them");
    dns.received(PEER, "web/0a200040", Some(b"c")).unwrap();
    assert!(drain(&mut dns).is_empty());
    dns.received(PEER, "web/0a200040", None).unwrap();
    assert_eq!(told(&drain(&mut dns)), ["web=1"], "the peer that said it says that it is gone");
    dns.received(PEER, "web/0a200040", Some(b"c")).unwrap();
    assert_eq!(told(&drain(&mut dns)), ["web=1,64"]);
    dns.handle_timeout(NOW);
    assert_eq!(dns.poll_timeout(), Some(NOW + ADOPTED_FOR));
    dns.handle_timeout(NOW + ADOPTED_FOR);
    assert_eq!(told(&drain(&mut dns)), ["old=", "web=64"]);
    assert_eq!(dns.poll_timeout(), None);
}
