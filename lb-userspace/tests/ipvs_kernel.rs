//! IPVS in a kernel: what is written is read back equal, in every combination, and what others do is seen.
//!
//! Each test runs in a network namespace of its own, so they need root. Where the kernel has no IPVS they skip with one
//! printed line. A scheduler whose module is missing is printed too, and its refusal is checked instead.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "ipvs_kernel/support.rs"]
mod support;
#[path = "ipvs_kernel/surroundings.rs"]
mod surroundings;

use lb_common::model::{
    Family, Forwarding, Persistence, Protocol, Scheduler, SchedulerFlags, ServiceKey, TunnelType,
};
use lb_common::plan::{Destination, Service};
use lb_userspace::datapath::ipvs::{Changed, Ipvs, IpvsError, Timeouts};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use support::{api, configured, found, has, in_namespace, ip, key, lo_up, only, real, tunnel};

fn all_flags() -> impl Iterator<Item = SchedulerFlags> {
    (0..16_u8).map(|bits| SchedulerFlags {
        fallback: bits & 1 != 0,
        port: bits & 2 != 0,
        sched3: bits & 4 != 0,
        one_packet: bits & 8 != 0,
    })
}

fn persistences(family: Family) -> [Option<Persistence>; 4] {
    let some = |seconds, granularity| {
        Some(Persistence {
            timeout: Duration::from_secs(seconds),
            granularity,
        })
    };
    [
        None,
        some(360, family.bits()),
        some(1, 1),
        some(2_678_400, family.bits() - 8),
    ]
}

/// Every flag with every persistence for TCP, and what is left of the protocols; each service has a port of its own.
fn combinations(scheduler: Scheduler, address: &str) -> Vec<Service> {
    let mut services = Vec::new();
    let mut push = |protocol, flags, persistence| {
        let port = 1 + u16::try_from(services.len()).unwrap();
        services.push(Service {
            key: key(address, port, protocol),
            scheduler,
            flags,
            persistence,
        });
    };
    for persistence in persistences(Family::of(ip(address))) {
        for flags in all_flags() {
            push(Protocol::Tcp, flags, persistence);
        }
        push(Protocol::Udp, SchedulerFlags::default(), persistence);
        push(Protocol::Sctp, SchedulerFlags::default(), persistence);
    }
    services.sort_by_key(|s| s.key);
    services
}

#[test]
fn every_scheduler_with_every_flag_and_persistence_is_read_back_equal() {
    in_namespace(|ipvs| {
        for scheduler in Scheduler::ALL.iter().copied() {
            if !has(ipvs, scheduler) {
                continue;
            }
            for address in ["10.0.0.10", "2001:db8::10"] {
                let services = combinations(scheduler, address);
                // Added anew, then written over with themselves, which is when the kernel adds bits of its own.
                for expected in [Changed::Added, Changed::Set] {
                    for service in &services {
                        assert_eq!(ipvs.ensure_service(service).unwrap(), expected);
                    }
                    assert_eq!(found(ipvs), services);
                }
                for service in &services {
                    assert_eq!(ipvs.remove_service(&service.key).unwrap(), Changed::Deleted);
                }
                assert_eq!(found(ipvs), []);
            }
        }
    });
}

#[test]
fn every_forwarding_is_read_back_equal() {
    in_namespace(|ipvs| {
        for (vip, families) in [
            ("10.0.0.10", ["10.0.0.1", "127.0.0.1", "2001:db8::1"]),
            ("2001:db8::10", ["2001:db8::1", "::1", "10.0.0.1"]),
        ] {
            let service = Service {
                key: key(vip, 6443, Protocol::Tcp),
                ..api()
            };
            ipvs.add_service(&service).unwrap();
            for forwarding in [
                Forwarding::DirectRouting,
                Forwarding::Nat,
                tunnel(TunnelType::Ipip, 0),
                tunnel(TunnelType::Gue, 6080),
                tunnel(TunnelType::Gre, 0),
            ] {
                for address in families {
                    forward_and_compare(ipvs, &service.key, &real(address, 6443, forwarding));
                }
            }
            ipvs.delete_service(&service.key).unwrap();
        }
    });
}

fn forward_and_compare(ipvs: &mut Ipvs, service: &ServiceKey, destination: &Destination) {
    let mixed = Family::of(service.address) != Family::of(destination.address);
    let added = ipvs.ensure_destination(service, destination);
    if mixed && !matches!(destination.forwarding, Forwarding::Tunnel { .. }) {
        let e = added.unwrap_err();
        assert_eq!(e.errno(), Some(Errno::EINVAL as i32), "{e}");
        assert!(e.to_string().contains("needs TUN"), "{e}");
        return;
    }
    assert_eq!(added.unwrap(), Changed::Added);
    assert_eq!(configured(&only(ipvs)), std::slice::from_ref(destination));
    assert_eq!(
        ipvs.ensure_destination(service, destination).unwrap(),
        Changed::Set
    );
    assert_eq!(configured(&only(ipvs)), std::slice::from_ref(destination));
    let (address, port) = (destination.address, destination.port);
    assert_eq!(
        ipvs.remove_destination(service, address, port).unwrap(),
        Changed::Deleted
    );
    assert_eq!(configured(&only(ipvs)), []);
}

#[test]
fn editing_changes_all_but_the_key() {
    in_namespace(|ipvs| {
        let before = api();
        let after = Service {
            scheduler: Scheduler::WeightedLeastConnection,
            persistence: Some(Persistence::per_client(Duration::from_secs(60), Family::Ipv4)),
            ..api()
        };
        ipvs.add_service(&before).unwrap();
        let first = real("10.0.0.1", 6443, Forwarding::DirectRouting);
        ipvs.add_destination(&before.key, &first).unwrap();
        ipvs.set_service(&after).unwrap();
        assert_eq!(only(ipvs).service, after);
        // And back: persistence and flags go.
        ipvs.set_service(&before).unwrap();
        assert_eq!(only(ipvs).service, before);
        let changed = Destination {
            weight: 0,
            upper_threshold: 100,
            lower_threshold: 80,
            forwarding: tunnel(TunnelType::Gue, 6080),
            ..first.clone()
        };
        ipvs.set_destination(&before.key, &changed).unwrap();
        assert_eq!(configured(&only(ipvs)), [changed]);
        ipvs.set_destination(&before.key, &first).unwrap();
        assert_eq!(configured(&only(ipvs)), [first]);
    });
}

#[test]
fn weights_and_thresholds_have_limits() {
    in_namespace(|ipvs| {
        let service = api();
        ipvs.add_service(&service).unwrap();
        let full = Destination {
            weight: 0x7fff_ffff,
            upper_threshold: 0x7fff_ffff,
            lower_threshold: 0x7fff_ffff,
            ..real("10.0.0.1", 6443, Forwarding::Nat)
        };
        ipvs.add_destination(&service.key, &full).unwrap();
        assert_eq!(configured(&only(ipvs)), std::slice::from_ref(&full));
        let odd = Destination {
            upper_threshold: 10,
            lower_threshold: 11,
            ..full.clone()
        };
        let e = ipvs.set_destination(&service.key, &odd).unwrap_err();
        assert_eq!(e.errno(), Some(Errno::ERANGE as i32));
        assert_eq!(
            e.to_string(),
            "changing real server 10.0.0.1:6443 of TCP 10.0.0.10:6443: Math result not representable (ERANGE): the \
             lower threshold is above the upper one"
        );
        let beyond = 0x8000_0000;
        for odd in [
            Destination {
                weight: beyond,
                ..full.clone()
            },
            Destination {
                upper_threshold: beyond,
                ..full
            },
        ] {
            let e = ipvs.set_destination(&service.key, &odd).unwrap_err();
            assert!(matches!(e, IpvsError::Encode { .. }), "{e}");
        }
    });
}

/// `inet_addr_type` takes any address for a broadcast one while the namespace has no local routing table.
#[test]
fn a_namespace_that_never_had_an_address_takes_no_real_server() {
    in_namespace(|_| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let mut ipvs = Ipvs::open().unwrap();
        ipvs.add_service(&api()).unwrap();
        let server = real("10.0.0.1", 6443, Forwarding::DirectRouting);
        let e = ipvs.add_destination(&api().key, &server).unwrap_err();
        assert_eq!(e.errno(), Some(Errno::EINVAL as i32), "{e}");
        lo_up();
        ipvs.add_destination(&api().key, &server).unwrap();
    });
}

#[test]
fn refusals_name_the_operation_and_the_object() {
    in_namespace(|ipvs| {
        let service = api();
        let server = real("10.0.0.1", 6443, Forwarding::DirectRouting);
        let absent = ipvs.add_destination(&service.key, &server).unwrap_err();
        assert_eq!(
            absent.to_string(),
            "adding real server 10.0.0.1:6443 to TCP 10.0.0.10:6443: No such process (ESRCH): there is no such virtual server"
        );
        assert_eq!(
            ipvs.set_service(&service).unwrap_err().errno(),
            Some(Errno::ESRCH as i32)
        );
        assert_eq!(
            ipvs.zero(Some(&service.key)).unwrap_err().errno(),
            Some(Errno::ESRCH as i32)
        );
        ipvs.add_service(&service).unwrap();
        assert_eq!(
            ipvs.add_service(&service).unwrap_err().errno(),
            Some(Errno::EEXIST as i32)
        );
        assert_eq!(
            ipvs.set_destination(&service.key, &server).unwrap_err().errno(),
            Some(Errno::ENOENT as i32)
        );
        for (address, forwarding) in [
            ("224.0.0.1", Forwarding::DirectRouting),
            ("10.0.0.2", tunnel(TunnelType::Gue, 0)),
        ] {
            let e = ipvs
                .add_destination(&service.key, &real(address, 1, forwarding))
                .unwrap_err();
            assert_eq!(e.errno(), Some(Errno::EINVAL as i32), "{e}");
        }
    });
}

#[test]
fn deleting_twice_is_well() {
    in_namespace(|ipvs| {
        let service = api();
        let server = real("10.0.0.1", 6443, Forwarding::DirectRouting);
        let (address, port) = (server.address, server.port);
        assert_eq!(ipvs.remove_service(&service.key).unwrap(), Changed::Nothing);
        assert_eq!(
            ipvs.remove_destination(&service.key, address, port).unwrap(),
            Changed::Nothing
        );
        ipvs.add_service(&service).unwrap();
        assert_eq!(
            ipvs.remove_destination(&service.key, address, port).unwrap(),
            Changed::Nothing
        );
        ipvs.add_destination(&service.key, &server).unwrap();
        // With its real server still in it.
        assert_eq!(ipvs.remove_service(&service.key).unwrap(), Changed::Deleted);
        assert_eq!(ipvs.remove_service(&service.key).unwrap(), Changed::Nothing);
        // From the kernel's trash it comes back with what is asked now.
        ipvs.add_service(&service).unwrap();
        let other = Destination { weight: 7, ..server };
        ipvs.add_destination(&service.key, &other).unwrap();
        assert_eq!(configured(&only(ipvs)), [other]);
    });
}

#[test]
fn a_long_table_comes_in_many_datagrams() {
    in_namespace(|ipvs| {
        let mut expected = Vec::new();
        for port in 1..=300 {
            let service = Service {
                key: key("10.0.0.10", port, Protocol::Tcp),
                ..api()
            };
            ipvs.add_service(&service).unwrap();
            expected.push(service);
        }
        let crowded = expected[149].key;
        for last in 1..=250 {
            let server = real(&format!("10.1.0.{last}"), 6443, Forwarding::Nat);
            ipvs.add_destination(&crowded, &server).unwrap();
        }
        let services = ipvs.services().unwrap();
        assert_eq!(found(ipvs), expected);
        let addresses: Vec<_> = configured(&services[149]).iter().map(|d| d.address).collect();
        let all: Vec<_> = (1..=250)
            .map(|last| IpAddr::V4(Ipv4Addr::new(10, 1, 0, last)))
            .collect();
        assert_eq!(addresses, all);
    });
}

#[test]
fn timeouts_are_read_back_equal() {
    in_namespace(|ipvs| {
        let first = ipvs.timeouts().unwrap();
        assert_eq!(first.tcp, Duration::from_secs(900));
        let ours = Timeouts {
            tcp: Duration::from_secs(3600),
            tcp_fin: Duration::from_secs(30),
            udp: Duration::from_secs(1),
        };
        ipvs.set_timeouts(&ours).unwrap();
        assert_eq!(ipvs.timeouts().unwrap(), ours);
        let nought = Timeouts {
            udp: Duration::ZERO,
            ..ours
        };
        assert!(matches!(
            ipvs.set_timeouts(&nought),
            Err(IpvsError::Encode { .. })
        ));
        assert_eq!(ipvs.info().unwrap().version, (1, 2, 1));
        assert!(ipvs.info().unwrap().connection_table_size.is_power_of_two());
    });
}
