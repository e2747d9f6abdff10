//! The image as the program reads it: its way of looking, over again.
use super::*;
use crate::abi::hash::{self, Key};
use crate::abi::tables::{
    BACKEND_LOCAL, BACKEND_REACHABLE, BACKEND_TUNNEL4, BACKEND_TUNNEL6, IPV4, MEMBER_ALIVE, MEMBER_NEW,
    PROBES, RING, SERVICE_AFFINITY, VIP_ANY_PORT, service_key, service_place, vip_place,
};
use crate::abi::{Backend, Service, Vip};
use crate::model::{MacAddr, Persistence, Protocol, ServiceKey};
use crate::plan::{Backend as Real, Method};
use crate::spec::XdpAttach;
use crate::xdp::maglev::tests::{address, key};
use crate::xdp::{Face, Hop, Reach};
use core::time::Duration;
use proptest::prelude::*;
use std::string::ToString;
use std::vec;

pub(super) fn forwarder(key: ServiceKey, backends: &[(IpAddr, u32, bool)]) -> Forwarder {
    Forwarder {
        key,
        method: Method::Direct,
        affinity: None,
        backends: (backends.iter())
            .map(|(address, weight, up)| Real {
                address: *address,
                weight: *weight,
                up: *up,
            })
            .collect(),
    }
}

pub(super) fn tcp(address: IpAddr, port: u16) -> ServiceKey {
    ServiceKey {
        address,
        port,
        protocol: Protocol::Tcp,
    }
}

pub(super) fn vip(n: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, n])
}

pub(super) const THREE: [(usize, u32, bool); 3] = [(0, 1, true), (1, 1, true), (2, 1, true)];

pub(super) fn three(change: impl Fn(usize) -> (u32, bool)) -> Vec<(IpAddr, u32, bool)> {
    THREE
        .iter()
        .map(|(i, ..)| (address(*i), change(*i).0, change(*i).1))
        .collect()
}

pub(super) fn well(_: usize) -> (u32, bool) {
    (1, true)
}

pub(super) fn forwarding(services: Vec<Forwarder>) -> Forwarding {
    Forwarding {
        attach: XdpAttach::default(),
        interfaces: [2].into(),
        vips: services.iter().map(|s| (s.key.address, 2)).collect(),
        services: services.into_iter().map(|s| (s.key, s)).collect(),
        key: key(5),
    }
}

const BOTH: u8 = MEMBER_ALIVE | MEMBER_NEW;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn hop(n: u8) -> Hop {
    Hop {
        ifindex: 2,
        mac: MacAddr([2, 0, 0, 0, 1, n]),
        src_mac: MacAddr(MAC),
        mtu: 1500,
        source: None,
    }
}

fn resolved(f: &Forwarding) -> Resolved {
    Resolved {
        vips: (f.vips.keys())
            .map(|v| {
                let mac = MacAddr(MAC);
                (*v, Face { mac, vlan: 0 })
            })
            .collect(),
        backends: (f.services.values())
            .flat_map(|s| {
                s.backends
                    .iter()
                    .map(|b| ((b.address, s.method), Reach::OnLink(hop(1))))
            })
            .collect(),
        ..Resolved::default()
    }
}

pub(super) fn compiled(f: &Forwarding, numbers: &mut Numbers) -> Image {
    compile(f, &resolved(f), numbers).unwrap()
}

/// `lookup.rs` of the program.
fn find_vip(side: &Side, address: IpAddr) -> Option<&Vip> {
    let (hi, lo) = match address {
        IpAddr::V4(a) => (IPV4, u64::from(u32::from_ne_bytes(a.octets()))),
        IpAddr::V6(a) => {
            let half = |from: usize| u64::from_ne_bytes(a.octets()[from..from + 8].try_into().unwrap());
            (half(0), half(8))
        }
    };
    let first = vip_place(hi, lo, side.vip_multiplier) as usize;
    (0..side.vip_probes as usize)
        .map(|probe| &side.vips[(first + probe) & (VIPS - 1)])
        .find(|v| (v.hi, v.lo) == (hi, lo))
}

pub(super) fn find(side: &Side, address: IpAddr, protocol: u8, port: u16) -> Option<&Service> {
    let vip = find_vip(side, address)?;
    let by_port = |port: u16| {
        let key = service_key(vip.index, protocol, u16::from_ne_bytes(port.to_be_bytes()));
        let first = service_place(key, side.service_multiplier) as usize;
        (0..side.service_probes as usize)
            .map(|probe| &side.services[(first + probe) & (SERVICES - 1)])
            .find(|s| s.key == key)
    };
    by_port(port).or_else(|| by_port(0).filter(|_| vip.flags & VIP_ANY_PORT != 0))
}

#[test]
fn a_packet_finds_its_backend() {
    let f = forwarding(vec![forwarder(tcp(vip(1), 6443), &three(well))]);
    let mut numbers = Numbers::default();
    let image = compiled(&f, &mut numbers);
    let service = find(&image.side, vip(1), 6, 6443).unwrap();
    assert_eq!((service.flags, service.affinity, service.pool), (0, 0, 0));
    let h = hash::flow4(&image.side.key, 1, 2, 3, 6);
    let number = image.rings[0][hash::place(h, RING as u32) as usize];
    let backend = image.side.backends[usize::from(number)];
    assert_eq!(backend.flags, BACKEND_REACHABLE);
    assert_eq!(image.side.members[0][usize::from(number)], BOTH);
    assert_eq!(
        (backend.mac, backend.src_mac, backend.ifindex),
        ([2, 0, 0, 0, 1, 1], MAC, 2)
    );
    assert_eq!(image.side.backends[0], Backend::default(), "0 is nobody");
    assert_eq!(
        numbers
            .backends()
            .map(|(n, k)| (n, k.address))
            .collect::<Vec<_>>(),
        [(1, address(0)), (2, address(1)), (3, address(2))]
    );
    let face = find_vip(&image.side, vip(1)).unwrap();
    assert_eq!((face.mac, face.vlan, face.flags), (MAC, 0, 0));
}

#[test]
fn nothing_held_directs_nothing() {
    let mut f = forwarding(vec![forwarder(tcp(vip(1), 6443), &three(well))]);
    f.vips.clear();
    let image = compile(&f, &Resolved::default(), &mut Numbers::default()).unwrap();
    assert_eq!((image.side.vip_count, image.rings.len()), (0, 0));
    assert_eq!(image.side.vips, [Vip::default(); VIPS]);
    assert_eq!(image.side.services, [Service::default(); SERVICES]);
    assert_eq!((image.side.vip_probes, image.side.service_probes), (1, 1));
}

#[test]
fn health_and_weight_become_membership() {
    let members = |change: fn(usize) -> (u32, bool)| {
        let f = forwarding(vec![forwarder(tcp(vip(1), 6443), &three(change))]);
        let image = compiled(&f, &mut Numbers::default());
        let mut numbers: Vec<u16> = image.rings[0][..RING].to_vec();
        numbers.sort_unstable();
        numbers.dedup();
        ([1, 2, 3].map(|n| image.side.members[0][n]), numbers)
    };
    assert_eq!(members(|i| (1, i != 1)), ([BOTH, MEMBER_NEW, BOTH], vec![1, 3]));
    assert_eq!(
        members(|i| (u32::from(i != 1), true)),
        ([BOTH, MEMBER_ALIVE, BOTH], vec![1, 3])
    );
    assert_eq!(
        members(|_| (1, false)),
        ([BOTH; 3], vec![1, 2, 3]),
        "all down is all up"
    );
    assert_eq!(
        members(|i| (u32::from(i != 1), i == 1)),
        ([BOTH, MEMBER_ALIVE, BOTH], vec![1, 3]),
        "one that drains is no help"
    );
    assert_eq!(members(|_| (0, true)), ([MEMBER_ALIVE; 3], vec![0]));
}

#[test]
fn a_dead_port_is_one_pools_own_affair() {
    let sick = |i: usize| (1, i != 0);
    let f = forwarding(vec![
        forwarder(tcp(vip(1), 6443), &three(well)),
        forwarder(tcp(vip(1), 8132), &three(sick)),
        forwarder(tcp(vip(2), 6443), &three(well)),
        forwarder(tcp(vip(2), 443), &three(well)[..2]),
    ]);
    let mut numbers = Numbers::default();
    let image = compiled(&f, &mut numbers);
    assert_eq!(numbers.backends().count(), 3);
    assert_eq!(image.rings.len(), 3, "what is alike shares a table");
    let members = |of, port| {
        let pool = find(&image.side, vip(of), 6, port).unwrap().pool as usize;
        [1, 2, 3, 4].map(|n| image.side.members[pool][n])
    };
    assert_eq!(members(1, 6443), [BOTH, BOTH, BOTH, 0]);
    assert_eq!(members(2, 6443), members(1, 6443));
    assert_eq!(members(1, 8132), [MEMBER_NEW, BOTH, BOTH, 0]);
    assert_eq!(
        members(2, 443),
        [BOTH, BOTH, 0, 0],
        "who is not asked is no member"
    );
    assert!(image.side.members[3..].iter().flatten().all(|m| *m == 0));
}

#[test]
fn a_tunnel_needs_a_source_and_this_node_needs_nothing() {
    let v6 = |n: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n]);
    for (vip, us, them) in [(vip(1), vip(250), address(1)), (v6(1), v6(2), v6(3))] {
        let mut service = forwarder(tcp(vip, 6443), &[(us, 1, true), (them, 1, true)]);
        service.method = Method::Tunnel;
        let f = forwarding(vec![service]);
        let mut r = resolved(&f);
        r.backends.insert((us, Method::Tunnel), Reach::Local);
        let mut numbers = Numbers::default();
        let image = compile(&f, &r, &mut numbers).unwrap();
        let of = |image: &Image, numbers: &Numbers, who| {
            let number = numbers.backends().find(|(_, k)| k.address == who).unwrap().0;
            image.side.backends[usize::from(number)]
        };
        assert_eq!(of(&image, &numbers, us).flags, BACKEND_LOCAL | BACKEND_REACHABLE);
        assert_eq!(
            of(&image, &numbers, them),
            Backend::default(),
            "no source, no way"
        );
        let source = Some(us);
        r.backends
            .insert((them, Method::Tunnel), Reach::OnLink(Hop { source, ..hop(3) }));
        let image = compile(&f, &r, &mut numbers).unwrap();
        let backend = of(&image, &numbers, them);
        let bytes = |words: [u32; 4]| words.map(u32::to_ne_bytes).concat();
        let (tunnel, from, to) = match (us, them) {
            (IpAddr::V4(s), IpAddr::V4(d)) => (BACKEND_TUNNEL4, s.octets().to_vec(), d.octets().to_vec()),
            (IpAddr::V6(s), IpAddr::V6(d)) => (BACKEND_TUNNEL6, s.octets().to_vec(), d.octets().to_vec()),
            _ => unreachable!(),
        };
        assert_eq!(backend.flags, BACKEND_REACHABLE | tunnel);
        assert!(bytes(backend.outer_src).starts_with(&from) && bytes(backend.outer_dst).starts_with(&to));
        assert_eq!(backend.mtu, 1500);
    }
}

#[test]
fn affinity_is_a_mask_and_units_of_a_stamp() {
    let of = |vip: IpAddr, seconds: u64, granularity: u8| {
        let backend = if vip.is_ipv4() {
            address(1)
        } else {
            IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1])
        };
        let mut service = forwarder(tcp(vip, 6443), &[(backend, 1, true)]);
        service.affinity = Some(Persistence {
            timeout: Duration::from_secs(seconds),
            granularity,
        });
        let image = compiled(&forwarding(vec![service]), &mut Numbers::default());
        let found = *find(&image.side, vip, 6, 6443).unwrap();
        assert_eq!(found.flags, SERVICE_AFFINITY);
        let bytes = [found.mask_hi.to_ne_bytes(), found.mask_lo.to_ne_bytes()].concat();
        (found.affinity, bytes)
    };
    let v6 = IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]);
    let v4_mask = |mask: [u8; 4]| [u64::from(u32::from_ne_bytes(mask)).to_ne_bytes()].concat();
    assert_eq!(of(vip(1), 360, 32).0, 88, "87.9 units of 4.096 s");
    assert_eq!(of(vip(1), 1, 32).0, 1);
    assert_eq!(of(vip(1), 7200, 32).0, 1758);
    assert_eq!(of(vip(1), 2_678_400, 32).0, 2047);
    assert_eq!(of(vip(1), 360, 20).1[8..], v4_mask([255, 255, 240, 0]));
    assert_eq!(of(vip(1), 360, 32).1[8..], v4_mask([255; 4]));
    assert_eq!(of(v6, 360, 128).1, [255; 16]);
    let mut half = [0; 16];
    half[..7].fill(255);
    assert_eq!(of(v6, 360, 56).1, half);
}

#[test]
fn a_new_mac_address_makes_no_new_table() {
    let f = forwarding(vec![forwarder(tcp(vip(1), 6443), &three(well))]);
    let mut numbers = Numbers::default();
    let first = compiled(&f, &mut numbers);
    let mut r = resolved(&f);
    r.backends.values_mut().for_each(|b| *b = Reach::OnLink(hop(99)));
    let second = compile(&f, &r, &mut numbers).unwrap();
    assert!(Arc::ptr_eq(&first.rings[0], &second.rings[0]));
    assert_ne!(first.side.backends, second.side.backends);
    let mut other = f.clone();
    other.key = key(6);
    let third = compiled(&other, &mut numbers);
    assert_ne!(third.rings[0], second.rings[0], "another key");
}

#[test]
fn what_is_unresolved_is_configured_and_not_reached() {
    let f = forwarding(vec![forwarder(tcp(vip(1), 6443), &three(well))]);
    let mut r = resolved(&f);
    r.backends.clear();
    let image = compile(&f, &r, &mut Numbers::default()).unwrap();
    assert_eq!(
        (image.side.backends[1], image.side.members[0][1]),
        (Backend::default(), BOTH)
    );
    r.vips.clear();
    let image = compile(&f, &r, &mut Numbers::default()).unwrap();
    assert_eq!(image.side.vip_count, 0);
    assert!(find(&image.side, vip(1), 6, 6443).is_none());
}

#[test]
fn too_much_is_refused_and_changes_no_number() {
    let many = |vips: u16, ports: u16, backends: usize, lists: bool| {
        let list = |skip: usize| -> Vec<(IpAddr, u32, bool)> {
            (0..backends)
                .map(|i| (address(i), 1 + u32::from(lists && i == skip), true))
                .collect()
        };
        let keys = (0..vips).flat_map(|v| (0..ports).map(move |p| (v, p)));
        let services = keys.enumerate().map(|(i, (v, p))| {
            forwarder(
                tcp(IpAddr::from([10, 9, (v / 256) as u8, (v % 256) as u8]), 1 + p),
                &list(i),
            )
        });
        forwarding(services.collect())
    };
    let mut numbers = Numbers::default();
    let f = forwarding(vec![forwarder(tcp(vip(1), 6443), &three(well))]);
    compiled(&f, &mut numbers);
    let before: Vec<(u16, BackendKey)> = numbers.backends().map(|(n, k)| (n, *k)).collect();
    for (f, text) in [
        (
            many(257, 1, 3, false),
            "256 virtual IPs with virtual servers, but there are 257",
        ),
        (many(200, 3, 3, false), "512 virtual servers, but there are 600"),
        (many(1, 1, 512, false), "511 real servers, but there are 512"),
        (
            many(33, 1, 40, true),
            "32 different lists of real servers, but there are 33",
        ),
    ] {
        let error = compile(&f, &resolved(&f), &mut numbers).unwrap_err();
        assert_eq!(
            error.to_string(),
            std::format!("the XDP datapath takes at most {text}")
        );
    }
    assert_eq!(
        numbers.backends().map(|(n, k)| (n, *k)).collect::<Vec<_>>(),
        before
    );
    let most = many(256, 2, 255, false);
    let image = compiled(&most, &mut numbers);
    assert_eq!((image.side.vip_count, image.rings.len()), (256, 1));
    assert!(
        most.services
            .keys()
            .all(|k| find(&image.side, k.address, 6, k.port).is_some())
    );
}

/// 40 virtual IPs, and each is not yet taken by another of six machines: 40 pools for 32 tables.
#[test]
fn health_in_more_ways_than_there_are_tables_is_health_anywhere() {
    let services = (0..40u32).map(|v| {
        let backends: Vec<_> = (0..6).map(|i| (address(i), 1, v & (1 << i) == 0)).collect();
        forwarder(tcp(IpAddr::from([10, 9, 0, v as u8]), 6443), &backends)
    });
    let mut numbers = Numbers::default();
    let f = forwarding(services.collect());
    let image = compiled(&f, &mut numbers);
    assert_eq!(image.rings.len(), 1);
    assert_eq!(
        image.side.members[0][..7],
        [0, BOTH, BOTH, BOTH, BOTH, BOTH, BOTH]
    );
}

#[test]
fn numbers_survive_what_happens_around_them() {
    let mut numbers = Numbers::default();
    let one = forwarding(vec![forwarder(tcp(vip(1), 6443), &three(well))]);
    compiled(&one, &mut numbers);
    let number_of = |numbers: &Numbers, i| {
        numbers
            .backends()
            .find(|(_, k)| k.address == address(i))
            .map(|(n, _)| n)
    };
    let without = forwarding(vec![forwarder(tcp(vip(1), 6443), &three(well)[1..])]);
    compiled(&without, &mut numbers);
    assert_eq!(
        [0, 1, 2].map(|i| number_of(&numbers, i)),
        [None, Some(2), Some(3)]
    );
    let other = forwarding(vec![
        forwarder(tcp(vip(0), 443), &three(well)),
        forwarder(tcp(vip(1), 6443), &three(well)),
    ]);
    let image = compiled(&other, &mut numbers);
    assert_eq!(
        [0, 1, 2].map(|i| number_of(&numbers, i)),
        [Some(1), Some(2), Some(3)],
        "what came back has its number again"
    );
    assert_eq!((image.new_backends, image.new_services), (vec![], vec![]));
    let places: Vec<(u16, u16)> = numbers.services().map(|(n, k)| (n, k.port)).collect();
    assert_eq!(places, [(1, 443), (0, 6443)]);
}

fn any_key() -> impl Strategy<Value = ServiceKey> {
    let v4 = (0u8..4, 1u8..30).prop_map(|(a, b)| IpAddr::from([192, 0, a, b]));
    let v6 = (0u16..3, 1u16..30).prop_map(|(a, b)| IpAddr::from([0x2001, 0xdb8, a, 0, 0, 0, 0, b]));
    let port = prop_oneof![3 => 6440u16..6446, 1 => Just(0), 1 => any::<u16>()];
    (prop_oneof![v4, v6], port, any::<bool>()).prop_map(|(address, port, tcp)| ServiceKey {
        address,
        port,
        protocol: if tcp { Protocol::Tcp } else { Protocol::Udp },
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_service_is_found_and_nothing_else(
        rounds in prop::collection::vec(prop::collection::btree_set(any_key(), 0..60), 1..4),
        others in prop::collection::vec(any_key(), 50),
    ) {
        let mut numbers = Numbers::default();
        for keys in rounds {
            let own = |key: &ServiceKey| match key.address {
                IpAddr::V4(_) => address(1),
                IpAddr::V6(_) => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1]),
            };
            let f = forwarding(keys.iter().map(|k| forwarder(*k, &[(own(k), 1, true)])).collect());
            let image = compiled(&f, &mut numbers);
            prop_assert!(image.side.vip_probes as usize <= PROBES && image.side.service_probes as usize <= PROBES);
            let stats: BTreeMap<u16, ServiceKey> = numbers.services().map(|(n, k)| (n, *k)).collect();
            for key in keys.iter().chain(&others) {
                let exact = keys.contains(key).then_some(*key);
                let any = ServiceKey { port: 0, ..*key };
                let wanted = exact.or_else(|| keys.contains(&any).then_some(any));
                let found = find(&image.side, key.address, key.protocol.number(), key.port);
                let found = found.map(|s| stats[&(s.stats as u16)]);
                prop_assert_eq!(found, wanted);
                let held = keys.iter().any(|k| k.address == key.address);
                prop_assert_eq!(find_vip(&image.side, key.address).is_some(), held);
            }
        }
    }
}

/// The key is a word of what the program reads: changing it is changing every flow's hash.
#[test]
fn the_key_is_handed_on() {
    let f = forwarding(vec![]);
    assert_eq!(compiled(&f, &mut Numbers::default()).side.key, f.key);
    assert_ne!(f.key, Key::default());
}
