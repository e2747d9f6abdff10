//! What goes on around the table: the daemons, the doings of others, traffic, and `ipvsadm` as a second reader.
use super::support::{
    add_firewall_mark, address_on_lo, api, flush, in_namespace, ip, key, only, real, tunnel,
};
use lb_common::model::{Family, Forwarding, Persistence, Protocol, Scheduler, SchedulerFlags, TunnelType};
use lb_common::plan::{DaemonRole, Destination, Service, SyncDaemon};
use lb_userspace::datapath::ipvs::{Changed, Stats, SyncOptions, Unmodelled};
use nix::errno::Errno;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

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
        flush();
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
        add_firewall_mark(7);
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
        // And what ipvsadm writes over, we read.
        let changed = Command::new("ipvsadm")
            .args(["-E", "-t", "10.0.0.10:6443", "-s", "wlc"])
            .status();
        assert!(changed.unwrap().success());
        let edited = Service {
            scheduler: Scheduler::WeightedLeastConnection,
            persistence: None,
            ..service
        };
        assert_eq!(ipvs.services().unwrap()[0].service, edited);
    });
}
