//! What went wrong: the operation, the object, the kernel's errno, and what a person can do about it.
use super::codec::{DecodeError, EncodeError};
use lb_common::model::{Scheduler, ServiceKey};
use lb_common::plan::DaemonRole;
use nix::errno::Errno;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

/// What was being done, to which object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Finding IPVS in the kernel.
    Open,
    /// Reading version and table size.
    ReadInfo,
    /// Reading all services.
    ListServices,
    /// Reading the real servers of one.
    ListDestinations(ServiceKey),
    /// Adding a service.
    AddService(ServiceKey, Scheduler),
    /// Changing a service.
    SetService(ServiceKey, Scheduler),
    /// Deleting a service with its real servers.
    DeleteService(ServiceKey),
    /// Adding a real server to a service.
    AddDestination(ServiceKey, IpAddr, u16),
    /// Changing a real server of a service.
    SetDestination(ServiceKey, IpAddr, u16),
    /// Deleting a real server from a service.
    DeleteDestination(ServiceKey, IpAddr, u16),
    /// Reading the connection timeouts.
    ReadTimeouts,
    /// Changing them.
    SetTimeouts,
    /// Reading which synchronisation daemons run.
    ListDaemons,
    /// Starting one on an interface.
    StartDaemon(DaemonRole, String),
    /// Stopping one.
    StopDaemon(DaemonRole),
    /// Zeroing the counters of one service or of all.
    Zero(Option<ServiceKey>),
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let real = |address: &IpAddr, port: &u16| SocketAddr::new(*address, *port);
        match self {
            Self::Open => f.write_str("opening IPVS"),
            Self::ReadInfo => f.write_str("reading IPVS's version"),
            Self::ListServices => f.write_str("listing virtual servers"),
            Self::ListDestinations(key) => write!(f, "listing real servers of {key}"),
            Self::AddService(key, scheduler) => write!(f, "adding virtual server {key} ({scheduler})"),
            Self::SetService(key, scheduler) => write!(f, "changing virtual server {key} ({scheduler})"),
            Self::DeleteService(key) => write!(f, "deleting virtual server {key}"),
            Self::AddDestination(key, a, p) => write!(f, "adding real server {} to {key}", real(a, p)),
            Self::SetDestination(key, a, p) => write!(f, "changing real server {} of {key}", real(a, p)),
            Self::DeleteDestination(key, a, p) => write!(f, "deleting real server {} from {key}", real(a, p)),
            Self::ReadTimeouts => f.write_str("reading IPVS's connection timeouts"),
            Self::SetTimeouts => f.write_str("changing IPVS's connection timeouts"),
            Self::ListDaemons => f.write_str("listing synchronisation daemons"),
            Self::StartDaemon(role, interface) => {
                write!(
                    f,
                    "starting the {} synchronisation daemon on {interface}",
                    name(*role)
                )
            }
            Self::StopDaemon(role) => write!(f, "stopping the {} synchronisation daemon", name(*role)),
            Self::Zero(Some(key)) => write!(f, "zeroing the counters of {key}"),
            Self::Zero(None) => f.write_str("zeroing all counters"),
        }
    }
}

const fn name(role: DaemonRole) -> &'static str {
    match role {
        DaemonRole::Master => "master",
        DaemonRole::Backup => "backup",
    }
}

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum IpvsError {
    /// The kernel has no IPVS, or it was unloaded meanwhile.
    #[error(
        "this kernel has no IPVS: load its module (`modprobe ip_vs`) and list it in /etc/modules-load.d, or choose another datapath"
    )]
    Unsupported,
    /// The kernel refused.
    #[error("{operation}: {}", refusal(operation, *errno, message.as_deref()))]
    Kernel {
        /// What was being done.
        operation: Operation,
        /// The errno, positive.
        errno: i32,
        /// The kernel's own words, where it has any (extended acknowledgement).
        message: Option<String>,
    },
    /// The socket failed.
    #[error("{operation}: netlink socket: {source}")]
    Socket {
        /// What was being done.
        operation: Operation,
        /// The cause.
        source: io::Error,
    },
    /// Every attempt to read the list was overtaken by a change.
    #[error("{operation}: it changed during each of {attempts} readings")]
    Unstable {
        /// What was being done.
        operation: Operation,
        /// How often it was tried.
        attempts: u32,
    },
    /// The answer could not be read.
    #[error("{operation}: the kernel's answer: {source}")]
    Decode {
        /// What was being done.
        operation: Operation,
        /// The cause.
        source: DecodeError,
    },
    /// The question could not be written; the kernel was not asked.
    #[error("{operation}: {source}")]
    Encode {
        /// What was being done.
        operation: Operation,
        /// The cause.
        source: EncodeError,
    },
}

impl IpvsError {
    /// The kernel's errno, where it is one that refused.
    pub const fn errno(&self) -> Option<i32> {
        match self {
            Self::Kernel { errno, .. } => Some(*errno),
            Self::Unsupported
            | Self::Socket { .. }
            | Self::Unstable { .. }
            | Self::Decode { .. }
            | Self::Encode { .. } => None,
        }
    }

    pub(super) fn is(&self, errno: Errno) -> bool {
        self.errno() == Some(errno as i32)
    }
}

fn refusal(operation: &Operation, errno: i32, message: Option<&str>) -> String {
    let errno = Errno::from_raw(errno);
    let mut text = format!("{} ({errno:?})", errno.desc());
    for more in [message.map(str::to_owned), explanation(operation, errno)]
        .into_iter()
        .flatten()
    {
        text.push_str(": ");
        text.push_str(&more);
    }
    text
}

/// What an errno means here, from reading `net/netfilter/ipvs/ip_vs_ctl.c` and `ip_vs_sync.c`.
fn explanation(operation: &Operation, errno: Errno) -> Option<String> {
    let text = match errno {
        Errno::EPERM => "CAP_NET_ADMIN is needed",
        Errno::EAFNOSUPPORT => "IPVS has no IPv6 here (CONFIG_IP_VS_IPV6, or IPv6 is switched off)",
        Errno::EPROTONOSUPPORT => {
            "this kernel was built without that protocol for IPVS (CONFIG_IP_VS_PROTO_*)"
        }
        Errno::EINTR => "the kernel was interrupted and may have done it or not",
        Errno::ENOMEM => "the kernel is out of memory",
        _ => return explanation_of_object(operation, errno),
    };
    Some(text.to_owned())
}

fn explanation_of_object(operation: &Operation, errno: Errno) -> Option<String> {
    let text = match (operation, errno) {
        (Operation::AddService(_, s) | Operation::SetService(_, s), Errno::ENOENT) => {
            return Some(format!(
                "the scheduler's module is not loaded: `modprobe ip_vs_{s}`"
            ));
        }
        (Operation::AddService(..), Errno::EEXIST) => "it is there already",
        (
            Operation::SetService(..) | Operation::DeleteService(_) | Operation::Zero(Some(_)),
            Errno::ESRCH,
        ) => "there is no such virtual server",
        (
            Operation::AddDestination(..) | Operation::SetDestination(..) | Operation::DeleteDestination(..),
            Errno::ESRCH,
        ) => "there is no such virtual server",
        (Operation::AddDestination(..), Errno::EEXIST) => "it is there already",
        (Operation::SetDestination(..) | Operation::DeleteDestination(..), Errno::ENOENT) => {
            "there is no such real server"
        }
        (Operation::AddDestination(..) | Operation::SetDestination(..), Errno::EINVAL) => {
            "the address must be one that a host can have (IPv6: not link-local), some interface must have been up (`ip \
             link set lo up`), GUE needs a port, and another family than the virtual server's needs TUN and no \
             synchronisation daemon"
        }
        (Operation::AddDestination(..) | Operation::SetDestination(..), Errno::ERANGE) => {
            "the lower threshold is above the upper one"
        }
        (Operation::SetTimeouts, Errno::EINVAL) => "a timeout is longer than the kernel can count",
        (Operation::StartDaemon(..), Errno::EEXIST) => "one runs already",
        (Operation::StartDaemon(..), Errno::ENODEV) => "there is no such interface",
        (Operation::StartDaemon(..), Errno::EINVAL) => {
            "the interface needs an IPv4 address and an MTU with room for a message, the group must be multicast, and no \
             virtual server may have real servers of another family"
        }
        (Operation::StopDaemon(_), Errno::ESRCH) => "it does not run",
        _ => return None,
    };
    Some(text.to_owned())
}
