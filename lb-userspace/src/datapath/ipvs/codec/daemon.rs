//! Connection synchronisation, the connection timeouts, and what IPVS says of itself.
use super::attributes::Attributes;
use super::{DecodeError, EncodeError, whole_seconds};
use crate::datapath::ipvs::uapi::{
    CmdAttr, DaemonAttr, INTERFACE_NAME_MAX, InfoAttr, STATE_BACKUP, STATE_MASTER,
};
use lb_common::model::Family;
use lb_common::plan::{DaemonRole, SyncDaemon};
use std::net::IpAddr;
use std::time::Duration;

/// `ip_vs_set_timeout` wants no more than `INT_MAX / HZ`; this many seconds fit with the highest `HZ` there is, 1000.
const TIMEOUT_MAX: u32 = 2_147_483;

/// What fits both roles and both families: `start_sync_thread` would raise a backup's to 1024, and lower one that leaves
/// no room for the headers of IPv6 and UDP in 65535 bytes.
const MAX_LEN: std::ops::RangeInclusive<u16> = 1024..=65535 - 48;

/// What may be said of a synchronisation daemon beyond its role; left out, the kernel takes what is in brackets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncOptions {
    /// The longest datagram's payload (what the interface's MTU has room for).
    pub max_len: Option<u16>,
    /// The multicast group (224.0.0.81).
    pub group: Option<IpAddr>,
    /// The UDP port (8848).
    pub port: Option<u16>,
    /// How far it goes (1).
    pub ttl: Option<u8>,
}

/// A synchronisation daemon that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedDaemon {
    /// Role, interface and group.
    pub daemon: SyncDaemon,
    /// All of them set, defaults included (kernels before 4.3: none).
    pub options: SyncOptions,
}

impl ObservedDaemon {
    /// Whether this is that daemon; an option that is left out may have any value.
    pub fn is(&self, daemon: &SyncDaemon, options: &SyncOptions) -> bool {
        fn agrees<T: PartialEq>(wanted: Option<T>, there: Option<T>) -> bool {
            wanted.is_none() || wanted == there
        }
        self.daemon == *daemon
            && agrees(options.max_len, self.options.max_len)
            && agrees(options.group, self.options.group)
            && agrees(options.port, self.options.port)
            && agrees(options.ttl, self.options.ttl)
    }
}

/// How long a connection is remembered after its last packet, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Established TCP; 15 minutes at first.
    pub tcp: Duration,
    /// TCP after a FIN; 2 minutes at first.
    pub tcp_fin: Duration,
    /// UDP; 5 minutes at first.
    pub udp: Duration,
}

/// What IPVS says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// `1.2.1` since 2008.
    pub version: (u8, u8, u8),
    /// Buckets of the connection table (`ip_vs.conn_tab_bits`).
    pub connection_table_size: u32,
}

/// A daemon to start.
pub fn write_daemon(daemon: &SyncDaemon, options: &SyncOptions) -> Result<Attributes, EncodeError> {
    let name = daemon.interface.as_str();
    if name.is_empty() || name.len() >= INTERFACE_NAME_MAX || name.contains('\0') {
        return Err(EncodeError::Interface(name.to_owned()));
    }
    let mut nest = Attributes::new()
        .put(DaemonAttr::State, state(daemon.role))?
        .put(DaemonAttr::McastIfn, name)?
        .put(DaemonAttr::SyncId, u32::from(daemon.sync_id))?;
    if let Some(len) = options.max_len {
        if !MAX_LEN.contains(&len) {
            return Err(EncodeError::MaxLen(len));
        }
        nest = nest.put(DaemonAttr::SyncMaxlen, len)?;
    }
    nest = match options.group {
        Some(group) if !group.is_multicast() => return Err(EncodeError::Group(group)),
        Some(IpAddr::V4(group)) => nest.put(DaemonAttr::McastGroup, group.octets())?,
        Some(IpAddr::V6(group)) => nest.put(DaemonAttr::McastGroup6, group.octets())?,
        None => nest,
    };
    if let Some(port) = options.port {
        nest = nest.put(DaemonAttr::McastPort, port)?;
    }
    if let Some(ttl) = options.ttl {
        nest = nest.put(DaemonAttr::McastTtl, ttl)?;
    }
    Attributes::new().nest(CmdAttr::Daemon, &nest)
}

/// A daemon to stop.
pub fn write_daemon_role(role: DaemonRole) -> Result<Attributes, EncodeError> {
    let nest = Attributes::new().put(DaemonAttr::State, state(role))?;
    Attributes::new().nest(CmdAttr::Daemon, &nest)
}

fn state(role: DaemonRole) -> u32 {
    match role {
        DaemonRole::Master => STATE_MASTER,
        DaemonRole::Backup => STATE_BACKUP,
    }
}

/// One message of the dump of the daemons.
pub fn read_daemon(message: &Attributes) -> Result<ObservedDaemon, DecodeError> {
    let nest = message.required(CmdAttr::Daemon)?;
    let role = match nest.u32(DaemonAttr::State)? {
        STATE_MASTER => DaemonRole::Master,
        STATE_BACKUP => DaemonRole::Backup,
        other => {
            return Err(DecodeError::Value {
                attribute: "daemon State".to_owned(),
                value: other.into(),
            });
        }
    };
    // One byte of it travels (`ip_vs_sync_mesg.syncid` in net/netfilter/ipvs/ip_vs_sync.c), whatever was asked.
    let [sync_id, ..] = nest.u32(DaemonAttr::SyncId)?.to_le_bytes();
    Ok(ObservedDaemon {
        daemon: SyncDaemon {
            role,
            interface: nest
                .text(DaemonAttr::McastIfn)
                .ok_or_else(|| DecodeError::Missing("daemon McastIfn".to_owned()))?,
            sync_id,
        },
        options: SyncOptions {
            max_len: nest.optional(DaemonAttr::SyncMaxlen)?.map(u16::from_ne_bytes),
            group: read_group(&nest)?,
            port: nest.optional(DaemonAttr::McastPort)?.map(u16::from_ne_bytes),
            ttl: nest.optional(DaemonAttr::McastTtl)?.map(|[ttl]| ttl),
        },
    })
}

fn read_group(nest: &Attributes) -> Result<Option<IpAddr>, DecodeError> {
    for (kind, family) in [
        (DaemonAttr::McastGroup, Family::Ipv4),
        (DaemonAttr::McastGroup6, Family::Ipv6),
    ] {
        match nest.address(kind, family) {
            Ok(group) => return Ok(Some(group)),
            Err(DecodeError::Missing(_)) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}

/// The timeouts to set. The kernel takes 0 for "as it is", which would be read back as something else: refused.
pub fn write_timeouts(timeouts: &Timeouts) -> Result<Attributes, EncodeError> {
    let seconds = |d| whole_seconds(d, 1, TIMEOUT_MAX);
    Attributes::new()
        .put(CmdAttr::TimeoutTcp, seconds(timeouts.tcp)?)?
        .put(CmdAttr::TimeoutTcpFin, seconds(timeouts.tcp_fin)?)?
        .put(CmdAttr::TimeoutUdp, seconds(timeouts.udp)?)
}

/// The timeouts in force.
pub fn read_timeouts(message: &Attributes) -> Result<Timeouts, DecodeError> {
    let seconds = |kind| Ok::<_, DecodeError>(Duration::from_secs(message.u32(kind)?.into()));
    Ok(Timeouts {
        tcp: seconds(CmdAttr::TimeoutTcp)?,
        tcp_fin: seconds(CmdAttr::TimeoutTcpFin)?,
        udp: seconds(CmdAttr::TimeoutUdp)?,
    })
}

/// `NVERSION` of `include/uapi/linux/ip_vs.h` takes the version apart.
pub fn read_info(message: &Attributes) -> Result<Info, DecodeError> {
    let [_, major, minor, patch] = message.u32(InfoAttr::Version)?.to_be_bytes();
    Ok(Info {
        version: (major, minor, patch),
        connection_table_size: message.u32(InfoAttr::ConnTabSize)?,
    })
}
