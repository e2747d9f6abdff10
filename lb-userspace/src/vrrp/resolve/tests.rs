//! Which interface and which source, host by host.
use super::*;
use lb_common::model::{AdvertInterval, Priority, Version, Vrid};
use lb_common::spec::{Announce, ChecksumForm, Track, Tracked};
use std::time::Duration;

fn instance(interface: InterfaceSelector, vips: &[&str]) -> Instance {
    Instance {
        name: "a".to_owned(),
        virtual_ips: vips.iter().map(|v| v.parse().unwrap()).collect(),
        interface,
        vrid: Vrid::new(51).unwrap(),
        version: Version::V3,
        priority: Priority::new(100).unwrap(),
        preempt: true,
        preempt_delay: Duration::ZERO,
        advert_interval: AdvertInterval::SECOND,
        auth_pass: None,
        transport: Transport::Multicast,
        checksum: ChecksumForm::PseudoHeader,
        announce: Announce::default(),
        track: Vec::new(),
        notify: Vec::new(),
        address_label: 0,
    }
}

fn auto(vip: &str) -> Instance {
    instance(InterfaceSelector::Auto, &[vip])
}

fn vips(i: &Instance) -> Vips {
    i.virtual_ips.iter().map(|p| p.addr()).collect()
}

fn run(table: &LinkTable, i: &Instance, previous: Option<u32>) -> Resolution {
    resolve(table, i, &vips(i), previous)
}

fn name(r: &Resolution) -> Option<&str> {
    r.interface.as_ref().map(|i| i.name.as_str())
}

fn addr(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

/// lo, eth0 with 192.0.2.1/24, eth1 with 198.51.100.1/24 and the default route.
/// Links, addresses, and default routes as (family, interface, metric).
type Host = (Vec<Link>, Vec<Address>, Vec<(Family, u32, u32)>);

fn host() -> Host {
    let links = vec![
        Link::for_test(1, "lo", None, None),
        Link::for_test(2, "eth0", None, None),
        Link::for_test(3, "eth1", None, None),
    ];
    let addresses = vec![
        Address::for_test(1, "127.0.0.1/8"),
        Address::for_test(2, "192.0.2.1/24"),
        Address::for_test(3, "198.51.100.1/24"),
    ];
    (
        links,
        addresses,
        vec![(Family::Ipv4, 200, 2), (Family::Ipv4, 100, 3)],
    )
}

fn table(host: Host) -> LinkTable {
    LinkTable::for_test(host.0, host.1, host.2)
}

#[test]
fn automatic_is_the_subnet_of_the_vip_and_else_the_default_route() {
    let t = table(host());
    let r = run(&t, &auto("192.0.2.100/24"), None);
    assert_eq!(
        (name(&r), r.source, r.fault),
        (Some("eth0"), addr("192.0.2.1"), None)
    );
    let r = run(&t, &auto("203.0.113.9/32"), None);
    assert_eq!(name(&r), Some("eth1"), "the lowest metric");
    let r = run(&t, &auto("203.0.113.9/32"), Some(2));
    assert_eq!(name(&r), Some("eth0"), "it stays where it was");
    let r = run(&t, &auto("2001:db8::9/64"), None);
    assert_eq!(r.fault, Some(FaultReason::NoInterface), "no IPv6 route");
}

#[test]
fn a_vip_that_is_there_already_decides_nothing() {
    let (links, mut addresses, defaults) = host();
    // The real server's, on lo, and one left over on the wrong card, first of its subnet.
    addresses.insert(0, Address::for_test(1, "192.0.2.100/32"));
    addresses.insert(0, Address::for_test(3, "192.0.2.100/24"));
    addresses.insert(0, Address::for_test(2, "192.0.2.100/24"));
    addresses.last_mut().unwrap().secondary = true;
    let r = run(
        &table((links, addresses, defaults)),
        &auto("192.0.2.100/24"),
        None,
    );
    assert_eq!((name(&r), r.source), (Some("eth0"), addr("192.0.2.1")));
}

#[test]
fn a_source_is_a_primary_address_before_a_secondary_and_never_a_tentative_one() {
    let (links, _, defaults) = host();
    let mut secondary = Address::for_test(2, "192.0.2.2/24");
    secondary.secondary = true;
    let mut leased = Address::for_test(2, "192.0.2.3/24");
    leased.deprecated = true;
    let i = instance(InterfaceSelector::Name("eth0".to_owned()), &["192.0.2.100/24"]);
    let mut all = vec![leased, secondary, Address::for_test(2, "192.0.2.4/24")];
    for expected in ["192.0.2.4", "192.0.2.2", "192.0.2.3"] {
        let t = table((links.clone(), all.clone(), defaults.clone()));
        assert_eq!(run(&t, &i, None).source, addr(expected));
        all.pop();
    }
    let i = instance(InterfaceSelector::Name("eth0".to_owned()), &["2001:db8::9/64"]);
    let mut tentative = Address::for_test(2, "fe80::1/64");
    tentative.tentative = true;
    let t = table((
        links,
        vec![tentative, Address::for_test(2, "2001:db8::1/64")],
        defaults,
    ));
    assert_eq!(run(&t, &i, None).fault, Some(FaultReason::NoAddress));
}

#[test]
fn an_owner_may_send_from_the_address_that_it_owns() {
    let (links, _, defaults) = host();
    let t = table((links, vec![Address::for_test(2, "192.0.2.100/24")], defaults));
    let mut i = instance(InterfaceSelector::Name("eth0".to_owned()), &["192.0.2.100/24"]);
    assert_eq!(run(&t, &i, None).fault, Some(FaultReason::NoAddress));
    i.priority = Priority::OWNER;
    assert_eq!(run(&t, &i, None).source, addr("192.0.2.100"));
}

#[test]
fn unicast_has_the_address_that_was_asked_for_wherever_it_is() {
    let t = table(host());
    let mut i = auto("192.0.2.100/24");
    let unicast = |source: &str| Transport::Unicast {
        source: addr(source),
        peers: vec!["198.51.100.2".parse().unwrap()],
    };
    i.transport = unicast("198.51.100.1");
    let r = run(&t, &i, None);
    assert_eq!(name(&r), Some("eth0"), "the addresses are where they belong");
    assert_eq!(r.via.as_ref().map(|v| v.index), Some(3));
    i.transport = unicast("198.51.100.7");
    assert_eq!(run(&t, &i, None).fault, Some(FaultReason::NoAddress));
}

#[test]
fn ipv6_multicast_is_link_local_and_unicast_is_as_its_peers_are() {
    let links = vec![Link::for_test(2, "eth0", None, None)];
    let addresses = vec![
        Address::for_test(2, "2001:db8::1/64"),
        Address::for_test(2, "fe80::1/64"),
    ];
    let t = table((links, addresses, Vec::new()));
    let mut i = auto("2001:db8::100/64");
    i.virtual_ips.insert(0, "fe80::100/64".parse().unwrap());
    assert_eq!(run(&t, &i, None).source, addr("fe80::1"));
    i.transport = Transport::Unicast {
        source: None,
        peers: vec!["2001:db8::2".parse().unwrap()],
    };
    assert_eq!(run(&t, &i, None).source, addr("2001:db8::1"));
}

#[test]
fn of_several_interfaces_with_a_mac_the_one_that_carries_addresses_is_taken() {
    let mac = || InterfaceSelector::Mac(MacAddr([2, 0, 0, 0, 0, 1]));
    let pick = |links: Vec<Link>| {
        let t = table((links, Vec::new(), Vec::new()));
        name(&run(&t, &instance(mac(), &["192.0.2.100/24"]), None)).map(str::to_owned)
    };
    let bond = pick(vec![
        Link::for_test(2, "eth0", None, Some(9)),
        Link::for_test(3, "eth1", None, Some(9)),
        Link::for_test(8, "bond0.7", Some("vlan"), None),
        Link::for_test(9, "bond0", Some("bond"), None),
    ]);
    assert_eq!(bond.as_deref(), Some("bond0"));
    let vlan = pick(vec![
        Link::for_test(2, "eth0.7", Some("vlan"), None),
        Link::for_test(3, "eth0", None, None),
    ]);
    assert_eq!(vlan.as_deref(), Some("eth0"));
    let vrf = pick(vec![
        Link::for_test(2, "eth0", None, Some(9)),
        Link::for_test(9, "red", Some("vrf"), None),
    ]);
    assert_eq!(
        vrf.as_deref(),
        Some("eth0"),
        "a member of a VRF has addresses of its own"
    );
}

#[test]
fn what_is_tracked_is_a_fault_or_a_weight() {
    let (mut links, addresses, defaults) = host();
    links.last_mut().unwrap().usable = false;
    let t = table((links, addresses, defaults));
    let with = |items: &[(&str, i16)]| {
        let mut i = auto("192.0.2.100/24");
        let item = |(name, weight): &(&str, i16)| Track {
            what: Tracked::Interface((*name).to_owned()),
            weight: *weight,
        };
        i.track = items.iter().map(item).collect();
        let r = run(&t, &i, None);
        (r.fault, r.weight)
    };
    assert_eq!(with(&[("eth1", -20), ("eth0", 5), ("none", 7)]), (None, -15));
    assert_eq!(with(&[("eth1", 0)]), (Some(FaultReason::Tracked), 0));
    assert_eq!(with(&[("eth0", 0)]), (None, 0));
}
