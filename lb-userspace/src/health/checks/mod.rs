//! What a check does. A further kind is one file here and one arm in [`probe`].
mod direct;
mod tcp;

use lb_common::model::{Forwarding, Protocol};
use lb_common::spec::{HealthCheck, HealthCheckKind, Spec};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// One real server to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where.
    pub address: SocketAddr,
    /// How.
    pub check: HealthCheck,
    /// Virtual IPs whose packets its node has to take.
    pub vips: BTreeSet<IpAddr>,
}

/// Everything in `spec` that is to be asked. Two virtual servers with one real server ask once, the first one's way.
pub(super) fn targets(spec: &Spec) -> BTreeMap<SocketAddr, Target> {
    let mut out = BTreeMap::new();
    if !spec.enabled {
        return out;
    }
    for vs in spec
        .virtual_servers
        .iter()
        .filter(|vs| vs.health_check.kind != HealthCheckKind::None)
    {
        for server in &vs.real_servers {
            let address = SocketAddr::new(server.address, server.port);
            let target = out.entry(address).or_insert_with(|| Target {
                address,
                check: vs.health_check.clone(),
                vips: BTreeSet::new(),
            });
            if vs.forwarding == Forwarding::DirectRouting && vs.key.protocol == Protocol::Tcp {
                target.vips.insert(vs.key.address);
            }
        }
    }
    out
}

/// Asks once. The error says what went wrong in words.
pub(super) async fn probe(target: &Target) -> Result<Duration, String> {
    let started = crate::clock::now();
    let limit = target.check.timeout;
    let outcome = match target.check.kind {
        HealthCheckKind::Tcp => tokio::time::timeout(limit, tcp::probe(target.address)).await,
        HealthCheckKind::None => return Ok(Duration::ZERO),
    };
    match outcome {
        Ok(Ok(())) => {
            let latency = crate::clock::now().saturating_since(started);
            for vip in &target.vips {
                direct::probe(target.address, *vip, limit).await?;
            }
            Ok(latency)
        }
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err(format!("no answer within {limit:?}")),
    }
}
