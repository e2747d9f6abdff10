//! A small specification for the tests of everything that goes by one.
use crate::health::Probe;
use crate::model::{
    AdvertInterval, Forwarding, Persistence, Priority, Protocol, Scheduler, SchedulerFlags, ServiceKey,
    Version, Vrid,
};
use crate::spec::{
    Announce, ChecksumForm, ConnectionSync, DatapathKind, HealthCheck, Instance, InterfaceSelector,
    RealServer, Spec, Transport, VirtualServer, Xdp,
};
use core::net::IpAddr;
use core::time::Duration;
use std::{format, vec};

pub(crate) fn instance(n: u8) -> Instance {
    let vip = format!("192.0.2.{}/24", 100 + n);
    Instance {
        name: format!("k0s-vip-{n}"),
        virtual_ips: vec![vip.parse().unwrap()],
        interface: InterfaceSelector::Auto,
        vrid: Vrid::new(51 + n).unwrap(),
        version: Version::V2,
        priority: Priority::new(200).unwrap(),
        preempt: true,
        preempt_delay: Duration::ZERO,
        advert_interval: AdvertInterval::SECOND,
        auth_pass: None,
        transport: Transport::Multicast,
        checksum: ChecksumForm::PseudoHeader,
        announce: Announce::default(),
        track: vec![],
        notify: vec![],
        address_label: 10_000,
    }
}

pub(crate) fn virtual_server(n: u8, forwarding: Forwarding) -> VirtualServer {
    let real = |last| RealServer::new(IpAddr::from([192, 0, 2, last]), 6443);
    VirtualServer {
        name: format!("vs{n}"),
        key: ServiceKey {
            address: IpAddr::from([192, 0, 2, 100 + n]),
            port: 6443,
            protocol: Protocol::Tcp,
        },
        instance: usize::from(n),
        datapath: DatapathKind::Auto,
        scheduler: Scheduler::RoundRobin,
        flags: SchedulerFlags::default(),
        forwarding,
        persistence: Some(Persistence {
            timeout: Duration::from_secs(360),
            granularity: 32,
        }),
        health_check: HealthCheck::new(Probe::Tcp),
        slow_start: Duration::ZERO,
        quorum: None,
        hysteresis: 0,
        sorry_server: None,
        proxy_protocol: crate::spec::ProxyProtocol::default(),
        real_servers: vec![real(1), real(2), real(3)],
    }
}

/// Two instances with a virtual server each, direct-routed.
pub(crate) fn spec() -> Spec {
    spec_of(Forwarding::DirectRouting)
}

/// The same with another `lbKind`.
pub(crate) fn spec_of(forwarding: Forwarding) -> Spec {
    Spec {
        name: "test".into(),
        enabled: true,
        instances: vec![instance(0), instance(1)],
        sync_groups: vec![],
        virtual_servers: vec![virtual_server(0, forwarding), virtual_server(1, forwarding)],
        connection_sync: Some(ConnectionSync {
            interface: None,
            sync_id: 7,
            instance: 0,
        }),
        timeouts: None,
        xdp: Xdp::default(),
        proxy: crate::proxy::Settings::default(),
    }
}
