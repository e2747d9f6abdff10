//! The codec of IPVS against bytes: what `ipvsadm` 1.31 sent and what Linux 6.1 showed, recorded with
//! `strace -xx -e trace=sendmsg,recvmsg` on one set of services, without the 4 bytes of the generic netlink header.
//! Then, in `properties`: what is written is read back the same, and no bytes at all make a reader panic.
//!
//! The numbers are those of a little-endian machine.
#![cfg(target_endian = "little")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "ipvs_codec/properties.rs"]
mod properties;
#[path = "ipvs_codec/records.rs"]
mod records;

use lb_common::model::{
    Family, Forwarding, Persistence, Protocol, Scheduler, SchedulerFlags, ServiceKey, TunnelType,
};
use lb_common::plan::{DaemonRole, Destination, Service, SyncDaemon};
use lb_userspace::datapath::ipvs::codec::{
    Attributes, DecodeError, EncodeError, ReadDestination, ReadService, read_daemon, read_destination,
    read_info, read_service, read_timeouts, write_daemon, write_daemon_role, write_destination,
    write_service, write_service_key, write_timeouts,
};
use lb_userspace::datapath::ipvs::{Connections, Stats, SyncOptions, Timeouts, Unmodelled};
use records::*;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

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
        EncodeError::Signed("weight", 1 << 31)
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
