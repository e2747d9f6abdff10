//! The planner against a kernel made of a map: what it plans, applied, is what was wanted, and then nothing is left to do.
use super::*;
use crate::health::HealthView;
use crate::model::{
    AdvertInterval, Forwarding, IpPrefix, MacAddr, Persistence, Priority, Protocol, Scheduler,
    SchedulerFlags, Version, Vrid,
};
use crate::plan::{Context, DaemonRole, GuardSpec, ObservedAddress, Role, Service, Sysctl, desired};
use crate::spec::{
    Announce, ChecksumForm, ConnectionSync, DatapathKind, HealthCheck, HealthCheckKind, Instance,
    InterfaceSelector, ProxyProtocol, RealServer, Spec, Transport, VirtualServer, Xdp,
};
use crate::proxy::Settings;
use core::time::Duration;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::{format, string::ToString, vec, vec::Vec};

fn instance(n: u8) -> Instance {
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
        address_label: 10_000,
    }
}

fn virtual_server(n: u8, forwarding: Forwarding) -> VirtualServer {
    let real = |last| RealServer {
        address: IpAddr::from([192, 0, 2, last]),
        port: 6443,
        weight: 1,
        upper_threshold: 0,
        lower_threshold: 0,
    };
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
        health_check: HealthCheck {
            kind: HealthCheckKind::Tcp,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            rise: 1,
            fall: 3,
        },
        proxy_protocol: ProxyProtocol::default(),
        real_servers: vec![real(1), real(2), real(3)],
    }
}

fn spec(forwarding: Forwarding) -> Spec {
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
        proxy: Settings::default(),
    }
}

fn roles(spec: &Spec, holds: [bool; 2]) -> Vec<Role> {
    spec.instances
        .iter()
        .zip(holds)
        .map(|(i, holds)| Role {
            name: i.name.clone(),
            interface: Some((2, "eth0".into())),
            virtual_ips: i.virtual_ips.clone(),
            holds,
        })
        .collect()
}

fn want(spec: &Spec, holds: [bool; 2], down: &[SocketAddr]) -> Desired {
    let health = HealthView {
        down: (0..2u8)
            .flat_map(|n| {
                down.iter()
                    .map(move |d| (*d, Some(IpAddr::from([192, 0, 2, 100 + n]))))
            })
            .collect(),
    };
    let peers = BTreeSet::from([MacAddr([2, 0, 0, 0, 0, 1])]);
    let roles = roles(spec, holds);
    desired(
        spec,
        &Context {
            roles: &roles,
            health: &health,
            peers: &peers,
            ipvs: true,
            xdp: true,
        },
    )
}

/// The kernel as a value: what an op does to it, and a complaint where the order is wrong.
fn apply(kernel: &mut Observed, op: &Op) -> Result<(), &'static str> {
    match op {
        Op::EnsureLocalLink => kernel.local_link = LocalLink::Up,
        Op::DeleteLocalLink => {
            kernel.local_link = LocalLink::Absent;
            kernel.addresses.retain(|a, _| a.place != Place::Local);
        }
        Op::SetSysctl(s, v) => {
            kernel.sysctls.insert(s.clone(), *v);
            kernel.changed_sysctls.insert(s.clone());
        }
        Op::RestoreSysctl(s) => {
            kernel.sysctls.insert(s.clone(), 0);
            kernel.changed_sysctls.remove(s);
        }
        Op::SetLabel(a, l) => drop(kernel.labels.insert(*a, *l)),
        Op::DeleteLabel(a) => drop(kernel.labels.remove(a)),
        Op::SetGuard(g) => kernel.guard = Some(g.clone()),
        Op::DeleteGuard => kernel.guard = None,
        Op::SetTimeouts(t) => kernel.timeouts = Some(*t),
        Op::AddService(s) | Op::SetService(s) => {
            let servers = kernel.services.remove(&s.key).map(|(_, d)| d).unwrap_or_default();
            kernel.services.insert(s.key, (s.clone(), servers));
        }
        Op::DeleteService(k) => drop(kernel.services.remove(k)),
        Op::AddDestination(k, d) | Op::SetDestination(k, d) => {
            let (_, servers) = kernel
                .services
                .get_mut(k)
                .ok_or("a real server without its virtual server")?;
            servers.retain(|o| (o.address, o.port) != (d.address, d.port));
            servers.push(d.clone());
            servers.sort_by_key(|d| (d.address, d.port));
        }
        Op::DeleteDestination(k, a, p) => {
            let (_, servers) = kernel
                .services
                .get_mut(k)
                .ok_or("a real server without its virtual server")?;
            servers.retain(|o| (o.address, o.port) != (*a, *p));
        }
        Op::StartSync(d) => kernel.sync.push(d.clone()),
        Op::StopSync(d) => kernel.sync.retain(|o| o != d),
        Op::SetForwarding(x) => kernel.forwarding = Some(x.clone()),
        Op::DeleteForwarding => kernel.forwarding = None,
        Op::SetProxy(p) => kernel.proxy = Some(p.clone()),
        Op::DeleteProxy => kernel.proxy = None,
        Op::PutAddress(a, l) => put(kernel, a, *l)?,
        Op::DeleteAddress(a) => drop(kernel.addresses.remove(a)),
    }
    if kernel.sync.len() > 1 {
        Err("two synchronisation daemons at once")
    } else {
        Ok(())
    }
}

fn put(kernel: &mut Observed, a: &Address, l: Lifetime) -> Result<(), &'static str> {
    if a.place == Place::Local && kernel.local_link != LocalLink::Up {
        return Err("a local address before its link");
    }
    kernel.addresses.insert(
        *a,
        ObservedAddress {
            leased: matches!(l, Lifetime::Lease(_)),
        },
    );
    Ok(())
}

/// The values of what the desired state names, as `observe` reads them.
fn observe(kernel: &Observed, want: &Desired) -> Observed {
    let mut seen = kernel.clone();
    seen.sysctls = want
        .sysctls
        .keys()
        .map(|s| (s.clone(), *kernel.sysctls.get(s).unwrap_or(&0)))
        .collect();
    seen
}

fn converge(kernel: &mut Observed, want: &Desired) -> Vec<Op> {
    let ops = diff(want, &observe(kernel, want), false);
    for op in &ops {
        apply(kernel, op).unwrap_or_else(|e| panic!("{op}: {e}"));
    }
    assert_eq!(
        diff(want, &observe(kernel, want), false),
        vec![],
        "nothing is left to do"
    );
    ops
}

fn texts(ops: &[Op]) -> Vec<std::string::String> {
    ops.iter().map(ToString::to_string).collect()
}

#[test]
fn a_backup_serves_direct_routing_and_balances_nothing() {
    let spec = spec(Forwarding::DirectRouting);
    let mut kernel = Observed::default();
    converge(&mut kernel, &want(&spec, [false, false], &[]));
    assert_eq!(kernel.services.len(), 0);
    assert_eq!(kernel.local_link, LocalLink::Up);
    let local = |n: u8| Address {
        place: Place::Local,
        address: IpPrefix::host(IpAddr::from([192, 0, 2, 100 + n])),
    };
    assert_eq!(
        kernel.addresses.keys().copied().collect::<Vec<_>>(),
        vec![local(0), local(1)]
    );
    assert_eq!(
        kernel.sysctls.get(&Sysctl::ipv4_conf("eth0", "arp_ignore")),
        Some(&1)
    );
    assert_eq!(
        kernel.guard.as_ref().map(|g| g.vips.len()),
        Some(2),
        "a backup is guarded too"
    );
    assert_eq!(kernel.sync.first().map(|d| d.role), Some(DaemonRole::Backup));
}

#[test]
fn a_holder_balances_its_own_virtual_ip_only_and_builds_it_from_the_back() {
    let spec = spec(Forwarding::DirectRouting);
    let mut kernel = Observed::default();
    converge(&mut kernel, &want(&spec, [false, false], &[]));
    let ops = converge(&mut kernel, &want(&spec, [true, false], &[]));
    assert_eq!(
        texts(&ops),
        [
            "~ sysctl net/ipv4/conf/eth0/promote_secondaries = 1",
            "+ virtual server TCP 192.0.2.100:6443 rr persistent 360",
            "+ real server TCP 192.0.2.100:6443 -> 192.0.2.1:6443 DR weight 1",
            "+ real server TCP 192.0.2.100:6443 -> 192.0.2.2:6443 DR weight 1",
            "+ real server TCP 192.0.2.100:6443 -> 192.0.2.3:6443 DR weight 1",
            "+ address 192.0.2.100/24 on interface 2 lease 3 s",
            "- connection sync backup on eth0 syncid 7",
            "+ connection sync master on eth0 syncid 7",
        ]
    );
    let back = converge(&mut kernel, &want(&spec, [false, false], &[]));
    assert_eq!(
        texts(&back),
        [
            "- connection sync master on eth0 syncid 7",
            "+ connection sync backup on eth0 syncid 7",
            "- address 192.0.2.100/24 on interface 2",
            "- virtual server TCP 192.0.2.100:6443",
            "~ sysctl net/ipv4/conf/eth0/promote_secondaries put back",
        ]
    );
}

#[test]
fn a_dead_real_server_leaves_and_all_dead_ones_stay() {
    let spec = spec(Forwarding::DirectRouting);
    let at = |n| SocketAddr::from(([192, 0, 2, n], 6443));
    let count = |down: &[SocketAddr]| {
        let want = want(&spec, [true, true], down);
        want.services.values().map(|(_, d)| d.len()).collect::<Vec<_>>()
    };
    assert_eq!(count(&[]), [3, 3]);
    assert_eq!(count(&[at(2)]), [2, 2]);
    assert_eq!(count(&[at(1), at(2), at(3)]), [3, 3]);
}

#[test]
fn a_flush_by_somebody_else_heals() {
    let spec = spec(Forwarding::DirectRouting);
    let want = want(&spec, [true, true], &[]);
    let mut kernel = Observed::default();
    converge(&mut kernel, &want);
    let before = kernel.clone();
    kernel.services.clear();
    kernel.guard = None;
    kernel.addresses.retain(|a, _| a.place == Place::Local);
    converge(&mut kernel, &want);
    assert_eq!(kernel, before);
}

#[test]
fn nothing_wanted_takes_everything_down_and_puts_every_parameter_back() {
    let spec = spec(Forwarding::DirectRouting);
    let mut kernel = Observed::default();
    converge(&mut kernel, &want(&spec, [true, true], &[]));
    let ops = converge(&mut kernel, &Desired::default());
    assert!(kernel.addresses.is_empty() && kernel.services.is_empty() && kernel.sync.is_empty());
    assert_eq!(
        (kernel.local_link, kernel.guard.clone()),
        (LocalLink::Absent, None)
    );
    assert!(kernel.changed_sysctls.is_empty());
    let place = |text: &str| texts(&ops).iter().position(|t| t.starts_with(text)).unwrap();
    assert!(place("- address") < place("- virtual server"));
    assert!(place("- virtual server") < place("- link"));
}

#[test]
fn a_lease_is_renewed_and_a_permanent_address_is_not() {
    let spec = spec(Forwarding::DirectRouting);
    let want = want(&spec, [true, false], &[]);
    let mut kernel = Observed::default();
    converge(&mut kernel, &want);
    let ops = diff(&want, &observe(&kernel, &want), true);
    assert_eq!(texts(&ops), ["+ address 192.0.2.100/24 on interface 2 lease 3 s"]);
}

#[test]
fn a_stricter_administrator_is_left_alone() {
    let spec = spec(Forwarding::DirectRouting);
    let want = want(&spec, [false, false], &[]);
    let mut kernel = Observed::default();
    let arp = Sysctl::ipv4_conf("eth0", "arp_ignore");
    kernel.sysctls.insert(arp.clone(), 2);
    let ops = diff(&want, &observe(&kernel, &want), false);
    assert!(
        !ops.iter()
            .any(|op| matches!(op, Op::SetSysctl(s, _) if *s == arp))
    );
}

#[test]
fn nat_needs_no_local_address_and_no_guard() {
    let spec = spec(Forwarding::Nat);
    let want = want(&spec, [true, false], &[]);
    assert!(!want.local_link && want.guard.is_none());
    assert!(want.sysctls.contains_key(&Sysctl("net/ipv4/ip_forward".into())));
    assert_eq!(want.services.len(), 1);
}

#[test]
fn without_ipvs_the_address_is_carried_alone() {
    let spec = spec(Forwarding::DirectRouting);
    let roles = roles(&spec, [true, true]);
    let (health, peers) = (HealthView::default(), BTreeSet::new());
    let want = desired(
        &spec,
        &Context {
            roles: &roles,
            health: &health,
            peers: &peers,
            ipvs: false,
            xdp: false,
        },
    );
    assert!(want.services.is_empty() && want.guard.is_none() && want.sync.is_none());
    assert_eq!(want.addresses.len(), 4);
}

fn any_kernel() -> impl Strategy<Value = Observed> {
    let spec = spec(Forwarding::DirectRouting);
    (any::<[bool; 2]>(), any::<[bool; 3]>(), any::<bool>(), 0u32..5).prop_map(
        move |(holds, lost, link, weight)| {
            let mut kernel = Observed::default();
            converge(&mut kernel, &want(&spec, holds, &[]));
            if lost[0] {
                kernel.services.clear();
            }
            if lost[1] {
                kernel.addresses.pop_first();
                kernel.sync.clear();
            }
            if lost[2] {
                kernel.guard = Some(GuardSpec::default());
            }
            if link {
                kernel.local_link = LocalLink::Down;
            }
            for (service, servers) in kernel.services.values_mut() {
                let _: &Service = service;
                servers.iter_mut().for_each(|d| d.weight = weight);
            }
            kernel
        },
    )
}

proptest! {
    #[test]
    fn whatever_the_kernel_has_the_plan_makes_it_what_was_wanted(
        mut kernel in any_kernel(), holds in any::<[bool; 2]>(), down in any::<[bool; 3]>(), nothing in any::<bool>(),
    ) {
        let spec = spec(Forwarding::DirectRouting);
        let down: Vec<_> =
            (1u8..).zip(down).filter(|(_, d)| *d).map(|(n, _)| SocketAddr::from(([192, 0, 2, n], 6443))).collect();
        let want = if nothing { Desired::default() } else { want(&spec, holds, &down) };
        converge(&mut kernel, &want);
        prop_assert_eq!(&kernel.services, &want.services);
        prop_assert_eq!(kernel.guard, want.guard);
        prop_assert_eq!(kernel.sync, want.sync.into_iter().collect::<Vec<_>>());
        prop_assert_eq!(kernel.addresses.keys().collect::<Vec<_>>(), want.addresses.keys().collect::<Vec<_>>());
    }
}
