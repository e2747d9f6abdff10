//! What the userspace proxy is to serve on this node: every virtual server that asks for it, whoever holds the virtual
//! IP. Where that is elsewhere nobody comes, and a node that is about to hold it is ready before its first client.
use super::Context;
use crate::health::{Candidate, HealthView, select};
use crate::model::{Family, Scheduler, ServiceKey};
use crate::proxy::{Balance, Proxied, Server, Settings};
use crate::spec::{DatapathKind, Spec, VirtualServer};
use alloc::collections::BTreeMap;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "camelCase")
)]
pub struct Proxying {
    /// What all of them share.
    pub settings: Settings,
    /// One entry for each virtual IP and port, in their order.
    #[cfg_attr(feature = "serde", serde(with = "entries"))]
    pub servers: BTreeMap<ServiceKey, Proxied>,
}

/// A map whose keys are in its values: written as a list of these.
#[cfg(feature = "serde")]
mod entries {
    use super::{BTreeMap, Proxied, ServiceKey};
    use alloc::vec::Vec;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        map: &BTreeMap<ServiceKey, Proxied>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        s.collect_seq(map.values())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<BTreeMap<ServiceKey, Proxied>, D::Error> {
        Ok(Vec::<Proxied>::deserialize(d)?
            .into_iter()
            .map(|p| (p.key, p))
            .collect())
    }
}

/// `None`: the file asks for no proxy.
pub(super) fn proxying(spec: &Spec, cx: &Context<'_>) -> Option<Proxying> {
    let asks = |vs: &&VirtualServer| vs.datapath == DatapathKind::Proxy;
    let mut servers: BTreeMap<ServiceKey, Proxied> = spec
        .virtual_servers
        .iter()
        .filter(asks)
        .map(|vs| (vs.key, proxied(vs, cx)))
        .collect();
    if servers.is_empty() {
        return None;
    }
    if let Some(port) = spec.proxy.bind_port {
        let listed = spec.virtual_servers.iter().filter(asks).map(|vs| vs.key);
        for (key, address) in everywhere(listed, port) {
            if let Some(server) = servers.get_mut(&key) {
                server.listen.push(address);
            }
        }
    }
    Some(Proxying {
        settings: spec.proxy.clone(),
        servers,
    })
}

fn proxied(vs: &VirtualServer, cx: &Context<'_>) -> Proxied {
    let held = cx
        .roles
        .iter()
        .any(|r| r.holds && r.virtual_ips.iter().any(|v| v.addr() == vs.key.address));
    Proxied {
        key: vs.key,
        balance: balance(vs.scheduler),
        listen: alloc::vec![],
        send_header: vs.proxy_protocol.send,
        accept_header: vs.proxy_protocol.accept_from.clone(),
        held,
        servers: servers(vs, cx.health),
    }
}

/// Weights count in all of them, so `rr` and `wrr` are one.
const fn balance(scheduler: Scheduler) -> Balance {
    match scheduler {
        Scheduler::LeastConnection | Scheduler::WeightedLeastConnection => Balance::LeastConnections,
        Scheduler::SourceHash => Balance::Source,
        _ => Balance::RoundRobin,
    }
}

/// Who gets connections by [`select`]: one that is not ready has the weight 0 and keeps what it has.
fn servers(vs: &VirtualServer, health: &HealthView) -> alloc::vec::Vec<Server> {
    let one = |c: Candidate| Server {
        address: c.server.address,
        port: c.server.port,
        weight: c.weight,
        most: c.server.upper_threshold,
        resume: c.server.lower_threshold,
        up: c.alive,
    };
    select(vs, health).candidates.into_iter().map(one).collect()
}

/// Who listens on every address of the node: the first virtual server of each family, and where one family has none, the
/// other's for both.
fn everywhere(
    keys: impl Iterator<Item = ServiceKey> + Clone,
    port: u16,
) -> impl Iterator<Item = (ServiceKey, SocketAddr)> {
    let families = [
        (Family::Ipv4, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        (Family::Ipv6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
    ];
    families.into_iter().filter_map(move |(family, any)| {
        let own = keys.clone().find(|k| Family::of(k.address) == family);
        let key = own.or_else(|| keys.clone().next())?;
        Some((key, SocketAddr::new(any, port)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Forwarding;
    use crate::plan::{Desired, LocalLink, Observed, ObservedAddress, Op, Role, desired, diff, testing};
    use alloc::collections::BTreeSet;
    use std::{vec, vec::Vec};

    fn proxies() -> Spec {
        let mut spec = testing::spec_of(Forwarding::Nat);
        spec.connection_sync = None;
        for vs in &mut spec.virtual_servers {
            vs.datapath = DatapathKind::Proxy;
        }
        spec.proxy.bind_port = Some(6444);
        spec
    }

    fn wanted(spec: &Spec, holds: [bool; 2], health: &HealthView) -> Desired {
        let roles: Vec<Role> = spec
            .instances
            .iter()
            .zip(holds)
            .map(|(i, holds)| Role {
                name: i.name.clone(),
                interface: Some((2, "eth0".into())),
                virtual_ips: i.virtual_ips.clone(),
                holds,
            })
            .collect();
        let context = Context {
            roles: &roles,
            health,
            peers: &BTreeSet::new(),
            ipvs: true,
            xdp: true,
        };
        desired(spec, &context)
    }

    /// A kernel that has all of `want`.
    fn having(want: &Desired) -> Observed {
        Observed {
            local_link: LocalLink::Absent,
            addresses: (want.addresses.keys())
                .map(|a| (*a, ObservedAddress { leased: true }))
                .collect(),
            sysctls: want.sysctls.keys().map(|s| (s.clone(), 1)).collect(),
            proxy: want.proxy.clone(),
            ..Observed::default()
        }
    }

    #[test]
    fn every_node_serves_and_the_kernel_has_nothing_but_the_address() {
        let spec = proxies();
        let want = wanted(&spec, [true, false], &HealthView::default());
        let proxy = want.proxy.clone().unwrap();
        let held: Vec<bool> = proxy.servers.values().map(|s| s.held).collect();
        assert_eq!(held, [true, false]);
        assert!(want.services.is_empty() && want.guard.is_none() && !want.local_link);
        assert!(!want.sysctls.keys().any(super::super::Sysctl::is_forwarding));
        assert_eq!(diff(&want, &having(&want), false), []);
    }

    #[test]
    fn the_port_of_every_address_is_the_first_servers_of_each_family() {
        let mut spec = proxies();
        let listens = |spec: &Spec| -> Vec<Vec<SocketAddr>> {
            let want = wanted(spec, [true, true], &HealthView::default());
            want.proxy
                .unwrap()
                .servers
                .into_values()
                .map(|s| s.listen)
                .collect()
        };
        let (four, six): (SocketAddr, SocketAddr) =
            ("0.0.0.0:6444".parse().unwrap(), "[::]:6444".parse().unwrap());
        assert_eq!(listens(&spec), [vec![four, six], vec![]]);
        spec.virtual_servers[1].key.address = "2001:db8::1".parse().unwrap();
        assert_eq!(listens(&spec), [vec![four], vec![six]]);
        spec.proxy.bind_port = None;
        assert_eq!(listens(&spec), [vec![], Vec::<SocketAddr>::new()]);
    }

    #[test]
    fn the_dead_are_marked_unless_all_are() {
        let spec = proxies();
        let up = |dead: &[u8]| -> Vec<bool> {
            let health = HealthView {
                down: (dead.iter())
                    .map(|n| {
                        (
                            spec.virtual_servers[0].key,
                            SocketAddr::from(([192, 0, 2, *n], 6443)),
                        )
                    })
                    .collect(),
                ..HealthView::default()
            };
            let want = wanted(&spec, [true, true], &health).proxy.unwrap();
            want.servers
                .values()
                .next()
                .unwrap()
                .servers
                .iter()
                .map(|s| s.up)
                .collect()
        };
        assert_eq!(up(&[]), [true, true, true]);
        assert_eq!(up(&[2]), [true, false, true]);
        assert_eq!(up(&[1, 2, 3]), [true, true, true]);
    }

    #[test]
    fn it_serves_before_the_address_comes_and_cuts_before_it_goes() {
        let spec = proxies();
        let at = |ops: &[Op], which: fn(&Op) -> bool| ops.iter().position(which);
        let both = wanted(&spec, [true, true], &HealthView::default());
        let ops = diff(&both, &Observed::default(), false);
        let (set, put) = (
            at(&ops, |op| matches!(op, Op::SetProxy(_))),
            at(&ops, |op| matches!(op, Op::PutAddress(..))),
        );
        assert!(set.is_some() && set < put, "{ops:?}");
        let one = wanted(&spec, [true, false], &HealthView::default());
        let ops = diff(&one, &having(&both), false);
        assert!(
            matches!(&ops[..], [Op::SetProxy(_), Op::DeleteAddress(_)]),
            "{ops:?}"
        );
        let last = diff(&Desired::default(), &having(&one), false);
        let Some(Op::SetProxy(cut)) = last.first() else {
            panic!("{last:?}");
        };
        assert!(cut.servers.values().all(|s| !s.held));
        assert_eq!(last.last(), Some(&Op::DeleteProxy), "{last:?}");
    }
}
