//! `virtualServers[]`: one entry of the file to one virtual server for each of its ports.
use super::super::RealServerSource;
use super::super::facts::Facts;
use super::super::path::Path;
use super::super::problem::{Findings, Problem};
use super::super::raw::{Port, PortPolicy, VirtualServer as Raw};
use super::policy::{self, Layers, Policy};
use super::{Draft, Instances, at_most, backends, bad_name, is_name, number};
use crate::model::{Family, ServiceKey};
use crate::spec::{DatapathKind, HealthCheckKind as Kind, VirtualServer};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;

/// With their ports.
const MAX_SERVERS: usize = 1024;

type Servers = (Vec<VirtualServer>, Vec<RealServerSource>);

/// Those that are sound; where one is not, that is noted.
pub(super) fn check_all(d: &Draft, all: &Instances, facts: &Facts, f: &mut Findings) -> Servers {
    let mut out: Servers = Default::default();
    let count = d
        .servers
        .iter()
        .map(|s| s.ports.as_ref().map_or(1, Vec::len))
        .sum::<usize>();
    if !at_most(count, MAX_SERVERS, &d.base.key("virtualServers"), f) {
        return out;
    }
    for (i, raw) in d.servers.iter().enumerate() {
        check(d, all, facts, (raw, &d.server_path(i)), &mut out, f);
    }
    backends::unused_flags(d, facts, f);
    out
}

fn check(
    d: &Draft,
    all: &Instances,
    facts: &Facts,
    (raw, at): (&Raw, &Path),
    out: &mut Servers,
    f: &mut Findings,
) {
    if raw.name.as_deref().is_some_and(|n| !is_name(n)) {
        f.refuse(bad_name(&at.key("name")));
    }
    let address = f.take(address(raw, at));
    let instance = address.and_then(|a| carrier(d, all, a, &at.key("ipAddress"), f));
    // The policy is checked in any case, so that all that is wrong with an entry is said at once.
    let family = address.map_or(Family::Ipv4, Family::of);
    let ports = ports(d, raw, at);
    if ports.is_empty() {
        f.refuse(
            Problem::new(&at.key("ports"), "ports is empty").help("leave it out for the API server's port"),
        );
    }
    let single = ports.len() == 1;
    for (number, own) in ports {
        let place = own.as_ref().map_or_else(|| at.clone(), |(_, at)| at.clone());
        let layers = Layers {
            dialect: d.dialect,
            server: (raw, at.clone()),
            port: own,
            api: number.as_ref().is_ok_and(|n| *n == d.api_port),
        };
        let policy = policy::check(&layers, family, f);
        let number = f.take(number);
        let (Some(policy), Some(number), Some(address), Some(instance)) = (policy, number, address, instance)
        else {
            continue;
        };
        let key = ServiceKey {
            address,
            port: number,
            protocol: policy.protocol,
        };
        if !any_port_is_possible(&policy, number, &place, f) {
            continue;
        }
        let seat = backends::Seat {
            raw,
            at,
            key,
            forwarding: policy.forwarding,
            datapath: policy.datapath,
            instance,
        };
        let servers = backends::check(d, all, facts, &seat, f);
        let name = name(raw, key, single);
        unique(&name, key, &place, &out.0, f);
        source_is_no_vip(all, &policy, at, f);
        let sorry = (policy.care.sorry_server.as_ref()).map(|(s, at)| backends::sorry(all, &seat, s, at, f));
        if let Some((real_servers, source)) = servers {
            attainable(&policy, &real_servers, f);
            if let (Some(Some(sorry)), Some((_, at))) = (&sorry, &policy.care.sorry_server)
                && real_servers
                    .iter()
                    .any(|s| (s.address, s.port) == (sorry.address, sorry.port))
            {
                let message = format!("{} port {} is one of the real servers", sorry.address, sorry.port);
                f.refuse(Problem::new(at, message).help("the sorry server is for when those are too few"));
            }
            out.0.push(VirtualServer {
                sorry_server: sorry.flatten(),
                ..built(name, key, instance, policy, real_servers)
            });
            out.1.push(source);
        }
    }
}

fn built(
    name: String,
    key: ServiceKey,
    instance: usize,
    policy: Policy,
    real_servers: Vec<crate::spec::RealServer>,
) -> VirtualServer {
    VirtualServer {
        name,
        key,
        instance,
        datapath: policy.datapath,
        scheduler: policy.scheduler,
        flags: policy.flags,
        forwarding: policy.forwarding,
        persistence: policy.persistence,
        health_check: policy.care.health_check,
        slow_start: policy.care.slow_start,
        quorum: policy.care.quorum,
        hysteresis: policy.care.hysteresis,
        sorry_server: None,
        proxy_protocol: policy.proxy_protocol,
        real_servers,
    }
}

/// A quorum that all servers together do not have is lost for ever.
fn attainable(policy: &Policy, servers: &[crate::spec::RealServer], f: &mut Findings) {
    let Some(quorum) = policy.care.quorum else {
        return;
    };
    let whole: u64 = servers.iter().map(|s| u64::from(s.weight)).sum();
    let needed = u64::from(quorum) + u64::from(policy.care.hysteresis);
    if needed > whole {
        let message =
            format!("the quorum needs a weight of {needed}, but all real servers together have {whole}");
        f.refuse(
            Problem::new(&policy.care.quorum_at, message).help("each real server counts with its weight"),
        );
    }
}

/// Who asks from the virtual IP gets no answer on the nodes that do not hold it.
fn source_is_no_vip(all: &Instances, policy: &Policy, at: &Path, f: &mut Findings) {
    if let Some(source) = policy
        .care
        .health_check
        .source
        .filter(|s| backends::is_vip(all, *s))
    {
        let at = at.key("healthCheck").key("sourceAddress");
        let message = format!("{source} is a virtual IP: it is on whichever node holds it");
        f.refuse(
            Problem::new(&at, message)
                .help("write an address that this node keeps for itself, or leave it out"),
        );
    }
}

fn address(raw: &Raw, at: &Path) -> Result<IpAddr, Problem> {
    let at = at.key("ipAddress");
    match raw.ip_address.as_deref() {
        None | Some("") => Err(Problem::new(&at, "IPAddress must be defined")
            .help("write one of the virtualIPs without its prefix length")),
        Some(text) => text.parse().map_err(|_| {
            let problem = Problem::new(&at, format!("invalid IP address: {text}"));
            match text.split_once('/') {
                Some((address, _)) if address.parse::<IpAddr>().is_ok() => {
                    problem.help(format!("leave the prefix length out: {address}"))
                }
                _ => problem.help("write one of the virtualIPs without its prefix length"),
            }
        }),
    }
}

/// Which instance carries the address.
fn carrier(d: &Draft, all: &Instances, address: IpAddr, at: &Path, f: &mut Findings) -> Option<usize> {
    let carries = |i: &crate::spec::Instance| i.virtual_ips.iter().any(|v| v.addr() == address);
    let found = all.list.iter().position(|(_, i)| carries(i));
    if found.is_none() && all.complete {
        let vips: Vec<String> = all
            .list
            .iter()
            .flat_map(|(_, i)| &i.virtual_ips)
            .map(|v| v.addr().to_string())
            .collect();
        let problem = Problem::new(at, format!("{address} is none of the virtualIPs")).following();
        f.refuse(if vips.is_empty() {
            problem.help(format!(
                "add an instance with it to {}",
                d.base.key("vrrpInstances")
            ))
        } else {
            problem.help(format!("the virtual IPs are {}", vips.join(", ")))
        });
    }
    found
}

type PortAndPolicy<'a> = (Result<u16, Problem>, Option<(&'a PortPolicy, Path)>);

fn ports<'a>(d: &Draft, raw: &'a Raw, at: &Path) -> Vec<PortAndPolicy<'a>> {
    let Some(list) = &raw.ports else {
        return [(Ok(d.api_port), None)].into();
    };
    let at = at.key("ports");
    let one = |(i, port): (usize, &'a Port)| {
        let at = at.index(i);
        match port {
            Port::Number(n) => (number(*n, 0, 65535, &at, "port"), None),
            Port::Policy(p) => {
                let number = match p.port {
                    Some(n) => number(n, 0, 65535, &at.key("port"), "port"),
                    None => Err(Problem::new(&at.key("port"), "port must be defined")),
                };
                (number, Some((&**p, at)))
            }
        }
    };
    list.iter().enumerate().map(one).collect()
}

/// Port 0 is every port: IPVS takes it with persistence only, and there is no port to knock on.
fn any_port_is_possible(policy: &Policy, port: u16, at: &Path, f: &mut Findings) -> bool {
    if port != 0 {
        return true;
    }
    let before = f.problems.len();
    if policy.datapath == DatapathKind::Proxy {
        let message = "datapath proxy cannot listen on port 0 (every port)";
        f.refuse(Problem::new(at, message).help("list the ports"));
        return false;
    }
    if policy.persistence.is_none() && policy.datapath != DatapathKind::Xdp {
        let message = "port 0 (every port) needs persistence";
        f.refuse(Problem::new(at, message).help("give persistenceTimeoutSeconds of 1 or more"));
    }
    let needs_port = match policy.care.health_check.kind() {
        Kind::Tcp | Kind::Tls | Kind::Http | Kind::Https | Kind::Udp => true,
        Kind::Exec | Kind::Icmp | Kind::None => false,
    };
    if needs_port && policy.care.health_check.port.is_none() {
        let message = "port 0 (every port) cannot be checked";
        f.refuse(
            Problem::new(at, message).help("write healthCheck: {type: none}, or give it a port of its own"),
        );
    }
    f.problems.len() == before
}

fn name(raw: &Raw, key: ServiceKey, single: bool) -> String {
    match &raw.name {
        Some(name) if single => name.clone(),
        Some(name) => format!("{name}:{}", key.port),
        None => key.to_string(),
    }
}

fn unique(name: &str, key: ServiceKey, at: &Path, earlier: &[VirtualServer], f: &mut Findings) {
    if let Some(other) = earlier.iter().find(|o| o.key == key) {
        f.refuse(
            Problem::new(at, format!("{key} is balanced by {} already", other.name))
                .help("an address, port and protocol can be one virtual server only"),
        );
    } else if earlier.iter().any(|o| o.name == name) {
        f.refuse(Problem::new(
            &at.key("name"),
            format!("another virtual server is named {name} too"),
        ));
    }
}
