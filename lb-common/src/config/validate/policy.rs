//! How one port of a virtual server is balanced: what its own policy says, else what the server says, else the default.
use super::super::path::Path;
use super::super::problem::{Findings, Problem};
use super::super::raw::server::{MAGLEV, SOURCE};
use super::super::raw::{Granularity, HealthCheck as RawCheck, PortPolicy, Tunnel, VirtualServer};
use super::{Dialect, advert, number, port, proxy, xdp};
use crate::model::{Family, Forwarding, Persistence, Protocol, Scheduler, SchedulerFlags, TunnelType};
use crate::spec::{DatapathKind, HealthCheck, HealthCheckKind, ProxyProtocol};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::Ipv4Addr;
use core::time::Duration;

/// Those that k0s lets through.
const K0S_SCHEDULERS: &[&str] = &["rr", "wrr", "lc", "wlc", "lblc", "dh", "sh", "sed", "nq"];
/// Checks that are planned, so that asking for one is no typing mistake.
const PLANNED_CHECKS: &[&str] = &["tls", "http", "https", "exec"];

/// A server and, where one port has it, a policy on top.
pub(super) struct Layers<'a> {
    pub(super) dialect: Dialect,
    pub(super) server: (&'a VirtualServer, Path),
    pub(super) port: Option<(&'a PortPolicy, Path)>,
}

/// What a layer says, and where it does.
pub(super) struct Given<'a, T> {
    pub(super) value: &'a T,
    pub(super) at: Path,
    by_port: bool,
}

impl<T> Given<'_, T> {
    /// Whether `main`, on which this depends, was replaced for this port while this was not: it is then meant for the
    /// other ports.
    fn outdated_by<U>(&self, main: Option<&Given<'_, U>>) -> bool {
        !self.by_port && main.is_some_and(|m| m.by_port)
    }
}

macro_rules! given {
    ($layers:expr, $field:ident, $key:literal) => {{
        let own = $layers
            .port
            .as_ref()
            .and_then(|(p, at)| Some((p.$field.as_ref()?, at, true)));
        let (server, at) = &$layers.server;
        own.or_else(|| Some((server.$field.as_ref()?, at, false)))
            .map(|(value, at, by_port)| Given {
                value,
                at: at.key($key),
                by_port,
            })
    }};
}

/// All but the key and the real servers.
pub(super) struct Policy {
    pub(super) protocol: Protocol,
    pub(super) datapath: DatapathKind,
    pub(super) scheduler: Scheduler,
    pub(super) flags: SchedulerFlags,
    pub(super) forwarding: Forwarding,
    pub(super) persistence: Option<Persistence>,
    pub(super) health_check: HealthCheck,
    pub(super) proxy_protocol: ProxyProtocol,
}

/// `None`: it has problems, and they are noted.
pub(super) fn check(l: &Layers<'_>, family: Family, f: &mut Findings) -> Option<Policy> {
    let protocol = protocol(l, f);
    let datapath = datapath(l, f);
    let header = given!(l, proxy_protocol, "proxyProtocol");
    let proxy_protocol = proxy::protocol(header.as_ref(), datapath, f);
    if datapath == Some(DatapathKind::Proxy) {
        let scheduler = proxy::policy(&asked(l), protocol, f);
        let health_check = health_check(l, protocol, f);
        return Some(Policy {
            protocol: protocol?,
            datapath: DatapathKind::Proxy,
            scheduler: scheduler?,
            flags: SchedulerFlags::default(),
            // It opens connections of its own, so real servers need not know of the virtual IP, and ports may differ.
            forwarding: Forwarding::Nat,
            persistence: None,
            health_check: health_check?,
            proxy_protocol: proxy_protocol?,
        });
    }
    let insists = datapath == Some(DatapathKind::Xdp);
    let scheduler = scheduler(l, insists, f);
    let flags = scheduler.and_then(|s| flags(l, s, protocol, f));
    let forwarding = forwarding(l, f);
    let persistence = persistence(l, family, f);
    let health_check = health_check(l, protocol, f);
    let policy = Policy {
        protocol: protocol?,
        datapath: datapath?,
        scheduler: scheduler?,
        flags: flags?,
        forwarding: forwarding?,
        persistence: persistence?,
        health_check: health_check?,
        proxy_protocol: proxy_protocol?,
    };
    (!insists || xdp::policy(&policy, &places(l), f)).then_some(policy)
}

/// Where the layers say what the XDP datapath has to look at.
fn places<'a>(l: &'a Layers<'_>) -> xdp::Places<'a> {
    let kind = given!(l, lb_kind, "lbKind");
    let tunnel = given!(l, tunnel, "tunnel").filter(|g| !g.outdated_by(kind.as_ref()));
    xdp::Places {
        datapath: given!(l, datapath, "datapath").map_or_else(|| l.server.1.clone(), |g| g.at),
        protocol: given!(l, protocol, "protocol").map(|g| g.at),
        tunnel: tunnel.map(|g| g.at.key("type")),
        forwarding: kind.map(|g| g.at),
        flags: flags_given(l),
        persistence: given!(l, persistence_timeout_seconds, "persistenceTimeoutSeconds").map(|g| g.at),
    }
}

/// What a server that insists on the proxy says of what is not the same there.
fn asked<'a>(l: &'a Layers<'_>) -> proxy::Asked<'a> {
    let datapath = given!(l, datapath, "datapath");
    // Said for the ports of another datapath.
    let meant = |by_port: bool| by_port || !datapath.as_ref().is_some_and(|d| d.by_port);
    proxy::Asked {
        protocol: given!(l, protocol, "protocol").map(|g| g.at),
        algorithm: given!(l, lb_algo, "lbAlgo").filter(|g| meant(g.by_port)),
        flags: given!(l, scheduler_flags, "schedulerFlags")
            .filter(|g| meant(g.by_port))
            .map(|g| g.at),
        forwarding: given!(l, lb_kind, "lbKind")
            .filter(|g| meant(g.by_port))
            .map(|g| g.at),
        tunnel: given!(l, tunnel, "tunnel")
            .filter(|g| meant(g.by_port))
            .map(|g| g.at),
        persistence: given!(l, persistence_timeout_seconds, "persistenceTimeoutSeconds")
            .filter(|g| meant(g.by_port)),
        datapath: datapath
            .as_ref()
            .map_or_else(|| l.server.1.clone(), |g| g.at.clone()),
    }
}

pub(super) fn one_of(names: &[&str]) -> String {
    format!("write one of {}", names.join(", "))
}

fn protocol(l: &Layers<'_>, f: &mut Findings) -> Option<Protocol> {
    let Some(g) = given!(l, protocol, "protocol") else {
        return Some(Protocol::Tcp);
    };
    let names: Vec<&str> = Protocol::ALL.iter().map(|p| p.name()).collect();
    f.take(
        g.value
            .parse()
            .map_err(|_| Problem::new(&g.at, format!("{:?} is no protocol", g.value)).help(one_of(&names))),
    )
}

fn datapath(l: &Layers<'_>, f: &mut Findings) -> Option<DatapathKind> {
    let Some(g) = given!(l, datapath, "datapath") else {
        return Some(DatapathKind::Auto);
    };
    let problem = match g.value.as_str() {
        "auto" => return Some(DatapathKind::Auto),
        "ipvs" => return Some(DatapathKind::Ipvs),
        "xdp" => return Some(DatapathKind::Xdp),
        "proxy" => return Some(DatapathKind::Proxy),
        other => Problem::new(&g.at, format!("{other:?} is no datapath"))
            .help(one_of(&["auto", "ipvs", "xdp", "proxy"])),
    };
    f.refuse(problem);
    None
}

fn scheduler(l: &Layers<'_>, insists_on_xdp: bool, f: &mut Findings) -> Option<Scheduler> {
    let given = given!(l, lb_algo, "lbAlgo");
    if insists_on_xdp {
        let datapath = given!(l, datapath, "datapath");
        return xdp::scheduler(given.filter(|g| !g.outdated_by(datapath.as_ref())).as_ref(), f);
    }
    let Some(g) = given else {
        return Some(Scheduler::RoundRobin);
    };
    let known = match g.value.as_str() {
        MAGLEV => Some(Scheduler::MaglevHash),
        SOURCE => Some(Scheduler::SourceHash),
        name => name.parse().ok(),
    };
    let allowed = |s: &Scheduler| l.dialect.is_native() || K0S_SCHEDULERS.contains(&s.name());
    if let Some(scheduler) = known.filter(allowed) {
        return Some(scheduler);
    }
    let names: Vec<&str> = Scheduler::ALL
        .iter()
        .filter(|s| allowed(s))
        .map(|s| s.name())
        .collect();
    let native = if known.is_some() {
        "; a native file (cplb.io/v1alpha1) takes it too"
    } else {
        ""
    };
    let help = format!("{}{native}", one_of(&names));
    // k0s's text ends in a space.
    f.refuse(Problem::new(&g.at, format!("invalid LBAlgo: {} ", g.value)).help(help));
    None
}

/// Unless they are meant for another scheduler, or for that of another datapath.
fn flags_given<'a>(l: &'a Layers<'_>) -> Option<Given<'a, Vec<String>>> {
    let algorithm = given!(l, lb_algo, "lbAlgo");
    let datapath = given!(l, datapath, "datapath");
    let insists = datapath.as_ref().is_some_and(|d| d.value == "xdp");
    given!(l, scheduler_flags, "schedulerFlags")
        .filter(|g| !g.outdated_by(algorithm.as_ref()))
        .filter(|g| !insists || !g.outdated_by(datapath.as_ref()))
}

fn flags(
    l: &Layers<'_>,
    scheduler: Scheduler,
    protocol: Option<Protocol>,
    f: &mut Findings,
) -> Option<SchedulerFlags> {
    let mut flags = SchedulerFlags::default();
    let Some(g) = flags_given(l) else {
        return Some(flags);
    };
    let before = f.problems.len();
    for (i, flag) in g.value.iter().enumerate() {
        let at = g.at.index(i);
        let (needs, field) = match flag.as_str() {
            "sh-fallback" => (Some(Scheduler::SourceHash), &mut flags.fallback),
            "sh-port" => (Some(Scheduler::SourceHash), &mut flags.port),
            "mh-fallback" => (Some(Scheduler::MaglevHash), &mut flags.fallback),
            "mh-port" => (Some(Scheduler::MaglevHash), &mut flags.port),
            "ops" => (None, &mut flags.one_packet),
            other => {
                let help = one_of(&["sh-fallback", "sh-port", "mh-fallback", "mh-port", "ops"]);
                f.refuse(Problem::new(&at, format!("{other:?} is no scheduler flag")).help(help));
                continue;
            }
        };
        *field = true;
        if let Some(needs) = needs.filter(|n| *n != scheduler) {
            let message = format!("{flag} is for the scheduler {needs}, but lbAlgo is {scheduler}");
            f.refuse(Problem::new(&at, message));
        } else if needs.is_none() && protocol.is_some_and(|p| p != Protocol::Udp) {
            f.refuse(Problem::new(
                &at,
                "ops balances each datagram by itself, which only UDP stands",
            ));
        }
    }
    (f.problems.len() == before).then_some(flags)
}

fn forwarding(l: &Layers<'_>, f: &mut Findings) -> Option<Forwarding> {
    let main = given!(l, lb_kind, "lbKind");
    let tunnel = given!(l, tunnel, "tunnel").filter(|g| !g.outdated_by(main.as_ref()));
    let forwarding = match main.as_ref().map(|g| g.value.as_str()) {
        None | Some("DR") => Forwarding::DirectRouting,
        Some("NAT") => Forwarding::Nat,
        Some("TUN") => return wrapping(tunnel.as_ref(), f),
        Some(other) => {
            if let Some(g) = &main {
                // k0s's text ends in a space.
                let problem = Problem::new(&g.at, format!("invalid LBKind: {other} "));
                f.refuse(problem.help(one_of(&["DR", "NAT", "TUN"])));
            }
            return None;
        }
    };
    if let Some(g) = tunnel {
        let message = format!("tunnel is for lbKind TUN, but lbKind is {}", forwarding.name());
        f.refuse(Problem::new(&g.at, message).help("write lbKind: TUN, or remove tunnel"));
        return None;
    }
    Some(forwarding)
}

fn wrapping(tunnel: Option<&Given<'_, Tunnel>>, f: &mut Findings) -> Option<Forwarding> {
    let ipip = Forwarding::Tunnel {
        kind: TunnelType::Ipip,
        port: 0,
    };
    let Some(g) = tunnel else {
        return Some(ipip);
    };
    let names: Vec<&str> = TunnelType::ALL.iter().map(|p| p.name()).collect();
    let kind = g.value.kind.as_deref().unwrap_or("ipip");
    let kind = f.take(kind.parse::<TunnelType>().map_err(|_| {
        Problem::new(&g.at.key("type"), format!("{kind:?} is no tunnel type")).help(one_of(&names))
    }))?;
    let at = g.at.key("port");
    let udp_port = match (kind, g.value.port) {
        (TunnelType::Gue, None) => {
            f.refuse(
                Problem::new(&at, "gue needs a port")
                    .help("give the UDP port that the real servers listen on for GUE"),
            );
            None
        }
        (TunnelType::Gue, Some(p)) => f.take(port(p, &at, "port")),
        (TunnelType::Ipip | TunnelType::Gre, None | Some(0)) => Some(0),
        (TunnelType::Ipip | TunnelType::Gre, Some(_)) => {
            f.refuse(Problem::new(&at, format!("{kind} has no port")).help("remove it, or write type: gue"));
            None
        }
    };
    Some(Forwarding::Tunnel {
        kind,
        port: udp_port?,
    })
}

/// The outer `None`: refused. The inner one: no persistence.
#[expect(clippy::option_option, reason = "refused, off and on are three things")]
fn persistence(l: &Layers<'_>, family: Family, f: &mut Findings) -> Option<Option<Persistence>> {
    let main = given!(l, persistence_timeout_seconds, "persistenceTimeoutSeconds");
    let granularity = given!(l, persistence_granularity, "persistenceGranularity")
        .filter(|g| !g.outdated_by(main.as_ref()));
    let seconds = match &main {
        None => 360,
        Some(g) if *g.value == 0 => {
            if let Some(g) = granularity {
                let message = "persistenceGranularity has no effect: persistenceTimeoutSeconds is 0";
                f.warn(Problem::new(&g.at, message));
            }
            return Some(None);
        }
        Some(g) if (1..=2_678_400).contains(g.value) => *g.value,
        Some(g) => {
            let help = if l.dialect.is_native() {
                "0 turns persistence off"
            } else {
                "0 or none is 360"
            };
            f.refuse(Problem::new(&g.at, "PersistenceTimeout must be in the range of 1-2678400").help(help));
            return None;
        }
    };
    let granularity = match granularity {
        None => family.bits(),
        Some(g) => f.take(bits(g.value, family, &g.at))?,
    };
    Some(Some(Persistence {
        timeout: Duration::from_secs(u64::try_from(seconds).unwrap_or(360)),
        granularity,
    }))
}

fn bits(value: &Granularity, family: Family, at: &Path) -> Result<u8, Problem> {
    match value {
        Granularity::Bits(n) => number(*n, 1, i64::from(family.bits()), at, "persistenceGranularity"),
        Granularity::Mask(text) => {
            let mask = text
                .parse::<Ipv4Addr>()
                .ok()
                .filter(|_| family == Family::Ipv4)
                .map(Ipv4Addr::to_bits);
            match mask {
                Some(m) if m != 0 && m.leading_ones() + m.trailing_zeros() == 32 => {
                    Ok(u8::try_from(m.leading_ones()).unwrap_or(32))
                }
                _ => Err(
                    Problem::new(at, format!("{text:?} is no netmask of an {family} server"))
                        .help("write the number of leading bits that clients of one group share, such as 24"),
                ),
            }
        }
    }
}

fn health_check(l: &Layers<'_>, protocol: Option<Protocol>, f: &mut Findings) -> Option<HealthCheck> {
    let default = if protocol.is_none_or(|p| p == Protocol::Tcp) {
        HealthCheckKind::Tcp
    } else {
        HealthCheckKind::None
    };
    let none = RawCheck::default();
    let (raw, at) = match given!(l, health_check, "healthCheck") {
        Some(g) => (g.value, g.at),
        None => (&none, l.server.1.key("healthCheck")),
    };
    let kind = match raw.kind.as_deref() {
        None => {
            if default == HealthCheckKind::None {
                let message = "real servers are not checked: there is no check for this protocol by itself";
                f.warn(Problem::new(&at, message).help(
                    "write healthCheck: {type: tcp} where they listen on TCP as well, else {type: none}",
                ));
            }
            Some(default)
        }
        Some(text) => f.take(check_kind(text, &at.key("type"))),
    };
    let (shortest, hour) = (Duration::from_millis(10), Duration::from_secs(3600));
    let second = Duration::from_secs(1);
    let span = |v, key: &str, f: &mut Findings| f.take(advert::span(v, shortest, hour, &at.key(key), key));
    let interval = raw.interval.map_or(Some(second), |v| span(v, "interval", f));
    let timeout = raw.timeout.map_or(Some(second), |v| span(v, "timeout", f));
    let rise = f.take(number(raw.rise.unwrap_or(1), 1, 255, &at.key("rise"), "rise"));
    let fall = f.take(number(raw.fall.unwrap_or(3), 1, 255, &at.key("fall"), "fall"));
    Some(HealthCheck {
        kind: kind?,
        interval: interval?,
        timeout: timeout?,
        rise: rise?,
        fall: fall?,
    })
}

fn check_kind(text: &str, at: &Path) -> Result<HealthCheckKind, Problem> {
    match text {
        "tcp" => Ok(HealthCheckKind::Tcp),
        "none" => Ok(HealthCheckKind::None),
        t if PLANNED_CHECKS.contains(&t) => Err(Problem::new(
            at,
            format!("the health check {t} is not in this build yet"),
        )
        .help("write tcp or none")),
        t => Err(Problem::new(at, format!("{t:?} is no health check")).help(one_of(&["tcp", "none"]))),
    }
}
