//! k0s's block as a draft: its defaults and refusals, and a word on every field that does nothing here.
use super::super::duration::GoDuration;
use super::super::path::Path;
use super::super::problem::{Findings, Problem};
use super::super::raw::k0s::{Api, ClusterConfig, ControlPlaneLoadBalancing, K0sServer, Keepalived};
use super::super::raw::{HealthCheck, Proxy, VirtualServer};
use super::{Dialect, Draft, bad_name, is_name, port};
use crate::model::IpPrefix;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

/// What k0s itself listens on beside the API server.
const TAKEN: &[(i64, &str)] = &[
    (9443, "k0s's join API"),
    (8132, "konnectivity"),
    (7443, "k0s's node-local load balancing"),
];
/// No probe is sent more often.
const SHORTEST: Duration = Duration::from_millis(10);

/// `prefix` is where the `ClusterConfig` is: the document, or deep inside a k0sctl file.
pub(super) fn lower(
    config: &ClusterConfig,
    name: Option<&str>,
    prefix: &Path,
    dialect: Dialect,
    f: &mut Findings,
) -> Option<Draft> {
    let at = prefix.key("spec");
    let spec = config.spec.clone().unwrap_or_default();
    let api = spec.api.unwrap_or_default();
    let network = spec.network.unwrap_or_default();
    let name = name_of(config, name, prefix, f);
    let api_port = match api.port {
        None | Some(0) => Some(6443),
        Some(p) => f.take(port(p, &at.key("api").key("port"), "port")),
    };
    let local = network
        .node_local_load_balancing
        .and_then(|n| n.enabled)
        .unwrap_or(false);
    if local && api.external_address.as_ref().is_some_and(|a| !a.is_empty()) {
        f.refuse(external_address(&at));
    }
    let at_block = at.key("network").key("controlPlaneLoadBalancing");
    let Some(block) = network.control_plane_load_balancing else {
        f.refuse(
            Problem::new(
                &at_block,
                "there is no controlPlaneLoadBalancing in this file: nothing to do",
            )
            .help("add the block, with enabled: false where that is meant"),
        );
        return None;
    };
    let enabled = block.enabled.unwrap_or(false);
    let keepalived = keepalived(&block, enabled, &at_block, f)?;
    let base = at_block.key("keepalived");
    load_balancer(&keepalived, enabled, &base, f);
    proxy_port(&keepalived, api_port, &base, f);
    templates(&keepalived, &base, f);
    own_address(&api, &keepalived, &at.key("api").key("address"), f);
    let proxied = is_proxied(&keepalived);
    let listed = keepalived.virtual_servers.as_deref().unwrap_or_default();
    let servers = if proxied {
        proxied_servers(&keepalived)
    } else {
        let listed = listed.iter().enumerate();
        listed
            .map(|(i, s)| server(s, &base.key("virtualServers").index(i), f))
            .collect()
    };
    let port = bind_port(&keepalived);
    // Out of range is refused above, in k0s's words.
    let proxy = (proxied && !servers.is_empty() && u16::try_from(port).is_ok()).then(|| Proxy {
        bind_port: Some(port),
        ..Proxy::default()
    });
    Some(Draft {
        dialect,
        name,
        enabled,
        base,
        api_port: api_port.unwrap_or(6443),
        instances: keepalived
            .vrrp_instances
            .unwrap_or_default()
            .iter()
            .map(Into::into)
            .collect(),
        servers,
        sync_groups: Vec::new(),
        connection_sync: None,
        timeouts: None,
        xdp: None,
        proxy,
    })
}

/// The k0sctl file's own name where it has one, else that of k0s's configuration, else what k0s calls it.
fn name_of(config: &ClusterConfig, outer: Option<&str>, prefix: &Path, f: &mut Findings) -> String {
    let inner = config.metadata.as_ref().and_then(|m| m.name.as_deref());
    let name = outer.or(inner).filter(|n| !n.is_empty()).unwrap_or("k0s");
    if !is_name(name) {
        let base = if outer.is_some() { &Path::ROOT } else { prefix };
        f.refuse(bad_name(&base.key("metadata").key("name")));
    }
    name.into()
}

fn external_address(at: &Path) -> Problem {
    Problem::new(
        &at.key("network").key("nodeLocalLoadBalancing").key("enabled"),
        "network.nodeLocalLoadBalancing.enabled: Forbidden: node-local load balancing cannot be used in conjunction \
         with an external Kubernetes API server address",
    )
    .help("disable it, or leave spec.api.externalAddress out")
}

/// The block's inside; where a disabled block has none, an empty one.
fn keepalived(
    block: &ControlPlaneLoadBalancing,
    enabled: bool,
    at: &Path,
    f: &mut Findings,
) -> Option<Keepalived> {
    if let Some(kind) = block.kind.as_deref().filter(|k| !matches!(*k, "" | "Keepalived")) {
        let message = format!("unsupported CPLB type: {kind}. Only allowed value: Keepalived");
        f.refuse(
            Problem::new(&at.key("type"), message)
                .help("the name is k0s's; cplb does keepalived's work itself"),
        );
    }
    match &block.keepalived {
        Some(k) => Some(k.clone()),
        None if enabled => {
            let message = "keepalived must be defined where controlPlaneLoadBalancing is enabled";
            f.refuse(
                Problem::new(&at.key("keepalived"), message)
                    .help("put vrrpInstances and virtualServers under it"),
            );
            None
        }
        None => Some(Keepalived::default()),
    }
}

fn load_balancer(k: &Keepalived, enabled: bool, at: &Path, f: &mut Findings) {
    let disabled = k.disable_load_balancer == Some(true);
    let servers = k.virtual_servers.as_ref().is_some_and(|s| !s.is_empty());
    let instances = k.vrrp_instances.as_ref().is_some_and(|s| !s.is_empty());
    if disabled && servers {
        f.refuse(
            Problem::new(
                &at.key("disableLoadBalancer"),
                "disableLoadBalancer and virtualServers exclude each other",
            )
            .help("remove virtualServers for the virtual IP alone, else disableLoadBalancer"),
        );
    } else if enabled && !servers && !instances {
        let message = "No VRRP instances or virtual servers defined, skipping keepalived start";
        f.warn(Problem::new(at, message).help("there is nothing to do until vrrpInstances are given"));
    }
}

/// k0s balances by its userspace proxy unless it is told otherwise.
fn is_proxied(k: &Keepalived) -> bool {
    k.disable_load_balancer != Some(true) && k.virtual_servers.as_ref().is_none_or(Vec::is_empty)
}

fn bind_port(k: &Keepalived) -> i64 {
    k.user_space_proxy_bind_port.filter(|p| *p != 0).unwrap_or(6444)
}

/// One for each virtual IP, on the API server's port. One that is no address is refused where it is written.
fn proxied_servers(k: &Keepalived) -> Vec<VirtualServer> {
    let instances = k.vrrp_instances.iter().flatten();
    let addresses = instances.flat_map(|i| i.virtual_ips.iter().flatten());
    // Written twice, it is refused where it is.
    let addresses: BTreeSet<_> = addresses
        .filter_map(|vip| vip.parse::<IpPrefix>().ok())
        .map(|vip| vip.addr())
        .collect();
    addresses
        .into_iter()
        .map(|vip| VirtualServer {
            ip_address: Some(vip.to_string()),
            datapath: Some("proxy".into()),
            ..VirtualServer::default()
        })
        .collect()
}

fn proxy_port(k: &Keepalived, api_port: Option<u16>, at: &Path, f: &mut Findings) {
    let at = at.key("userSpaceProxyBindPort");
    let port = bind_port(k);
    let used = is_proxied(k);
    if !used && k.user_space_proxy_bind_port.is_some_and(|p| p != 0) {
        let message = "userSpaceProxyBindPort has no effect: there is no userspace proxy with virtualServers or \
                       disableLoadBalancer";
        f.warn(Problem::new(&at, message));
    }
    if !(1..=65535).contains(&port) {
        f.refuse(Problem::new(
            &at,
            "UserSpaceProxyPort must be in the range of 1-65535",
        ));
    } else if used || k.user_space_proxy_bind_port.is_some() {
        let api = api_port.map(|p| (i64::from(p), "the API server"));
        if let Some((_, who)) = api.iter().chain(TAKEN).find(|(p, _)| *p == port) {
            let message = format!("port {port} of the userspace proxy is that of {who} too");
            f.refuse(
                Problem::new(&at, message)
                    .help("take a port that nothing on a controller uses, such as 6445"),
            );
        }
    }
}

fn templates(k: &Keepalived, at: &Path, f: &mut Findings) {
    for (key, value) in [
        ("configTemplateVRRP", &k.config_template_vrrp),
        ("configTemplateVS", &k.config_template_vs),
    ] {
        if value.as_ref().is_some_and(|v| !v.is_empty()) {
            f.warn(
                Problem::new(
                    &at.key(key),
                    format!("{key} has no effect: there is no keepalived.conf here"),
                )
                .help("a native file (cplb.io/v1alpha1) has fields for what templates are used for"),
            );
        }
    }
}

/// A virtual IP as the node's own address makes k0s's components talk to whichever node holds it.
fn own_address(api: &Api, k: &Keepalived, at: &Path, f: &mut Findings) {
    let Some(own) = api.address.as_ref().and_then(|a| a.parse::<IpAddr>().ok()) else {
        return;
    };
    let vips = k
        .vrrp_instances
        .iter()
        .flatten()
        .flat_map(|i| i.virtual_ips.iter().flatten());
    let mut addresses = vips
        .filter_map(|v| v.split('/').next())
        .filter_map(|a| a.parse::<IpAddr>().ok());
    if addresses.any(|a| a == own) {
        f.refuse(
            Problem::new(
                at,
                format!("{own} is a virtual IP, but spec.api.address is this node's own address"),
            )
            .help("write the node's address here and the virtual IP as externalAddress"),
        );
    }
}

/// k0s checks each API server every second besides keepalived's loop, and the faster of the two decides.
fn server(raw: &K0sServer, at: &Path, f: &mut Findings) -> VirtualServer {
    let mut server = VirtualServer::from(raw);
    let at = at.key("delayLoop");
    let Some(delay) = raw.delay_loop.filter(|d| d.nanos() != 0) else {
        return server;
    };
    let Some(delay) = u64::try_from(delay.nanos() / 1_000)
        .ok()
        .filter(|us| *us > 0)
        .map(Duration::from_micros)
    else {
        f.refuse(Problem::new(&at, "DelayLoop must be positive").help("leave it out for 1m"));
        return server;
    };
    let second = Duration::from_secs(1);
    if delay > second {
        let message = format!(
            "delayLoop of {} has no effect: real servers are checked every second",
            GoDuration::from(delay)
        );
        f.warn(Problem::new(&at, message).help("k0s does so too, beside keepalived's loop"));
    } else if delay < SHORTEST {
        let message = format!(
            "delayLoop of {} is too short: real servers are checked every 10ms",
            GoDuration::from(delay)
        );
        f.warn(Problem::new(&at, message));
    }
    server.health_check = Some(HealthCheck {
        interval: Some(delay.clamp(SHORTEST, second).into()),
        ..HealthCheck::default()
    });
    server
}
