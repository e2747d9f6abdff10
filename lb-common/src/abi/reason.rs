//! Why a packet was not forwarded. Every packet that the program sees is counted exactly once: here, or as a packet of
//! its service ([`super::Traffic`]) when it went to a backend.

/// Places in `REASONS`.
pub const REASONS: u32 = 32;

macro_rules! reasons {
    ($($(#[$m:meta])* $name:ident = $n:literal, $verdict:ident, $text:literal;)*) => {
        /// Why a packet was not forwarded.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Reason { $($(#[$m])* $name = $n,)* }

        impl Reason {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// What became of the packet.
            pub const fn verdict(self) -> Verdict {
                match self { $(Self::$name => Verdict::$verdict,)* }
            }

            /// As `status` and the metrics name it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

/// What became of a packet that was not forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Handed to the kernel as it came.
    Pass,
    /// Dropped.
    Drop,
    /// Sent back with an ICMP error.
    Answer,
}

reasons! {
    /// Neither IPv4 nor IPv6 (ARP, LLDP...), more than two VLAN tags, or cut short before its IP destination.
    NotIp = 0, Pass, "not_ip";
    /// Its destination is no virtual IP that this node directs: SSH, etcd, VRRP, everything of the node's own.
    NotVip = 1, Pass, "not_vip";
    /// For a virtual IP, and no virtual server has this protocol and port.
    NotService = 2, Pass, "not_service";
    /// For a virtual IP and on another VLAN than the instance's, or sent to another MAC address.
    NotForUs = 3, Pass, "not_for_us";
    /// A director has forwarded it already (TTL or hop limit is at the guard's): it is for this node.
    Guarded = 4, Pass, "guarded";
    /// Nobody renewed the lease: the daemon hangs or is gone.
    LeaseEnded = 5, Pass, "lease_ended";
    /// An ICMP message that is no error about a balanced flow.
    IcmpOther = 6, Pass, "icmp_other";
    /// IPv6 with an extension header that is not looked through (ESP, an unknown one), or with more than six.
    Extension = 7, Pass, "extension_header";
    /// The IP header cannot be right: version, length, or cut short.
    BadIp = 8, Drop, "bad_ip";
    /// The TCP or UDP header cannot be right, or is cut short.
    BadTransport = 9, Drop, "bad_transport";
    /// From a source that cannot be: the virtual IP itself, a multicast, a loopback or no address.
    BadSource = 10, Drop, "bad_source";
    /// A later fragment whose first one was not seen.
    FragmentUnknown = 11, Drop, "fragment_unknown";
    /// The virtual server has no backend that takes new connections.
    NoBackend = 12, Drop, "no_backend";
    /// The backend's MAC address, or its next hop's, is not known yet.
    NoNeighbour = 13, Drop, "no_neighbour";
    /// Too long for the tunnel, and not to be told so (a fragment, or an ICMP error itself).
    TooBig = 14, Drop, "too_big";
    /// Too long for the tunnel: the sender was told the MTU.
    TooBigTold = 15, Answer, "too_big_told";
    /// The kernel refused to make room for the tunnel's header.
    NoHeadroom = 16, Drop, "no_headroom";
}
