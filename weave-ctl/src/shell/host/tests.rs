//! The task against a fake kernel that answers when the test lets it, and against namespaces made for a test.

mod namespaces;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use futures_util::{StreamExt, stream};
use ipnet::Ipv4Net;
use rtnetlink::{
    packet_core::NetlinkPayload,
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressMessage, AddressScope},
        link::{LinkAttribute, LinkFlags, LinkMessage},
        route::{RouteAddress, RouteAttribute, RouteMessage},
        rule::RuleMessage,
    },
};
use tokio::time::timeout;

use super::{
    cache::Dump,
    kernel::{Messages, Route},
    lookups::LOOKUPS_MAX,
    *,
};
use crate::shell::netlink;

type Payload = NetlinkPayload<RouteNetlinkMessage>;

const PATIENCE: Duration = Duration::from_secs(5);
/// Longer than any pause of a task that has something to tell.
const QUIET: Duration = Duration::from_millis(300);
const ETH0: u32 = 2;
const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Answers requests as the test says, and only while `answers` is set.
#[derive(Clone, Default)]
struct Fake(Arc<State>);

#[derive(Default)]
struct State {
    answers: AtomicBool,
    /// No dump is whole.
    interrupted: AtomicBool,
    changed: Notify,
    dump: Mutex<Dump>,
    routes: Mutex<BTreeMap<Ipv4Addr, Route>>,
    /// How often each address was looked up.
    asked: Mutex<BTreeMap<Ipv4Addr, usize>>,
    messages: Mutex<Option<mpsc::UnboundedSender<Payload>>>,
    /// Messages that the task did not take yet.
    unread: AtomicUsize,
}

fn peer(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, n)
}

fn device(index: u32, name: &str, mtu: u32) -> netlink::Device {
    netlink::Device { index, name: name.to_owned(), mtu, up: true, mac: vec![2; 6], ..netlink::Device::default() }
}

impl Fake {
    /// A host with eth0 (MTU 1500), by which the addresses of its link are reached.
    fn new() -> Self {
        let fake = Self::default();
        *fake.0.dump.lock().unwrap() =
            Dump { devices: vec![device(ETH0, "eth0", 1500)], addrs: vec![(ETH0, Ipv4Net::new_assert(OWN, 24))] };
        (2..=100).for_each(|n| fake.set_route(peer(n), ETH0));
        fake.set_answers(true);
        fake
    }

    fn set_answers(&self, answers: bool) {
        self.0.answers.store(answers, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }

    fn set_route(&self, to: Ipv4Addr, ifindex: u32) {
        let route = Route { ifindex, next_hop: to, source: OWN, mtu: None };
        self.0.routes.lock().unwrap().insert(to, route);
    }

    async fn answer(&self) {
        loop {
            let changed = self.0.changed.notified();
            if self.0.answers.load(Ordering::SeqCst) {
                return;
            }
            changed.await;
        }
    }

    fn tell(&self, message: RouteNetlinkMessage) {
        self.send(NetlinkPayload::InnerMessage(message));
    }

    fn send(&self, payload: Payload) {
        self.0.unread.fetch_add(1, Ordering::SeqCst);
        self.0.messages.lock().unwrap().as_ref().expect("subscribed").send(payload).expect("the task runs");
    }

    /// Waits until the task has taken all messages.
    async fn is_read(&self) {
        while self.0.unread.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    }

    fn asked(&self, to: Ipv4Addr) -> usize {
        self.0.asked.lock().unwrap().get(&to).copied().unwrap_or_default()
    }
}

impl Kernel for Fake {
    fn subscribe(&self) -> Result<Messages, NetlinkError> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.0.messages.lock().unwrap() = Some(sender);
        let state = Arc::clone(&self.0);
        let messages = stream::unfold((receiver, state), async |(mut receiver, state)| {
            let message = receiver.recv().await?;
            state.unread.fetch_sub(1, Ordering::SeqCst);
            Some((message, (receiver, state)))
        });
        Ok(messages.boxed())
    }

    async fn dump(&self) -> Result<Dump, NetlinkError> {
        // As it is when it is asked for, however late the answer comes.
        let dump = self.0.dump.lock().unwrap().clone();
        self.answer().await;
        if self.0.interrupted.load(Ordering::SeqCst) { Err(NetlinkError::Interrupted) } else { Ok(dump) }
    }

    async fn route(&self, to: Ipv4Addr) -> Result<Option<Route>, NetlinkError> {
        *self.0.asked.lock().unwrap().entry(to).or_default() += 1;
        self.answer().await;
        Ok(self.0.routes.lock().unwrap().get(&to).copied())
    }
}

struct Watched {
    fake: Fake,
    host: Host,
    events: mpsc::Receiver<HostEvent>,
    scan: Scan,
}

async fn started() -> Watched {
    let fake = Fake::new();
    let (sender, events) = mpsc::channel(8);
    let (host, scan) = Host::start_on(fake.clone(), sender, TableWatch::default()).await.unwrap();
    Watched { fake, host, events, scan }
}

impl Watched {
    async fn next(&mut self) -> HostEvent {
        timeout(PATIENCE, self.events.recv()).await.expect("an event").expect("the task runs")
    }

    /// The next event, of an egress.
    async fn egress(&mut self) -> (Ipv4Addr, Option<u32>) {
        match self.next().await {
            HostEvent::Egress { addr, egress } => (addr, egress.map(|egress| egress.mtu)),
            other => panic!("{other:?}"),
        }
    }

    async fn is_quiet(&mut self) {
        if let Ok(event) = timeout(QUIET, self.events.recv()).await {
            panic!("{event:?}");
        }
    }
}

fn link(index: u32, name: &str, mtu: u32) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.header.flags = LinkFlags::Up;
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    link.attributes.push(LinkAttribute::Mtu(mtu));
    link.attributes.push(LinkAttribute::Address(vec![2; 6]));
    link
}

fn addr(index: u32, addr: Ipv4Addr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.scope = AddressScope::Universe;
    message.attributes.push(AddressAttribute::Local(addr.into()));
    message
}

fn route(to: Ipv4Addr, length: u8) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.destination_prefix_length = length;
    message.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(to)));
    message
}

#[tokio::test]
async fn slow_kernel_delays_no_other_event() {
    let mut watched = started().await;
    watched.fake.set_answers(false);
    let begun = std::time::Instant::now();
    // More than run at once: none of them is answered.
    let addrs: Vec<Ipv4Addr> = (2..2 + 2 * LOOKUPS_MAX as u8).map(peer).collect();
    addrs.iter().for_each(|addr| watched.host.watch(*addr));
    assert!(begun.elapsed() < Duration::from_millis(100), "asking takes no time");
    watched.is_quiet().await;
    watched.fake.tell(RouteNetlinkMessage::DelLink(link(7, "wv0a200001", 1450)));
    let gone = HostEvent::LinkGone(7);
    assert_eq!(watched.next().await, gone);
    watched.fake.tell(RouteNetlinkMessage::NewAddress(addr(ETH0, peer(250))));
    let HostEvent::Underlay(scan) = watched.next().await else { panic!("no scan") };
    assert_eq!(scan.underlay.addrs, [OWN, peer(250)]);
    assert!(scan.underlay.on_link.contains(&Ipv4Net::new_assert(OWN, 24).trunc()), "{:?}", scan.underlay.on_link);
    let running: usize = addrs.iter().map(|addr| watched.fake.asked(*addr)).sum();
    // That of the default route may be one of them.
    assert!((LOOKUPS_MAX - 1..=LOOKUPS_MAX).contains(&running), "{running}");

    watched.fake.set_answers(true);
    let mut answered = Vec::new();
    for _ in &addrs {
        answered.push(watched.egress().await);
    }
    answered.sort();
    assert_eq!(answered, addrs.iter().map(|addr| (*addr, Some(1500))).collect::<Vec<_>>());
    watched.is_quiet().await;
}

#[tokio::test]
async fn only_changed_answers_are_told() {
    let mut watched = started().await;
    for n in [2, 3] {
        watched.host.watch(peer(n));
        assert_eq!(watched.egress().await, (peer(n), Some(1500)));
    }
    // A route to somewhere else asks nothing; one that changes nothing tells nothing.
    watched.fake.tell(RouteNetlinkMessage::NewRoute(route(Ipv4Addr::new(10, 0, 0, 0), 8)));
    watched.is_quiet().await;
    assert_eq!((watched.fake.asked(peer(2)), watched.fake.asked(peer(3))), (1, 1));
    watched.fake.tell(RouteNetlinkMessage::NewRoute(route(peer(2), 32)));
    watched.is_quiet().await;
    assert_eq!((watched.fake.asked(peer(2)), watched.fake.asked(peer(3))), (2, 1));

    watched.fake.0.routes.lock().unwrap().remove(&peer(2));
    watched.fake.tell(RouteNetlinkMessage::DelRoute(route(peer(0), 24)));
    assert_eq!(watched.egress().await, (peer(2), None));
    watched.fake.set_route(peer(2), ETH0);
    watched.fake.tell(RouteNetlinkMessage::NewRule(RuleMessage::default()));
    assert_eq!(watched.egress().await, (peer(2), Some(1500)));

    // Watched anew it is told anew; watched no more it is told of no more.
    watched.host.watch(peer(3));
    assert_eq!(watched.egress().await, (peer(3), Some(1500)));
    watched.host.unwatch(peer(3));
    watched.fake.0.routes.lock().unwrap().clear();
    watched.fake.tell(RouteNetlinkMessage::DelRoute(RouteMessage::default()));
    assert_eq!(watched.egress().await, (peer(2), None));
    watched.is_quiet().await;
}

#[tokio::test]
async fn many_changes_are_looked_at_together() {
    let mut watched = started().await;
    watched.host.watch(peer(2));
    watched.egress().await;
    for _ in 0..1000 {
        watched.fake.tell(RouteNetlinkMessage::NewRoute(route(peer(2), 32)));
    }
    watched.is_quiet().await;
    assert!((2..10).contains(&watched.fake.asked(peer(2))), "{}", watched.fake.asked(peer(2)));
}

#[tokio::test]
async fn device_mtu_is_that_of_the_route() {
    let mut watched = started().await;
    assert_eq!(watched.scan.underlay.default_mtu, 1500);
    watched.host.watch(peer(2));
    watched.egress().await;
    // A device that nothing is sent by.
    watched.fake.tell(RouteNetlinkMessage::NewLink(link(9, "tun0", 1280)));
    watched.fake.tell(RouteNetlinkMessage::NewAddress(addr(9, Ipv4Addr::new(10, 8, 0, 1))));
    let HostEvent::Underlay(scan) = watched.next().await else { panic!("no scan") };
    assert_eq!((scan.devices.len(), scan.underlay.default_mtu), (2, 1500));
    watched.is_quiet().await;

    watched.fake.tell(RouteNetlinkMessage::NewLink(link(ETH0, "eth0", 1400)));
    let (mut told, mut device) = (None, None);
    while told.is_none() || device.is_none() {
        match watched.next().await {
            HostEvent::Egress { addr, egress } => told = Some((addr, egress.unwrap().mtu)),
            HostEvent::Underlay(scan) => device = Some(scan.devices[0].mtu),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((told, device), (Some((peer(2), 1400)), Some(1400)));

    // Messages that are not whole, or of another family, say nothing of the device.
    let mut partial = link(ETH0, "eth0", 1400);
    partial.attributes.retain(|attribute| matches!(attribute, LinkAttribute::IfName(_)));
    watched.fake.tell(RouteNetlinkMessage::NewLink(partial));
    let mut bridge = link(ETH0, "eth0", 600);
    bridge.header.interface_family = AddressFamily::Bridge;
    watched.fake.tell(RouteNetlinkMessage::NewLink(bridge.clone()));
    watched.fake.tell(RouteNetlinkMessage::DelLink(bridge));
    watched.is_quiet().await;
}

#[tokio::test]
async fn device_of_others_has_no_route_asked_at_once() {
    let mut watched = started().await;
    for n in [2, 3] {
        watched.host.watch(peer(n));
        watched.egress().await;
    }
    watched.fake.set_route(peer(3), 9);
    watched.fake.tell(RouteNetlinkMessage::NewRoute(route(peer(3), 32)));
    assert_eq!(watched.egress().await, (peer(3), None), "the device is not known");
    let asked = |watched: &Watched| (watched.fake.asked(peer(2)), watched.fake.asked(peer(3)));
    assert_eq!(asked(&watched), (1, 2));
    for n in 20..120 {
        watched.fake.tell(RouteNetlinkMessage::NewLink(link(n, "veth", 1500)));
        watched.fake.tell(RouteNetlinkMessage::DelLink(link(n, "veth", 1500)));
        assert_eq!(watched.next().await, HostEvent::LinkGone(n));
    }
    watched.is_quiet().await;
    assert_eq!(asked(&watched), (1, 2));
    // One that a route leads by, and an address that packets leave with, concern those alone.
    watched.fake.tell(RouteNetlinkMessage::NewLink(link(9, "eth1", 1400)));
    assert_eq!(watched.egress().await, (peer(3), Some(1400)));
    watched.fake.0.routes.lock().unwrap().remove(&peer(2));
    watched.fake.tell(RouteNetlinkMessage::DelAddress(addr(7, OWN)));
    assert_eq!(watched.egress().await, (peer(2), None));
    // In the end all of them are asked for: the route of one may have changed without a word.
    watched.fake.set_route(peer(2), ETH0);
    watched.fake.tell(RouteNetlinkMessage::NewLink(link(10, "eth2", 1400)));
    assert_eq!(watched.egress().await, (peer(2), Some(1500)));
}

#[tokio::test]
async fn default_route_decides_the_default_mtu() {
    let mut watched = started().await;
    watched.fake.0.dump.lock().unwrap().devices.push(device(3, "eth1", 9000));
    watched.fake.tell(RouteNetlinkMessage::NewLink(link(3, "eth1", 9000)));
    watched.fake.tell(RouteNetlinkMessage::NewAddress(addr(3, Ipv4Addr::new(198, 51, 100, 1))));
    let HostEvent::Underlay(scan) = watched.next().await else { panic!("no scan") };
    assert_eq!(scan.underlay.default_mtu, 1500, "of two devices neither is the default");
    watched.fake.set_route(NOBODY, 3);
    watched.fake.tell(RouteNetlinkMessage::NewRoute(RouteMessage::default()));
    let HostEvent::Underlay(scan) = watched.next().await else { panic!("no scan") };
    assert_eq!(scan.underlay.default_mtu, 9000);
}

#[tokio::test]
async fn lost_messages_are_made_up_for() {
    let mut watched = started().await;
    watched.host.watch(peer(2));
    watched.egress().await;
    watched.host.keep_watch_of(7);
    // The device went down in MTU, and a container that this task never heard of came and went.
    watched.fake.0.dump.lock().unwrap().devices = vec![device(ETH0, "eth0", 1400)];
    watched.fake.send(NetlinkPayload::Overrun(Vec::new()));
    let mut told = Vec::new();
    for _ in 0..3 {
        told.push(watched.next().await);
    }
    assert!(told.contains(&HostEvent::LinkGone(7)), "{told:?}");
    let smaller =
        |event: &HostEvent| matches!(event, HostEvent::Egress { egress: Some(egress), .. } if egress.mtu == 1400);
    assert!(told.iter().any(smaller), "{told:?}");
    let scanned = |event: &HostEvent| matches!(event, HostEvent::Underlay(scan) if scan.devices[0].mtu == 1400);
    assert!(told.iter().any(scanned), "{told:?}");
    watched.host.forget(7);

    // So they are when the socket breaks.
    watched.fake.0.dump.lock().unwrap().devices = vec![device(ETH0, "eth0", 1500)];
    *watched.fake.0.messages.lock().unwrap() = None;
    let events = [watched.next().await, watched.next().await];
    assert!(events.iter().any(|event| matches!(event, HostEvent::Underlay(_))), "{events:?}");
    watched.is_quiet().await;
}

/// A dump shows what was so when it was asked for; what messages told since is newer.
#[tokio::test]
async fn device_made_during_a_dump_is_not_told_gone() {
    let mut watched = started().await;
    let (name, ifindex) = ("wv0a200001".to_owned(), 7);
    watched.fake.set_answers(false);
    watched.fake.send(NetlinkPayload::Overrun(Vec::new()));
    watched.is_quiet().await;
    watched.fake.tell(RouteNetlinkMessage::NewLink(link(ifindex, &name, 1450)));
    watched.host.keep_watch_of(ifindex);
    watched.fake.tell(RouteNetlinkMessage::NewLink(link(8, "tun0", 1450)));
    watched.fake.tell(RouteNetlinkMessage::DelLink(link(8, "tun0", 1450)));
    assert_eq!(watched.next().await, HostEvent::LinkGone(8));
    watched.fake.set_answers(true);
    watched.is_quiet().await;
    // That it goes is told as ever.
    watched.fake.tell(RouteNetlinkMessage::DelLink(link(ifindex, &name, 1450)));
    assert_eq!(watched.next().await, HostEvent::LinkGone(ifindex));
    watched.is_quiet().await;
}

#[tokio::test]
async fn interrupted_dump_makes_nothing_gone() {
    let mut watched = started().await;
    watched.fake.tell(RouteNetlinkMessage::NewLink(link(7, "wv0a200001", 1450)));
    watched.host.keep_watch_of(7);
    watched.fake.0.interrupted.store(true, Ordering::SeqCst);
    watched.fake.send(NetlinkPayload::Overrun(Vec::new()));
    watched.is_quiet().await;
    watched.fake.tell(RouteNetlinkMessage::NewAddress(addr(ETH0, peer(250))));
    let HostEvent::Underlay(scan) = watched.next().await else { panic!("no scan") };
    assert_eq!(scan.underlay.addrs, [OWN, peer(250)], "messages are taken meanwhile");
    // The next whole one tells.
    watched.fake.0.interrupted.store(false, Ordering::SeqCst);
    let gone = HostEvent::LinkGone(7);
    assert_eq!(watched.next().await, gone);
}

#[tokio::test]
async fn what_waits_for_a_busy_driver_is_bounded() {
    let watched = started().await;
    for index in 0..GONE_MAX as u32 + 100 {
        watched.fake.tell(RouteNetlinkMessage::DelLink(link(100 + index, &format!("wv{index}"), 1500)));
    }
    watched.host.keep_watch_of(7);
    // Nothing is taken meanwhile.
    watched.fake.is_read().await;
    let mut told = 0;
    let mut events = watched.events;
    // Of those that did not fit a dump tells which of the containers are gone.
    loop {
        match timeout(PATIENCE, events.recv()).await.expect("an event") {
            Some(HostEvent::LinkGone(7)) => break,
            Some(HostEvent::LinkGone(_)) => told += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(told <= GONE_MAX + 16, "{told}");
}

#[tokio::test]
async fn task_ends_with_its_host() {
    let Watched { host, mut events, .. } = started().await;
    drop(host);
    assert_eq!(timeout(PATIENCE, events.recv()).await.expect("ends"), None);
}
