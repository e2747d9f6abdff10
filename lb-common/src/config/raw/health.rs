//! `healthCheck` of the native file.
use super::super::duration::GoDuration;
use alloc::string::String;
use alloc::vec::Vec;
#[cfg(feature = "serde")]
use {
    crate::health::{HealthCheckKind, Start},
    schemars::JsonSchema,
    serde::{Deserialize, Serialize},
};

/// How a real server is found to be alive.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct HealthCheck {
    /// What is tried: tcp, tls, http, https, exec, icmp, udp or none. Default: https on the API server's port, tcp on other
    /// TCP ports, none for other protocols.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "type"),
        schemars(with = "Option<HealthCheckKind>")
    )]
    pub kind: Option<String>,
    /// From one try to the next, 10ms to 1h. Default: 1s.
    pub interval: Option<GoDuration>,
    /// The same while it is unhealthy. Default: interval.
    pub down_interval: Option<GoDuration>,
    /// The same while the last outcome contradicts what it counts as. Default: interval.
    pub fast_interval: Option<GoDuration>,
    /// How long one may take, 10ms to 1h. Default: 1s.
    pub timeout: Option<GoDuration>,
    /// So many good ones in a row make it healthy, 1-255. Default: 2.
    #[cfg_attr(feature = "serde", schemars(range(min = 1, max = 255)))]
    pub rise: Option<i64>,
    /// So many bad ones in a row make it unhealthy, 1-255. Default: 3.
    #[cfg_attr(feature = "serde", schemars(range(min = 1, max = 255)))]
    pub fall: Option<i64>,
    /// The first try comes somewhere within this, 0s to 1h. Default: interval, at most 1s.
    pub warm_up: Option<GoDuration>,
    /// What a server counts as before it was tried: undecided (up, and the first outcome decides by itself), up or down.
    /// Default: undecided.
    #[cfg_attr(feature = "serde", schemars(with = "Option<Start>"))]
    pub initial_state: Option<String>,
    /// tcp, tls, http, https, udp: another port than the real server's, 1-65535.
    #[cfg_attr(feature = "serde", schemars(range(min = 1, max = 65535)))]
    pub port: Option<i64>,
    /// The address of this node that it is tried from.
    pub source_address: Option<String>,
    /// The mark of its packets, for policy routing. 1-4294967295.
    #[cfg_attr(feature = "serde", schemars(range(min = 1, max = 4_294_967_295_u32)))]
    pub mark: Option<i64>,
    /// http, https: the path. Default: /readyz with https, / with http.
    pub path: Option<String>,
    /// http, https: the Host header. Default: serverName, else the server's address.
    pub host: Option<String>,
    /// http, https: a file with a bearer token. It is read again when it changes.
    pub token_file: Option<String>,
    /// http, https: statuses (200) and ranges of them (200-299) that are good. Default: 200; without credentials 401 and
    /// 403 as well, with which an API server keeps its readiness from strangers.
    #[cfg_attr(feature = "serde", schemars(length(min = 1, max = 32)))]
    pub expected_status: Option<Vec<Status>>,
    /// tls, https: a PEM file with the authorities that may vouch for the server. Left out: anybody's certificate will do.
    pub ca_file: Option<String>,
    /// tls, https: SHA-256 digests, one of which the server's certificate must have.
    #[cfg_attr(feature = "serde", schemars(length(min = 1, max = 256)))]
    pub fingerprints: Option<Vec<String>>,
    /// tls, https: the name that is asked for and that the certificate must be good for. Default: the server's address.
    pub server_name: Option<String>,
    /// tls, https: a PEM file with the client certificate that is shown.
    pub certificate_file: Option<String>,
    /// tls, https: a PEM file with its key.
    pub key_file: Option<String>,
    /// exec: the program's absolute path and its arguments. It gets the server in CPLB_SERVER_ADDRESS, CPLB_SERVER_PORT and
    /// CPLB_VIRTUAL_SERVER. 0 is good, 3 is "not ready" (it keeps its connections), anything else is bad.
    #[cfg_attr(feature = "serde", schemars(length(min = 1, max = 64)))]
    pub command: Option<Vec<String>>,
    /// exec: as whom it runs, by name or number. Default: nobody.
    pub user: Option<String>,
    /// udp: the text that is sent. Default: nothing.
    pub payload: Option<String>,
    /// udp: whether an answer must come. Default: false, when only "port unreachable" is bad.
    pub require_reply: Option<bool>,
}

/// A status, or a range of them.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(Serialize, JsonSchema), serde(untagged))]
pub enum Status {
    /// 100-599.
    Number(#[cfg_attr(feature = "serde", schemars(range(min = 100, max = 599)))] i64),
    /// Such as 200-299.
    Range(String),
}

#[cfg(feature = "serde")]
mod visit {
    use super::Status;
    use core::fmt;
    use serde::de::{self, Deserialize, Deserializer, Visitor};

    struct StatusVisitor;

    impl Visitor<'_> for StatusVisitor {
        type Value = Status;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a status or a range of them")
        }
        fn visit_i64<E: de::Error>(self, n: i64) -> Result<Status, E> {
            Ok(Status::Number(n))
        }
        fn visit_u64<E: de::Error>(self, n: u64) -> Result<Status, E> {
            Ok(Status::Number(i64::try_from(n).unwrap_or(i64::MAX)))
        }
        fn visit_str<E: de::Error>(self, s: &str) -> Result<Status, E> {
            Ok(Status::Range(s.into()))
        }
    }

    impl<'de> Deserialize<'de> for Status {
        fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
            d.deserialize_any(StatusVisitor)
        }
    }
}
