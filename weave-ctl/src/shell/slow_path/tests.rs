//! What a plan wants; and rule and routes in namespaces made for a test.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::{
    plan::{LockedRoute, Wanted},
    *,
};
use crate::{
    proto::io::{Egress, PathKind},
    shell::netns::tests::TestNetns,
};

const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

fn name(n: u8) -> PeerName {
    PeerName::from_bytes([0, 0, 0, 0, 0, n])
}

fn addr(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, n)
}

/// A tunnel to `at`, by a device with MTU 1500 on whose link it is.
fn tunnel(at: u8, path_mtu: u32) -> TunnelTo {
    let egress = Egress { ifindex: 2, next_hop: addr(at), source: OWN, mtu: 1500 };
    let remote = SocketAddrV4::new(addr(at), 6784);
    TunnelTo { remote, via: name(at), kind: PathKind::Direct, fixed: false, egress, path_mtu }
}

fn sizes(plan: &Plan) -> Vec<(u8, u32)> {
    plan.wanted().routes.iter().map(|(to, route)| (to.octets()[3], route.size)).collect()
}

#[test]
fn narrow_peers_alone_get_a_route() {
    let mut plan = Plan::default();
    assert!(plan.put(name(2), &tunnel(2, 1400)));
    assert!(!plan.put(name(2), &tunnel(2, 1400)), "nothing new");
    plan.put(name(3), &tunnel(3, 1500));
    assert_eq!(sizes(&plan), [(2, 1400)]);
    assert_eq!(plan.wanted().routes[&addr(2)], LockedRoute { ifindex: 2, next_hop: addr(2), source: OWN, size: 1400 });
    plan.put(name(2), &tunnel(2, 1500));
    plan.put(name(3), &tunnel(3, 1300));
    assert_eq!(sizes(&plan), [(3, 1300)]);
    assert!(plan.remove(name(3)) && !plan.remove(name(3)));
    assert_eq!(sizes(&plan), []);
}

#[test]
fn relay_gets_the_smallest_size_behind_it() {
    let mut plan = Plan::default();
    plan.put(name(2), &tunnel(2, 1500));
    plan.put(name(3), &tunnel(2, 1400));
    plan.put(name(4), &tunnel(2, 1450));
    assert_eq!(sizes(&plan), [(2, 1400)]);
    plan.put(name(3), &tunnel(3, 1400));
    assert_eq!(sizes(&plan), [(2, 1450), (3, 1400)]);
}

#[test]
fn routes_of_an_earlier_run_stay_until_told_anew() {
    let old = [(name(2), tunnel(2, 1400)), (name(3), tunnel(2, 1400)), (name(4), tunnel(4, 1500))];
    let mut plan = Plan::adopted(old.iter().map(|(peer, tunnel)| (*peer, tunnel)));
    assert_eq!((sizes(&plan), plan.wanted().kept), (vec![], vec![addr(2), addr(2), addr(4)]));
    plan.put(name(2), &tunnel(2, 1500));
    assert_eq!((sizes(&plan), plan.wanted().kept), (vec![], vec![addr(4)]));
    plan.put(name(4), &tunnel(4, 1400));
    assert_eq!((sizes(&plan), plan.wanted().kept), (vec![(4, 1400)], vec![]));
}

#[test]
fn numbers_of_two_controllers_differ() {
    let (one, other) = (Table::of(6784), Table::of(7784));
    assert_ne!(one.id(), other.id());
    assert!([one, other, Table::of(u16::MAX)].iter().all(|table| (512..768).contains(&table.priority())));
}

/// A namespace with a device to 192.0.2.0/24.
fn host(tag: &str) -> TestNetns {
    let ns = TestNetns::new(tag);
    ns.ip(&["link", "add", "u0", "type", "veth", "peer", "name", "u0p"]);
    ns.ip(&["addr", "add", "192.0.2.1/24", "dev", "u0"]);
    ns.ip(&["link", "set", "u0", "up"]);
    ns.ip(&["link", "set", "u0p", "up"]);
    ns
}

impl TestNetns {
    fn u0(&self) -> u32 {
        let shown = self.ip(&["link", "show", "u0"]);
        shown.split(':').next().and_then(|index| index.parse().ok()).expect("an index")
    }

    /// Routes of a table, a line each.
    fn table(&self, table: Table) -> Vec<String> {
        // `ip` fails on a table that does not exist.
        let all = self.ip(&["-N", "route", "show", "table", "all"]);
        let of = format!(" table {} ", table.id());
        all.lines().map(|line| format!("{line} ")).filter(|line| line.contains(&of)).collect()
    }

    fn rules(&self, table: Table) -> Vec<String> {
        let of = format!("lookup {}", table.id());
        self.ip(&["rule", "show"]).lines().filter(|line| line.contains(&of)).map(str::to_owned).collect()
    }
}

fn wanted(routes: &[(Ipv4Addr, LockedRoute)]) -> Wanted {
    Wanted { routes: routes.iter().copied().collect(), kept: Vec::new() }
}

#[test]
#[ignore = "needs root"]
fn table_becomes_what_is_wanted() {
    let (ns, table) = (host("slow"), Table::of(6784));
    let near = LockedRoute { ifindex: ns.u0(), next_hop: addr(2), source: OWN, size: 1400 };
    let far_addr = Ipv4Addr::new(203, 0, 113, 9);
    let far = LockedRoute { next_hop: addr(254), size: 1300, ..near };
    let apply = |routes: &[(Ipv4Addr, LockedRoute)]| ns.block_on(table.apply(&wanted(routes))).expect("applied");
    assert_eq!(apply(&[]), 0);
    assert_eq!(apply(&[(addr(2), near), (far_addr, far)]), 3);
    assert_eq!(apply(&[(addr(2), near), (far_addr, far)]), 0, "as it should be");
    let (routes, rules) = (ns.table(table), ns.rules(table));
    assert!(routes[0].starts_with("192.0.2.2 dev u0 ") && routes[0].contains(" mtu lock 1400"), "{routes:?}");
    assert!(routes[1].starts_with("203.0.113.9 via 192.0.2.254 dev u0 "), "{routes:?}");
    assert!(routes[1].contains(" mtu lock 1300") && routes[1].contains(" src 192.0.2.1 "), "{routes:?}");
    assert!(rules[0].starts_with("640:\tfrom all iif lo ipproto udp sport 6784 dport 6784 lookup"), "{rules:?}");

    // Only the host's own packets to the data port see it.
    let mtu_to = |more: &[&str]| ns.ip(&[&["route", "get", "192.0.2.2"], more].concat()).contains("mtu lock 1400");
    assert!(mtu_to(&["ipproto", "udp", "sport", "6784", "dport", "6784"]));
    assert!(!mtu_to(&["ipproto", "udp", "dport", "6783"]) && !mtu_to(&["ipproto", "tcp", "dport", "6784"]));
    assert!(!mtu_to(&[]));

    assert_eq!(apply(&[(addr(2), LockedRoute { size: 1380, ..near })]), 2);
    assert!(ns.table(table)[0].contains(" mtu lock 1380") && ns.table(table).len() == 1);
    // What another took away or changed comes back.
    ns.ip(&["rule", "del", "pref", "640"]);
    ns.ip(&["route", "replace", "192.0.2.2", "dev", "u0", "table", &table.id().to_string()]);
    assert_eq!(apply(&[(addr(2), near)]), 2);
    assert!(ns.table(table)[0].contains(" mtu lock 1400"));

    let other = Table::of(7784);
    ns.block_on(other.apply(&wanted(&[(addr(2), near)]))).expect("applied");
    assert_eq!(ns.block_on(table.remove()).expect("removed"), 2);
    assert_eq!((ns.table(table).len(), ns.rules(table).len()), (0, 0));
    assert_eq!((ns.table(other).len(), ns.rules(other).len()), (1, 1), "another controller's");
    assert_eq!(ns.block_on(table.remove()).expect("nothing to remove"), 0);
}

#[test]
#[ignore = "needs root"]
fn routes_are_kept_where_they_should_be() {
    let (ns, table) = (host("keep"), Table::of(6784));
    let near = LockedRoute { ifindex: ns.u0(), next_hop: addr(2), source: OWN, size: 1400 };
    let other = LockedRoute { next_hop: addr(3), ..near };
    ns.block_on(table.apply(&wanted(&[(addr(2), near), (addr(3), other)]))).expect("applied");
    let kept = Wanted { kept: vec![addr(2)], ..Wanted::default() };
    assert_eq!(ns.block_on(table.apply(&kept)).expect("applied"), 1);
    assert_eq!((ns.table(table).len(), ns.rules(table).len()), (1, 1));
}

#[test]
#[ignore = "needs root"]
fn task_follows_tunnels_and_the_host() {
    let (ns, table) = (host("task"), Table::of(6784));
    ns.inside(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let changed = Arc::new(Notify::new());
            let ifindex = ns.u0();
            let narrow = |size| {
                let tunnel = tunnel(2, size);
                TunnelTo { egress: Egress { ifindex, ..tunnel.egress }, ..tunnel }
            };
            let shows = async |text: &str| {
                for _ in 0..50 {
                    sleep(Duration::from_millis(50)).await;
                    let routes = ns.table(table);
                    if (text.is_empty() && routes.is_empty()) || routes.iter().any(|route| route.contains(text)) {
                        return;
                    }
                }
                panic!("{text:?} is not in {:?}", ns.table(table));
            };
            let task = SlowPath::start(6784, std::iter::empty(), Arc::clone(&changed));
            task.put(name(2), &narrow(1400));
            shows(" mtu lock 1400").await;
            // The kernel takes the route away with its device; told of the host it comes back.
            ns.ip(&["link", "set", "u0", "down"]);
            ns.ip(&["link", "set", "u0", "up"]);
            assert_eq!(ns.table(table), Vec::<String>::new());
            changed.notify_one();
            shows(" mtu lock 1400").await;
            task.remove(name(2));
            shows("").await;
            // The rule goes after the routes.
            sleep(COALESCE).await;
            assert_eq!(ns.rules(table), Vec::<String>::new());
            task.put(name(2), &narrow(1300));
            shows(" mtu lock 1300").await;
            // It outlives the controller.
            drop(task);
            shows(" mtu lock 1300").await;
            let tunnel = narrow(1300);
            let task = SlowPath::start(6784, std::iter::once((name(2), &tunnel)), changed);
            sleep(COALESCE * 3).await;
            shows(" mtu lock 1300").await;
            task.put(name(2), &narrow(1500));
            shows("").await;
        });
    });
}
