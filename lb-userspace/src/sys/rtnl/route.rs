//! Routes, read only: which interface leads to an address, and where the default route goes.
use super::{Rtnl, RtnlError, family};
use lb_common::model::Family;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType, RouteVia,
};
use nix::errno::Errno;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// It leaves by the interface.
    Unicast,
    /// It is for this host.
    Local,
    /// Broadcast, multicast or thrown away.
    Other,
}

/// A way to somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The interface. Of several next hops, the first.
    pub interface: u32,
    /// The router, where the destination is not on the link.
    pub via: Option<IpAddr>,
    /// The source address that this host would use.
    pub source: Option<IpAddr>,
    /// What becomes of a packet.
    pub kind: RouteKind,
    /// The lower, the better.
    pub metric: u32,
}

impl Rtnl {
    /// The best default route of the main table.
    pub async fn default_route(&mut self, of: Family) -> Result<Option<Route>, RtnlError> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(of);
        let request = RouteNetlinkMessage::GetRoute(message);
        let found = self.dump("listing routes", &request).await?;
        Ok(found
            .into_iter()
            .filter_map(|m| match m {
                RouteNetlinkMessage::NewRoute(m) if is_default(&m) => route(&m),
                _ => None,
            })
            .filter(|r| r.kind == RouteKind::Unicast)
            .min_by_key(|r| r.metric))
    }

    /// How a packet of this host's own gets to `ip`. None where there is no way.
    pub async fn route_to(&mut self, ip: IpAddr) -> Result<Option<Route>, RtnlError> {
        let mut message = RouteMessage::default();
        let of = Family::of(ip);
        message.header.address_family = family(of);
        message.header.destination_prefix_length = of.bits();
        message.attributes.push(RouteAttribute::Destination(ip.into()));
        let action = format!("looking up the route to {ip}");
        match self
            .ask(&action, &RouteNetlinkMessage::GetRoute(message), 0)
            .await
        {
            Ok(found) => Ok(found.into_iter().find_map(|m| match m {
                // A v6 lookup without a result is a route through lo with an error in its metrics.
                RouteNetlinkMessage::NewRoute(m) => route(&m),
                _ => None,
            })),
            Err(e) if matches!(e.errno(), Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH)) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

fn is_default(message: &RouteMessage) -> bool {
    message.header.destination_prefix_length == 0 && in_main_table(message)
}

/// Whether it is in the table that ordinary traffic uses.
pub(super) fn in_main_table(message: &RouteMessage) -> bool {
    let table = message.attributes.iter().find_map(|a| match a {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    table.unwrap_or(u32::from(message.header.table)) == u32::from(RouteHeader::RT_TABLE_MAIN)
}

fn route(message: &RouteMessage) -> Option<Route> {
    let mut out = Route {
        interface: 0,
        via: None,
        source: None,
        kind: match message.header.kind {
            RouteType::Unicast => RouteKind::Unicast,
            RouteType::Local => RouteKind::Local,
            _ => RouteKind::Other,
        },
        metric: 0,
    };
    let mut next_hop = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Priority(metric) => out.metric = *metric,
            RouteAttribute::PrefSource(address) => out.source = ip(address),
            RouteAttribute::MultiPath(hops) => next_hop = hops.first(),
            other => hop(other, &mut out),
        }
    }
    if let Some(next_hop) = next_hop {
        out.interface = next_hop.interface_index;
        next_hop.attributes.iter().for_each(|a| hop(a, &mut out));
    }
    (out.interface != 0).then_some(out)
}

fn hop(attribute: &RouteAttribute, out: &mut Route) {
    match attribute {
        RouteAttribute::Oif(interface) => out.interface = *interface,
        RouteAttribute::Gateway(address) => out.via = ip(address),
        RouteAttribute::Via(RouteVia::Inet(a)) => out.via = Some(IpAddr::V4(*a)),
        RouteAttribute::Via(RouteVia::Inet6(a)) => out.via = Some(IpAddr::V6(*a)),
        _ => {}
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(a) => Some(IpAddr::V4(*a)),
        RouteAddress::Inet6(a) => Some(IpAddr::V6(*a)),
        _ => None,
    }
    .filter(|a| *a != IpAddr::V4(Ipv4Addr::UNSPECIFIED) && *a != IpAddr::V6(Ipv6Addr::UNSPECIFIED))
}
