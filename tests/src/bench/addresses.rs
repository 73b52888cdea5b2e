//! What addresses cost, without a network: a ring of many peers, and containers that come and go in one controller.
//!
//! The core's own code and the real store on the disk that temporary files are on; interfaces are left out, `attach` among
//! the controller's figures has them.

use std::{
    collections::BTreeMap,
    hint::black_box,
    net::Ipv4Addr,
    time::{Duration, Instant as Clock},
};

use anyhow::{Context as _, Result, ensure};
use ipnet::Ipv4Net;
use weave_ctl::{
    proto::{
        boot::{Init, Installed, LaunchParams},
        command::{Container, Holder, NameRequest},
        datapath::Datapath,
        endpoints::{Endpoints, GRACE, Means, Purpose},
        io::{Output, RequestId},
        ipam::{Allocator, Ring, allocator::Access},
        name::{PeerId, PeerName, PeerUid},
        reservation::{Netns, NetnsId, Place},
        time::Instant,
    },
    shell::store::Store,
};

use super::controller::{Row, row};

/// Peers of the large ring, and the pieces that each has given away.
const PEERS: u16 = 1000;
const GIFTS: u16 = 2;
/// The range of the large ring.
const RANGE: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 32, 0, 0), 12);
/// Containers that come and go, in each round.
const CONTAINERS: u32 = 500;
/// What can be at once of those that are committed one by one.
const COMMITTED: u32 = 100;

fn peer(n: u16) -> PeerId {
    let [high, low] = n.to_be_bytes();
    PeerId { name: PeerName::from_bytes([0, 0, 0, 0, high, low]), uid: PeerUid(u128::from(n)) }
}

/// Measures, `rounds` times each.
///
/// # Errors
/// When the store cannot be made or written, or an address is not given.
pub fn measure(rounds: usize) -> Result<Vec<Row>> {
    eprintln!("  addresses");
    let mut rows = ring(rounds)?;
    rows.push(row(
        "give and release, core alone",
        "allocations_core_per_s",
        "1/s",
        "over 1000",
        (0..rounds).map(|_| rate(CONTAINERS, None)).collect::<Result<_>>()?,
    ));
    let folder = tempfile::tempdir().context("make a folder for a store")?;
    let (store, _) = Store::open(folder.path())?;
    rows.push(row(
        "give and release, each committed",
        "allocations_durable_per_s",
        "1/s",
        "over 1000",
        (0..rounds).map(|_| rate(COMMITTED, Some(&store))).collect::<Result<_>>()?,
    ));
    Ok(rows)
}

/// A ring of [`PEERS`] in which each gave some of its share away.
fn large() -> Result<Ring> {
    let origin: Vec<PeerId> = (1..=PEERS).map(peer).collect();
    let mut ring = Ring::from_origin(RANGE, &origin)?;
    let shares: Vec<(Ipv4Addr, PeerId)> = ring.pieces().map(|(first, _, owner)| (first, owner)).collect();
    for (n, (first, owner)) in (0..PEERS).zip(shares) {
        for gift in 0..GIFTS {
            let start = u32::from(first) + 0x100 * u32::from(gift + 1);
            let changed = ring.give(start.into(), (start + 0x3f).into(), owner, peer(1 + (n + 1 + gift) % PEERS));
            ensure!(!changed.is_empty(), "{owner:?} has nothing to give at {first}");
        }
    }
    Ok(ring)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn ring(rounds: usize) -> Result<Vec<Row>> {
    let ring = large()?;
    let part = ring.whole();
    let mut changed = ring.clone();
    let (first, last) = changed.owned_by(peer(7)).next().context("find a share")?;
    changed.give(first, last, peer(7), peer(8));
    let (mut adopt, mut merge, mut sum, mut routes, mut diff) = (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..rounds {
        let start = Clock::now();
        let mut adopted = Ring::adopt(RANGE, &part)?;
        adopt.push(milliseconds(start.elapsed()));
        let start = Clock::now();
        black_box(adopted.merge(&changed.whole())?);
        merge.push(milliseconds(start.elapsed()));
        let start = Clock::now();
        black_box(adopted.sum());
        sum.push(milliseconds(start.elapsed()));
        let mut datapath = Datapath::default();
        let start = Clock::now();
        datapath.set_ring(&ring, peer(1).name);
        let all = datapath.diff(Instant::default()).len();
        routes.push(milliseconds(start.elapsed()));
        let start = Clock::now();
        datapath.set_ring(&changed, peer(1).name);
        let few = datapath.diff(Instant::default()).len();
        diff.push(milliseconds(start.elapsed()));
        ensure!(few < all, "a small change of the ring changes {few} of {all} routes");
    }
    Ok(vec![
        row("ring of 1000 peers: take over whole", "ring_adopt_ms", "ms", "", adopt),
        row("  merge all of it, one piece changed", "ring_merge_ms", "ms", "", merge),
        row("  its sum", "ring_sum_ms", "ms", "", sum),
        row("  its routes, all new", "ring_routes_ms", "ms", "", routes),
        row("  its routes, one piece changed", "ring_diff_ms", "ms", "", diff),
    ])
}

/// Containers a second that get an address and give it back, one after the other, as the driver does it: each step
/// committed to `store` before it counts.
fn rate(containers: u32, store: Option<&Store>) -> Result<f64> {
    let me = peer(1);
    let params =
        LaunchParams { range: RANGE, default_subnet: RANGE, seeds: vec![], init: Init::Undeclared, peers: vec![] };
    let ring = Ring::from_origin(RANGE, &[me])?;
    let now = Instant::default();
    let allocator = Allocator::new(me, &params, BTreeMap::new());
    let mut endpoints = Endpoints::new(allocator, RANGE, &Installed::default(), GRACE, now);
    let start = Clock::now();
    for n in 0..containers {
        let id = NetnsId { inode: n.into(), ..NetnsId::default() };
        let place = Place::Netns(Netns { path: format!("/run/netns/c{n}"), id });
        let container = Container { owner: format!("c{n}"), chosen: false, place, names: NameRequest::default() };
        let means = Means { access: Access::Ring(&ring), mtu: 1450, now };
        endpoints.ask_for(RequestId(u64::from(n)), Purpose::Attach(container), vec![], &means);
        carry(&mut endpoints, store)?;
    }
    ensure!(endpoints.allocator().active() == u64::from(containers), "not every container got an address");
    for n in 0..containers {
        let holder = Holder { owner: format!("c{n}"), netns: None };
        endpoints.detach(RequestId(u64::from(n)), &holder, &[], false);
        carry(&mut endpoints, store)?;
    }
    ensure!(endpoints.allocator().active() == 0, "not every address was released");
    Ok(f64::from(containers) / start.elapsed().as_secs_f64())
}

/// Commits what is to be durable, and answers for the kernel at once.
fn carry(endpoints: &mut Endpoints, store: Option<&Store>) -> Result<()> {
    loop {
        let outputs: Vec<Output> = std::iter::from_fn(|| endpoints.poll_output()).collect();
        let records: Vec<_> = outputs
            .iter()
            .filter_map(|o| if let Output::Persist(record) = o { Some(record.clone()) } else { None })
            .collect();
        if let Some(store) = store {
            store.commit(&records)?;
        }
        let ops: Vec<_> =
            outputs.iter().filter_map(|o| if let Output::Link(op, _) = o { Some(*op) } else { None }).collect();
        if ops.is_empty() {
            return Ok(());
        }
        ops.into_iter().for_each(|op| endpoints.done(op, Ok(5), Instant::default()));
    }
}

#[cfg(test)]
mod tests;
