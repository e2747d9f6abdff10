//! The way to each backend: interface, MAC address, MTU, and the source of a tunnel's outer header.
//!
//! Read from the kernel's routes and neighbour table, which the kernel keeps; those that are stale are asked for again
//! before they are wrong, since what the program sends confirms nothing.
use super::place::Site;
use crate::sys::rtnl::{Link, Neighbour, NeighbourState, Route, RouteKind, Rtnl, RtnlError};
use lb_common::model::Family;
use lb_common::plan::{Forwarding, Method};
use lb_common::xdp::{Face, Hop, Reach, Resolved};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// What the kernel says.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Every interface, by index.
    pub(super) links: BTreeMap<u32, Link>,
    /// Where the program for each interface is, by the interface's index.
    pub(super) sites: BTreeMap<u32, Site>,
    /// This host's own addresses.
    pub(super) own: BTreeSet<IpAddr>,
    /// How it gets to each backend.
    pub(super) routes: BTreeMap<IpAddr, Route>,
    /// Its neighbours, by interface and address.
    pub(super) neighbours: BTreeMap<(u32, IpAddr), Neighbour>,
}

/// What comes of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// For the tables.
    pub(super) resolved: Resolved,
    /// What is in the way of a backend, as sentences.
    pub(super) problems: Vec<String>,
    /// Neighbours that packets go to.
    pub(super) watched: BTreeMap<(u32, IpAddr), Freshness>,
    /// Interfaces that packets leave from.
    pub(super) egress: BTreeSet<u32>,
}

/// How well a neighbour is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freshness {
    /// No MAC address.
    Unknown,
    /// One that was right some time ago.
    Stale,
    /// One that is right.
    Fresh,
}

/// Backends and how packets get there, each once.
fn backends(forwarding: &Forwarding) -> BTreeMap<(IpAddr, Method), BTreeSet<IpAddr>> {
    let mut all: BTreeMap<_, BTreeSet<IpAddr>> = BTreeMap::new();
    for service in forwarding.services.values() {
        for backend in &service.backends {
            let vips = all.entry((backend.address, service.method)).or_default();
            vips.insert(service.key.address);
        }
    }
    all
}

impl Facts {
    /// Reads addresses, routes and neighbours for these backends.
    pub(super) async fn read(&mut self, rtnl: &mut Rtnl, forwarding: &Forwarding) -> Result<(), RtnlError> {
        let own = rtnl.addresses().await?;
        self.own = own.into_iter().map(|a| a.key.address.addr()).collect();
        let mut interfaces = BTreeSet::new();
        for (address, _) in backends(forwarding).keys() {
            if self.own.contains(address) || self.routes.contains_key(address) {
                continue;
            }
            if let Some(route) = rtnl.route_to(*address).await? {
                interfaces.insert(route.interface);
                self.routes.insert(*address, route);
            }
        }
        for interface in interfaces {
            let table = rtnl.neighbours(interface).await?;
            self.neighbours
                .extend(table.into_iter().map(|n| ((interface, n.ip), n)));
        }
        Ok(())
    }

    /// Decides.
    pub(super) fn resolve(&self, forwarding: &Forwarding, stamp: Duration) -> Found {
        let mut found = Found::default();
        found.resolved.stamp = stamp;
        for (vip, interface) in &forwarding.vips {
            if let Some(mac) = self.links.get(interface).and_then(|l| l.mac) {
                let vlan = self.sites.get(interface).map_or(0, |s| s.vlan);
                found.resolved.vips.insert(*vip, Face { mac, vlan });
            }
        }
        for ((address, method), vips) in backends(forwarding) {
            let reach = match self.reach(address, method, &mut found) {
                Ok(Reach::OnLink(hop)) => match self.same_network(address, &vips, forwarding) {
                    Ok(()) => Reach::OnLink(hop),
                    Err(why) => {
                        found.problems.push(why);
                        Reach::Unresolved
                    }
                },
                Ok(reach) => reach,
                Err(why) => {
                    found.problems.push(why);
                    Reach::Unresolved
                }
            };
            found.resolved.backends.insert((address, method), reach);
        }
        found
    }

    fn reach(&self, address: IpAddr, method: Method, found: &mut Found) -> Result<Reach, String> {
        if self.own.contains(&address) {
            return Ok(Reach::Local);
        }
        let route = match self.routes.get(&address) {
            Some(route) if route.kind == RouteKind::Local => return Ok(Reach::Local),
            Some(route) if route.kind == RouteKind::Unicast => route,
            Some(_) | None => return Err(format!("no route leads to the real server {address}")),
        };
        let link = self
            .links
            .get(&route.interface)
            .ok_or_else(|| format!("the interface towards the real server {address} is gone"))?;
        if let (Method::Direct, Some(gateway)) = (method, route.via) {
            return Err(format!(
                "the real server {address} is not on a network of this node (it is behind {gateway} on {}): direct \
                 routing changes only the MAC address and cannot get there; use `lbKind: TUN`",
                link.name
            ));
        }
        let next = route.via.unwrap_or(address);
        let Some(src_mac) = link.mac.filter(|_| link.ethernet) else {
            return Err(format!(
                "the real server {address} is reached through {}, whose packets have no Ethernet header: the XDP \
                 program cannot send there; use `datapath: ipvs`",
                link.name
            ));
        };
        if method == Method::Tunnel && route.source.is_none() {
            return Err(format!(
                "this node has no {} address that a tunnel to the real server {address} could leave from",
                match Family::of(address) {
                    Family::Ipv4 => "IPv4",
                    Family::Ipv6 => "IPv6",
                }
            ));
        }
        let neighbour = self.neighbours.get(&(link.index, next));
        found
            .watched
            .insert((link.index, next), freshness(neighbour));
        found.egress.insert(link.index);
        let Some(mac) = neighbour.and_then(Neighbour::usable) else {
            return Ok(Reach::Unresolved);
        };
        Ok(Reach::OnLink(Hop {
            ifindex: self.sites.get(&link.index).map_or(link.index, |s| s.interface),
            mac,
            src_mac,
            mtu: link.mtu,
            source: route.source,
        }))
    }

    /// A frame keeps its VLAN tags, so what comes in on one VLAN can only leave on the same.
    fn same_network(&self, address: IpAddr, vips: &BTreeSet<IpAddr>, forwarding: &Forwarding) -> Result<(), String> {
        let Some(out) = self.routes.get(&address).and_then(|r| self.links.get(&r.interface)) else {
            return Ok(());
        };
        let tags = |index: u32| self.sites.get(&index).map_or(0, |s| s.vlan);
        for vip in vips {
            let Some(interface) = forwarding.vips.get(vip).filter(|i| **i != out.index) else {
                continue;
            };
            if tags(*interface) != tags(out.index) {
                let name = self.links.get(interface).map_or("its interface", |l| l.name.as_str());
                return Err(format!(
                    "the real server {address} is on {}, and the virtual IP {vip} on {name}: the XDP program leaves VLAN \
                     tags as they are and cannot forward from one VLAN to another; use `datapath: ipvs`",
                    out.name
                ));
            }
        }
        Ok(())
    }
}

fn freshness(neighbour: Option<&Neighbour>) -> Freshness {
    match neighbour.map(|n| (n.usable(), n.state)) {
        Some((Some(_), NeighbourState::Reachable | NeighbourState::Permanent)) => Freshness::Fresh,
        Some((Some(_), _)) => Freshness::Stale,
        Some((None, _)) | None => Freshness::Unknown,
    }
}
