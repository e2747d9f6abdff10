//! What instances must not share: names, addresses, and router IDs on one network segment.
use super::super::problem::{Findings, Problem};
use super::{Draft, Instances};
use crate::spec::{Instance, InterfaceSelector, Transport};
use alloc::format;
use core::net::IpAddr;

/// Each pair once, the later one at fault.
pub(super) fn check(d: &Draft, all: &Instances, f: &mut Findings) {
    for (n, (i, later)) in all.list.iter().enumerate() {
        for (_, earlier) in all.list.iter().take(n) {
            names(d, *i, later, earlier, f);
            addresses(d, *i, later, earlier, f);
            router_ids(d, *i, later, earlier, f);
        }
    }
    for (i, instance) in &all.list {
        unicast_is_no_vip(d, *i, instance, all, f);
    }
}

fn names(d: &Draft, i: usize, later: &Instance, earlier: &Instance, f: &mut Findings) {
    if later.name == earlier.name {
        let at = d.instance_path(i).key("name");
        f.refuse(Problem::new(
            &at,
            format!("another instance is named {} too", later.name),
        ));
    }
}

fn addresses(d: &Draft, i: usize, later: &Instance, earlier: &Instance, f: &mut Findings) {
    for (n, vip) in later.virtual_ips.iter().enumerate() {
        if earlier.virtual_ips.iter().any(|e| e.addr() == vip.addr()) {
            let at = d.instance_path(i).key("virtualIPs").index(n);
            f.refuse(
                Problem::new(&at, format!("{} belongs to {} already", vip.addr(), earlier.name))
                    .help("an address can move with one instance only"),
            );
        }
    }
}

fn router_ids(d: &Draft, i: usize, later: &Instance, earlier: &Instance, f: &mut Findings) {
    if later.vrid != earlier.vrid || later.family() != earlier.family() || apart(later, earlier) {
        return;
    }
    let at = d.instance_path(i).key("virtualRouterID");
    let message = format!("virtualRouterID {} is that of {} too", later.vrid, earlier.name);
    match (&later.interface, &earlier.interface) {
        (InterfaceSelector::Name(a), InterfaceSelector::Name(b)) if a != b => {}
        (InterfaceSelector::Mac(a), InterfaceSelector::Mac(b)) if a != b => {}
        (a, b) if a == b => f.refuse(Problem::new(&at, message).help(
            "instances on one interface need IDs of their own; without virtualRouterID they get 51, 52 and so on in order",
        )),
        _ => f.warn(
            Problem::new(&at, format!("{message}, and both may turn out to be on one interface"))
                .help("give each an ID of its own"),
        ),
    }
}

/// Two unicast instances that have no peer in common never hear each other's adverts.
fn apart(a: &Instance, b: &Instance) -> bool {
    match (&a.transport, &b.transport) {
        (Transport::Unicast { peers: a, .. }, Transport::Unicast { peers: b, .. }) => {
            !a.iter().any(|p| b.contains(p))
        }
        (Transport::Multicast, _) | (_, Transport::Multicast) => false,
    }
}

fn unicast_is_no_vip(d: &Draft, i: usize, instance: &Instance, all: &Instances, f: &mut Findings) {
    let Transport::Unicast { source, peers } = &instance.transport else {
        return;
    };
    let is_vip = |a: IpAddr| {
        all.list
            .iter()
            .any(|(_, o)| o.virtual_ips.iter().any(|v| v.addr() == a))
    };
    let at = d.instance_path(i);
    let source = source.map(|s| (at.key("unicastSourceIP"), s));
    let peers = peers
        .iter()
        .enumerate()
        .map(|(n, p)| (at.key("unicastPeers").index(n), *p));
    for (at, address) in source.into_iter().chain(peers) {
        if is_vip(address) {
            f.refuse(
                Problem::new(
                    &at,
                    format!("{address} is a virtual IP: it is on whichever node holds it"),
                )
                .help("give the address that the node keeps for itself"),
            );
        }
    }
}
