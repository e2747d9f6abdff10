//! The codec of IPVS against bytes: what `ipvsadm` 1.31 sent and what Linux 6.1 showed, recorded with
//! `strace -xx -e trace=sendmsg,recvmsg` on one set of services, without the 4 bytes of the generic netlink header.
//! Then as properties: what is written is read back the same, and no bytes at all make a reader panic.
//!
//! The numbers are those of a little-endian machine.
#![cfg(target_endian = "little")]

use lb_common::model::{
    Family, Forwarding, Persistence, Protocol, Scheduler, SchedulerFlags, ServiceKey, TunnelType,
};
use lb_common::plan::{DaemonRole, Destination, Service, SyncDaemon};
use lb_userspace::datapath::ipvs::codec::{
    Attributes, DecodeError, EncodeError, ReadDestination, ReadService, read_daemon, read_destination,
    read_info, read_service, read_timeouts, write_daemon, write_daemon_role, write_destination,
    write_destination_key, write_service, write_service_key, write_timeouts,
};
use lb_userspace::datapath::ipvs::{Connections, Stats, SyncOptions, Timeouts, Unmodelled};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// `ipvsadm -A -t 10.0.0.10:6443 -s rr -p 360`.
const SENT_RR: &str = "5400018006000100020000000600020006000000140003000a00000a00000000000000000000000006000400192b0000\
    07000600727200000c00070001000000ffffffff080008006801000008000900ffffffff";

/// `ipvsadm -A -u [2001:db8::10]:53 -s sh -b sh-port,sh-fallback -o`.
const SENT_SH: &str = "54000180060001000a00000006000200110000001400030020010db80000000000000000000000100600040000350000\
    07000600736800000c0007001c000000ffffffff08000800000000000800090080000000";

/// `ipvsadm -A -t 10.0.0.11:80 -s mh -b mh-port -p 60 -M 255.255.255.0`.
const SENT_MH: &str = "5400018006000100020000000600020006000000140003000a00000b0000000000000000000000000600040000500000\
    070006006d6800000c00070011000000ffffffff080008003c00000008000900ffffff00";

/// `ipvsadm -a -t 10.0.0.10:6443 -r 10.0.0.1:6443 -g -w 1`, without the service.
const SENT_DR: &str = "6000028006000b0002000000140001000a00000100000000000000000000000006000200192b00000800030003000000\
    080004000100000005000d000000000006000e000000000006000f000000000008000500000000000800060000000000";

/// `ipvsadm -a -u [2001:db8::10]:53 -r [2001:db8::1]:53 -i --tun-type gue --tun-port 6080 -w 5 -x 100 -y 50`, without the service.
const SENT_GUE: &str = "6000028006000b000a0000001400010020010db800000000000000000000000106000200003500000800030002000000\
    080004000500000005000d000100000006000e0017c0000006000f000000000008000500640000000800060032000000";

/// `ipvsadm -a -u [2001:db8::10]:53 -r 10.0.0.3:53 -i -w 0`, without the service.
const SENT_MIXED: &str = "6000028006000b0002000000140001000a00000300000000000000000000001006000200003500000800030002000000\
    080004000000000005000d000000000006000e000000000006000f000000000008000500000000000800060000000000";

/// `ipvsadm -a -t 10.0.0.11:80 -r 10.0.0.4:8080 -m`, without the service.
const SENT_NAT: &str = "6000028006000b0002000000140001000a000004000000000000000000000000060002001f9000000800030000000000\
    080004000100000005000d000000000006000e000000000006000f000000000008000500000000000800060000000000";

/// The question of `ipvsadm -Ln` for the real servers of TCP 10.0.0.10:6443.
const ASKED_DEST: &str =
    "3000018006000100020000000600020006000000140003000a00000a00000000000000000000000006000400192b0000";

/// `ipvsadm --set 900 120 300`, and the answer to `ipvsadm -L --timeout`.
const SENT_TIMEOUTS: &str = "08000400840300000800050078000000080006002c010000";

/// `ipvsadm --start-daemon master --mcast-interface lo --syncid 3`.
const SENT_DAEMON: &str = "1c0003800800010001000000070002006c6f00000800030003000000";

/// What the kernel showed of TCP 10.0.0.11:80.
const SHOWN_MH: &str = "2c01010006000100020000000600020006000000140003000a00000b0000000000000000000000000600040000500000\
    070006006d6800000c00070013000000ffffffff080008003c00000008000900ffffff005c000a000800010000000000\
    080002000000000008000300000000000c00040000000000000000000c00050000000000000000000800060000000000\
    08000700000000000800080000000000080009000000000008000a00000000007c000c000c0001000000000000000000\
    0c00020000000000000000000c00030000000000000000000c00040000000000000000000c0005000000000000000000\
    0c00060000000000000000000c00070000000000000000000c00080000000000000000000c0009000000000000000000\
    0c000a000000000000000000";

/// What the kernel showed of TCP 10.0.0.10:6443.
const SHOWN_RR: &str = "2c01010006000100020000000600020006000000140003000a00000a00000000000000000000000006000400192b0000\
    07000600727200000c00070003000000ffffffff080008006801000008000900ffffffff5c000a000800010000000000\
    080002000000000008000300000000000c00040000000000000000000c00050000000000000000000800060000000000\
    08000700000000000800080000000000080009000000000008000a00000000007c000c000c0001000000000000000000\
    0c00020000000000000000000c00030000000000000000000c00040000000000000000000c0005000000000000000000\
    0c00060000000000000000000c00070000000000000000000c00080000000000000000000c0009000000000000000000\
    0c000a000000000000000000";

/// What the kernel showed of UDP [2001:db8::10]:53.
const SHOWN_SH: &str = "2c010100060001000a00000006000200110000001400030020010db80000000000000000000000100600040000350000\
    07000600736800000c0007001e000000ffffffff080008000000000008000900800000005c000a000800010000000000\
    080002000000000008000300000000000c00040000000000000000000c00050000000000000000000800060000000000\
    08000700000000000800080000000000080009000000000008000a00000000007c000c000c0001000000000000000000\
    0c00020000000000000000000c00030000000000000000000c00040000000000000000000c0005000000000000000000\
    0c00060000000000000000000c00070000000000000000000c00080000000000000000000c0009000000000000000000\
    0c000a000000000000000000";

/// What the kernel showed of firewall mark 7.
const SHOWN_FWMARK: &str = "100101000600010002000000080005000700000008000600776c63000c00070002000000ffffffff0800080000000000\
    08000900ffffffff5c000a000800010000000000080002000000000008000300000000000c0004000000000000000000\
    0c0005000000000000000000080006000000000008000700000000000800080000000000080009000000000008000a00\
    000000007c000c000c00010000000000000000000c00020000000000000000000c00030000000000000000000c000400\
    00000000000000000c00050000000000000000000c00060000000000000000000c00070000000000000000000c000800\
    00000000000000000c00090000000000000000000c000a000000000000000000";

/// What the kernel showed of 10.0.0.1:6443.
const SHOWN_DR: &str = "50010200140001000a00000100000000000000000000000006000200192b000008000300030000000800040001000000\
    05000d000000000006000e000000000006000f0000000000080005000000000008000600000000000800070000000000\
    0800080000000000080009000000000006000b00020000005c000a000800010000000000080002000000000008000300\
    000000000c00040000000000000000000c00050000000000000000000800060000000000080007000000000008000800\
    00000000080009000000000008000a00000000007c000c000c00010000000000000000000c0002000000000000000000\
    0c00030000000000000000000c00040000000000000000000c00050000000000000000000c0006000000000000000000\
    0c00070000000000000000000c00080000000000000000000c00090000000000000000000c000a000000000000000000";

/// What the kernel showed of 10.0.0.4:8080.
const SHOWN_NAT: &str = "50010200140001000a000004000000000000000000000000060002001f90000008000300000000000800040001000000\
    05000d000000000006000e000000000006000f0000000000080005000000000008000600000000000800070000000000\
    0800080000000000080009000000000006000b00020000005c000a000800010000000000080002000000000008000300\
    000000000c00040000000000000000000c00050000000000000000000800060000000000080007000000000008000800\
    00000000080009000000000008000a00000000007c000c000c00010000000000000000000c0002000000000000000000\
    0c00030000000000000000000c00040000000000000000000c00050000000000000000000c0006000000000000000000\
    0c00070000000000000000000c00080000000000000000000c00090000000000000000000c000a000000000000000000";

/// What the kernel showed of 127.0.0.1:80, direct routing to the very host.
const SHOWN_LOCAL: &str = "50010200140001007f000001000000000000000000000000060002000050000008000300030000000800040001000000\
    05000d000000000006000e000000000006000f0000000000080005000000000008000600000000000800070000000000\
    0800080000000000080009000000000006000b00020000005c000a000800010000000000080002000000000008000300\
    000000000c00040000000000000000000c00050000000000000000000800060000000000080007000000000008000800\
    00000000080009000000000008000a00000000007c000c000c00010000000000000000000c0002000000000000000000\
    0c00030000000000000000000c00040000000000000000000c00050000000000000000000c0006000000000000000000\
    0c00070000000000000000000c00080000000000000000000c00090000000000000000000c000a000000000000000000";

/// What the kernel showed of 10.0.0.3:53 below an IPv6 service.
const SHOWN_MIXED: &str = "50010200140001000a000003000000000000000000000000060002000035000008000300020000000800040000000000\
    05000d000000000006000e000000000006000f0000000000080005000000000008000600000000000800070000000000\
    0800080000000000080009000000000006000b00020000005c000a000800010000000000080002000000000008000300\
    000000000c00040000000000000000000c00050000000000000000000800060000000000080007000000000008000800\
    00000000080009000000000008000a00000000007c000c000c00010000000000000000000c0002000000000000000000\
    0c00030000000000000000000c00040000000000000000000c00050000000000000000000c0006000000000000000000\
    0c00070000000000000000000c00080000000000000000000c00090000000000000000000c000a000000000000000000";

/// What the kernel showed of [2001:db8::1]:53.
const SHOWN_GUE: &str = "500102001400010020010db8000000000000000000000001060002000035000008000300020000000800040005000000\
    05000d000100000006000e0017c0000006000f0000000000080005006400000008000600320000000800070000000000\
    0800080000000000080009000000000006000b000a0000005c000a000800010000000000080002000000000008000300\
    000000000c00040000000000000000000c00050000000000000000000800060000000000080007000000000008000800\
    00000000080009000000000008000a00000000007c000c000c00010000000000000000000c0002000000000000000000\
    0c00030000000000000000000c00040000000000000000000c00050000000000000000000c0006000000000000000000\
    0c00070000000000000000000c00080000000000000000000c00090000000000000000000c000a000000000000000000";

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2)
        .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
        .collect()
}

fn shown(hex: &str) -> Attributes {
    Attributes::from_bytes(&bytes(hex)).unwrap()
}

fn sent(attributes: Result<Attributes, EncodeError>) -> String {
    let bytes = attributes.unwrap().to_bytes().unwrap();
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn key(address: &str, port: u16, protocol: Protocol) -> ServiceKey {
    ServiceKey {
        address: address.parse().unwrap(),
        port,
        protocol,
    }
}

fn rr() -> Service {
    Service {
        key: key("10.0.0.10", 6443, Protocol::Tcp),
        scheduler: Scheduler::RoundRobin,
        flags: SchedulerFlags::default(),
        persistence: Some(Persistence::per_client(Duration::from_secs(360), Family::Ipv4)),
    }
}

fn sh() -> Service {
    Service {
        key: key("2001:db8::10", 53, Protocol::Udp),
        scheduler: Scheduler::SourceHash,
        flags: SchedulerFlags {
            fallback: true,
            port: true,
            sched3: false,
            one_packet: true,
        },
        persistence: None,
    }
}

fn mh() -> Service {
    Service {
        key: key("10.0.0.11", 80, Protocol::Tcp),
        scheduler: Scheduler::MaglevHash,
        flags: SchedulerFlags {
            port: true,
            ..SchedulerFlags::default()
        },
        persistence: Some(Persistence {
            timeout: Duration::from_secs(60),
            granularity: 24,
        }),
    }
}

fn real(address: &str, port: u16, forwarding: Forwarding, weight: u32) -> Destination {
    Destination {
        address: address.parse().unwrap(),
        port,
        forwarding,
        weight,
        upper_threshold: 0,
        lower_threshold: 0,
    }
}

fn gue() -> Destination {
    let forwarding = Forwarding::Tunnel {
        kind: TunnelType::Gue,
        port: 6080,
    };
    Destination {
        upper_threshold: 100,
        lower_threshold: 50,
        ..real("2001:db8::1", 53, forwarding, 5)
    }
}

const IPIP: Forwarding = Forwarding::Tunnel {
    kind: TunnelType::Ipip,
    port: 0,
};

#[test]
fn a_service_is_written_as_ipvsadm_writes_it() {
    assert_eq!(sent(write_service(&rr())), SENT_RR);
    assert_eq!(sent(write_service(&sh())), SENT_SH);
    assert_eq!(sent(write_service(&mh())), SENT_MH);
    assert_eq!(sent(write_service_key(&rr().key)), ASKED_DEST);
}

#[test]
fn a_real_server_is_written_as_ipvsadm_writes_it() {
    let dr = real("10.0.0.1", 6443, Forwarding::DirectRouting, 1);
    for (service, destination, expected) in [
        (rr().key, dr, SENT_DR),
        (sh().key, gue(), SENT_GUE),
        (sh().key, real("10.0.0.3", 53, IPIP, 0), SENT_MIXED),
        (mh().key, real("10.0.0.4", 8080, Forwarding::Nat, 1), SENT_NAT),
    ] {
        let whole = sent(write_destination(&service, &destination));
        // ipvsadm repeats the whole service before it; its name is enough. And it leaves the last byte of an IPv6
        // service's address behind that of an IPv4 real server, where the kernel does not look.
        let expected = expected.replacen("001006000200", "000006000200", 1);
        assert_eq!(whole, sent(write_service_key(&service)) + &expected);
    }
}

#[test]
fn timeouts_and_daemons_are_written_as_ipvsadm_writes_them() {
    let timeouts = Timeouts {
        tcp: Duration::from_secs(900),
        tcp_fin: Duration::from_secs(120),
        udp: Duration::from_secs(300),
    };
    assert_eq!(sent(write_timeouts(&timeouts)), SENT_TIMEOUTS);
    assert_eq!(read_timeouts(&shown(SENT_TIMEOUTS)).unwrap(), timeouts);
    let daemon = SyncDaemon {
        role: DaemonRole::Master,
        interface: "lo".to_owned(),
        sync_id: 3,
    };
    assert_eq!(sent(write_daemon(&daemon, &SyncOptions::default())), SENT_DAEMON);
    assert_eq!(read_daemon(&shown(SENT_DAEMON)).unwrap().daemon, daemon);
    assert_eq!(
        sent(write_daemon_role(DaemonRole::Backup)),
        "0c0003800800010002000000"
    );
}

#[test]
fn what_the_kernel_shows_equals_what_was_written() {
    for (hex, service) in [(SHOWN_RR, rr()), (SHOWN_SH, sh()), (SHOWN_MH, mh())] {
        let read = read_service(&shown(hex)).unwrap();
        assert_eq!(read, ReadService::Modelled(service, Stats::default()));
    }
    for (hex, family, destination) in [
        (
            SHOWN_DR,
            Family::Ipv4,
            real("10.0.0.1", 6443, Forwarding::DirectRouting, 1),
        ),
        (
            SHOWN_NAT,
            Family::Ipv4,
            real("10.0.0.4", 8080, Forwarding::Nat, 1),
        ),
        (
            SHOWN_LOCAL,
            Family::Ipv4,
            real("127.0.0.1", 80, Forwarding::DirectRouting, 1),
        ),
        (SHOWN_MIXED, Family::Ipv6, real("10.0.0.3", 53, IPIP, 0)),
        (SHOWN_GUE, Family::Ipv6, gue()),
    ] {
        let ReadDestination::Modelled(read) = read_destination(&shown(hex), family).unwrap() else {
            panic!("{hex} is foreign");
        };
        assert_eq!(read.destination, destination);
        assert_eq!(read.connections, Connections::default());
    }
}

/// A record with its first `from` changed into `to`.
fn changed(hex: &str, from: &str, to: &str) -> Attributes {
    assert!(hex.contains(from), "{from} is not in the record");
    shown(&hex.replacen(from, to, 1))
}

#[test]
fn a_service_that_others_set_up_is_told_and_not_an_error() {
    for (message, key, why) in [
        (shown(SHOWN_FWMARK), None, Unmodelled::FirewallMark(7)),
        (
            changed(SHOWN_RR, "07000600727200", "07000600787a00"),
            Some(rr().key),
            Unmodelled::Scheduler("xz".to_owned()),
        ),
        // The narrow statistics made the name of an engine.
        (
            changed(SHOWN_RR, "5c000a0008000100", "5c000b0073697000"),
            Some(rr().key),
            Unmodelled::PersistenceEngine("sip".to_owned()),
        ),
        (
            changed(SHOWN_RR, "08000900ffffffff", "08000900ff00ff00"),
            Some(rr().key),
            Unmodelled::Netmask(0xff00_ff00),
        ),
        (
            changed(SHOWN_RR, "0600020006000000", "0600020033000000"),
            None,
            Unmodelled::Protocol(51),
        ),
        (
            changed(SHOWN_RR, "0600010002000000", "0600010028000000"),
            None,
            Unmodelled::Family(40),
        ),
    ] {
        let ReadService::Foreign(foreign) = read_service(&message).unwrap() else {
            panic!("{why} was taken for ours");
        };
        assert_eq!((foreign.key, foreign.why), (key, why));
    }
}

#[test]
fn a_real_server_that_others_set_up_is_told_and_not_an_error() {
    for (hex, from, to, why) in [
        (
            SHOWN_DR,
            "0800030003000000",
            "0800030004000000",
            Unmodelled::Forwarding(4),
        ),
        (
            SHOWN_GUE,
            "05000d0001000000",
            "05000d0009000000",
            Unmodelled::TunnelType(9),
        ),
        (
            SHOWN_GUE,
            "06000f0000000000",
            "06000f0001000000",
            Unmodelled::TunnelFlags(1),
        ),
    ] {
        let read = read_destination(&changed(hex, from, to), Family::Ipv4).unwrap();
        assert!(matches!(read, ReadDestination::Foreign(f) if f.why == why));
    }
}

#[test]
fn a_local_node_of_an_old_kernel_is_direct_routing() {
    let message = changed(SHOWN_LOCAL, "0800030003000000", "0800030001000000");
    let ReadDestination::Modelled(read) = read_destination(&message, Family::Ipv4).unwrap() else {
        panic!("foreign");
    };
    assert_eq!(read.destination.forwarding, Forwarding::DirectRouting);
}

fn stats(message: &Attributes) -> Stats {
    match read_service(message).unwrap() {
        ReadService::Modelled(_, stats) => stats,
        ReadService::Foreign(f) => panic!("{f:?}"),
    }
}

#[test]
fn statistics_are_read_wide_or_narrow() {
    let message = changed(SHOWN_RR, "0c00010000000000", "0c00010007000000");
    assert_eq!(stats(&message).conns, 7);
    let message = changed(SHOWN_RR, "7c000c000c00010000000000", "7c000c000c00010000000080");
    assert_eq!(stats(&message).conns, 1 << 31);
    // Linux before 4.1 has no STATS64: its type made one that nobody knows.
    let narrow = SHOWN_RR.replacen("7c000c00", "7c006300", 1);
    let message = changed(&narrow, "08000200000000000800", "08000200090000000800");
    assert_eq!(stats(&message).inpkts, 9);
    let message = changed(&narrow, "0c00050000000000000000", "0c00050000000000010000");
    assert_eq!(stats(&message).outbytes, 1 << 32);
}

#[test]
fn an_answer_that_lacks_something_says_what() {
    let missing = |what: &str| DecodeError::Missing(what.to_owned());
    let empty = Attributes::new();
    assert_eq!(read_service(&empty), Err(missing("command Service")));
    assert_eq!(read_info(&empty), Err(missing("info Version")));
    assert_eq!(read_daemon(&empty), Err(missing("command Daemon")));
    let no_address = changed(SHOWN_RR, "14000300", "14006300");
    assert_eq!(read_service(&no_address), Err(missing("service Addr")));
    let short = shown("0c0001800500010002000000");
    let error = DecodeError::Length {
        attribute: "service Af".to_owned(),
        expected: 2,
        got: 1,
    };
    assert_eq!(read_service(&short), Err(error));
    for malformed in ["0300", "03000100", "08000100", "040001000800010000"] {
        let read = Attributes::from_bytes(&bytes(malformed));
        assert!(matches!(read, Err(DecodeError::Malformed(_))), "{malformed}");
    }
}

#[test]
fn what_would_be_read_back_as_something_else_is_not_written() {
    let with = |timeout, granularity| Service {
        persistence: Some(Persistence { timeout, granularity }),
        ..rr()
    };
    let seconds = Duration::from_secs;
    for service in [
        with(Duration::from_millis(1500), 32),
        with(seconds(0), 32),
        with(seconds(2_678_401), 32),
        with(seconds(1), 33),
        with(seconds(1), 0),
    ] {
        assert!(write_service(&service).is_err(), "{service:?}");
    }
    assert!(write_service(&with(seconds(2_678_400), 1)).is_ok());
    let heavy = real("10.0.0.1", 6443, Forwarding::Nat, 1 << 31);
    assert_eq!(
        write_destination(&rr().key, &heavy).unwrap_err(),
        EncodeError::Weight(1 << 31)
    );
    let daemon = |interface: &str| SyncDaemon {
        role: DaemonRole::Backup,
        interface: interface.to_owned(),
        sync_id: 1,
    };
    for name in ["", "sixteen-letters!", "a\0b"] {
        assert!(
            write_daemon(&daemon(name), &SyncOptions::default()).is_err(),
            "{name:?}"
        );
    }
    let unicast = SyncOptions {
        group: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        ..SyncOptions::default()
    };
    assert!(write_daemon(&daemon("lo"), &unicast).is_err());
}

fn addresses() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|a| IpAddr::V4(Ipv4Addr::from_bits(a))),
        any::<u128>().prop_map(|a| IpAddr::V6(Ipv6Addr::from_bits(a))),
    ]
}

prop_compose! {
    fn services()(
        address in addresses(),
        port: u16,
        protocol in prop::sample::select(Protocol::ALL),
        scheduler in prop::sample::select(Scheduler::ALL),
        bits in any::<[bool; 4]>(),
        persistence in prop::option::of((1..=2_678_400_u64, 1..=128_u8)),
    ) -> Service {
        let [fallback, port_flag, sched3, one_packet] = bits;
        Service {
            key: ServiceKey { address, port, protocol },
            scheduler,
            flags: SchedulerFlags { fallback, port: port_flag, sched3, one_packet },
            persistence: persistence.map(|(seconds, granularity)| Persistence {
                timeout: Duration::from_secs(seconds),
                granularity: granularity.min(Family::of(address).bits()),
            }),
        }
    }
}

fn forwardings() -> impl Strategy<Value = Forwarding> {
    prop_oneof![
        Just(Forwarding::DirectRouting),
        Just(Forwarding::Nat),
        (prop::sample::select(TunnelType::ALL), any::<u16>())
            .prop_map(|(kind, port)| Forwarding::Tunnel { kind, port }),
    ]
}

prop_compose! {
    fn destinations()(
        address in addresses(),
        port: u16,
        forwarding in forwardings(),
        weight in 0..=0x7fff_ffff_u32,
        upper_threshold: u32,
        lower_threshold: u32,
    ) -> Destination {
        Destination { address, port, forwarding, weight, upper_threshold, lower_threshold }
    }
}

fn read_all(bytes: &[u8]) {
    let Ok(attributes) = Attributes::from_bytes(bytes) else {
        return;
    };
    let _ = read_service(&attributes);
    let _ = read_destination(&attributes, Family::Ipv4);
    let _ = read_destination(&attributes, Family::Ipv6);
    let _ = read_daemon(&attributes);
    let _ = read_timeouts(&attributes);
    let _ = read_info(&attributes);
    let _ = attributes.to_bytes();
}

proptest! {
    #[test]
    fn a_service_comes_back_as_it_was(service in services()) {
        let bytes = write_service(&service).unwrap().to_bytes().unwrap();
        let read = read_service(&Attributes::from_bytes(&bytes).unwrap());
        prop_assert_eq!(read, Ok(ReadService::Modelled(service, Stats::default())));
    }

    #[test]
    fn a_real_server_comes_back_as_it_was(service in services(), destination in destinations()) {
        let message = write_destination(&service.key, &destination).unwrap();
        let read = read_destination(&message, Family::of(service.key.address)).unwrap();
        let (address, port) = (destination.address, destination.port);
        prop_assert!(matches!(read, ReadDestination::Modelled(d) if d.destination == destination));
        prop_assert!(write_destination_key(&service.key, address, port).is_ok());
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        read_all(&bytes);
    }

    /// Whole attributes with any content, so that the readers get past the outermost level.
    #[test]
    fn no_attributes_make_a_reader_panic(
        outer in 1..4_u16,
        inner in prop::collection::vec((0..17_u16, prop::collection::vec(any::<u8>(), 0..40)), 0..20),
    ) {
        let mut nest = Vec::new();
        for (kind, payload) in inner {
            nest.extend(u16::try_from(payload.len() + 4).unwrap().to_ne_bytes());
            nest.extend(kind.to_ne_bytes());
            nest.extend(&payload);
            nest.resize(nest.len().next_multiple_of(4), 0);
        }
        let mut bytes = Vec::from(u16::try_from(nest.len() + 4).unwrap().to_ne_bytes());
        bytes.extend(outer.to_ne_bytes());
        bytes.extend(nest);
        read_all(&bytes);
    }

    /// A record with some bytes changed, and with its end cut off.
    #[test]
    fn no_damage_makes_a_reader_panic(
        hex in prop::sample::select(vec![SHOWN_RR, SHOWN_SH, SHOWN_FWMARK, SHOWN_DR, SHOWN_GUE, SENT_DAEMON]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        end: prop::sample::Index,
    ) {
        let mut bytes = bytes(hex);
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        read_all(&bytes);
        read_all(&bytes[..end.index(bytes.len())]);
    }
}
