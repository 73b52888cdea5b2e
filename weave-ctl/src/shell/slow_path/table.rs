//! The rule and the routes in the kernel.

use std::{collections::BTreeMap, net::Ipv4Addr};

use rtnetlink::{
    RouteMessageBuilder,
    packet_route::{
        AddressFamily, IpProtocol,
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteProtocol, RouteScope},
        rule::{RuleAction, RuleAttribute, RuleMessage, RulePortRange},
    },
};
use rustix::io::Errno;

use super::plan::{LockedRoute, Wanted};
use crate::shell::netlink::{Netlink, NetlinkError, ask};

/// Tables of ours: this, and the data port in the low 16 bits ("we" in ASCII).
const TABLE_BASE: u32 = 0x7765_0000;
/// Rules of ours have this priority and the 255 after it: behind the local table (0), before all that hosts usually have.
const PRIORITY_BASE: u32 = 512;
/// `RTAX_LOCK` has a bit for each locked metric; this is that of `RTAX_MTU` (linux/rtnetlink.h).
const LOCK_MTU: u32 = 1 << 2;

/// Why rule or table are not as they should be.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} of routing table {table}: {source}")]
pub struct TableError {
    what: &'static str,
    table: u32,
    source: NetlinkError,
}

/// Rule and routing table of the controller with one data port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    data_port: u16,
}

/// What the kernel has.
#[derive(Debug, Default)]
struct Found {
    rules: Vec<RuleMessage>,
    routes: BTreeMap<Ipv4Addr, RouteMessage>,
}

impl Table {
    /// That of `data_port`.
    #[must_use]
    pub const fn of(data_port: u16) -> Self {
        Self { data_port }
    }

    /// Its number.
    #[must_use]
    pub fn id(self) -> u32 {
        TABLE_BASE | u32::from(self.data_port)
    }

    /// Its rule's priority.
    #[must_use]
    pub fn priority(self) -> u32 {
        // Rules may share one: they are told apart by their tables.
        PRIORITY_BASE + u32::from(self.data_port % 256)
    }

    fn failed(self, what: &'static str) -> impl Fn(NetlinkError) -> TableError {
        move |source| TableError { what, table: self.id(), source }
    }

    /// Makes rule and routes be as `wanted`; returns how many changes that took.
    ///
    /// # Errors
    /// The kernel refused something. What was done before stays.
    pub(super) async fn apply(self, wanted: &Wanted) -> Result<usize, TableError> {
        let netlink = Netlink::strict().map_err(self.failed("read the rule"))?;
        let found = self.read(&netlink).await?;
        let mut changes = 0;
        for (to, route) in &wanted.routes {
            if found.routes.get(to).and_then(read_route) == Some(*route) {
                continue;
            }
            let request = netlink.handle.route().add(self.route(*to, route)).replace();
            ask(request.execute()).await.map_err(self.failed("set a route"))?;
            changes += 1;
        }
        let surplus =
            found.routes.iter().filter(|(to, _)| !wanted.routes.contains_key(to) && !wanted.kept.contains(to));
        for (_, route) in surplus {
            self.remove_route(&netlink, route).await?;
            changes += 1;
        }
        // Routes whose rule is missing do nothing, and so it comes last; where none is left the rule goes as well.
        let kept = found.routes.keys().any(|to| wanted.kept.contains(to));
        let needed = !wanted.routes.is_empty() || kept;
        Ok(changes + self.keep_rule(&netlink, &found.rules, needed).await?)
    }

    /// Removes rule and routes, if there are any.
    ///
    /// # Errors
    /// The kernel refused.
    pub async fn remove(self) -> Result<usize, TableError> {
        self.apply(&Wanted::default()).await
    }

    /// Has one rule where it is `needed`, and none else.
    async fn keep_rule(self, netlink: &Netlink, found: &[RuleMessage], needed: bool) -> Result<usize, TableError> {
        let mut changes = 0;
        let good = found.iter().position(|rule| needed && self.is_rule(rule));
        for (at, rule) in found.iter().enumerate() {
            if Some(at) != good {
                match ask(netlink.handle.rule().del(rule.clone()).execute()).await {
                    Err(error) if error.is(Errno::NOENT) => {}
                    result => result.map_err(self.failed("remove the rule"))?,
                }
                changes += 1;
            }
        }
        if needed && good.is_none() {
            let mut request = netlink.handle.rule().add();
            *request.message_mut() = self.rule();
            ask(request.execute()).await.map_err(self.failed("add the rule"))?;
            changes += 1;
        }
        Ok(changes)
    }

    async fn remove_route(self, netlink: &Netlink, route: &RouteMessage) -> Result<(), TableError> {
        match ask(netlink.handle.route().del(route.clone()).execute()).await {
            // Gone with its device meanwhile.
            Err(error) if error.is(Errno::SRCH) => Ok(()),
            result => result.map_err(self.failed("remove a route")),
        }
    }

    async fn read(self, netlink: &Netlink) -> Result<Found, TableError> {
        let mut rules = match netlink.rules().await {
            // A kernel without policy routing has none.
            Err(error) if error.is(Errno::OPNOTSUPP) => Vec::new(),
            rules => rules.map_err(self.failed("read the rule"))?,
        };
        rules.retain(|rule| rule_table(rule) == self.id());
        let routes = match netlink.routes(Some(self.id())).await {
            // No such table.
            Err(error) if error.is(Errno::NOENT) => Vec::new(),
            routes => routes.map_err(self.failed("read the routes"))?,
        };
        let routes = routes.into_iter().filter_map(|route| Some((destination(&route)?, route))).collect();
        Ok(Found { rules, routes })
    }

    /// Packets that this host itself sends (`iif lo`) from data port to data port, as the VXLAN socket device does: what it
    /// forwards for others is not cut, and the host task's question for a route is not answered by this table.
    fn rule(self) -> RuleMessage {
        let mut rule = RuleMessage::default();
        rule.header.family = AddressFamily::Inet;
        rule.header.action = RuleAction::ToTable;
        let ports = RulePortRange { start: self.data_port, end: self.data_port };
        rule.attributes = vec![
            RuleAttribute::Priority(self.priority()),
            RuleAttribute::Table(self.id()),
            RuleAttribute::Iifname("lo".to_owned()),
            RuleAttribute::IpProtocol(IpProtocol::Udp),
            RuleAttribute::SourcePortRange(ports),
            RuleAttribute::DestinationPortRange(ports),
            RuleAttribute::Protocol(RouteProtocol::Static),
        ];
        rule
    }

    /// Whether `found` is what [`Self::rule`] makes. The kernel adds attributes of its own.
    fn is_rule(self, found: &RuleMessage) -> bool {
        let rule = self.rule();
        let has = |attribute: &RuleAttribute| found.attributes.contains(attribute);
        found.header.action == rule.header.action
            && (found.header.src_len, found.header.dst_len) == (0, 0)
            && rule.attributes.iter().all(has)
    }

    fn route(self, to: Ipv4Addr, route: &LockedRoute) -> RouteMessage {
        let LockedRoute { ifindex, next_hop, source, size } = *route;
        let builder = RouteMessageBuilder::<Ipv4Addr>::new()
            .table_id(self.id())
            .destination_prefix(to, 32)
            .output_interface(ifindex)
            .pref_source(source);
        // The gateway is on the link, whatever this table says about where it is.
        let builder = if next_hop == to { builder.scope(RouteScope::Link) } else { builder.gateway(next_hop).onlink() };
        let mut message = builder.build();
        message.attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Lock(LOCK_MTU), RouteMetric::Mtu(size)]));
        message
    }
}

fn rule_table(rule: &RuleMessage) -> u32 {
    let table = rule.attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::Table(table) => Some(*table),
        _ => None,
    });
    table.unwrap_or_else(|| rule.header.table.into())
}

fn destination(route: &RouteMessage) -> Option<Ipv4Addr> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(addr)) => Some(*addr),
        _ => None,
    })
}

/// What a route of the kernel says, if its MTU is locked.
fn read_route(message: &RouteMessage) -> Option<LockedRoute> {
    let (mut ifindex, mut next_hop, mut source) = (None, destination(message)?, None);
    let (mut size, mut locked) = (None, false);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(addr)) => next_hop = *addr,
            RouteAttribute::PrefSource(RouteAddress::Inet(addr)) => source = Some(*addr),
            RouteAttribute::Metrics(metrics) => {
                locked = metrics.iter().any(|metric| matches!(metric, RouteMetric::Lock(bits) if bits & LOCK_MTU != 0));
                size = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    Some(LockedRoute { ifindex: ifindex?, next_hop, source: source?, size: size.filter(|_| locked)? })
}
