//! Names, addresses, and the names above names.

use super::*;

fn addr(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 32, 0, last)
}

#[test]
fn names_are_replaced_and_removed() {
    let table = NameTable::default();
    table.put("web.weave.local", &[addr(1), addr(2)]);
    table.put("www.weave.local", &[addr(1)]);
    assert_eq!(table.addresses("web.weave.local"), Some(vec![addr(1), addr(2)]));
    assert_eq!(table.names(addr(1)), ["web.weave.local", "www.weave.local"]);
    table.put("web.weave.local", &[addr(3)]);
    assert_eq!(table.names(addr(1)), ["www.weave.local"]);
    assert!(table.names(addr(2)).is_empty());
    table.put("web.weave.local", &[]);
    table.put("web.weave.local", &[]);
    assert_eq!(table.addresses("web.weave.local"), None);
}

#[test]
fn names_above_names_are_there_as_long_as_those() {
    let table = NameTable::default();
    table.put("a.b.weave.local", &[addr(1)]);
    table.put("c.b.weave.local", &[addr(1)]);
    assert_eq!(table.addresses("b.weave.local"), Some(vec![]));
    table.put("a.b.weave.local", &[]);
    assert_eq!(table.addresses("b.weave.local"), Some(vec![]));
    table.put("c.b.weave.local", &[]);
    assert_eq!(table.addresses("b.weave.local"), None);
    let all = table.0.read().unwrap();
    assert!(all.addrs.is_empty() && all.above.is_empty() && all.names.is_empty(), "nothing is left of them");
}

#[test]
fn names_of_an_address_are_bounded() {
    let table = NameTable::default();
    for n in 0..1000 {
        table.put(&format!("n{n}.weave.local"), &[addr(1)]);
    }
    assert_eq!(table.names(addr(1)).len(), 32, "a question must not cost as much as all names");
}
