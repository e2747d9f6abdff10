//! What can go wrong when addresses and links are changed: the operation in words, then the cause.
use super::channel::Refusal;
use crate::sys::sysctl::SysctlError;
use lb_common::model::IpPrefix;
use nix::errno::Errno;
use std::io;

/// An operation on addresses, links, neighbours or routes failed.
#[derive(Debug, thiserror::Error)]
pub enum RtnlError {
    /// The kernel refused it.
    #[error("{action}: {refusal}")]
    Refused {
        /// `adding 192.0.2.1/24 to eth0`.
        action: String,
        /// Its answer.
        refusal: Refusal,
    },
    /// The socket itself failed.
    #[error("{action}: netlink socket: {source}")]
    Socket {
        /// What was being done.
        action: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// This kernel has no such thing. The caller has another way.
    #[error("{action}: this kernel cannot: {reason}")]
    Unsupported {
        /// What was being done.
        action: String,
        /// What it lacks.
        reason: String,
    },
    /// A link of the wanted name is something else, which is not ours to replace.
    #[error("link {name} exists and is of type {kind}, not dummy: give it another name or remove it")]
    WrongKind {
        /// Its name.
        name: String,
        /// Its type, or `physical`.
        kind: String,
    },
    /// Removing a subnet's first address would take the subnet's others with it.
    #[error(
        "removing {address} from {interface}: it is the primary address of its subnet and the kernel would remove {} too; \
         set net.ipv4.conf.{interface}.promote_secondaries=1 ({cause})",
        others.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    WouldRemoveOthers {
        /// The address to be removed.
        address: IpPrefix,
        /// Where.
        interface: String,
        /// What would go with it.
        others: Vec<IpPrefix>,
        /// Why the switch could not be set.
        cause: Box<SysctlError>,
    },
    /// A list changed each time it was read.
    #[error("{action}: the list kept changing while it was read")]
    Unstable {
        /// What was being read.
        action: String,
    },
}

impl RtnlError {
    /// Whether the same call may succeed in a moment.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Refused { refusal, .. } => matches!(
                refusal.errno,
                Errno::EBUSY | Errno::EAGAIN | Errno::EINTR | Errno::ENOBUFS | Errno::ENOMEM
            ),
            Self::Socket { .. } | Self::Unstable { .. } => true,
            Self::Unsupported { .. } | Self::WrongKind { .. } | Self::WouldRemoveOthers { .. } => false,
        }
    }

    /// The kernel's errno where it gave one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal.errno),
            Self::Socket { source, .. } => source.raw_os_error().map(Errno::from_raw),
            Self::Unsupported { .. }
            | Self::WrongKind { .. }
            | Self::WouldRemoveOthers { .. }
            | Self::Unstable { .. } => None,
        }
    }
}
