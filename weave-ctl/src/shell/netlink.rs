//! What the VXLAN socket device, endpoint and underlay effects share of rtnetlink: connections, devices, errors.
//!
//! A connection lives in a task that ends when its [`Netlink`] is dropped. Every request waits at most [`PATIENCE`]:
//! the kernel answers at once unless somebody holds its one network lock (RTNL). Then it keeps the thread that sends the
//! request, for seconds where a namespace with thousands of devices is deleted. So connections have threads of their own:
//! [`CHANGERS`] for what takes the lock, one for what never does ([`Runtime::Lookups`]). The kernel sends a list in several messages, and
//! marks it when the list changed meanwhile (`NLM_F_DUMP_INTR`): entries may be missing. Such a list is asked for again, at
//! most [`DUMPS_MAX`] times, and is never taken for a whole one.
//!
//! Does not: decide anything.

use std::{future::Future, io, net::Ipv4Addr, pin::pin, sync::OnceLock, time::Duration};

use futures_util::{Stream, StreamExt, TryStreamExt};
use rtnetlink::{
    Handle, LinkUnspec, RouteMessageBuilder,
    packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::AddressMessage,
        link::{
            AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags,
            LinkInfo, LinkMessage, Prop,
        },
        route::RouteMessage,
        rule::RuleMessage,
    },
};
use rustix::io::Errno;
use tokio::time::{sleep, timeout};

use super::netns::{NetnsError, OpenNetns};

/// Longest wait for the kernel's answer to one request.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests that the kernel can keep at once; more wait for these, as they would for the lock.
const CHANGERS: usize = 4;
/// Attempts at a list that changes while the kernel sends it.
const DUMPS_MAX: u32 = 8;
/// Pause before the second attempt; before the n-th it is n - 1 times as long.
const DUMP_PAUSE: Duration = Duration::from_millis(10);

/// Why a request to the kernel came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No socket.
    #[error("cannot open a netlink socket: {0}")]
    Socket(io::Error),
    /// No such namespace.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The kernel refused.
    #[error("{0}")]
    Refused(io::Error),
    /// The answer made no sense or did not come.
    #[error("the kernel gave no usable answer: {0}")]
    NoAnswer(String),
    /// A list kept changing.
    #[error("the list changed while the kernel sent it, {DUMPS_MAX} times in a row")]
    Interrupted,
}

impl NetlinkError {
    /// Whether the kernel refused with `errno`.
    pub(crate) fn is(&self, errno: Errno) -> bool {
        matches!(self, Self::Refused(error) if error.raw_os_error() == Some(errno.raw_os_error()))
    }
}

impl From<rtnetlink::Error> for NetlinkError {
    fn from(error: rtnetlink::Error) -> Self {
        match error {
            rtnetlink::Error::NetlinkError(message) => Self::Refused(message.to_io()),
            other => Self::NoAnswer(other.to_string()),
        }
    }
}

type Connection = rtnetlink::proto::Connection<RouteNetlinkMessage>;

/// The threads that a connection is served by.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Runtime {
    /// For changes and lists: the kernel may keep them.
    Changes,
    /// For subscriptions and single routes, which the kernel tells without its lock.
    Lookups,
}

impl Runtime {
    /// Does `open` where what it makes is served by these threads.
    pub(crate) fn within<T>(self, open: impl FnOnce() -> io::Result<T>) -> Result<T, NetlinkError> {
        static RUNTIMES: [OnceLock<io::Result<tokio::runtime::Runtime>>; 2] = [OnceLock::new(), OnceLock::new()];
        let (place, threads) = match self {
            Self::Changes => (0, CHANGERS),
            Self::Lookups => (1, 1),
        };
        let build = || tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_io().build();
        match RUNTIMES[place].get_or_init(build) {
            Ok(runtime) => {
                let _entered = runtime.enter();
                open().map_err(NetlinkError::Socket)
            }
            Err(error) => Err(NetlinkError::Socket(io::Error::new(error.kind(), error.to_string()))),
        }
    }
}

/// A connection to one network namespace.
#[derive(Clone, Debug)]
pub(crate) struct Netlink {
    /// For requests that have no method here.
    pub(crate) handle: Handle,
}

impl Netlink {
    /// To the namespace of the calling thread.
    pub(crate) fn here() -> Result<Self, NetlinkError> {
        Runtime::Changes.within(|| rtnetlink::new_connection().map(Self::of))
    }

    /// The same, for single routes alone.
    pub(crate) fn for_lookups() -> Result<Self, NetlinkError> {
        Runtime::Lookups.within(|| rtnetlink::new_connection().map(Self::of))
    }

    /// A list's last message is needed too: it may be the one that says that the list is not whole.
    fn of<M>((mut connection, handle, _): (Connection, Handle, M)) -> Self {
        connection.set_forward_done(true);
        drop(tokio::spawn(connection));
        Self { handle }
    }

    /// The same, where the kernel filters a list by what the question says.
    pub(crate) fn strict() -> Result<Self, NetlinkError> {
        Runtime::Changes.within(|| rtnetlink::new_connection_with_strict_check().map(Self::of))
    }

    /// To the namespace `netns`. Waits for a thread that makes a socket there.
    pub(crate) fn inside(netns: &OpenNetns) -> Result<Self, NetlinkError> {
        // Threads stay in the namespace in which they begin, and a container's would never end.
        Runtime::Changes.within(|| Ok(()))?;
        netns.run(Self::here)?
    }

    /// The device called `name`, or that has it as a second name.
    pub(crate) async fn device(&self, name: &str) -> Result<Option<Device>, NetlinkError> {
        let found = collect(self.handle.link().get().match_name(name).execute()).await;
        match found {
            Ok(messages) => Ok(messages.first().map(Device::from)),
            Err(error) if error.is(Errno::NODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The device of that index.
    pub(crate) async fn device_at(&self, index: u32) -> Result<Option<Device>, NetlinkError> {
        let found = collect(self.handle.link().get().match_index(index).execute()).await;
        match found {
            Ok(messages) => Ok(messages.first().map(Device::from)),
            Err(error) if error.is(Errno::NODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives a device a second name, by which it is found whatever else it is called; one that it has already is fine.
    pub(crate) async fn also_call(&self, index: u32, name: &str) -> Result<(), NetlinkError> {
        match ask(self.handle.link().property_add(index).alt_ifname(&[name]).execute()).await {
            Err(error) if error.is(Errno::EXIST) => Ok(()),
            result => result,
        }
    }

    /// All devices, by index.
    pub(crate) async fn devices(&self) -> Result<Vec<Device>, NetlinkError> {
        let question = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let take = |answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(Device::from(&link)),
            _ => None,
        };
        let mut devices = self.dump(question, take).await?;
        devices.sort_by_key(|d| d.index);
        Ok(devices)
    }

    /// All addresses of all devices, in the kernel's order.
    pub(crate) async fn addresses(&self) -> Result<Vec<AddressMessage>, NetlinkError> {
        let take = |answer| match answer {
            RouteNetlinkMessage::NewAddress(address) => Some(address),
            _ => None,
        };
        self.dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()), take).await
    }

    /// All IPv4 routes, or, where the kernel filters ([`Self::strict`]), those of table `table`.
    pub(crate) async fn routes(&self, table: Option<u32>) -> Result<Vec<RouteMessage>, NetlinkError> {
        // The kernel takes protocol and type of the question as a filter, too: they are those of our routes.
        let builder = RouteMessageBuilder::<Ipv4Addr>::new();
        let question = table.map_or_else(|| builder.clone(), |table| builder.clone().table_id(table)).build();
        let take = |answer| match answer {
            RouteNetlinkMessage::NewRoute(route) => Some(route),
            _ => None,
        };
        self.dump(RouteNetlinkMessage::GetRoute(question), take).await
    }

    /// All IPv4 rules.
    pub(crate) async fn rules(&self) -> Result<Vec<RuleMessage>, NetlinkError> {
        let mut question = RuleMessage::default();
        question.header.family = AddressFamily::Inet;
        let take = |answer| match answer {
            RouteNetlinkMessage::NewRule(rule) => Some(rule),
            _ => None,
        };
        self.dump(RouteNetlinkMessage::GetRule(question), take).await
    }

    /// The list that `question` asks for, whole.
    async fn dump<T>(
        &self,
        question: RouteNetlinkMessage,
        take: impl Fn(RouteNetlinkMessage) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        for attempt in 0..DUMPS_MAX {
            sleep(DUMP_PAUSE * attempt).await;
            let mut request = NetlinkMessage::from(question.clone());
            request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
            let answers = self.handle.clone().request(request)?;
            let list = timeout(PATIENCE, list(answers, &take)).await.unwrap_or_else(|_elapsed| Err(silence()))?;
            if let Some(list) = list {
                return Ok(list);
            }
        }
        Err(NetlinkError::Interrupted)
    }

    /// Makes a device.
    pub(crate) async fn add(&self, device: LinkMessage) -> Result<(), NetlinkError> {
        ask(self.handle.link().add(device).execute()).await
    }

    /// Changes a device.
    pub(crate) async fn set(&self, device: LinkMessage) -> Result<(), NetlinkError> {
        ask(self.handle.link().set(device).execute()).await
    }

    /// Removes a device; none is fine.
    pub(crate) async fn del(&self, index: u32) -> Result<(), NetlinkError> {
        match ask(self.handle.link().del(index).execute()).await {
            Err(error) if error.is(Errno::NODEV) => Ok(()),
            result => result,
        }
    }

    /// Brings a device up.
    pub(crate) async fn up(&self, index: u32) -> Result<(), NetlinkError> {
        self.set(LinkUnspec::new_with_index(index).up().build()).await
    }

    /// Keeps the kernel from giving a device an IPv6 address of its own.
    ///
    /// Taken before the device is up. A kernel without IPv6 refuses, and has no such address either.
    pub(crate) async fn without_ipv6_address(&self, index: u32) -> Result<(), NetlinkError> {
        let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        let spec = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])]);
        match self.set(LinkUnspec::new_with_index(index).append_extra_attribute(spec).build()).await {
            Err(NetlinkError::Refused(_)) | Ok(()) => Ok(()),
            other => other,
        }
    }
}

/// Waits for the kernel's answer, not for ever.
pub(crate) async fn ask<T>(request: impl Future<Output = Result<T, rtnetlink::Error>>) -> Result<T, NetlinkError> {
    match timeout(PATIENCE, request).await {
        Ok(answer) => Ok(answer?),
        Err(_elapsed) => Err(silence()),
    }
}

fn silence() -> NetlinkError {
    NetlinkError::NoAnswer(format!("nothing came for {} s", PATIENCE.as_secs()))
}

/// What `take` makes of a list's entries; `None` when the list changed while the kernel sent it. Its end is a message, too.
async fn list<T>(
    answers: impl Stream<Item = NetlinkMessage<RouteNetlinkMessage>>,
    take: impl Fn(RouteNetlinkMessage) -> Option<T>,
) -> Result<Option<Vec<T>>, NetlinkError> {
    let (mut answers, mut found, mut whole) = (pin!(answers), Vec::new(), true);
    while let Some(NetlinkMessage { header, payload, .. }) = answers.next().await {
        whole &= header.flags & NLM_F_DUMP_INTR == 0;
        match payload {
            NetlinkPayload::InnerMessage(entry) => found.extend(take(entry)),
            NetlinkPayload::Error(error) => return Err(NetlinkError::Refused(error.to_io())),
            NetlinkPayload::Done(done) if done.code < 0 => {
                return Err(NetlinkError::Refused(io::Error::from_raw_os_error(-done.code)));
            }
            NetlinkPayload::Done(_) => return Ok(whole.then_some(found)),
            other => return Err(NetlinkError::NoAnswer(format!("{other:?}"))),
        }
    }
    Err(NetlinkError::NoAnswer("a list without an end".to_owned()))
}

/// The answers to a question that is not for a list: most often one.
pub(crate) async fn collect<T>(items: impl Stream<Item = Result<T, rtnetlink::Error>>) -> Result<Vec<T>, NetlinkError> {
    ask(pin!(items).try_collect()).await
}

/// What matters here of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// Its second names.
    pub(crate) other_names: Vec<String>,
    pub(crate) kind: Option<InfoKind>,
    pub(crate) mtu: u32,
    pub(crate) mac: Vec<u8>,
    pub(crate) up: bool,
    pub(crate) loopback: bool,
    /// Index of the other end of a veth, in that end's namespace.
    pub(crate) peer: Option<u32>,
    /// Number by which this namespace knows that of the other end; `None` when it is the same one.
    pub(crate) peer_netns: Option<i32>,
    /// What the hardware behind it is on: `pci`, `virtio`, ...; `None` without hardware, and before kernel 5.14.
    pub(crate) bus: Option<String>,
    /// Settings of a VXLAN device.
    pub(crate) vxlan: Vec<InfoVxlan>,
}

impl Device {
    /// Whether it is one end of a veth.
    pub(crate) fn is_veth(&self) -> bool {
        self.kind == Some(InfoKind::Veth)
    }
}

impl From<&LinkMessage> for Device {
    fn from(message: &LinkMessage) -> Self {
        let flags = message.header.flags;
        let mut device = Self {
            index: message.header.index,
            up: flags.contains(LinkFlags::Up),
            loopback: flags.contains(LinkFlags::Loopback),
            ..Self::default()
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => device.name.clone_from(name),
                LinkAttribute::PropList(names) => {
                    let name = |prop: &Prop| if let Prop::AltIfName(name) = prop { Some(name.clone()) } else { None };
                    device.other_names.extend(names.iter().filter_map(name));
                }
                LinkAttribute::Mtu(mtu) => device.mtu = *mtu,
                LinkAttribute::Address(mac) => device.mac.clone_from(mac),
                LinkAttribute::Link(peer) => device.peer = Some(*peer),
                LinkAttribute::LinkNetNsId(id) => device.peer_netns = Some(*id),
                LinkAttribute::ParentDevBusName(bus) => device.bus = Some(bus.clone()),
                LinkAttribute::LinkInfo(infos) => device.take_info(infos),
                _ => {}
            }
        }
        device
    }
}

impl Device {
    fn take_info(&mut self, infos: &[LinkInfo]) {
        for info in infos {
            match info {
                LinkInfo::Kind(kind) => self.kind = Some(kind.clone()),
                LinkInfo::Data(InfoData::Vxlan(settings)) => self.vxlan.clone_from(settings),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
