//! `virtualServers[]` of the native file.
use super::super::duration::GoDuration;
use super::{HealthCheck, ProxyProtocol};
#[cfg(feature = "serde")]
use crate::model::{Protocol, Scheduler, TunnelType};
#[cfg(feature = "serde")]
use crate::spec::DatapathKind;
use alloc::string::String;
use alloc::vec::Vec;
#[cfg(feature = "serde")]
use {
    schemars::JsonSchema,
    serde::{Deserialize, Serialize},
};

/// A scheduler's flag. For the schema alone: the validation reads texts, to say what is wrong with one.
#[cfg(feature = "serde")]
#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
#[expect(dead_code, reason = "only its schema is used")]
enum SchedulerFlag {
    ShFallback,
    ShPort,
    MhFallback,
    MhPort,
    Ops,
}

/// The kernel's names, and ours for one of them. For the schema alone.
#[cfg(feature = "serde")]
struct Algorithm;

#[cfg(feature = "serde")]
impl JsonSchema for Algorithm {
    fn schema_name() -> alloc::borrow::Cow<'static, str> {
        "Algorithm".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let mut names: Vec<&str> = Scheduler::ALL.iter().map(|s| s.name()).collect();
        names.extend([MAGLEV, SOURCE]);
        schemars::json_schema!({ "type": "string", "enum": names })
    }
}

/// Another name for the scheduler `mh`.
pub const MAGLEV: &str = "maglev";
/// Another name for the scheduler `sh`.
pub const SOURCE: &str = "source";

macro_rules! policy {
    ($(#[$m:meta])* $name:ident { $($(#[$fm:meta])* $field:ident: $type:ty),* $(,)? }) => {
        $(#[$m])*
        #[derive(Clone, Debug, Default, PartialEq)]
        #[cfg_attr(
            feature = "serde",
            derive(Serialize, Deserialize, JsonSchema),
            serde(rename_all = "camelCase", deny_unknown_fields)
        )]
        pub struct $name {
            $($(#[$fm])* pub $field: $type,)*
            /// The transport. Default: TCP.
            #[cfg_attr(feature = "serde", schemars(with = "Option<Protocol>"))]
            pub protocol: Option<String>,
            /// Who carries the packets: ipvs, xdp, proxy (the userspace proxy: TCP, to real servers anywhere), or auto, which
            /// is ipvs where the kernel has it and else xdp. Default: auto.
            #[cfg_attr(feature = "serde", schemars(with = "Option<DatapathKind>"))]
            pub datapath: Option<String>,
            /// Who gets the next connection: a scheduler of the kernel, or maglev, which is another name of mh and all
            /// that xdp has, or source, another name of sh. proxy has rr, lc and source. Default: rr, with datapath xdp maglev.
            #[cfg_attr(feature = "serde", schemars(with = "Option<Algorithm>"))]
            pub lb_algo: Option<String>,
            /// The scheduler's flags: sh-fallback, sh-port, mh-fallback, mh-port; ops for UDP.
            #[cfg_attr(feature = "serde", schemars(with = "Option<Vec<SchedulerFlag>>"))]
            pub scheduler_flags: Option<Vec<String>>,
            /// How a packet reaches a real server: DR (direct routing), NAT or TUN. Default: DR.
            #[cfg_attr(feature = "serde", schemars(extend("enum" = ["DR", "NAT", "TUN", null])))]
            pub lb_kind: Option<String>,
            /// The wrapping of TUN. Default: ipip.
            pub tunnel: Option<Tunnel>,
            /// A client keeps its real server for so many seconds after its last connection, 1-2678400; 0: it does not.
            /// Default: 360; datapath proxy has none.
            #[cfg_attr(feature = "serde", schemars(range(min = 0, max = 2_678_400)))]
            pub persistence_timeout_seconds: Option<i64>,
            /// Clients that share so many leading bits count as one. Default: each by itself.
            pub persistence_granularity: Option<Granularity>,
            /// How the real servers are checked. Default: https at /readyz on the API server's port, tcp on other TCP
            /// ports, none for other protocols.
            pub health_check: Option<HealthCheck>,
            /// A real server that came back gets its share little by little over this time, 0s to 1h; for schedulers
            /// that have regard to weights. Default: 0s.
            pub slow_start: Option<GoDuration>,
            /// The healthy real servers' weight that is needed: below it the sorry server serves, and the node counts as
            /// unable to serve. 1 and up. Default: 1 for the sorry server; for the node, a real server that answers.
            #[cfg_attr(feature = "serde", schemars(range(min = 1, max = 4_294_967_295_u32)))]
            pub quorum: Option<i64>,
            /// The quorum is lost so much below and regained so much above, less than quorum. Default: 0.
            #[cfg_attr(feature = "serde", schemars(range(min = 0, max = 4_294_967_295_u32)))]
            pub hysteresis: Option<i64>,
            /// Who serves while the quorum is lost. It is not checked. Default: nobody, and all real servers are kept when
            /// none answers.
            pub sorry_server: Option<SorryServer>,
            /// The PROXY protocol, in and out, with datapath proxy.
            pub proxy_protocol: Option<ProxyProtocol>,
        }
    };
}

policy! {
    /// What is balanced on one virtual IP.
    VirtualServer {
        /// Its name; with several ports each is NAME:PORT. Default: protocol, address and port.
        name: Option<String>,
        /// One of the virtual IPs, without prefix length.
        #[cfg_attr(feature = "serde", schemars(required, length(min = 1)))]
        ip_address: Option<String>,
        /// Ports, or objects with a port and the policy that differs on it. Default: the API server's port.
        #[cfg_attr(feature = "serde", schemars(length(min = 1)))]
        ports: Option<Vec<Port>>,
        /// Who serves it. Default: the k0sctl file's controllers, or the unicast source and peers of the instance.
        real_servers: Option<Vec<RealServer>>,
    }
}

policy! {
    /// One port and what differs on it from the rest of its virtual server.
    PortPolicy {
        /// 1-65535; 0 is every port, with persistence only.
        #[cfg_attr(feature = "serde", schemars(required, range(min = 0, max = 65535)))]
        port: Option<i64>,
    }
}

/// A port, alone or with a policy of its own.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(Serialize, JsonSchema), serde(untagged))]
pub enum Port {
    /// 1-65535; 0 is every port, with persistence only.
    Number(#[cfg_attr(feature = "serde", schemars(range(min = 0, max = 65535)))] i64),
    /// With a policy.
    Policy(alloc::boxed::Box<PortPolicy>),
}

/// A prefix length, or an IPv4 netmask.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(Serialize, JsonSchema), serde(untagged))]
pub enum Granularity {
    /// 1-32 for IPv4, 1-128 for IPv6.
    Bits(#[cfg_attr(feature = "serde", schemars(range(min = 1, max = 128)))] i64),
    /// Such as 255.255.255.0.
    Mask(String),
}

/// The wrapping of TUN.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct Tunnel {
    /// Default: ipip.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "type"),
        schemars(with = "Option<TunnelType>")
    )]
    pub kind: Option<String>,
    /// The UDP port of gue, 1-65535; the others have none.
    #[cfg_attr(feature = "serde", schemars(range(min = 0, max = 65535)))]
    pub port: Option<i64>,
}

/// Who serves while too few real servers are healthy.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct SorryServer {
    /// Its own IP address, of the virtual server's family.
    #[cfg_attr(feature = "serde", schemars(required))]
    pub address: Option<String>,
    /// 1-65535. Default: the virtual server's, from which only NAT may differ.
    #[cfg_attr(feature = "serde", schemars(range(min = 0, max = 65535)))]
    pub port: Option<i64>,
}

/// One server behind a virtual server.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct RealServer {
    /// Its own IP address, of the virtual server's family.
    #[cfg_attr(feature = "serde", schemars(required))]
    pub address: Option<String>,
    /// 1-65535. Default: the virtual server's, from which only NAT may differ.
    #[cfg_attr(feature = "serde", schemars(range(min = 0, max = 65535)))]
    pub port: Option<i64>,
    /// Its share, 0-65535; 0 takes no new connections. Default: 1.
    #[cfg_attr(feature = "serde", schemars(range(min = 0, max = 65535)))]
    pub weight: Option<i64>,
    /// No new connections above so many; 0: no limit. Default: 0.
    #[cfg_attr(feature = "serde", schemars(range(min = 0, max = 4_294_967_295_u32)))]
    pub upper_threshold: Option<i64>,
    /// New connections again below so many; 0: three quarters of upperThreshold. Default: 0.
    #[cfg_attr(feature = "serde", schemars(range(min = 0, max = 4_294_967_295_u32)))]
    pub lower_threshold: Option<i64>,
    /// Where it is checked. Default: address.
    pub check_address: Option<String>,
    /// The port that is checked, 1-65535. Default: that of the health check, else port.
    #[cfg_attr(feature = "serde", schemars(range(min = 1, max = 65535)))]
    pub check_port: Option<i64>,
}

/// Derived untagged enums lose the place of an error inside them; these visitors keep it.
#[cfg(feature = "serde")]
mod visit {
    use super::{Granularity, Port, PortPolicy};
    use alloc::boxed::Box;
    use core::fmt;
    use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};

    struct PortVisitor;

    impl<'de> Visitor<'de> for PortVisitor {
        type Value = Port;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a port number or a mapping with `port`")
        }
        fn visit_i64<E: de::Error>(self, n: i64) -> Result<Port, E> {
            Ok(Port::Number(n))
        }
        fn visit_u64<E: de::Error>(self, n: u64) -> Result<Port, E> {
            Ok(Port::Number(i64::try_from(n).unwrap_or(i64::MAX)))
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Port, A::Error> {
            PortPolicy::deserialize(MapAccessDeserializer::new(map)).map(|p| Port::Policy(Box::new(p)))
        }
    }

    impl<'de> Deserialize<'de> for Port {
        fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
            d.deserialize_any(PortVisitor)
        }
    }

    struct GranularityVisitor;

    impl Visitor<'_> for GranularityVisitor {
        type Value = Granularity;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a prefix length or an IPv4 netmask")
        }
        fn visit_i64<E: de::Error>(self, n: i64) -> Result<Granularity, E> {
            Ok(Granularity::Bits(n))
        }
        fn visit_u64<E: de::Error>(self, n: u64) -> Result<Granularity, E> {
            Ok(Granularity::Bits(i64::try_from(n).unwrap_or(i64::MAX)))
        }
        fn visit_str<E: de::Error>(self, s: &str) -> Result<Granularity, E> {
            Ok(Granularity::Mask(s.into()))
        }
    }

    impl<'de> Deserialize<'de> for Granularity {
        fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
            d.deserialize_any(GranularityVisitor)
        }
    }
}
