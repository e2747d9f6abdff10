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
            match rtnl.route_to(*address).await {
                Ok(Some(route)) => {
                    interfaces.insert(route.interface);
                    self.routes.insert(*address, route);
                }
                Ok(None) => {}
                // A route that prohibits or throws away is an errno here, and no reason to leave the others.
                Err(RtnlError::Refused { .. }) => {}
                Err(error) => return Err(error),
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
        found.watched.insert((link.index, next), freshness(neighbour));
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
    fn same_network(
        &self,
        address: IpAddr,
        vips: &BTreeSet<IpAddr>,
        forwarding: &Forwarding,
    ) -> Result<(), String> {
        let Some(out) = self
            .routes
            .get(&address)
            .and_then(|r| self.links.get(&r.interface))
        else {
            return Ok(());
        };
        let tags = |index: u32| self.sites.get(&index).map_or(0, |s| s.vlan);
        for vip in vips {
            let Some(interface) = forwarding.vips.get(vip).filter(|i| **i != out.index) else {
                continue;
            };
            if tags(*interface) != tags(out.index) {
                let name = self
                    .links
                    .get(interface)
                    .map_or("its interface", |l| l.name.as_str());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::rtnl::Vlan;
    use lb_common::abi::hash::Key;
    use lb_common::model::{MacAddr, Protocol, ServiceKey};
    use lb_common::plan::{Backend, Forwarder};
    use lb_common::spec::XdpAttach;

    const VIP: &str = "10.0.0.100";

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn link(index: u32, name: &str, mac: Option<u8>) -> Link {
        Link {
            index,
            name: name.into(),
            mac: mac.map(|last| MacAddr([2, 0, 0, 0, 0, last])),
            up: true,
            running: true,
            loopback: false,
            ethernet: mac.is_some(),
            mtu: 1500,
            kind: None,
            alias: None,
            master: None,
            vlan: None,
            xdp: None,
        }
    }

    fn neighbour(address: &str, state: NeighbourState) -> Neighbour {
        Neighbour {
            ip: ip(address),
            mac: (state != NeighbourState::Incomplete).then_some(MacAddr([2, 0, 0, 0, 0, 99])),
            state,
        }
    }

    /// A host with `eth0` (2), `eth0.100` (3, natively on `eth0`) and `wg0` (4), and a way to each kind of backend.
    fn facts() -> Facts {
        let vlan = Link {
            vlan: Some(Vlan { id: 100, parent: 2 }),
            ..link(3, "eth0.100", Some(1))
        };
        let links = [link(2, "eth0", Some(1)), vlan, link(4, "wg0", None)];
        let site = |vlan| Site {
            interface: 2,
            name: "eth0".into(),
            vlan,
            generic: None,
        };
        let route = |interface, via: Option<&str>| Route {
            interface,
            via: via.map(ip),
            source: Some(ip("10.0.0.1")),
            kind: RouteKind::Unicast,
            metric: 0,
        };
        Facts {
            links: links.into_iter().map(|l| (l.index, l)).collect(),
            sites: [(2, site(0)), (3, site(100))].into(),
            own: [ip("10.0.0.1")].into(),
            routes: [
                (ip("10.0.0.2"), route(2, None)),
                (ip("10.0.0.3"), route(2, None)),
                (ip("10.0.0.4"), route(2, None)),
                (ip("10.1.0.2"), route(3, None)),
                (ip("10.2.0.2"), route(2, Some("10.0.0.2"))),
                (ip("10.3.0.2"), route(4, None)),
            ]
            .into(),
            neighbours: [
                (
                    (2, ip("10.0.0.2")),
                    neighbour("10.0.0.2", NeighbourState::Reachable),
                ),
                ((2, ip("10.0.0.3")), neighbour("10.0.0.3", NeighbourState::Stale)),
                (
                    (2, ip("10.0.0.4")),
                    neighbour("10.0.0.4", NeighbourState::Incomplete),
                ),
                (
                    (3, ip("10.1.0.2")),
                    neighbour("10.1.0.2", NeighbourState::Reachable),
                ),
            ]
            .into(),
        }
    }

    /// What is found of a backend of a virtual IP on that interface.
    fn found(backend: &str, method: Method, vip_on: u32) -> (Reach, Found) {
        let key = ServiceKey {
            address: ip(VIP),
            port: 6443,
            protocol: Protocol::Tcp,
        };
        let forwarder = Forwarder {
            key,
            method,
            affinity: None,
            backends: vec![Backend {
                address: ip(backend),
                weight: 1,
                up: true,
            }],
        };
        let forwarding = Forwarding {
            attach: XdpAttach::default(),
            interfaces: [vip_on].into(),
            vips: [(ip(VIP), vip_on)].into(),
            services: [(key, forwarder)].into(),
            key: Key::default(),
        };
        let found = facts().resolve(&forwarding, Duration::from_secs(4));
        (found.resolved.backends[&(ip(backend), method)], found)
    }

    #[test]
    fn the_way_to_each_kind_of_backend() {
        use Method::{Direct, Tunnel};
        let hop = |ifindex, source: &str| {
            Reach::OnLink(Hop {
                ifindex,
                mac: MacAddr([2, 0, 0, 0, 0, 99]),
                src_mac: MacAddr([2, 0, 0, 0, 0, 1]),
                mtu: 1500,
                source: Some(ip(source)),
            })
        };
        let (on_link, unknown) = (hop(2, "10.0.0.1"), Reach::Unresolved);
        let table = [
            ("10.0.0.1", Direct, 2, Reach::Local, ""),
            ("10.0.0.2", Direct, 2, on_link, ""),
            ("10.0.0.3", Direct, 2, on_link, ""),
            ("10.0.0.4", Direct, 2, unknown, ""),
            ("10.1.0.2", Direct, 3, on_link, ""),
            (
                "10.1.0.2",
                Direct,
                2,
                unknown,
                "cannot forward from one VLAN to another",
            ),
            (
                "10.0.0.2",
                Direct,
                3,
                unknown,
                "cannot forward from one VLAN to another",
            ),
            ("10.2.0.2", Direct, 2, unknown, "use `lbKind: TUN`"),
            ("10.2.0.2", Tunnel, 2, on_link, ""),
            ("10.3.0.2", Direct, 2, unknown, "no Ethernet header"),
            ("10.9.0.2", Tunnel, 2, unknown, "no route leads to"),
        ];
        for (backend, method, vip_on, want, problem) in table {
            let (reach, found) = found(backend, method, vip_on);
            let case = format!("{backend} by {method:?} from interface {vip_on}: {found:?}");
            assert_eq!(reach, want, "{case}");
            match found.problems.as_slice() {
                [] => assert_eq!(problem, "", "{case}"),
                [one] => assert!(!problem.is_empty() && one.contains(problem), "{case}"),
                _ => panic!("{case}"),
            }
        }
    }

    #[test]
    fn what_is_unknown_or_stale_is_to_be_asked_for() {
        for (backend, next, freshness) in [
            ("10.0.0.2", "10.0.0.2", Freshness::Fresh),
            ("10.0.0.3", "10.0.0.3", Freshness::Stale),
            ("10.0.0.4", "10.0.0.4", Freshness::Unknown),
        ] {
            let (_, found) = found(backend, Method::Direct, 2);
            assert_eq!(found.watched, [((2, ip(next)), freshness)].into());
        }
        let (_, tunnelled) = found("10.2.0.2", Method::Tunnel, 2);
        assert_eq!(
            tunnelled.watched,
            [((2, ip("10.0.0.2")), Freshness::Fresh)].into(),
            "the gateway"
        );
    }

    #[test]
    fn a_virtual_ip_has_its_interfaces_mac_address_and_tags() {
        let (_, found) = found("10.1.0.2", Method::Direct, 3);
        let face = Face {
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            vlan: 100,
        };
        assert_eq!(found.resolved.vips, [(ip(VIP), face)].into());
        assert_eq!(found.resolved.stamp, Duration::from_secs(4));
    }
}
