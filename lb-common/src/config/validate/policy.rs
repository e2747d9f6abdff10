//! How one port of a virtual server is balanced: what its own policy says, else what the server says, else the default.
use super::super::path::Path;
use super::super::problem::{Findings, Problem};
use super::super::raw::server::{MAGLEV, SOURCE};
use super::super::raw::{
    Granularity, HealthCheck as RawCheck, PortPolicy, SorryServer, Tunnel, VirtualServer,
};
use super::health::{self, Subject};
use super::{Dialect, advert, number, one_of, port, proxy, xdp};
use crate::health::Probe;
use crate::model::{Family, Forwarding, Persistence, Protocol, Scheduler, SchedulerFlags, TunnelType};
use crate::spec::{DatapathKind, HealthCheck, ProxyProtocol};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::Ipv4Addr;
use core::time::Duration;

/// Those that k0s lets through.
const K0S_SCHEDULERS: &[&str] = &["rr", "wrr", "lc", "wlc", "lblc", "dh", "sh", "sed", "nq"];

/// A server and, where one port has it, a policy on top.
pub(super) struct Layers<'a> {
    pub(super) dialect: Dialect,
    pub(super) server: (&'a VirtualServer, Path),
    pub(super) port: Option<(&'a PortPolicy, Path)>,
    /// It is the API server's port.
    pub(super) api: bool,
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
    pub(super) care: Care,
    pub(super) proxy_protocol: ProxyProtocol,
}

/// Which real servers are used, by their health.
pub(super) struct Care {
    pub(super) health_check: HealthCheck,
    pub(super) slow_start: Duration,
    pub(super) quorum: Option<u32>,
    pub(super) hysteresis: u32,
    /// As it is in the file, and where.
    pub(super) sorry_server: Option<(SorryServer, Path)>,
    /// Where the quorum is, for problems with its value.
    pub(super) quorum_at: Path,
}

/// `None`: it has problems, and they are noted.
pub(super) fn check(l: &Layers<'_>, family: Family, f: &mut Findings) -> Option<Policy> {
    let protocol = protocol(l, f);
    let datapath = datapath(l, f);
    let header = given!(l, proxy_protocol, "proxyProtocol");
    let proxy_protocol = proxy::protocol(header.as_ref(), datapath, f);
    if datapath == Some(DatapathKind::Proxy) {
        let scheduler = proxy::policy(&asked(l), protocol, f);
        let care = care(l, protocol, family, None, f);
        return Some(Policy {
            protocol: protocol?,
            datapath: DatapathKind::Proxy,
            scheduler: scheduler?,
            flags: SchedulerFlags::default(),
            // It opens connections of its own, so real servers need not know of the virtual IP, and ports may differ.
            forwarding: Forwarding::Nat,
            persistence: None,
            care: care?,
            proxy_protocol: proxy_protocol?,
        });
    }
    let insists = datapath == Some(DatapathKind::Xdp);
    let scheduler = scheduler(l, insists, f);
    let flags = scheduler.and_then(|s| flags(l, s, protocol, f));
    let forwarding = forwarding(l, f);
    let persistence = persistence(l, family, f);
    // XDP has no scheduler of the kernel's, and takes any weight.
    let by_ipvs = scheduler.zip(flags).filter(|_| !insists);
    let care = care(l, protocol, family, by_ipvs, f);
    let policy = Policy {
        protocol: protocol?,
        datapath: datapath?,
        scheduler: scheduler?,
        flags: flags?,
        forwarding: forwarding?,
        persistence: persistence?,
        care: care?,
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

/// `by_ipvs`: the kernel's scheduler, where one may be asked.
fn care(
    l: &Layers<'_>,
    protocol: Option<Protocol>,
    family: Family,
    by_ipvs: Option<(Scheduler, SchedulerFlags)>,
    f: &mut Findings,
) -> Option<Care> {
    let (check, at_check) = match given!(l, health_check, "healthCheck") {
        Some(g) => (g.value.clone(), g.at),
        None => (RawCheck::default(), l.server.1.key("healthCheck")),
    };
    let subject = Subject {
        protocol,
        family,
        api: l.api,
    };
    let health_check = health::check(&check, subject, &at_check, f);
    if let (Some(check), Some(by_ipvs)) = (&health_check, by_ipvs) {
        drains(l.dialect, check, by_ipvs, &at_check, f);
    }
    let slow_start = slow_start(l, by_ipvs.map(|(scheduler, _)| scheduler), f);
    let (quorum, quorum_at) = quorum(l, f);
    let hysteresis = hysteresis(l, f);
    Some(Care {
        health_check: health_check?,
        slow_start: slow_start?,
        quorum: quorum?,
        hysteresis: hysteresis?,
        sorry_server: given!(l, sorry_server, "sorryServer").map(|g| (g.value.clone(), g.at)),
        quorum_at,
    })
}

/// A server that says that it is not ready is to keep its connections, which needs a weight of 0.
fn drains(
    dialect: Dialect,
    check: &HealthCheck,
    (scheduler, flags): (Scheduler, SchedulerFlags),
    at: &Path,
    f: &mut Findings,
) {
    let says_no = matches!(check.probe, Probe::Http(_) | Probe::Https(_) | Probe::Exec(_));
    if !says_no || !scheduler.hashes() || flags.fallback {
        return;
    }
    let message = format!(
        "a real server that says that it is not ready loses its connections at once: {scheduler} without a fallback \
         refuses the clients of one that only keeps what it has"
    );
    let help = match scheduler {
        Scheduler::DestinationHash => {
            "take another lbAlgo; with one virtual IP dh sends everybody to one server".into()
        }
        other if dialect.is_native() => format!("write schedulerFlags: [{other}-fallback]"),
        other => format!("a native file (cplb.io/v1alpha1) takes schedulerFlags: [{other}-fallback]"),
    };
    f.warn(Problem::new(at, message).help(help));
}

fn slow_start(l: &Layers<'_>, scheduler: Option<Scheduler>, f: &mut Findings) -> Option<Duration> {
    let Some(g) = given!(l, slow_start, "slowStart") else {
        return Some(Duration::ZERO);
    };
    let hour = Duration::from_secs(3600);
    let over = f.take(advert::span(*g.value, Duration::ZERO, hour, &g.at, "slowStart"))?;
    let weighs = scheduler.is_none_or(Scheduler::weighs);
    if !over.is_zero() && !weighs {
        let message = format!(
            "slowStart has no effect with lbAlgo {}",
            scheduler.map_or("", Scheduler::name)
        );
        f.warn(Problem::new(&g.at, message).help("write one that has regard to weights, such as wrr or wlc"));
    }
    Some(over)
}

/// The outer `None`: refused. With where it is or would be.
#[expect(clippy::option_option, reason = "refused, none and some are three things")]
fn quorum(l: &Layers<'_>, f: &mut Findings) -> (Option<Option<u32>>, Path) {
    let Some(g) = given!(l, quorum, "quorum") else {
        return (Some(None), l.server.1.key("quorum"));
    };
    let most = i64::from(u32::MAX);
    let quorum = f.take(number(*g.value, 1, most, &g.at, "quorum"));
    (quorum.map(Some), g.at)
}

fn hysteresis(l: &Layers<'_>, f: &mut Findings) -> Option<u32> {
    let Some(g) = given!(l, hysteresis, "hysteresis") else {
        return Some(0);
    };
    let quorum = given!(l, quorum, "quorum").map_or(1, |q| *q.value);
    let most = i64::from(u32::MAX);
    let hysteresis: u32 = f.take(number(*g.value, 0, most, &g.at, "hysteresis"))?;
    if i64::from(hysteresis) >= quorum {
        let message =
            format!("hysteresis {hysteresis} is not below the quorum of {quorum}: it could never be lost");
        f.refuse(Problem::new(&g.at, message));
        return None;
    }
    Some(hysteresis)
}
