//! The userspace proxy: its block, and what it can be asked of a virtual server.
use super::super::duration::GoDuration;
use super::super::path::Path;
use super::super::problem::{Findings, Problem};
use super::super::raw::{Keepalive as RawKeepalive, ProxyProtocol as RawProtocol};
use super::one_of;
use super::policy::Given;
use super::{Draft, advert, number, port};
use crate::model::{IpPrefix, Protocol, Scheduler};
use crate::proxy::{Keepalive, Settings, Steering};
use crate::spec::{DatapathKind, ProxyProtocol, Spec};
use crate::wire::proxy::Version;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);
const SHORTEST: Duration = Duration::from_millis(10);
/// What the kernel takes (`MAX_TCP_KEEPIDLE`).
const LONGEST_KEEPALIVE: Duration = Duration::from_secs(32_767);

/// The block `proxy`; the default where there is none.
pub(super) fn block(d: &Draft, f: &mut Findings) -> Option<Settings> {
    let usual = Settings::default();
    let Some(raw) = &d.proxy else {
        return Some(usual);
    };
    let at = d.base.key("proxy");
    let span = |value: Option<GoDuration>, default, least, most, key: &str, f: &mut Findings| match value {
        None => Some(default),
        Some(v) => f.take(advert::span(v, least, most, &at.key(key), key)),
    };
    let bind_port = match raw.bind_port {
        None => Some(None),
        Some(p) => f.take(port(p, &at.key("bindPort"), "bindPort")).map(Some),
    };
    let steering = match raw.steering.as_deref() {
        None | Some("auto") => Some(Steering::Auto),
        Some("bind") => Some(Steering::Bind),
        Some("nftables") => Some(Steering::Nftables),
        Some(other) => {
            let problem = Problem::new(&at.key("steering"), format!("{other:?} is no way of steering"));
            f.refuse(problem.help(one_of(&["auto", "bind", "nftables"])));
            None
        }
    };
    let threads = match raw.threads {
        None => Some(None),
        Some(n) => f.take(number(n, 1, 64, &at.key("threads"), "threads")).map(Some),
    };
    let max_connections = match raw.max_connections {
        None => Some(None),
        Some(n) => {
            let key = "maxConnections";
            f.take(number(n, 1, 10_000_000, &at.key(key), key)).map(Some)
        }
    };
    let connect = span(
        raw.connect_timeout,
        usual.connect_timeout,
        SHORTEST,
        HOUR,
        "connectTimeout",
        f,
    );
    let queue = span(
        raw.queue_timeout,
        usual.queue_timeout,
        SHORTEST,
        HOUR,
        "queueTimeout",
        f,
    );
    let key = "halfCloseTimeout";
    let half_close = span(
        raw.half_close_timeout,
        usual.half_close_timeout,
        SHORTEST,
        HOUR * 24,
        key,
        f,
    );
    let idle = match raw.idle_timeout.filter(|t| t.nanos() != 0) {
        None => Some(None),
        some => {
            let (least, most) = (Duration::from_secs(1), HOUR * 8760);
            span(some, HOUR, least, most, "idleTimeout", f).map(Some)
        }
    };
    let keepalive = match &raw.keepalive {
        None => Some(usual.keepalive),
        Some(raw) => keepalive(raw, &at.key("keepalive"), f),
    };
    Some(Settings {
        bind_port: bind_port?,
        steering: steering?,
        threads: threads?,
        connect_timeout: connect?,
        queue_timeout: queue?,
        idle_timeout: idle?,
        half_close_timeout: half_close?,
        keepalive: keepalive?,
        max_connections: max_connections?,
    })
}

/// The inner `None`: off.
#[expect(clippy::option_option, reason = "refused, off and on are three things")]
fn keepalive(raw: &RawKeepalive, at: &Path, f: &mut Findings) -> Option<Option<Keepalive>> {
    let usual = Keepalive::default();
    if raw.idle.is_some_and(|i| i.nanos() == 0) {
        return Some(None);
    }
    let seconds = |value: Option<GoDuration>, default, key: &str, f: &mut Findings| match value {
        None => Some(default),
        Some(v) => f.take(whole_seconds(v, &at.key(key), key)),
    };
    let idle = seconds(raw.idle, usual.idle, "idle", f);
    let interval = seconds(raw.interval, usual.interval, "interval", f);
    let probes = match raw.probes {
        None => Some(usual.probes),
        Some(n) => f.take(number(n, 1, 127, &at.key("probes"), "probes")),
    };
    Some(Some(Keepalive {
        idle: idle?,
        interval: interval?,
        probes: probes?,
    }))
}

fn whole_seconds(value: GoDuration, at: &Path, key: &str) -> Result<Duration, Problem> {
    let whole = advert::span(value, Duration::from_secs(1), LONGEST_KEEPALIVE, at, key)?;
    if whole.subsec_nanos() == 0 {
        return Ok(whole);
    }
    Err(Problem::new(
        at,
        format!("{key} counts whole seconds. Got: {value}"),
    ))
}

/// What a virtual server with datapath proxy says of what is not the same there.
pub(super) struct Asked<'a> {
    /// Where it says that it is one.
    pub(super) datapath: Path,
    pub(super) protocol: Option<Path>,
    pub(super) algorithm: Option<Given<'a, String>>,
    pub(super) flags: Option<Path>,
    pub(super) forwarding: Option<Path>,
    pub(super) tunnel: Option<Path>,
    pub(super) persistence: Option<Given<'a, i64>>,
}

/// The scheduler, if all that is asked for can be done.
pub(super) fn policy(asked: &Asked<'_>, protocol: Option<Protocol>, f: &mut Findings) -> Option<Scheduler> {
    let before = f.problems.len();
    if protocol.is_some_and(|p| p != Protocol::Tcp) {
        let at = asked.protocol.as_ref().unwrap_or(&asked.datapath);
        f.refuse(Problem::new(at, "datapath proxy carries TCP alone").help("write datapath: ipvs or xdp"));
    }
    for (key, at) in [
        ("schedulerFlags", &asked.flags),
        ("lbKind", &asked.forwarding),
        ("tunnel", &asked.tunnel),
    ] {
        if let Some(at) = at {
            let message = format!("{key} has no effect with datapath proxy");
            f.warn(Problem::new(at, message).help("it opens connections of its own to the real servers"));
        }
    }
    if let Some(g) = asked.persistence.as_ref().filter(|g| *g.value != 0) {
        f.refuse(
            Problem::new(&g.at, "datapath proxy has no persistenceTimeoutSeconds").help(
                "write lbAlgo: source, which keeps a client at its real server for as long as that one lives",
            ),
        );
    }
    let scheduler = algorithm(asked.algorithm.as_ref(), f);
    (f.problems.len() == before).then_some(scheduler).flatten()
}

fn algorithm(given: Option<&Given<'_, String>>, f: &mut Findings) -> Option<Scheduler> {
    let Some(g) = given else {
        return Some(Scheduler::RoundRobin);
    };
    match g.value.as_str() {
        "rr" => Some(Scheduler::RoundRobin),
        "wrr" => Some(Scheduler::WeightedRoundRobin),
        "lc" => Some(Scheduler::LeastConnection),
        "wlc" => Some(Scheduler::WeightedLeastConnection),
        super::super::raw::server::SOURCE | "sh" => Some(Scheduler::SourceHash),
        other => {
            f.refuse(
                Problem::new(&g.at, format!("datapath proxy has no lbAlgo {other}"))
                    .help(one_of(&["rr", "lc", "source"])),
            );
            None
        }
    }
}

/// `proxyProtocol`. Only the proxy has it.
pub(super) fn protocol(
    given: Option<&Given<'_, RawProtocol>>,
    datapath: Option<DatapathKind>,
    f: &mut Findings,
) -> Option<ProxyProtocol> {
    let Some(g) = given else {
        return Some(ProxyProtocol::default());
    };
    if datapath.is_some_and(|d| d != DatapathKind::Proxy) {
        f.refuse(
            Problem::new(&g.at, "proxyProtocol is for datapath proxy")
                .help("the others leave the client's address as it is: remove it"),
        );
        return None;
    }
    let send = match g.value.send.as_deref() {
        None => Some(None),
        Some("v1") => Some(Some(Version::V1)),
        Some("v2") => Some(Some(Version::V2)),
        Some(other) => {
            let message = format!("{other:?} is no version of the PROXY protocol");
            f.refuse(Problem::new(&g.at.key("send"), message).help(one_of(&["v1", "v2"])));
            None
        }
    };
    let at = g.at.key("acceptFrom");
    let before = f.problems.len();
    let networks = g.value.accept_from.iter().flatten().enumerate();
    let accept_from: Vec<IpPrefix> = networks
        .filter_map(|(i, text)| f.take(network(text, &at.index(i))))
        .collect();
    (f.problems.len() == before).then_some(ProxyProtocol {
        send: send?,
        accept_from,
    })
}

/// `192.0.2.0/24`, or an address alone.
fn network(text: &str, at: &Path) -> Result<IpPrefix, Problem> {
    let alone = text.parse::<IpAddr>().ok().map(IpPrefix::host);
    alone
        .or_else(|| text.parse().ok())
        .ok_or_else(|| Problem::new(at, format!("{text:?} is no network")).help("write 192.0.2.0/24"))
}

/// What the whole of the file comes to.
pub(super) fn whole(d: &Draft, spec: &Spec, f: &mut Findings) {
    let proxies = |v: &crate::spec::VirtualServer| v.datapath == DatapathKind::Proxy;
    if d.dialect.is_native() && d.proxy.is_some() && !spec.virtual_servers.iter().any(proxies) {
        let message = "proxy has no effect: no virtual server has datapath proxy";
        f.warn(Problem::new(&d.base.key("proxy"), message));
    }
    let own =
        |v: &crate::spec::VirtualServer| proxies(v) && v.real_servers.iter().all(|s| s.address.is_loopback());
    if !d.dialect.is_native() && spec.virtual_servers.iter().any(own) {
        let message =
            "no API servers are named, so whoever holds the virtual IP serves its clients by its own";
        f.warn(Problem::new(&d.base.key("vrrpInstances"), message).help(d.dialect.ways()));
    }
}
