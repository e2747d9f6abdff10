//! `vrrpInstances[]`: one instance by itself. What it shares with others is in `cross`.
use super::super::path::Path;
use super::super::problem::{Findings, Problem};
use super::super::raw::{Garp, Track, VirtualServer, VrrpInstance};
use super::{Dialect, advert, bad_interface, bad_name, is_interface, is_name, number, track, unicast};
use crate::model::{AuthPass, Family, IpPrefix, MacAddr, Priority, Version, Vrid};
use crate::spec::{Announce, Instance, InterfaceSelector};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

/// k0s's `addressLabel`, and ours.
const ADDRESS_LABEL: u32 = 10_000;
/// VRRP counts them in a byte.
const MAX_IPV4_VIPS: usize = 255;
/// What one packet of 1500 bytes carries beside its headers.
const MAX_IPV6_VIPS: usize = 90;

/// `None`: it has problems, and they are noted.
pub(super) fn check(
    dialect: Dialect,
    raw: &VrrpInstance,
    (index, at): (usize, &Path),
    servers: &[VirtualServer],
    f: &mut Findings,
) -> Option<Instance> {
    let vips = virtual_ips(raw, at, f);
    let serves = vips.as_ref().is_some_and(|v| serves(v, servers));
    let family = vips.as_ref().and_then(|v| v.first()).map(|p| p.family());
    let name = name(raw, index, at, f);
    let interface = interface(raw, at, f);
    let vrid = vrid(dialect, raw, index, at, f);
    let version = version(raw, family, at, f);
    let auth_pass = auth_pass(dialect, raw, version, at, f);
    let advert_interval = advert::interval(raw, version, at, f);
    let (preempt, preempt_delay) = advert::preempt(raw, at, f);
    let transport = unicast::check(dialect, raw, family, at, f);
    let priority = priority(raw, preempt, at, f);
    let announce = announce(raw.garp.as_ref(), &at.key("garp"), f);
    let track = track::track(raw, serves, at, f);
    let notify = track::notify(raw, at, f);
    let address_label = label(raw, at, f);
    if raw.v3_checksum.is_some() && (version == Some(Version::V2) || family == Some(Family::Ipv6)) {
        f.warn(Problem::new(
            &at.key("v3Checksum"),
            "v3Checksum has no effect: it is for IPv4 with version 3",
        ));
    }
    Some(Instance {
        name: name?,
        virtual_ips: vips?,
        interface: interface?,
        vrid: vrid?,
        version: version?,
        priority: priority?,
        preempt,
        preempt_delay: preempt_delay?,
        advert_interval: advert_interval?,
        auth_pass: auth_pass?,
        transport: transport?,
        checksum: raw.v3_checksum.unwrap_or_default(),
        announce: announce?,
        track: track?,
        notify: notify?,
        address_label: address_label?,
    })
}

/// Whether a virtual server is on one of the addresses.
fn serves(vips: &[IpPrefix], servers: &[VirtualServer]) -> bool {
    let mut addresses = servers
        .iter()
        .filter_map(|s| s.ip_address.as_ref()?.parse::<IpAddr>().ok());
    addresses.any(|a| vips.iter().any(|v| v.addr() == a))
}

fn name(raw: &VrrpInstance, index: usize, at: &Path, f: &mut Findings) -> Option<String> {
    match &raw.name {
        None => Some(format!("k0s-vip-{index}")),
        Some(n) if is_name(n) => Some(n.clone()),
        Some(_) => {
            f.refuse(bad_name(&at.key("name")));
            None
        }
    }
}

fn virtual_ips(raw: &VrrpInstance, at: &Path, f: &mut Findings) -> Option<Vec<IpPrefix>> {
    let at = at.key("virtualIPs");
    let list = raw.virtual_ips.as_deref().unwrap_or_default();
    if list.is_empty() {
        f.refuse(
            Problem::new(&at, "VirtualIPs must be defined")
                .help("give a list of addresses with prefix length: [192.168.122.200/24]"),
        );
        return None;
    }
    let most = if list.iter().any(|v| v.contains(':')) {
        MAX_IPV6_VIPS
    } else {
        MAX_IPV4_VIPS
    };
    if list.len() > most {
        let message = format!(
            "{} addresses, but an advertisement holds at most {most}",
            list.len()
        );
        f.refuse(Problem::new(&at, message).help("spread them over several instances"));
        return None;
    }
    let mut vips: Vec<IpPrefix> = Vec::new();
    for (i, text) in list.iter().enumerate() {
        let at = at.index(i);
        let Some(vip) = f.take(virtual_ip(text, &at)) else {
            continue;
        };
        match vips.first() {
            Some(first) if first.family() != vip.family() => f.refuse(
                Problem::new(
                    &at,
                    format!(
                        "{} among the {} addresses of this instance",
                        vip.family(),
                        first.family()
                    ),
                )
                .help("VRRP elects for one family at a time: give the other family an instance of its own"),
            ),
            _ if vips.iter().any(|v| v.addr() == vip.addr()) => {
                f.refuse(Problem::new(&at, format!("{} is in this list twice", vip.addr())));
            }
            _ => vips.push(vip),
        }
    }
    (vips.len() == list.len()).then_some(vips)
}

fn virtual_ip(text: &str, at: &Path) -> Result<IpPrefix, Problem> {
    let vip: IpPrefix = text.parse().map_err(|e| {
        let help = match text.parse::<IpAddr>() {
            Ok(a) => format!(
                "add the prefix length of the subnet that it is in: {a}/{}",
                if a.is_ipv4() { 24 } else { 64 }
            ),
            Err(_) => format!("{e}"),
        };
        Problem::new(at, format!("VirtualIPs must be a CIDR. Got: {text}")).help(help)
    })?;
    let what = match vip.addr() {
        a if a.is_unspecified() => Some("the unspecified address"),
        a if a.is_multicast() => Some("a multicast address"),
        a if a.is_loopback() => Some("a loopback address"),
        IpAddr::V4(a) if a.is_broadcast() => Some("the broadcast address"),
        IpAddr::V6(a) if a.to_ipv4_mapped().is_some() => Some("an IPv4 address written as IPv6"),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    };
    match what {
        Some(what) => Err(Problem::new(
            at,
            format!("{} is {what}: it cannot move from node to node", vip.addr()),
        )
        .help("take an address of the nodes' subnet that nobody else uses")),
        None if vip.broadcast().is_some_and(|b| IpAddr::V4(b) == vip.addr()) => Err(Problem::new(
            at,
            format!("{} is the broadcast address of its subnet", vip.addr()),
        )),
        None => Ok(vip),
    }
}

/// MAC addresses in all spellings that Go knows for 48 bits: `aa:bb:..`, `aa-bb-..` and `aabb.ccdd.eeff`.
fn mac(text: &str) -> Option<MacAddr> {
    if let Ok(mac) = text.parse() {
        return Some(mac);
    }
    let parts: Vec<&str> = text.split('.').collect();
    if parts.len() != 3 || parts.iter().any(|p| p.len() != 4) {
        return None;
    }
    let n = parts.iter().try_fold(0_u64, |n, p| {
        Some(n << 16 | u64::from(u16::from_str_radix(p, 16).ok()?))
    })?;
    let [_, _, mac @ ..] = n.to_be_bytes();
    Some(MacAddr(mac))
}

fn interface(raw: &VrrpInstance, at: &Path, f: &mut Findings) -> Option<InterfaceSelector> {
    let Some(text) = &raw.interface else {
        return Some(InterfaceSelector::Auto);
    };
    if let Some(mac) = mac(text) {
        return Some(InterfaceSelector::Mac(mac));
    }
    if is_interface(text) {
        return Some(InterfaceSelector::Name(text.clone()));
    }
    let help = "write a name of at most 15 bytes such as eth0, or a MAC address such as 52:54:00:12:34:56";
    f.refuse(bad_interface(&at.key("interface"), text).help(help));
    None
}

fn vrid(dialect: Dialect, raw: &VrrpInstance, index: usize, at: &Path, f: &mut Findings) -> Option<Vrid> {
    let at = at.key("virtualRouterID");
    let id = match raw.virtual_router_id {
        Some(n) => u8::try_from(n).ok().and_then(Vrid::new),
        None => {
            let id = index
                .checked_add(51)
                .and_then(|n| u8::try_from(n).ok())
                .and_then(Vrid::new);
            if id.is_none() {
                f.refuse(Problem::new(
                    &at,
                    "automatic virtualRouterIDs exceeded, specify them explicitly",
                ));
            }
            return id;
        }
    };
    if id.is_none() {
        let zero = if dialect.is_native() {
            "leave it out for 51 + index"
        } else {
            "0 or none is 51 + index"
        };
        f.refuse(Problem::new(&at, "VirtualRouterID must be in the range of 1-255").help(zero));
    }
    id
}

fn version(raw: &VrrpInstance, family: Option<Family>, at: &Path, f: &mut Findings) -> Option<Version> {
    let at = at.key("version");
    match (raw.version, family) {
        (Some(2), Some(Family::Ipv6)) => {
            f.refuse(
                Problem::new(&at, "VRRP version 2 cannot carry IPv6 addresses")
                    .help("write version: 3, or leave it out"),
            );
            None
        }
        (Some(2), _) => Some(Version::V2),
        (Some(3), _) => Some(Version::V3),
        (Some(n), _) => {
            f.refuse(
                Problem::new(&at, format!("there is no VRRP version {n}"))
                    .help("write 2 (RFC 3768) or 3 (RFC 9568)"),
            );
            None
        }
        (None, None) => None,
        (None, Some(Family::Ipv4)) if raw.auth_pass.is_some() => Some(Version::V2),
        (None, Some(_)) => Some(Version::V3),
    }
}

/// The outer `None`: refused. The inner one: no password.
#[expect(clippy::option_option, reason = "refused, none and some are three things")]
fn auth_pass(
    dialect: Dialect,
    raw: &VrrpInstance,
    version: Option<Version>,
    at: &Path,
    f: &mut Findings,
) -> Option<Option<AuthPass>> {
    let at = at.key("authPass");
    let Some(text) = &raw.auth_pass else {
        if dialect.is_native() {
            return Some(None);
        }
        f.refuse(
            Problem::new(&at, "AuthPass must be defined")
                .help("give a password of 1 to 8 characters, the same on all nodes of this cluster"),
        );
        return None;
    };
    if text.is_empty() {
        f.refuse(Problem::new(&at, "AuthPass must be defined").help("leave the key out for no password"));
        return None;
    }
    let Some(pass) = AuthPass::new(text) else {
        let help = if text.chars().count() > 8 {
            "VRRP has room for 8 bytes"
        } else {
            "VRRP has room for 8 bytes; these characters take more than one each"
        };
        f.refuse(Problem::new(&at, "AuthPass must be 8 characters or less").help(help));
        return None;
    };
    if text.contains('\0') {
        f.refuse(Problem::new(
            &at,
            "AuthPass holds a NUL character, with which VRRP fills up shorter passwords",
        ));
        return None;
    }
    if version == Some(Version::V3) {
        f.warn(
            Problem::new(
                &at,
                "authPass has no effect on VRRP, whose version 3 has no authentication",
            )
            .help("keep strangers out with the firewall: IP protocol 112 from the other nodes only"),
        );
        // It is shared and secret all the same: the XDP datapath's hash is made of it.
        return Some(Some(pass));
    }
    let odd = |c: char| !c.is_ascii_graphic() || matches!(c, '"' | '\'' | '#' | '!' | '{' | '}');
    if !dialect.is_native() && text.contains(odd) {
        f.warn(
            Problem::new(
                &at,
                "keepalived reads this password differently than it is written here",
            )
            .help("use letters and digits while nodes of this cluster still run keepalived"),
        );
    }
    Some(Some(pass))
}

fn priority(raw: &VrrpInstance, preempt: bool, at: &Path, f: &mut Findings) -> Option<Priority> {
    let at_priority = at.key("priority");
    let n: u8 = f.take(number(
        raw.priority.unwrap_or(200),
        1,
        255,
        &at_priority,
        "priority",
    ))?;
    let priority = Priority::new(n)?;
    if priority.is_owner() {
        if !preempt {
            let message = "preempt: false has no effect: the owner (priority 255) always takes over";
            f.warn(Problem::new(&at.key("preempt"), message));
        }
        let weighs = |t: &Track| t.weight.is_some_and(|w| w != 0);
        if raw.track.iter().flatten().any(weighs) {
            let message = "weights have no effect: the owner's priority (255) never moves";
            f.warn(Problem::new(&at.key("track"), message).help("write a priority of at most 254"));
        }
    }
    Some(priority)
}

fn announce(raw: Option<&Garp>, at: &Path, f: &mut Findings) -> Option<Announce> {
    let d = Announce::default();
    let Some(raw) = raw else {
        return Some(d);
    };
    let hour = Duration::from_secs(3600);
    let span = |value, key: &str, f: &mut Findings| {
        f.take(advert::span(value, Duration::ZERO, hour, &at.key(key), key))
    };
    let repeat = raw.repeat.map_or(Some(d.repeat), |n| {
        f.take(number(n, 1, 255, &at.key("repeat"), "repeat"))
    });
    let delay = raw.delay.map_or(Some(d.delay), |v| span(v, "delay", f));
    let refresh = raw.refresh.map_or(Some(d.refresh), |v| {
        span(v, "refresh", f).map(|r| (!r.is_zero()).then_some(r))
    });
    let interval = raw.interval.map_or(Some(d.interval), |v| span(v, "interval", f));
    Some(Announce {
        repeat: repeat?,
        delay: delay?,
        refresh: refresh?,
        interval: interval?,
    })
}

fn label(raw: &VrrpInstance, at: &Path, f: &mut Findings) -> Option<u32> {
    let at = at.key("addressLabel");
    match raw.address_label {
        None => Some(ADDRESS_LABEL),
        Some(0xffff_ffff) => {
            f.refuse(Problem::new(&at, "AddressLabel 0xffffffff is reserved"));
            None
        }
        Some(n) => f.take(number(n, 0, 0xffff_fffe, &at, "addressLabel")),
    }
}
