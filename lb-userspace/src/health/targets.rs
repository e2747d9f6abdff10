//! Whom to ask, and who wants to know. Two virtual servers that would ask the same server the same thing ask once.
use lb_common::health::{HealthCheck, Probe, Seat};
use lb_common::spec::{RealServer, Spec, VirtualServer};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// One thing to be asked, again and again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    /// The real server.
    pub(super) server: SocketAddr,
    /// Where it is asked.
    pub(super) at: SocketAddr,
    /// The virtual IP that its node is asked for besides.
    pub(super) vip: Option<IpAddr>,
    /// The virtual server's name, where the one who asks is told it.
    pub(super) service: String,
    /// How.
    pub(super) check: Arc<HealthCheck>,
}

/// Everything in `spec` that is to be asked, each with those who want to know.
pub(super) fn targets(spec: &Spec) -> BTreeMap<Target, BTreeSet<Seat>> {
    let mut out: BTreeMap<Target, BTreeSet<Seat>> = BTreeMap::new();
    if !spec.enabled {
        return out;
    }
    for vs in spec.virtual_servers.iter().filter(|vs| vs.health_check.asks()) {
        let check = Arc::new(vs.health_check.clone());
        for server in &vs.real_servers {
            let target = target(vs, server, &check);
            out.entry(target.clone())
                .or_default()
                .insert((vs.key, target.server));
        }
    }
    out
}

fn target(vs: &VirtualServer, server: &RealServer, check: &Arc<HealthCheck>) -> Target {
    let address = server.check_address.unwrap_or(server.address);
    let port = server.check_port.or(check.port).unwrap_or(server.port);
    let told = matches!(check.probe, Probe::Exec(_));
    Target {
        server: SocketAddr::new(server.address, server.port),
        at: SocketAddr::new(address, port),
        vip: vs.direct_address(),
        service: if told { vs.name.clone() } else { String::new() },
        check: check.clone(),
    }
}
