//! IPVS in a kernel: what is written is read back equal, in every combination, and what others do is seen.
//!
//! Each test runs in a network namespace of its own, so they need root. Where the kernel has no IPVS they skip with one
//! printed line. A scheduler whose module is missing is printed too, and its refusal is checked instead.
#![cfg(target_os = "linux")]

use lb_common::model::{
    Family, Forwarding, Persistence, Protocol, Scheduler, SchedulerFlags, ServiceKey, TunnelType,
};
use lb_common::plan::{DaemonRole, Destination, Service, SyncDaemon};
use lb_userspace::datapath::ipvs::{
    Changed, Ipvs, IpvsError, Observed, Stats, SyncOptions, Timeouts, Unmodelled,
};
use neli::consts::nl::NlmF;
use neli::consts::rtnl::{Ifa, RtAddrFamily, RtScope, Rtm};
use neli::consts::socket::NlFamily;
use neli::genl::{AttrTypeBuilder, Genlmsghdr, GenlmsghdrBuilder, NlattrBuilder, NoUserHeader};
use neli::nl::NlPayload;
use neli::router::synchronous::NlRouter;
use neli::rtnl::{IfaddrmsgBuilder, IfinfomsgBuilder, RtattrBuilder};
use neli::types::{Buffer, GenlBuffer, RtBuffer};
use neli::utils::Groups;
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

/// Runs `test` in a network namespace of its own, in a thread so that nothing else moves with it.
fn in_namespace(test: impl FnOnce(&mut Ipvs) + Send + 'static) {
    let run = move || {
        if let Err(e) = unshare(CloneFlags::CLONE_NEWNET) {
            println!("skipped: no network namespace of our own ({e})");
            return;
        }
        match Ipvs::open() {
            Ok(mut ipvs) => {
                lo_up();
                test(&mut ipvs);
            }
            Err(IpvsError::Unsupported) => println!("skipped: this kernel has no IPVS"),
            Err(e) => panic!("{e}"),
        }
    };
    if let Err(panic) = std::thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn key(address: &str, port: u16, protocol: Protocol) -> ServiceKey {
    ServiceKey {
        address: ip(address),
        port,
        protocol,
    }
}

fn api() -> Service {
    Service {
        key: key("10.0.0.10", 6443, Protocol::Tcp),
        scheduler: Scheduler::RoundRobin,
        flags: SchedulerFlags::default(),
        persistence: None,
    }
}

fn real(address: &str, port: u16, forwarding: Forwarding) -> Destination {
    Destination {
        address: ip(address),
        port,
        forwarding,
        weight: 1,
        upper_threshold: 0,
        lower_threshold: 0,
    }
}

const fn tunnel(kind: TunnelType, port: u16) -> Forwarding {
    Forwarding::Tunnel { kind, port }
}

/// The one service that there is.
fn only(ipvs: &mut Ipvs) -> Observed {
    let mut services = ipvs.services().unwrap();
    assert_eq!(services.len(), 1, "{services:?}");
    services.remove(0)
}

fn found(ipvs: &mut Ipvs) -> Vec<Service> {
    ipvs.services().unwrap().into_iter().map(|o| o.service).collect()
}

fn configured(observed: &Observed) -> Vec<Destination> {
    observed
        .destinations
        .iter()
        .map(|d| d.destination.clone())
        .collect()
}

/// Whether the kernel has the scheduler, or can load it.
fn has(ipvs: &mut Ipvs, scheduler: Scheduler) -> bool {
    let service = Service { scheduler, ..api() };
    match ipvs.add_service(&service) {
        Ok(()) => {
            ipvs.delete_service(&service.key).unwrap();
            true
        }
        Err(e) => {
            assert_eq!(e.errno(), Some(Errno::ENOENT as i32), "{e}");
            let advice = format!("`modprobe ip_vs_{scheduler}`");
            assert!(e.to_string().contains(&advice), "{e}");
            println!("without {scheduler}: {e}");
            false
        }
    }
}

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
            upper_threshold: u32::MAX,
            lower_threshold: u32::MAX,
            ..real("10.0.0.1", 6443, Forwarding::Nat)
        };
        ipvs.add_destination(&service.key, &full).unwrap();
        assert_eq!(configured(&only(ipvs)), [full.clone()]);
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
        let heavy = Destination {
            weight: 0x8000_0000,
            ..full
        };
        assert!(matches!(
            ipvs.set_destination(&service.key, &heavy),
            Err(IpvsError::Encode { .. })
        ));
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

fn daemon(role: DaemonRole, sync_id: u8) -> SyncDaemon {
    SyncDaemon {
        role,
        interface: "lo".to_owned(),
        sync_id,
    }
}

#[test]
fn daemons_start_stop_and_change() {
    in_namespace(|ipvs| {
        let (master, backup) = (daemon(DaemonRole::Master, 3), daemon(DaemonRole::Backup, 4));
        let plain = SyncOptions::default();
        let nowhere = SyncDaemon {
            interface: "nowhere0".to_owned(),
            ..master.clone()
        };
        let e = ipvs.start_daemon(&nowhere, &plain).unwrap_err();
        assert_eq!(
            e.to_string(),
            "starting the master synchronisation daemon on nowhere0: No such device (ENODEV): there is no such interface"
        );
        address_on_lo(Ipv4Addr::new(10, 9, 9, 9));
        assert_eq!(ipvs.remove_daemon(DaemonRole::Master).unwrap(), Changed::Nothing);
        assert_eq!(ipvs.ensure_daemon(&master, &plain).unwrap(), Changed::Added);
        assert_eq!(ipvs.ensure_daemon(&master, &plain).unwrap(), Changed::Nothing);
        let running = ipvs.daemons().unwrap();
        assert_eq!(running.len(), 1);
        assert_eq!(running[0].daemon, master);
        assert_eq!(running[0].options.group, Some(ip("224.0.0.81")));
        assert_eq!(running[0].options.port, Some(8848));
        assert_eq!(running[0].options.ttl, Some(1));
        // One role, then the other.
        assert_eq!(ipvs.remove_daemon(DaemonRole::Master).unwrap(), Changed::Deleted);
        assert_eq!(ipvs.daemons().unwrap(), []);
        assert_eq!(ipvs.ensure_daemon(&backup, &plain).unwrap(), Changed::Added);
        assert_eq!(ipvs.daemons().unwrap()[0].daemon, backup);
        // Other options: stopped and started.
        let options = SyncOptions {
            max_len: Some(1200),
            group: Some(ip("239.1.2.3")),
            port: Some(9000),
            ttl: Some(8),
        };
        assert_eq!(ipvs.ensure_daemon(&backup, &options).unwrap(), Changed::Set);
        assert_eq!(ipvs.daemons().unwrap()[0].options, options);
        // Both at once are possible too, each with its own.
        assert_eq!(ipvs.ensure_daemon(&master, &plain).unwrap(), Changed::Added);
        assert_eq!(ipvs.daemons().unwrap().len(), 2);
        for role in [DaemonRole::Backup, DaemonRole::Master] {
            assert_eq!(ipvs.remove_daemon(role).unwrap(), Changed::Deleted);
        }
        assert_eq!(ipvs.daemons().unwrap(), []);
    });
}

#[test]
fn another_family_and_a_daemon_do_not_go_together() {
    in_namespace(|ipvs| {
        address_on_lo(Ipv4Addr::new(10, 9, 9, 9));
        ipvs.add_service(&api()).unwrap();
        let mixed = real("2001:db8::1", 6443, tunnel(TunnelType::Ipip, 0));
        ipvs.start_daemon(&daemon(DaemonRole::Master, 1), &SyncOptions::default())
            .unwrap();
        let e = ipvs.add_destination(&api().key, &mixed).unwrap_err();
        assert_eq!(e.errno(), Some(Errno::EINVAL as i32), "{e}");
        ipvs.stop_daemon(DaemonRole::Master).unwrap();
        ipvs.add_destination(&api().key, &mixed).unwrap();
        let e = ipvs.start_daemon(&daemon(DaemonRole::Master, 1), &SyncOptions::default());
        assert_eq!(e.unwrap_err().errno(), Some(Errno::EINVAL as i32));
    });
}

#[test]
fn a_flush_by_somebody_else_is_seen() {
    in_namespace(|ipvs| {
        ipvs.add_service(&api()).unwrap();
        let server = real("10.0.0.1", 6443, Forwarding::DirectRouting);
        ipvs.add_destination(&api().key, &server).unwrap();
        raw(17, GenlBuffer::new());
        assert_eq!(ipvs.services().unwrap(), []);
        assert_eq!(ipvs.ensure_service(&api()).unwrap(), Changed::Added);
        assert_eq!(
            ipvs.ensure_destination(&api().key, &server).unwrap(),
            Changed::Added
        );
    });
}

#[test]
fn a_service_by_firewall_mark_is_passed_over_and_left_alone() {
    in_namespace(|ipvs| {
        raw(1, firewall_mark(7));
        ipvs.add_service(&api()).unwrap();
        let table = ipvs.table().unwrap();
        assert_eq!(table.services.len(), 1);
        assert_eq!(table.foreign.len(), 1);
        assert_eq!(
            (table.foreign[0].key, &table.foreign[0].why),
            (None, &Unmodelled::FirewallMark(7))
        );
        ipvs.remove_service(&api().key).unwrap();
        assert_eq!(ipvs.table().unwrap().foreign, table.foreign);
    });
}

#[test]
fn traffic_is_counted_and_zeroed() {
    in_namespace(|ipvs| {
        let vip = Ipv4Addr::new(10, 0, 0, 10);
        address_on_lo(vip);
        let service = Service {
            key: key("10.0.0.10", 53, Protocol::Udp),
            ..api()
        };
        ipvs.add_service(&service).unwrap();
        ipvs.add_destination(&service.key, &real("127.0.0.1", 53, Forwarding::DirectRouting))
            .unwrap();
        let client = UdpSocket::bind(SocketAddr::from((vip, 0))).unwrap();
        for _ in 0..5 {
            client.send_to(b"12345678", (vip, 53)).ok();
        }
        // The estimator adds up every two seconds.
        let until = Instant::now() + Duration::from_secs(30);
        let counted = loop {
            let observed = only(ipvs);
            if observed.stats.conns > 0 || Instant::now() > until {
                break observed;
            }
            std::thread::sleep(Duration::from_millis(200));
        };
        assert_eq!(counted.stats.conns, 1);
        assert_eq!((counted.stats.inpkts, counted.stats.inbytes), (5, 5 * 36));
        let server = &counted.destinations[0];
        assert_eq!(server.stats.inpkts, 5);
        assert_eq!((server.connections.active, server.connections.inactive), (0, 1));
        ipvs.zero(Some(&service.key)).unwrap();
        assert_eq!(only(ipvs).stats, Stats::default());
        ipvs.zero(None).unwrap();
    });
}

#[test]
fn ipvsadm_reads_what_we_wrote() {
    in_namespace(|ipvs| {
        let persistent = Some(Persistence::per_client(Duration::from_secs(360), Family::Ipv4));
        let service = Service {
            persistence: persistent,
            ..api()
        };
        ipvs.add_service(&service).unwrap();
        ipvs.add_destination(&service.key, &real("10.0.0.1", 6443, Forwarding::DirectRouting))
            .unwrap();
        ipvs.add_destination(&service.key, &real("10.0.0.2", 6443, Forwarding::Nat))
            .unwrap();
        let hashed = Service {
            key: key("2001:db8::10", 53, Protocol::Udp),
            scheduler: Scheduler::SourceHash,
            flags: SchedulerFlags {
                fallback: true,
                port: true,
                one_packet: true,
                sched3: false,
            },
            persistence: None,
        };
        ipvs.add_service(&hashed).unwrap();
        let gue = Destination {
            weight: 5,
            upper_threshold: 100,
            lower_threshold: 50,
            ..real("2001:db8::1", 53, tunnel(TunnelType::Gue, 6080))
        };
        ipvs.add_destination(&hashed.key, &gue).unwrap();
        let output = match Command::new("ipvsadm").args(["--save", "-n"]).output() {
            Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
            Err(e) => {
                println!("skipped: ipvsadm: {e}");
                return;
            }
        };
        println!("{output}");
        for line in [
            "-A -t 10.0.0.10:6443 -s rr -p 360",
            "-a -t 10.0.0.10:6443 -r 10.0.0.1:6443 -g -w 1",
            "-a -t 10.0.0.10:6443 -r 10.0.0.2:6443 -m -w 1",
            "-A -u [2001:db8::10]:53 -s sh -o -b sh-fallback,sh-port",
            "-a -u [2001:db8::10]:53 -r [2001:db8::1]:53 -i -w 5 --tun-type gue --tun-port 6080",
        ] {
            assert!(
                output.lines().any(|l| l.starts_with(line)),
                "no line `{line}` in\n{output}"
            );
        }
        // And what ipvsadm writes over, we read: the very same service and another one.
        let restored = Command::new("ipvsadm")
            .args(["-E", "-t", "10.0.0.10:6443", "-s", "wlc"])
            .status();
        assert!(restored.unwrap().success());
        let edited = Service {
            scheduler: Scheduler::WeightedLeastConnection,
            persistence: None,
            ..service
        };
        assert_eq!(ipvs.services().unwrap()[0].service, edited);
    });
}

/// A command of somebody else's, by `neli` alone.
fn raw(command: u8, attributes: GenlBuffer<u16, Buffer>) {
    let (router, _) = NlRouter::connect(NlFamily::Generic, None, Groups::empty()).unwrap();
    let family = router.resolve_genl_family("IPVS").unwrap();
    let message = GenlmsghdrBuilder::<u8, u16, NoUserHeader>::default()
        .cmd(command)
        .version(1)
        .attrs(attributes)
        .build()
        .unwrap();
    let answers = router
        .send::<_, _, u16, Genlmsghdr<u8, u16>>(
            family,
            NlmF::REQUEST | NlmF::ACK,
            NlPayload::Payload(message),
        )
        .unwrap();
    for answer in answers {
        answer.unwrap();
    }
}

/// `ipvsadm -A -f 7 -s rr`.
fn firewall_mark(mark: u32) -> GenlBuffer<u16, Buffer> {
    let attribute = |kind: u16, payload: &[u8]| {
        NlattrBuilder::default()
            .nla_type(AttrTypeBuilder::default().nla_type(kind).build().unwrap())
            .nla_payload(payload)
            .build()
            .unwrap()
    };
    let service = [
        attribute(1, &2_u16.to_ne_bytes()),
        attribute(5, &mark.to_ne_bytes()),
        attribute(6, b"rr\0"),
        attribute(7, &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]),
        attribute(8, &0_u32.to_ne_bytes()),
        attribute(9, &[0xff; 4]),
    ]
    .iter()
    .fold(attribute(1, &[]), |nest, inner| nest.nest(inner).unwrap());
    [service].into_iter().collect()
}

fn route_netlink(kind: Rtm, payload: impl neli::Size + neli::ToBytes + std::fmt::Debug, flags: NlmF) {
    let (router, _) = NlRouter::connect(NlFamily::Route, None, Groups::empty()).unwrap();
    let answers = router
        .send::<_, _, Rtm, Buffer>(
            kind,
            flags | NlmF::REQUEST | NlmF::ACK,
            NlPayload::Payload(payload),
        )
        .unwrap();
    for answer in answers {
        answer.unwrap();
    }
}

/// The loopback interface has the number 1 in every namespace.
fn lo_up() {
    let message = IfinfomsgBuilder::default()
        .ifi_family(RtAddrFamily::Unspecified)
        .ifi_index(1)
        .up()
        .build()
        .unwrap();
    route_netlink(Rtm::Newlink, message, NlmF::empty());
}

fn address_on_lo(address: Ipv4Addr) {
    let attributes: RtBuffer<_, _> = [Ifa::Local, Ifa::Address]
        .into_iter()
        .map(|kind| {
            RtattrBuilder::default()
                .rta_type(kind)
                .rta_payload(address.octets())
                .build()
                .unwrap()
        })
        .collect();
    let message = IfaddrmsgBuilder::default()
        .ifa_family(RtAddrFamily::Inet)
        .ifa_prefixlen(32)
        .ifa_scope(RtScope::Universe)
        .ifa_index(1)
        .rtattrs(attributes)
        .build()
        .unwrap();
    route_netlink(Rtm::Newaddr, message, NlmF::CREATE | NlmF::REPLACE);
}
