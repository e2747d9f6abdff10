//! For any value: what is written is read back the same. For any bytes: no reader panics.
use super::bytes;
use super::records::{SENT_DAEMON, SHOWN_DR, SHOWN_FWMARK, SHOWN_GUE, SHOWN_RR, SHOWN_SH};
use lb_common::model::{
    Family, Forwarding, Persistence, Protocol, Scheduler, SchedulerFlags, ServiceKey, TunnelType,
};
use lb_common::plan::{Destination, Service};
use lb_userspace::datapath::ipvs::Stats;
use lb_userspace::datapath::ipvs::codec::{
    Attributes, ReadDestination, ReadService, read_daemon, read_destination, read_info, read_service,
    read_timeouts, write_destination, write_destination_key, write_service,
};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

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
        upper_threshold in 0..=0x7fff_ffff_u32,
        lower_threshold in 0..=0x7fff_ffff_u32,
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
