//! A `Spec` as a native file with every default filled in: what was understood, for people to read and to keep. Loading
//! it gives the same `Spec`.
mod health;

use super::raw::native::{Api, ControlPlaneLoadBalancer, Spec as RawSpec};
use super::raw::server::MAGLEV;
use super::raw::{
    ConnectionSync, Garp, Granularity, IpvsTimeouts, Keepalive, Metadata, Port, Proxy, ProxyProtocol,
    RealServer, RootArray, SorryServer, SyncGroup, Tunnel, VirtualServer, VrrpInstance, Xdp,
};
use super::{API_VERSION, KIND};
use crate::model::{Forwarding, Scheduler, SchedulerFlags};
use crate::spec::{self, DatapathKind, Instance, InterfaceSelector, Spec, Transport, XdpMode};
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

/// `spec` as a native file.
pub fn native(spec: &Spec) -> ControlPlaneLoadBalancer {
    spec.into()
}

impl From<&Spec> for ControlPlaneLoadBalancer {
    fn from(s: &Spec) -> Self {
        let named = |i: &usize| s.instances.get(*i).map(|i| i.name.clone());
        Self {
            api_version: Some(API_VERSION.into()),
            kind: Some(KIND.into()),
            metadata: Some(Metadata {
                name: Some(s.name.clone()),
            }),
            spec: Some(RawSpec {
                enabled: Some(s.enabled),
                vrrp_instances: Some(s.instances.iter().map(instance).collect()),
                sync_groups: some(s.sync_groups.iter().map(|g| SyncGroup {
                    name: Some(g.name.clone()),
                    instances: Some(g.members.iter().filter_map(named).collect()),
                })),
                virtual_servers: some(s.virtual_servers.iter().map(server)),
                connection_sync: s.connection_sync.as_ref().map(|c| ConnectionSync {
                    enabled: Some(true),
                    interface: c.interface.clone(),
                    sync_id: Some(i64::from(c.sync_id)),
                    instance: named(&c.instance),
                }),
                ipvs_timeouts: s.timeouts.as_ref().map(timeouts),
                xdp: (s.xdp != spec::Xdp::default()).then(|| xdp(&s.xdp)),
                proxy: s
                    .virtual_servers
                    .iter()
                    .any(|v| v.datapath == DatapathKind::Proxy)
                    .then(|| Box::new(proxy(&s.proxy))),
                // Every virtual server below names its port.
                api: None::<Api>,
            }),
        }
    }
}

/// Nothing rather than an empty list.
fn some<T>(items: impl Iterator<Item = T>) -> Option<Vec<T>> {
    let list: Vec<T> = items.collect();
    (!list.is_empty()).then_some(list)
}

fn timeouts(t: &spec::IpvsTimeouts) -> IpvsTimeouts {
    let seconds = |s: u32| Some(Duration::from_secs(s.into()).into());
    IpvsTimeouts {
        tcp: seconds(t.tcp),
        tcp_fin: seconds(t.tcp_fin),
        udp: seconds(t.udp),
    }
}

fn xdp(x: &spec::Xdp) -> Xdp {
    let mode = match x.attach.mode {
        XdpMode::Auto => "auto",
        XdpMode::Native => "native",
        XdpMode::Generic => "generic",
    };
    Xdp {
        hash_seed: x.hash_seed.as_ref().map(|s| s.text().into()),
        // It has no effect in somebody else's array.
        mode: x.attach.root_array.is_none().then(|| mode.into()),
        next: x.attach.next.clone(),
        root_array: x.attach.root_array.as_ref().map(|r| RootArray {
            path: Some(r.path.clone()),
            index: Some(r.index.into()),
        }),
    }
}

fn instance(i: &Instance) -> VrrpInstance {
    let (source, peers) = match &i.transport {
        Transport::Multicast => (None, None),
        Transport::Unicast { source, peers } => (*source, Some(peers)),
    };
    VrrpInstance {
        name: Some(i.name.clone()),
        virtual_ips: Some(i.virtual_ips.iter().map(ToString::to_string).collect()),
        interface: match &i.interface {
            InterfaceSelector::Auto => None,
            InterfaceSelector::Name(name) => Some(name.clone()),
            InterfaceSelector::Mac(mac) => Some(mac.to_string()),
        },
        virtual_router_id: Some(i64::from(i.vrid.get())),
        version: Some(i64::from(u8::from(i.version))),
        priority: Some(i64::from(i.priority.get())),
        preempt: Some(i.preempt),
        preempt_delay: Some(i.preempt_delay.into()),
        advert_interval: Some(i.advert_interval.duration().into()),
        advert_interval_seconds: None,
        auth_pass: i.auth_pass.map(password),
        unicast_source_ip: source.map(|s| s.to_string()),
        unicast_peers: peers.map(|p| p.iter().map(ToString::to_string).collect()),
        v3_checksum: (i.checksum != spec::ChecksumForm::default()).then_some(i.checksum),
        address_label: Some(i64::from(i.address_label)),
        garp: Some(Garp {
            repeat: Some(i64::from(i.announce.repeat)),
            delay: Some(i.announce.delay.into()),
            refresh: Some(i.announce.refresh.unwrap_or_default().into()),
            interval: Some(i.announce.interval.into()),
        }),
        // Also an empty list: it takes the default away.
        track: Some(i.track.iter().map(health::track).collect()),
        notify: some(i.notify.iter().map(health::notify)),
    }
}

/// The bytes of a password without VRRP's padding; they came from a text, so they are one.
fn password(pass: crate::model::AuthPass) -> String {
    let bytes = pass.bytes();
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

fn server(v: &spec::VirtualServer) -> VirtualServer {
    VirtualServer {
        // The name that a nameless one gets is no name by the rules for names.
        name: Some(v.name.clone()).filter(|n| *n != v.key.to_string()),
        ip_address: Some(v.key.address.to_string()),
        ports: Some([Port::Number(i64::from(v.key.port))].into()),
        protocol: Some(v.key.protocol.name().into()),
        datapath: Some(datapath(v.datapath).into()),
        lb_algo: Some(match (v.datapath, v.scheduler) {
            (DatapathKind::Xdp, Scheduler::MaglevHash) => MAGLEV.into(),
            (_, scheduler) => scheduler.name().into(),
        }),
        scheduler_flags: some(flags(v.scheduler, v.flags).into_iter()),
        // The proxy's is none of these.
        lb_kind: (v.datapath != DatapathKind::Proxy).then(|| v.forwarding.name().into()),
        tunnel: match v.forwarding {
            Forwarding::DirectRouting | Forwarding::Nat => None,
            Forwarding::Tunnel { kind, port } => Some(Tunnel {
                kind: Some(kind.name().into()),
                port: (port != 0).then_some(i64::from(port)),
            }),
        },
        persistence_timeout_seconds: Some(
            v.persistence
                .map_or(0, |p| i64::try_from(p.timeout.as_secs()).unwrap_or(i64::MAX)),
        ),
        persistence_granularity: v.persistence.map(|p| Granularity::Bits(p.granularity.into())),
        health_check: Some(health::check(&v.health_check)),
        slow_start: (!v.slow_start.is_zero()).then(|| v.slow_start.into()),
        quorum: v.quorum.map(Into::into),
        hysteresis: (v.hysteresis != 0).then(|| v.hysteresis.into()),
        sorry_server: v.sorry_server.as_ref().map(|s| SorryServer {
            address: Some(s.address.to_string()),
            port: Some(s.port.into()),
        }),
        proxy_protocol: (v.proxy_protocol != spec::ProxyProtocol::default()).then(|| ProxyProtocol {
            send: v.proxy_protocol.send.map(|s| s.name().into()),
            accept_from: some(v.proxy_protocol.accept_from.iter().map(ToString::to_string)),
        }),
        real_servers: some(v.real_servers.iter().map(|r| RealServer {
            address: Some(r.address.to_string()),
            port: Some(r.port.into()),
            weight: Some(r.weight.into()),
            upper_threshold: Some(r.upper_threshold.into()),
            lower_threshold: Some(r.lower_threshold.into()),
            check_address: r.check_address.map(|a| a.to_string()),
            check_port: r.check_port.map(Into::into),
        })),
    }
}

fn proxy(s: &crate::proxy::Settings) -> Proxy {
    Proxy {
        bind_port: s.bind_port.map(Into::into),
        steering: Some(s.steering.name().into()),
        threads: s.threads.map(Into::into),
        connect_timeout: Some(s.connect_timeout.into()),
        queue_timeout: Some(s.queue_timeout.into()),
        idle_timeout: Some(s.idle_timeout.unwrap_or_default().into()),
        half_close_timeout: Some(s.half_close_timeout.into()),
        keepalive: Some(Keepalive {
            idle: Some(s.keepalive.map(|k| k.idle).unwrap_or_default().into()),
            interval: s.keepalive.map(|k| k.interval.into()),
            probes: s.keepalive.map(|k| k.probes.into()),
        }),
        max_connections: s.max_connections.map(Into::into),
    }
}

const fn datapath(d: DatapathKind) -> &'static str {
    match d {
        DatapathKind::Auto => "auto",
        DatapathKind::Ipvs => "ipvs",
        DatapathKind::Xdp => "xdp",
        DatapathKind::Proxy => "proxy",
    }
}

fn flags(scheduler: Scheduler, flags: SchedulerFlags) -> Vec<String> {
    let prefix = if scheduler == Scheduler::MaglevHash {
        "mh"
    } else {
        "sh"
    };
    let mut out = Vec::new();
    if flags.fallback {
        out.push(alloc::format!("{prefix}-fallback"));
    }
    if flags.port {
        out.push(alloc::format!("{prefix}-port"));
    }
    if flags.one_packet {
        out.push("ops".into());
    }
    out
}
