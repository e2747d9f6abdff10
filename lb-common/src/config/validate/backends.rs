//! Who serves a virtual server. The first of these that names anybody of its family is taken, and it alone:
//!
//! 1. `--backend`, so that a node can be told otherwise without touching the file that all nodes share;
//! 2. `realServers` of the virtual server;
//! 3. the controllers of a k0sctl file;
//! 4. `unicastSourceIP` and `unicastPeers` of the instance that carries the address, else of another instance.
use super::super::RealServerSource;
use super::super::facts::Facts;
use super::super::path::Path;
use super::super::problem::{Findings, Place, Problem};
use super::super::raw::{RealServer as RawServer, SorryServer, VirtualServer as Raw};
use super::{Draft, Instances, at_most, number};

use crate::model::{Family, Forwarding, ServiceKey};
use crate::spec::{DatapathKind, RealServer, Transport};
use alloc::format;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Of one virtual server.
const MAX_REAL_SERVERS: usize = 1024;

/// The virtual server whose real servers are asked for.
pub(super) struct Seat<'a> {
    pub(super) raw: &'a Raw,
    pub(super) at: &'a Path,
    pub(super) key: ServiceKey,
    pub(super) forwarding: Forwarding,
    pub(super) datapath: DatapathKind,
    /// Index into the sound instances.
    pub(super) instance: usize,
}

impl Seat<'_> {
    const fn family(&self) -> Family {
        Family::of(self.key.address)
    }

    /// Whether real servers may be of either family: a proxy connects to them by itself.
    fn mixes(&self) -> bool {
        self.datapath == DatapathKind::Proxy
    }
}

/// An address that a source other than the file's `realServers` names.
struct Candidate {
    address: IpAddr,
    port: Option<u16>,
    place: Place,
}

/// `None`: there are none, or they have problems, and that is noted.
pub(super) fn check(
    d: &Draft,
    all: &Instances,
    facts: &Facts,
    seat: &Seat<'_>,
    f: &mut Findings,
) -> Option<(Vec<RealServer>, RealServerSource)> {
    let listed = seat.raw.real_servers.as_deref().filter(|l| !l.is_empty());
    let flags = from_flags(facts, seat);
    let (mut servers, source) = if !flags.is_empty() {
        if listed.is_some() {
            let at = seat.at.key("realServers");
            f.warn(Problem::new(&at, "realServers has no effect: --backend is given"));
        }
        (named(all, seat, flags, f)?, RealServerSource::Flags)
    } else if let Some(listed) = listed {
        (from_file(all, seat, listed, f)?, RealServerSource::File)
    } else if let Some((candidates, source)) = derived(d, all, facts, seat, seat.family())
        .or_else(|| derived(d, all, facts, seat, other(seat.family())).filter(|_| seat.mixes()))
    {
        (named(all, seat, candidates, f)?, source)
    } else {
        (Vec::new(), RealServerSource::File)
    };
    if servers.is_empty() && seat.datapath == DatapathKind::Proxy && !d.dialect.is_native() {
        return Some((own(seat), RealServerSource::Own));
    }
    if servers.is_empty() {
        if all.complete {
            let message = format!("{} has no real servers", seat.key);
            f.refuse(Problem::new(seat.at, message).help(d.dialect.ways()).following());
        }
        return None;
    }
    servers.sort();
    servers.dedup();
    Some((servers, source))
}

/// What k0s's proxy begins with and, without a cluster to ask, goes on with: the API server beside it.
fn own(seat: &Seat<'_>) -> Vec<RealServer> {
    let address = match seat.family() {
        Family::Ipv4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Family::Ipv6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    [RealServer::new(address, seat.key.port)].into()
}

const fn other(family: Family) -> Family {
    match family {
        Family::Ipv4 => Family::Ipv6,
        Family::Ipv6 => Family::Ipv4,
    }
}

fn from_flags(facts: &Facts, seat: &Seat<'_>) -> Vec<Candidate> {
    let own = facts
        .backends
        .iter()
        .filter(|b| seat.mixes() || Family::of(b.address) == seat.family());
    own.map(|b| Candidate {
        address: b.address,
        port: b.port,
        place: Place::Flag(b.flag()),
    })
    .collect()
}

/// The controllers of the k0sctl file, else the unicast addresses.
fn derived(
    d: &Draft,
    all: &Instances,
    facts: &Facts,
    seat: &Seat<'_>,
    family: Family,
) -> Option<(Vec<Candidate>, RealServerSource)> {
    let controllers: Vec<Candidate> = (facts.controllers.iter())
        .filter(|c| Family::of(c.address) == family)
        .map(|c| Candidate {
            address: c.address,
            port: None,
            place: Place::Value(c.path.clone()),
        })
        .collect();
    if !controllers.is_empty() {
        return Some((controllers, RealServerSource::Controllers));
    }
    let own = all.list.get(seat.instance).into_iter();
    own.chain(&all.list).find_map(|(i, instance)| {
        // Without the source this node itself would be missing among the servers.
        let Transport::Unicast {
            source: Some(source),
            peers,
        } = &instance.transport
        else {
            return None;
        };
        if Family::of(*source) != family {
            return None;
        }
        let at = d.instance_path(*i);
        let source = (*source, at.key("unicastSourceIP"));
        let peers = peers
            .iter()
            .enumerate()
            .map(|(n, p)| (*p, at.key("unicastPeers").index(n)));
        let candidates = core::iter::once(source)
            .chain(peers)
            .map(|(address, path)| Candidate {
                address,
                port: None,
                place: Place::Value(path),
            });
        Some((
            candidates.collect(),
            RealServerSource::Unicast(instance.name.clone()),
        ))
    })
}

/// Candidates become real servers of weight 1; a node's own virtual IP, which would be served by itself in a circle, and
/// what only this machine can reach are left out.
fn named(
    all: &Instances,
    seat: &Seat<'_>,
    candidates: Vec<Candidate>,
    f: &mut Findings,
) -> Option<Vec<RealServer>> {
    let mut out = Vec::new();
    let mut sound = true;
    for c in candidates {
        let at = |message| Problem {
            place: c.place.clone(),
            message,
            help: None,
            follows: false,
        };
        if is_vip(all, c.address) {
            f.warn(at(format!(
                "{} is a virtual IP, so it is not taken for a real server",
                c.address
            )));
            continue;
        }
        if c.address.is_loopback() {
            f.warn(at(format!(
                "other nodes cannot reach {}, so it is not taken for a real server",
                c.address
            )));
            continue;
        }
        if c.address.is_unspecified() || c.address.is_multicast() {
            f.refuse(at(format!("{} is not the address of one machine", c.address)));
            sound = false;
            continue;
        }
        let port = c.port.unwrap_or(seat.key.port);
        if let Some((message, help)) = wrong_port(seat, port) {
            f.refuse(at(message).help(help));
            sound = false;
        }
        out.push(RealServer::new(c.address, port));
    }
    sound.then_some(out)
}

fn from_file(
    all: &Instances,
    seat: &Seat<'_>,
    listed: &[RawServer],
    f: &mut Findings,
) -> Option<Vec<RealServer>> {
    let mut out: Vec<RealServer> = Vec::new();
    if !at_most(listed.len(), MAX_REAL_SERVERS, &seat.at.key("realServers"), f) {
        return None;
    }
    for (i, raw) in listed.iter().enumerate() {
        let at = seat.at.key("realServers").index(i);
        let address = f.take(address(all, seat, raw, &at.key("address")));
        let at_port = at.key("port");
        let port = raw.port.map_or(Some(seat.key.port), |p| {
            f.take(number(p, 0, 65535, &at_port, "port"))
        });
        if let Some((message, help)) = port.and_then(|p| wrong_port(seat, p)) {
            f.refuse(Problem::new(&at_port, message).help(help));
            continue;
        }
        let weight = f.take(number(
            raw.weight.unwrap_or(1),
            0,
            65535,
            &at.key("weight"),
            "weight",
        ));
        let most = i64::from(u32::MAX);
        let (key_upper, key_lower) = ("upperThreshold", "lowerThreshold");
        let upper = f.take(number(
            raw.upper_threshold.unwrap_or(0),
            0,
            most,
            &at.key(key_upper),
            key_upper,
        ));
        let lower: Option<u32> = f.take(number(
            raw.lower_threshold.unwrap_or(0),
            0,
            most,
            &at.key(key_lower),
            key_lower,
        ));
        if let (Some(upper), Some(lower)) = (upper, lower)
            && lower > upper
        {
            let message = format!("lowerThreshold {lower} is above upperThreshold {upper}");
            f.refuse(Problem::new(&at.key(key_lower), message));
            continue;
        }
        if seat.datapath == DatapathKind::Xdp && upper.is_some_and(|u: u32| u > 0) {
            let message = "datapath xdp counts no connections, so it cannot stop at a threshold";
            f.refuse(Problem::new(&at.key(key_upper), message).help("remove it, or write datapath: ipvs"));
            continue;
        }
        let check_port = raw
            .check_port
            .map(|p| f.take(super::port(p, &at.key("checkPort"), "checkPort")));
        let check_address =
            (raw.check_address.as_ref()).map(|a| f.take(checked_at(all, a, &at.key("checkAddress"))));
        let (Some(address), Some(port), Some(weight), Some(upper_threshold), Some(lower_threshold)) =
            (address, port, weight, upper, lower)
        else {
            continue;
        };
        if out.iter().any(|o| (o.address, o.port) == (address, port)) {
            f.refuse(Problem::new(
                &at,
                format!("{address} port {port} is in this list twice"),
            ));
            continue;
        }
        out.push(RealServer {
            address,
            port,
            weight,
            upper_threshold,
            lower_threshold,
            check_address: check_address.flatten(),
            check_port: check_port.flatten(),
        });
    }
    (out.len() == listed.len()).then_some(out)
}

fn address(all: &Instances, seat: &Seat<'_>, raw: &RawServer, at: &Path) -> Result<IpAddr, Problem> {
    let text = raw.address.as_deref().unwrap_or_default();
    if text.is_empty() {
        return Err(
            Problem::new(at, "address must be defined").help("write the real server's own IP address")
        );
    }
    let address: IpAddr = text.parse().map_err(|_| {
        Problem::new(at, format!("invalid IP address: {text}"))
            .help("names are not looked up here: write the address")
    })?;
    if Family::of(address) != seat.family() && !seat.mixes() {
        let message = format!(
            "{address} is {}, but the virtual server is {}",
            Family::of(address),
            seat.family()
        );
        return Err(Problem::new(at, message).help("a virtual server and its real servers are of one family"));
    }
    if is_vip(all, address) {
        return Err(Problem::new(
            at,
            format!("{address} is a virtual IP, not a machine's own address"),
        )
        .help("packets for it would go round in a circle: write the node's own address"));
    }
    if address.is_unspecified() || address.is_multicast() {
        return Err(Problem::new(
            at,
            format!("{address} is not the address of one machine"),
        ));
    }
    Ok(address)
}

/// A check never asks the balanced address: whoever holds it would answer.
fn checked_at(all: &Instances, text: &str, at: &Path) -> Result<IpAddr, Problem> {
    let address: IpAddr = text
        .parse()
        .map_err(|_| Problem::new(at, format!("invalid IP address: {text}")))?;
    if is_vip(all, address) {
        let message = format!("{address} is a virtual IP: whichever node holds it would answer");
        return Err(Problem::new(at, message).help("write an address that this real server keeps for itself"));
    }
    if address.is_unspecified() || address.is_multicast() {
        return Err(Problem::new(
            at,
            format!("{address} is not the address of one machine"),
        ));
    }
    Ok(address)
}

/// Who serves while the quorum is lost. `None`: it has problems, and they are noted.
pub(super) fn sorry(
    all: &Instances,
    seat: &Seat<'_>,
    raw: &SorryServer,
    at: &Path,
    f: &mut Findings,
) -> Option<RealServer> {
    let like_one = RawServer {
        address: raw.address.clone(),
        ..RawServer::default()
    };
    let address = f.take(address(all, seat, &like_one, &at.key("address")));
    let at_port = at.key("port");
    let port = raw.port.map_or(Some(seat.key.port), |p| {
        f.take(number(p, 0, 65535, &at_port, "port"))
    })?;
    if let Some((message, help)) = wrong_port(seat, port) {
        f.refuse(Problem::new(&at_port, message).help(help));
        return None;
    }
    Some(RealServer::new(address?, port))
}

pub(super) fn is_vip(all: &Instances, address: IpAddr) -> bool {
    all.list
        .iter()
        .any(|(_, i)| i.virtual_ips.iter().any(|v| v.addr() == address))
}

/// Only NAT rewrites a port; to every port (0) belongs every port.
fn wrong_port(seat: &Seat<'_>, port: u16) -> Option<(alloc::string::String, &'static str)> {
    let (service, kind) = (seat.key.port, seat.forwarding.name());
    if port == service {
        return None;
    }
    if seat.forwarding.needs_vip_on_real_server() {
        let message =
            format!("{kind} cannot change the port: it is {service} on the virtual server and {port} here");
        return Some((message, "leave the port out, or write lbKind: NAT"));
    }
    (port == 0 || service == 0).then(|| {
        let message = format!("port {port} cannot serve port {service}");
        (message, "0 is every port, and must be on both or on neither")
    })
}

/// Flags that no virtual server can use are not ignored silently.
pub(super) fn unused_flags(d: &Draft, facts: &Facts, f: &mut Findings) {
    // A proxy's real servers are of either family.
    let mixes = d.servers.iter().any(|s| s.datapath.as_deref() == Some("proxy"));
    for b in &facts.backends {
        let family = Family::of(b.address);
        let addresses = d
            .servers
            .iter()
            .filter_map(|s| s.ip_address.as_ref()?.parse().ok());
        if d.servers.is_empty() {
            f.warn(Problem::flag(
                b.flag(),
                "no effect: the file has no virtualServers",
            ));
        } else if !mixes && !addresses.map(Family::of).any(|other| other == family) {
            f.warn(Problem::flag(
                b.flag(),
                format!("no effect: no virtual server is {family}"),
            ));
        }
    }
}
