//! Containers' interfaces: one veth each, its host end here, its other end in the container's namespace. The host's own
//! interface has both ends here.
//!
//! [`ensure`] is idempotent: what is right stays untouched, so that a relaunch disturbs nobody. What it made on the way
//! to a failure it removes again. Either end may be renamed by others: the host end is found by a second name, the other end
//! by its index.
//!
//! Does not: attach programs, choose addresses, or touch anything else in the container.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use futures_util::StreamExt;
use ipnet::Ipv4Net;
use rtnetlink::{
    LinkUnspec, RouteMessageBuilder,
    packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        address::{AddressAttribute, AddressMessage},
        link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage},
        nsid::{NsidAttribute, NsidMessage},
        route::RouteScope,
    },
};
use rustix::io::Errno;
use weave_common::addr::Mac;

use super::{
    netlink::{Device, Netlink, NetlinkError, ask},
    netns::{NetnsError, OpenNetns},
};
use crate::proto::{endpoints::HOST_IF_PREFIX, io::EndpointSpec, reservation::Place};

/// Most addresses of one container.
const ADDRS_MAX: usize = 64;

/// Why a container's interface is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The container is gone, or not a container.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The container has an interface of that name already.
    #[error("{at} has an interface {name} that is not this controller's: remove or rename it; nothing was changed")]
    Taken {
        /// The container, or the host.
        at: String,
        /// The interface.
        name: &'static str,
    },
    /// The host has a device of that name already.
    #[error("the host's device {host_if} is not one end of a veth and was left alone: remove or rename it")]
    HostTaken {
        /// The name.
        host_if: String,
    },
    /// The addresses could not be made exactly so.
    #[error(
        "the addresses of {name} at {at} keep changing, or are more than {ADDRS_MAX}: something else sets them too"
    )]
    Addresses {
        /// The container, or the host.
        at: String,
        /// The interface.
        name: &'static str,
    },
    /// The kernel refused.
    #[error("cannot {what} for {at}: {source}")]
    Netlink {
        /// What was tried.
        what: &'static str,
        /// The container, or the host.
        at: String,
        /// Why not.
        source: NetlinkError,
    },
    /// The kernel refused, on the host.
    #[error("cannot {what}: {source}")]
    Host {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: NetlinkError,
    },
}

/// Makes the container's interface exactly as `spec` says, but leaves the host end of a new one down: nothing passes until
/// [`raise`], before which it gets its program.
///
/// # Errors
///
/// A name is taken, the container is gone, or the kernel refused. A veth made on the way is removed again; one that was
/// there stays.
pub async fn ensure(spec: &EndpointSpec) -> Result<u32, EndpointError> {
    if spec.addrs.len() > ADDRS_MAX {
        return Err(EndpointError::Addresses { at: at(&spec.place), name: spec.name() });
    }
    let job = Job::new(spec)?;
    if let Some(ends) = job.find().await? {
        return job.settle(&ends).await;
    }
    job.create().await?;
    let result = job.finish().await;
    if result.is_err()
        && let Err(error) = remove(&spec.host_if).await
    {
        tracing::warn!("{} stays behind: {error}", spec.host_if);
    }
    result
}

/// Gives both ends of a container's veth this MTU in bytes.
///
/// # Errors
///
/// The container or its interface is gone, a name is taken, or the kernel refused.
pub async fn set_mtu(host_if: String, place: Place, mtu: u32) -> Result<(), EndpointError> {
    // Of these only names and MTU are used.
    let spec = EndpointSpec { place, host_if, mac: Mac([0; 6]), mtu, addrs: Vec::new(), routes: Vec::new() };
    let job = Job::new(&spec)?;
    let failed = || failed("set the MTU of an interface", &spec);
    let gone = || failed()(NetlinkError::NoAnswer("the interface is not there".to_owned()));
    let host = host_end(&job.host, &spec.host_if).await.map_err(failed())?.ok_or_else(gone)?;
    let Some(container) = job.other_end(&host).await? else {
        let other = job.container.device(spec.name()).await.map_err(failed())?;
        return Err(other.map_or_else(gone, |_| taken(&spec)));
    };
    let ends = Ends { host, container };
    // A container's own end first: the kernel drops what exceeds the MTU of the receiving end.
    if let Some(change) = job.change(&ends.container, None) {
        job.container.set(change).await.map_err(failed())?;
    }
    if let Some(change) = job.change(&ends.host, None) {
        job.host.set(change).await.map_err(failed())?;
    }
    Ok(())
}

/// Brings the host end of that index up.
///
/// # Errors
///
/// It is gone, or the kernel refused.
pub async fn raise(ifindex: u32) -> Result<(), EndpointError> {
    let failed = |source| EndpointError::Host { what: "bring a container's interface up", source };
    let netlink = Netlink::here().map_err(failed)?;
    match netlink.device_at(ifindex).await.map_err(failed)? {
        None => Err(failed(NetlinkError::NoAnswer("it vanished".to_owned()))),
        Some(device) if device.up => Ok(()),
        Some(device) => netlink.up(device.index).await.map_err(failed),
    }
}

/// Brings the host end of that index up if it is there and down; true when it was.
///
/// # Errors
///
/// The kernel refused.
pub async fn raise_again(ifindex: u32) -> Result<bool, EndpointError> {
    let failed = |source| EndpointError::Host { what: "bring a container's interface up", source };
    let netlink = Netlink::here().map_err(failed)?;
    let down = netlink.device_at(ifindex).await.map_err(failed)?.is_some_and(|device| !device.up);
    if down {
        netlink.up(ifindex).await.map_err(failed)?;
    }
    Ok(down)
}

/// Removes the veth whose host end is `host_if`; none is fine.
///
/// # Errors
///
/// The kernel refused, or the device of that name is not one end of a veth and was left alone.
pub async fn remove(host_if: &str) -> Result<(), EndpointError> {
    let failed = |source| EndpointError::Host { what: "remove a container's interface", source };
    let netlink = Netlink::here().map_err(failed)?;
    match host_end(&netlink, host_if).await.map_err(failed)? {
        None => Ok(()),
        Some(device) if device.is_veth() => netlink.del(device.index).await.map_err(failed),
        Some(_) => Err(EndpointError::HostTaken { host_if: host_if.to_owned() }),
    }
}

/// Host ends that exist: the name that they were made with, and index.
///
/// # Errors
///
/// The kernel gave no list.
pub async fn list() -> Result<BTreeMap<String, u32>, EndpointError> {
    let failed = |source| EndpointError::Host { what: "list containers' interfaces", source };
    let devices = Netlink::here().map_err(failed)?.devices().await.map_err(failed)?;
    Ok(devices.iter().filter_map(|device| Some((made_as(device)?, device.index))).collect())
}

/// Largest super-packet in bytes that a container may hand over whole: with the outer headers it must not exceed what
/// the 16 bits of an IPv4 length can say.
const GSO_MAX: u32 = u16::MAX as u32 - weave_common::vxlan::OVERHEAD;

/// What a host end's second name begins with, in the place of [`HOST_IF_PREFIX`]: no device may have the same name twice.
const SECOND_PREFIX: &str = "wv.";

/// The second name of the host end `host_if`.
fn second_name(host_if: &str) -> String {
    format!("{SECOND_PREFIX}{}", host_if.strip_prefix(HOST_IF_PREFIX).unwrap_or(host_if))
}

/// The name that the host end of a container's veth was made with; `None` for any other device.
pub(crate) fn made_as(device: &Device) -> Option<String> {
    let second = device.other_names.iter().find_map(|name| name.strip_prefix(SECOND_PREFIX));
    let name = second.map(|rest| format!("{HOST_IF_PREFIX}{rest}"));
    let name = name.or_else(|| device.name.starts_with(HOST_IF_PREFIX).then(|| device.name.clone()));
    name.filter(|_| device.is_veth())
}

/// The host end that was made as `host_if`, or, where there is none, the device of that name.
async fn host_end(netlink: &Netlink, host_if: &str) -> Result<Option<Device>, NetlinkError> {
    match netlink.device(&second_name(host_if)).await? {
        None => netlink.device(host_if).await,
        found => Ok(found),
    }
}

fn failed(what: &'static str, spec: &EndpointSpec) -> impl Fn(NetlinkError) -> EndpointError {
    move |source| EndpointError::Netlink { what, at: at(&spec.place), source }
}

fn taken(spec: &EndpointSpec) -> EndpointError {
    EndpointError::Taken { at: at(&spec.place), name: spec.name() }
}

fn at(place: &Place) -> String {
    place.path().map_or_else(|| "this host".to_owned(), |path| format!("the container at {path}"))
}

/// Both ends of a veth.
struct Ends {
    host: Device,
    container: Device,
}

struct Job<'a> {
    spec: &'a EndpointSpec,
    host: Netlink,
    /// Where the other end is: of the host's own interface the host.
    container: Netlink,
    /// The container's namespace, held open; `None` for the host's own interface.
    netns: Option<OpenNetns>,
}

impl<'a> Job<'a> {
    fn new(spec: &'a EndpointSpec) -> Result<Self, EndpointError> {
        let here = || Netlink::here().map_err(|source| EndpointError::Host { what: "talk to the kernel", source });
        let (netns, container) = match &spec.place {
            Place::Netns(netns) => {
                let netns = OpenNetns::of(netns)?;
                let inside = Netlink::inside(&netns).map_err(|source| match source {
                    NetlinkError::Netns(error) => EndpointError::Netns(error),
                    source => failed("talk to the kernel", spec)(source),
                });
                (Some(netns), inside?)
            }
            Place::Host { .. } => (None, here()?),
        };
        Ok(Self { spec, host: here()?, container, netns })
    }

    /// The veth between `spec.host_if` and the container, if it is there. A host end that leads elsewhere is removed.
    async fn find(&self) -> Result<Option<Ends>, EndpointError> {
        let failed = || failed("look for an interface", self.spec);
        let host = host_end(&self.host, &self.spec.host_if).await.map_err(failed())?;
        if host.as_ref().is_some_and(|h| !h.is_veth()) {
            return Err(EndpointError::HostTaken { host_if: self.spec.host_if.clone() });
        }
        let container = match &host {
            Some(host) => self.other_end(host).await?,
            None => None,
        };
        match (host, container) {
            (Some(host), Some(container)) => Ok(Some(Ends { host, container })),
            _ if self.container.device(self.spec.name()).await.map_err(failed())?.is_some() => Err(taken(self.spec)),
            (Some(stale), None) => {
                self.host.del(stale.index).await.map_err(failed())?;
                Ok(None)
            }
            (None, _) => Ok(None),
        }
    }

    /// The other end of `host`, whatever it is called, if it is in the container.
    async fn other_end(&self, host: &Device) -> Result<Option<Device>, EndpointError> {
        let failed = || failed("look for an interface", self.spec);
        // A device says nothing of the namespace of its other end when that is its own.
        let id = match &self.netns {
            Some(netns) => match netns_id(&self.host, netns.as_fd()).await.map_err(failed())? {
                None => return Ok(None),
                known => known,
            },
            None => None,
        };
        let Some(index) = host.peer.filter(|_| host.peer_netns == id) else { return Ok(None) };
        let found = self.container.device_at(index).await.map_err(failed())?;
        Ok(found.filter(|container| {
            container.is_veth() && host.peer == Some(container.index) && container.peer == Some(host.index)
        }))
    }

    /// Makes the veth with its other end in the container at once: it is never seen in the host's namespace.
    async fn create(&self) -> Result<(), EndpointError> {
        let mut peer = LinkUnspec::new_with_name(self.spec.name()).address(self.spec.mac.0.to_vec()).mtu(self.spec.mtu);
        if let Some(netns) = &self.netns {
            peer = peer.setns_by_fd(netns.as_fd().as_raw_fd());
        }
        let mut peer = peer.build();
        peer.attributes.push(LinkAttribute::GsoMaxSize(GSO_MAX));
        let mut message = LinkUnspec::new_with_name(&self.spec.host_if).mtu(self.spec.mtu).build();
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        self.host.add(message).await.map_err(failed("make an interface", self.spec))
    }

    /// Sets up a veth just made.
    async fn finish(&self) -> Result<u32, EndpointError> {
        let failed = || failed("set up an interface", self.spec);
        let vanished = || failed()(NetlinkError::NoAnswer("it vanished at once".to_owned()));
        let host = self.host.device(&self.spec.host_if).await.map_err(failed())?.ok_or_else(vanished)?;
        let container = self.container.device(self.spec.name()).await.map_err(failed())?.ok_or_else(vanished)?;
        self.host.also_call(host.index, &second_name(&self.spec.host_if)).await.map_err(failed())?;
        self.host.without_ipv6_address(host.index).await.map_err(failed())?;
        self.container.without_ipv6_address(container.index).await.map_err(failed())?;
        self.settle(&Ends { host, container }).await
    }

    /// Gives both ends their settings, changing only what differs.
    async fn settle(&self, ends: &Ends) -> Result<u32, EndpointError> {
        let failed = || failed("set up an interface", self.spec);
        if let Some(change) = self.change(&ends.host, None) {
            self.host.set(change).await.map_err(failed())?;
        }
        let index = ends.container.index;
        if let Some(change) = self.change(&ends.container, Some(&self.spec.mac.0)) {
            self.container.set(change).await.map_err(failed())?;
        }
        self.settle_addrs(index).await?;
        if !ends.container.up {
            self.container.up(index).await.map_err(failed())?;
        }
        self.settle_routes(index).await?;
        Ok(ends.host.index)
    }

    fn change(&self, device: &Device, mac: Option<&[u8]>) -> Option<LinkMessage> {
        let mac = mac.filter(|mac| device.mac != *mac);
        if device.mtu == self.spec.mtu && mac.is_none() {
            return None;
        }
        let mut change = LinkUnspec::new_with_index(device.index).mtu(self.spec.mtu);
        if let Some(mac) = mac {
            change = change.address(mac.to_vec());
        }
        Some(change.build())
    }

    /// Adds and removes addresses, one at a time, until they are those of the spec.
    ///
    /// Read anew after each step: removing the first address of a subnet takes the others of it along.
    async fn settle_addrs(&self, index: u32) -> Result<(), EndpointError> {
        let failed = || failed("set the addresses", self.spec);
        let mut wanted: Vec<Ipv4Net> = Vec::new();
        for addr in &self.spec.addrs {
            if !wanted.contains(addr) {
                wanted.push(*addr);
            }
        }
        for _ in 0..2 * ADDRS_MAX {
            let messages = self.container.addresses().await.map_err(failed())?;
            let own = messages.iter().filter(|message| message.header.index == index);
            let present: Vec<_> = own.filter_map(|m| Some((address(m)?, m))).collect();
            match step(&present.iter().map(|(addr, _)| *addr).collect::<Vec<_>>(), &wanted) {
                Step::Done => return Ok(()),
                Step::Add(addr) => {
                    let add = self.container.handle.address().add(index, addr.addr().into(), addr.prefix_len());
                    ask(add.execute()).await.map_err(failed())?;
                }
                Step::Remove(at) => {
                    let Some((_, message)) = present.get(at) else { continue };
                    match ask(self.container.handle.address().del((*message).clone()).execute()).await {
                        Err(error) if error.is(Errno::ADDRNOTAVAIL) => {}
                        result => result.map_err(failed())?,
                    }
                }
            }
        }
        Err(EndpointError::Addresses { at: at(&self.spec.place), name: self.spec.name() })
    }

    /// Adds the routes that the subnets of the addresses do not bring along.
    async fn settle_routes(&self, index: u32) -> Result<(), EndpointError> {
        let failed = || failed("add a route", self.spec);
        let Some(source) = self.spec.addrs.first().map(Ipv4Net::addr) else { return Ok(()) };
        let brought = |route: &&Ipv4Net| !self.spec.addrs.iter().any(|addr| addr.trunc() == route.trunc());
        for route in self.spec.routes.iter().filter(brought) {
            let message = RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(route.network(), route.prefix_len())
                .output_interface(index)
                .scope(RouteScope::Link)
                .pref_source(source)
                .build();
            ask(self.container.handle.route().add(message).replace().execute()).await.map_err(failed())?;
        }
        Ok(())
    }
}

/// What to do next to an interface's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Done,
    /// Take away the address at this place of the list.
    Remove(usize),
    Add(Ipv4Net),
}

/// The next step from the addresses `present` to those `wanted`.
///
/// Order counts within a subnet: the first address there is the one that the container's own packets carry.
fn step(present: &[Ipv4Net], wanted: &[Ipv4Net]) -> Step {
    let place =
        |list: &[Ipv4Net], addr: &Ipv4Net| list.iter().filter(|a| a.trunc() == addr.trunc()).position(|a| a == addr);
    if let Some(at) = present.iter().position(|addr| place(wanted, addr) != place(present, addr)) {
        return Step::Remove(at);
    }
    wanted.iter().find(|addr| !present.contains(addr)).map_or(Step::Done, |addr| Step::Add(*addr))
}

/// The IPv4 address in `message`.
fn address(message: &AddressMessage) -> Option<Ipv4Net> {
    let found: Option<Ipv4Addr> = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(addr)) => Some(*addr),
        _ => None,
    });
    Ipv4Net::new(found?, message.header.prefix_len).ok()
}

/// The number by which the namespace of `netlink` knows `netns`; `None` when it does not know it.
async fn netns_id(netlink: &Netlink, netns: BorrowedFd<'_>) -> Result<Option<i32>, NetlinkError> {
    let mut message = NsidMessage::default();
    message.attributes.push(NsidAttribute::Fd(netns.as_raw_fd().cast_unsigned()));
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNsId(message));
    request.header.flags = NLM_F_REQUEST;
    let mut answers = netlink.handle.clone().request(request)?;
    let answer = ask(async { Ok(answers.next().await) }).await?;
    let Some(answer) = answer else { return Err(NetlinkError::NoAnswer("the connection ended".to_owned())) };
    match answer.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNsId(answer)) => {
            Ok(answer.attributes.iter().find_map(|attribute| match attribute {
                NsidAttribute::Id(id) if *id >= 0 => Some(*id),
                _ => None,
            }))
        }
        NetlinkPayload::Error(error) => Err(NetlinkError::Refused(error.to_io())),
        other => Err(NetlinkError::NoAnswer(format!("{other:?}"))),
    }
}

#[cfg(test)]
mod tests;
