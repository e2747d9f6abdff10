//! The numbers of IPVS's generic netlink interface, from `include/uapi/linux/ip_vs.h` unless another source is named.
use neli::neli_enum;

/// `IPVS_GENL_NAME`.
pub const FAMILY_NAME: &str = "IPVS";
/// `IPVS_GENL_VERSION`.
pub const FAMILY_VERSION: u8 = 1;

/// `AF_INET` (`include/linux/socket.h`).
pub const AF_INET: u16 = 2;
/// `AF_INET6` (`include/linux/socket.h`).
pub const AF_INET6: u16 = 10;

/// `IP_VS_SVC_F_PERSISTENT`: a client keeps its real server.
pub const SVC_F_PERSISTENT: u32 = 0x0001;
/// `IP_VS_SVC_F_HASHED`: set by the kernel once the service is in its table; never ours to write.
pub const SVC_F_HASHED: u32 = 0x0002;
/// `IP_VS_SVC_F_ONEPACKET`.
pub const SVC_F_ONEPACKET: u32 = 0x0004;
/// `IP_VS_SVC_F_SCHED1`: `IP_VS_SVC_F_SCHED_SH_FALLBACK`, and `IP_VS_SVC_F_SCHED_MH_FALLBACK` of `net/netfilter/ipvs/ip_vs_mh.c`.
pub const SVC_F_SCHED1: u32 = 0x0008;
/// `IP_VS_SVC_F_SCHED2`: `IP_VS_SVC_F_SCHED_SH_PORT`, and `IP_VS_SVC_F_SCHED_MH_PORT` of `net/netfilter/ipvs/ip_vs_mh.c`.
pub const SVC_F_SCHED2: u32 = 0x0010;
/// `IP_VS_SVC_F_SCHED3`.
pub const SVC_F_SCHED3: u32 = 0x0020;

/// `IP_VS_CONN_F_FWD_MASK`: the bits of a destination's flags that say how packets get there.
pub const CONN_F_FWD_MASK: u32 = 0x0007;
/// `IP_VS_CONN_F_MASQ`: NAT.
pub const CONN_F_MASQ: u32 = 0x0000;
/// `IP_VS_CONN_F_LOCALNODE`: delivered here, packet unchanged.
pub const CONN_F_LOCALNODE: u32 = 0x0001;
/// `IP_VS_CONN_F_TUNNEL`.
pub const CONN_F_TUNNEL: u32 = 0x0002;
/// `IP_VS_CONN_F_DROUTE`: direct routing.
pub const CONN_F_DROUTE: u32 = 0x0003;

/// `IP_VS_CONN_F_TUNNEL_TYPE_IPIP`.
pub const TUNNEL_IPIP: u8 = 0;
/// `IP_VS_CONN_F_TUNNEL_TYPE_GUE`.
pub const TUNNEL_GUE: u8 = 1;
/// `IP_VS_CONN_F_TUNNEL_TYPE_GRE`.
pub const TUNNEL_GRE: u8 = 2;
/// `IP_VS_TUNNEL_ENCAP_FLAG_NOCSUM`.
pub const TUNNEL_FLAG_NOCSUM: u16 = 0;

/// `IP_VS_STATE_MASTER`.
pub const STATE_MASTER: u32 = 1;
/// `IP_VS_STATE_BACKUP`.
pub const STATE_BACKUP: u32 = 2;

/// `IP_VS_SCHEDNAME_MAXLEN`, the NUL included.
pub const SCHEDULER_NAME_MAX: usize = 16;
/// `IP_VS_IFNAME_MAXLEN`, the NUL included.
pub const INTERFACE_NAME_MAX: usize = 16;

/// `IPVS_CMD_*`.
#[neli_enum(serialized_type = "u8")]
pub enum Cmd {
    NewService = 1,
    SetService = 2,
    DelService = 3,
    GetService = 4,
    NewDest = 5,
    SetDest = 6,
    DelDest = 7,
    GetDest = 8,
    NewDaemon = 9,
    DelDaemon = 10,
    GetDaemon = 11,
    SetConfig = 12,
    GetConfig = 13,
    /// In the answer to `GetInfo` only.
    SetInfo = 14,
    GetInfo = 15,
    Zero = 16,
    Flush = 17,
}

/// `IPVS_CMD_ATTR_*`: the outermost attributes.
#[neli_enum(serialized_type = "u16")]
pub enum CmdAttr {
    Service = 1,
    Dest = 2,
    Daemon = 3,
    TimeoutTcp = 4,
    TimeoutTcpFin = 5,
    TimeoutUdp = 6,
}

/// `IPVS_SVC_ATTR_*`: within `CmdAttr::Service`.
#[neli_enum(serialized_type = "u16")]
pub enum SvcAttr {
    Af = 1,
    Protocol = 2,
    /// `union nf_inet_addr`, 16 bytes.
    Addr = 3,
    /// Big endian.
    Port = 4,
    Fwmark = 5,
    SchedName = 6,
    /// `struct ip_vs_flags`: flags, mask.
    Flags = 7,
    Timeout = 8,
    /// IPv4: the mask, big endian. IPv6: a prefix length, host order.
    Netmask = 9,
    Stats = 10,
    PeName = 11,
    /// Linux 4.1 on.
    Stats64 = 12,
}

/// `IPVS_DEST_ATTR_*`: within `CmdAttr::Dest`.
#[neli_enum(serialized_type = "u16")]
pub enum DestAttr {
    Addr = 1,
    Port = 2,
    FwdMethod = 3,
    Weight = 4,
    UThresh = 5,
    LThresh = 6,
    ActiveConns = 7,
    InactConns = 8,
    PersistConns = 9,
    Stats = 10,
    /// Linux 3.18 on; before it the service's family.
    AddrFamily = 11,
    Stats64 = 12,
    /// Linux 5.3 on.
    TunType = 13,
    TunPort = 14,
    TunFlags = 15,
}

/// `IPVS_DAEMON_ATTR_*`: within `CmdAttr::Daemon`.
#[neli_enum(serialized_type = "u16")]
pub enum DaemonAttr {
    State = 1,
    McastIfn = 2,
    SyncId = 3,
    /// This and what follows: Linux 4.3 on.
    SyncMaxlen = 4,
    McastGroup = 5,
    McastGroup6 = 6,
    /// Host order, unlike every other port here (`ip_vs_genl_new_daemon` in `net/netfilter/ipvs/ip_vs_ctl.c`).
    McastPort = 7,
    McastTtl = 8,
}

/// `IPVS_STATS_ATTR_*`: within `Stats` (packets and rates 32 bits wide) and `Stats64` (all 64 bits wide).
#[neli_enum(serialized_type = "u16")]
pub enum StatsAttr {
    Conns = 1,
    InPkts = 2,
    OutPkts = 3,
    InBytes = 4,
    OutBytes = 5,
    Cps = 6,
    InPps = 7,
    OutPps = 8,
    InBps = 9,
    OutBps = 10,
}

/// `IPVS_INFO_ATTR_*`: outermost in the answer to `GetInfo`.
#[neli_enum(serialized_type = "u16")]
pub enum InfoAttr {
    Version = 1,
    ConnTabSize = 2,
}
