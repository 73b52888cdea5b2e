//! The host itself as a container, and as the gateway out of the network for the containers beside it.
//!
//! A run ends where the kernel would send: whether a frame reaches the host's own interface is for the Lab to show.

use weave_common::{
    addr::{Ip4, Mac},
    counters::Counter,
    drop::DropReason,
    endpoint::{ENDPOINT_GATEWAY, ENDPOINT_HOST, Endpoint, EndpointKey},
    map::{PROG_CONTAINER, PROG_UNDERLAY},
    probe,
    route::Route,
};
use weave_ctl::shell::datapath::abi::Abi;

use super::{
    Rig, Row,
    frames::{
        self, LOST, ME, NEIGHBOUR, NOWHERE, OTHER_IF, OWN, OWN_IF, PEER, REMOTE, Underlay, VACANT, arp, arp_reply,
        from_container,
    },
    same,
};

pub(super) const CASES: &[Row] = &[
    ("host: reached by a container beside it, and by a peer", reached),
    ("host: sends to containers from its own address", sends),
    ("host: as a gateway gets what is for outside the network", outside),
    ("host: no gateway, no route out of the network", no_gateway),
    ("host: the longest prefix is before the route out", inside_first),
    ("host: packets from the underlay find no route out", not_from_underlay),
    ("host: as a gateway forwards from outside to local containers", answers),
    ("host: from outside to anything but local containers is refused", answers_elsewhere),
    ("host: never from an address that is another's", another_source),
    ("host: only the gateway forwards from outside", only_the_gateway),
    ("host: ARP of a gateway, and for what is outside", arp_outside),
    ("host: a mark that the host put on is taken off", marked),
];

/// The host's own address in the network.
const HOST: Ip4 = Ip4([10, 32, 0, 200]);
/// Outside the network, but a container of the peer has it.
const CLAIMED: Ip4 = Ip4([192, 0, 2, 77]);
const EVERYWHERE: (Ip4, u32) = (Ip4([0; 4]), 0);
const GATEWAY: u16 = ENDPOINT_HOST | ENDPOINT_GATEWAY;
/// What no host forwards from or to.
const UNROUTABLE: [Ip4; 3] = [Ip4([0, 0, 0, 7]), Ip4([127, 0, 0, 1]), Ip4([127, 255, 0, 1])];

/// The host is the endpoint [`HOST`] behind `ifindex`, and named by the route out of the network.
fn expose(rig: &mut Rig, ifindex: u32, flags: u16) -> Result<(), String> {
    rig.endpoint(HOST, Endpoint { flags, ..Endpoint::new(ifindex, Mac::of_container(HOST.0)) })?;
    rig.route(EVERYWHERE, Route::to_host(HOST.0))
}

fn run(rig: &Rig, frame: &[u8]) -> Result<super::Ran, String> {
    rig.run(PROG_CONTAINER, frame)
}

/// `sent` is delivered to `to` under `counter`, from its neighbour `from`.
fn delivered(rig: &Rig, sent: &[u8], counter: Counter, (from, to): (Ip4, Ip4)) -> Result<(), String> {
    let frame = run(rig, sent)?.redirected_as(counter, sent.len())?;
    same("to", &frame[..6], &Mac::of_container(to.0).0[..])?;
    same("from", &frame[6..12], &Mac::of_container(from.0).0[..])?;
    same("the rest", &frame[12..], &sent[12..])
}

fn reached(rig: &mut Rig) -> Result<(), String> {
    expose(rig, OTHER_IF, ENDPOINT_HOST)?;
    delivered(rig, &from_container(OWN, HOST, 60), Counter::Local, (OWN, HOST))?;
    let packet = Underlay::data(HOST);
    let frame = rig.run(PROG_UNDERLAY, &packet.frame())?.redirected_as(Counter::Decap, packet.inner.len())?;
    same("to", &frame[..6], &Mac::of_container(HOST.0).0[..])
}

fn sends(rig: &mut Rig) -> Result<(), String> {
    for flags in [ENDPOINT_HOST, GATEWAY] {
        expose(rig, OWN_IF, flags)?;
        delivered(rig, &from_container(HOST, NEIGHBOUR, 60), Counter::Local, (HOST, NEIGHBOUR))?;
        let sent = from_container(HOST, REMOTE, 60);
        run(rig, &sent)?.redirected_as(Counter::Encap, sent.len())?;
    }
    Ok(())
}

fn outside(rig: &mut Rig) -> Result<(), String> {
    expose(rig, OTHER_IF, GATEWAY)?;
    // Also larger than what fits to a peer.
    for len in [20, 60, 1500, frames::LONG] {
        delivered(rig, &from_container(OWN, NOWHERE, len), Counter::Outside, (OWN, HOST))?;
    }
    for destination in UNROUTABLE {
        run(rig, &from_container(OWN, destination, 60))?.dropped_for(DropReason::NoRoute)?;
    }
    run(rig, &from_container(OWN, Ip4([224, 0, 0, 1]), 60))?.dropped_for(DropReason::Multicast)?;
    // What the host sends there itself does not come back to it.
    expose(rig, OWN_IF, GATEWAY)?;
    run(rig, &from_container(HOST, NOWHERE, 60))?.dropped_for(DropReason::NoRoute)
}

fn no_gateway(rig: &mut Rig) -> Result<(), String> {
    let sent = from_container(OWN, NOWHERE, 60);
    for flags in [0, ENDPOINT_HOST, ENDPOINT_GATEWAY] {
        expose(rig, OTHER_IF, flags)?;
        run(rig, &sent)?.dropped_for(DropReason::NoRoute).map_err(|e| format!("flags {flags}: {e}"))?;
    }
    rig.endpoints.remove(&Abi(EndpointKey::new(HOST))).map_err(|e| e.to_string())?;
    run(rig, &sent)?.dropped_for(DropReason::NoRoute)
}

fn inside_first(rig: &mut Rig) -> Result<(), String> {
    expose(rig, OTHER_IF, GATEWAY)?;
    let sent = from_container(OWN, REMOTE, 60);
    run(rig, &sent)?.redirected_as(Counter::Encap, sent.len())?;
    run(rig, &from_container(OWN, VACANT, 60))?.dropped_for(DropReason::NoEndpoint)?;
    run(rig, &from_container(OWN, LOST, 60))?.dropped_for(DropReason::NoTunnel)?;
    rig.route((CLAIMED, 32), Route::to_peer(PEER))?;
    let sent = from_container(OWN, CLAIMED, 60);
    run(rig, &sent)?.redirected_as(Counter::Encap, sent.len()).map(drop)
}

fn not_from_underlay(rig: &mut Rig) -> Result<(), String> {
    expose(rig, OTHER_IF, GATEWAY)?;
    let frame = Underlay::data(NOWHERE).named(ME).frame();
    rig.run(PROG_UNDERLAY, &frame)?.dropped_for(DropReason::NoRoute)?;
    let gso = Underlay::data_of(NOWHERE, 3000).named(ME).frame();
    rig.run_gso(PROG_UNDERLAY, &gso, 1000)?.dropped_for(DropReason::NoRoute)
}

fn answers(rig: &mut Rig) -> Result<(), String> {
    expose(rig, OWN_IF, GATEWAY)?;
    for len in [20, 60, 1500, frames::LONG] {
        delivered(rig, &from_container(NOWHERE, NEIGHBOUR, len), Counter::Local, (NOWHERE, NEIGHBOUR))?;
    }
    Ok(())
}

fn answers_elsewhere(rig: &mut Rig) -> Result<(), String> {
    expose(rig, OWN_IF, GATEWAY)?;
    // To a peer, to nobody, out again, to the host itself.
    for destination in [REMOTE, LOST, VACANT, Ip4([198, 51, 100, 1]), HOST, OWN] {
        run(rig, &from_container(NOWHERE, destination, 60))?
            .dropped_for(DropReason::SourceAddress)
            .map_err(|e| format!("to {}: {e}", frames::dotted(destination)))?;
    }
    Ok(())
}

fn another_source(rig: &mut Rig) -> Result<(), String> {
    expose(rig, OWN_IF, GATEWAY)?;
    rig.route((CLAIMED, 32), Route::to_peer(PEER))?;
    // Of a local container, of peers, of nobody in this host's range, outside the range but a peer's.
    let theirs = [NEIGHBOUR, REMOTE, LOST, VACANT, CLAIMED, Ip4([224, 0, 0, 1])];
    for source in theirs.into_iter().chain(UNROUTABLE) {
        for destination in [NEIGHBOUR, REMOTE, NOWHERE] {
            run(rig, &from_container(source, destination, 60))?
                .dropped_for(DropReason::SourceAddress)
                .map_err(|e| format!("from {}: {e}", frames::dotted(source)))?;
        }
    }
    // Outside the range, and a local container has it.
    rig.endpoint(NOWHERE, Endpoint::new(OTHER_IF, Mac::of_container(NOWHERE.0)))?;
    run(rig, &from_container(NOWHERE, NEIGHBOUR, 60))?.dropped_for(DropReason::SourceAddress)
}

fn only_the_gateway(rig: &mut Rig) -> Result<(), String> {
    let sent = from_container(NOWHERE, NEIGHBOUR, 60);
    // The host without leave to forward, and a container beside a gateway.
    for (ifindex, flags) in [(OWN_IF, ENDPOINT_HOST), (OWN_IF, ENDPOINT_GATEWAY), (OWN_IF, 0), (OTHER_IF, GATEWAY)] {
        expose(rig, ifindex, flags)?;
        run(rig, &sent)?.dropped_for(DropReason::SourceAddress).map_err(|e| format!("{ifindex} {flags}: {e}"))?;
    }
    Ok(())
}

fn arp_outside(rig: &mut Rig) -> Result<(), String> {
    let answered = |rig: &Rig, sender, target| {
        let frame = run(rig, &arp(1, sender, target))?.redirected_as(Counter::ArpReply, 42)?;
        same("reply", &frame, &arp_reply(sender, target))
    };
    let refused = |rig: &Rig, (sender, target), reason| {
        run(rig, &arp(1, sender, target))?
            .dropped_for(reason)
            .map_err(|e| format!("{} asks for {}: {e}", frames::dotted(sender), frames::dotted(target)))
    };
    // A container asks for the host, and for what is behind it.
    expose(rig, OTHER_IF, GATEWAY)?;
    answered(rig, OWN, HOST)?;
    answered(rig, OWN, NOWHERE)?;
    for target in UNROUTABLE.into_iter().chain([VACANT]) {
        refused(rig, (OWN, target), DropReason::Arp)?;
    }
    refused(rig, (NOWHERE, NEIGHBOUR), DropReason::SourceAddress)?;
    expose(rig, OTHER_IF, ENDPOINT_HOST)?;
    refused(rig, (OWN, NOWHERE), DropReason::Arp)?;
    // The gateway asks for a container, from its own address and from one outside.
    expose(rig, OWN_IF, GATEWAY)?;
    answered(rig, HOST, NEIGHBOUR)?;
    answered(rig, HOST, REMOTE)?;
    answered(rig, NOWHERE, NEIGHBOUR)?;
    for pair in [(HOST, NOWHERE), (NOWHERE, REMOTE), (NOWHERE, Ip4([198, 51, 100, 1])), (NOWHERE, HOST)] {
        refused(rig, pair, DropReason::Arp)?;
    }
    for sender in [REMOTE, NEIGHBOUR, VACANT].into_iter().chain(UNROUTABLE[1..].iter().copied()) {
        refused(rig, (sender, LOST), DropReason::SourceAddress)?;
    }
    expose(rig, OWN_IF, ENDPOINT_HOST)?;
    refused(rig, (NOWHERE, NEIGHBOUR), DropReason::SourceAddress)
}

fn marked(rig: &mut Rig) -> Result<(), String> {
    expose(rig, OWN_IF, ENDPOINT_HOST)?;
    // To a container, to a peer, and to the device on which that mark is the controller's.
    for (sent, counter) in [
        (from_container(HOST, NEIGHBOUR, 60), Counter::Local),
        (from_container(HOST, REMOTE, 60), Counter::Encap),
        (from_container(HOST, REMOTE, 1500), Counter::SlowPath),
    ] {
        let (ran, mark) = rig.mark_after(PROG_CONTAINER, &sent, probe::MARK)?;
        ran.redirected_as(counter, sent.len())?;
        same("mark", &mark, &0)?;
    }
    Ok(())
}
