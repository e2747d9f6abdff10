//! What the userspace proxy is to serve on this node: every virtual server that asks for it, whoever holds the virtual
//! IP. Where that is elsewhere nobody comes, and a node that is about to hold it is ready before its first client.
use super::Context;
use crate::health::HealthView;
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

/// All of them; where none answers, all count as alive (k0s's rule), and nobody's connections are cut.
fn servers(vs: &VirtualServer, health: &HealthView) -> alloc::vec::Vec<Server> {
    let none = vs.real_servers.iter().all(|s| !health.is_up(vs, s));
    let one = |s: &crate::spec::RealServer| Server {
        address: s.address,
        port: s.port,
        weight: s.weight,
        most: s.upper_threshold,
        resume: s.lower_threshold,
        up: none || health.is_up(vs, s),
    };
    vs.real_servers.iter().map(one).collect()
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
