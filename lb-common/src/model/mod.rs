//! The domain's words as types that cannot hold a nonsense value. Shared by every layer above.
mod addr;
mod ipvs;
mod vrrp;

pub use addr::{Family, IpPrefix, MacAddr, ParsePrefixError};
pub use ipvs::{
    Forwarding, GranularityError, Persistence, Protocol, Scheduler, SchedulerFlags, ServiceKey, TunnelType,
    UnknownName,
};
pub use vrrp::{AdvertInterval, AuthPass, OutOfRange, Priority, Version, Vrid};
