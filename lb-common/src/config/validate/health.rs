//! `healthCheck`: what goes with its type, and what everything else is by default.
use super::super::path::Path;
use super::super::problem::{Findings, Problem};
use super::super::raw::{HealthCheck as Raw, Status};
use super::{advert, number, one_of, program};
use crate::health::{
    Fingerprint, HealthCheck, HealthCheckKind as Kind, HttpProbe, Identity, Probe, Start, StatusRange,
    TlsProbe, Trust, UdpProbe,
};
use crate::model::{Family, Protocol};
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

const SHORTEST: Duration = Duration::from_millis(10);
const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);
/// Nobody sends more to find out whether somebody is there.
const MAX_PAYLOAD: usize = 1024;
/// Of fingerprints and statuses.
const MAX_LIST: usize = 256;

/// What is checked, as far as it decides what can be asked.
#[derive(Clone, Copy)]
pub(super) struct Subject {
    pub(super) protocol: Option<Protocol>,
    pub(super) family: Family,
    /// It is the API server's port.
    pub(super) api: bool,
}

impl Subject {
    fn default_kind(self) -> Kind {
        match self.protocol {
            None | Some(Protocol::Tcp) if self.api => Kind::Https,
            None | Some(Protocol::Tcp) => Kind::Tcp,
            Some(Protocol::Udp | Protocol::Sctp) => Kind::None,
        }
    }
}

/// `None`: it has problems, and they are noted.
pub(super) fn check(raw: &Raw, of: Subject, at: &Path, f: &mut Findings) -> Option<HealthCheck> {
    let kind = match raw.kind.as_deref() {
        None => Some(default_kind(of, at, f)),
        Some(text) => f.take(kind_named(text, &at.key("type"))),
    };
    let before = f.problems.len();
    if let Some(kind) = kind {
        misplaced(raw, kind, at, f);
    }
    let probe = kind.and_then(|k| probe(raw, k, at, f));
    let interval = span(raw.interval, SECOND, "interval", at, f);
    let base = interval.unwrap_or(SECOND);
    let down_interval = span(raw.down_interval, base, "downInterval", at, f);
    let fast_interval = span(raw.fast_interval, base, "fastInterval", at, f);
    let timeout = span(raw.timeout, SECOND, "timeout", at, f);
    let warm_up = match raw.warm_up {
        None => Some(base.min(SECOND)),
        Some(v) => f.take(advert::span(v, Duration::ZERO, HOUR, &at.key("warmUp"), "warmUp")),
    };
    let rise = f.take(number(raw.rise.unwrap_or(2), 1, 255, &at.key("rise"), "rise"));
    let fall = f.take(number(raw.fall.unwrap_or(3), 1, 255, &at.key("fall"), "fall"));
    let start = f.take(start(raw, at));
    let at_port = at.key("port");
    let port = raw.port.and_then(|p| f.take(super::port(p, &at_port, "port")));
    let mark = (raw.mark).and_then(|m| f.take(number(m, 1, i64::from(u32::MAX), &at.key("mark"), "mark")));
    let source = source(raw, of.family, &at.key("sourceAddress"), f);
    let check = HealthCheck {
        probe: probe?,
        interval: interval?,
        down_interval: down_interval?,
        fast_interval: fast_interval?,
        timeout: timeout?,
        rise: rise?,
        fall: fall?,
        warm_up: warm_up?,
        start: start?,
        port,
        source,
        mark,
    };
    (f.problems.len() == before).then_some(check)
}

fn default_kind(of: Subject, at: &Path, f: &mut Findings) -> Kind {
    let kind = of.default_kind();
    if kind == Kind::None {
        let message = "real servers are not checked: there is no check for this protocol by itself";
        f.warn(Problem::new(at, message).help(
            "write healthCheck: {type: udp} or icmp, {type: tcp} where they listen on TCP as well, else {type: none}",
        ));
    }
    kind
}

fn kind_named(text: &str, at: &Path) -> Result<Kind, Problem> {
    let found = Kind::ALL.into_iter().find(|k| k.name() == text);
    found.ok_or_else(|| {
        Problem::new(at, format!("{text:?} is no health check")).help(one_of(&Kind::ALL.map(Kind::name)))
    })
}

fn span(
    value: Option<super::super::GoDuration>,
    default: Duration,
    key: &str,
    at: &Path,
    f: &mut Findings,
) -> Option<Duration> {
    value.map_or(Some(default), |v| {
        f.take(advert::span(v, SHORTEST, HOUR, &at.key(key), key))
    })
}

fn start(raw: &Raw, at: &Path) -> Result<Start, Problem> {
    match raw.initial_state.as_deref() {
        None | Some("undecided") => Ok(Start::Undecided),
        Some("up") => Ok(Start::Up),
        Some("down") => Ok(Start::Down),
        Some(other) => Err(Problem::new(
            &at.key("initialState"),
            format!("{other:?} is no state to begin with"),
        )
        .help(one_of(&["undecided", "up", "down"]))),
    }
}

fn source(raw: &Raw, family: Family, at: &Path, f: &mut Findings) -> Option<IpAddr> {
    let text = raw.source_address.as_deref()?;
    let problem = match text.parse::<IpAddr>() {
        Ok(a) if Family::of(a) != family => Problem::new(
            at,
            format!("{a} is {}, but the real servers are {family}", Family::of(a)),
        ),
        Ok(a) if a.is_unspecified() || a.is_multicast() => {
            Problem::new(at, format!("{a} is not the address of one machine"))
        }
        Ok(a) => return Some(a),
        Err(_) => Problem::new(at, format!("invalid IP address: {text}")),
    };
    f.refuse(problem.help("write one of this node's own addresses"));
    None
}

/// Fields that the kind of check has no use for are mistakes, not decoration.
fn misplaced(raw: &Raw, kind: Kind, at: &Path, f: &mut Findings) {
    let http: &[Kind] = &[Kind::Http, Kind::Https];
    let tls: &[Kind] = &[Kind::Tls, Kind::Https];
    let port: &[Kind] = &[Kind::Tcp, Kind::Tls, Kind::Http, Kind::Https, Kind::Udp];
    let sends: &[Kind] = &[
        Kind::Tcp,
        Kind::Tls,
        Kind::Http,
        Kind::Https,
        Kind::Udp,
        Kind::Icmp,
    ];
    let asks = &Kind::ALL[..Kind::ALL.len() - 1];
    let fields: [(&str, bool, &[Kind]); 17] = [
        ("port", raw.port.is_some(), port),
        ("sourceAddress", raw.source_address.is_some(), sends),
        ("mark", raw.mark.is_some(), sends),
        ("path", raw.path.is_some(), http),
        ("host", raw.host.is_some(), http),
        ("tokenFile", raw.token_file.is_some(), http),
        ("expectedStatus", raw.expected_status.is_some(), http),
        ("caFile", raw.ca_file.is_some(), tls),
        ("fingerprints", raw.fingerprints.is_some(), tls),
        ("serverName", raw.server_name.is_some(), tls),
        ("certificateFile", raw.certificate_file.is_some(), tls),
        ("keyFile", raw.key_file.is_some(), tls),
        ("command", raw.command.is_some(), &[Kind::Exec]),
        ("user", raw.user.is_some(), &[Kind::Exec]),
        ("payload", raw.payload.is_some(), &[Kind::Udp]),
        ("requireReply", raw.require_reply.is_some(), &[Kind::Udp]),
        ("initialState", raw.initial_state.is_some(), asks),
    ];
    for (key, given, kinds) in fields {
        if given && !kinds.contains(&kind) {
            let names: Vec<&str> = kinds.iter().map(|k| k.name()).collect();
            let message = format!("{key} has no place in a health check of type {kind}");
            let problem = Problem::new(&at.key(key), message).on_key();
            f.refuse(problem.help(format!("it is for {}", names.join(", "))));
        }
    }
}

fn probe(raw: &Raw, kind: Kind, at: &Path, f: &mut Findings) -> Option<Probe> {
    Some(match kind {
        Kind::Tcp => Probe::Tcp,
        Kind::Icmp => Probe::Icmp,
        Kind::None => Probe::None,
        Kind::Tls => Probe::Tls(tls(raw, at, f)?),
        Kind::Http => {
            if raw.token_file.is_some() {
                let message = "the token travels in clear text: http has no encryption";
                f.warn(Problem::new(&at.key("tokenFile"), message).help("write type: https"));
            }
            Probe::Http(http(raw, "/", at, f)?)
        }
        Kind::Https => {
            let (tls, http) = (tls(raw, at, f), http(raw, "/readyz", at, f));
            Probe::Https(Box::new((tls?, http?)))
        }
        Kind::Exec => Probe::Exec(program(raw.command.as_deref(), raw.user.as_deref(), at, f)?),
        Kind::Udp => Probe::Udp(udp(raw, at, f)?),
    })
}

fn tls(raw: &Raw, at: &Path, f: &mut Findings) -> Option<TlsProbe> {
    let before = f.problems.len();
    let trust = match (&raw.ca_file, &raw.fingerprints) {
        (Some(_), Some(_)) => {
            let message = "caFile and fingerprints are two ways to know the server";
            f.refuse(Problem::new(&at.key("fingerprints"), message).help("keep one of them"));
            Trust::Anybody
        }
        (Some(file), None) => Trust::Authority(absolute(file, &at.key("caFile"), f)),
        (None, Some(list)) => Trust::Fingerprints(fingerprints(list, &at.key("fingerprints"), f)),
        (None, None) => Trust::Anybody,
    };
    let name = raw.server_name.as_deref();
    let sound = |n: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        !n.is_empty() && n.len() <= 253 && n.chars().all(known)
    };
    if name.is_some_and(|n| !sound(n)) {
        let message = "serverName is a DNS name or an IP address";
        f.refuse(Problem::new(&at.key("serverName"), message).help("such as kubernetes.default.svc"));
    }
    let identity = match (&raw.certificate_file, &raw.key_file) {
        (Some(certificate), Some(key)) => Some(Identity {
            certificate: absolute(certificate, &at.key("certificateFile"), f),
            key: absolute(key, &at.key("keyFile"), f),
        }),
        (None, None) => None,
        (Some(_), None) => half(at, "keyFile", "certificateFile", f),
        (None, Some(_)) => half(at, "certificateFile", "keyFile", f),
    };
    (f.problems.len() == before).then(|| TlsProbe {
        trust,
        server_name: raw.server_name.clone(),
        identity,
    })
}

fn half(at: &Path, missing: &str, given: &str, f: &mut Findings) -> Option<Identity> {
    let message = format!("{missing} must be defined where {given} is");
    f.refuse(
        Problem::new(&at.key(missing), message).help("a client certificate is of use with its key only"),
    );
    None
}

fn absolute(file: &str, at: &Path, f: &mut Findings) -> String {
    if !file.starts_with('/') || file.contains('\0') {
        f.refuse(
            Problem::new(at, format!("{file:?} is no absolute path"))
                .help("write it from the root on: the daemon's directory is not yours"),
        );
    }
    file.into()
}

fn fingerprints(list: &[String], at: &Path, f: &mut Findings) -> BTreeSet<Fingerprint> {
    if list.is_empty() {
        f.refuse(
            Problem::new(at, "fingerprints is empty").help("leave it out to take anybody's certificate"),
        );
    }
    let mut out = BTreeSet::new();
    if !super::at_most(list.len(), MAX_LIST, at, f) {
        return out;
    }
    for (i, text) in list.iter().enumerate() {
        match Fingerprint::parse(text) {
            Some(fingerprint) => drop(out.insert(fingerprint)),
            None => f.refuse(
                Problem::new(&at.index(i), "this is no SHA-256 digest: 64 hexadecimal digits")
                    .help("openssl x509 -noout -fingerprint -sha256 -in FILE prints it"),
            ),
        }
    }
    out
}

fn http(raw: &Raw, path: &str, at: &Path, f: &mut Findings) -> Option<HttpProbe> {
    let before = f.problems.len();
    let visible = |t: &str| t.len() <= 2048 && t.chars().all(|c| c.is_ascii_graphic());
    let path = raw.path.as_deref().unwrap_or(path);
    if !path.starts_with('/') || !visible(path) || path.contains('#') {
        f.refuse(
            Problem::new(&at.key("path"), format!("{path:?} is no path of a request"))
                .help("begin with a slash and encode blanks: /readyz?exclude=etcd"),
        );
    }
    if raw.host.as_deref().is_some_and(|h| h.is_empty() || !visible(h)) {
        f.refuse(Problem::new(
            &at.key("host"),
            "host is a name or address, with a port where needed",
        ));
    }
    let token = (raw.token_file.as_deref()).map(|t| absolute(t, &at.key("tokenFile"), f));
    let expected = (raw.expected_status.as_deref())
        .map(|list| statuses(list, &at.key("expectedStatus"), f))
        .unwrap_or_default();
    (f.problems.len() == before).then(|| HttpProbe {
        path: path.into(),
        host: raw.host.clone(),
        token,
        expected,
    })
}

fn statuses(list: &[Status], at: &Path, f: &mut Findings) -> Vec<StatusRange> {
    if list.is_empty() {
        f.refuse(Problem::new(at, "expectedStatus is empty").help("leave it out for 200"));
    }
    let mut out = Vec::new();
    if !super::at_most(list.len(), MAX_LIST, at, f) {
        return out;
    }
    for (i, status) in list.iter().enumerate() {
        let range = match status {
            Status::Number(n) => StatusRange::parse(&format!("{n}")),
            Status::Range(text) => StatusRange::parse(text),
        };
        match range {
            Some(range) => out.push(range),
            None => f.refuse(
                Problem::new(&at.index(i), "an HTTP status is 100 to 599")
                    .help("write one such as 200, or a range such as 200-299"),
            ),
        }
    }
    out
}

fn udp(raw: &Raw, at: &Path, f: &mut Findings) -> Option<UdpProbe> {
    let payload = raw.payload.clone().unwrap_or_default().into_bytes();
    if payload.len() > MAX_PAYLOAD {
        let message = format!("{} bytes, but at most {MAX_PAYLOAD} are sent", payload.len());
        f.refuse(Problem::new(&at.key("payload"), message));
        return None;
    }
    Some(UdpProbe {
        payload,
        require_reply: raw.require_reply.unwrap_or(false),
    })
}
