//! A namespace for each test, values to write, and what somebody else would do, by `neli` alone.
use lb_common::model::{Forwarding, Protocol, Scheduler, SchedulerFlags, ServiceKey, TunnelType};
use lb_common::plan::{Destination, Service};
use lb_userspace::datapath::ipvs::{Ipvs, IpvsError, Observed};
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
use std::net::{IpAddr, Ipv4Addr};

/// Runs `test` in a network namespace of its own, in a thread so that nothing else moves with it.
pub(crate) fn in_namespace(test: impl FnOnce(&mut Ipvs) + Send + 'static) {
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

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn key(address: &str, port: u16, protocol: Protocol) -> ServiceKey {
    ServiceKey {
        address: ip(address),
        port,
        protocol,
    }
}

pub(crate) fn api() -> Service {
    Service {
        key: key("10.0.0.10", 6443, Protocol::Tcp),
        scheduler: Scheduler::RoundRobin,
        flags: SchedulerFlags::default(),
        persistence: None,
    }
}

pub(crate) fn real(address: &str, port: u16, forwarding: Forwarding) -> Destination {
    Destination {
        address: ip(address),
        port,
        forwarding,
        weight: 1,
        upper_threshold: 0,
        lower_threshold: 0,
    }
}

pub(crate) const fn tunnel(kind: TunnelType, port: u16) -> Forwarding {
    Forwarding::Tunnel { kind, port }
}

/// The one service that there is.
pub(crate) fn only(ipvs: &mut Ipvs) -> Observed {
    let mut services = ipvs.services().unwrap();
    assert_eq!(services.len(), 1, "{services:?}");
    services.remove(0)
}

pub(crate) fn found(ipvs: &mut Ipvs) -> Vec<Service> {
    ipvs.services().unwrap().into_iter().map(|o| o.service).collect()
}

pub(crate) fn configured(observed: &Observed) -> Vec<Destination> {
    observed
        .destinations
        .iter()
        .map(|d| d.destination.clone())
        .collect()
}

/// Whether the kernel has the scheduler, or can load it.
pub(crate) fn has(ipvs: &mut Ipvs, scheduler: Scheduler) -> bool {
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

/// `ipvsadm -C`.
pub(crate) fn flush() {
    raw(17, GenlBuffer::new());
}

/// `ipvsadm -A -f MARK -s rr`.
pub(crate) fn add_firewall_mark(mark: u32) {
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
    raw(1, [service].into_iter().collect());
}

fn route_netlink(kind: Rtm, payload: impl neli::Size + neli::ToBytes, flags: NlmF) {
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
pub(crate) fn lo_up() {
    let message = IfinfomsgBuilder::default()
        .ifi_family(RtAddrFamily::Unspecified)
        .ifi_index(1)
        .up()
        .build()
        .unwrap();
    route_netlink(Rtm::Newlink, message, NlmF::empty());
}

pub(crate) fn address_on_lo(address: Ipv4Addr) {
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
