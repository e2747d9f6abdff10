//! What the program that steers connections to the userspace proxy shares with its loader. It is an object of its own:
//! a node that proxies need not make the XDP program's maps.
//!
//! ```text
//! STEER_SOCKETS[virtual IP, port]    the listening socket that gets the connections to it     see `Key`
//! STEERED                            connections that were given to one, one value a processor
//! ```

/// The program's name in the object's symbol table.
pub const PROGRAM: &str = "cplb_steer";
/// A `SockHash` from [`Key`] to listening sockets.
pub const SOCKETS: &str = "STEER_SOCKETS";
/// A `PerCpuArray` of one `u64`.
pub const STEERED: &str = "STEERED";
/// No more virtual servers than this can be steered.
pub const SERVERS: u32 = 1024;

/// `AF_INET`.
pub const IPV4: u32 = 2;
/// `AF_INET6`.
pub const IPV6: u32 = 10;

/// What a client connects to over TCP.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Key {
    /// As it is in the packet; an IPv4 address is in the first word, and the others are 0.
    pub address: [u32; 4],
    /// [`IPV4`] or [`IPV6`].
    pub family: u32,
    /// In native order, as `bpf_sk_lookup` has it.
    pub port: u32,
}

impl Key {
    /// Of an address and a port.
    pub const fn of(address: core::net::IpAddr, port: u16) -> Self {
        let (address, family) = match address {
            core::net::IpAddr::V4(a) => ([u32::from_ne_bytes(a.octets()), 0, 0, 0], IPV4),
            core::net::IpAddr::V6(a) => {
                let o = a.octets();
                (
                    [
                        u32::from_ne_bytes([o[0], o[1], o[2], o[3]]),
                        u32::from_ne_bytes([o[4], o[5], o[6], o[7]]),
                        u32::from_ne_bytes([o[8], o[9], o[10], o[11]]),
                        u32::from_ne_bytes([o[12], o[13], o[14], o[15]]),
                    ],
                    IPV6,
                )
            }
        };
        Self {
            address,
            family,
            port: port as u32,
        }
    }
}
