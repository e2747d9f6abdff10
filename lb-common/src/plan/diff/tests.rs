//! The planner against a kernel made of a map: what it plans, applied, is what was wanted, and then nothing is left to do.
use super::*;
use crate::health::HealthView;
use crate::model::{Family, Forwarding, IpPrefix, MacAddr};
use crate::plan::testing::spec_of as spec;
use crate::plan::{Context, DaemonRole, GuardSpec, ObservedAddress, Role, Service, Sysctl, desired};
use crate::spec::{DatapathKind, Spec};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::{string::ToString, vec, vec::Vec};

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
    want_on(true, spec, holds, down)
}

/// On a node that has IPVS, or XDP alone.
fn want_on(ipvs: bool, spec: &Spec, holds: [bool; 2], down: &[SocketAddr]) -> Desired {
    let keys = spec.virtual_servers.iter().map(|vs| vs.key);
    let health = HealthView {
        down: keys.flat_map(|k| down.iter().map(move |d| (k, *d))).collect(),
        ..HealthView::default()
    };
    let peers = BTreeSet::from([MacAddr([2, 0, 0, 0, 0, 1])]);
    let roles = roles(spec, holds);
    desired(
        spec,
        &Context {
            roles: &roles,
            health: &health,
            peers: &peers,
            ipvs,
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
        Op::SetForwarding(x) => forward(kernel, Some(x.clone()))?,
        Op::DeleteForwarding => forward(kernel, None)?,
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

/// A packet that finds the address and nobody who forwards it is taken for this node's own.
fn forward(kernel: &mut Observed, next: Option<crate::plan::Forwarding>) -> Result<(), &'static str> {
    let stays = |vip: &IpAddr| next.as_ref().is_some_and(|n| n.vips.contains_key(vip));
    let old = kernel.forwarding.iter().flat_map(|f| f.vips.keys());
    let held = |vip: &IpAddr| {
        let on = |a: &Address| a.place != Place::Local && a.address.addr() == *vip;
        kernel.addresses.keys().any(on) && !kernel.services.keys().any(|k| k.address == *vip)
    };
    if old.into_iter().any(|vip| !stays(vip) && held(vip)) {
        return Err("forwarding ends before its address is gone or IPVS has it");
    }
    kernel.forwarding = next;
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
        if let (Op::PutAddress(a, _), Some(wanted)) = (op, &want.forwarding) {
            let has = |f: &crate::plan::Forwarding| f.vips.contains_key(&a.address.addr());
            let late = a.place != Place::Local && has(wanted) && !kernel.forwarding.as_ref().is_some_and(has);
            assert!(!late, "{op}: nobody forwards for it yet");
        }
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
fn a_link_without_silence_about_it_has_no_virtual_ip() {
    let spec = spec(Forwarding::DirectRouting);
    let mut roles = roles(&spec, [false, false]);
    let (health, peers) = (HealthView::default(), BTreeSet::new());
    let local = |roles: &[Role]| {
        let cx = Context {
            roles,
            health: &health,
            peers: &peers,
            ipvs: true,
            xdp: true,
        };
        let want = desired(&spec, &cx);
        let silent = want
            .sysctls
            .keys()
            .filter(|s| s.0.ends_with("/arp_ignore"))
            .count();
        let v4 = |a: &&Address| a.place == Place::Local && a.address.family() == Family::Ipv4;
        (want.addresses.keys().filter(v4).count(), silent)
    };
    let (with, silent) = local(&roles);
    assert!(with > 0 && silent > 0);
    roles.iter_mut().for_each(|r| r.interface = None);
    assert_eq!(local(&roles), (0, 0), "its interface is not known yet");
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

#[test]
fn without_ipvs_auto_is_xdp_and_needs_no_guard() {
    let spec = spec(Forwarding::DirectRouting);
    let backup = want_on(false, &spec, [false, false], &[]);
    assert!(backup.services.is_empty() && backup.guard.is_none() && backup.sync.is_none());
    assert!(backup.local_link, "a backup takes what the holder sends it");
    assert_eq!(
        backup.sysctls.get(&Sysctl::ipv4_conf("eth0", "arp_ignore")),
        Some(&crate::plan::Bound::AtLeast(1))
    );
    let forwarding = backup.forwarding.unwrap();
    assert_eq!(
        forwarding.interfaces,
        BTreeSet::from([2]),
        "attached before it is held"
    );
    assert!(forwarding.vips.is_empty() && forwarding.services.is_empty());
    let holder = want_on(false, &spec, [true, false], &[]).forwarding.unwrap();
    assert_eq!(holder.vips.into_iter().collect::<Vec<_>>(), [(vip(0), 2)]);
    assert_eq!(holder.services.len(), 1);
    assert_eq!(holder.key, crate::xdp::seed::key(&spec));
}

fn vip(n: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, 100 + n])
}

#[test]
fn one_file_may_use_both() {
    let mut spec = spec(Forwarding::DirectRouting);
    spec.virtual_servers[1].datapath = DatapathKind::Xdp;
    let want = want(&spec, [true, true], &[]);
    let keys = |n: usize| spec.virtual_servers[n].key;
    assert_eq!(want.services.into_keys().collect::<Vec<_>>(), [keys(0)]);
    assert_eq!(
        want.forwarding.unwrap().services.into_keys().collect::<Vec<_>>(),
        [keys(1)]
    );
    assert_eq!(
        want.guard.unwrap().vips,
        BTreeSet::from([vip(0)]),
        "the guard is for IPVS"
    );
}

#[test]
fn xdp_forwards_before_the_address_comes_and_until_it_is_gone() {
    let spec = spec(Forwarding::DirectRouting);
    let mut kernel = Observed::default();
    converge(&mut kernel, &want_on(false, &spec, [false, false], &[]));
    let taken = converge(&mut kernel, &want_on(false, &spec, [true, false], &[]));
    assert_eq!(
        texts(&taken),
        [
            "~ sysctl net/ipv4/conf/eth0/promote_secondaries = 1",
            "~ xdp 1 virtual servers on 1 virtual IPs, 1 interfaces",
            "+ address 192.0.2.100/24 on interface 2 lease 3 s",
        ]
    );
    let swapped = converge(&mut kernel, &want_on(false, &spec, [false, true], &[]));
    assert_eq!(
        texts(&swapped),
        [
            "~ xdp 2 virtual servers on 2 virtual IPs, 1 interfaces",
            "+ address 192.0.2.101/24 on interface 2 lease 3 s",
            "- address 192.0.2.100/24 on interface 2",
            "~ xdp 1 virtual servers on 1 virtual IPs, 1 interfaces",
        ]
    );
    let gone = converge(&mut kernel, &Desired::default());
    let place = |text: &str| texts(&gone).iter().position(|t| t.starts_with(text)).unwrap();
    assert!(place("- address 192.0.2.101/24") < place("- xdp"));
    assert_eq!(kernel.forwarding, None);
}

#[test]
fn health_and_weight_reach_the_program() {
    let mut spec = spec(Forwarding::DirectRouting);
    spec.virtual_servers[0].real_servers[2].weight = 0;
    let at = |n| SocketAddr::from(([192, 0, 2, n], 6443));
    let backends = |down: &[SocketAddr]| {
        let want = want_on(false, &spec, [true, false], down);
        let forwarder = want.forwarding.unwrap().services.into_values().next().unwrap();
        forwarder
            .backends
            .iter()
            .map(|b| (b.weight, b.up))
            .collect::<Vec<_>>()
    };
    assert_eq!(backends(&[]), [(1, true), (1, true), (0, true)]);
    assert_eq!(backends(&[at(2)]), [(1, true), (1, false), (0, true)]);
    assert_eq!(
        backends(&[at(1), at(2)]),
        [(1, true), (1, true), (0, true)],
        "all down is all up"
    );
    assert_eq!(
        backends(&[at(1), at(2), at(3)]),
        [(1, true), (1, true), (0, false)]
    );
}

#[test]
fn a_tunnel_and_affinity_are_handed_on_and_nat_is_left_out() {
    let ipip = Forwarding::Tunnel {
        kind: crate::model::TunnelType::Ipip,
        port: 0,
    };
    let want = want_on(false, &spec(ipip), [true, false], &[]);
    let forwarder = want.forwarding.unwrap().services.into_values().next().unwrap();
    assert_eq!(forwarder.method, crate::plan::Method::Tunnel);
    assert_eq!(forwarder.affinity.map(|p| p.timeout.as_secs()), Some(360));
    assert_eq!(
        want_on(false, &spec(Forwarding::Nat), [true, true], &[]).forwarding,
        None
    );
}

#[test]
fn the_key_is_in_no_text() {
    let forwarding = want_on(false, &spec(Forwarding::DirectRouting), [true, true], &[])
        .forwarding
        .unwrap();
    let key = std::format!("{:?}", forwarding.key);
    let shown = std::format!("{forwarding:?} {:?}", Op::SetForwarding(forwarding.clone()));
    let number = forwarding.key.last.to_string();
    assert!(key.contains(&number) && !shown.contains(&number));
}

#[cfg(feature = "serde")]
#[test]
fn the_op_is_json_without_the_key() {
    let forwarding = want_on(false, &spec(Forwarding::DirectRouting), [true, false], &[])
        .forwarding
        .unwrap();
    let text = serde_json::to_string(&Op::SetForwarding(forwarding.clone())).unwrap();
    assert!(text.contains(r#""vips":{"192.0.2.100":2}"#), "{text}");
    assert!(text.contains(r#""method":"direct""#), "{text}");
    assert!(!text.contains(&forwarding.key.last.to_string()));
}

fn any_kernel() -> impl Strategy<Value = Observed> {
    let spec = spec(Forwarding::DirectRouting);
    (
        any::<[bool; 2]>(),
        any::<[bool; 3]>(),
        any::<[bool; 2]>(),
        0u32..5,
    )
        .prop_map(move |(holds, lost, [link, ipvs], weight)| {
            let mut kernel = Observed::default();
            converge(&mut kernel, &want_on(ipvs, &spec, holds, &[]));
            if lost[0] {
                kernel.services.clear();
            }
            if lost[1] {
                kernel.addresses.pop_first();
                kernel.sync.clear();
                kernel.forwarding = None;
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
        })
}

proptest! {
    #[test]
    fn whatever_the_kernel_has_the_plan_makes_it_what_was_wanted(
        mut kernel in any_kernel(), holds in any::<[bool; 2]>(), down in any::<[bool; 3]>(), nothing in any::<bool>(),
        ipvs in any::<bool>(),
    ) {
        let spec = spec(Forwarding::DirectRouting);
        let down: Vec<_> =
            (1u8..).zip(down).filter(|(_, d)| *d).map(|(n, _)| SocketAddr::from(([192, 0, 2, n], 6443))).collect();
        let want = if nothing { Desired::default() } else { want_on(ipvs, &spec, holds, &down) };
        converge(&mut kernel, &want);
        prop_assert_eq!(&kernel.services, &want.services);
        prop_assert_eq!(kernel.forwarding, want.forwarding);
        prop_assert_eq!(kernel.guard, want.guard);
        prop_assert_eq!(kernel.sync, want.sync.into_iter().collect::<Vec<_>>());
        prop_assert_eq!(kernel.addresses.keys().collect::<Vec<_>>(), want.addresses.keys().collect::<Vec<_>>());
    }
}
