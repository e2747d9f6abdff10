//! One change to the kernel. Idempotent: adding what is there and deleting what is not are both well.
use super::{Address, Destination, Forwarding, GuardSpec, Lifetime, Proxying, Service, SyncDaemon, Sysctl};
use crate::model::ServiceKey;
use crate::spec::IpvsTimeouts;
use core::fmt;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "camelCase"))]
pub enum Op {
    /// Create the link for direct routing where it is missing, and set it up.
    EnsureLocalLink,
    /// Write a kernel parameter; what was there is kept for `RestoreSysctl`.
    SetSysctl(Sysctl, i32),
    /// Give an IPv6 VIP its RFC 6724 label.
    SetLabel(Ipv6Addr, u32),
    /// Put the director guard in place, or change it.
    SetGuard(GuardSpec),
    /// Add a virtual server.
    AddService(Service),
    /// Change a virtual server.
    SetService(Service),
    /// Add a real server.
    AddDestination(ServiceKey, Destination),
    /// Change a real server.
    SetDestination(ServiceKey, Destination),
    /// Set IPVS's protocol timeouts.
    SetTimeouts(IpvsTimeouts),
    /// Attach the XDP program where it is missing, and make it forward exactly this.
    SetForwarding(Forwarding),
    /// Start the userspace proxy where it does not run, and make it serve exactly this. Sessions of a virtual IP that is
    /// held no longer are cut.
    SetProxy(Proxying),
    /// Start connection synchronisation.
    StartSync(SyncDaemon),
    /// Add an address, or renew its lease.
    PutAddress(Address, Lifetime),
    /// Delete an address.
    DeleteAddress(Address),
    /// Stop connection synchronisation.
    StopSync(SyncDaemon),
    /// Delete a real server.
    DeleteDestination(ServiceKey, IpAddr, u16),
    /// Delete a virtual server with its real servers.
    DeleteService(ServiceKey),
    /// Stop the userspace proxy, with its sessions and its steering.
    DeleteProxy,
    /// Detach the XDP program; it forwards nothing from then on.
    DeleteForwarding,
    /// Delete the link for direct routing.
    DeleteLocalLink,
    /// Take a label away.
    DeleteLabel(Ipv6Addr),
    /// Take the director guard away.
    DeleteGuard,
    /// Put a kernel parameter back to what it was.
    RestoreSysctl(Sysctl),
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EnsureLocalLink => write!(f, "+ link {} up", super::LOCAL_LINK),
            Self::SetSysctl(s, v) => write!(f, "~ sysctl {s} = {v}"),
            Self::SetLabel(a, l) => write!(f, "+ address label {a}/128 {l}"),
            Self::SetGuard(g) => {
                write!(
                    f,
                    "~ guard {} virtual IPs, {} other directors",
                    g.vips.len(),
                    g.peers.len()
                )
            }
            Self::AddService(s) => write!(f, "+ virtual server {}", ServiceText(s)),
            Self::SetService(s) => write!(f, "~ virtual server {}", ServiceText(s)),
            Self::AddDestination(k, d) => write!(f, "+ real server {k} -> {}", DestinationText(d)),
            Self::SetDestination(k, d) => write!(f, "~ real server {k} -> {}", DestinationText(d)),
            Self::SetTimeouts(t) => write!(f, "~ timeouts tcp {} tcpFin {} udp {}", t.tcp, t.tcp_fin, t.udp),
            Self::SetForwarding(x) => write!(
                f,
                "~ xdp {} virtual servers on {} virtual IPs, {} interfaces",
                x.services.len(),
                x.vips.len(),
                x.interfaces.len()
            ),
            Self::SetProxy(p) => write!(f, "~ proxy {} virtual servers", p.servers.len()),
            Self::StartSync(d) => write!(f, "+ connection sync {}", DaemonText(d)),
            Self::PutAddress(a, Lifetime::Forever) => write!(f, "+ address {}", AddressText(a)),
            Self::PutAddress(a, Lifetime::Lease(l)) => {
                write!(f, "+ address {} lease {} s", AddressText(a), l.as_secs())
            }
            Self::DeleteAddress(a) => write!(f, "- address {}", AddressText(a)),
            Self::StopSync(d) => write!(f, "- connection sync {}", DaemonText(d)),
            Self::DeleteDestination(k, a, p) => write!(f, "- real server {k} -> {}", SocketAddr::new(*a, *p)),
            Self::DeleteService(k) => write!(f, "- virtual server {k}"),
            Self::DeleteProxy => f.write_str("- proxy"),
            Self::DeleteForwarding => f.write_str("- xdp"),
            Self::DeleteLocalLink => write!(f, "- link {}", super::LOCAL_LINK),
            Self::DeleteLabel(a) => write!(f, "- address label {a}/128"),
            Self::DeleteGuard => f.write_str("- guard"),
            Self::RestoreSysctl(s) => write!(f, "~ sysctl {s} put back"),
        }
    }
}

struct AddressText<'a>(&'a Address);

impl fmt::Display for AddressText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.place {
            super::Place::Local => write!(f, "{} on {}", self.0.address, super::LOCAL_LINK),
            super::Place::Interface(i) => write!(f, "{} on interface {i}", self.0.address),
        }
    }
}

struct ServiceText<'a>(&'a Service);

impl fmt::Display for ServiceText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0.key, self.0.scheduler)?;
        if let Some(p) = self.0.persistence {
            write!(f, " persistent {}", p.timeout.as_secs())?;
        }
        Ok(())
    }
}

struct DestinationText<'a>(&'a Destination);

impl fmt::Display for DestinationText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let d = self.0;
        write!(
            f,
            "{} {} weight {}",
            SocketAddr::new(d.address, d.port),
            d.forwarding.name(),
            d.weight
        )
    }
}

struct DaemonText<'a>(&'a SyncDaemon);

impl fmt::Display for DaemonText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.0.role {
            super::DaemonRole::Master => "master",
            super::DaemonRole::Backup => "backup",
        };
        write!(f, "{role} on {} syncid {}", self.0.interface, self.0.sync_id)
    }
}
