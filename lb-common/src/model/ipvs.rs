//! IPVS's words: schedulers, forwarding methods, persistence, and what names a virtual server.
use super::Family;
use core::fmt;
use core::net::IpAddr;
use core::str::FromStr;
use core::time::Duration;

/// A name that is none of those allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown name")]
pub struct UnknownName;

macro_rules! named {
    ($(#[$m:meta])* $name:ident { $($(#[$vm:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$m])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema))]
        pub enum $name { $($(#[$vm])* #[cfg_attr(feature = "serde", serde(rename = $text))] $variant),+ }

        impl $name {
            /// All of them, in the order in which the documentation lists them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name in files and in the kernel.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl FromStr for $name {
            type Err = UnknownName;
            fn from_str(s: &str) -> Result<Self, UnknownName> {
                Self::ALL.iter().copied().find(|v| v.name() == s).ok_or(UnknownName)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

named! {
    /// A scheduler of the kernel's (`net/netfilter/ipvs/ip_vs_*.c`, `ip_vs_scheduler.name`).
    Scheduler {
        /// Round robin.
        RoundRobin = "rr",
        /// Weighted round robin.
        WeightedRoundRobin = "wrr",
        /// Least connection.
        LeastConnection = "lc",
        /// Weighted least connection.
        WeightedLeastConnection = "wlc",
        /// Locality-based least connection.
        LocalityLeastConnection = "lblc",
        /// Locality-based least connection with replication.
        LocalityLeastConnectionReplicated = "lblcr",
        /// Destination hashing.
        DestinationHash = "dh",
        /// Source hashing.
        SourceHash = "sh",
        /// Maglev hashing.
        MaglevHash = "mh",
        /// Shortest expected delay.
        ShortestExpectedDelay = "sed",
        /// Never queue.
        NeverQueue = "nq",
        /// Weighted failover: the heaviest server that is there.
        WeightedFailover = "fo",
        /// Weighted overflow: the heaviest server that is not full.
        WeightedOverflow = "ovf",
        /// Power of two choices.
        PowerOfTwo = "twos",
    }
}

impl Scheduler {
    /// Whether a client belongs to one real server: while that has the weight 0 the client is refused, unless a fallback
    /// is asked for (`ip_vs_sh_get`, `ip_vs_mh_get`, `ip_vs_dh_schedule`).
    pub const fn hashes(self) -> bool {
        matches!(self, Self::SourceHash | Self::MaglevHash | Self::DestinationHash)
    }

    /// Whether a weight is more to it than 0 or not.
    pub const fn weighs(self) -> bool {
        !matches!(
            self,
            Self::RoundRobin | Self::LeastConnection | Self::DestinationHash
        )
    }
}

named! {
    /// The transport of a virtual server.
    Protocol {
        /// TCP, protocol 6.
        Tcp = "TCP",
        /// UDP, protocol 17.
        Udp = "UDP",
        /// SCTP, protocol 132.
        Sctp = "SCTP",
    }
}

impl Protocol {
    /// The number in the IP header.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

named! {
    /// How TUN wraps a packet (kernel 5.3 on for gue and gre).
    TunnelType {
        /// IP in IP.
        Ipip = "ipip",
        /// Generic UDP encapsulation; needs a port.
        Gue = "gue",
        /// GRE.
        Gre = "gre",
    }
}

/// How a packet reaches a real server (`lbKind`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "camelCase")
)]
pub enum Forwarding {
    /// `DR`: only the MAC address changes; the real server answers the client itself.
    DirectRouting,
    /// `NAT`: addresses are rewritten; answers come back through the director.
    Nat,
    /// `TUN`: wrapped; the real server unwraps and answers the client itself.
    Tunnel {
        /// The wrapping.
        #[cfg_attr(feature = "serde", serde(rename = "type"))]
        kind: TunnelType,
        /// The UDP port of GUE; 0 for the others.
        port: u16,
    },
}

impl Forwarding {
    /// `DR`, `NAT` or `TUN`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DirectRouting => "DR",
            Self::Nat => "NAT",
            Self::Tunnel { .. } => "TUN",
        }
    }

    /// Whether the real server must hold the virtual IP itself to take the packet.
    pub const fn needs_vip_on_real_server(self) -> bool {
        !matches!(self, Self::Nat)
    }
}

/// Scheduler flags (`IP_VS_SVC_F_SCHED1..3`, `IP_VS_SVC_F_ONEPACKET` in `uapi/linux/ip_vs.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "camelCase", default)
)]
pub struct SchedulerFlags {
    /// `sh-fallback`, `mh-fallback`: choose another server where the hashed one is unusable (SCHED1).
    pub fallback: bool,
    /// `sh-port`, `mh-port`: hash the source port too (SCHED2).
    pub port: bool,
    /// The third flag, which no scheduler of the kernel uses yet (SCHED3).
    pub sched3: bool,
    /// One-packet scheduling: each UDP datagram by itself (`ops`).
    pub one_packet: bool,
}

/// The prefix that groups clients for persistence is not a mask of leading ones of that family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a prefix length of that family")]
pub struct GranularityError;

/// A client keeps its real server (`-p`, `-M` of ipvsadm).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "camelCase")
)]
pub struct Persistence {
    /// Whole seconds, 1 to 2678400 (31 days).
    pub timeout: Duration,
    /// Clients that share this many leading bits count as one: /32 or /128 is each by itself.
    pub granularity: u8,
}

impl Persistence {
    /// The timeout for each client by itself.
    pub const fn per_client(timeout: Duration, family: Family) -> Self {
        Self {
            timeout,
            granularity: family.bits(),
        }
    }
}

/// What names a virtual server in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ServiceKey {
    /// The virtual IP.
    pub address: IpAddr,
    /// Its port; 0 is every port, with persistence only.
    pub port: u16,
    /// Its transport.
    pub protocol: Protocol,
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}",
            self.protocol,
            core::net::SocketAddr::new(self.address, self.port)
        )
    }
}
