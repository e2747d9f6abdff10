//! What does not need a file: defaults, and rules that are easier to see on raw values. The rest is tried on files.
use super::*;
use crate::config::raw::k0s::{
    Api, ClusterConfig, ClusterSpec, ControlPlaneLoadBalancing, K0sInstance, K0sServer, Keepalived, Network,
};
use crate::config::raw::native::{ControlPlaneLoadBalancer, Spec as RawSpec};
use crate::config::{Backend, RealServerSource, resolved};
use crate::model::{AdvertInterval, Forwarding, Priority, Scheduler, Version, Vrid};
use crate::spec::{HealthCheckKind, InterfaceSelector, Transport};
use std::string::ToString;
use std::time::Duration;
use std::vec;

fn k0s_instance(vip: &str) -> K0sInstance {
    K0sInstance {
        virtual_ips: Some(vec![vip.into()]),
        auth_pass: Some("123456".into()),
        ..K0sInstance::default()
    }
}

fn k0s_server(address: &str) -> K0sServer {
    K0sServer {
        ip_address: Some(address.into()),
        ..K0sServer::default()
    }
}

fn k0s_file(instances: Vec<K0sInstance>, servers: Vec<K0sServer>) -> File {
    File::K0s(ClusterConfig {
        metadata: None,
        spec: Some(ClusterSpec {
            api: Some(Api::default()),
            network: Some(Network {
                node_local_load_balancing: None,
                control_plane_load_balancing: Some(ControlPlaneLoadBalancing {
                    enabled: Some(true),
                    kind: None,
                    keepalived: Some(Keepalived {
                        vrrp_instances: Some(instances),
                        virtual_servers: Some(servers),
                        ..Keepalived::default()
                    }),
                }),
            }),
        }),
    })
}

fn backends(addresses: &[&str]) -> Facts {
    Facts {
        backends: addresses.iter().map(|a| Backend::parse(a).unwrap()).collect(),
        controllers: Vec::new(),
    }
}

#[test]
fn a_k0s_instance_has_the_defaults_of_k0s() {
    let file = k0s_file(
        vec![k0s_instance("192.0.2.200/24"), k0s_instance("2001:db8::200/64")],
        Vec::new(),
    );
    let spec = validate(&file, &Facts::default()).unwrap().spec;
    let [four, six] = spec.instances.as_slice() else {
        panic!()
    };
    assert_eq!(
        (four.name.as_str(), six.name.as_str()),
        ("k0s-vip-0", "k0s-vip-1")
    );
    assert_eq!((Some(four.vrid), Some(six.vrid)), (Vrid::new(51), Vrid::new(52)));
    assert_eq!((four.version, six.version), (Version::V2, Version::V3));
    assert_eq!(Some(four.priority), Priority::new(200));
    assert_eq!(four.advert_interval, AdvertInterval::SECOND);
    assert_eq!(four.interface, InterfaceSelector::Auto);
    assert_eq!(four.transport, Transport::Multicast);
    assert_eq!(four.address_label, 10_000);
    // Version 3 does not speak it, and the XDP datapath's hash is made of it.
    assert!(four.preempt && four.auth_pass.is_some() && six.auth_pass == four.auth_pass);
}

#[test]
fn a_k0s_virtual_server_has_the_defaults_of_k0s() {
    let file = k0s_file(
        vec![k0s_instance("192.0.2.200/24")],
        vec![k0s_server("192.0.2.200")],
    );
    let valid = validate(&file, &backends(&["192.0.2.2", "192.0.2.1", "192.0.2.2"])).unwrap();
    let server = &valid.spec.virtual_servers[0];
    assert_eq!(server.name, "TCP 192.0.2.200:6443");
    assert_eq!(
        (server.scheduler, server.forwarding),
        (Scheduler::RoundRobin, Forwarding::DirectRouting)
    );
    let persistence = server.persistence.unwrap();
    assert_eq!(
        (persistence.timeout, persistence.granularity),
        (Duration::from_secs(360), 32)
    );
    let check = &server.health_check;
    assert_eq!(
        (check.kind(), check.interval),
        (HealthCheckKind::Https, Duration::from_secs(1))
    );
    assert_eq!(
        (check.timeout, check.rise, check.fall),
        (Duration::from_secs(1), 2, 3)
    );
    let real: Vec<_> = server
        .real_servers
        .iter()
        .map(|r| (r.address.to_string(), r.port, r.weight))
        .collect();
    assert_eq!(
        real,
        [
            ("192.0.2.1".to_string(), 6443, 1),
            ("192.0.2.2".to_string(), 6443, 1)
        ]
    );
    assert_eq!(valid.sources, [RealServerSource::Flags]);
    assert!(valid.warnings.is_empty());
}

#[test]
fn a_delay_loop_is_cut_to_microseconds_and_only_quickens_the_check() {
    for (delay, interval, warned) in [
        ("1m", 1_000_000, true),
        ("1s", 1_000_000, false),
        ("500ms", 500_000, false),
        ("20000999ns", 20_000, false),
        ("1234567ns", 10_000, true),
    ] {
        let server = K0sServer {
            delay_loop: Some(delay.parse().unwrap()),
            ..k0s_server("192.0.2.200")
        };
        let file = k0s_file(vec![k0s_instance("192.0.2.200/24")], vec![server]);
        let valid = validate(&file, &backends(&["192.0.2.1"])).unwrap();
        let check = &valid.spec.virtual_servers[0].health_check;
        assert_eq!(check.interval, Duration::from_micros(interval), "{delay}");
        assert_eq!(!valid.warnings.is_empty(), warned, "{delay}");
    }
}

#[test]
fn automatic_router_ids_end_at_255() {
    let many = (0..206)
        .map(|n| k0s_instance(&alloc::format!("192.0.2.{n}/32")))
        .collect();
    let problems = validate(&k0s_file(many, Vec::new()), &Facts::default()).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert_eq!(
        problems[0].message,
        "automatic virtualRouterIDs exceeded, specify them explicitly"
    );
}

#[test]
fn unicast_names_the_real_servers_where_nobody_else_does() {
    let instance = K0sInstance {
        unicast_source_ip: Some("192.0.2.1".into()),
        unicast_peers: Some(vec!["192.0.2.3".into(), "192.0.2.2".into()]),
        ..k0s_instance("192.0.2.200/24")
    };
    let file = k0s_file(vec![instance], vec![k0s_server("192.0.2.200")]);
    let valid = validate(&file, &Facts::default()).unwrap();
    assert_eq!(valid.spec.virtual_servers[0].real_servers.len(), 3);
    assert_eq!(valid.sources, [RealServerSource::Unicast("k0s-vip-0".into())]);
}

fn native_file(instance: VrrpInstance) -> File {
    File::Native(ControlPlaneLoadBalancer {
        spec: Some(RawSpec {
            vrrp_instances: Some(vec![VrrpInstance {
                virtual_ips: Some(vec!["192.0.2.200/24".into()]),
                ..instance
            }]),
            ..RawSpec::default()
        }),
        ..ControlPlaneLoadBalancer::default()
    })
}

#[test]
fn an_interval_is_what_the_version_can_carry() {
    for (version, auth, interval, good) in [
        (None, false, "10ms", true),
        (None, false, "40950ms", true),
        (None, false, "40960ms", false),
        (None, false, "15ms", false),
        (None, true, "500ms", false),
        (None, true, "255s", true),
        (Some(2), false, "1500ms", false),
        (Some(2), false, "256s", false),
        (Some(3), true, "500ms", true),
        (Some(3), false, "-1s", false),
    ] {
        let file = native_file(VrrpInstance {
            version,
            auth_pass: auth.then(|| "secret".into()),
            advert_interval: Some(interval.parse().unwrap()),
            ..VrrpInstance::default()
        });
        let result = validate(&file, &Facts::default());
        assert_eq!(result.is_ok(), good, "{version:?} {auth} {interval}");
    }
}

#[test]
fn interfaces_are_names_or_mac_addresses() {
    let mac = InterfaceSelector::Mac("52:54:00:12:34:56".parse().unwrap());
    for (text, expected) in [
        ("eth0", Some(InterfaceSelector::Name("eth0".into()))),
        ("bond0.100", Some(InterfaceSelector::Name("bond0.100".into()))),
        ("52:54:00:12:34:56", Some(mac.clone())),
        ("52-54-00-12-34-56", Some(mac.clone())),
        ("5254.0012.3456", Some(mac)),
        ("", None),
        ("..", None),
        ("eth0:1", None),
        ("sixteen-letters-", None),
    ] {
        let file = native_file(VrrpInstance {
            interface: Some(text.into()),
            ..VrrpInstance::default()
        });
        let found = validate(&file, &Facts::default())
            .ok()
            .map(|v| v.spec.instances[0].interface.clone());
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn the_way_back_is_the_same_spec() {
    let file = k0s_file(
        vec![k0s_instance("192.0.2.200/24"), k0s_instance("2001:db8::200/64")],
        vec![k0s_server("192.0.2.200"), k0s_server("2001:db8::200")],
    );
    let valid = validate(&file, &backends(&["192.0.2.1", "2001:db8::1"])).unwrap();
    let again = validate(&File::Native(resolved::native(&valid.spec)), &Facts::default()).unwrap();
    assert_eq!(again.spec, valid.spec);
    let said = |v: &Valid| v.warnings.iter().map(|w| w.message.clone()).collect::<Vec<_>>();
    assert_eq!(said(&again), said(&valid));
}
