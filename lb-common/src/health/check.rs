//! How a real server is found to be alive, as the file has it. Files named here are read by whoever does the asking.
use super::run::Command;
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;
use core::time::Duration;

#[cfg(feature = "serde")]
use serde::{Deserialize, Serialize};

/// How a real server is found to be alive.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub struct HealthCheck {
    /// What is tried.
    pub probe: Probe,
    /// From one try to the next, start to start (HAProxy's `inter`, keepalived's `delay_loop`).
    pub interval: Duration,
    /// The same while it is unhealthy (`downinter`).
    pub down_interval: Duration,
    /// The same while the last outcomes contradict what it counts as (`fastinter`, `delay_before_retry`).
    pub fast_interval: Duration,
    /// How long one may take altogether (`connect_timeout`, `timeout check`).
    pub timeout: Duration,
    /// This many good ones in a row make it healthy.
    pub rise: u8,
    /// This many bad ones in a row make it unhealthy (`retry` and one more).
    pub fall: u8,
    /// The first one comes somewhere within this (keepalived's `warmup`).
    pub warm_up: Duration,
    /// What it counts as before the first one (`init-state`, `alpha`).
    pub start: Start,
    /// Another port than the real server's (`port`, `connect_port`).
    pub port: Option<u16>,
    /// Where it is asked from (`source`, `bindto`).
    pub source: Option<IpAddr>,
    /// The mark of its packets, for policy routing (`fwmark`).
    pub mark: Option<u32>,
}

impl HealthCheck {
    /// With what is used where a file says nothing else.
    pub const fn new(probe: Probe) -> Self {
        let second = Duration::from_secs(1);
        Self {
            probe,
            interval: second,
            down_interval: second,
            fast_interval: second,
            timeout: second,
            rise: 2,
            fall: 3,
            warm_up: second,
            start: Start::Undecided,
            port: None,
            source: None,
            mark: None,
        }
    }

    /// What is tried, by name.
    pub const fn kind(&self) -> HealthCheckKind {
        self.probe.kind()
    }

    /// False for servers that nobody asks: they count as healthy.
    pub const fn asks(&self) -> bool {
        !matches!(self.probe, Probe::None)
    }
}

/// What a server counts as before it was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, schemars::JsonSchema),
    serde(rename_all = "camelCase")
)]
pub enum Start {
    /// Healthy, and the first outcome decides by itself.
    #[default]
    Undecided,
    /// Healthy until `fall` bad ones.
    Up,
    /// Unhealthy until `rise` good ones.
    Down,
}

/// What is tried, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, schemars::JsonSchema),
    serde(rename_all = "lowercase")
)]
pub enum HealthCheckKind {
    /// A TCP connection is accepted.
    Tcp,
    /// A TLS handshake succeeds.
    Tls,
    /// An HTTP request is answered with an expected status.
    Http,
    /// The same over TLS.
    Https,
    /// A program ends with 0.
    Exec,
    /// An echo request is answered.
    Icmp,
    /// A datagram is not answered with "port unreachable", or is answered.
    Udp,
    /// Nothing: always healthy.
    None,
}

impl HealthCheckKind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Tcp,
        Self::Tls,
        Self::Http,
        Self::Https,
        Self::Exec,
        Self::Icmp,
        Self::Udp,
        Self::None,
    ];

    /// As the file has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Https => "https",
            Self::Exec => "exec",
            Self::Icmp => "icmp",
            Self::Udp => "udp",
            Self::None => "none",
        }
    }
}

impl fmt::Display for HealthCheckKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is tried, with all that it needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub enum Probe {
    /// A TCP connection is accepted.
    Tcp,
    /// A TLS handshake succeeds.
    Tls(TlsProbe),
    /// An HTTP request is answered with an expected status.
    Http(HttpProbe),
    /// The same over TLS.
    Https(Box<(TlsProbe, HttpProbe)>),
    /// A program ends with 0.
    Exec(Command),
    /// An echo request is answered.
    Icmp,
    /// A datagram is not answered with "port unreachable", or is answered.
    Udp(UdpProbe),
    /// Nothing: always healthy.
    None,
}

impl Probe {
    /// Its name.
    pub const fn kind(&self) -> HealthCheckKind {
        match self {
            Self::Tcp => HealthCheckKind::Tcp,
            Self::Tls(_) => HealthCheckKind::Tls,
            Self::Http(_) => HealthCheckKind::Http,
            Self::Https(_) => HealthCheckKind::Https,
            Self::Exec(_) => HealthCheckKind::Exec,
            Self::Icmp => HealthCheckKind::Icmp,
            Self::Udp(_) => HealthCheckKind::Udp,
            Self::None => HealthCheckKind::None,
        }
    }

    /// Whether it opens a TCP connection, so that it can be asked to a port and from an address.
    pub const fn connects(&self) -> bool {
        matches!(self, Self::Tcp | Self::Tls(_) | Self::Http(_) | Self::Https(_))
    }
}

/// Whom a TLS server has to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub enum Trust {
    /// Anybody: whether it lives is asked, not who it is.
    #[default]
    Anybody,
    /// Whoever one of the authorities in this PEM file vouches for.
    Authority(String),
    /// Whoever shows a certificate with one of these SHA-256 digests, and has its key.
    Fingerprints(BTreeSet<Fingerprint>),
}

/// The SHA-256 digest of a certificate (DER).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize), serde(transparent))]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// 64 hexadecimal digits, with colons between bytes or without, after `sha256:` or not: as `openssl x509 -fingerprint
    /// -sha256` and kubeadm write them.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let digits = text
            .strip_prefix("sha256:")
            .or_else(|| text.strip_prefix("SHA256:"))
            .unwrap_or(text);
        let mut bytes = [0_u8; 32];
        let mut nibbles = 0_usize;
        for c in digits.chars() {
            if c == ':' && nibbles.is_multiple_of(2) && nibbles > 0 {
                continue;
            }
            let value = u8::try_from(c.to_digit(16)?).ok()?;
            let byte = bytes.get_mut(nibbles / 2)?;
            *byte = *byte << 4 | value;
            nibbles += 1;
        }
        (nibbles == 64).then_some(Self(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            let colon = if i == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02X}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A TLS handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub struct TlsProbe {
    /// Whom it has to be.
    pub trust: Trust,
    /// The name that is asked for (SNI) and that the certificate must be good for; `None`: the server's address.
    pub server_name: Option<String>,
    /// A client certificate and its key, two PEM files.
    pub identity: Option<Identity>,
}

/// A client certificate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub struct Identity {
    /// The certificate, with those between it and the authority: a PEM file.
    pub certificate: String,
    /// Its key: a PEM file.
    pub key: String,
}

/// An HTTP request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub struct HttpProbe {
    /// The path with its query, beginning with a slash.
    pub path: String,
    /// The Host header; `None`: the TLS name, else the server's address.
    pub host: Option<String>,
    /// A file with a bearer token.
    pub token: Option<String>,
    /// What is a good answer; empty: 200, and 401 or 403 where no credentials are given, for an API server that hides its
    /// readiness from strangers is alive.
    pub expected: Vec<StatusRange>,
}

impl HttpProbe {
    /// Whether `status` is a good answer. `known`: credentials were given.
    pub fn accepts(&self, status: u16, known: bool) -> bool {
        if self.expected.is_empty() {
            return status == 200 || (!known && matches!(status, 401 | 403));
        }
        self.expected
            .iter()
            .any(|r| r.first <= status && status <= r.last)
    }
}

/// HTTP statuses from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub struct StatusRange {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl StatusRange {
    /// `204`, or `200-299`.
    pub fn parse(text: &str) -> Option<Self> {
        let status = |t: &str| t.trim().parse().ok().filter(|s| (100..=599).contains(s));
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = Self {
            first: status(first)?,
            last: status(last)?,
        };
        (range.first <= range.last).then_some(range)
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// A datagram.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub struct UdpProbe {
    /// What is sent.
    pub payload: Vec<u8>,
    /// Whether silence is a bad answer.
    pub require_reply: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn a_fingerprint_is_read_as_openssl_and_kubeadm_write_it() {
        let plain = "00ff".repeat(16);
        let colons: Vec<&str> = (0..32).map(|i| if i % 2 == 0 { "00" } else { "FF" }).collect();
        let read = Fingerprint::parse(&plain).unwrap();
        assert_eq!(read.to_string(), colons.join(":"));
        for text in [
            colons.join(":"),
            std::format!("sha256:{plain}"),
            std::format!(" {plain}\n"),
        ] {
            assert_eq!(Fingerprint::parse(&text), Some(read), "{text}");
        }
        for text in [
            "",
            "00",
            &plain[1..],
            &std::format!("{plain}00"),
            ":00",
            "sha1:00",
        ] {
            assert_eq!(Fingerprint::parse(text), None, "{text}");
        }
    }

    #[test]
    fn statuses_are_one_or_a_range() {
        let range = |first, last| Some(StatusRange { first, last });
        assert_eq!(StatusRange::parse("204"), range(204, 204));
        assert_eq!(StatusRange::parse("200-299"), range(200, 299));
        for text in ["", "-", "99", "600", "300-200", "2xx", "200-"] {
            assert_eq!(StatusRange::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_stranger_may_be_refused_an_answer_by_a_living_server() {
        let mut probe = HttpProbe {
            path: "/readyz".into(),
            host: None,
            token: None,
            expected: Vec::new(),
        };
        assert!(probe.accepts(200, true) && probe.accepts(200, false));
        assert!(probe.accepts(401, false) && probe.accepts(403, false));
        assert!(!probe.accepts(401, true) && !probe.accepts(500, false) && !probe.accepts(204, false));
        probe.expected = [StatusRange {
            first: 200,
            last: 299,
        }]
        .into();
        assert!(probe.accepts(204, false) && !probe.accepts(403, false));
    }
}
