//! What datapath xdp makes of a policy. What is refused is tried on files.
use super::super::validate;
use crate::config::raw::native::{ControlPlaneLoadBalancer, Spec as RawSpec, Xdp as RawXdp};
use crate::config::raw::{File, Port, PortPolicy, RealServer, VirtualServer as RawServer, VrrpInstance};
use crate::config::{Facts, Valid};
use crate::model::{AuthPass, Scheduler};
use crate::spec::{DatapathKind, Spec, VirtualServer};
use crate::xdp::seed;
use std::boxed::Box;
use std::vec;

fn text(value: &str) -> Option<std::string::String> {
    Some(value.into())
}

fn file(instance: VrrpInstance, server: RawServer, xdp: Option<RawXdp>) -> File {
    File::Native(ControlPlaneLoadBalancer {
        spec: Some(RawSpec {
            vrrp_instances: Some(vec![VrrpInstance {
                virtual_ips: Some(vec!["192.0.2.200/24".into()]),
                ..instance
            }]),
            virtual_servers: Some(vec![RawServer {
                ip_address: text("192.0.2.200"),
                real_servers: Some(vec![RealServer {
                    address: text("192.0.2.1"),
                    ..RealServer::default()
                }]),
                ..server
            }]),
            xdp,
            ..RawSpec::default()
        }),
        ..ControlPlaneLoadBalancer::default()
    })
}

fn valid(server: RawServer) -> Valid {
    validate(&file(VrrpInstance::default(), server, None), &Facts::default()).unwrap()
}

fn by_port(server: RawServer, policy: PortPolicy) -> [VirtualServer; 2] {
    let policy = PortPolicy {
        port: Some(8132),
        ..policy
    };
    let ports = Some(vec![Port::Number(6443), Port::Policy(Box::new(policy))]);
    let spec = valid(RawServer { ports, ..server }).spec;
    spec.virtual_servers.try_into().unwrap()
}

#[test]
fn what_insists_on_xdp_goes_by_maglev() {
    let one = |datapath: Option<&str>, algorithm: Option<&str>| {
        let server = RawServer {
            datapath: datapath.and_then(text),
            lb_algo: algorithm.and_then(text),
            ..RawServer::default()
        };
        let spec = valid(server).spec;
        (
            spec.virtual_servers[0].datapath,
            spec.virtual_servers[0].scheduler,
        )
    };
    assert_eq!(one(Some("xdp"), None), (DatapathKind::Xdp, Scheduler::MaglevHash));
    assert_eq!(
        one(Some("xdp"), Some("maglev")),
        (DatapathKind::Xdp, Scheduler::MaglevHash)
    );
    assert_eq!(
        one(Some("xdp"), Some("mh")),
        (DatapathKind::Xdp, Scheduler::MaglevHash)
    );
    assert_eq!(one(None, None), (DatapathKind::Auto, Scheduler::RoundRobin));
    assert_eq!(
        one(Some("auto"), Some("wlc")),
        (DatapathKind::Auto, Scheduler::WeightedLeastConnection)
    );
    assert_eq!(
        one(Some("ipvs"), Some("maglev")),
        (DatapathKind::Ipvs, Scheduler::MaglevHash)
    );
}

#[test]
fn a_port_of_another_datapath_has_that_ones_algorithm() {
    let server = RawServer {
        lb_algo: text("sh"),
        scheduler_flags: Some(vec!["sh-port".into()]),
        ..RawServer::default()
    };
    let policy = PortPolicy {
        datapath: text("xdp"),
        ..PortPolicy::default()
    };
    let [first, second] = by_port(server, policy);
    assert_eq!((first.scheduler, first.flags.port), (Scheduler::SourceHash, true));
    assert_eq!(
        (second.scheduler, second.flags.port),
        (Scheduler::MaglevHash, false)
    );
    let server = RawServer {
        datapath: text("xdp"),
        ..RawServer::default()
    };
    let policy = PortPolicy {
        datapath: text("ipvs"),
        ..PortPolicy::default()
    };
    let [first, second] = by_port(server, policy);
    assert_eq!(first.scheduler, Scheduler::MaglevHash);
    assert_eq!(second.scheduler, Scheduler::RoundRobin);
}

#[test]
fn the_password_of_either_version_makes_the_key() {
    let key = |version, pass: Option<&str>| {
        let instance = VrrpInstance {
            version: Some(version),
            auth_pass: pass.and_then(text),
            ..VrrpInstance::default()
        };
        let spec: Spec = validate(&file(instance, RawServer::default(), None), &Facts::default())
            .unwrap()
            .spec;
        assert_eq!(seed::is_guessable(&spec), pass.is_none());
        assert_eq!(spec.instances[0].auth_pass, pass.and_then(AuthPass::new));
        seed::key(&spec)
    };
    assert_eq!(key(2, Some("Example")), key(3, Some("Example")));
    assert_ne!(key(3, Some("Example")), key(3, None));
}

#[test]
fn what_nobody_can_guess_is_not_warned_of() {
    let insists = || RawServer {
        datapath: text("xdp"),
        ..RawServer::default()
    };
    let warnings = |pass: Option<&str>, seed: Option<&str>, server: RawServer| {
        let instance = VrrpInstance {
            auth_pass: pass.and_then(text),
            ..VrrpInstance::default()
        };
        let xdp = seed.map(|s| RawXdp {
            hash_seed: text(s),
            ..RawXdp::default()
        });
        validate(&file(instance, server, xdp), &Facts::default())
            .unwrap()
            .warnings
            .len()
    };
    assert_eq!(warnings(None, None, insists()), 1);
    assert_eq!(
        warnings(None, None, RawServer::default()),
        0,
        "it may never be XDP's"
    );
    assert_eq!(warnings(Some("Example"), None, insists()), 0);
    assert_eq!(warnings(None, Some("sixteen letters!"), insists()), 0);
}
